"""`insula job ...` against a chain and a bridge's API: cancelling, listing, waiting, and what is said of each."""

import json

import pytest

from bridge.cli.output import Exit
from bridge.jobs import JobState
from executor.protocol.wire import OnChainState, Order, Outcome, Status
from tests.bridge_kit import Bridge, order_of
from tests.chain_nodes import FUNDED_SECRETS, funded

ORDER = Order(spec=b"{}", ttl=600, unit_price=10)


@pytest.fixture
def bridge(tmp_path):
    folder = tmp_path / "bridge"
    folder.mkdir()
    bridge = Bridge(folder)
    yield bridge
    bridge.close()


@pytest.fixture
def job(insula, api):
    """Calls `insula job ...` with this bridge."""

    def call(verb, *words):
        return insula("job", verb, *words, "--bridge", api.base)

    return call


class Placed:
    """A request on a real chain that the bridge shows too."""

    def __init__(self, chain, bridge, tmp_path, job):
        self.chain, self._job, self._tmp = chain, job, tmp_path
        chain.automine()
        request = chain.request(funded(1), ORDER)
        self.id = str(request.id)
        self.row = bridge.request(ORDER, request_id=request.id, requester=funded(1).address)

    def cancel(self, *words, who=1):
        secret = self._tmp / f"key{who}"
        secret.write_text(FUNDED_SECRETS[who])
        secret.chmod(0o600)
        place = ("--rpc", str(self.chain.client.transport.endpoint_uri), "--contract", self.chain.deployment.bridge)
        return self._job("cancel", self.id, *place, "--key", f"file:{secret}", *words)

    def state(self):
        return self.chain.bridge.request_of(int(self.id)).state


@pytest.fixture
def placed(anvil_chain, bridge, tmp_path, job):
    yield Placed(anvil_chain, bridge, tmp_path, job)
    anvil_chain.manual()


@pytest.mark.chain
def test_cancel_marks_and_tells_from_when_the_refund_can_be_drawn(placed):
    code, out, _ = placed.cancel()

    assert code == Exit.OK
    assert f"insula job cancel {placed.id} --draw" in out
    assert "marked; the refund can be drawn from 20" in out


@pytest.mark.chain
def test_a_refund_is_drawn_when_its_time_has_come_and_not_before(placed):
    assert placed.cancel("--draw")[0] == Exit.NOT_SO  # not marked
    placed.cancel()
    code, _, err = placed.cancel("--draw")
    assert (code, "too early" in err) == (Exit.NOT_SO, True)

    placed.chain.client.ask("evm_increaseTime", 6)
    placed.chain.mine()

    assert placed.cancel("--draw")[0] == Exit.OK
    assert placed.state() is OnChainState.CANCELLED


@pytest.mark.chain
def test_cancel_and_wait_does_both_steps(placed):
    placed.chain.client.ask("evm_setIntervalMining", 1)

    code, out, _ = placed.cancel("--wait", "--json")

    assert code == Exit.OK
    assert json.loads(out).keys() == {"ok", "marked", "drawn", "refundableAt"}
    assert placed.state() is OnChainState.CANCELLED


@pytest.mark.chain
def test_what_is_settled_cannot_be_cancelled_and_says_so(placed):
    placed.cancel()
    placed.chain.client.ask("evm_increaseTime", 6)
    placed.chain.mine()
    placed.cancel("--draw")

    code, _, err = placed.cancel()

    assert code == Exit.NOT_SO
    assert f"request {placed.id} is already cancelled" in err


@pytest.mark.chain
def test_only_its_requester_can_mark_a_request(placed):
    code, _, err = placed.cancel(who=3)

    assert code == Exit.BAD_INPUT
    assert f"only its requester {funded(1).address}" in err


LISTS = {
    "all": ([], ["3", "2", "1"]),
    "a state of the bridge": (["--state", "ready"], ["1"]),
    "a state of the chain, as shown": (["--state", "FULFILLED"], ["2"]),
    "a state that both have": (["--state", "EXPIRED"], ["3"]),
    "requested": (["--state", "requested"], ["1"]),
    "one": (["--limit", "1"], ["3"]),
}


@pytest.mark.parametrize("what", LISTS)
def test_jobs_are_listed_by_the_states_that_are_shown(bridge, job, what):
    words, expected = LISTS[what]
    bridge.request(order_of(), block=1)
    bridge.request(order_of(), block=2, state=JobState.FINAL, chain_state=OnChainState.FULFILLED)
    bridge.request(order_of(), block=3, state=JobState.EXPIRED, chain_state=OnChainState.EXPIRED)

    code, out, _ = job("list", *words)

    assert (code, [line.split()[0] for line in out.splitlines()]) == (Exit.OK, expected)


def test_a_state_that_is_none_is_told_the_states_there_are(job):
    code, _, err = job("list", "--state", "lost")

    assert code == Exit.BAD_INPUT
    assert "fulfilled" in err
    assert "posted" in err


def test_wait_prints_a_line_for_each_change_and_not_for_each_number(bridge, job):
    bridge.request(order_of("site=moon"), state=JobState.OBSERVED)

    code, out, err = job("wait", "1", "--timeout", "1.2")

    assert code == Exit.TIMEOUT
    assert len(out.splitlines()) == 1
    assert "not settled" in err


def test_wait_for_a_job_that_was_fulfilled_names_the_output(bridge, job):
    outcome = Outcome(status=Status.SUCCEEDED, payload=b"42\n")
    bridge.request(
        order_of(),
        state=JobState.FINAL,
        chain_state=OnChainState.FULFILLED,
        outcome=outcome.encode(),
        settled_tx=b"t" * 32,
    )

    code, out, _ = job("wait", "1")

    assert code == Exit.OK
    assert '"42\\n"' in out
    assert "{" not in out


def test_names_in_json_are_spelled_one_way(bridge, job):
    bridge.request(order_of())

    for verb in ("status", "explain"):
        _, out, _ = job(verb, "1", "--json")
        assert "requestHash" in out
        assert "request_hash" not in out
