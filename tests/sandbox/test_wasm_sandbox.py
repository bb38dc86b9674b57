"""What a WebAssembly job sees of the world, what the report says, and how the child process lives and dies."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.demo.data import make_access_log
from executor.protocol.reasons import Reason
from executor.sandbox.types import ContainerProgram, InputMount, JobCancelled, SandboxUnavailable, WasmProgram
from executor.sandbox.wasm import WasmSandbox
from tests.chain_nodes import wait_for
from tests.sandbox.kit import execution, limited, run, wasm

DEMO = Path(__file__).parents[2] / "bridge" / "demo" / "programs"


def module(tmp_path, data):
    path = tmp_path / "module.wasm"
    path.write_bytes(data)
    return WasmProgram(path)


def report_of(tmp_path, program, **limits):
    return run(WasmSandbox(), execution(tmp_path, program, limited(**limits))).report


def test_a_job_counts_five_megabytes_in_less_than_two_seconds(tmp_path):
    log = tmp_path / "access.log"
    size = make_access_log(log, 5 * 2**20)
    program = WasmProgram(DEMO / "logstat.wasm", ("/inputs/wifi/access.log",))
    job = execution(tmp_path, program, inputs=[InputMount(log, "/inputs/wifi/access.log")])

    ran = run(WasmSandbox(), job)

    assert ran.report.reason == Reason.NONE
    assert ran.seconds < 2
    lines = log.read_text().splitlines()
    assert ran.report.stdout.startswith(f"{len(lines)} lines, {sum(len(x.split()) for x in lines)} words".encode())
    assert f'"bytes": {size}' in (job.outputs / "report.json").read_text()


def test_a_failing_job_gives_its_code_and_what_it_said(tmp_path):
    report = report_of(tmp_path, WasmProgram(DEMO / "exit3.wasm"))

    assert (report.reason, report.exit_code) == (Reason.EXIT_NON_ZERO, 3)
    assert report.stderr == b"exit3: this program always fails\n"


def test_two_runs_see_the_same_time_random_bytes_and_order_of_files(hostile, tmp_path):
    first, second = (
        run(WasmSandbox(), execution(tmp_path, wasm(hostile, "determinism"), name=name)).report for name in "ab"
    )

    assert first.stdout == second.stdout
    assert first.runtime["used"]["fuelUsed"] == second.runtime["used"]["fuelUsed"]
    names = [line.split()[0] for line in first.stdout.splitlines()[3:]]
    assert names == sorted(names)
    assert len(names) == 10


def test_a_job_sees_its_own_arguments_and_environment_only(hostile, tmp_path):
    os.environ["INSULA_TEST_SECRET"] = "hush"
    try:
        report = report_of(tmp_path, wasm(hostile, "environment", "x y", env=(("A", "1"),)))
    finally:
        del os.environ["INSULA_TEST_SECRET"]

    assert report.stdout == b"arg job\narg environment\narg x y\nenv A=1\n"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("empty", b""),
        ("text format", b'(module (memory (export "memory") 1) (func (export "_start")))'),
        ("another version", b"\0asm\x0d\0\x01\0"),
        ("cut", b"\0asm\x01\0\0\0\x01\x7f"),
        ("no start", b"\0asm\x01\0\0\0"),
    ],
)
def test_what_is_no_command_module_is_invalid(name, data, tmp_path):
    report = report_of(tmp_path, module(tmp_path, data))

    assert report.reason == Reason.PROGRAM_INVALID, name
    assert report.detail


def test_a_module_larger_than_the_limit_is_invalid(tmp_path):
    path = tmp_path / "module.wasm"
    with path.open("wb") as file:
        file.write(b"\0asm\x01\0\0\0")
        file.truncate(65 * 2**20)

    report = report_of(tmp_path, WasmProgram(path))

    assert (report.reason, "larger" in report.detail) == (Reason.PROGRAM_INVALID, True)


def function_bomb(count):
    """A module of `count` small functions, in binary: cheap to send, slow to compile."""

    def unsigned(value):
        out = b""
        while True:
            value, low = value >> 7, value & 0x7F
            out += bytes([low | (0x80 if value else 0)])
            if not value:
                return out

    def section(number, content):
        return bytes([number]) + unsigned(len(content)) + content

    body = b"\x00" + b"\x41\x01\x1a" * 400 + b"\x0b"  # no locals; 400 times: i32.const 1, drop
    functions = unsigned(count) + b"\0" * count
    code = unsigned(count) + (unsigned(len(body)) + body) * count
    exports = b"\x02" + b"\x06_start\x00\x00" + b"\x06memory\x02\x00"
    return (
        b"\0asm\x01\0\0\0"
        + section(1, b"\x01\x60\x00\x00")
        + section(3, functions)
        + section(5, b"\x01\x00\x01")
        + section(7, exports)
        + section(10, code)
    )


def test_a_compilation_bomb_ends_at_the_wall_limit(tmp_path):
    began = time.monotonic()

    report = report_of(tmp_path, module(tmp_path, function_bomb(45_000)), wall_seconds=1)

    assert report.reason == Reason.WALL_LIMIT
    assert time.monotonic() - began < 5


def test_the_report_names_engine_profile_and_what_was_used(hostile, tmp_path):
    runtime = report_of(tmp_path, wasm(hostile, "done")).runtime

    assert runtime["engine"] == "wasmtime"
    assert runtime["profile"] == "insula/wasm/1"
    assert len(runtime["profileSha256"]) == 64
    assert runtime["applied"]["noNewPrivileges"] is True
    assert runtime["applied"]["resources"]["CORE"] == 0
    assert runtime["used"]["fuelUsed"] > 0
    assert 0 < runtime["used"]["memoryPeakBytes"] <= 32 * 2**20


def test_a_cancelled_job_is_dead_and_the_reason_is_passed_on(hostile, tmp_path):
    job = execution(tmp_path, wasm(hostile, "loop"))

    with pytest.raises(JobCancelled, match="lease lost"):
        WasmSandbox().run(job, lambda: "lease lost")


def test_a_job_of_another_engine_is_not_run(tmp_path):
    with pytest.raises(SandboxUnavailable) as caught:
        WasmSandbox().run(execution(tmp_path, ContainerProgram("sha256:" + "0" * 64)), lambda: None)

    assert caught.value.reason == Reason.ENGINE_MISSING


def test_a_job_with_a_way_out_is_not_run(hostile, tmp_path):
    with pytest.raises(SandboxUnavailable, match="no network"):
        WasmSandbox().run(replace(execution(tmp_path, wasm(hostile, "loop")), network=object()), lambda: None)


def test_the_probe_proves_every_limit():
    probe = WasmSandbox().probe()

    assert probe.usable, probe
    assert {check.name for check in probe.checks} >= {"memory", "disk", "files", "log", "network", "fuel", "wall"}
    assert all(check.held for check in probe.checks)
    assert probe.version.startswith("wasmtime ")
    assert "?" not in probe.version


NODE = """
import sys, time
from pathlib import Path
from executor.sandbox.types import *
from executor.sandbox.wasm import WasmSandbox
home = Path(sys.argv[1])
job = Execution("x", {}, WasmProgram(Path(sys.argv[2]), ("loop",)), (), home / "out", home / "scratch",
                Limits(600, 1000, 2**25, 2**20, 10, 1000, 1))
def told():
    print("running", flush=True)
WasmSandbox().run(job, told)
"""


def children(pid):
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_killing_the_node_leaves_no_job_behind(hostile, tmp_path):
    (tmp_path / "out").mkdir()
    command = [sys.executable, "-c", NODE, str(tmp_path), str(hostile.wasm)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as node:
        node.stdout.readline()
        wait_for(lambda: children(node.pid), 10, "the job's process")
        (child,) = children(node.pid)

        node.send_signal(signal.SIGKILL)
        node.wait(10)

        wait_for(lambda: not Path(f"/proc/{child}").exists() or "\nState:\tZ" in state(child), 10, "its end")


def state(pid):
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return "\nState:\tZ"


def test_the_host_s_python_settings_do_not_reach_the_job_s_process(hostile, tmp_path, monkeypatch):
    trap = tmp_path / "trap"
    trap.mkdir()
    (trap / "wasmtime.py").write_text("raise SystemExit('hijacked')")
    monkeypatch.setenv("PYTHONPATH", str(trap))
    monkeypatch.chdir(trap)

    assert report_of(tmp_path, wasm(hostile, "done")).stdout == b"DONE\n"
