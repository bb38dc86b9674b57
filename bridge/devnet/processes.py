"""Child processes that never outlive their purpose: started with a log file each, stopped by id, in reverse order."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bridge.errors import BridgeError

STOP_SECONDS = 25.0  # between the polite signal and the other one; a node first ends its containers


class ProcessFailed(BridgeError):
    """A process of the devnet ended, or did not get ready in time."""


@dataclass
class Child:
    """One process and where it logs."""

    name: str
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    def tail(self, lines: int = 12) -> str:
        """The last lines of its log."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        return ""


@dataclass
class ProcessGroup:
    """The children of one devnet. Use as a context manager: leaving it stops them all, whatever happened."""

    folder: Path
    detached: bool = False  # True: they live on after this process, until `stop_recorded`
    children: list[Child] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not (self.detached and kind is None):
            self.stop()

    def start(
        self, name: str, argv: Sequence[str], *, cwd: Path | None = None, env: dict[str, str] | None = None
    ) -> Child:
        """Start a process; its output goes to `folder/logs/NAME.log`."""
        log = self.folder / "logs" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as sink:
            process = subprocess.Popen(
                argv if self.detached else [sys.executable, "-m", "bridge.devnet.leash", str(os.getpid()), *argv],
                cwd=cwd,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches us alone; we stop them in order
            )
        child = Child(name, log, process)
        self.children.append(child)
        self._record()
        return child

    def wait_until(self, what: str, ready: Callable[[], bool], seconds: float) -> None:
        """Poll `ready` until it is true. ProcessFailed when a child ended meanwhile, or the time is over."""
        end = time.monotonic() + seconds
        while not ready():
            for child in self.children:
                if child.process.poll() is not None:
                    raise ProcessFailed(
                        f"{child.name} ended with status {child.process.returncode} while waiting for {what}; "
                        f"its log {child.log} ends:\n{child.tail()}"
                    )
            if time.monotonic() > end:
                raise ProcessFailed(f"{what} did not come within {seconds:.0f} s; the logs are in {self.folder}/logs")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop all, last started first."""
        for child in reversed(self.children):
            _signal(child.pid, signal.SIGTERM)
        end = time.monotonic() + STOP_SECONDS
        for child in reversed(self.children):
            try:
                child.process.wait(max(0.05, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                _signal(child.pid, signal.SIGKILL)
                child.process.wait(5)
        self.children.clear()
        (self.folder / "processes.json").unlink(missing_ok=True)

    def _record(self) -> None:
        rows = [{"name": c.name, "pid": c.pid, "started": _start_ticks(c.pid)} for c in self.children]
        target = self.folder / "processes.json"
        partial = target.with_suffix(".tmp")
        partial.write_text(json.dumps(rows, indent=2))
        partial.replace(target)


def recorded(folder: Path) -> list[dict[str, Any]]:
    """The processes that a detached group left running and that are still the same processes."""
    try:
        rows: list[dict[str, Any]] = json.loads((folder / "processes.json").read_text())
    except (OSError, ValueError):
        return []
    return [row for row in rows if row["started"] is not None and _start_ticks(row["pid"]) == row["started"]]


def stop_recorded(folder: Path) -> list[str]:
    """Stop what a detached group left running; the names of what was stopped."""
    rows = list(reversed(recorded(folder)))
    for row in rows:
        _signal(row["pid"], signal.SIGTERM)
    end = time.monotonic() + STOP_SECONDS
    for row in rows:
        while _start_ticks(row["pid"]) == row["started"] and time.monotonic() < end:
            time.sleep(0.05)
        if _start_ticks(row["pid"]) == row["started"]:
            _signal(row["pid"], signal.SIGKILL)
    (folder / "processes.json").unlink(missing_ok=True)
    return [row["name"] for row in rows]


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since boot (proc(5), field 22): tells a reused id from the old one."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[19])
