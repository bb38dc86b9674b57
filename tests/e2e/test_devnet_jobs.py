"""More jobs on one running devnet: quorums, refusals, cancellation, a node that joins."""

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.chain.client import ChainClient
from bridge.chain.contracts import cancel_calldata, compute_bridge, draw_cancelled_calldata
from bridge.chain.operate import join_key, register_node, request_job, send_and_wait, vouch
from bridge.chain.views import BridgeViews
from bridge.demo.content import prepare
from bridge.devnet import net as devnet_net
from bridge.devnet.processes import ProcessGroup
from bridge.verify import check_bundle
from executor.agent.config import init_node
from executor.agent.service import node_status
from executor.content.blockstore import BlockStore
from executor.content.patience import Patience
from executor.content.retrieval import Retriever
from executor.content.sources import gateway_source
from executor.content.walk import missing
from executor.content.web import Http
from executor.errors import PeerError
from executor.protocol.bundle import MAX_BUNDLE_BYTES, Bundle
from executor.protocol.cid import Cid
from executor.protocol.conversions import conversion_report
from executor.protocol.reasons import Reason
from executor.protocol.signing import Key
from executor.protocol.wire import OnChainState, Order, Outcome, ResultKind, label_hash
from tests.chain_nodes import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.chain, pytest.mark.timeout(240)]

WAIT = 60.0


class Net:
    """A devnet with the demo's programs on it, and an account that orders."""

    def __init__(self, group, devnet, client, http, prepared):
        self.group, self.devnet, self.client, self.http, self.prepared = group, devnet, client, http, prepared
        self.views = BridgeViews(client, devnet.contract)
        self.requester = devnet.signer("requester")

    def order(self, spec, **fields):
        """Order straight at the contract; the request id."""
        values = {"ttl": 120, "curator": self.devnet.curator, "unit_price": 1000, "fail_price": 100, "delivery_fee": 10}
        order = Order(spec=spec, **(values | fields))
        receipt = request_job(self.client, self.requester, self.devnet.contract, order)
        topic = compute_bridge().event_topic("JobRequested")
        logs = self.client.logs_by_range(receipt.block_number, receipt.block_number, self.devnet.contract)
        (log,) = [log for log in logs if log.tx_hash == receipt.tx_hash and log.topics[0] == topic]
        request_id = int.from_bytes(log.topics[1], "big")
        wait_for(lambda: self.is_seen(request_id), WAIT, "the bridge to see the request")
        return request_id, order

    def is_seen(self, request_id):
        return request_id in {job["request_id"] for job in self.json("/v1/jobs?limit=500")["jobs"]}

    def settled(self, request_id):
        """Wait for the contract's word, and for the bridge to have seen it."""
        wait_for(lambda: self.views.result_of(request_id).state != OnChainState.REQUESTED, WAIT, "a result")
        wait_for(lambda: self.json(f"/v1/jobs/{request_id}")["settled_tx"], WAIT, "the bridge to see it")
        return self.views.result_of(request_id).state

    def json(self, path):
        return json.loads(self.http.call("GET", path).body)

    def bundle(self, request_id):
        body = self.http.call("GET", f"/v1/jobs/{request_id}/bundle", max_bytes=MAX_BUNDLE_BYTES).body
        return Bundle.model_validate_json(body)

    def outcome(self, request_id):
        return Outcome.decode(self.bundle(request_id).outcome)

    def spec(self, module=None, **fields):
        engine = {"type": "wasm", "module": str(module or self.prepared.logstat), "args": ["/inputs/access.log"]}
        inputs = [{"cid": str(self.prepared.log), "path": "/inputs/access.log"}]
        return json.dumps({"version": "insula/v1", "engine": engine, "inputs": inputs} | fields).encode()


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    folder = tmp_path_factory.mktemp("net") / "net"
    folder.mkdir()
    with ProcessGroup(folder) as group:
        devnet = devnet_net.start(group, init_node, print)
        prepared = prepare(devnet, folder, with_image=False, clock=time.time())
        with ChainClient(devnet.rpc_url) as client, Http(devnet.bridge_url) as http:
            yield Net(group, devnet, client, http, prepared)


def test_a_quorum_of_two_of_three_pays_each_operator_that_agreed(net):
    before = {node.operator: net.views.credit_of(node.operator) for node in net.devnet.nodes}

    request_id, _ = net.order(net.spec(), nodes=3, quorum=2, result_kind=int(ResultKind.STDOUT))

    assert net.settled(request_id) == OnChainState.FULFILLED
    attested = {item.operator for item in net.bundle(request_id).attestations}
    assert len(attested) >= 2
    paid = {
        node.operator for node in net.devnet.nodes if net.views.credit_of(node.operator) == before[node.operator] + 1000
    }
    assert paid == attested


def test_a_node_that_saw_its_result_on_chain_gives_it_to_others_without_the_bridge(net, tmp_path):
    request_id, _ = net.order(net.spec(), ttl=300)
    net.settled(request_id)
    root = Cid.from_binary(net.outcome(request_id).output_cid)
    gateways = [node_status(Path(node.folder))["gateway"] for node in net.devnet.nodes]
    store = BlockStore(tmp_path)
    with Retriever([gateway_source(url) for url in gateways], store) as retriever:

        def fetched():
            try:
                retriever.fetch(root, max_bytes=2**30, patience=Patience(time.time() + 20))
            except PeerError:
                return False
            return True

        wait_for(fetched, WAIT, "a node's gateway to have the result")

    assert not missing(store, root)
    assert net.json(f"/v1/jobs/{request_id}")["output_public_until"] > time.time() + 29 * 86400


BAD_SPECS = {
    "raw bytes": (b"\xff\xfe\xfd\x00", Reason.SPEC_NOT_UTF8),
    "not JSON": (b"}{", Reason.SPEC_NOT_JSON),
    "duplicate keys": (b'{"version":"insula/v1","version":"insula/v1"}', Reason.SPEC_DUPLICATE_KEY),
    "an unknown engine": (b'{"version":"insula/v1","engine":{"type":"vm"}}', Reason.UNKNOWN_ENGINE),
    "sixteen KiB of brackets": (b"[" * 16384, Reason.SPEC_TOO_LARGE),
}


@pytest.mark.parametrize("what", BAD_SPECS)
def test_a_spec_that_can_never_run_is_refused_by_attestation_and_refunded(net, what):
    spec, reason = BAD_SPECS[what]
    before = net.views.credit_of(net.requester.address)

    request_id, order = net.order(spec)

    assert net.settled(request_id) == OnChainState.REFUSED
    assert net.outcome(request_id).reason == reason
    assert net.views.credit_of(net.requester.address) == before + order.unit_price


def test_a_spec_in_another_dialect_than_the_orders_is_refused(net):
    request_id, _ = net.order(net.spec(), dialect=3)

    assert net.settled(request_id) == OnChainState.REFUSED
    assert net.outcome(request_id).reason == Reason.SPEC_MISSING_FIELD


def job_file(net):
    """A job file of Bacalhau 1.x."""
    source = "Source: {{Type: ipfs, Params: {{CID: {}}}}}"
    return f"""
        Type: batch
        Tasks:
          - Engine: {{Type: wasm, Params: {{EntryModule: logstat, Parameters: [/inputs/access.log]}}}}
            InputSources:
              - {{Alias: logstat, Target: /logstat.wasm, {source.format(net.prepared.logstat)}}}
              - {{Target: /inputs/access.log, {source.format(net.prepared.log)}}}
            Timeouts: {{ExecutionTimeout: 20}}
        """.encode()


def test_a_job_file_of_bacalhau_gives_the_same_output_as_our_own_and_its_report_is_explained(net):
    ours, _ = net.order(net.spec())
    theirs, order = net.order(job_file(net), dialect=3)

    assert net.settled(ours) == net.settled(theirs) == OnChainState.FULFILLED
    assert net.outcome(theirs).output_cid == net.outcome(ours).output_cid
    told = net.json(f"/v1/jobs/{theirs}/explain")["conversion"]
    assert told["report_sha256"] == conversion_report(order, order.spec)["reportSha256"]
    assert [check for check in check_bundle(net.bundle(theirs)) if check.failed] == []


def v1beta(net, **changes):
    """A spec as callers of Lilypad v0 write it."""
    stored = {"StorageSource": "IPFS", "CID": str(net.prepared.logstat)}
    spec = {
        "Engine": "wasm",
        "PublisherSpec": {"Type": "Estuary"},
        "Wasm": {"EntryModule": stored, "Parameters": ["/inputs/access.log"]},
        "inputs": [{"StorageSource": "IPFS", "CID": str(net.prepared.log), "path": "/inputs/access.log"}],
        "Outputs": [{"Name": "outputs", "Path": "/outputs"}],
        "Resources": {"GPU": ""},
        "Timeout": 20,
    }
    return json.dumps(spec | changes).encode()


def test_a_spec_of_lilypad_v0_gives_the_same_stdout_as_our_own(net):
    kind = int(ResultKind.STDOUT)
    ours, _ = net.order(net.spec(), result_kind=kind)
    theirs, _ = net.order(v1beta(net), dialect=2, nodes=3, quorum=2, result_kind=kind)

    assert net.settled(ours) == net.settled(theirs) == OnChainState.FULFILLED
    assert net.outcome(theirs).payload == net.outcome(ours).payload != b""
    assert net.outcome(theirs).output_cid == net.outcome(ours).output_cid


def test_a_spec_of_lilypad_v0_that_cannot_run_is_refused_and_refunded(net):
    before = net.views.credit_of(net.requester.address)

    request_id, order = net.order(v1beta(net, Resources={"GPU": "1"}), dialect=2)

    assert net.settled(request_id) == OnChainState.REFUSED
    assert net.outcome(request_id).reason == Reason.SPEC_UNSUPPORTED
    assert net.views.credit_of(net.requester.address) == before + order.unit_price


def test_a_program_that_is_none_fails_and_the_next_job_is_unaffected(net):
    bad, _ = net.order(net.spec(module=net.prepared.log))
    good, _ = net.order(net.spec())

    assert net.settled(bad) == OnChainState.FAILED
    assert net.outcome(bad).reason == Reason.PROGRAM_INVALID
    assert net.settled(good) == OnChainState.FULFILLED


def test_an_input_that_nobody_has_is_explained_and_cancelled_by_its_requester(net):
    absent = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvykq"
    spec = net.spec(inputs=[{"cid": absent, "path": "/inputs/access.log"}], limits={"wallSeconds": 5})
    before = net.views.credit_of(net.requester.address)
    request_id, order = net.order(spec)
    wait_for(
        lambda: any(row["reason"] == "INPUT_NOT_FOUND" for row in leases(net, request_id)), WAIT, "a returned lease"
    )

    send_and_wait(net.client, net.requester, net.devnet.contract, cancel_calldata(request_id, order))
    marked = net.views.request_of(request_id).cancel_marked_at
    wait_for(lambda: net.client.head().timestamp >= marked + devnet_net.CANCEL_DELAY, WAIT, "the cancel delay")
    send_and_wait(net.client, net.requester, net.devnet.contract, draw_cancelled_calldata(request_id, order))

    assert net.settled(request_id) == OnChainState.CANCELLED
    assert net.views.credit_of(net.requester.address) == before + order.price


def leases(net, request_id):
    return net.json(f"/v1/jobs/{request_id}/explain")["leases"]


def test_a_fourth_node_joins_and_gets_the_job_for_its_label(net, tmp_path):
    devnet, operator = net.devnet, net.devnet.signer("gpu")
    folder = tmp_path / "node"
    init_node(
        folder, bridge_url=devnet.bridge_url, chain_id=devnet.chain_id, bridge_contract=devnet.contract,
        registry=devnet.registry, labels=("site=roof",), rpc_url=devnet.rpc_url, poll_seconds=1.0, tiers=("wasm",),
    )  # fmt: skip
    node_id = register_node(net.client, operator, devnet.registry, ("site=roof",))
    join_key(net.client, operator, devnet.registry, node_id, Key.load(f"file:{folder / 'key'}"))
    fourth = replace(devnet.nodes[0], name="roof", node_id=node_id, folder=str(folder))
    request_id, _ = net.order(net.spec(selector="site=roof"), labels=(label_hash("site=roof"),))
    devnet_net.start_node(net.group, fourth)
    wait_for(lambda: node_id in {n["node_id"] for n in net.json("/v1/nodes")["nodes"]}, WAIT, "the fourth node")
    assert net.views.result_of(request_id).state == OnChainState.REQUESTED  # registered, but the curator has not spoken

    vouch(net.client, devnet.signer("deployer"), devnet.registry, node_id, ["site=roof"])

    assert net.settled(request_id) == OnChainState.FULFILLED
    assert [item.node_id for item in net.bundle(request_id).attestations] == [node_id]
