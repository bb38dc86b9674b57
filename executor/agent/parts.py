"""What the phases of a lease work with: one node's parts, and one lease's context."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from structlog.typing import FilteringBoundLogger

from executor.agent.chainview import ChainView
from executor.agent.classes import Classes
from executor.agent.client import BridgeClient, LeasePeer
from executor.agent.config import NodeConfig
from executor.agent.outside import Outside
from executor.agent.pulse import Pulse
from executor.agent.room import Room
from executor.audit.policy import Policy
from executor.content.blockstore import BlockStore
from executor.content.patience import Patience
from executor.content.roots import RootSet
from executor.egress.gate import Gates
from executor.holds import Holds
from executor.ledger import Ledger
from executor.protocol.cid import Cid
from executor.protocol.leases import Lease
from executor.protocol.receipt import Dependency
from executor.protocol.signing import Key
from executor.protocol.wire import Outcome, Request
from executor.sandbox.types import Sandbox


@dataclass(frozen=True, kw_only=True)
class Parts:
    """One node. `sandboxes` are those whose probe held, by tier; `chain` is None without an RPC endpoint.

    gates: for jobs that are granted a way out; None where no job is, or none can be given one. outside: where inputs
    are looked for beside the bridge; None: nowhere.
    """

    folder: Path
    config: NodeConfig
    policy: Policy
    key: Key
    client: BridgeClient
    ledger: Ledger
    holds: Holds
    store: BlockStore
    roots: RootSet
    classes: Classes
    sandboxes: Mapping[str, Sandbox]
    chain: ChainView | None
    room: Room
    gates: Gates | None = None
    outside: Outside | None = None
    stopping: threading.Event = field(default_factory=threading.Event)
    clock: Callable[[], float]

    @property
    def executions(self) -> Path:
        """Where the folders of running executions are."""
        return self.folder / "executions"


@dataclass(frozen=True, kw_only=True)
class Work:
    """One lease being worked on. The request is recomputed here, its hash is the lease's."""

    lease: Lease
    request: Request
    execution_id: str
    pulse: Pulse
    peer: LeasePeer
    log: FilteringBoundLogger
    parts: Parts

    @property
    def label(self) -> str:
        """Under which the block store keeps this request's content."""
        return f"job:0x{self.request.hash.hex()}"

    def patience(self, seconds: float | None = None) -> Patience:
        """Until `seconds` from now, and never beyond the request's deadline; ends at once when the lease is lost."""
        clock = self.parts.clock
        end = float(self.request.deadline)
        if seconds is not None:
            end = min(end, clock() + seconds)
        return Patience(end, clock, self.pulse.pause)


@dataclass(frozen=True, kw_only=True)
class Decided:
    """What an execution came to, with what its receipt says. `output` is the released output's root."""

    outcome: Outcome
    spec: bytes
    started_at: float
    finished_at: float
    dependencies: tuple[Dependency, ...] = ()
    runtime: Mapping[str, Any] = field(default_factory=dict)
    manifest: tuple[Mapping[str, Any], ...] = ()
    output: Cid | None = None
    detail: str = ""
    release: Mapping[str, Any] | None = None  # who decided, where reviewers did
    policy: Mapping[str, Any] = field(default_factory=dict)  # what of the operator's own was opened to the job
    scanners: tuple[Mapping[str, Any], ...] = ()  # the operator's own, and their words
    egress: Mapping[str, Any] | None = None  # what passed, where the job had a way out (`executor.egress.record`)
