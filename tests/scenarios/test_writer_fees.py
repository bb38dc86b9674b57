"""S51 - S54, S63, S64: transactions that are lost, that offer too little, that the account cannot pay."""

from itertools import pairwise

import pytest

from bridge.devnet.chaos.mpool import decode
from bridge.devnet.chaos.script import Answer, Error
from bridge.store.outbox import SendState
from bridge.watch import Alarm
from tests.chaos_kit import LOTUS
from tests.integration.bridge_parts import run
from tests.scenarios.holds_writer import settled
from tests.scenarios.writer_parts import PLAIN, RAISE_SECONDS, RESEND_SECONDS, SEND, writing

pytestmark = pytest.mark.chain

SIZES = {"alone": 1, "a batch": 3}


@pytest.fixture(params=SIZES)
def size(request):
    """How many results wait together."""
    return SIZES[request.param]


# -- lost ---------------------------------------------------------------------------------------------------------


def test_S51_a_transaction_that_the_pool_dropped_is_sent_again_with_the_same_bytes(both_chains, tmp_path, size):
    with writing(both_chains, tmp_path, PLAIN) as parts:
        requests = parts.posting(size)
        run(parts.relayer)
        (sent,) = parts.sent(requests)
        parts.drop(sent)
        parts.mine()
        assert set(parts.states(requests)) == {SendState.SENT}
        parts.later(RESEND_SECONDS)
        parts.finish(requests)

        assert parts.script.raws() == [sent.raw] * 2
        settled(parts, requests)


def test_S51_a_transaction_that_was_taken_and_never_spread_is_sent_again_with_the_same_bytes(both_chains, tmp_path):
    with writing(both_chains, tmp_path, LOTUS | {"drop_tx": 1.0}) as parts:
        requests = parts.posting(2)
        parts.finish(requests)

        assert parts.client.chaos.counts["drop_tx"] == 1
        assert len(set(parts.script.raws())) == 1
        settled(parts, requests)


# -- too low ------------------------------------------------------------------------------------------------------


def test_S52_a_transaction_that_is_taken_and_never_mined_is_replaced_by_one_that_offers_more(
    both_chains, tmp_path, size
):
    with writing(both_chains, tmp_path, LOTUS | {"stuck_tx": 1.0}) as parts:
        requests = parts.posting(size)
        parts.finish(requests)

        stuck, mined = parts.sent(requests)
        assert (stuck.mined_ok, mined.mined_ok) == (None, True)
        assert (stuck.nonce, stuck.calldata, stuck.weights) == (mined.nonce, mined.calldata, mined.weights)
        assert mined.signed_at - stuck.signed_at >= parts.config.relayer.bump_after_seconds
        settled(parts, requests)


def test_S52_at_the_cap_the_same_bytes_go_out_and_an_alarm_says_so(both_chains, tmp_path):
    base, tip = both_chains.client.fees()
    cap = 2 * base + tip + 1
    with writing(both_chains, tmp_path, LOTUS | {"stuck_tx": 1.0}, max_fee_per_gas_wei=cap) as parts:
        requests = parts.posting(2)
        run(parts.relayer)
        for _ in range(5):
            parts.later(RAISE_SECONDS)
            parts.mine()
        (sent,) = parts.sent(requests)
        assert set(parts.script.raws()) == {sent.raw}
        assert len(parts.script.raws()) > 2
        assert Alarm.FEES_AT_CAP in parts.raised()
        both_chains.client.send_raw(sent.raw)
        parts.finish(requests)

        settled(parts, requests)


#: how much of the old premium, in percent, a pool wants for a replacement, and what on top; after how many raises
POOLS = {
    "1.05 times": (105, 0, 1),
    "1.10 times": (110, 0, 1),
    "1.10 times and 1": (110, 1, 1),
    "1.4 times": (140, 0, 2),
}


@pytest.mark.parametrize("pool", POOLS)
def test_S53_a_replacement_offers_what_the_pool_wants_or_is_raised_again(both_chains, tmp_path, pool):
    percent, more, raises = POOLS[pool]
    premiums = []

    def strict(request, forward):
        """Keeps the first one to itself, and what does not offer enough out."""
        tx = decode(request["params"][0])
        if not premiums or tx.premium == premiums[0]:
            premiums.append(tx.premium)
            return {"jsonrpc": "2.0", "id": request["id"], "result": tx.hash}
        least = premiums[0] * percent // 100 + more
        if tx.premium >= least:
            return forward(request)
        words = f"mpool push: increase GasPremium to {least}: replace by fee has too low GasPremium"
        return {"jsonrpc": "2.0", "id": request["id"], "error": {"code": 1, "message": words}}

    with writing(both_chains, tmp_path) as parts:
        requests = parts.posting(2)
        parts.script.on(SEND, Answer(strict))
        parts.finish(requests)

        offers = parts.sent(requests)
        assert len(offers) == 1 + raises
        for before, after in pairwise(offers):
            assert after.fees.tip * 4 > before.fees.tip * 5
            assert after.fees.max_fee * 4 > before.fees.max_fee * 5
        assert [offer.mined_ok for offer in offers] == [None] * raises + [True]
        settled(parts, requests)


# -- a replacement that comes too late ----------------------------------------------------------------------------

TOO_LATE = {
    "refused": lambda request, forward: forward(request),
    "taken and lost": lambda request, _: {
        "jsonrpc": "2.0",
        "id": request["id"],
        "result": decode(request["params"][0]).hash,
    },
}


@pytest.mark.parametrize("answer", TOO_LATE)
def test_S54_the_original_is_mined_while_its_replacement_is_being_sent(both_chains, tmp_path, size, answer):
    with writing(both_chains, tmp_path) as parts:
        requests = parts.posting(size)
        run(parts.relayer)

        def too_late(request, forward):
            both_chains.mine()
            return TOO_LATE[answer](request, forward)

        parts.script.on(SEND, Answer(too_late), times=1)
        parts.later(RAISE_SECONDS)
        original, replacement = parts.sent(requests)
        assert set(parts.states(requests)) == {SendState.SENT}
        parts.finish(requests)

        assert both_chains.client.receipt(replacement.tx_hash) is None
        assert [sent.mined_ok for sent in parts.sent(requests)] == [True, None]
        assert (original.nonce, original.calldata) == (replacement.nonce, replacement.calldata)
        settled(parts, requests)


# -- no funds -----------------------------------------------------------------------------------------------------

LACKING = {
    "hard": "mpool push: not enough funds (required: 2, balance: 1)",
    "soft": "mpool push: not enough funds including pending messages (required: 2, balance: 1)",
}


@pytest.mark.parametrize("words", LACKING)
def test_S63_an_account_that_cannot_pay_pauses_and_takes_no_new_nonce(both_chains, tmp_path, words):
    with writing(both_chains, tmp_path, max_batch=1) as parts:
        requests = parts.posting(3)
        parts.script.on(SEND, Error(1, LACKING[words]))
        run(parts.relayer)
        parts.later(RESEND_SECONDS // 2)
        assert parts.relayer.is_paused
        assert Alarm.NO_FUNDS in parts.raised()
        assert len(parts.sent(requests)) == 1
        parts.script.clear()
        parts.finish(requests)

        assert len(parts.sent(requests)) == 3
        assert Alarm.NO_FUNDS not in parts.raised()
        settled(parts, requests)


def test_S63_an_account_without_funds_signs_nothing_until_it_has_some(both_chains, tmp_path, size):
    with writing(both_chains, tmp_path) as parts:
        requests = parts.posting(size)
        address = parts.relayer.address
        balance = both_chains.client.balance(address)
        both_chains.client.ask(f"{both_chains.kind}_setBalance", address, "0x0")
        both_chains.mine(parts.confirming)
        try:
            for _ in range(3):
                parts.later(RESEND_SECONDS)
            assert parts.relayer.is_paused
            assert parts.sent(requests) == []
            assert Alarm.NO_FUNDS in parts.raised()
        finally:
            both_chains.client.ask(f"{both_chains.kind}_setBalance", address, hex(balance))
            both_chains.mine(parts.confirming)
        parts.finish(requests)

        assert Alarm.NO_FUNDS not in parts.raised()
        settled(parts, requests)


# -- the base fee rises -------------------------------------------------------------------------------------------


def set_base_fee(chain, wei):
    """From the next block on, until blocks that are not full lower it."""
    chain.client.ask(f"{chain.kind}_setNextBlockBaseFeePerGas", hex(wei))


@pytest.fixture
def usual_base_fee(both_chains):
    """A base fee that others find again afterwards."""
    base, _ = both_chains.client.fees()
    yield base
    set_base_fee(both_chains, base)
    both_chains.mine()


def in_flight_below_the_base_fee(parts, size, times):
    """Deliveries that are sent, and then the base fee rises above what they offer."""
    requests = parts.posting(size)
    run(parts.relayer)
    (sent,) = parts.sent(requests)
    set_base_fee(parts.chain, times * sent.fees.max_fee)
    parts.mine()
    assert parts.chain.client.receipt(sent.tx_hash) is None
    return requests, sent


@pytest.mark.parametrize(("settings", "size"), [(PLAIN, 1), (LOTUS, 3)], ids=["the node's own words", "lotus, a batch"])
def test_S64_a_base_fee_above_what_a_transaction_offers_is_followed(
    both_chains, tmp_path, size, settings, usual_base_fee
):
    with writing(both_chains, tmp_path, settings) as parts:
        requests, sent = in_flight_below_the_base_fee(parts, size, times=4)
        parts.later(RAISE_SECONDS)
        first, second = parts.sent(requests)
        assert first.raw == sent.raw
        assert second.fees.max_fee > 4 * sent.fees.max_fee
        parts.finish(requests)

        assert [each.mined_ok for each in parts.sent(requests)] == [None, True]
        settled(parts, requests)


@pytest.mark.parametrize(("room", "size"), [(1, 3), (2, 1)], ids=["no room below it, a batch", "some room below it"])
def test_S64_a_base_fee_above_the_cap_is_waited_out(both_chains, tmp_path, size, room, usual_base_fee):
    _, tip = both_chains.client.fees()
    cap = room * (2 * usual_base_fee + tip) + 1
    # anvil throws out what offers too little, which Lotus keeps: there it takes the relayer to offer it again
    settings = PLAIN if both_chains.kind == "anvil" else LOTUS
    with writing(both_chains, tmp_path, settings, max_fee_per_gas_wei=cap) as parts:
        requests, sent = in_flight_below_the_base_fee(parts, size, times=4)
        for _ in range(4):
            parts.later(RAISE_SECONDS)
            set_base_fee(both_chains, 4 * cap)
            parts.mine()
        offers = parts.sent(requests)
        assert len(offers) == room
        assert {(offer.nonce, offer.calldata) for offer in offers} == {(sent.nonce, sent.calldata)}
        assert all(offer.fees.max_fee <= cap for offer in offers)
        assert Alarm.FEES_AT_CAP in parts.raised()
        set_base_fee(both_chains, usual_base_fee)
        parts.mine()
        parts.finish(requests)

        assert [each.mined_ok for each in parts.sent(requests)].count(True) == 1
        assert len(parts.sent(requests)) <= 2
        settled(parts, requests)


def test_S64_while_the_base_fee_is_above_the_cap_nothing_new_is_signed(both_chains, tmp_path, usual_base_fee):
    _, tip = both_chains.client.fees()
    cap = 2 * usual_base_fee + tip
    with writing(both_chains, tmp_path, max_fee_per_gas_wei=cap) as parts:
        requests = parts.posting(2)
        set_base_fee(both_chains, 4 * cap)
        parts.mine()
        assert parts.sent(requests) == []
        assert Alarm.FEES_AT_CAP in parts.raised()
        set_base_fee(both_chains, usual_base_fee)
        parts.mine()
        parts.finish(requests)

        settled(parts, requests)
