"""One transaction at a time, as the command line sends them."""

import itertools

import pytest

from bridge.chain.client import ChainClient
from bridge.chain.operate import (
    TransactionFailed,
    TransactionPending,
    declare_labels,
    register_node,
    request_job,
    send_and_wait,
)
from bridge.chain.refusals import refusal_in_words
from bridge.chain.signer import TxSigner
from bridge.chain.views import BookViews, NodeView
from bridge.errors import RpcRefused
from executor.errors import InvalidInput
from executor.protocol.wire import ZERO_ADDRESS, OnChainState, Order, label_hash
from tests.chain_nodes import funded
from tests.chain_proxy import DROP, Proxy, error, ok

pytestmark = pytest.mark.chain

ORDER = Order(spec=b"{}", ttl=60, unit_price=1)


@pytest.fixture
def chain(anvil_chain):
    anvil_chain.automine()
    yield anvil_chain
    anvil_chain.manual()


@pytest.fixture
def proxy(chain):
    with Proxy(chain.client.transport.endpoint_uri) as proxy:
        yield proxy


@pytest.fixture
def client(proxy):
    with ChainClient(proxy.url, 5.0) as client:
        yield client


def test_a_job_is_ordered_straight_at_the_bridge(chain):
    assert request_job(chain.client, funded(1), chain.deployment.bridge, ORDER).ok
    view = chain.bridge.request_of(1)
    assert (view.requester, view.state, view.cancel_marked_at) == (funded(1).address, OnChainState.REQUESTED, 0)
    assert chain.bridge.quote(ORDER) == 1


@pytest.mark.parametrize("kind", ["anvil", "hardhat"])
def test_an_account_that_cannot_pay_is_named_with_what_to_do(request, kind):
    chain = request.getfixturevalue(f"{kind}_chain")
    empty = TxSigner.from_hex("0x" + "ab" * 32)

    with pytest.raises(TransactionFailed, match=f"account {empty.address} holds 0 wei.*send it funds first"):
        register_node(chain.client, empty, chain.deployment.registry)


def test_a_node_gets_the_id_that_the_registry_gave_it(chain):
    registry = chain.deployment.registry
    node_id = register_node(chain.client, funded(7), registry, ["tier=wasm"], "somewhere")
    assert node_id == 3
    declare_labels(chain.client, funded(7), registry, node_id, ["cores=4"])
    words = [label_hash("tier=wasm"), label_hash("cores=4"), label_hash("cores=8")]
    assert chain.registry.labels_count(node_id, ZERO_ADDRESS, words) == (True, True, False)
    assert chain.registry.node_of(node_id) == NodeView(funded(7).address, ZERO_ADDRESS, active=True)
    assert chain.registry.node_count() == 3


def test_a_nodes_id_is_found_without_a_log_too(chain, proxy, client):
    proxy.rules["eth_getLogs"] = lambda request, forward: ok(request, [])
    assert register_node(client, funded(7), chain.deployment.registry) == 3


def test_a_transaction_that_is_not_mined_in_time_is_pending(chain):
    chain.manual()
    with pytest.raises(TransactionPending, match="not mined"):
        send_and_wait(chain.client, funded(1), funded(1).address, b"", deadline_seconds=0.1)
    chain.mine()


def test_a_transaction_that_is_mined_and_fails_says_so(chain, proxy, client):
    proxy.rules["eth_estimateGas"] = lambda request, forward: ok(request, hex(60_000))
    with pytest.raises(TransactionFailed, match="mined and failed"):
        request_job(client, funded(1), chain.deployment.bridge, ORDER)


def test_a_lost_answer_is_waited_for_and_the_same_bytes_go_out_again(chain, proxy, client):
    calls = itertools.count()
    proxy.rules["eth_sendRawTransaction"] = lambda request, forward: forward(request) if next(calls) else DROP
    ticks = itertools.count(0, 8)
    receipt = send_and_wait(client, funded(1), funded(1).address, b"", clock=lambda: next(ticks), sleep=lambda _: None)
    assert receipt.ok
    sent = [request["params"] for request in proxy.seen if request["method"] == "eth_sendRawTransaction"]
    assert len(sent) >= 2
    assert sent[0] == sent[1]


def test_a_refusal_of_the_endpoint_is_told(chain, proxy, client):
    proxy.rules["eth_sendRawTransaction"] = lambda request, forward: error(request, 1, "message too big")
    with pytest.raises(TransactionFailed, match="message too big"):
        send_and_wait(client, funded(1), funded(1).address, b"")


def test_a_base_fee_that_nobody_would_pay_is_refused(chain, proxy, client):
    def dear(request, forward):
        answer = forward(request)
        answer["result"]["baseFeePerGas"] = hex(10**15)
        return answer

    proxy.rules["eth_getBlockByNumber"] = dear
    with pytest.raises(TransactionFailed, match="base fee"):
        send_and_wait(client, funded(1), funded(1).address, b"")


def test_views_of_an_address_without_our_contract_say_so(chain):
    with pytest.raises(InvalidInput, match="another contract"):
        BookViews(chain.client, funded(1).address).callback_gas()


def test_an_order_that_the_contract_would_not_take_says_which_field(chain):
    with pytest.raises(RpcRefused) as caught:
        chain.bridge.quote(Order(spec=b"", ttl=60))
    assert refusal_in_words(caught.value) == "the order's spec is not valid"


def test_a_refusal_that_is_no_revert_is_shown_as_it_is():
    assert refusal_in_words(RpcRefused(-32601, "no such method")) == "no such method (code -32601)"
