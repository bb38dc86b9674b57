"""One logical delivery with many transaction hashes: what is known of it, and what to do next. Pure.

Success is what the contract says, never a receipt alone; a missing receipt is no proof of anything (a gateway forgets
receipts after 20 epochs). A nonce is given up only when the chain used it, final, for something else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

MAX_FAILURES = 3  # mined attempts of one delivery that failed; then it is dead


class SendAnswer(Enum):
    """What an endpoint's refusal of eth_sendRawTransaction means."""

    KNOWN = "it has this transaction already"
    NONCE_LOW = "the nonce is used"
    UNDERPRICED = "the fees are too low"
    NO_FUNDS = "the account cannot pay"
    BUSY = "too many of ours are waiting"
    INVALID = "it can never be accepted as it is"
    UNKNOWN = "unknown"


#: text -> meaning, matched from the top, case-insensitive. Lotus: chain/messagepool; geth: core/txpool/errors.go;
#: Hardhat's EDR and anvil as they answered.
SEND_ERRORS: tuple[tuple[str, SendAnswer], ...] = (
    (r"already known", SendAnswer.KNOWN),  # geth
    (r"known transaction", SendAnswer.KNOWN),  # Hardhat
    (r"transaction already imported", SendAnswer.KNOWN),  # anvil
    (r"already in mpool: message with nonce already exists", SendAnswer.KNOWN),  # Lotus
    (r"already in (the )?mempool", SendAnswer.KNOWN),
    (r"nonce too low", SendAnswer.NONCE_LOW),  # all four
    (r"minimum expected nonce", SendAnswer.NONCE_LOW),  # Lotus
    (r"replace by fee|increase gaspremium", SendAnswer.UNDERPRICED),  # Lotus
    (r"'gasfeecap' less than 'gaspremium'|less than max ?priority ?fee", SendAnswer.INVALID),  # never ours; all
    (r"underpriced", SendAnswer.UNDERPRICED),  # geth, Hardhat, anvil
    (r"less than block base fee|fee cap too low|max fee per gas less|too low to cover", SendAnswer.UNDERPRICED),
    (r"gas price below|tip cap|maxfeepergas .*(too low|lower|less)", SendAnswer.UNDERPRICED),
    (r"insufficient funds|not enough funds|doesn't have enough funds", SendAnswer.NO_FUNDS),
    (r"too many pending messages|txpool is full|account limit exceeded", SendAnswer.BUSY),
    (r"nonce too high|unfulfilled nonce gap|transactions can't be queued", SendAnswer.BUSY),
    (r"intrinsic gas|message too big|oversized|exceeds block gas limit|gaslimit' field", SendAnswer.INVALID),
    (
        r"cannot be less than the cost of storing a message|negative value|transaction is not supported",
        SendAnswer.INVALID,
    ),
    (r"invalid (sender|signature|chain ?id)|signature verification failed|not a valid top-level", SendAnswer.INVALID),
)
_COMPILED = tuple((re.compile(text, re.IGNORECASE), answer) for text, answer in SEND_ERRORS)


def classify_send_error(message: str) -> SendAnswer:
    """What the text of a refusal means. Codes are not looked at: Lotus says 1 to all of them, geth -32000."""
    return next((answer for text, answer in _COMPILED if text.search(message)), SendAnswer.UNKNOWN)


class Standing(Enum):
    """What the contract says about a delivery's request, at the newest block."""

    OPEN = "it is open"
    OURS = "our delivery's effect stands"
    OTHER = "it ended in another way"
    ELSEWHERE = "the endpoint does not see this request"


class Mined(Enum):
    """What the receipts of all attempts say."""

    NO = "no receipt is known"
    OK = "one succeeded"
    FAILED = "one failed, none succeeded"
    REORGED = "the receipt's block is no longer canonical"


class Step(Enum):
    """What to do next."""

    WAIT = "wait"
    FINISH = "the contract says so: done"
    SUPERSEDE = "the contract holds something else"
    SIGN = "sign the first transaction, or one with a new nonce"
    GIVE_UP_NONCE = "the nonce went to something else: sign again with a new one"
    KEEP_RECEIPT = "note that it is mined"
    SEND_SINGLY = "its batch was mined and left it out: sign it again, alone"
    FORGET_RECEIPT = "the receipt's block left the chain: send the same bytes again"
    RESEND = "send the same bytes again"
    RAISE = "send a replacement with higher fees"
    KILL = "it failed too often"


@dataclass(frozen=True)
class Sending:
    """All that the next step depends on. Ages in seconds."""

    signed: bool  # there are attempts under a live nonce
    wanted: bool  # the job still waits for it, deep enough
    standing: Standing
    mined: Mined = Mined.NO
    kept_receipt: bool = False
    left_out: bool = False  # it was mined in a batch, some blocks ago by now
    nonce_gone: bool = False  # the nonce is used at a final block, and no attempt of ours has a receipt
    failures: int = 0  # nonces under which an attempt of its own was mined and failed
    since_sent: float | None = None  # None: never sent, or to be sent again at once
    since_signed: float = 0.0


def next_step(sending: Sending, resend_after: float, raise_after: float) -> Step:
    """What to do next about one delivery. What the contract says comes before all else."""
    if sending.mined is Mined.REORGED:
        return Step.FORGET_RECEIPT
    if sending.standing in _ENDED:
        return _ENDED[sending.standing]
    if not sending.signed:
        return Step.SIGN if sending.wanted and sending.standing is Standing.OPEN else Step.WAIT
    if sending.mined is Mined.NO:
        return _unmined(sending, resend_after, raise_after)
    return _mined(sending)


_ENDED = {Standing.OURS: Step.FINISH, Standing.OTHER: Step.SUPERSEDE}


def _mined(sending: Sending) -> Step:
    if sending.mined is Mined.FAILED:
        return Step.KILL if sending.failures >= MAX_FAILURES else Step.GIVE_UP_NONCE
    if sending.left_out:
        return Step.SEND_SINGLY
    return Step.WAIT if sending.kept_receipt else Step.KEEP_RECEIPT


def _unmined(sending: Sending, resend_after: float, raise_after: float) -> Step:
    if sending.nonce_gone:
        return Step.GIVE_UP_NONCE
    if not sending.wanted:
        return Step.WAIT
    if sending.since_sent is None:
        return Step.RESEND
    if sending.since_signed >= raise_after:
        return Step.RAISE
    return Step.RESEND if sending.since_sent >= resend_after else Step.WAIT
