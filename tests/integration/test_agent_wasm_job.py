"""A node and a bridge over HTTP: a WebAssembly job from lease to attestation."""

import json
import threading
from pathlib import Path

import pytest
import wasmtime

from executor.agent.service import node_status, run_node
from executor.content.importer import import_bytes, import_listing
from executor.content.limits import TreeLimits
from executor.content.reader import manifest, read_file, resolve
from executor.content.walk import missing
from executor.protocol.cid import Cid
from executor.protocol.conversions import report
from executor.protocol.dialects.report import report_hash
from executor.protocol.reasons import Reason
from executor.protocol.receipt import dependency_cids, parse_receipt, receipt_hash
from executor.protocol.signing import Scope, attestation_message, recover
from executor.protocol.wire import Dialect, ResultKind, Status
from executor.sandbox.wasm import WasmSandbox
from tests.agent_kit import new_node, node_running
from tests.agent_twin import CHAIN_ID, CONTRACT, RELAYER, Fault, order

LIMITS = TreeLimits(10**9)
LOGSTAT = Path(__file__).resolve().parents[2] / "bridge" / "demo" / "programs" / "logstat.wasm"
ADDRESS_0 = "0x" + "00" * 20

#: prints "hello\n", copies /inputs/in.txt to /outputs/out.txt, exits with the code given by the first byte of the input
PROGRAM = """
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "hello\\n")
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 100))
    (i32.store (i32.const 4) (i32.const 6))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (if (i32.ne (i32.const {code}) (i32.const 0)) (then (call $exit (i32.const {code}))))))
"""
LOOP = '(module (memory (export "memory") 1) (func (export "_start") (loop $l (br $l))))'


def module(text):
    return bytes(wasmtime.wat2wasm(text))


@pytest.fixture
def folder(tmp_path, twin):
    new_node(twin, tmp_path / "node", registry=ADDRESS_0, labels=("site=camera",), tiers=("wasm",))
    return tmp_path / "node"


class ProvedWasm(WasmSandbox):
    """The sandbox itself; its limits are proved in its own tests."""

    def probe(self, cancelled=None):
        from executor.sandbox.types import Probe

        return Probe("wasm", usable=True, version="", problem="")


@pytest.fixture
def node(folder):
    stop = threading.Event()
    failed = []

    def run():
        try:
            run_node(folder, stop, [ProvedWasm()])
        except BaseException as exc:
            failed.append(exc)
            raise

    thread = threading.Thread(target=run)
    thread.start()
    yield folder
    stop.set()
    thread.join(30)
    assert not thread.is_alive()
    assert not failed


def spec_of(twin, text, **changes):
    cid = import_bytes(twin.blocks, module(text))
    return {"version": "insula/v1", "engine": {"type": "wasm", "module": str(cid)}, **changes}


def test_a_job_runs_and_its_signed_outcome_reaches_the_bridge(twin, node):
    tree = import_listing(twin.blocks, {"a.txt": b"a" * 3_000_000, "deep/b.txt": b"b"}, LIMITS)
    spec = spec_of(twin, PROGRAM.format(code=0), inputs=[{"cid": str(tree), "path": "/inputs/data"}])
    lease = twin.offer(order(spec, result_kind=int(ResultKind.STDOUT)))

    (attested,) = twin.wait_for(lambda: twin.attested)

    outcome = attested.decoded()
    assert (outcome.status, outcome.reason, outcome.exit_code) == (Status.SUCCEEDED, Reason.NONE, 0)
    assert outcome.payload == b"hello\n"
    root = Cid.from_binary(outcome.output_cid)
    assert missing(twin.received, root) == []
    rows = {entry.path: entry.kind for entry in manifest(twin.received, root, LIMITS).entries}
    assert rows == {"outputs": "directory", "stdout": "file", "stderr": "file"}
    assert b"".join(read_file(twin.received, resolve(twin.received, root, "stdout"), 100)) == b"hello\n"
    message = attestation_message(
        Scope(CHAIN_ID, CONTRACT),
        request_hash=lease.request_hash,
        outcome_hash=outcome.hash,
        receipt_hash=receipt_hash(attested.receipt),
        log_root=attested.log_root,
        log_size=attested.log_size,
        relayer=RELAYER,
    )
    assert recover(message, attested.signature) == node_status(node)["key"]
    receipt = parse_receipt(attested.receipt)
    assert dependency_cids(receipt) == {"program": spec["engine"]["module"], "/inputs/data": str(tree)}
    internal = receipt["predicate"]["buildDefinition"]["internalParameters"]
    assert internal["runtime"]["inputsUnchanged"] is True
    assert len(internal["policy"]["sha256"]) == 64
    assert list((node / "executions").iterdir()) == []


def test_a_program_that_fails_is_attested_with_its_exit_code_and_output(twin, node):
    twin.offer(order(spec_of(twin, PROGRAM.format(code=3)), result_kind=int(ResultKind.EXIT_CODE)))

    (attested,) = twin.wait_for(lambda: twin.attested)

    outcome = attested.decoded()
    assert (outcome.status, outcome.reason, outcome.exit_code) == (Status.FAILED, Reason.EXIT_NON_ZERO, 3)
    assert outcome.payload == b"3"
    assert missing(twin.received, Cid.from_binary(outcome.output_cid)) == []


def test_a_job_that_hits_a_limit_fails_with_no_output(twin, node):
    twin.offer(order(spec_of(twin, LOOP, limits={"wallSeconds": 1})))

    (attested,) = twin.wait_for(lambda: twin.attested)

    outcome = attested.decoded()
    assert (outcome.status, outcome.reason) == (Status.FAILED, Reason.WALL_LIMIT)
    assert (outcome.exit_code, outcome.output_cid, outcome.payload) == (0, b"", b"")
    assert len(twin.received) == 0
    assert twin.heartbeats


def test_a_spec_that_can_never_run_is_refused_without_a_run(twin, node):
    twin.offer(order(b'{"version": "insula/v1", "engin": {}}'))

    (attested,) = twin.wait_for(lambda: twin.attested)

    assert attested.decoded().status == Status.REFUSED
    assert attested.decoded().reason in (Reason.SPEC_UNKNOWN_FIELD, Reason.SPEC_MISSING_FIELD)


def v1beta(spec, **changes):
    """An order as LilypadV0 places it for a caller of Lilypad v0."""
    return order(spec, dialect=int(Dialect.BACALHAU_V1BETA), result_kind=int(ResultKind.STDOUT), **changes)


def v1beta_spec(module, *args, **changes):
    return {
        "Engine": "WASM",
        "Verifier": "Noop",
        "PublisherSpec": {"Type": "Estuary"},
        "Wasm": {"EntryModule": {"StorageSource": "IPFS", "CID": str(module)}, "Parameters": list(args)},
        "Language": {"JobContext": {}},
        "Resources": {"GPU": ""},
        "Outputs": [{"Name": "outputs", "Path": "/outputs"}],
        "Deal": {"Concurrency": 1},
        **changes,
    }


def test_a_spec_of_lilypad_v0_runs_and_its_exact_stdout_is_the_payload(twin, node):
    program = import_bytes(twin.blocks, LOGSTAT.read_bytes())
    log = b"2024-05-01T00:00:00Z INFO ap-1 x\n" * 3
    tree = import_listing(twin.blocks, {"access.log": log}, LIMITS)
    inputs = [{"StorageSource": "IPFS", "CID": str(tree), "path": "/inputs"}]
    placed = v1beta(v1beta_spec(program, "/inputs/access.log", inputs=inputs, Timeout=60))
    twin.offer(placed)

    (attested,) = twin.wait_for(lambda: twin.attested)

    outcome = attested.decoded()
    root = Cid.from_binary(outcome.output_cid)
    stdout = b"".join(read_file(twin.received, resolve(twin.received, root, "stdout"), 1000))
    assert (outcome.status, outcome.reason) == (Status.SUCCEEDED, Reason.NONE)
    assert outcome.payload == stdout == b"3 lines, 12 words, 0 stations, 0 errors\n"
    receipt = parse_receipt(attested.receipt)
    assert dependency_cids(receipt) == {"program": str(program), "/inputs": str(tree)}
    conversion = receipt["predicate"]["buildDefinition"]["internalParameters"]["conversion"]
    assert conversion["dialect"] == 2
    assert conversion["changes"] == [{"field": "PublisherSpec.Type", "text": "the bridge keeps the output"}]
    assert conversion["reportSha256"] == report_hash(report(placed.spec, 1, Dialect.BACALHAU_V1BETA)).hex()


JOB_FILE = """
Type: batch
Tasks:
  - Name: main
    Engine: {{Type: wasm, Params: {{EntryModule: program, Parameters: [/inputs/access.log]}}}}
    InputSources:
      - {{Alias: program, Target: /program.wasm, Source: {{Type: ipfs, Params: {{CID: {program}}}}}}}
      - {{Target: /inputs, Source: {{Type: ipfs, Params: {{CID: {tree}}}}}}}
    Timeouts: {{ExecutionTimeout: 60}}
"""
MODULE = """{{"machine": {{"gpu": 0, "cpu": 500, "ram": 64}}, "job": {{"APIVersion": "V1beta1", "Spec": {{
    "Engine": "wasm", "Timeout": 60,
    "Wasm": {{"EntryModule": {{"StorageSource": "IPFS", "CID": "{program}"}}, "Parameters": [{{{{ .File }}}}]}},
    "inputs": [{{"StorageSource": "IPFS", "CID": "{tree}", "path": "/inputs"}}]}}}}}}"""


def lilypad_spec(**content):
    return json.dumps({"module": MODULE.format(**content), "inputs": {"File": "/inputs/access.log"}}).encode()


@pytest.mark.parametrize(
    ("dialect", "written"),
    [
        (Dialect.BACALHAU_1X, lambda **content: JOB_FILE.format(**content).encode()),
        (Dialect.LILYPAD_MODULE, lilypad_spec),
    ],
    ids=["a job file of Bacalhau 1.x", "a module of Lilypad"],
)
def test_a_spec_of_another_system_runs_and_the_receipt_holds_the_hash_of_its_report(twin, node, dialect, written):
    program = import_bytes(twin.blocks, LOGSTAT.read_bytes())
    tree = import_listing(twin.blocks, {"access.log": b"2024-05-01T00:00:00Z INFO ap-1 x\n"}, LIMITS)
    spec = written(program=program, tree=tree)
    twin.offer(order(spec, dialect=int(dialect), result_kind=int(ResultKind.STDOUT)))

    (attested,) = twin.wait_for(lambda: twin.attested)

    assert attested.decoded().payload == b"1 lines, 4 words, 0 stations, 0 errors\n"
    conversion = parse_receipt(attested.receipt)["predicate"]["buildDefinition"]["internalParameters"]["conversion"]
    assert conversion["reportSha256"] == report_hash(report(spec, 1, dialect)).hex()


def test_a_spec_of_lilypad_v0_gives_not_a_byte_more_than_the_program_wrote(twin, node):
    program = import_bytes(twin.blocks, module(PROGRAM.format(code=0).replace("(i32.const 6)", "(i32.const 5)")))
    twin.offer(v1beta(v1beta_spec(program)))

    (attested,) = twin.wait_for(lambda: twin.attested)

    assert attested.decoded().payload == b"hello"


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (b'{"Engine": "wasm", "x": "\xf3\x9f"}', Reason.SPEC_NOT_UTF8),
        (b'{"Engine": ""Hello, Docker!"}', Reason.SPEC_NOT_JSON),
        (b'{"Engine": "docker", "engine": "wasm"}', Reason.SPEC_DUPLICATE_KEY),
        (b'{"Engine": "docker", "Docker": {"Image": "ubuntu"}}', Reason.SPEC_INVALID_FIELD),
        (b'{"Engine": "docker", "Docker": {"Image": "ubuntu"}, "Resources": {"GPU": "1"}}', Reason.SPEC_UNSUPPORTED),
    ],
    ids=["raw bytes", "no JSON", "a key twice", "an image by tag", "a GPU"],
)
def test_a_spec_of_lilypad_v0_that_cannot_run_is_refused_by_attestation(twin, node, spec, reason):
    twin.offer(v1beta(spec))

    (attested,) = twin.wait_for(lambda: twin.attested)

    assert (attested.decoded().status, attested.decoded().reason) == (Status.REFUSED, reason)
    receipt = parse_receipt(attested.receipt)
    conversion = receipt["predicate"]["buildDefinition"]["internalParameters"]["conversion"]
    assert conversion["reason"] == reason.name
    assert conversion["reportSha256"] == report_hash(report(spec, 1, Dialect.BACALHAU_V1BETA)).hex()


def test_a_file_as_the_inputs_themselves_gives_the_lease_back(twin, node):
    file = import_bytes(twin.blocks, b"no folder")
    twin.offer(order(spec_of(twin, PROGRAM.format(code=0), inputs=[{"cid": str(file), "path": "/inputs"}])))

    (returned,) = twin.wait_for(lambda: twin.returned)

    assert (returned.reason, returned.detail) == (Reason.INPUT_NOT_FOUND, "the input at /inputs is no directory")


def test_an_input_that_is_nowhere_gives_the_lease_back(twin, node):
    absent = str(Cid.of(0x55, b"nowhere"))
    spec = {"version": "insula/v1", "engine": {"type": "wasm", "module": absent}}
    twin.offer(order(spec))

    (returned,) = twin.wait_for(lambda: twin.returned)

    assert returned.reason == Reason.INPUT_NOT_FOUND
    assert twin.attested == []


@pytest.mark.parametrize("what", ["the input", "the program"])
def test_content_that_another_s_job_left_on_the_node_is_read_only_with_the_bridge_s_leave(twin, node, what):
    data = import_bytes(twin.blocks, b"private")
    spec = spec_of(twin, PROGRAM.format(code=0), inputs=[{"cid": str(data), "path": "/inputs/data"}])
    twin.offer(order(spec))
    twin.wait_for(lambda: twin.attested and node_status(node)["running"] == [])
    closed = data if what == "the input" else spec["engine"]["module"]
    twin.faults[f"/car/{closed}"] = Fault(status=404, times=10**6)  # as for whom it was not brought for
    twin.offer(order(spec), request_id=2, token=2)

    (returned,) = twin.wait_for(lambda: twin.returned)

    assert returned.reason == Reason.INPUT_NOT_FOUND
    assert len(twin.attested) == 1


def test_content_that_is_on_the_node_is_not_brought_again(twin, node):
    tree = import_listing(twin.blocks, {"a.txt": b"a" * 3_000_000}, LIMITS)
    spec = spec_of(twin, PROGRAM.format(code=0), inputs=[{"cid": str(tree), "path": "/inputs/data"}])
    twin.offer(order(spec))
    twin.wait_for(lambda: twin.attested and node_status(node)["running"] == [])
    twin.offer(order(spec), request_id=2, token=2)

    _, again = twin.wait_for(lambda: len(twin.attested) == 2 and twin.attested)

    definition = parse_receipt(again.receipt)["predicate"]["buildDefinition"]
    sources = [item["annotations"]["source"] for item in definition["resolvedDependencies"]]
    assert sources == ["cache", "cache"]


def test_a_job_for_another_tier_gives_the_lease_back(twin, node):
    spec = {"version": "insula/v1", "engine": {"type": "docker", "image": "sha256:" + "0" * 64}}
    twin.offer(order(spec))

    (returned,) = twin.wait_for(lambda: twin.returned)

    assert returned.reason == Reason.ENGINE_MISSING


def test_a_second_lease_for_a_signed_request_brings_the_same_bytes_again(twin, node):
    job = order(spec_of(twin, PROGRAM.format(code=0)))
    twin.offer(job, token=1)
    twin.wait_for(lambda: twin.attested and node_status(node)["running"] == [])
    twin.received.__init__()  # the bridge lost what it had
    twin.offer(job, token=2, attempt=2)

    first, second = twin.wait_for(lambda: len(twin.attested) == 2 and twin.attested)

    assert second.model_copy(update={"token": 1}) == first
    assert missing(twin.received, Cid.from_binary(first.decoded().output_cid)) == []


def test_a_lease_is_taken_whose_earlier_attempt_ended_while_the_bridge_held_the_call_for_work(twin, tmp_path):
    twin.holds_calls = True
    folder = new_node(twin, tmp_path / "node", tiers=("wasm",), poll_seconds=20.0)
    job = order(spec_of(twin, PROGRAM.format(code=0)))
    with node_running(folder, ProvedWasm()):
        twin.offer(job, token=1)
        twin.wait_for(lambda: twin.attested and len(twin.adverts) == 2)
        twin.wait_for(lambda: not any(thread.name.startswith("lease-") for thread in threading.enumerate()))
        twin.offer(job, token=2, attempt=2)

        twin.wait_for(lambda: len(twin.attested) == 2 or twin.returned)

    assert (len(twin.attested), twin.returned) == (2, [])


def test_a_lease_for_another_slot_of_a_signed_request_goes_back(twin, node):
    job = order(spec_of(twin, PROGRAM.format(code=0)), nodes=3, quorum=2)
    twin.offer(job, token=1, slot=1)
    twin.wait_for(lambda: twin.attested and node_status(node)["running"] == [])
    twin.offer(job, token=2, slot=2)

    (returned,) = twin.wait_for(lambda: twin.returned)

    assert returned.reason == Reason.ALREADY_SIGNED
    assert len(twin.attested) == 1


def test_a_heartbeat_that_says_stop_ends_the_job(twin, node):
    twin.offer(order(spec_of(twin, LOOP)))
    twin.wait_for(lambda: twin.heartbeats)

    twin.go_on = False

    twin.wait_for(lambda: node_status(node)["running"] == [])
    (last,) = node_status(node)["last"]
    assert (last["state"], last["detail"]) == ("lost", "orphaned")
    assert (twin.attested, twin.returned) == ([], [])
    twin.wait_for(lambda: list((node / "executions").iterdir()) == [])


def test_a_request_whose_hash_is_not_the_leases_goes_back(twin, node):
    twin.offer(order(spec_of(twin, PROGRAM.format(code=0))), request_hash=bytes(32))

    (returned,) = twin.wait_for(lambda: twin.returned)

    assert returned.reason == Reason.REQUEST_NOT_ON_CHAIN


def test_a_stopping_node_gives_running_leases_back(twin, folder):
    stop = threading.Event()
    thread = threading.Thread(target=run_node, args=(folder, stop, [ProvedWasm()]))
    thread.start()
    twin.offer(order(spec_of(twin, LOOP)))
    twin.wait_for(lambda: twin.heartbeats)

    stop.set()
    thread.join(30)

    assert not thread.is_alive()
    assert [item.reason for item in twin.returned] == [Reason.NODE_STOPPING]


def test_an_output_against_a_rule_is_withheld_and_nothing_of_it_leaves(twin, folder):
    (folder / "policy.toml").write_text("[outputs]\nmax_bytes = 3\n")
    with node_running(folder, ProvedWasm()):
        twin.offer(order(spec_of(twin, PROGRAM.format(code=0)), result_kind=int(ResultKind.STDOUT)))
        (attested,) = twin.wait_for(lambda: twin.attested)

    outcome = attested.decoded()
    assert (outcome.status, outcome.reason) == (Status.WITHHELD, Reason.AUDIT_RULE)
    assert (outcome.exit_code, outcome.output_cid, outcome.payload) == (0, b"", b"")
    assert len(twin.received) == 0
    (by_product,) = [
        item
        for item in parse_receipt(attested.receipt)["predicate"]["runDetails"]["byproducts"]
        if item["name"] == "manifest"
    ]
    assert by_product["annotations"]["entries"] == []
    assert b"hello" not in attested.receipt
    assert json.loads(attested.receipt)["predicate"]["buildDefinition"]["internalParameters"]["runtime"].keys() <= {
        "engine", "version", "profile", "profileSha256", "inputsUnchanged",
    }  # fmt: skip
