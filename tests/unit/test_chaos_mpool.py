"""Lotus's message pool: nonces, replace-by-fee, messages that are kept or lost."""

import pytest
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from bridge.chain.sendstate import SendAnswer, classify_send_error
from bridge.chain.signer import Transaction
from bridge.devnet.chaos import mpool
from bridge.devnet.chaos.dialects import DIALECTS, RpcFault
from bridge.devnet.chaos.mpool import Fate, Mpool, Offer, decode, filecoin_address
from tests.chain_nodes import FUNDED_SECRETS, funded

SENDER = funded(0).address.lower()


def tx(nonce=0, premium=1000, fee_cap=10**9, account=0, to="0x" + "22" * 20):
    fields = Transaction(chain_id=314, nonce=nonce, to=to, data=b"", gas=21000, max_fee=fee_cap, tip=premium, value=1)
    return decode("0x" + funded(account).sign_transaction(fields).raw.hex())


def pool(**options):
    return Mpool(DIALECTS["lotus-1.36"], **options)


def live(_tx):
    return Fate.FORWARDED


def refused(offer, meaning):
    with pytest.raises(RpcFault) as caught:
        offer()
    assert classify_send_error(caught.value.message) is meaning
    return caught.value.message


# -- reading transactions -------------------------------------------------------------------------------------------


@given(st.integers(0, 2**40), st.integers(0, 2**60), st.integers(0, 7))
def test_a_signed_transaction_is_read(nonce, premium, account):
    fields = Transaction(chain_id=314, nonce=nonce, to=None, data=b"\x01", gas=9, max_fee=2**60, tip=premium)
    signed = funded(account).sign_transaction(fields)

    found = decode("0x" + signed.raw.hex())

    assert (found.hash, found.sender) == ("0x" + signed.hash.hex(), funded(account).address.lower())
    assert (found.nonce, found.premium, found.fee_cap) == (nonce, premium, 2**60)
    assert (found.fields["to"], found.fields["input"], found.fields["blockHash"]) == (None, "0x01", None)


@pytest.mark.parametrize("chain", [{"chainId": 314}, {}])
def test_a_legacy_transaction_is_read(chain):
    fields = {"nonce": 3, "to": "0x" + "22" * 20, "gas": 21000, "gasPrice": 77, "value": 1, "data": b""} | chain
    raw = Account.sign_transaction(fields, FUNDED_SECRETS[0]).raw_transaction

    found = decode("0x" + raw.hex())

    assert (found.sender, found.nonce, found.premium, found.fee_cap) == (SENDER, 3, 77, 77)


def test_an_access_list_transaction_is_not_supported():
    with pytest.raises(RpcFault, match="EIP-2930 transaction is not supported"):
        decode("0x01c0")


@pytest.mark.parametrize("raw", [None, "", "0x", "zz", "0x02", "0x02c0", "0xc0", "0x02c1", "0x03", "0x0102zz", "0x80"])
def test_what_is_no_transaction_is_none(raw):
    assert decode(raw) is None


def test_a_signature_that_is_none_is_none():
    raw = tx().raw
    assert decode(raw[:-64] + "0" * 64) is None


def test_the_f410_address_is_filecoins():
    assert (
        filecoin_address("0xd388ab098ed3e84c0d808776440b48f685198498") == "f410f2oekwcmo2pueydmaq53eic2i62crtbeyuzx2gmy"
    )


# -- offers ---------------------------------------------------------------------------------------------------------


def test_a_message_is_forwarded():
    assert pool().offer(tx(), 0, live) == Offer(forward=True)


def test_the_same_message_again_is_known():
    messages = pool()
    messages.offer(tx(), 0, live)

    text = refused(lambda: messages.offer(tx(), 0, live), SendAnswer.KNOWN)
    assert text.endswith(" with nonce 0 already in mpool: message with nonce already exists")


def test_a_used_nonce_is_too_low():
    messages = pool()
    messages.offer(tx(1), 0, live)

    text = refused(lambda: messages.offer(tx(1), 2, live), SendAnswer.NONCE_LOW)
    assert text == "mpool push: minimum expected nonce is 2, got 1: message nonce too low"
    assert messages.next_nonce(SENDER, 1) == 1


@pytest.mark.parametrize(("premium", "taken"), [(1050, False), (1100, False), (1101, True), (1250, True)])
def test_a_replacement_needs_a_tenth_more_and_one(premium, taken):
    messages = pool()
    messages.offer(tx(), 0, live)

    if taken:
        assert messages.offer(tx(premium=premium), 0, live) == Offer(forward=True, replaces=tx().hash)
        assert messages.replacement_of(tx().hash) == tx(premium=premium).hash
    else:
        text = refused(lambda: messages.offer(tx(premium=premium), 0, live), SendAnswer.UNDERPRICED)
        assert "increase GasPremium to 1101 from 1000 to trigger replace by fee" in text


def test_the_newest_replacement_counts():
    messages = pool()
    for premium in (1000, 2000, 3000):
        messages.offer(tx(premium=premium), 0, live)

    assert messages.replacement_of(tx().hash) == tx(premium=3000).hash
    assert messages.replacement_of(tx(premium=3000).hash) is None


def test_a_gap_in_the_nonces_is_taken_silently():
    assert pool().offer(tx(9), 0, live).forward


def test_too_many_of_one_sender_are_refused():
    messages = pool(max_pending=2)
    messages.offer(tx(0), 0, live)
    messages.offer(tx(1), 0, live)

    refused(lambda: messages.offer(tx(2), 0, live), SendAnswer.BUSY)
    assert messages.offer(tx(0, account=1), 0, live).forward
    assert messages.offer(tx(2), 1, live).forward  # one was mined


FEES = {"a cap below the premium": (10, 9), "a cap below the least": (5, 99)}


@pytest.mark.parametrize("case", FEES)
def test_fees_that_make_no_sense_are_refused(case):
    premium, cap = FEES[case]
    with pytest.raises(RpcFault, match=r"GasFeeCap|gas fee cap too low"):
        pool().offer(tx(premium=premium, fee_cap=cap), 0, live)


# -- fates ----------------------------------------------------------------------------------------------------------


def test_a_stuck_message_is_kept_until_its_premium_rises():
    messages = pool()

    assert not messages.offer(tx(), 0, lambda _: Fate.STUCK).forward
    assert messages.kept(tx().hash) == tx()
    refused(lambda: messages.offer(tx(), 0, live), SendAnswer.KNOWN)
    refused(lambda: messages.offer(tx(premium=1100), 0, live), SendAnswer.UNDERPRICED)
    assert messages.offer(tx(premium=1101), 0, live) == Offer(forward=True)
    assert messages.kept(tx().hash) is None


def test_a_dropped_message_lives_when_it_is_offered_again():
    messages = pool()

    assert not messages.offer(tx(), 0, lambda _: Fate.DROPPED).forward
    assert messages.kept(tx().hash) is None
    assert messages.next_nonce(SENDER, 0) == 0
    assert messages.offer(tx(), 0, live).forward


def test_a_fee_below_the_base_fee_is_waited_out():
    messages = pool()
    messages.offer(tx(), 0, live)
    messages.refused(tx(), low_fee=True)

    assert messages.with_fate(Fate.LOW_FEE) == [tx()]
    assert messages.kept(tx().hash) == tx()
    messages.forwarded(tx())
    assert messages.with_fate(Fate.LOW_FEE) == []


def test_what_the_node_refused_is_forgotten():
    messages = pool()
    messages.offer(tx(), 0, live)
    messages.refused(tx(), low_fee=False)

    assert messages.offer(tx(), 0, live).forward


def test_messages_of_dead_blocks_can_be_lost():
    messages = pool()
    for nonce in (0, 1):
        messages.offer(tx(nonce), 0, live)
    messages.lose({tx(0).hash})

    assert messages.with_fate(Fate.DROPPED) == [tx(0)]
    assert messages.offer(tx(0), 0, live).forward


def test_the_next_nonce_counts_what_is_kept():
    messages = pool()
    messages.offer(tx(0), 0, live)
    messages.offer(tx(1), 0, lambda _: Fate.STUCK)
    messages.offer(tx(3), 0, live)

    assert messages.next_nonce(funded(0).address, 0) == 2


def test_what_is_remembered_is_bounded():
    messages = pool(max_pending=10**9)
    first = tx()
    for nonce in range(mpool.MAX_ENTRIES + 5):
        messages.forwarded(mpool.Tx("0x", hex(nonce), "0xaa", nonce, 1, 1, {}))
        messages._replaced[hex(nonce)] = "0x"
    messages.offer(first, 0, live)
    messages.offer(tx(premium=5000), 0, live)

    assert len(messages._entries) == len(messages._replaced) == mpool.MAX_ENTRIES
