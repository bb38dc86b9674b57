"""Deployment and calls on real chains, through our own client and ABIs."""

from dataclasses import replace

import pytest

from bridge.chain.contracts import cancel_calldata, fulfil_calldata
from bridge.chain.operate import TransactionFailed, send_and_wait
from bridge.chain.refusals import refusal_in_words
from bridge.chain.views import ActiveNode, BookViews, Bounds
from bridge.errors import RpcRefused
from executor.protocol.reasons import Reason
from executor.protocol.wire import OnChainState, Order, Outcome, label_hash, result_digest
from tests.chain_nodes import funded

pytestmark = pytest.mark.chain

ORDER = Order(spec=b'{"version":"insula/v1"}', ttl=3600, unit_price=1000, delivery_fee=7)
OUTCOME = Outcome(status=1, output_cid=bytes.fromhex("01551220") + b"\xab" * 32)
PART = replace(OUTCOME, reason=int(Reason.RELEASED_IN_PART))


def test_the_contracts_are_deployed_with_the_bounds_that_were_asked_for(any_chain):
    assert any_chain.bridge.bounds() == Bounds(1, 86_400, 5)
    assert any_chain.bridge.registry() == any_chain.deployment.registry
    assert any_chain.registry.notice() == 5
    assert any_chain.bridge.request_count() == 0
    assert any_chain.client.block_by_number(any_chain.deployment.deploy_block).number > 0


def test_a_registered_node_is_active_and_carries_what_its_curator_vouched_for(any_chain):
    node = any_chain.nodes[0]
    curator = funded(4).address
    words = [label_hash("tier=wasm"), label_hash("tier=container")]

    assert any_chain.registry.active_node_of_key(node.key.address) == ActiveNode(node.node_id, node.operator.address)
    assert any_chain.registry.node_of_key(node.key.address) == node.node_id
    assert any_chain.registry.labels_count(node.node_id, curator, words) == (True, False)
    assert any_chain.registry.carries(node.node_id, curator, [])
    assert any_chain.registry.node_of(99) is None
    assert any_chain.registry.active_node_of_key(funded(0).address) is None


@pytest.mark.parametrize("outcome", [OUTCOME, PART], ids=["a whole", "a part"])
def test_a_request_is_taken_and_settled_by_the_nodes_signatures(any_chain, outcome):
    request = any_chain.request(funded(1), ORDER)
    assert any_chain.bridge.request_hash(request.id) == request.hash

    relayer = funded(3)
    any_chain.send(relayer, any_chain.deployment.bridge, any_chain.fulfil_data(request, outcome, relayer.address))
    any_chain.mine()

    result = any_chain.bridge.result_of(request.id)
    assert (result.state, result.digest) == (OnChainState.FULFILLED, result_digest(request.hash, outcome.hash))
    assert any_chain.bridge.check_result(request.id, request.hash, outcome)
    assert any_chain.bridge.credit_of(any_chain.nodes[0].operator.address) == 1000
    assert any_chain.bridge.credit_of(relayer.address) == 7
    assert BookViews(any_chain.client, any_chain.deployment.result_book).result_of(request.id) is None


def test_a_revert_is_told_in_words_with_the_arguments_of_the_error(any_chain):
    request = any_chain.request(funded(1), ORDER)
    data = fulfil_calldata(request.id, ORDER, OUTCOME, [])

    with pytest.raises(RpcRefused) as caught:
        any_chain.client.estimate_gas(funded(2).address, any_chain.deployment.bridge, data)

    assert refusal_in_words(caught.value) == "0 attestations are too few; the order's quorum is 1"
    with pytest.raises(RpcRefused) as caught:
        any_chain.client.call(any_chain.deployment.bridge, data)
    assert refusal_in_words(caught.value) == "0 attestations are too few; the order's quorum is 1"


def test_a_transaction_that_would_revert_is_refused_before_it_is_sent(any_chain):
    request = any_chain.request(funded(1), ORDER)
    before = any_chain.client.nonce(funded(3).address)

    with pytest.raises(TransactionFailed, match="only its requester can do this"):
        send_and_wait(any_chain.client, funded(3), any_chain.deployment.bridge, cancel_calldata(request.id, ORDER))

    assert any_chain.client.nonce(funded(3).address, "pending") == before
