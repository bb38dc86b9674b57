"""A job run again, from its record: by the code that runs it on a node, in a folder of its own, for nobody.

There is no bridge and no lease: nothing is signed, nothing is sent, and the output stays in the folder.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import structlog

from executor.agent.classes import Classes
from executor.agent.client import BridgeClient
from executor.agent.config import NodeConfig
from executor.agent.errors import GiveBack, LeaseLost
from executor.agent.execution import JobExecution
from executor.agent.parts import Decided, Parts, Work
from executor.agent.pulse import Pulse
from executor.agent.room import Room
from executor.agent.service import make_sandboxes
from executor.audit.policy import JobLimits, OutputRules, Policy
from executor.content.blockstore import BlockStore
from executor.content.roots import RootSet
from executor.content.web import Http
from executor.errors import InsulaError, InvalidInput
from executor.holds import Hold, Holds
from executor.ledger import Ledger
from executor.protocol.leases import Capacity, Lease, RequestMessage
from executor.protocol.reasons import Reason
from executor.protocol.signing import Key
from executor.protocol.spec import JobSpec
from executor.protocol.wire import ZERO_ADDRESS, Request
from executor.sandbox.types import Sandbox

NOWHERE = "http://127.0.0.1:9"  # the discard port: a replay calls no bridge
_NO_LIMIT = 2**62

#: The job's own limits hold; no operator's do, and what leaves nothing needs no rule about leaving.
OPEN_POLICY = Policy(
    limits=JobLimits(wall_seconds=None),
    max_input_bytes=_NO_LIMIT,
    outputs=OutputRules(max_bytes=_NO_LIMIT, max_files=_NO_LIMIT, max_depth=200, max_path_bytes=_NO_LIMIT),
)


class CannotRun(InsulaError):
    """This machine cannot run the job; says nothing of its record. `reason`: one of the 400s."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(reason, text)
        self.reason = reason
        self.text = text

    def __str__(self) -> str:
        return f"{self.text} ({self.reason.name})"


def proved_sandbox(tier: str, node: str, accepted: Sequence[str] = ()) -> Sandbox:
    """The sandbox of a tier, its limits proved here as on a node. CannotRun says what is missing.

    node: marks containers of this process; [A-Za-z0-9_.-]. accepted: known escapes of the container runtime in spite
    of which it runs (`executor.sandbox.escapes`).
    """
    config = _config(1, ZERO_ADDRESS, tier)
    (sandbox,) = make_sandboxes(config, node, accepted)
    probe = sandbox.probe()
    if not probe.usable:
        raise CannotRun(Reason.ENGINE_MISSING, probe.problem)
    return sandbox


class Replay:
    """One job, to be run again any number of times."""

    def __init__(self, parts: Parts, request: Request, job: JobSpec, spec: bytes) -> None:
        self._parts = parts
        self._request = request
        self._job = job
        self._spec = spec
        self._runs = 0

    def run(self) -> Decided:
        """Run it once more. CannotRun."""
        self._runs += 1
        work = self._work(f"replay-{self._runs}")
        try:
            decided = JobExecution(work, self._job, self._spec, ()).run()
        except GiveBack as exc:
            raise CannotRun(exc.reason, exc.detail) from exc
        except LeaseLost as exc:
            raise CannotRun(Reason.LEASE_LOST, str(exc)) from exc
        if isinstance(decided, Hold):  # no reviewer is asked by OPEN_POLICY
            raise CannotRun(Reason.NODE_FAULT, "the output was held")
        return decided

    def _work(self, execution_id: str) -> Work:
        parts = self._parts
        lease = Lease(
            lease_id=execution_id,
            token=1,
            request_hash=self._request.hash,
            slot=1,
            attempt=self._runs,
            request=RequestMessage.of(self._request),
            relayer=ZERO_ADDRESS,
            heartbeat_seconds=3600,
            expires_in_seconds=3600,
        )
        log = structlog.get_logger("insula.replay").bind(request_id=self._request.id, execution=execution_id)
        pulse = Pulse(parts.client, lease, parts.stopping, parts.clock, log)
        return Work(
            lease=lease,
            request=self._request,
            execution_id=execution_id,
            pulse=pulse,
            peer=parts.client.peer(lease, pulse.check),
            log=log,
            parts=parts,
        )


@contextmanager
def replaying(
    folder: Path, request: Request, job: JobSpec, spec: bytes, store: BlockStore, sandbox: Sandbox
) -> Iterator[Replay]:
    """A replay in `folder`, an empty one. `store` has program and inputs; outputs are put there, too."""
    tier = job.engine.tier
    if sandbox.tier != tier:
        raise InvalidInput("sandbox", f"is of the tier {sandbox.tier}; the job asks for {tier}")
    key = Key.random()
    ledger = Ledger.create(folder / "ledger.db", key.address)
    http = Http(NOWHERE)
    config = _config(request.chain_id, request.contract, tier)
    limits = job.limits
    try:
        yield Replay(
            Parts(
                folder=folder,
                config=config,
                policy=OPEN_POLICY,
                classes=Classes(store, OPEN_POLICY.data),
                key=key,
                client=BridgeClient(http),
                ledger=ledger,
                holds=Holds(ledger, config.quarantine_keys(folder, key.address)),
                store=store,
                roots=RootSet(store),
                sandboxes={tier: sandbox},
                chain=None,
                room=Room(
                    Capacity(
                        slots=1,
                        cpu_millis=limits.cpu_millis,
                        memory_bytes=limits.memory_bytes,
                        disk_bytes=limits.disk_bytes,
                    )
                ),
                stopping=threading.Event(),
                clock=time.time,
            ),
            request,
            job,
            spec,
        )
    finally:
        http.close()
        ledger.close()


def _config(chain_id: int, contract: str, tier: str) -> NodeConfig:
    fields = {"bridge_url": NOWHERE, "chain_id": chain_id, "bridge_contract": contract, "registry": ZERO_ADDRESS}
    return NodeConfig.parse({**fields, "tiers": (tier,)}, "replay")
