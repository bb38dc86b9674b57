"""S45 - S50: what an endpoint answers, or does not, when a transaction is handed in."""

import pytest

from bridge.devnet.chaos.script import Answer, DropAfter, DropBefore, Error, Hang, Raw, Status
from bridge.store.outbox import SendState
from tests.chaos_kit import LOTUS
from tests.integration.bridge_parts import attempts, item, run
from tests.scenarios.holds_writer import settled
from tests.scenarios.writer_parts import PLAIN, RESEND_SECONDS, SEND, writing

pytestmark = pytest.mark.chain

SIZES = {"alone": 1, "a batch": 3}


@pytest.fixture(params=SIZES)
def size(request):
    """How many results wait together."""
    return SIZES[request.param]


# -- the answer, or the transaction, is lost ----------------------------------------------------------------------

LOST_ANSWERS = {
    "the connection is closed": DropAfter(),
    "no answer in time": Hang(3.0),
    "the answer is cut": Raw(b'{"jsonrpc":"2.0","id":'),
}


@pytest.mark.parametrize("fault", LOST_ANSWERS)
def test_S45_an_answer_that_is_lost_after_the_transaction_arrived_has_no_second_effect(both_chains, tmp_path, fault):
    with writing(both_chains, tmp_path, timeout=1.5) as parts:
        requests = parts.posting(2)
        parts.script.on(SEND, LOST_ANSWERS[fault], times=1)
        parts.step_unanswered()
        parts.chain.mine()
        parts.finish(requests)

        (sent,) = parts.sent(requests)
        assert (sent.mined_ok, len(sent.weights)) == (True, 2)
        settled(parts, requests)


def test_S45_an_answer_that_is_lost_before_the_process_ends_has_no_second_effect(both_chains, tmp_path):
    with writing(both_chains, tmp_path) as parts:
        requests = parts.posting(1)
        parts.script.on(SEND, DropAfter(), times=1)
        parts.step_unanswered()
        parts.restart()
        parts.finish(requests)

        assert len(parts.sent(requests)) == 1
        settled(parts, requests)


LOST_REQUESTS = {
    "the connection is closed": DropBefore(),
    "a gateway's page": Status(502),
    "too many requests": Status(429, b"slow down"),
}


@pytest.mark.parametrize("fault", LOST_REQUESTS)
def test_S46_a_transaction_that_never_arrived_is_sent_again_with_the_same_bytes(both_chains, tmp_path, fault):
    with writing(both_chains, tmp_path) as parts:
        requests = parts.posting(2)
        parts.script.on(SEND, LOST_REQUESTS[fault], times=1)
        parts.step_unanswered()
        assert set(parts.states(requests)) == {SendState.SIGNED}
        parts.restart()
        parts.finish(requests)

        (sent,) = parts.sent(requests)
        assert parts.script.raws() == [sent.raw] * 2
        settled(parts, requests)


# -- it has it already --------------------------------------------------------------------------------------------

KNOWN = {
    "lotus": (1, "mpool push: message from f410f with nonce 3 already in mpool: message with nonce already exists"),
    "geth": (-32000, "already known"),
    "hardhat": (-32003, "Known transaction: 0x00"),
    "anvil": (-32003, "transaction already imported"),
    "some gateway": (-32000, "tx already in mempool"),
}


def test_S47_a_transaction_that_the_endpoint_says_it_has_counts_as_sent(both_chains, tmp_path):
    with writing(both_chains, tmp_path, max_batch=1, max_in_flight=len(KNOWN)) as parts:
        requests = parts.posting(len(KNOWN))
        answers = iter(KNOWN.values())

        def has_it(request, forward):
            forward(request)
            code, message = next(answers)
            return {"jsonrpc": "2.0", "id": request["id"], "error": {"code": code, "message": message}}

        parts.script.on(SEND, Answer(has_it))
        run(parts.relayer)
        assert set(parts.states(requests)) == {SendState.SENT}
        assert {sent.error for sent in parts.sent(requests)} == {""}
        parts.finish(requests)

        assert len(parts.script.raws()) == len(KNOWN)
        settled(parts, requests)


@pytest.mark.parametrize("settings", [PLAIN, LOTUS], ids=["the node's own words", "lotus"])
def test_S47_the_same_bytes_again_are_no_error_while_they_wait(both_chains, tmp_path, settings):
    with writing(both_chains, tmp_path, settings) as parts:
        requests = parts.posting(2)
        run(parts.relayer)
        parts.later(RESEND_SECONDS)
        assert len(parts.script.raws()) == 2
        assert [sent.error for sent in parts.sent(requests)] == [""]
        parts.finish(requests)

        settled(parts, requests)


# -- the nonce is used --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("settings", "size"), [(PLAIN, 1), (LOTUS, 3)], ids=["the node's own words", "lotus, a batch"])
def test_S48_a_nonce_that_our_own_transaction_used_is_no_reason_for_another_one(both_chains, tmp_path, settings, size):
    with writing(both_chains, tmp_path, settings) as parts:
        requests = parts.posting(size)
        parts.stale()
        parts.script.on(SEND, DropAfter(), times=1)
        parts.step_unanswered()
        parts.chain.mine(2)
        for _ in range(3):
            parts.later(RESEND_SECONDS)
        (sent, *raised) = parts.sent(requests)
        assert "nonce" in (raised or [sent])[-1].error
        assert {each.nonce for each in parts.sent(requests)} == {sent.nonce}
        assert set(parts.states(requests)) == {SendState.SENT}
        parts.script.clear()
        parts.finish(requests)

        assert {each.nonce for each in parts.sent(requests)} == {sent.nonce}
        settled(parts, requests)


def test_S49_a_nonce_that_something_else_used_is_given_up_only_once_that_is_final(both_chains, tmp_path, size):
    with writing(both_chains, tmp_path) as parts:
        requests = parts.posting(size)
        run(parts.relayer)
        (sent,) = parts.sent(requests)
        parts.drop(sent)
        parts.foreign(sent.nonce)
        parts.mine(2)
        parts.later(RESEND_SECONDS)
        assert "nonce too low" in parts.sent(requests)[-1].error
        assert {each.nonce for each in parts.sent(requests)} == {sent.nonce}
        parts.mine(2)
        parts.finish(requests)

        nonces = {each.nonce for each in parts.sent(requests)}
        assert nonces == {sent.nonce, sent.nonce + 1}
        assert all(each.mined_ok is None for each in parts.sent(requests) if each.nonce == sent.nonce)
        settled(parts, requests)


def test_S49_a_nonce_that_something_else_used_and_a_reorg_gave_back_is_ours_again(both_chains, tmp_path, size):
    with writing(both_chains, tmp_path, PLAIN) as parts:
        requests = parts.posting(size)
        snapshot = parts.chain.snapshot()
        run(parts.relayer)
        (sent,) = parts.sent(requests)
        parts.drop(sent)
        parts.foreign(sent.nonce)
        parts.mine()
        parts.chain.revert(snapshot)
        parts.chain.mine(2)
        parts.finish(requests)

        assert {each.nonce for each in parts.sent(requests)} == {sent.nonce}
        settled(parts, requests)


# -- a nonce is missing -------------------------------------------------------------------------------------------

GAPS = {
    "taken silently": None,
    "refused": Error(-32000, "nonce too high"),
    "refused by Lotus": Error(1, "mpool push: unfulfilled nonce gap"),
}


@pytest.mark.parametrize("answer", GAPS)
def test_S50_a_nonce_that_no_delivery_uses_is_filled_and_what_waits_behind_it_goes_on(both_chains, tmp_path, answer):
    with writing(both_chains, tmp_path, max_batch=1) as parts:
        (gone,), waiting = parts.posting(1), parts.posting(2)
        parts.script.on(SEND, Error(1, "mpool push: message too big"), times=1)
        if GAPS[answer]:
            parts.script.on(SEND, GAPS[answer], nth=2, times=2)
        run(parts.relayer)
        parts.mine(2)
        (missing,) = attempts(parts.engine, gone.hash)
        assert item(parts.engine, gone.hash).state is SendState.DEAD
        assert [sent.nonce for sent in parts.sent(waiting)] == [missing.nonce + 1, missing.nonce + 2]
        assert parts.chain.client.nonce(parts.relayer.address) == missing.nonce
        parts.finish(waiting)

        assert parts.value("nonces_filled") == 1
        settled(parts, waiting, ended=[gone])


def test_S50_a_transaction_that_was_taken_and_lost_does_not_keep_those_behind_it(both_chains, tmp_path):
    with writing(both_chains, tmp_path, LOTUS | {"drop_tx": 0.5}, max_batch=1, max_in_flight=6) as parts:
        requests = parts.posting(6)
        parts.finish(requests)

        assert 0 < parts.client.chaos.counts["drop_tx"] < 6
        assert len(parts.sent(requests)) == 6
        assert parts.value("nonces_filled") == 0
        settled(parts, requests)
