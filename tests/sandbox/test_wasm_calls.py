"""Single WASI calls with arguments that no compiler makes: written by hand, in text, and exact to the errno."""

import pytest
import wasmtime

from executor.protocol.reasons import Reason
from executor.sandbox.types import WasmProgram
from executor.sandbox.wasi import BADF, BUSY, FAULT, INVAL, MFILE, NAMETOOLONG, NOTSUP, PERM, SIGNATURES, SUCCESS
from executor.sandbox.wasm import WasmSandbox
from tests.sandbox.kit import execution, limited, run

TYPES = {"i": "i32", "I": "i64"}
OPEN_WRITE = 0x400040  # rights: fd_write, fd_filestat_set_size


def imported(*names):
    parts = []
    for name in names:
        kinds = " ".join(TYPES[kind] for kind in SIGNATURES[name])
        result = "" if name == "proc_exit" else "(result i32)"
        parts.append(f'(import "wasi_snapshot_preview1" "{name}" (func ${name} (param {kinds}) {result}))')
    return " ".join(parts)


def calling(tmp_path, expression, *names, data="", **limits):
    """Run one expression of type i32; the job's exit code is its value, 100 for success."""
    value = "(select (i32.const 100) (local.get 0) (i32.eqz (local.get 0)))"
    text = f"""(module {imported("proc_exit", *names)}
      (memory (export "memory") 2) {data}
      (func (export "_start") (local i32) (local.set 0 {expression}) (call $proc_exit {value})))"""
    return module(tmp_path, text, **limits)


def module(tmp_path, text, **limits):
    path = tmp_path / "module.wasm"
    path.write_bytes(wasmtime.wat2wasm(text))
    return run(WasmSandbox(), execution(tmp_path, WasmProgram(path), limited(**limits))).report


def errno(report):
    assert report.reason == Reason.EXIT_NON_ZERO, report
    return SUCCESS if report.exit_code == 100 else report.exit_code


def opening(path_at, length, flags=1, result=64):
    return (
        f"(call $path_open (i32.const 4) (i32.const 0) (i32.const {path_at}) (i32.const {length}) (i32.const {flags})"
        f" (i64.const {OPEN_WRITE}) (i64.const 0) (i32.const 0) (i32.const {result}))"
    )


CALLS = {
    "random bytes beyond the memory": ("(call $random_get (i32.const 131000) (i32.const 4096))", FAULT),
    "random bytes of four gigabytes": ("(call $random_get (i32.const 0) (i32.const -1))", FAULT),
    "time written beyond the memory": ("(call $clock_time_get (i32.const 0) (i64.const 0) (i32.const -4))", FAULT),
    "waiting for nothing": (
        "(call $poll_oneoff (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))",
        INVAL,
    ),
    "waiting for too much": (
        "(call $poll_oneoff (i32.const 0) (i32.const 0) (i32.const 99999) (i32.const 0))",
        INVAL,
    ),
    "giving standard output another number": ("(call $fd_renumber (i32.const 1) (i32.const 4))", NOTSUP),
    "closing standard output": ("(call $fd_close (i32.const 1))", SUCCESS),
    "reserving space": ("(call $fd_allocate (i32.const 4) (i64.const 0) (i64.const 1))", NOTSUP),
    "a symbolic link": (
        "(call $path_symlink (i32.const 0) (i32.const 1) (i32.const 4) (i32.const 0) (i32.const 1))",
        PERM,
    ),
    "a hard link": (
        f"(call $path_link (i32.const 3) {'(i32.const 0) ' * 2} (i32.const 1) (i32.const 4) {'(i32.const 1) ' * 2})",
        PERM,
    ),
    "a connection": ("(call $sock_accept (i32.const 3) (i32.const 0) (i32.const 0))", NOTSUP),
    "writing to a descriptor that is none": (
        "(call $fd_write (i32.const 77) (i32.const 0) (i32.const 0) (i32.const 64))",
        BADF,
    ),
    "writing to a folder": ("(call $fd_write (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 64))", BADF),
    "writing to standard input": ("(call $fd_write (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 64))", BADF),
    "a list of buffers beyond the memory": (
        "(call $fd_write (i32.const 1) (i32.const 131070) (i32.const 9) (i32.const 64))",
        FAULT,
    ),
    "more buffers than are taken": (
        "(call $fd_write (i32.const 1) (i32.const 0) (i32.const 5000) (i32.const 64))",
        FAULT,
    ),
    "a path that is too long": (opening(0, 5000), NAMETOOLONG),
    "a path beyond the memory": (opening(131070, 100), FAULT),
    "a result at an odd address": (opening(0, 1, result=65), INVAL),
    "a result beyond the memory": (opening(0, 1, result=131072), FAULT),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_that_makes_no_sense_gets_its_errno_and_leaves_no_file(name, tmp_path):
    expression, expected = CALLS[name]
    called = expression.split("$")[1].split()[0]

    report = calling(tmp_path, expression, called, data='(data (i32.const 0) "x")')

    assert errno(report) == expected
    assert list((tmp_path / "job-1" / "outputs").iterdir()) == []


def test_no_more_files_are_open_than_allowed(tmp_path):
    text = f"""(module {imported("path_open", "proc_exit")}
      (memory (export "memory") 1) (data (i32.const 0) "x")
      (func (export "_start") (local i32)
        (loop (local.set 0 {opening(0, 1)}) (br_if 0 (i32.eqz (local.get 0))))
        (call $proc_exit (local.get 0))))"""

    assert errno(module(tmp_path, text)) == MFILE


def test_an_open_file_keeps_its_name(tmp_path):
    unlink = "(call $path_unlink_file (i32.const 4) (i32.const 0) (i32.const 1))"
    expression = f"(block (result i32) (drop {opening(0, 1)}) {unlink})"

    report = calling(tmp_path, expression, "path_open", "path_unlink_file", data='(data (i32.const 0) "x")')

    assert errno(report) == BUSY


def test_a_file_is_not_renamed_over_an_open_one(tmp_path):
    rename = "(call $path_rename (i32.const 4) (i32.const 1) (i32.const 1) (i32.const 4) (i32.const 0) (i32.const 1))"
    expression = f"(block (result i32) (drop {opening(0, 1)}) (drop {opening(1, 1)}) {rename})"

    assert errno(calling(tmp_path, expression, "path_open", "path_rename", data='(data (i32.const 0) "xy")')) == BUSY


INVALID = {
    "the older WASI, whose calls nobody watches": '(import "wasi_unstable" "fd_close" (func (param i32) (result i32)))',
    "a function that does not exist": '(import "wasi_snapshot_preview1" "sock_open" (func (param i32) (result i32)))',
    "a function with other parameters": '(import "wasi_snapshot_preview1" "random_get" (func (param i32)))',
    "a native function with other parameters": '(import "wasi_snapshot_preview1" "fd_read" (func (param i32)))',
    "a memory of ours": '(import "job" "memory" (memory 1))',
    "a global of ours": '(import "wasi_snapshot_preview1" "random_get" (global i32))',
}


@pytest.mark.parametrize("name", INVALID)
def test_a_module_that_imports_anything_else_is_invalid(name, tmp_path):
    own = "" if "(memory" in INVALID[name] else '(memory (export "memory") 1)'

    report = module(tmp_path, f'(module {INVALID[name]} {own} (func (export "_start")))')

    assert report.reason == Reason.PROGRAM_INVALID


def test_a_start_section_runs_under_the_same_limits(tmp_path):
    text = '(module (memory (export "memory") 1) (func $go (loop (br 0))) (start $go) (func (export "_start")))'

    assert module(tmp_path, text, fuel=100_000).reason == Reason.CPU_LIMIT


def test_a_start_section_writes_no_file(tmp_path):
    text = f"""(module {imported("path_open")} (memory (export "memory") 1) (data (i32.const 0) "x")
      (func $go (drop {opening(0, 1)})) (start $go) (func (export "_start")))"""

    report = module(tmp_path, text)

    assert report.reason in (Reason.PROGRAM_INVALID, Reason.NONE)
    assert list((tmp_path / "job-1" / "outputs").iterdir()) == []


FEATURES = {
    "threads": '(memory (export "memory") 1 2 shared)',
    "64 bit memory": '(memory (export "memory") i64 1)',
    "two memories": '(memory (export "memory") 1) (memory 1)',
}


@pytest.mark.parametrize("name", FEATURES)
def test_what_differs_from_host_to_host_is_switched_off(name, tmp_path):
    report = module(tmp_path, f'(module {FEATURES[name]} (func (export "_start")))')

    assert report.reason == Reason.PROGRAM_INVALID


def test_an_exit_code_is_a_signed_number_of_32_bits(tmp_path):
    text = f"""(module {imported("proc_exit")} (memory (export "memory") 1)
      (func (export "_start") (call $proc_exit (i32.const -7))))"""

    assert module(tmp_path, text).exit_code == -7
