"""Everything that a hostile WebAssembly job may try, and what must become of it."""

from dataclasses import dataclass, replace

import pytest

from executor.protocol.reasons import Reason
from executor.sandbox.tree import measure
from executor.sandbox.wasm import WasmSandbox
from tests.sandbox.kit import LIMITS, data_input, execution, limited, run, wasm


@dataclass(frozen=True)
class Abuse:
    mode: str
    reason: Reason
    limits: object = LIMITS
    exit_code: int = 0
    stdout: bytes = b""
    seconds: float = 15.0


ABUSES = {
    "loops for ever": Abuse("loop", Reason.WALL_LIMIT, limited(wall_seconds=1), seconds=4),
    "loops for ever with fuel": Abuse("loop", Reason.CPU_LIMIT, limited(fuel=10_000_000)),
    "takes memory until there is none": Abuse("grow", Reason.MEMORY_LIMIT),
    "calls itself for ever": Abuse("recurse", Reason.TRAP),
    "fills the disk with files": Abuse("fill", Reason.DISK_LIMIT),
    "makes empty files without end": Abuse("files", Reason.FILES_LIMIT),
    "makes folders without end": Abuse("folders", Reason.FILES_LIMIT),
    "makes a sparse file of a terabyte": Abuse("sparse", Reason.DISK_LIMIT),
    "seeks a terabyte ahead and writes": Abuse("seek", Reason.DISK_LIMIT),
    "writes at an offset of a terabyte": Abuse("pwrite", Reason.DISK_LIMIT),
    "fills a file that has no name": Abuse("hidden", Reason.DISK_LIMIT, stdout=b"unlinked 0\n"),
    "floods standard output": Abuse("stdout", Reason.LOG_LIMIT),
    "floods standard error": Abuse("stderr", Reason.LOG_LIMIT),
    "leaves links that point out": Abuse("links", Reason.NONE, stdout=b"refused\n"),
    "reads files of the host": Abuse("escape", Reason.NONE, stdout=b"refused\n"),
    "changes its input": Abuse("write-input", Reason.NONE, stdout=b"refused\n"),
    "sleeps for an hour": Abuse("sleep", Reason.NONE, stdout=b"slept 1\n", seconds=3),
    "breaks off": Abuse("abort", Reason.TRAP),
    "fails with a code": Abuse("no such mode", Reason.EXIT_NON_ZERO, exit_code=2),
    "writes over one file again and again": Abuse("rewrite", Reason.NONE, limited(disk_bytes=150_000, output_files=2)),
}


@pytest.mark.parametrize("name", ABUSES)
def test_a_hostile_module_is_contained(name, hostile, tmp_path):
    abuse = ABUSES[name]
    given = data_input(tmp_path)

    ran = run(WasmSandbox(), execution(tmp_path, wasm(hostile, abuse.mode), abuse.limits, [given]))

    assert (ran.report.reason, ran.report.exit_code) == (abuse.reason, abuse.exit_code), ran.report
    if ran.report.reason != Reason.LOG_LIMIT:
        assert ran.report.stdout == abuse.stdout
    assert max(len(ran.report.stdout), len(ran.report.stderr)) <= abuse.limits.log_bytes
    assert ran.seconds < abuse.seconds
    usage = measure(ran.outputs)
    assert usage.size <= abuse.limits.disk_bytes
    assert usage.entries <= abuse.limits.output_files
    assert given.source.read_bytes() == b"precious\n"


def test_a_log_of_exactly_the_limit_is_allowed_and_one_byte_more_is_not(hostile, tmp_path):
    words = len(b"arg job\narg environment\n")

    fits = run(WasmSandbox(), execution(tmp_path, wasm(hostile, "environment"), limited(log_bytes=words), name="a"))
    over = run(WasmSandbox(), execution(tmp_path, wasm(hostile, "environment"), limited(log_bytes=words - 1), name="b"))

    assert (fits.report.reason, len(fits.report.stdout)) == (Reason.NONE, words)
    assert (over.report.reason, len(over.report.stdout)) == (Reason.LOG_LIMIT, words - 1)


def test_a_module_that_begins_with_more_memory_than_its_limit_does_not_start(hostile, tmp_path):
    ran = run(WasmSandbox(), execution(tmp_path, wasm(hostile, "done"), replace(LIMITS, memory_bytes=65536)))

    assert ran.report.reason == Reason.MEMORY_LIMIT
    assert ran.report.stdout == b""


def test_nothing_can_be_written_where_the_disk_limit_is_zero(hostile, tmp_path):
    limits = limited(disk_bytes=0, output_files=0)

    assert run(WasmSandbox(), execution(tmp_path, wasm(hostile, "files"), limits)).report.reason == Reason.FILES_LIMIT


def test_a_tree_deeper_than_is_ever_collected_is_left_to_the_collector(hostile, tmp_path):
    ran = run(WasmSandbox(), execution(tmp_path, wasm(hostile, "deep"), limited(output_files=100)))

    assert ran.report.reason == Reason.NONE
