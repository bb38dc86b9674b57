"""Jobs that are paid in an ERC-20 on a devnet: one that the bridge has prices for, and one that it has none for."""

import json
import time
from pathlib import Path

import pytest

from bridge.chain.client import ChainClient
from bridge.chain.operate import let_take, request_job
from bridge.chain.views import BridgeViews
from bridge.demo.content import prepare
from bridge.devnet import net as devnet_net
from bridge.devnet.processes import ProcessGroup
from executor.agent.config import init_node
from executor.content.web import Http
from executor.protocol.wire import OnChainState, Order
from tests.chain_nodes import wait_for
from tests.token_kit import Token

pytestmark = [pytest.mark.e2e, pytest.mark.chain, pytest.mark.timeout(240)]

WAIT = 60.0
UNIT_PRICE, FAIL_PRICE, DELIVERY_FEE = 5000, 500, 70


def restart(group, name, start):
    child = next(child for child in group.children if child.name == name)
    child.process.terminate()
    child.process.wait(30)
    group.children.remove(child)
    start()


class Net:
    """A devnet whose bridge and nodes take `good` as payment, and not `other`; the requester has plenty of both."""

    def __init__(self, group, devnet, client, http, prepared):
        self.devnet, self.client, self.http, self.prepared = devnet, client, http, prepared
        self.views = BridgeViews(client, devnet.contract)
        self.requester = devnet.signer("requester")
        self.good, self.other = (Token(client, devnet.signer("deployer")) for _ in range(2))
        for token in (self.good, self.other):
            token.mint(self.requester.address, 10**6)
        with Path(devnet.folder, "bridge", "bridge.toml").open("a") as config:
            config.write(f"\n[dispatch.tokens.{self.good.address}]\n")
            config.write(f'min_unit_price = "{UNIT_PRICE}"\nmin_delivery_fee = "{DELIVERY_FEE}"\n')
        restart(group, "bridge", lambda: devnet_net.start_bridge(group, devnet))
        for node in devnet.nodes:
            prices = f'min_unit_price = "{UNIT_PRICE}"\nmin_fail_price = "{FAIL_PRICE}"\n'
            policy = f'min_unit_price = "{10**30}"\n[tokens.{self.good.address}]\n{prices}'
            Path(node.folder, "policy.toml").write_text(policy)
            restart(group, f"node-{node.name}", lambda node=node: devnet_net.start_node(group, node))
        devnet_net.wait_ready(group, devnet)

    def order(self, token, **prices):
        """Order a job that is paid in a token; its id."""
        engine = {"type": "wasm", "module": str(self.prepared.logstat), "args": ["/inputs/access.log"]}
        inputs = [{"cid": str(self.prepared.log), "path": "/inputs/access.log"}]
        spec = json.dumps({"version": "insula/v1", "engine": engine, "inputs": inputs}).encode()
        values = {"unit_price": UNIT_PRICE, "fail_price": FAIL_PRICE, "delivery_fee": DELIVERY_FEE} | prices
        order = Order(spec=spec, ttl=600, curator=self.devnet.curator, token=token.address, **values)
        let_take(self.client, self.requester, self.devnet.contract, token.address, order.price)
        request_job(self.client, self.requester, self.devnet.contract, order)
        return self.views.request_count()

    def explained(self, request_id):
        answer = json.loads(self.http.call("GET", "/v1/jobs?limit=500").body)
        if request_id not in {job["request_id"] for job in answer["jobs"]}:
            return {"code": 0, "detail": ""}
        return json.loads(self.http.call("GET", f"/v1/jobs/{request_id}/explain").body)


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokens") / "net"
    folder.mkdir()
    with ProcessGroup(folder) as group:
        devnet = devnet_net.start(group, init_node, print)
        prepared = prepare(devnet, folder, with_image=False, clock=time.time())
        with ChainClient(devnet.rpc_url) as client, Http(devnet.bridge_url) as http:
            yield Net(group, devnet, client, http, prepared)


def test_a_job_that_pays_enough_in_a_token_runs_and_pays_node_and_relayer_in_it(net):
    request_id = net.order(net.good)

    wait_for(lambda: net.views.result_of(request_id).state is OnChainState.FULFILLED, WAIT, "the result")
    token = net.good.address
    paid = {node.operator: net.views.credit_of(node.operator, token) for node in net.devnet.nodes}
    assert sorted(paid.values()) == [0, 0, UNIT_PRICE]
    assert net.views.credit_of(net.devnet.signer("relayer").address, token) == DELIVERY_FEE
    assert net.good.balance_of(net.devnet.contract) == UNIT_PRICE + DELIVERY_FEE


#: what is wrong -> (which token, its prices, what explain says)
REFUSED = {
    "a token without prices": ("other", {}, "it pays in the token"),
    "too little for the nodes": ("good", {"unit_price": UNIT_PRICE - 1}, f"this bridge's minimum is {UNIT_PRICE}"),
    "too little for the relayer": ("good", {"delivery_fee": 0}, f"this bridge's minimum is {DELIVERY_FEE}"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_job_that_the_bridge_does_not_start_for_its_price_says_so(net, what):
    name, prices, said = REFUSED[what]

    request_id = net.order(getattr(net, name), **prices)

    wait_for(lambda: said in net.explained(request_id)["detail"], WAIT, "the reason")
    assert net.views.result_of(request_id).state is OnChainState.REQUESTED


def test_a_job_below_the_nodes_own_price_in_a_token_says_so(net):
    request_id = net.order(net.good, fail_price=FAIL_PRICE - 1)

    def told():
        return {node["text"] for node in net.explained(request_id).get("nodes", ())}

    wait_for(lambda: told() == {f"failPrice {FAIL_PRICE - 1} is below its minimum of {FAIL_PRICE}"}, WAIT, "the reason")
