"""What a container that ended has done: its exit code, the reason, and what was seen of it while it lived."""

from __future__ import annotations

import contextlib
import os
import select
import time
from dataclasses import dataclass, field
from typing import Any, Final

from executor.protocol.reasons import Reason
from executor.sandbox.attached import Streams
from executor.sandbox.cgroups import Pressure
from executor.sandbox.tree import OutputUnsafe, Usage, measure
from executor.sandbox.types import ContainerProgram, Execution, SandboxUnavailable

TICK_SECONDS: Final = 0.1


@dataclass(slots=True)
class Run:
    """What is known of a running container."""

    streams: Streams
    pressure: Pressure = field(default_factory=Pressure)
    over: Reason = Reason.NONE
    detail: str = ""


class Watch:
    """Measures the outputs of a living job, so that too much ends it; seldom where measuring itself takes long."""

    def __init__(self, execution: Execution) -> None:
        self._outputs = execution.outputs
        self._limits = execution.limits
        self._next = 0.0

    def step(self, run: Run) -> None:
        """Look, when it is time to."""
        now = time.monotonic()
        if run.over or now < self._next:
            return
        with contextlib.suppress(OSError, OutputUnsafe):  # it moves under our feet: the end decides
            run.over, run.detail = _over(measure(self._outputs), self._limits.disk_bytes, self._limits.output_files)
        self._next = now + max(TICK_SECONDS, 10 * (time.monotonic() - now))


def at_the_wall(execution: Execution, run: Run) -> tuple[Reason, str]:
    """At the wall limit: a job that was refused processes is stuck because of that, as fork bombs are."""
    if run.pressure.refused_processes:
        return Reason.PIDS_LIMIT, f"the limit is {execution.limits.pids} processes"
    return Reason.WALL_LIMIT, f"still running after {execution.limits.wall_seconds} s"


def _over(usage: Usage, disk_bytes: int, output_files: int) -> tuple[Reason, str]:
    if usage.size > disk_bytes:
        return Reason.DISK_LIMIT, f"/outputs: more than {disk_bytes} bytes"
    if usage.entries > output_files:
        return Reason.FILES_LIMIT, f"/outputs: more than {output_files} entries"
    return Reason.NONE, ""


def judge(execution: Execution, run: Run, state: dict[str, Any]) -> tuple[int, Reason, str]:
    """Exit code, reason and detail of a container that is dead. What the kernel did comes before what the job says."""
    if run.over:
        return 0, run.over, run.detail
    if state.get("OOMKilled") or run.pressure.memory_kills:
        return 0, Reason.MEMORY_LIMIT, f"the limit is {execution.limits.memory_bytes} bytes"
    try:
        usage = measure(execution.outputs)
    except OutputUnsafe as exc:
        return 0, Reason.OUTPUT_UNSAFE, str(exc)
    over, detail = _over(usage, execution.limits.disk_bytes, execution.limits.output_files)
    if over:
        return 0, over, detail
    code = int(state["ExitCode"])
    if code and is_gvisor(execution) and run.pressure.refused_processes:
        # gVisor's kernel breaks down, without a word, where the host refuses it a thread that a job wants
        return 0, Reason.PIDS_LIMIT, f"the limit is {execution.limits.pids} processes"
    return code, Reason.EXIT_NON_ZERO if code else Reason.NONE, str(state.get("Error") or "")[:500]


def is_gvisor(execution: Execution) -> bool:
    """Whether it runs on gVisor's kernel."""
    return isinstance(execution.program, ContainerProgram) and execution.program.runtime == "runsc"


def listen(descriptor: int | None, run: Run, deadline: float) -> bool:
    """Wait for output for at most one tick and take it; False when the stream is at its end."""
    wait = max(0.0, min(TICK_SECONDS, deadline - time.monotonic()))
    if descriptor is None:
        time.sleep(wait)
        return False
    ready, _, _ = select.select([descriptor], [], [], wait)
    if not ready:
        return True
    data = os.read(descriptor, 2**16)
    try:
        run.streams.feed(data)
    except ValueError as exc:
        raise SandboxUnavailable(Reason.NODE_FAULT, f"the engine's log stream is broken: {exc}") from exc
    if run.streams.over:
        run.over, run.detail = Reason.LOG_LIMIT, f"{run.streams.over}: more bytes than the limit"
    return bool(data)
