"""A whole node against the bridge's real API, dispatcher, database and block store; only the chain is not there."""

import socket
import threading
import time
from contextlib import contextmanager

import httpx
import pytest
import wasmtime

from bridge.api.app import create_app
from bridge.api.server import run_server
from bridge.config import DispatchConfig
from bridge.jobs import JobState
from executor.agent.config import init_node
from executor.agent.review import open_review
from executor.agent.service import node_status
from executor.content.blockstore import BlockStore
from executor.content.importer import import_bytes, import_listing
from executor.content.limits import TreeLimits
from executor.content.reader import read_file, resolve
from executor.content.roots import RootSet
from executor.content.walk import missing
from executor.protocol.cid import Cid
from executor.protocol.nodeauth import Audience
from executor.protocol.reasons import Reason
from executor.protocol.signing import Key
from executor.protocol.wire import Outcome, ResultKind, Status
from executor.sandbox.types import Probe
from executor.sandbox.wasm import WasmSandbox
from tests.agent_kit import node_running
from tests.bridge_kit import CHAIN_ID, CONTRACT, CURATOR, SCOPE, Bridge, operator_of, order_of, spec_bytes
from tests.chain_nodes import wait_for

ECHO = """
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "42\\n")
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 100))
    (i32.store (i32.const 4) (i32.const 3))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))
"""


class RealClock:
    def __call__(self):
        return time.time()

    @property
    def now(self):
        return time.time()


class ProvedWasm(WasmSandbox):
    """The sandbox itself; its limits are proved in its own tests."""

    def probe(self, cancelled=None):
        return Probe("wasm", usable=True, version="", problem="")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def bridge(tmp_path):
    (tmp_path / "bridge").mkdir()
    bridge = Bridge(tmp_path / "bridge", dispatch=DispatchConfig(heartbeat_seconds=0.3))
    bridge.clock = RealClock()
    bridge.restarted()
    bridge.chain_at(110)
    yield bridge
    bridge.close()


@pytest.fixture
def url(bridge):
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    server = run_server(
        create_app(bridge.dispatcher, bridge.engine, Audience(SCOPE, url), bridge.clock), "127.0.0.1", port
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_for(lambda: server.started, 30, "the API")
    yield url
    server.should_exit = True
    thread.join(15)
    assert not thread.is_alive()


@pytest.fixture
def node(bridge, url, tmp_path):
    with running_node(bridge, url, tmp_path / "node") as folder:
        yield folder


@contextmanager
def running_node(bridge, url, folder, policy="", **fields):
    made = init_node(
        folder,
        bridge_url=url,
        chain_id=CHAIN_ID,
        bridge_contract=CONTRACT,
        registry=CONTRACT,
        labels=("node=admitted", "site=camera"),
        tiers=("wasm",),
        poll_seconds=0.2,
        **fields,
    )
    node_id = bridge.registry.register(made["key"], operator_of("a"), ["node=admitted", "site=camera"])
    bridge.registry.vouch(CURATOR, node_id, "node=admitted", "site=camera")
    (folder / "policy.toml").write_text(policy)
    with node_running(folder, ProvedWasm()):
        yield folder


def stepping(bridge, condition):
    """Step the bridge's own loop until the condition holds."""

    def check():
        bridge.dispatcher.step()
        return condition()

    return wait_for(check, 30, "what the bridge is to see")


def engine(bridge, text=ECHO):
    return {"type": "wasm", "module": str(public(bridge, import_bytes(bridge.store, bytes(wasmtime.wat2wasm(text)))))}


def public(bridge, cid):
    """As after `content add --public`."""
    bridge.dispatcher.roots.publish(cid, "test")
    return cid


def test_an_order_becomes_a_delivery_whose_output_the_bridge_holds(bridge, node):
    data = public(bridge, import_listing(bridge.store, {"a/b.txt": b"x" * 2_500_000, "c": b""}, TreeLimits(10**8)))
    spec = spec_bytes(engine=engine(bridge), inputs=[{"cid": str(data), "path": "/inputs/d"}], selector="site=camera")

    job = bridge.request(order_of("site=camera", spec=spec, result_kind=int(ResultKind.STDOUT)))

    stepping(bridge, lambda: bridge.job(job.request_hash).state is JobState.POSTING)
    (delivery,) = bridge.outbox.deliveries
    assert delivery.outcome.status == Status.SUCCEEDED
    assert delivery.outcome.payload == b"42\n"
    root = Cid.from_binary(delivery.outcome.output_cid)
    assert missing(bridge.store, root) == []
    assert b"".join(read_file(bridge.store, resolve(bridge.store, root, "stdout"), 100)) == b"42\n"
    assert node_status(node)["signed"] == 1


@pytest.mark.parametrize("approve", [True, False], ids=["approved", "rejected"])
def test_a_held_output_waits_at_the_bridge_for_its_reviewer(bridge, url, tmp_path, approve):
    reviewer = Key.from_hex(f"{11:064x}")
    policy = f'[release]\nmode = "person"\nsigners = ["{reviewer.address}"]\n'
    with running_node(bridge, url, tmp_path / "node", policy) as node:
        job = bridge.request(order_of(spec=spec_bytes(engine=engine(bridge))))
        stepping(bridge, lambda: bridge.job(job.request_hash).state is JobState.HELD)
        blocks = set(bridge.store)

        with open_review(node) as review:
            hold = review.find(f"0x{job.request_hash.hex()}")
            review.decide(hold, approve, 0 if approve else 300, reviewer)
        stepping(bridge, lambda: bridge.job(job.request_hash).state is JobState.POSTING)

    (delivery,) = bridge.outbox.deliveries
    if approve:
        assert delivery.outcome.status == Status.SUCCEEDED
        assert missing(bridge.store, Cid.from_binary(delivery.outcome.output_cid)) == []
    else:
        assert delivery.outcome == Outcome(status=Status.WITHHELD, reason=Reason.RELEASE_REJECTED)
        assert set(bridge.store) == blocks


def test_a_held_output_comes_to_the_bridge_in_part(bridge, url, tmp_path):
    reviewer = Key.from_hex(f"{11:064x}")
    policy = f'[release]\nmode = "person"\nsigners = ["{reviewer.address}"]\n'
    with running_node(bridge, url, tmp_path / "node", policy) as node:
        spec = spec_bytes(engine=engine(bridge))
        job = bridge.request(order_of(spec=spec, result_kind=int(ResultKind.STDOUT)))
        stepping(bridge, lambda: bridge.job(job.request_hash).state is JobState.HELD)

        with open_review(node) as review:
            hold = review.find(f"0x{job.request_hash.hex()}")
            made = review.redact(hold, [], {"stdout": b"a number\n"})
            review.decide(hold, True, 0, reviewer, made["id"])
        stepping(bridge, lambda: bridge.job(job.request_hash).state is JobState.POSTING)

    (delivery,) = bridge.outbox.deliveries
    outcome = delivery.outcome
    assert (outcome.status, outcome.reason, outcome.payload) == (
        Status.SUCCEEDED, Reason.RELEASED_IN_PART, b"a number\n",
    )  # fmt: skip
    assert missing(bridge.store, Cid.from_binary(outcome.output_cid)) == []
    assert b"42\n" not in [bridge.store.get(cid) for cid in bridge.store]


def test_a_spec_by_cid_runs(bridge, node):
    spec = public(bridge, import_bytes(bridge.store, spec_bytes(engine=engine(bridge))))

    job = bridge.request(order_of(spec=spec.binary, spec_is_cid=True))

    stepping(bridge, lambda: bridge.job(job.request_hash).state is JobState.POSTING)
    assert bridge.outbox.deliveries[0].outcome.status == Status.SUCCEEDED


@pytest.mark.parametrize(
    "spec",
    [
        b"\xff",
        b"{",
        b'{"version": "insula/v1", "version": "insula/v1"}',
        spec_bytes(more=1),
        spec_bytes(limits={"wallSeconds": 0}),
        b'{"\\ud800": 1, "\\ud800": 2}',
        b"[" * 20,
    ],
    ids=[
        "not UTF-8",
        "not JSON",
        "a duplicate key",
        "an unknown field",
        "a limit out of range",
        "a lone surrogate",
        "deep",
    ],
)
def test_a_spec_that_can_never_run_is_delivered_as_refused(bridge, node, spec):
    job = bridge.request(order_of(spec=spec))

    stepping(bridge, lambda: bridge.job(job.request_hash).state is JobState.POSTING)
    assert bridge.outbox.deliveries[0].outcome.status == Status.REFUSED


def test_an_orphaned_request_stops_at_the_node(bridge, node):
    loop = '(module (memory (export "memory") 1) (func (export "_start") (loop $l (br $l))))'
    job = bridge.request(order_of(spec=spec_bytes(engine=engine(bridge, loop))))
    wait_for(lambda: [row for row in node_status(node)["running"] if row["state"] == "running"], 30, "a running job")

    bridge.set_job(job.request_hash, state="orphaned")

    stepping(bridge, lambda: node_status(node)["running"] == [])
    assert node_status(node)["last"][0]["state"] == "lost"
    assert node_status(node)["signed"] == 0


def test_a_node_serves_its_result_once_it_is_posted_and_for_thirty_days(bridge, url, tmp_path):
    port = free_port()
    with running_node(bridge, url, tmp_path / "node", gateway_port=port) as folder:
        job = bridge.request(order_of("site=camera", spec=spec_bytes(engine=engine(bridge), selector="site=camera")))
        stepping(bridge, lambda: bridge.job(job.request_hash).state is JobState.POSTING)
        root = Cid.from_binary(bridge.job(job.request_hash).outcome.output_cid)
        here, there = f"http://127.0.0.1:{port}/ipfs/{root}?format=car", f"{url}/ipfs/{root}?format=car"
        wait_for(lambda: node_status(folder)["running"] == [], 30, "the end of all jobs")
        assert [httpx.get(address).status_code for address in (here, there)] == [404, 404]

        bridge.set_job(job.request_hash, state="posted")

        wait_for(lambda: httpx.get(here).status_code == 200, 30, "the gateway")
        assert httpx.get(there).content == httpx.get(here).content
        [kept] = RootSet(BlockStore(folder / "content")).live(time.time(), root)
        assert kept.expires_at == pytest.approx(time.time() + 30 * 86400, abs=60)
        shown = httpx.get(f"{url}/v1/jobs/{job.request.id}").json()["output_public_until"]
        assert shown == pytest.approx(time.time() + 30 * 86400, abs=60)
        for cid in bridge.dispatcher.matcher.plan(bridge.job(job.request_hash)).content:
            assert httpx.get(f"http://127.0.0.1:{port}/ipfs/{cid}?format=raw").status_code == 404
