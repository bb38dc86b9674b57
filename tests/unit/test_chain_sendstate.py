"""What follows from what is known of a delivery; and what endpoints' refusals mean."""

import pytest

from bridge.chain.sendstate import (
    MAX_FAILURES,
    SEND_ERRORS,
    Mined,
    SendAnswer,
    Sending,
    Standing,
    Step,
    classify_send_error,
    next_step,
)

#: real messages: (who says so, text) -> meaning
REAL = {
    ("hardhat", "Known transaction: 0x1234"): SendAnswer.KNOWN,
    ("anvil", "transaction already imported"): SendAnswer.KNOWN,
    ("geth", "already known"): SendAnswer.KNOWN,
    ("lotus", "message from f410fx with nonce 5 already in mpool: message with nonce already exists"): SendAnswer.KNOWN,
    ("hardhat", "Transaction nonce too low. Expected nonce to be at least 2 but got 1."): SendAnswer.NONCE_LOW,
    ("hardhat automine", "Nonce too low. Expected nonce to be 3 but got 2."): SendAnswer.NONCE_LOW,
    ("anvil", "nonce too low"): SendAnswer.NONCE_LOW,
    ("lotus", "message nonce too low: minimum expected nonce is 4, got 3"): SendAnswer.NONCE_LOW,
    ("hardhat", "Replacement transaction underpriced. A gasPrice/maxFeePerGas of at least 2"): SendAnswer.UNDERPRICED,
    ("geth", "replacement transaction underpriced"): SendAnswer.UNDERPRICED,
    (
        "lotus",
        "message with nonce 5 already in mpool, increase GasPremium to 9 from 8 to trigger replace by fee",
    ): SendAnswer.UNDERPRICED,
    ("anvil", "max fee per gas less than block base fee"): SendAnswer.UNDERPRICED,
    ("lotus", "gas fee cap too low"): SendAnswer.UNDERPRICED,
    ("hardhat", "Sender doesn't have enough funds to send tx."): SendAnswer.NO_FUNDS,
    ("anvil", "Insufficient funds for gas * price + value"): SendAnswer.NO_FUNDS,
    ("geth", "insufficient funds for gas * price + value: balance 0, tx cost 1"): SendAnswer.NO_FUNDS,
    ("lotus", "not enough funds including pending messages (required: 2, balance: 1)"): SendAnswer.NO_FUNDS,
    ("lotus", "too many pending messages for actor"): SendAnswer.BUSY,
    ("geth", "txpool is full"): SendAnswer.BUSY,
    ("lotus", "unfulfilled nonce gap"): SendAnswer.BUSY,
    ("anvil", "intrinsic gas too low"): SendAnswer.INVALID,
    ("lotus", "message too big"): SendAnswer.INVALID,
    ("lotus", "'GasLimit' field cannot be greater than a block's gas limit"): SendAnswer.INVALID,
    ("lotus", "signature verification failed"): SendAnswer.INVALID,
    ("lotus", "'GasFeeCap' less than 'GasPremium'"): SendAnswer.INVALID,
    ("lotus", "'GasLimit' field cannot be less than the cost of storing a message on chain 5 < 6"): SendAnswer.INVALID,
    ("lotus", "EIP-2930 transaction is not supported"): SendAnswer.INVALID,
    ("lotus", "not enough funds (required: 2, balance: 1)"): SendAnswer.NO_FUNDS,
    ("geth", "invalid sender"): SendAnswer.INVALID,
    ("nobody", "the moon is in the wrong house"): SendAnswer.UNKNOWN,
}


@pytest.mark.parametrize(("who", "text"), REAL)
def test_a_real_refusal_has_its_meaning(who, text):
    assert classify_send_error(text) is REAL[who, text]


def test_every_meaning_but_unknown_is_in_the_table():
    assert {answer for _, answer in SEND_ERRORS} == set(SendAnswer) - {SendAnswer.UNKNOWN}


def sending(**fields):
    return Sending(**{"signed": True, "wanted": True, "standing": Standing.OPEN, "since_sent": 1.0, **fields})


STEPS = {
    "nothing signed, wanted and open": (sending(signed=False), Step.SIGN),
    "nothing signed, not wanted": (sending(signed=False, wanted=False), Step.WAIT),
    "nothing signed, the endpoint does not see it": (sending(signed=False, standing=Standing.ELSEWHERE), Step.WAIT),
    "nothing signed, a stranger was first": (sending(signed=False, standing=Standing.OURS), Step.FINISH),
    "nothing signed, ended in another way": (sending(signed=False, standing=Standing.OTHER), Step.SUPERSEDE),
    "in flight, a stranger was first": (sending(standing=Standing.OURS), Step.FINISH),
    "in flight, refunded": (sending(standing=Standing.OTHER), Step.SUPERSEDE),
    "stored, never sent": (sending(since_sent=None), Step.RESEND),
    "sent lately": (sending(), Step.WAIT),
    "sent a while ago": (sending(since_sent=60.0), Step.RESEND),
    "unmined for long": (sending(since_sent=5.0, since_signed=180.0), Step.RAISE),
    "not wanted any more": (sending(since_sent=500.0, since_signed=500.0, wanted=False), Step.WAIT),
    "its nonce went elsewhere": (sending(nonce_gone=True), Step.GIVE_UP_NONCE),
    "its nonce went elsewhere, not wanted": (sending(nonce_gone=True, wanted=False), Step.GIVE_UP_NONCE),
    "mined, effect not seen yet": (sending(mined=Mined.OK), Step.KEEP_RECEIPT),
    "mined and noted, effect not seen yet": (sending(mined=Mined.OK, kept_receipt=True), Step.WAIT),
    "mined in a batch that left it out": (sending(mined=Mined.OK, left_out=True), Step.SEND_SINGLY),
    "noted in a batch that left it out": (sending(mined=Mined.OK, left_out=True, kept_receipt=True), Step.SEND_SINGLY),
    "left out, but a stranger was first": (
        sending(mined=Mined.OK, left_out=True, standing=Standing.OURS),
        Step.FINISH,
    ),
    "mined, effect seen": (sending(mined=Mined.OK, standing=Standing.OURS), Step.FINISH),
    "mined and failed": (sending(mined=Mined.FAILED, failures=1), Step.GIVE_UP_NONCE),
    "mined and failed too often": (sending(mined=Mined.FAILED, failures=MAX_FAILURES), Step.KILL),
    "mined and failed, but a stranger was first": (sending(mined=Mined.FAILED, standing=Standing.OURS), Step.FINISH),
    "its block left the chain": (sending(mined=Mined.REORGED, kept_receipt=True), Step.FORGET_RECEIPT),
}


@pytest.mark.parametrize("name", STEPS)
def test_the_next_step_follows(name):
    given, expected = STEPS[name]
    assert next_step(given, resend_after=60.0, raise_after=180.0) is expected
