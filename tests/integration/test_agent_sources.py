"""A node's inputs from its bridge, from other gateways and from a Kubo: real servers, good, silent, lying and gone."""

import os
import threading
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from executor.agent.classes import Classes
from executor.agent.outside import Outside, outside_of
from executor.agent.service import node_status
from executor.audit.policy import DataClass
from executor.content.blocks import MemoryBlocks
from executor.content.blockstore import BlockStore
from executor.content.car import write_car
from executor.content.importer import import_bytes, import_listing
from executor.content.kubo import Kubo
from executor.content.limits import TreeLimits
from executor.content.patience import Patience
from executor.content.reader import resolve
from executor.content.retrieval import Pace
from executor.content.sources import Source
from executor.content.walk import missing, stored_size, walk
from executor.errors import DiskFull, PeerRefused, PeerUnavailable
from executor.protocol.cid import RAW
from executor.protocol.reasons import Reason
from executor.protocol.receipt import parse_receipt
from executor.protocol.wire import Status
from tests.agent_kit import new_node, node_running
from tests.agent_twin import REQUESTER, Fault, order
from tests.api_kit import serving
from tests.bridge_kit import Bridge
from tests.chain_nodes import wait_for
from tests.faulty_sources import Content, Gateway, cid_in, faulty, garbled
from tests.integration.test_agent_rules import Scripted
from tests.integration.test_agent_secrets import Chain
from tests.integration.test_agent_wasm_job import LOGSTAT, ProvedWasm
from tests.raw_server import RawServer, head, send, silent

MIB = 2**20
LIMITS = TreeLimits(10**9)
PACE = Pace(hedge=0.2, progress=1.0)
AWAY = {"status": 503, "times": 10**6}
HAS_IT_NOT = {"status": 404, "times": 10**6}


@pytest.fixture
def fresh():
    """A tree that no other test has, and its blocks."""
    return Content(blocks := MemoryBlocks(), import_listing(blocks, {"a": os.urandom(MIB + 5), "d/b": b"b"}, LIMITS))


@contextmanager
def node(tmp_path, twin, act=lambda execution: None, policy="", sandbox=None, **fields):
    """A running node; its folder and its sandbox."""
    folder = tmp_path / "node"
    if not folder.exists():
        new_node(twin, folder, **fields)
        (folder / "policy.toml").write_text(policy)
    sandbox = sandbox or Scripted(act)
    with node_running(folder, sandbox):
        yield folder, sandbox


def job_of(twin, root, **changes):
    module = import_bytes(twin.blocks, b"\0asm module")
    inputs = [{"cid": str(root), "path": "/inputs/data"}]
    return {"version": "insula/v1", "engine": {"type": "wasm", "module": str(module)}, "inputs": inputs, **changes}


def ended(twin):
    (found,) = twin.wait_for(lambda: twin.attested or twin.returned, 60)
    return found


def attested(twin):
    found = ended(twin)
    assert twin.attested, found
    assert found.decoded().status == Status.SUCCEEDED
    return found


def returned(twin):
    found = ended(twin)
    assert twin.returned, found
    return found


def source_of(attested):
    definition = parse_receipt(attested.receipt)["predicate"]["buildDefinition"]
    return {item["name"]: item["annotations"] for item in definition["resolvedDependencies"]}["/inputs/data"]["source"]


# -- whole nodes ------------------------------------------------------------------------------------------------------


def test_an_input_that_the_bridge_cannot_bring_comes_from_a_peer_that_has_it(twin, tmp_path, fresh):
    seen = []

    def act(execution):
        seen.append((execution.inputs[0].source / "d" / "b").read_bytes())

    job = job_of(twin, fresh.root)
    with Gateway(fresh) as peer, node(tmp_path, twin, act, gateways=[peer.url]):
        twin.faults[f"/car/{fresh.root}"] = Fault(**AWAY)
        twin.offer(order(job))

        assert source_of(attested(twin)) == f"gateway:{peer.url}"
    assert seen == [b"b"]


def test_while_the_bridge_brings_everything_nobody_else_is_asked(twin, tmp_path, fresh):
    twin.blocks.put_many((cid, fresh.blocks.get(cid)) for cid in fresh.blocks)
    with Gateway(fresh) as peer, node(tmp_path, twin, gateways=[peer.url]):
        twin.offer(order(job_of(twin, fresh.root)))

        assert source_of(attested(twin)) == f"bridge:{twin.url}"
        assert peer.calls == []


def test_what_is_on_the_node_is_read_again_with_the_bridges_word_and_comes_from_nowhere(twin, tmp_path, fresh):
    twin.blocks.put_many((cid, fresh.blocks.get(cid)) for cid in fresh.blocks)
    job = job_of(twin, fresh.root)
    with Gateway(fresh) as peer, node(tmp_path, twin, gateways=[peer.url]) as (folder, _):
        twin.offer(order(job))
        attested(twin)
        twin.wait_for(lambda: node_status(folder)["running"] == [])
        twin.attested.clear()
        twin.offer(order(job), request_id=2, token=2)

        assert source_of(attested(twin)) == "cache"
        assert peer.calls == []


def test_a_peer_that_lies_is_asked_once_and_the_jobs_run_all_the_same(twin, tmp_path, fresh):
    other = Content.of(os.urandom(1000))
    job, second = job_of(twin, fresh.root), job_of(twin, other.root)
    with (
        RawServer(send(head(), garbled(fresh.car))) as liar,
        Gateway(fresh) as good,
        Gateway(other) as better,
        node(tmp_path, twin, gateways=[liar.url, good.url, better.url]) as (folder, _),
    ):
        twin.faults = {f"/car/{root}": Fault(**HAS_IT_NOT) for root in (fresh.root, other.root)}
        twin.offer(order(job))
        assert good.url in source_of(attested(twin))
        twin.wait_for(lambda: node_status(folder)["running"] == [])
        twin.attested.clear()
        asked = len(liar.calls)
        twin.offer(order(second), request_id=2, token=2)

        assert source_of(attested(twin)) == f"gateway:{better.url}"
        assert asked == len(liar.calls) == 1


def test_a_peer_that_stalls_is_left_for_one_that_does_not(twin, tmp_path, fresh):
    with (
        RawServer(silent) as stalls,
        Gateway(fresh) as good,
        node(tmp_path, twin, gateways=[stalls.url, good.url]),
    ):
        twin.faults[f"/car/{fresh.root}"] = Fault(**HAS_IT_NOT)
        twin.offer(order(job_of(twin, fresh.root)))

        assert source_of(attested(twin)) == f"gateway:{good.url}"
        assert stalls.calls


def test_an_input_comes_from_the_operators_kubo_whose_address_no_receipt_names(twin, tmp_path, fresh, kubo):
    with Kubo(kubo.api) as daemon:
        daemon.publish(fresh.blocks, fresh.root)
    with node(tmp_path, twin, kubo=kubo.api):
        twin.faults[f"/car/{fresh.root}"] = Fault(**AWAY)
        twin.offer(order(job_of(twin, fresh.root)))

        found = attested(twin)
    assert source_of(found) == "kubo"
    assert kubo.api.encode() not in found.receipt


def test_several_sources_that_complete_an_input_together_are_each_named_with_its_share(twin, tmp_path, fresh):
    has = {cid for cid in fresh.blocks if cid.codec != RAW}
    with Blocks(fresh, has) as one, node(tmp_path, twin, gateways=[one.url]):
        twin.blocks.put_many((cid, fresh.blocks.get(cid)) for cid in fresh.blocks)
        twin.faults[f"/car/{fresh.root}"] = Fault(**HAS_IT_NOT)
        twin.offer(order(job_of(twin, fresh.root)))

        told = source_of(attested(twin))
    assert told.startswith(f"bridge:{twin.url} (")
    assert f", gateway:{one.url} (" in told
    assert sum(int(part.split(" (")[1].split()[0]) for part in told.split(", ")) == len(fresh.blocks)


def test_an_input_that_is_too_large_goes_back_as_such_whoever_brings_it(twin, tmp_path, fresh):
    with Gateway(fresh) as peer, node(tmp_path, twin, policy="max_each_input_bytes = 1000", gateways=[peer.url]):
        twin.faults[f"/car/{fresh.root}"] = Fault(**HAS_IT_NOT)
        twin.offer(order(job_of(twin, fresh.root)))

        assert returned(twin).reason == Reason.INPUT_TOO_LARGE


def test_an_input_that_nobody_has_goes_back_and_says_nothing_of_the_operators_own_network(twin, tmp_path, fresh):
    with faulty("has it not", fresh) as url, node(tmp_path, twin, gateways=[url]):
        twin.offer(order(job_of(twin, fresh.root)))

        found = returned(twin)
    assert found.reason == Reason.INPUT_NOT_FOUND
    assert url not in found.detail
    assert str(fresh.root) in found.detail


@pytest.mark.parametrize("end", ["the lease is lost", "the node stops"])
def test_a_fetch_that_is_not_wanted_any_longer_closes_its_sockets(twin, tmp_path, fresh, end):
    hung_up = threading.Event()

    def watched(connection, stopping):
        connection.settimeout(30)
        if connection.recv(1) == b"":
            hung_up.set()

    with RawServer(watched) as stalls:
        before = sockets()
        with node(tmp_path, twin, gateways=[stalls.url]) as (folder, _):
            twin.faults[f"/car/{fresh.root}"] = Fault(**HAS_IT_NOT)
            twin.offer(order(job_of(twin, fresh.root)))
            twin.wait_for(lambda: stalls.calls)
            if end == "the lease is lost":
                twin.go_on = False
                assert hung_up.wait(5)
                twin.wait_for(lambda: node_status(folder)["running"] == [])
        assert hung_up.wait(5)
        twin.wait_for(lambda: sockets() <= before)


def sockets():
    """Open sockets of this process, servers of the test among them."""
    count = 0
    for path in Path("/proc/self/fd").iterdir():
        try:
            count += str(path.readlink()).startswith("socket:")
        except FileNotFoundError:
            continue
    return count


def test_a_wasm_job_runs_on_a_node_that_gets_its_input_from_a_real_gateway(twin, tmp_path):
    (tmp_path / "other").mkdir()
    bridge = Bridge(tmp_path / "other")
    root = import_listing(bridge.store, {"a.txt": b"2024-05-01T00:00:00Z INFO ap-1 x\n"}, LIMITS)
    hidden = import_listing(bridge.store, {"a.txt": b"hidden"}, LIMITS)
    bridge.dispatcher.roots.publish(root, "upload:all")
    program = str(import_bytes(twin.blocks, LOGSTAT.read_bytes()))
    engine = {"type": "wasm", "module": program, "args": ["/inputs/data/a.txt"]}
    job = job_of(twin, root, engine=engine)
    with (
        serving(bridge) as other,
        node(tmp_path, twin, sandbox=ProvedWasm(), tiers=("wasm",), gateways=[other.base]) as (folder, _),
    ):
        twin.offer(order(job))
        assert source_of(attested(twin)) == f"gateway:{other.base}"
        twin.wait_for(lambda: node_status(folder)["running"] == [])
        twin.attested.clear()
        twin.offer(order(job_of(twin, hidden, engine=engine)), request_id=2, token=2)

        assert returned(twin).reason == Reason.INPUT_NOT_FOUND
    bridge.close()


# -- what others' jobs left on a node ---------------------------------------------------------------------------------


def around(content):
    """A directory that a stranger makes around the CID of somebody else's file, knowing nothing of its bytes."""
    blocks = MemoryBlocks()
    root = import_listing(blocks, {"loot": content.blocks.get(leaf_of(content))}, LIMITS)
    return Content(blocks, root)


def leaf_of(content):
    return resolve(content.blocks, content.root, "d/b")


#: what a stranger names -> what the gateway has of it, and whether his job runs
STRANGERS = {
    "abuse: the root, which no gateway has": (lambda c: c, lambda c: set(), False),
    "abuse: the root, of which a gateway has the first block": (lambda c: c, lambda c: {c.root}, False),
    "abuse: a directory around a file of it, published without the file": (
        around,
        lambda c: {cid for cid in c.blocks if cid.codec != RAW},
        False,
    ),
    "the root, of which a gateway has every block": (lambda c: c, lambda c: set(c.blocks), True),
    "a directory around a file of it, published with the file": (around, lambda c: set(c.blocks), True),
}


@pytest.mark.parametrize("row", STRANGERS)
def test_what_anothers_job_left_on_the_node_is_read_only_where_all_of_it_is_public(twin, tmp_path, fresh, row):
    name, held, runs = STRANGERS[row]
    wanted = name(fresh)
    with Blocks(wanted, held(wanted)) as gateway, node(tmp_path, twin, gateways=[gateway.url]) as (folder, sandbox):
        twin.blocks.put_many((cid, fresh.blocks.get(cid)) for cid in fresh.blocks)
        twin.offer(order(job_of(twin, fresh.root)))
        attested(twin)
        twin.wait_for(lambda: node_status(folder)["running"] == [])
        twin.attested.clear()
        sandbox.seen.clear()
        twin.faults = {f"/car/{cid}": Fault(**HAS_IT_NOT) for cid in {*wanted.blocks, *fresh.blocks}}
        twin.offer(order(job_of(twin, wanted.root)), request_id=2, token=2)

        assert (attested(twin) if runs else returned(twin)) is not None
    assert bool(sandbox.seen) == runs


class Blocks(RawServer):
    """A gateway that has some blocks of a DAG: it sends a CAR as far as it can, and ends it as if that were all."""

    def __init__(self, content, held):
        super().__init__(self._script)
        self._content, self._held = content, held

    def _script(self, connection, _):
        cid = cid_in(self.calls[-1])
        if cid not in self._held:
            connection.sendall(head("404 Not Found"))
            return
        blocks = [(one, self._content.blocks.get(one)) for one in walk(self._content.blocks, cid) if one in self._held]
        connection.sendall(head() + b"".join(write_car([cid], blocks)))


# -- private data of the policy ---------------------------------------------------------------------------------------


def test_private_data_is_never_asked_for_elsewhere(twin, tmp_path, fresh):
    policy = f'[data.medical]\ncids = ["{fresh.root}"]\nrequesters = ["{REQUESTER}"]\n'
    chain = Chain()
    with (
        Gateway(fresh) as peer,
        chain.running() as rpc,
        node(tmp_path, twin, policy=policy, gateways=[peer.url], rpc_url=rpc),
    ):
        twin.faults[f"/car/{fresh.root}"] = Fault(**HAS_IT_NOT)
        lease = twin.offer(order(job_of(twin, fresh.root)))
        chain.hashes[1] = lease.request_hash

        assert returned(twin).reason == Reason.INPUT_NOT_FOUND
        assert peer.calls == []


@pytest.fixture
def store(tmp_path):
    return BlockStore(tmp_path / "content")


class Absent:
    """A lease's content at a bridge that has none."""

    def get_car(self, cid):
        raise PeerRefused(404, "not here")


def fetch(outside, root, *, is_open=False, bridge=None):
    return outside.fetch(
        root, name="bridge", bridge=bridge or Absent(), is_open=is_open, max_bytes=10 * MIB,
        patience=Patience(time.time() + 20, pause=lambda wanted: time.sleep(min(wanted, 0.01))),
    )  # fmt: skip


def in_vain(outside, root):
    with pytest.raises(PeerUnavailable):
        fetch(outside, root)


def test_abuse_a_directory_around_private_data_has_no_block_of_it_asked_for_elsewhere(store, fresh):
    store.put_many((cid, fresh.blocks.get(cid)) for cid in fresh.blocks)
    wanted = around(fresh)
    classes = Classes(store, {"medical": DataClass(cids=(str(fresh.root),), requesters=(REQUESTER,))})
    with Blocks(wanted, {wanted.root}) as gateway:
        outside = outside_of([gateway.url], "", store, classes, PACE)
        with pytest.raises((PeerRefused, PeerUnavailable)):
            fetch(outside, wanted.root)
        outside.close()

        assert not any(str(leaf_of(fresh)) in path for path in gateway.calls)


# -- what is learned of sources ---------------------------------------------------------------------------------------


def test_a_bridge_that_lies_is_left_for_this_fetch_and_asked_again_for_the_next(store, fresh):
    class Bridge:
        def __init__(self):
            self.asked = 0

        @contextmanager
        def get_car(self, cid):
            self.asked += 1
            yield iter([garbled(fresh.car)])

    lying = Bridge()
    with Gateway(fresh) as good:
        outside = outside_of([good.url], "", store, Classes(store, {}), PACE)
        for _ in range(7):
            fetch(outside, fresh.root, bridge=lying)
        outside.close()

    assert lying.asked == 7
    assert missing(store, fresh.root) == []


class Racing:
    """A source that, the first time, sends nothing until the other one is asked too, and then only some blocks."""

    def __init__(self, content, start, sent):
        self._content, self._start, self._sent = content, start, sent

    @contextmanager
    def get_car(self, cid):
        yield self._pieces([(one, self._content.blocks.get(one)) for one in walk(self._content.blocks, cid)])

    def _pieces(self, blocks):
        if self._start is not None:
            start, self._start = self._start, None
            start.wait(10)
            yield b"".join(write_car([blocks[0][0]], blocks[: self._sent]))
            if self._sent < len(blocks):
                raise PeerUnavailable("cut")
            return
        yield b"".join(write_car([blocks[0][0]], blocks))


@pytest.mark.parametrize("sent", [3, 99], ids=["a part each", "all of it each"])
def test_a_block_that_two_sources_bring_counts_once_in_the_receipt_and_against_the_limit(store, sent):
    content = Content.of(os.urandom(4 * MIB))
    start = threading.Barrier(2)
    bridge, other = Racing(content, start, sent), Racing(content, start, sent)
    outside = Outside([Source("other", lambda: nullcontext(other))], store, Classes(store, {}), Pace(0.1, 5.0))
    size = stored_size(content.blocks, content.root)

    found = outside.fetch(
        content.root, name="bridge", bridge=bridge, is_open=False, max_bytes=size.bytes,
        patience=Patience(time.time() + 20),
    )  # fmt: skip
    outside.close()

    assert sum(share.blocks for share in found) == size.blocks
    assert sum(share.bytes for share in found) == size.bytes


def test_what_one_job_learns_of_a_source_counts_for_the_next(store, fresh):
    other = Content.of(os.urandom(1000))
    with (
        RawServer(send(head("503 Service Unavailable"))) as busy,
        Gateway(fresh) as good,
        Gateway(other) as better,
    ):
        outside = outside_of([busy.url, good.url, better.url], "", store, Classes(store, {}), PACE)
        fetch(outside, fresh.root)
        asked = len(busy.calls)
        fetch(outside, other.root)
        outside.close()

        assert asked == len(busy.calls) == 1


def test_a_full_disk_is_no_fault_of_the_sources(fresh):
    class Full(MemoryBlocks):
        def put_many(self, blocks):
            if list(blocks):
                raise DiskFull
            return 0

    store = Full()
    with Gateway(fresh) as good:
        outside = outside_of([good.url], "", store, Classes(store, {}), PACE)
        with pytest.raises(DiskFull):
            fetch(outside, fresh.root)
        outside.close()

    assert all(not score.lie and not score.failures for score in outside.scores.values())


def test_a_fetch_that_takes_long_keeps_no_other_one_waiting(store, fresh):
    other = Content.of(os.urandom(1000))
    with RawServer(silent) as stalls, Gateway(other) as good:
        slow = outside_of([stalls.url, good.url], "", store, Classes(store, {}), Pace(0.1, 30.0))
        thread = threading.Thread(target=in_vain, args=(slow, fresh.root))
        thread.start()
        started = time.monotonic()
        wait_for(lambda: stalls.calls, 10, "the silent source is asked")
        fetch(slow, other.root)

        assert time.monotonic() - started < 10
        assert missing(store, other.root) == []
        assert thread.is_alive()
        slow.close()
        thread.join(10)
        assert not thread.is_alive()


def test_without_further_sources_there_is_nothing_outside(store):
    assert outside_of([], "", store, Classes(store, {})) is None
