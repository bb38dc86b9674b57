"""One execution's way out, from the node's side: starts the proxy's process and takes over its record."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import executor
from executor.audit.egressrules import EgressRules
from executor.protocol.network import Destination
from executor.protocol.reasons import Reason
from executor.sandbox.types import SandboxUnavailable

PORT: Final = 3128
READY_SECONDS: Final = 20.0
END_SECONDS: Final = 10.0
MAX_LINE_BYTES: Final = 2**20
#: -I: neither the environment nor the current folder decide what is imported; the project's own root is put last
BOOTSTRAP: Final = "import sys; sys.path.append(sys.argv[1]); from executor.egress.child import main; main()"


@dataclass(frozen=True)
class Gates:
    """What a node gives ways out with. bootstrap: the program of a proxy's process; only tests have another."""

    rules: EgressRules
    bootstrap: str = BOOTSTRAP
    ready_seconds: float = READY_SECONDS

    def problem(self) -> str:
        """Why no job can be given a way out here, and what to do; empty where one can."""
        try:
            with _Process(self.bootstrap, {"try": True}) as process:
                process.ready(self.ready_seconds)
        except SandboxUnavailable as exc:
            return exc.text
        return ""

    def gate(self, destinations: Sequence[Destination]) -> Gate:
        """For one execution; nothing is started yet."""
        return Gate(self, tuple(destinations))


@dataclass
class Gate:
    """See `executor.sandbox.types.Network`. Use: `open` once, by the sandbox; then `close`, which may be repeated."""

    gates: Gates
    destinations: tuple[Destination, ...]
    _process: _Process | None = field(default=None)

    @property
    def env(self) -> tuple[tuple[str, str], ...]:
        """Where programs look for a proxy."""
        proxy = f"http://127.0.0.1:{PORT}"
        names = ("HTTPS_PROXY", "HTTP_PROXY", "http_proxy", "https_proxy")
        return (*((name, proxy) for name in names), ("NO_PROXY", ""), ("no_proxy", ""))

    def open(self, namespace: int) -> None:
        """The proxy listens in that network namespace (a descriptor) when this returns. SandboxUnavailable."""
        rules = self.gates.rules
        given = {
            "try": False,
            "namespace": namespace,
            "port": PORT,
            "destinations": [[one.host, one.ports] for one in self.destinations],
            "bytesOut": rules.max_bytes_out,
            "bytesIn": rules.max_bytes_in,
            "exchanges": rules.max_exchanges,
            "exchangeSeconds": rules.exchange_seconds,
            "connections": rules.max_connections,
        }
        process = _Process(self.gates.bootstrap, given, (namespace,))
        process.ready(self.gates.ready_seconds)
        self._process = process

    def close(self) -> dict[str, Any]:
        """End the proxy; its record. SandboxUnavailable where it has none: such a run counts for nothing."""
        process, self._process = self._process, None
        if process is None:  # the job was never started
            return {"exchanges": [], "omitted": 0}
        with process:
            return process.record()


class _Process:
    """The proxy's process and the pipes to it."""

    def __init__(self, bootstrap: str, given: dict[str, Any], descriptors: tuple[int, ...] = ()) -> None:
        self._buffer = b""
        root = Path(executor.__file__).resolve().parents[1]
        lifeline, self._lifeline = os.pipe()
        try:
            self._child = subprocess.Popen(
                [sys.executable, "-I", "-c", bootstrap, os.fspath(root)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={"LANG": "C.UTF-8"},
                cwd="/",
                pass_fds=(lifeline, *descriptors),
                start_new_session=True,
                bufsize=0,
            )
        except OSError as exc:
            os.close(self._lifeline)
            raise SandboxUnavailable(Reason.NODE_FAULT, f"no proxy could be started: {exc}") from exc
        finally:
            os.close(lifeline)
        self._write(json.dumps({**given, "parent": os.getpid(), "lifeline": lifeline}).encode() + b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def ready(self, seconds: float) -> None:
        """Wait until it listens. SandboxUnavailable; it is ended then."""
        try:
            said = self._line(seconds)
        except SandboxUnavailable:
            self.end()
            raise
        if "ready" not in said:
            self.end()
            why = str(said.get("problem", "it says nothing"))[:200]
            text = f"no way out can be made for a job: {why}; the node has to run as root (CAP_SYS_ADMIN) on Linux"
            raise SandboxUnavailable(Reason.ENGINE_MISSING, text)

    def record(self) -> dict[str, Any]:
        """Tell it to end; its record. SandboxUnavailable."""
        self._write(b"end\n")
        said = self._line(END_SECONDS)
        if not isinstance(said.get("exchanges"), list) or not isinstance(said.get("omitted"), int):
            raise SandboxUnavailable(Reason.NODE_FAULT, "the job's proxy gives no record")
        return said

    def end(self) -> None:
        """Kill it, if need be. May be repeated."""
        if self._child.stdout is None or self._child.stdout.closed:
            return
        with contextlib.suppress(OSError):
            self._child.kill()
        self._child.wait(END_SECONDS)
        os.close(self._lifeline)
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                pipe.close()

    def _write(self, data: bytes) -> None:
        assert self._child.stdin is not None  # noqa: S101 - a pipe, see above
        with contextlib.suppress(BrokenPipeError):  # it died: the answer that does not come says so
            self._child.stdin.write(data)

    def _line(self, seconds: float) -> dict[str, Any]:
        assert self._child.stdout is not None  # noqa: S101 - a pipe, see above
        end = time.monotonic() + seconds
        while b"\n" not in self._buffer:
            left = end - time.monotonic()
            if left <= 0 or len(self._buffer) > MAX_LINE_BYTES:
                raise SandboxUnavailable(Reason.NODE_FAULT, "the job's proxy does not answer")
            if not select.select([self._child.stdout], [], [], left)[0]:
                continue
            data = os.read(self._child.stdout.fileno(), 2**16)
            if not data:
                raise SandboxUnavailable(Reason.NODE_FAULT, "the job's proxy has died")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            said = json.loads(line)
        except ValueError as exc:
            raise SandboxUnavailable(Reason.NODE_FAULT, "the job's proxy is not itself") from exc
        if not isinstance(said, dict):
            raise SandboxUnavailable(Reason.NODE_FAULT, "the job's proxy is not itself")
        return said
