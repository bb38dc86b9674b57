"""`insula job replay` from a bundle alone: real programs run again, and what differs is named by its path."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import wasmtime

from bridge.cli.output import Exit
from bridge.demo.image import build_demo_image
from executor.protocol.canonical import canonical_json
from executor.protocol.cid import RAW, Cid
from executor.protocol.reasons import Reason
from executor.protocol.receipt import parse_receipt
from executor.protocol.wire import Outcome, ResultKind, Status
from executor.sandbox.docker import DockerSandbox
from executor.sandbox.escapes import names
from executor.sandbox.wasm import WasmSandbox
from tests.bundles import CONTRACT, KEYS, attest, changed, with_attestation, with_receipt
from tests.docker_engine import docker_engine
from tests.replays import in_part, output_with, recorded

__all__ = ["docker_engine"]

PROGRAMS = Path(__file__).resolve().parents[2] / "bridge" / "demo" / "programs"
LOG = b"2024-05-01T00:00:00Z INFO ap-1 x\n2024-05-01T00:00:01Z WARN ap-2 y\n"
LOGSTAT = {
    "version": "insula/v1",
    "engine": {"type": "wasm", "module": "@0", "args": ["/inputs/1"]},
    "inputs": [{"cid": "@1", "path": "/inputs/1"}],
}
ALONE = {"version": "insula/v1", "engine": {"type": "wasm", "module": "@0"}}
LOOP = bytes(wasmtime.wat2wasm('(module (memory (export "memory") 1) (func (export "_start") (loop $l (br $l))))'))


@pytest.fixture(scope="module")
def logstat(tmp_path_factory):
    """A job that succeeded with files, recorded once."""
    folder = tmp_path_factory.mktemp("logstat")
    return recorded(folder, WasmSandbox(), LOGSTAT, [(PROGRAMS / "logstat.wasm").read_bytes(), LOG])


@pytest.fixture
def replay(insula, tmp_path):
    """`insula job replay` of a bundle, its content in a folder: exit code and answer."""

    def call(bundle, made=None, *words):
        path = tmp_path / "bundle.json"
        path.write_text(bundle.model_dump_json())
        where = ("--content", str(made.store.root)) if made else ()
        code, out, _ = insula("job", "replay", "--bundle", str(path), *where, "--json", *words)
        return code, json.loads(out)

    return call


def test_a_job_that_succeeded_is_reproduced(replay, logstat):
    code, found = replay(logstat.bundle, logstat)

    assert (code, found["verdict"], found["runs"], found["path"]) == (Exit.OK, "reproduced", 1, None)
    assert logstat.decided.outcome.status == Status.SUCCEEDED


def test_it_is_reproduced_from_an_exported_file_and_the_car_beside_it(insula, logstat, tmp_path, monkeypatch):
    (tmp_path / "b.json").write_text(logstat.bundle.model_dump_json())
    monkeypatch.setenv("INSULA_HOME", str(logstat.store.root.parent))
    words = ("--bundle", str(tmp_path / "b.json"), "--out", str(tmp_path / "out.json"), "--content")
    assert insula("job", "export", *words)[0] == Exit.OK
    monkeypatch.setenv("INSULA_HOME", str(tmp_path / "empty"))

    code, out, _ = insula("job", "replay", "--bundle", str(tmp_path / "out.json"))

    assert (code, "reproduced: SUCCEEDED" in out) == (Exit.OK, True)


def test_a_job_that_failed_is_reproduced_with_its_exit_code(replay, tmp_path):
    made = recorded(
        tmp_path, WasmSandbox(), ALONE, [(PROGRAMS / "exit3.wasm").read_bytes()], ResultKind.EXIT_CODE
    )  # fmt: skip
    outcome = made.decided.outcome
    assert (outcome.status, outcome.exit_code) == (Status.FAILED, 3)

    code, found = replay(made.bundle, made)
    lied, lie = replay(made.as_signed(replace(outcome, exit_code=4, payload=b"4")), made)

    assert (code, found["verdict"]) == (Exit.OK, "reproduced")
    assert (lied, lie["path"]) == (Exit.NOT_SO, "outcome.exitCode")


def test_a_job_that_hit_a_limit_is_reproduced_by_its_reason(replay, tmp_path):
    made = recorded(tmp_path, WasmSandbox(), {**ALONE, "limits": {"wallSeconds": 1}}, [LOOP])
    assert made.decided.outcome.reason == Reason.WALL_LIMIT

    assert replay(made.bundle, made)[1]["verdict"] == "reproduced"


DOCTORED = {
    "a file of other bytes": ({"outputs/report.json": b"{}"}, "outputs/report.json"),
    "a file too many": ({"outputs/a": b"x"}, "outputs/a"),
    "a file too few": ({"stdout": b"0"}, "stdout"),
}


@pytest.mark.parametrize("how", DOCTORED)
def test_an_output_that_the_node_made_up_differs_at_its_first_path(replay, logstat, how):
    changes, path = DOCTORED[how]
    cid, rows = output_with(logstat, changes)
    bundle = logstat.as_signed(replace(logstat.decided.outcome, output_cid=cid.binary), manifest=rows)

    code, found = replay(bundle, logstat)

    assert (code, found["verdict"], found["path"], found["runs"]) == (Exit.NOT_SO, "differs", path, 2)
    assert found["text"] == f"differs at {path}"


def test_a_doctored_output_is_found_with_the_receipts_manifest_alone(replay, logstat, insula, tmp_path):
    """Its blocks are nowhere: what the node said of it is enough to name the file."""
    rows = [dict(row) for row in logstat.decided.manifest]
    for row in rows:
        if row["path"] == "outputs/report.json":
            row["size"] = 1
    cid = bytes(logstat.decided.outcome.output_cid[:-1]) + b"\0"
    bundle = logstat.as_signed(replace(logstat.decided.outcome, output_cid=cid), manifest=rows)

    assert replay(bundle, logstat)[1]["path"] == "outputs/report.json"


def test_an_output_of_which_only_the_cid_is_known_differs_there(replay, logstat):
    cid = bytes(logstat.decided.outcome.output_cid[:-1]) + b"\0"
    bundle = logstat.as_signed(replace(logstat.decided.outcome, output_cid=cid), manifest=[])

    found = replay(bundle, logstat)[1]

    assert found["verdict"] == "differs"
    assert {one["path"] for one in found["differences"]} >= {"outcome.outputCid"}


def test_a_record_that_does_not_hold_is_not_run(replay, logstat):
    code, found = replay(with_attestation(logstat.bundle, signature=b"\1" * 64 + b"\x1b"), logstat)

    assert (code, found["verdict"]) == (Exit.NOT_SO, "broken")
    assert "signature of node 1" in found["text"]
    assert "runs" not in found


def test_a_key_that_was_not_named_is_not_believed(replay, logstat):
    assert replay(logstat.bundle, logstat, "--node-key", KEYS[1].address)[1]["verdict"] == "broken"
    assert replay(logstat.bundle, logstat, "--node-key", KEYS[0].address)[0] == Exit.OK


def test_without_its_inputs_nothing_is_run(replay, logstat):
    code, found = replay(logstat.bundle)

    assert (code, found["verdict"]) == (Exit.CONTENT_UNCHECKED, "unchecked")
    assert len(found["checks"]) == 2


def withheld(made):
    outcome = Outcome(status=Status.WITHHELD, reason=int(Reason.AUDIT_RULE))
    return made.as_signed(outcome, manifest=[])


def test_a_withheld_output_is_run_and_there_is_nothing_to_compare(replay, logstat):
    code, found = replay(withheld(logstat), logstat)

    assert (code, found["verdict"], found["differences"]) == (Exit.NOT_COMPARABLE, "withheld", [])
    assert "not on record" in found["text"]
    assert str(logstat.decided.output) not in json.dumps(found)


def test_an_output_cannot_have_been_withheld_where_the_job_never_ends(replay, tmp_path):
    made = recorded(tmp_path, WasmSandbox(), {**ALONE, "limits": {"wallSeconds": 1}}, [LOOP])

    code, found = replay(withheld(made), made)

    assert (code, found["verdict"], found["path"]) == (Exit.NOT_SO, "differs", "outcome.status")


def test_a_refused_job_is_refused_again_without_a_run(replay, logstat):
    request = logstat.bundle.request.request()
    request = replace(request, order=replace(request.order, spec=b"{}"))
    outcome = Outcome(status=Status.REFUSED, reason=int(Reason.SPEC_MISSING_FIELD))
    from executor.protocol.leases import RequestMessage

    bundle = changed(
        logstat.bundle, request=RequestMessage.of(request), request_hash=request.hash, spec=b"{}",
        outcome=outcome.encode(), attestations=(attest(request, outcome, 0, []),),
    )  # fmt: skip

    code, found = replay(bundle)

    assert (code, found["verdict"], found["runs"]) == (Exit.OK, "reproduced", 0)


def test_nothing_of_a_replay_stays(replay, logstat, tmp_path, monkeypatch):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))

    replay(logstat.bundle, logstat)

    assert list((tmp_path / "tmp").iterdir()) == []
    assert not (tmp_path / "home").exists()


@pytest.fixture
def image(tmp_path):
    """The demo's image, which counts the bytes of a file: its spec for a path, and its archive."""
    name = build_demo_image(tmp_path / "image.tar")

    def spec(path, **more):
        engine = {"type": "docker", "image": name, "archive": "@0", "args": [path]}
        return {"version": "insula/v1", "engine": engine, **more}

    return spec, (tmp_path / "image.tar").read_bytes()


ACCEPTED = [word for name in names() for word in ("--accept-escape", name)]


@pytest.mark.docker
def test_a_container_that_throws_dice_is_nondeterministic(docker_engine, replay, image, tmp_path, monkeypatch):
    """It reads what the kernel makes up anew each time."""
    spec, archive = image
    sandbox = DockerSandbox("test-replay", base_url=docker_engine, accept_escapes=names())
    made = recorded(tmp_path, sandbox, spec("/proc/sys/kernel/random/uuid"), [archive])
    assert made.decided.outcome.status == Status.SUCCEEDED
    monkeypatch.setenv("DOCKER_HOST", docker_engine)

    code, found = replay(made.bundle, made, *ACCEPTED)

    assert (code, found["verdict"], found["path"]) == (
        Exit.NONDETERMINISTIC,
        "nondeterministic",
        "outputs/histogram.txt",
    )
    assert found["engine"]["there"].startswith("wasmtime")  # the kit's receipts say so


@pytest.mark.docker
def test_a_container_that_does_the_same_each_time_is_reproduced(docker_engine, replay, image, tmp_path, monkeypatch):
    spec, archive = image
    job = spec("/inputs/1", inputs=[{"cid": "@1", "path": "/inputs/1"}])
    made = recorded(
        tmp_path, DockerSandbox("test-replay", base_url=docker_engine, accept_escapes=names()), job, [archive, LOG]
    )
    monkeypatch.setenv("DOCKER_HOST", docker_engine)

    code, found = replay(made.bundle, made, *ACCEPTED)

    assert (code, found["verdict"], found["tier"]) == (Exit.OK, "reproduced", "container")


def test_without_an_engine_it_says_what_to_do(replay, logstat, image, tmp_path, monkeypatch):
    spec, archive = image
    request = logstat.bundle.request.request()
    from executor.content import unixfs
    from executor.protocol.leases import RequestMessage

    cid = unixfs.import_bytes(logstat.store, archive)
    text = json.dumps(spec("/x")).replace("@0", str(cid)).encode()
    request = replace(request, order=replace(request.order, spec=text))
    outcome = Outcome(status=Status.FAILED, reason=int(Reason.WALL_LIMIT))
    bundle = changed(
        logstat.bundle, request=RequestMessage.of(request), request_hash=request.hash, spec=text,
        outcome=outcome.encode(), attestations=(attest(request, outcome, 0, [("program", cid)]),),
    )  # fmt: skip
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")

    code, found = replay(bundle, logstat)

    assert (code, found["verdict"]) == (Exit.ENGINE_MISSING, "unavailable")
    assert "no Docker Engine answers: install one" in found["text"]


def said(receipt):
    return receipt["predicate"]["runDetails"]["byproducts"][1]["annotations"]


#: what a node's key may sign beside what is checked of a receipt
SHAPES = {
    "a runtime that is a word": lambda r: internal(r).update(runtime="x"),
    "an engine with a line of its own": lambda r: internal(r).update(
        runtime={"engine": "x\nrequest 3: reproduced", "version": [1]}
    ),
    "a manifest that is a word": lambda r: r["predicate"]["runDetails"]["byproducts"][1].update(annotations="x"),
    "a manifest of words": lambda r: said(r).update(entries=["x"]),
    "a file with a line of its own": lambda r: said(r).update(
        entries=[{"path": "x\nrequest 3: reproduced", "type": "file"}]
    ),
}


def internal(receipt):
    return receipt["predicate"]["buildDefinition"]["internalParameters"]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_receipt_of_any_shape_is_no_crash_and_no_false_line(replay, insula, logstat, tmp_path, shape):
    outcome = replace(logstat.decided.outcome, output_cid=Cid.of(RAW, b"nowhere").binary)
    signed = logstat.as_signed(outcome)
    receipt = parse_receipt(signed.attestations[0].receipt)
    SHAPES[shape](receipt)
    word = with_receipt(signed.request.request(), outcome, 0, canonical_json(receipt))

    code, found = replay(changed(signed, attestations=(word,)), logstat)
    text = insula("job", "replay", "--bundle", str(tmp_path / "bundle.json"), "--content", str(logstat.store.root))[1]

    assert (code, found["verdict"]) == (Exit.NOT_SO, "differs")
    assert [line for line in text.splitlines() if line.startswith("request 3:")] == [text.splitlines()[0]]
    assert "reproduced" not in text.splitlines()[0]


def test_a_record_without_anchors_is_told_to_be_one(replay, insula, logstat, tmp_path):
    anchors = ("--contract", CONTRACT, "--node-key", KEYS[0].address)
    assert replay(logstat.bundle, logstat)[1]["anchored"] is False
    assert replay(logstat.bundle, logstat, *anchors)[1]["anchored"] is True

    words = ("job", "replay", "--bundle", str(tmp_path / "bundle.json"), "--content", str(logstat.store.root))
    assert "name --contract and --node-key" in insula(*words)[1]
    assert "name --contract and --node-key" not in insula(*words, *anchors)[1]


def test_a_job_that_was_released_in_part_differs_only_where_it_was_redacted(insula, replay, logstat, tmp_path):
    bundle = in_part(logstat, {"outputs/report.json": None, "stdout": b"something\n"}, replaced=("stdout",))

    code, found = replay(bundle, logstat)

    assert (code, found["verdict"], found["runs"]) == (Exit.NOT_COMPARABLE, "redacted", 1), found
    assert (found["redaction"], found["ok"]) == ({"removed": True, "replaced": ["stdout"]}, False)
    _, out, _ = insula("job", "replay", "--bundle", str(tmp_path / "bundle.json"), "--content", str(logstat.store.root))
    assert "differs only where it was redacted: released in part, and 1 of the record's 2 files are the same" in out
    assert "replaced by reviewers, so not compared: stdout; something was removed" in out


def test_a_part_that_the_node_made_up_differs_at_its_first_path(replay, logstat):
    bundle = in_part(logstat, {"outputs/report.json": None, "stderr": b"made up"}, removed=True)

    code, found = replay(bundle, logstat)

    assert (code, found["verdict"], found["path"], found["runs"]) == (Exit.NOT_SO, "differs", "stderr", 2)


def test_what_was_released_in_part_is_verified_and_said_to_be(insula, logstat, tmp_path):
    bundle = in_part(logstat, {"outputs/report.json": None}, removed=True)
    (tmp_path / "b.json").write_text(bundle.model_dump_json())

    code, out, _ = insula("job", "verify", "--bundle", str(tmp_path / "b.json"), "--content", str(logstat.store.root))

    assert code == Exit.CHAIN_UNCHECKED
    assert "release of node 1: released in part (something removed), approved by" in out
