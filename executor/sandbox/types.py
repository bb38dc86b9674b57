"""What the sandboxes are given and what they report. Values only: nothing here starts anything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from executor.errors import InsulaError
from executor.protocol.reasons import Reason

Cancelled = Callable[[], str | None]
"""Asked about ten times a second while a job runs: None to go on, else why it must stop."""


def never() -> str | None:
    """Nobody cancels."""
    return None


class SandboxUnavailable(InsulaError):
    """This node cannot run the job now. Says nothing about the job: never attested, the lease goes back.

    reason: one of the 400s; text: what is missing and how to get it.
    """

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(reason, text)
        self.reason = reason
        self.text = text

    def __str__(self) -> str:
        return f"{self.text} ({self.reason.name})"


class JobCancelled(InsulaError):
    """The caller asked for the job to stop (lease lost, node stopping); it is dead when this is raised."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why

    def __str__(self) -> str:
        return f"the job was cancelled: {self.why}"


Runtime = Literal["runc", "runsc"]
"""How a container is run: plainly, or behind gVisor's own kernel."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a job may use. log_bytes is per stream; bytes and entries of /outputs count by file size, not by blocks.

    cpu_millis: thousandths of a core. output_files: files and directories together. fuel: wasm instructions, about
    (None: only the wall limits them).
    """

    wall_seconds: int
    cpu_millis: int
    memory_bytes: int
    disk_bytes: int
    output_files: int
    log_bytes: int
    pids: int
    fuel: int | None = None


@dataclass(frozen=True, slots=True)
class InputMount:
    """A file or directory of the host (never a link), shown to the job read-only at `target`, /inputs or below."""

    source: Path
    target: str


@dataclass(frozen=True, slots=True)
class WasmProgram:
    """A WASI preview 1 command module. args are without the program's own name."""

    module: Path
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ContainerProgram:
    """A container image by its full id (`sha256:...`) or `name@sha256:...`; never pulled.

    archive: a `docker load` archive that holds the image, loaded where the engine does not have it. entrypoint: None
    keeps the image's own; the image's command is used only where neither entrypoint nor args are given.
    """

    image: str
    archive: Path | None = None
    entrypoint: tuple[str, ...] | None = None
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    workdir: str = "/"
    runtime: Runtime = "runc"


class Network(Protocol):
    """A way out for one job: something that listens on loopback in its network namespace, which has nothing else."""

    @property
    def env(self) -> tuple[tuple[str, str], ...]:
        """Variables that tell the job of it; its own come after them."""

    def open(self, namespace: int) -> None:
        """Listen in the network namespace of a descriptor, before the job's first instruction. SandboxUnavailable."""


@dataclass(frozen=True, slots=True)
class Execution:
    """One run of one job.

    execution_id: unique on this node, [A-Za-z0-9_.-]{1,100}. trace: `request_id` and `request_hash`, for labels and
    logs. outputs: an empty directory of the caller's, the job's /outputs. scratch: a private directory of this run.
    secrets: a directory in memory, shown to the job read-only as /secrets; None for none.
    network: None is none at all; only the tier `container` takes one.
    """

    execution_id: str
    trace: dict[str, str]
    program: WasmProgram | ContainerProgram
    inputs: tuple[InputMount, ...]
    outputs: Path
    scratch: Path
    limits: Limits
    secrets: Path | None = None
    network: Network | None = None


@dataclass(frozen=True, slots=True)
class RunReport:
    """How a run ended. exit_code is 0 where a limit or a trap ended it; times are seconds since 1970.

    reason: NONE, or one of the 200s. detail: one bounded line for people, outside the outcome. runtime: engine,
    versions, profile and its sha256, settings as read back, what was used; JSON, goes into the receipt.
    """

    exit_code: int
    reason: Reason
    detail: str
    stdout: bytes
    stderr: bytes
    started_at: float
    finished_at: float
    runtime: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Check:
    """One limit that was put to the test with a job of the node's own."""

    name: str
    held: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Probe:
    """Whether a sandbox can be used here. problem: empty where usable, else what is wrong and how to mend it.

    notes: what the operator should know though it stops nothing. accepted: known escapes of the runtime that the policy
    accepts.
    """

    tier: str
    usable: bool
    version: str
    problem: str
    checks: tuple[Check, ...] = ()
    notes: tuple[str, ...] = ()
    accepted: tuple[str, ...] = ()


class Sandbox(Protocol):
    """One way to run jobs. Use: `run`, then collect the outputs, then `release`."""

    @property
    def tier(self) -> str:
        """`wasm`, `container` or `gvisor`."""

    def probe(self, cancelled: Cancelled = never) -> Probe:
        """Whether it is usable, proved with jobs that go for each limit. Takes seconds; never raises for a bad host.

        JobCancelled when `cancelled` says why; nothing is left behind then either.
        """

    def run(self, execution: Execution, cancelled: Cancelled) -> RunReport:
        """Run to the end. The job and all its processes are dead when this returns or raises.

        Raises SandboxUnavailable (the node's condition, not the job's) and JobCancelled.
        """

    def release(self, execution: Execution) -> None:
        """Undo what `run` left for the collection of outputs (a mount, staged inputs). Never fails; may be repeated."""

    def reap(self, live: set[str]) -> list[str]:
        """End and remove what a crash left of executions that are not in `live`; their ids. At the node's start."""
