"""What a node does not run, and what it does with a sandbox or an output that is not as it should be."""

import json
import os
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bridge.cli.output import Exit
from executor.agent.config import init_node
from executor.agent.service import drain_node, is_at_work, node_status, run_node
from executor.content.blocks import MemoryBlocks
from executor.content.blockstore import BlockStore
from executor.content.importer import import_bytes, import_listing
from executor.content.limits import TreeLimits
from executor.content.reader import manifest, resolve
from executor.content.roots import RootSet
from executor.errors import InvalidInput
from executor.protocol.cid import RAW, Cid
from executor.protocol.reasons import Reason
from executor.protocol.receipt import parse_receipt
from executor.protocol.wire import ResultKind, Status
from executor.sandbox.types import Probe, RunReport, SandboxUnavailable
from tests.agent_kit import new_node, node_running
from tests.agent_twin import CHAIN_ID, CONTRACT, REQUESTER, order
from tests.chain_nodes import wait_for


class Scripted:
    """A sandbox whose job is a Python function of the execution: it may do what a leaky sandbox would let a job do."""

    tier = "wasm"

    def __init__(self, act):
        self.act = act
        self.released = []
        self.seen = []

    def probe(self, cancelled=None):
        return Probe("wasm", usable=True, version="", problem="")

    def reap(self, live):
        return []

    def run(self, execution, cancelled):
        self.seen.append(execution)
        fields = self.act(execution) or {}
        base = {"exit_code": 0, "reason": Reason.NONE, "detail": "", "stdout": b"", "stderr": b""}
        return RunReport(**{**base, "started_at": 1.0, "finished_at": 2.0, **fields})

    def release(self, execution):
        self.released.append(execution.execution_id)


@pytest.fixture
def folder(tmp_path, twin):
    new_node(twin, tmp_path / "node", disk_bytes=2**30, memory_bytes=2**29, cpu_millis=2000)
    return tmp_path / "node"


@contextmanager
def running(folder, act=lambda execution: None, clock=time.time):
    sandbox = Scripted(act)
    with node_running(folder, sandbox, clock=clock):
        yield sandbox


def spec(twin, **changes):
    module = import_bytes(twin.blocks, b"\0asm module")
    return {"version": "insula/v1", "engine": {"type": "wasm", "module": str(module)}, **changes}


def attested(twin):
    (found,) = twin.wait_for(lambda: twin.attested or twin.returned)
    assert twin.attested, found
    return found.decoded()


def returned(twin):
    (found,) = twin.wait_for(lambda: twin.attested or twin.returned)
    assert twin.returned, found.decoded()
    return found.reason


def test_a_file_in_the_place_of_the_jobs_folder_is_named(folder):
    executions = folder / "executions"
    executions.write_bytes(b"")

    with pytest.raises(InvalidInput, match="executions: is a file; move it away"):
        run_node(folder, threading.Event(), [Scripted(lambda execution: None)])


def test_outputs_of_any_shape_arrive_as_one_tree(twin, folder):
    def act(execution):
        (execution.outputs / "deep" / "er").mkdir(parents=True)
        (execution.outputs / "deep" / "er" / "x").write_bytes(b"x" * 100)
        (execution.outputs / "empty").mkdir()
        return {"stdout": b"out", "stderr": b"err"}

    with running(folder, act):
        twin.offer(order(spec(twin)))
        outcome = attested(twin)

    rows = manifest(twin.received, Cid.from_binary(outcome.output_cid), TreeLimits(10**9)).entries
    assert [row.path for row in rows] == [
        "outputs", "outputs/deep", "outputs/deep/er", "outputs/deep/er/x", "outputs/empty", "stderr", "stdout",
    ]  # fmt: skip
    listed = parse_receipt(twin.attested[0].receipt)["predicate"]["runDetails"]["byproducts"][1]["annotations"]
    assert [row["path"] for row in listed["entries"]] == [row.path for row in rows]


def test_inputs_are_read_only_copies_at_their_paths(twin, folder):
    seen = {}

    def act(execution):
        for mount in execution.inputs:
            files = [mount.source] if mount.source.is_file() else [p for p in mount.source.rglob("*") if p.is_file()]
            seen[mount.target] = {(path.name, path.read_bytes(), path.stat().st_mode & 0o777) for path in files}
            folders = [path for path in mount.source.rglob("*") if path.is_dir()]
            assert {path.stat().st_mode & 0o777 for path in folders} <= {0o555}
            assert {path.stat().st_uid for path in (*files, *folders)} == {os.geteuid()}

    one = import_bytes(twin.blocks, b"one")
    tree = import_listing(twin.blocks, {"d/two": b"two"}, TreeLimits(100))
    inputs = [{"cid": str(one), "path": "/inputs/one"}, {"cid": str(tree), "path": "/inputs/tree"}]
    with running(folder, act):
        twin.offer(order(spec(twin, inputs=inputs)))
        assert attested(twin).status == Status.SUCCEEDED

    assert seen == {"/inputs/one": {("0", b"one", 0o444)}, "/inputs/tree": {("two", b"two", 0o444)}}


def damage(folder, cid):
    """Flip a bit of a block in a node's store."""
    (path,) = (folder / "content" / "blocks").glob(f"*/{cid}")
    path.chmod(0o600)
    block = bytearray(path.read_bytes())
    block[len(block) // 2] ^= 1
    path.write_bytes(block)


#: which block of a job's content is damaged on the node's disk, after another job had used it
DAMAGED = {
    "abuse: the program": lambda program, tree, blocks: program,
    "abuse: a file of an input": lambda program, tree, blocks: resolve(blocks, tree, "d/two"),
    "abuse: a folder of an input": lambda program, tree, blocks: resolve(blocks, tree, "d"),
    "abuse: the root of an input": lambda program, tree, blocks: tree,
}


@pytest.mark.parametrize("row", DAMAGED)
@pytest.mark.parametrize("has_it", [True, False], ids=["the bridge has it", "nobody has it"])
def test_no_job_runs_on_a_block_that_was_damaged_in_the_cache(twin, folder, row, has_it):
    seen = []

    def act(execution):
        seen.append((execution.inputs[0].source / "d" / "two").read_bytes())

    tree = import_listing(twin.blocks, {"d/two": b"two"}, TreeLimits(100))
    job = spec(twin, inputs=[{"cid": str(tree), "path": "/inputs/tree"}])
    damaged = DAMAGED[row](Cid.parse(job["engine"]["module"]), tree, twin.blocks)
    with running(folder, act):
        twin.offer(order(job))
        assert attested(twin).status == Status.SUCCEEDED
        twin.wait_for(lambda: node_status(folder)["running"] == [])
        damage(folder, damaged)
        if not has_it:
            twin.blocks = MemoryBlocks((cid, twin.blocks.get(cid)) for cid in twin.blocks if cid != damaged)
        twin.attested.clear()
        twin.offer(order(job), request_id=2, token=2)
        if has_it:
            assert attested(twin).status == Status.SUCCEEDED
        else:
            assert returned(twin) == Reason.INPUT_NOT_FOUND

    assert seen == [b"two"] * (1 + has_it)
    assert len(list((folder / "content" / "tmp").glob(f"damaged-{damaged}-*"))) == 1


def test_a_receipt_says_where_each_input_came_from_and_when_it_was_verified(twin, folder):
    job = spec(twin)
    with running(folder):
        twin.offer(order(job))
        attested(twin)
        twin.wait_for(lambda: node_status(folder)["running"] == [])
        twin.offer(order(job), request_id=2, token=2)
        twin.wait_for(lambda: len(twin.attested) == 2)

    first, second = (
        parse_receipt(item.receipt)["predicate"]["buildDefinition"]["resolvedDependencies"][0]["annotations"]
        for item in twin.attested
    )
    assert (first["source"], second["source"]) == (f"bridge:{twin.url}", "cache")
    assert first["fetchedAt"] <= first["verifiedAt"] <= second["verifiedAt"]
    assert "fetchedAt" not in second
    assert (second["bytes"], second["blocks"]) == (len(b"\0asm module"), 1)


def test_a_program_that_changed_during_the_run_ends_in_no_signature(twin, folder):
    def act(execution):
        execution.program.module.chmod(0o600)
        execution.program.module.write_bytes(b"another")

    with running(folder, act):
        twin.offer(order(spec(twin)))
        assert returned(twin) == Reason.NODE_FAULT


@pytest.mark.parametrize("change", ["bytes", "new file", "removed", "link"])
def test_an_input_that_changed_during_the_run_ends_in_no_signature(twin, folder, change):
    def act(execution):
        place = Path(execution.inputs[0].source)
        place.chmod(0o755)
        if change == "new file":
            (place / "new").write_bytes(b"")
        else:
            (place / "a").unlink()
        if change == "bytes":
            (place / "a").write_bytes(b"AAA")
        elif change == "link":
            (place / "a").symlink_to("/etc/hostname")

    tree = import_listing(twin.blocks, {"a": b"aaa"}, TreeLimits(100))
    with running(folder, act):
        twin.offer(order(spec(twin, inputs=[{"cid": str(tree), "path": "/inputs/t"}])))
        assert returned(twin) == Reason.NODE_FAULT

    assert node_status(folder)["signed"] == 0


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda out: (out / "link").symlink_to("/etc/passwd"), Reason.OUTPUT_UNSAFE),
        (lambda out: (out / "a\nb").write_bytes(b""), Reason.OUTPUT_UNSAFE),
        (lambda out: (out / "big").write_bytes(b"x" * 1001), Reason.DISK_LIMIT),
        (lambda out: [(out / str(n)).write_bytes(b"") for n in range(4)], Reason.FILES_LIMIT),
    ],
    ids=["link", "name", "bytes", "files"],
)
def test_an_output_that_breaks_the_jobs_own_limits_fails_and_leaks_nothing(twin, folder, make, reason):
    with running(folder, lambda execution: make(execution.outputs) and None):
        twin.offer(order(spec(twin, limits={"diskBytes": 1000, "outputFiles": 3})))
        outcome = attested(twin)

    assert (outcome.status, outcome.reason, outcome.output_cid) == (Status.FAILED, reason, b"")
    assert len(twin.received) == 0
    for name in (b"link", b"a\\nb", b"big"):
        assert name not in twin.attested[0].receipt


def test_a_long_stream_fails_with_payload_too_large_and_is_still_there(twin, folder):
    with running(folder, lambda execution: {"stdout": b"x" * 9000}):
        twin.offer(order(spec(twin), result_kind=int(ResultKind.STDOUT)))
        outcome = attested(twin)

    assert (outcome.reason, outcome.exit_code, outcome.payload) == (Reason.PAYLOAD_TOO_LARGE, 0, b"")
    assert outcome.output_cid


def test_the_nodes_own_trouble_with_a_sandbox_is_never_attested(twin, folder):
    def act(execution):
        raise SandboxUnavailable(Reason.IMAGE_NOT_AVAILABLE, "no such image")

    with running(folder, act) as sandbox:
        twin.offer(order(spec(twin)))
        assert returned(twin) == Reason.IMAGE_NOT_AVAILABLE
    assert len(sandbox.released) == 1


def test_a_bug_costs_one_lease_and_not_the_node(twin, folder):
    def act(execution):
        raise ZeroDivisionError("a bug")

    with running(folder, act) as sandbox:
        twin.offer(order(spec(twin)))
        assert returned(twin) == Reason.NODE_FAULT
        sandbox.act = lambda execution: None
        twin.returned.clear()
        twin.offer(order(spec(twin)), request_id=2, token=2)
        assert attested(twin).status == Status.SUCCEEDED


def test_a_module_that_is_a_directory_can_never_run(twin, folder):
    tree = import_listing(twin.blocks, {"a": b""}, TreeLimits(10))
    with running(folder) as sandbox:
        twin.offer(order({"version": "insula/v1", "engine": {"type": "wasm", "module": str(tree)}}))
        outcome = attested(twin)

    assert (outcome.status, outcome.reason) == (Status.FAILED, Reason.PROGRAM_INVALID)
    assert sandbox.seen == []


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        ('min_unit_price = "5"', Reason.PRICE_TOO_LOW),
        ("max_input_bytes = 3", Reason.INPUT_TOO_LARGE),
        ("max_each_input_bytes = 3", Reason.INPUT_TOO_LARGE),
        ("[limits]\nwall_seconds = 1", Reason.POLICY),
    ],
    ids=["price", "inputs", "each input", "limits"],
)
def test_what_the_policy_does_not_allow_goes_back_before_anything_runs(twin, folder, policy, reason):
    (folder / "policy.toml").write_text(policy)
    with running(folder) as sandbox:
        twin.offer(order(spec(twin)))
        assert returned(twin) == reason

    assert sandbox.seen == []
    assert REQUESTER not in json.dumps([item.detail for item in twin.returned])


@pytest.mark.parametrize(
    "limit", [{"store_min_free_bytes": 2**62}, {"store_max_bytes": 4096}], ids=["disk kept free", "bytes of blocks"]
)
def test_a_job_whose_content_the_nodes_store_may_not_hold_goes_back(twin, tmp_path, limit):
    fields = {"bridge_url": twin.url, "chain_id": CHAIN_ID, "bridge_contract": CONTRACT, "registry": CONTRACT}
    init_node(tmp_path / "small", **fields, poll_seconds=0.1, disk_bytes=2**30, memory_bytes=2**29, **limit)
    root = import_listing(twin.blocks, {"a": b"1", "b": b"2"}, TreeLimits(100))
    inputs = [{"cid": str(root), "path": "/inputs/data"}]

    with running(tmp_path / "small") as sandbox:
        twin.offer(order(spec(twin, inputs=inputs)))
        assert returned(twin) == Reason.DISK_FULL

    assert sandbox.seen == []


def kept(folder):
    """What the node's store keeps now: seconds that each root has left."""
    now = time.time()
    return {root.cid: root.expires_at - now for root in RootSet(BlockStore(folder / "content")).live(now)}


WEEK = 7 * 86400.0


@pytest.mark.parametrize("ends", ["attested", "returned"])
def test_inputs_stay_an_hour_longer_than_their_lease_whatever_the_requests_deadline(twin, folder, ends):
    root = import_listing(twin.blocks, {"a": b"1"}, TreeLimits(100))
    inputs = [{"cid": str(root), "path": "/inputs/data"}]

    def act(execution):
        if ends == "returned":
            raise SandboxUnavailable(Reason.IMAGE_NOT_AVAILABLE, "no such image")

    with running(folder, act):
        twin.offer(order(spec(twin, inputs=inputs)), deadline=time.time() + WEEK)
        found = attested(twin) if ends == "attested" else returned(twin)
        twin.wait_for(lambda: node_status(folder)["running"] == [])

    left = kept(folder)
    signed = Cid.from_binary(found.output_cid) if ends == "attested" else None
    assert left.pop(signed, WEEK) >= WEEK
    assert len(left) == 2
    assert max(left.values()) <= 3600


class Clock:
    def __init__(self):
        self.ahead = 0.0

    def __call__(self):
        return time.time() + self.ahead


@pytest.mark.parametrize("why", [Reason.DISK_FULL, Reason.INPUT_TOO_LARGE], ids=["the store", "the policy"])
def test_abuse_an_input_that_there_is_no_room_for_keeps_other_jobs_away_for_minutes_not_for_weeks(twin, tmp_path, why):
    folder, clock = tmp_path / "small", Clock()
    fields = {"bridge_url": twin.url, "chain_id": CHAIN_ID, "bridge_contract": CONTRACT, "registry": CONTRACT}
    room = 88 * 2**20  # a group of blocks that is not stored is less than a tenth of it
    init_node(folder, **fields, poll_seconds=0.1, disk_bytes=2**30, memory_bytes=2**29, store_max_bytes=room)
    (folder / "policy.toml").write_text(f"max_input_bytes = {room * 3 if why == Reason.DISK_FULL else room - 2**20}")
    large = import_bytes(twin.blocks, os.urandom(room + 2**23))

    with running(folder, clock=clock):
        twin.offer(order(spec(twin, inputs=[{"cid": str(large), "path": "/inputs/data"}])), deadline=clock() + WEEK)
        assert returned(twin) == why
        twin.wait_for(lambda: node_status(folder)["running"] == [])
        assert large not in kept(folder)
        twin.returned.clear()
        clock.ahead = 700.0
        wait_for(lambda: not list((folder / "content").rglob(str(large))), 20, "its blocks are gone")
        clock.ahead = 0.0
        small = import_bytes(twin.blocks, os.urandom(room // 2))
        inputs = [{"cid": str(small), "path": "/inputs/data"}]
        twin.offer(order(spec(twin, inputs=inputs)), request_id=2, token=2)
        attested(twin)


def test_a_job_that_does_not_fit_goes_back(twin, folder):
    with running(folder):
        twin.offer(order(spec(twin, limits={"memoryBytes": 2**30})))
        assert returned(twin) == Reason.NODE_FAULT


def test_a_spec_by_cid_that_is_too_large_is_refused(twin, folder):
    cid = import_bytes(twin.blocks, b" " * (256 * 1024 + 1))
    with running(folder):
        twin.offer(order(cid.binary, spec_is_cid=True))
        outcome = attested(twin)

    assert (outcome.status, outcome.reason) == (Status.REFUSED, Reason.SPEC_TOO_LARGE)


def test_an_unread_dialect_is_refused_without_fetching_anything(twin, folder):
    with running(folder):
        twin.offer(order(Cid.of(RAW, b"absent").binary, spec_is_cid=True, dialect=5))
        outcome = attested(twin)

    assert (outcome.status, outcome.reason) == (Status.REFUSED, Reason.UNSUPPORTED_DIALECT)
    assert not any("/car/" in path for _, path in twin.calls)


def test_a_draining_node_asks_for_nothing(twin, folder):
    drain_node(folder)
    with running(folder):
        stop = threading.Event()
        stop.wait(0.6)
        assert twin.adverts == []
        drain_node(folder, is_draining=False)
        twin.wait_for(lambda: twin.adverts)


def test_a_node_says_when_it_drains_when_that_is_done_and_when_it_works_again(twin, folder):
    going, seen = threading.Event(), threading.Event()

    def act(execution):
        seen.set()
        going.wait(20)

    with capture_logs() as logs:
        with running(folder, act):
            twin.offer(order(spec(twin)))
            assert seen.wait(20)
            drain_node(folder)
            twin.wait_for(lambda: said(logs) == ["draining"])
            assert is_at_work(folder)
            going.set()
            twin.wait_for(lambda: said(logs) == ["draining", "drained"])
            assert not is_at_work(folder)
            drain_node(folder, is_draining=False)
            twin.wait_for(lambda: said(logs) == ["draining", "drained", "takes work again"])
        assert [line["event"] for line in logs][-2:] == ["stopping", "stopped"]
    assert not is_at_work(folder)


def said(logs):
    return [line["event"] for line in logs if line["event"] in ("draining", "drained", "takes work again")]


def test_drain_and_wait_ends_when_the_job_has(twin, folder, insula):
    going, seen = threading.Event(), threading.Event()

    def act(execution):
        seen.set()
        going.wait(20)

    with running(folder, act):
        twin.offer(order(spec(twin)))
        assert seen.wait(20)
        code, _, err = insula("node", "drain", "--dir", str(folder), "--wait", "--timeout", "0.5")
        assert (code, "jobs still run" in err) == (Exit.TIMEOUT, True)
        going.set()
        code, out, _ = insula("node", "drain", "--dir", str(folder), "--wait")

    assert (code, "drained: nothing runs" in out) == (Exit.OK, True)


def test_what_a_node_offers_is_its_own_to_read(folder):
    with running(folder):
        pass

    assert (folder / "offer.json").stat().st_mode & 0o777 == 0o600


def test_an_advert_tells_what_is_free(twin, folder):
    going, seen = threading.Event(), threading.Event()

    def act(execution):
        seen.set()
        going.wait(20)

    with running(folder, act):
        twin.offer(order(spec(twin, limits={"memoryBytes": 2**28, "cpuMillis": 500, "diskBytes": 2**20})))
        assert seen.wait(20)
        before = len(twin.adverts)
        twin.wait_for(lambda: len(twin.adverts) > before + 1)
        free = twin.adverts[-1].free
        going.set()
        attested(twin)

    assert (free.slots, free.cpu_millis, free.memory_bytes, free.disk_bytes) == (1, 1500, 2**28, 2**30 - 2**20)
