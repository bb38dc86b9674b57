"""The node's own look at the chain: one call, and no belief in anybody."""

import json

import pytest

from executor.agent.chainview import ChainView, RpcRefused
from executor.agent.errors import GiveBack
from executor.content.patience import Patience
from executor.content.web import Http
from executor.protocol.reasons import Reason
from executor.protocol.wire import Order, Request
from tests.agent_kit import endpoint_of

CONTRACT = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
REQUEST = Request(
    chain_id=314, contract=CONTRACT, id=7, requester=CONTRACT, order=Order(spec=b"{}", ttl=60), deadline=2**40
)


class Rpc:
    """An endpoint: one answer for each method, and what was asked."""

    def __init__(self):
        self.answers = {"eth_chainId": "0x13a", "eth_blockNumber": "0x64", "eth_call": f"0x{REQUEST.hash.hex()}"}
        self.null_rounds = set()
        self.asked = []
        self.raw = None

    def answer(self, call):
        self.asked.append((call["method"], call["params"]))
        if self.raw is not None:
            return self.raw
        block = call["params"][1] if call["method"] == "eth_call" else None
        if block in self.null_rounds:
            error = {"code": 12, "message": f"requested epoch was a null round ({int(block, 16)})"}
            return json.dumps({"jsonrpc": "2.0", "id": 1, "error": error}).encode()
        found = self.answers[call["method"]]
        key = "error" if isinstance(found, dict) else "result"
        return json.dumps({"jsonrpc": "2.0", "id": 1, key: found}).encode()


@pytest.fixture
def rpc():
    return Rpc()


@pytest.fixture
def view(rpc):
    with endpoint_of(rpc.answer) as url, Http(f"{url}/rpc/v1") as http:
        yield lambda depth=0: ChainView(http, 314, CONTRACT, depth)


def patience():
    """Two tries."""
    return Patience(1.0, clock=iter([0.0, 0.0, 2.0, 2.0, 2.0, 2.0]).__next__, pause=lambda _: None)


def refusal(view):
    with pytest.raises(GiveBack) as caught:
        view.check(REQUEST, patience())
    return caught.value


def test_a_request_that_the_chain_holds_passes(rpc, view):
    view().check(REQUEST, patience())

    method, (call, block) = rpc.asked[-1]
    assert (method, block, call["to"]) == ("eth_call", "latest", CONTRACT)
    assert call["data"].endswith(f"{7:064x}")


def test_the_depth_is_counted_from_the_head(rpc, view):
    view(depth=5).check(REQUEST, patience())

    assert rpc.asked[-1][1][1] == hex(95)


def test_a_null_round_is_the_state_of_the_block_before(rpc, view):
    rpc.null_rounds = {hex(95), hex(94)}

    view(depth=5).check(REQUEST, patience())

    assert rpc.asked[-1][1][1] == hex(93)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("0x" + "00" * 32, Reason.REQUEST_NOT_ON_CHAIN),
        ("0x" + "01" * 32, Reason.REQUEST_NOT_ON_CHAIN),
        ("0x", Reason.NODE_FAULT),
        (7, Reason.NODE_FAULT),
        ({"code": 3, "message": "execution reverted"}, Reason.NODE_FAULT),
    ],
    ids=["unknown or settled", "another request", "no contract there", "not hex", "revert"],
)
def test_anything_else_gives_the_lease_back(rpc, view, answer, reason):
    rpc.answers["eth_call"] = answer

    assert refusal(view()).reason == reason


def test_an_endpoint_of_another_chain_is_the_nodes_own_fault(rpc, view):
    rpc.answers["eth_chainId"] = "0x1"

    found = refusal(view())

    assert found.reason == Reason.NODE_FAULT
    assert "serves chain 1" in found.detail


@pytest.mark.parametrize("raw", [b"<html>", b"[]", b"{}", b"x" * 70_000], ids=["html", "array", "empty", "too large"])
def test_an_endpoint_that_talks_nonsense_is_the_nodes_own_fault(rpc, view, raw):
    rpc.raw = raw

    assert refusal(view()).reason == Reason.NODE_FAULT


DIGEST = bytes(range(32))


def test_the_digest_of_a_settled_request_is_read_at_the_same_depth(rpc, view):
    rpc.answers["eth_call"] = f"0x{2:064x}{DIGEST.hex()}"

    assert view(depth=5).result_digest(7) == DIGEST
    method, (call, block) = rpc.asked[-1]
    assert (method, block, call["to"]) == ("eth_call", hex(95), CONTRACT)
    assert call["data"].endswith(f"{7:064x}")


@pytest.mark.parametrize("answer", ["0x", f"0x{1:064x}", f"0x{1:0192x}", 7, {"code": 3, "message": "reverted"}])
def test_a_result_that_is_no_state_and_digest_is_refused(rpc, view, answer):
    rpc.answers["eth_call"] = answer

    with pytest.raises(RpcRefused):
        view().result_digest(7)
