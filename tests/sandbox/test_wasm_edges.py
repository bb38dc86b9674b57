"""Limits of the wasm sandbox at their very edge; the attacks are in test_abuse.py."""

from dataclasses import replace

from executor.protocol.reasons import Reason
from executor.sandbox.wasm import WasmSandbox
from tests.sandbox.kit import LIMITS, execution, limited, run, wasm


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
