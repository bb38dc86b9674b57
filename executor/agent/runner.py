"""One lease from beginning to end: decide, sign once, deliver. Whatever happens, the lease ends and nothing is left.

Intent is written before the act: begun, running, quarantined, held, released, signed, then how it ended (attested,
returned, lost, rejected). After a kill -9 the ledger shows how far it came, and what was signed is handed in again on
the next lease for the same request, byte for byte. A lease whose output was held goes on where it was: `resume`.
"""

from __future__ import annotations

import time
from contextlib import suppress

import structlog
from structlog.typing import FilteringBoundLogger

from executor.agent import intake
from executor.agent import outcome as outcomes
from executor.agent.errors import GiveBack, LeaseLost
from executor.agent.execution import JobExecution
from executor.agent.holding import await_ruling, conclude
from executor.agent.parts import Decided, Parts, Work
from executor.agent.publishing import JOB
from executor.agent.pulse import Pulse
from executor.agent.record import one_line, sign
from executor.agent.redacting import release_part
from executor.agent.retention import finish
from executor.audit.policy import PolicyRefused
from executor.content.disk import is_disk_full
from executor.content.patience import Patience
from executor.content.transfer import upload_dag
from executor.errors import BlockMissing, DiskFull, InsulaError, PeerError, PeerRefused
from executor.holds import HELD, Hold
from executor.ledger import Intent, SignedRecord
from executor.protocol.cid import Cid
from executor.protocol.leases import Lease, Phase
from executor.protocol.reasons import Reason
from executor.protocol.spec import InvalidSpec, job_of
from executor.protocol.wire import Outcome, Request

RETURN_SECONDS = 6.0
UPLOAD_TRIES = 3
LEFT_SECONDS = 3600.0
"""How long inputs stay when their lease is over. A deadline may be weeks away, and who orders pays for none of it."""


class LeaseRunner:
    """Works on one lease. `run` never raises: it gives how it ended, which also stands in the ledger."""

    def __init__(self, parts: Parts, lease: Lease, execution_id: str) -> None:
        self._parts = parts
        self._lease = lease
        self._id = execution_id
        self._log: FilteringBoundLogger = structlog.get_logger("insula.node").bind(
            request_id=lease.request.id,
            request_hash=f"0x{lease.request_hash.hex()}",
            slot=lease.slot,
            attempt=lease.attempt,
            execution=execution_id,
        )

    def run(self) -> str:
        """attested, returned, lost or rejected; or held, and nothing has ended: the node stopped while it waited."""
        return self._to_its_end(None)

    def resume(self, hold: Hold) -> str:
        """Like `run`, of a lease whose output was held when the node ended."""
        return self._to_its_end(hold)

    def _to_its_end(self, hold: Hold | None) -> str:
        try:
            state, detail = self._work_or_give_back(hold)
        except Exception as exc:  # noqa: BLE001 - the top of a lease: a bug must not cost the node its other leases
            self._log.exception("unexpected error")
            state, detail = self._give_back(Reason.NODE_FAULT, f"{type(exc).__name__} (see the node's log)")
        finally:
            self._parts.room.leave(self._id)
        if state == HELD:
            self._log.info("stays held", detail=detail)
            return state
        with suppress(InsulaError):
            finish(self._parts, self._id, state, detail)
        with suppress(InsulaError):
            self._let_go()
        self._log.info("lease ended", state=state, detail=detail)
        return state

    def _let_go(self) -> None:
        """Of all that was kept for this request only what was signed stays for long; the rest for a next attempt."""
        parts = self._parts
        record = parts.ledger.signed(self._lease.request_hash)
        output = Outcome.decode(record.outcome).output_cid if record is not None else b""
        signed = Cid.from_binary(output) if output else None
        parts.roots.shorten(JOB + self._lease.request_hash.hex(), parts.clock() + LEFT_SECONDS, but=signed)

    def _work_or_give_back(self, hold: Hold | None) -> tuple[str, str]:
        try:
            return self._work(hold)
        except LeaseLost as exc:
            return "lost", str(exc)
        except GiveBack as exc:
            if exc.reason is Reason.NODE_STOPPING and self._parts.holds.get(self._id) is not None:
                return HELD, "the node stopped; it goes on when the node starts again"
            return self._give_back(exc.reason, exc.detail)
        except (InsulaError, OSError) as exc:
            return self._give_back(*self._why(exc))

    def _why(self, exc: InsulaError | OSError) -> tuple[Reason, str]:
        """The node's reason behind an error, and what to say about it outside."""
        if isinstance(exc, PolicyRefused):
            return exc.reason, exc.problem
        if isinstance(exc, DiskFull) or (isinstance(exc, OSError) and is_disk_full(exc)):
            return Reason.DISK_FULL, "no space left on this node"
        # What exactly went wrong may name an output's files; it stays in this node's log.
        self._log.error("node fault", error=f"{type(exc).__name__}: {exc}")
        return Reason.NODE_FAULT, f"{type(exc).__name__} (see the node's log)"

    def _work(self, hold: Hold | None) -> tuple[str, str]:
        request = intake.request_of(self._lease, self._parts.config)
        if hold is None:
            self._begin(request)
        pulse = Pulse(self._parts.client, self._lease, self._parts.stopping, self._parts.clock, self._log)
        work = Work(
            lease=self._lease,
            request=request,
            execution_id=self._id,
            pulse=pulse,
            peer=self._parts.client.peer(self._lease, pulse.check),
            log=self._log,
            parts=self._parts,
        )
        if hold is not None:
            pulse.phase = Phase.HELD  # a bridge gives a running lease less time
        with pulse.beating():
            record = self._parts.ledger.signed(request.hash)
            if record is None:
                record = self._sign(work, self._settled(work, hold or self._decide(work)))
            if record.slot != self._lease.slot:
                raise GiveBack(Reason.ALREADY_SIGNED, f"this node has signed for slot {record.slot} of this request")
            return self._deliver(work, record)

    def _settled(self, work: Work, found: Decided | Hold) -> Decided:
        """What to sign; of a held output, once it is ruled on."""
        if isinstance(found, Decided):
            return found
        self._parts.room.hold(self._id, found.disk_bytes)
        ruling = await_ruling(work, found)
        return release_part(work, found, ruling) if ruling.redaction else conclude(work, found, ruling)

    def _begin(self, request: Request) -> None:
        now = self._parts.clock()
        self._parts.ledger.begin(
            Intent(
                execution_id=self._id,
                request_hash=request.hash,
                request_id=request.id,
                lease_id=self._lease.lease_id,
                slot=self._lease.slot,
                attempt=self._lease.attempt,
                state="begun",
                started_at=now,
                changed_at=now,
            )
        )
        self._log.info("lease taken")

    def _decide(self, work: Work) -> Decided | Hold:
        parts, order = self._parts, work.request.order
        if work.request.deadline <= parts.clock():
            raise GiveBack(Reason.NODE_FAULT, "the request's deadline has passed by this node's clock")
        intake.check_chain(work)
        parts.policy.check_request(work.request)
        spec = order.spec
        try:
            spec, dependencies = intake.read_spec(work)
            job = job_of(order, spec)
        except InvalidSpec as exc:
            now = parts.clock()
            problem = one_line(str(exc))
            self._log.info("refused", reason=exc.reason.name, problem=problem)
            return Decided(outcome=outcomes.refused(exc), spec=spec, started_at=now, finished_at=now, detail=problem)
        parts.policy.check_job(job)
        parts.policy.check_secrets(work.request, job)
        parts.policy.check_network(job, work.request)
        if job.engine.tier not in parts.sandboxes:
            raise GiveBack(Reason.ENGINE_MISSING, f"this node does not offer the tier {job.engine.tier}")
        parts.room.reserve(self._id, job.limits)
        dependencies += intake.fetch_content(work, job)
        classes = parts.classes.of(job.content)
        parts.policy.check_data(work.request, job, classes)
        parts.policy.check_exits(job, classes)
        return JobExecution(work, job, spec, dependencies, classes).run()

    def _sign(self, work: Work, decided: Decided) -> SignedRecord:
        work.pulse.check()
        record = sign(work, decided)
        self._parts.ledger.note(self._id, "signed", self._parts.clock())
        outcome = Outcome.decode(record.outcome)
        self._log.info("signed", status=outcome.status, reason=outcome.reason, exit_code=outcome.exit_code)
        return record

    def _deliver(self, work: Work, record: SignedRecord) -> tuple[str, str]:
        """Hand in what was signed: the output's blocks first, then the attestation."""
        outcome = Outcome.decode(record.outcome)
        try:
            self._hand_in(work, record, Cid.from_binary(outcome.output_cid) if outcome.output_cid else None)
        except BlockMissing as exc:
            raise GiveBack(Reason.NODE_FAULT, "the signed output is no longer kept on this node") from exc
        except PeerRefused as exc:
            self._log.error("the bridge rejects the attestation", error=str(exc))
            self._give_back(Reason.NODE_FAULT, f"the bridge rejects the attestation: {exc}")
            return "rejected", str(exc)
        return "attested", f"status {outcome.status}, reason {outcome.reason}"

    def _hand_in(self, work: Work, record: SignedRecord, root: Cid | None) -> None:
        patience = work.patience()
        for tries_left in reversed(range(UPLOAD_TRIES)):
            if root is not None:
                moved = upload_dag(work.peer, self._parts.store, root, patience=patience)
                self._log.info("uploaded", cid=str(root), blocks=moved.blocks, bytes=moved.bytes)
            try:
                patience.persist(lambda: self._parts.client.attest(self._lease, record))
            except PeerRefused as exc:
                if exc.name != "output-incomplete" or not tries_left:  # the bridge may lose blocks between the two
                    raise
            else:
                return

    def _give_back(self, reason: Reason, detail: str) -> tuple[str, str]:
        """Tell the bridge, as well as that goes; if it does not hear it, the lease runs out by itself."""
        self._log.info("giving back", reason=reason.name, detail=detail)
        # Not the lease's own pause: that ends at once when the node stops, and this is said because it stops.
        patience = Patience(time.time() + RETURN_SECONDS)
        try:
            patience.persist(lambda: self._parts.client.give_back(self._lease, reason, detail))
        except (PeerError, LeaseLost) as exc:
            self._log.warning("the bridge did not take the lease back", error=str(exc))
        return "returned", f"{reason.name}: {detail}"
