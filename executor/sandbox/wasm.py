"""WebAssembly jobs, each in a child process of its own.

The parent does not lean on the child for limits of time and bytes: it ends it at the wall limit, when the job is
cancelled, and when it passes on more than it may.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import executor
from executor.protocol.reasons import Reason
from executor.sandbox import frames
from executor.sandbox.staging import stage_inputs
from executor.sandbox.types import (
    Cancelled,
    Check,
    Execution,
    JobCancelled,
    Probe,
    RunReport,
    SandboxUnavailable,
    WasmProgram,
    never,
)
from executor.sandbox.wasm_probe import PROBES
from executor.sandbox.wasm_profile import PROFILE_ID, profile_sha256, resource_limits

TICK_SECONDS: Final = 0.1
"""How often cancellation is asked for."""
END_SECONDS: Final = 10.0
"""How long a child may take to end after its report, or after SIGKILL."""
MAX_DIAGNOSTIC_BYTES: Final = 8192

#: -I: neither the environment nor the current folder decide what is imported; the project's own root is put last
_BOOTSTRAP: Final = "import sys; sys.path.append(sys.argv[1]); from executor.sandbox.wasm_child import main; main()"


@dataclass(slots=True)
class _Output:
    """What the child has said so far."""

    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    diagnostics: bytearray = field(default_factory=bytearray)
    hello: dict[str, Any] = field(default_factory=dict)
    compiled: bool = False
    report: bytearray = field(default_factory=bytearray)


@dataclass(frozen=True, slots=True)
class _Ending:
    reason: Reason
    detail: str
    exit_code: int = 0
    used: dict[str, Any] = field(default_factory=dict)


class WasmSandbox:
    """WASI preview 1 commands in wasmtime. Needs no daemon and no privilege. clock: seconds since 1970, for reports."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock

    @property
    def tier(self) -> str:
        """`wasm`."""
        return "wasm"

    def run(self, execution: Execution, cancelled: Cancelled) -> RunReport:
        """Run a WasmProgram. See Sandbox.run."""
        return self._run(execution, cancelled, text=False)

    def release(self, execution: Execution) -> None:
        """Nothing is left behind but what is in the execution's own scratch directory."""

    def reap(self, live: set[str]) -> list[str]:  # noqa: ARG002 - the protocol's parameter
        """Nothing to do: a child dies with its node, kill -9 included (`confine.die_with_parent`)."""
        return []

    def probe(self, cancelled: Cancelled = never) -> Probe:
        """Run one job against each limit; about two seconds."""
        checks: list[Check] = []
        version = ""
        with tempfile.TemporaryDirectory(prefix="insula-probe-") as folder:
            for probe in PROBES:
                try:
                    report = self._run(probe.execution(Path(folder)), cancelled, text=True)
                except SandboxUnavailable as exc:
                    return Probe(self.tier, False, version, f"{probe.name}: {exc.text}", tuple(checks))
                if "version" in report.runtime:  # a process that was ended at once did not get to say it
                    version = f"wasmtime {report.runtime['version']}"
                found = f"{report.reason.name}, exit code {report.exit_code}"
                held = (report.reason, report.exit_code) == (probe.reason, probe.exit_code)
                checks.append(Check(probe.name, held, found if held else f"{found}: {report.detail}"))
        broken = [check.name for check in checks if not check.held]
        problem = f"these limits do not hold here: {', '.join(broken)}" if broken else ""
        return Probe(self.tier, not broken, version, problem, tuple(checks))

    def _run(self, execution: Execution, cancelled: Cancelled, *, text: bool) -> RunReport:
        if not isinstance(execution.program, WasmProgram):
            raise SandboxUnavailable(Reason.ENGINE_MISSING, "the wasm sandbox runs WebAssembly modules only")
        if execution.network is not None:
            raise SandboxUnavailable(Reason.ENGINE_MISSING, "the wasm sandbox has no network to give")
        inputs = stage_inputs(execution.inputs, execution.scratch / "inputs")
        started = self._clock()
        deadline = time.monotonic() + execution.limits.wall_seconds
        output = _Output()
        child = _start()
        try:
            _send(child, _description(execution, execution.program, inputs, text=text))
            ending = _pump(child, output, execution, cancelled, deadline)
        finally:
            returncode = _end(child)
        if ending is None:
            ending = _ending(output, returncode)
        runtime = {"engine": "wasmtime", "profile": PROFILE_ID, "profileSha256": profile_sha256()}
        runtime |= output.hello | ending.used
        return RunReport(
            exit_code=ending.exit_code,
            reason=ending.reason,
            detail=ending.detail,
            stdout=bytes(output.stdout),
            stderr=bytes(output.stderr),
            started_at=started,
            finished_at=self._clock(),
            runtime=runtime,
        )


def _start() -> subprocess.Popen[bytes]:
    root = Path(executor.__file__).resolve().parents[1]
    try:
        return subprocess.Popen(
            [sys.executable, "-I", "-c", _BOOTSTRAP, os.fspath(root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"LANG": "C.UTF-8", "TZ": "UTC"},
            cwd="/",
            start_new_session=True,
            bufsize=0,
        )
    except OSError as exc:
        raise SandboxUnavailable(Reason.NODE_FAULT, f"no process for the job could be started: {exc}") from exc


def _description(execution: Execution, program: WasmProgram, inputs: Path, *, text: bool) -> dict[str, Any]:
    limits = execution.limits
    return {
        "parent": os.getpid(),
        "version": metadata.version("wasmtime"),  # its own look would cost it more than the rest of its start
        "module": os.fspath(program.module.absolute()),
        "text": text,
        "args": program.args,
        "env": program.env,
        "inputs": os.fspath(inputs.absolute()),
        "outputs": os.fspath(execution.outputs.absolute()),
        "secrets": os.fspath(execution.secrets.absolute()) if execution.secrets else "",
        "memoryBytes": limits.memory_bytes,
        "diskBytes": limits.disk_bytes,
        "outputFiles": limits.output_files,
        "logBytes": limits.log_bytes,
        "fuel": limits.fuel,
        "resources": resource_limits(limits),
    }


def _send(child: subprocess.Popen[bytes], description: dict[str, Any]) -> None:
    data = json.dumps(description).encode()
    assert child.stdin is not None  # noqa: S101 - a pipe, see _start
    view = memoryview(len(data).to_bytes(4, "big") + data)
    with contextlib.suppress(BrokenPipeError):  # it died at once: its exit code says more
        while view:
            view = view[child.stdin.write(view) or 0 :]


def _pump(
    child: subprocess.Popen[bytes], output: _Output, execution: Execution, cancelled: Cancelled, deadline: float
) -> _Ending | None:
    """Read what the child says until it has ended or must end: then the ending that the parent decided, else None."""
    reader = frames.FrameReader()
    assert child.stdout is not None  # noqa: S101 - pipes, see _start
    assert child.stderr is not None  # noqa: S101
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        selector.register(child.stderr, selectors.EVENT_READ)
        while selector.get_map():
            why = cancelled()
            if why is not None:
                raise JobCancelled(why)
            left = deadline - time.monotonic()
            if left <= 0:
                return _Ending(Reason.WALL_LIMIT, f"still running after {execution.limits.wall_seconds} s")
            for key, _ in selector.select(min(left, TICK_SECONDS)):
                data = os.read(key.fd, frames.MAX_FRAME_BYTES)
                if not data:
                    selector.unregister(key.fileobj)
                elif key.fileobj is child.stderr:
                    output.diagnostics += data[: MAX_DIAGNOSTIC_BYTES - len(output.diagnostics)]
                else:
                    _take(reader, data, output, execution.limits.log_bytes)
    return None


def _take(reader: frames.FrameReader, data: bytes, output: _Output, log_bytes: int) -> None:
    try:
        for kind, payload in reader.feed(data):
            if kind == frames.HELLO:
                output.hello = json.loads(payload)
            elif kind == frames.COMPILED:
                output.compiled = True
            elif kind == frames.REPORT:
                output.report += payload
            else:
                stream = output.stdout if kind == frames.STDOUT else output.stderr
                stream += payload
                if len(stream) > log_bytes:  # the child counts too: more than this is not the job's doing
                    raise SandboxUnavailable(Reason.NODE_FAULT, "the job's process passed on more than the log limit")
    except frames.BadFrame as exc:
        raise SandboxUnavailable(Reason.NODE_FAULT, f"the job's process is not itself: {exc}") from exc
    if len(output.report) > frames.MAX_FRAME_BYTES:
        raise SandboxUnavailable(Reason.NODE_FAULT, "the job's process sent an endless report")


def _end(child: subprocess.Popen[bytes]) -> int:
    """Kill the child and its group, close the pipes; its return code (minus the signal that ended it)."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
    try:
        returncode = child.wait(END_SECONDS)
    except subprocess.TimeoutExpired as exc:
        raise SandboxUnavailable(Reason.NODE_FAULT, f"process {child.pid} does not die: is a disk stuck?") from exc
    finally:
        for pipe in (child.stdin, child.stdout, child.stderr):
            if pipe is not None:
                pipe.close()
    return returncode


def _ending(output: _Output, returncode: int) -> _Ending:
    """What the child reported, or what its death says."""
    if output.report:
        report = json.loads(output.report)
        return _Ending(Reason(report["reason"]), report["detail"], report["exitCode"], {"used": report["used"]})
    if returncode == -signal.SIGXCPU:
        return _Ending(Reason.CPU_LIMIT, "used more processor time than its wall limit")
    died = f"signal {-returncode}" if returncode < 0 else f"exit code {returncode}"
    if not output.compiled and -returncode in (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL):
        return _Ending(Reason.PROGRAM_INVALID, f"the compiler gave up on it ({died})")
    said = output.diagnostics.decode("utf-8", "replace").strip()[-500:]
    raise SandboxUnavailable(Reason.NODE_FAULT, f"the job's process died: {died} {said}".rstrip())
