"""Scanners of an operator at work in a node: what is clean leaves, and nothing else does."""

import json
from contextlib import contextmanager
from pathlib import Path

import docker
import pytest

from bridge.demo.image import build_image_archive
from bridge.demo.programs.build import WASM_TARGET, compile_c, native_target
from executor.agent.config import NodeConfig
from executor.agent.review import open_review
from executor.agent.scanning import check_scanners
from executor.content.importer import import_bytes
from executor.errors import InvalidInput
from executor.protocol.canonical import sha256
from executor.protocol.reasons import Reason
from executor.protocol.receipt import parse_receipt
from executor.protocol.signing import Key
from executor.protocol.wire import Status
from executor.sandbox.docker import DockerSandbox
from executor.sandbox.escapes import names
from executor.sandbox.types import Probe, RunReport
from executor.sandbox.wasm import WasmSandbox
from tests.agent_kit import new_node, node_running
from tests.agent_twin import order
from tests.docker_engine import docker_engine

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "docs" / "scanners" / "k-anonymity.c"
HOSTILE = ROOT / "tests" / "sandbox" / "programs" / "scanner.c"
SIGNER = Key.from_hex(f"{11:064x}")
CLEAN = '{"verdict": "clean"}'
__all__ = ["docker_engine"]


class Writes(WasmSandbox):
    """A job that writes what a test says; scanners run in the sandbox itself."""

    def __init__(self, files, stdout=b""):
        super().__init__()
        self.files, self.stdout, self.scans = files, stdout, 0

    def probe(self, cancelled=None):
        return Probe("wasm", usable=True, version="", problem="")

    def run(self, execution, cancelled):
        if ".scan" in execution.execution_id:
            self.scans += 1
            return super().run(execution, cancelled)
        for name, data in self.files.items():
            (execution.outputs / name).parent.mkdir(exist_ok=True)
            (execution.outputs / name).write_bytes(data)
        return RunReport(0, Reason.NONE, "", self.stdout, b"", 1.0, 2.0, {"engine": "wasm"})


class Containers(DockerSandbox):
    """The sandbox itself; its limits are proved in its own tests."""

    def probe(self, cancelled=None):
        return Probe("container", usable=True, version="", problem="")


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scanners")
    compile_c(SAMPLE, folder / "sample.wasm", WASM_TARGET)
    compile_c(HOSTILE, folder / "hostile.wasm", WASM_TARGET)
    compile_c(HOSTILE, folder / "scanner", native_target())
    return folder


@pytest.fixture
def image(built, docker_engine):
    """The hostile scanner, in an engine."""
    digest = build_image_archive(built / "scanner", built / "scanner.tar", "scanner")
    api = docker.APIClient(base_url=docker_engine, version="auto")
    with (built / "scanner.tar").open("rb") as file:
        list(api.load_image(file, quiet=False))
    api.close()
    return digest


@pytest.fixture
def folder(tmp_path, twin):
    new_node(twin, tmp_path / "node")
    return tmp_path / "node"


def scanner(folder, module, *args, **fields):
    """A table of the policy, its module in the node's folder."""
    data = module.read_bytes()
    (folder / module.name).write_bytes(data)
    return table(module=module.name, sha256=sha256(data).hex(), args=list(args), **fields)


def table(**fields):
    fields = {"name": "check", **fields}
    return "\n".join(["[[scanners]]", *(f"{name} = {json.dumps(value)}" for name, value in fields.items()), ""])


@contextmanager
def running(folder, policy, *sandboxes):
    (folder / "policy.toml").write_text(policy)
    with node_running(folder, *sandboxes):
        yield


def offer(twin):
    module = import_bytes(twin.blocks, b"\0asm module")
    twin.offer(order({"version": "insula/v1", "engine": {"type": "wasm", "module": str(module)}}))


def attested_of(twin):
    (attested,) = twin.wait_for(lambda: twin.attested, 60)
    return attested


def words_of(attested):
    byproducts = parse_receipt(attested.receipt)["predicate"]["runDetails"]["byproducts"]
    return [entry for one in byproducts if one["name"] == "scanners" for entry in one["annotations"]["entries"]]


# -- the sample of the documentation

SAFE = b"town,age,sick\nA,30,1\nA,30,0\nA,30,1\nB,40,0\nB,40,0\nB,40,1\n"
TABLES = {
    "every group is large enough": ({"t.csv": SAFE}, b"", "clean"),
    "no table": ({}, b"", "clean"),
    "a group of two": ({"t.csv": SAFE + b"C,50,1\nC,50,1\n"}, b"", "finding"),
    "a group of one in a folder": ({"a/t.csv": SAFE + b"C,50,1\n"}, b"", "finding"),
    "a table without the columns": ({"t.csv": b"a,b\n1,2\n"}, b"", "finding"),
    "a column twice": ({"t.csv": b"town,town,age\n" + b"A,A,1\n" * 9}, b"", "finding"),
    "a file that is no table": ({"t.bin": bytes(9)}, b"", "finding"),
    "a row that is too long": ({"t.csv": SAFE + b"A," + b"x" * 9000 + b",1\n"}, b"", "finding"),
    "quotes": ({"t.csv": SAFE + b'"A",30,1\n'}, b"", "finding"),
    "a last row without its end": ({"t.csv": SAFE + b"A,30,1"}, b"", "finding"),
    "a row on standard output": ({"t.csv": SAFE}, b"C,50,1\n", "finding"),
}


@pytest.mark.parametrize("name", TABLES)
def test_the_sample_lets_out_only_tables_in_which_nobody_stands_out(name, twin, folder, built):
    files, stdout, word = TABLES[name]
    with running(folder, scanner(folder, built / "sample.wasm", "3", "town", "age"), Writes(files, stdout)):
        offer(twin)
        attested = attested_of(twin)

    outcome = attested.decoded()
    assert outcome.status == (Status.SUCCEEDED if word == "clean" else Status.WITHHELD)
    (entry,) = words_of(attested)
    assert entry == {
        "name": "check", "program": f"sha256:{sha256((built / 'sample.wasm').read_bytes()).hex()}", "tier": "wasm",
        "verdict": word,
    }  # fmt: skip
    assert b"too few" not in attested.receipt
    if word != "clean":
        assert (outcome.reason, outcome.output_cid) == (Reason.AUDIT_RULE, b"")
        assert not any("/content" in path for method, path in twin.calls if method == "PUT")
    assert list((folder / "executions").iterdir()) == []


# -- scanners that misbehave

#: what it is told to do, and what the node says of it
BROKEN = {
    "hangs": (("hang",), "WALL_LIMIT"),
    "breaks off": (("crash",), "TRAP"),
    "fails": (("fail",), "EXIT_NON_ZERO, exit code 1"),
    "writes a gigabyte": (("fill",), "DISK_LIMIT"),
    "writes a long answer": (("long",), "at most 65536 bytes"),
    "leaves something else as well": (("more",), "something else"),
    "leaves a link": (("link",), "exit code -1"),
    "floods its output": (("flood",), "LOG_LIMIT"),
    "takes all memory": (("memory",), "exit code 7"),
    "says nothing": (("silent",), "something else"),
    "answers garbage": (("answer", "clean!"), "no JSON"),
    "lies about a path": (
        ("answer", '{"verdict":"finding","findings":[{"path":"x","rule":"r","text":"t"}]}'),
        "does not have",
    ),
    "changes its mind": (
        ("answer", '{"verdict":"clean","findings":[{"path":"","rule":"r","text":"t"}]}'),
        "neither clean",
    ),
}
IN_CONTAINERS = ("hangs", "breaks off", "writes a gigabyte", "leaves a link", "answers garbage")
PERSON = f'[release]\nmode = "person"\nsigners = ["{SIGNER.address}"]\n'


def held(folder):
    with open_review(folder) as review:
        return [review.show(review.find(one["id"])) for one in review.listing()]


@pytest.mark.parametrize("name", BROKEN, ids=[f"abuse {name} wasm" for name in BROKEN])
def test_an_output_is_held_where_its_scanner_is_broken_and_the_cause_is_told(name, twin, folder, built):
    args, cause = BROKEN[name]
    limits = {"wall_seconds": 2, "memory_bytes": 2**25, "on_finding": "hold"}
    with running(
        folder, PERSON + scanner(folder, built / "hostile.wasm", *args, **limits), Writes({"answer.txt": b"42"})
    ):
        offer(twin)
        (found,) = twin.wait_for(lambda: held(folder), 60)

    (finding,) = found["findings"]
    assert finding.startswith("scanner check: ")
    assert cause in finding
    assert twin.attested == []
    assert not any(method == "PUT" for method, _ in twin.calls)


@pytest.mark.docker
@pytest.mark.parametrize("name", IN_CONTAINERS, ids=[f"abuse {name} container" for name in IN_CONTAINERS])
def test_an_output_is_withheld_where_a_scanner_in_a_container_is_broken(name, twin, folder, image, docker_engine):
    policy = table(image=image, args=list(BROKEN[name][0]), wall_seconds=3, memory_bytes=2**25)
    with running(
        folder,
        policy,
        Writes({"answer.txt": b"42"}),
        Containers("scanners", base_url=docker_engine, accept_escapes=names()),
    ):
        offer(twin)
        attested = attested_of(twin)

    assert attested.decoded().status == Status.WITHHELD
    assert words_of(attested) == [{"name": "check", "program": image, "tier": "container", "verdict": "broken"}]


def test_abuse_a_scanner_cannot_change_the_output_wasm(twin, folder, built):
    with running(folder, scanner(folder, built / "hostile.wasm", "change"), Writes({"answer.txt": b"42"})):
        offer(twin)

        assert attested_of(twin).decoded().status == Status.SUCCEEDED


@pytest.mark.docker
def test_abuse_a_scanner_cannot_change_the_output_container(twin, folder, image, docker_engine):
    policy = table(image=image, args=["change"])
    with running(
        folder,
        policy,
        Writes({"answer.txt": b"42"}),
        Containers("scanners", base_url=docker_engine, accept_escapes=names()),
    ):
        offer(twin)

        assert attested_of(twin).decoded().status == Status.SUCCEEDED


# -- what their words count


def test_the_scanners_after_one_that_withholds_are_not_run(twin, folder, built):
    first = scanner(folder, built / "hostile.wasm", "silent", name="first")
    second = scanner(folder, built / "hostile.wasm", "answer", CLEAN, name="second")
    sandbox = Writes({"answer.txt": b"42"})
    with running(folder, second + first + second.replace("second", "third"), sandbox):
        offer(twin)
        attested = attested_of(twin)

    assert [(entry["name"], entry["verdict"]) for entry in words_of(attested)] == [
        ("second", "clean"),
        ("first", "broken"),
    ]
    assert sandbox.scans == 2


def test_a_broken_rule_of_the_policy_withholds_before_any_scanner_looks(twin, folder, built):
    sandbox = Writes({"answer.txt": b"42"})
    policy = "[outputs]\nmax_bytes = 1\n" + scanner(folder, built / "hostile.wasm", "answer", CLEAN)
    with running(folder, policy, sandbox):
        offer(twin)
        attested = attested_of(twin)

    assert attested.decoded().status == Status.WITHHELD
    assert (words_of(attested), sandbox.scans) == ([], 0)


def test_people_decide_on_what_a_scanner_found_where_the_policy_says_so(twin, folder, built):
    finding = '{"verdict":"finding","findings":[{"path":"outputs/answer.txt","rule":"pii","text":"a name"}]}'
    policy = PERSON + scanner(folder, built / "hostile.wasm", "answer", finding, on_finding="hold")
    with running(folder, policy, Writes({"answer.txt": b"42"})):
        offer(twin)
        (found,) = twin.wait_for(lambda: held(folder), 60)
        assert found["findings"] == ["scanner check, pii: outputs/answer.txt: a name"]
        with open_review(folder) as review:
            review.decide(review.find(found["id"]), True, 0, SIGNER)
        attested = attested_of(twin)

    assert attested.decoded().status == Status.SUCCEEDED
    assert [entry["verdict"] for entry in words_of(attested)] == ["finding"]
    assert b"a name" not in attested.receipt


def test_a_node_does_not_start_with_a_scanner_that_it_cannot_run(folder, built):
    module = scanner(folder, built / "hostile.wasm", "silent")
    config = NodeConfig.load(folder)
    another_hash = table(module="hostile.wasm", sha256="ab" * 32)
    no_file = module.replace("hostile.wasm", "gone.wasm")
    no_tier = table(image="sha256:" + "ab" * 32, tier="gvisor")
    for text in (another_hash, no_file, no_tier):
        (folder / "policy.toml").write_text(text)
        policy = config.load_policy(folder)
        with pytest.raises(InvalidInput, match="scanners, check"):
            check_scanners(policy, folder, {"wasm": Writes({})})


# -- what is released in part

PARTS = {
    "made safe": (SAFE + b"C,50,1\n", SAFE, "hold", Status.SUCCEEDED, "clean"),
    "as unsafe as the original, which reviewers have judged": (
        SAFE + b"C,50,1\n", SAFE + b"D,50,1\n", "hold", Status.SUCCEEDED, "finding",
    ),
    "unsafe, and the original was not": (SAFE, SAFE + b"D,50,1\n", "hold", Status.WITHHELD, "finding"),
    "unsafe, for a scanner that asks nobody": (SAFE, SAFE + b"D,50,1\n", "withhold", Status.WITHHELD, "finding"),
}  # fmt: skip


@pytest.mark.parametrize("name", PARTS)
def test_scanners_look_at_a_redaction_before_it_leaves(name, twin, folder, built):
    before, after, on_finding, status, word = PARTS[name]
    check = scanner(folder, built / "sample.wasm", "3", "town", "age", on_finding=on_finding)
    with running(folder, PERSON + check, Writes({"t.csv": before})):
        offer(twin)
        (found,) = twin.wait_for(lambda: held(folder))
        with open_review(folder) as review:
            hold = review.find(found["id"])
            made = review.redact(hold, [], {"outputs/t.csv": after})
            review.decide(hold, True, 0, SIGNER, made["id"])
        attested = attested_of(twin)

    assert attested.decoded().status == status
    assert [entry["verdict"] for entry in words_of(attested)] == [word]
    if status == Status.WITHHELD:
        assert attested.decoded().reason == Reason.AUDIT_RULE
        assert made["held"].hex().encode() not in attested.receipt
        assert not any("/missing" in path for _, path in twin.calls)
