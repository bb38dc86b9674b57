"""One execution: from a job whose every byte is here to an outcome, released or not.

run in the sandbox -> collect into quarantine -> audit -> release. Until the release, nothing that the job wrote, no CID
of it and no size of it, goes anywhere but into this execution's own folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from executor.agent import outcome as outcomes
from executor.agent.errors import GiveBack, LeaseLost
from executor.agent.holding import hold_output, release, whole_manifest
from executor.agent.intake import program_cid
from executor.agent.parts import Decided, Work
from executor.agent.record import one_line
from executor.agent.scanning import Scanning
from executor.agent.secrets import SecretFolder, read_secret
from executor.agent.staging import Staging, check_disk, import_output, same_files
from executor.audit.content import ContentAudit
from executor.audit.needles import Seed
from executor.audit.rules import Verdict, audit
from executor.content.limits import TreeLimits
from executor.content.reader import stat
from executor.egress.gate import Gate
from executor.egress.record import shown
from executor.errors import ContentTooLarge, InvalidInput, MalformedBlock, UnsafeName
from executor.holds import Hold
from executor.protocol import spec as specs
from executor.protocol.cid import Cid
from executor.protocol.reasons import Reason
from executor.protocol.receipt import Dependency
from executor.protocol.spec import INPUTS, DockerEngine, JobSpec
from executor.protocol.wire import Outcome
from executor.quarantine import Quarantine
from executor.sandbox.collect import OutputTooLarge, collect
from executor.sandbox.tree import OutputUnsafe
from executor.sandbox.types import (
    ContainerProgram,
    Execution,
    InputMount,
    JobCancelled,
    Limits,
    RunReport,
    Sandbox,
    SandboxUnavailable,
    WasmProgram,
)


class JobExecution:
    """Runs one job once, in a folder of its own that is gone afterwards."""

    def __init__(
        self,
        work: Work,
        job: JobSpec,
        spec: bytes,
        dependencies: tuple[Dependency, ...],
        classes: frozenset[str] = frozenset(),
    ) -> None:
        self._work = work
        self._parts = work.parts
        self._job = job
        self._spec = spec
        self._dependencies = dependencies
        self._passed: Mapping[str, Any] | None = None
        self._staging = Staging(work.parts.executions / work.execution_id)
        self._classes = classes  # of the operator's private data, which the job is given
        self._rules = work.parts.policy.release_of(classes)
        self._seeds: dict[str, Seed] = {}
        self._audit = ContentAudit(work.parts.policy.outputs)

    def run(self) -> Decided | Hold:
        """The outcome, or the hold of an output that waits for its release, its quarantine on disk.

        GiveBack, LeaseLost; DiskFull and OSError of this node's disk.
        """
        sandbox = self._sandbox()
        limits = self._job.limits
        check_disk(self._parts.folder, limits.disk_bytes + 2 * limits.log_bytes)
        self._staging = Staging.create(self._staging.folder)
        held = False
        try:
            decided = self._run_in(sandbox)
            held = isinstance(decided, Hold)
            return decided
        finally:
            self._secret_folder().remove()
            if not held:
                self._shred_key()
            self._staging.remove(keep_quarantine=held)

    def _shred_key(self) -> None:
        try:
            self._parts.holds.keys.shred(self._work.execution_id)
        except OSError as exc:  # the next start of the node does it
            self._work.log.error("the key of a quarantine cannot be shredded", error=str(exc))  # noqa: TRY400 - the text says it

    def _sandbox(self) -> Sandbox:
        tier = self._job.engine.tier
        sandbox = self._parts.sandboxes.get(tier)
        if sandbox is None:
            raise GiveBack(Reason.ENGINE_MISSING, f"this node does not offer the tier {tier}")
        return sandbox

    def _run_in(self, sandbox: Sandbox) -> Decided | Hold:
        now = self._parts.clock()
        program = self._program()
        if program is None:
            return self._cut(Reason.PROGRAM_INVALID, "the module is a directory", now, now, {})
        gate = self._gate()
        execution = Execution(
            execution_id=self._work.execution_id,
            trace={"request_id": str(self._work.request.id), "request_hash": f"0x{self._work.request.hash.hex()}"},
            program=program,
            inputs=self._inputs(),
            outputs=self._staging.outputs,
            scratch=self._staging.scratch,
            limits=_limits(self._job.limits),
            secrets=self._secrets(),
            network=gate,
        )
        self._note("running")
        try:
            report = sandbox.run(execution, self._work.pulse.why_stop)
            self._end_egress(gate)
            self._work.pulse.check()
            return self._decide(report)
        except JobCancelled as exc:
            self._work.pulse.check()
            raise LeaseLost(exc.why) from exc
        except SandboxUnavailable as exc:
            raise GiveBack(exc.reason, exc.text) from exc
        finally:
            self._abandon(gate)
            sandbox.release(execution)

    def _gate(self) -> Gate | None:
        """The way out that the spec asks for and the policy grants."""
        if not self._job.network:
            return None
        if self._parts.gates is None:
            raise GiveBack(Reason.ENGINE_MISSING, "this node can give no job a way out (see its log)")
        return self._parts.gates.gate(self._job.network)

    def _end_egress(self, gate: Gate | None) -> None:
        """Take over what the proxy wrote down; all of it is in this node's log, whatever becomes of the output."""
        if gate is None:
            return
        self._passed = gate.close()
        self._log_exchanges(self._passed)

    def _abandon(self, gate: Gate | None) -> None:
        """End the way out of a run that came to nothing, where it is open still: what went out by it is logged, too."""
        if gate is None:
            return
        try:
            self._log_exchanges(gate.close())
        except SandboxUnavailable as exc:
            self._work.log.warning("what the job exchanged is not known", problem=exc.text)

    def _log_exchanges(self, passed: Mapping[str, Any]) -> None:
        for row in passed["exchanges"]:
            self._work.log.info("exchange", **row)
        if passed["omitted"]:
            self._work.log.info("more exchanges refused", count=passed["omitted"])

    def _egress(self, *, is_open: bool) -> dict[str, Any] | None:
        if self._passed is None:
            return None
        rules = self._parts.policy.egress
        limits = {"bytesOut": rules.max_bytes_out, "bytesIn": rules.max_bytes_in, "exchanges": rules.max_exchanges}
        return shown(self._passed, self._job.network, limits, is_open=is_open)

    def _program(self) -> WasmProgram | ContainerProgram | None:
        """The program, its file in place; None where it can never be one."""
        engine = self._job.engine
        cid = program_cid(self._job)
        path = None
        if cid is not None:
            try:
                if stat(self._parts.store, cid).kind == "directory":
                    return None
                path = self._staging.place_program(self._parts.store, cid, self._parts.policy.max_input_bytes)
            except ContentTooLarge as exc:
                raise GiveBack(Reason.INPUT_TOO_LARGE, f"program: {exc}") from exc
            except MalformedBlock as exc:
                raise GiveBack(Reason.INPUT_NOT_FOUND, f"program: {exc}") from exc
        if isinstance(engine, DockerEngine):
            return ContainerProgram(
                image=engine.image,
                archive=path,
                entrypoint=engine.entrypoint,
                args=engine.args,
                env=engine.env,
                workdir=engine.workdir,
                runtime="runsc" if engine.tier == "gvisor" else "runc",
            )
        assert path is not None  # noqa: S101 - a wasm engine always has a module
        return WasmProgram(module=path, args=engine.args, env=engine.env)

    def _inputs(self) -> tuple[InputMount, ...]:
        try:
            for item in self._job.inputs:
                if item.path == INPUTS and stat(self._parts.store, item.cid).kind != "directory":
                    raise GiveBack(Reason.INPUT_NOT_FOUND, f"the input at {INPUTS} is no directory")
            return self._staging.place(self._parts.store, self._job.inputs, self._parts.policy.max_input_bytes)
        except ContentTooLarge as exc:
            raise GiveBack(Reason.INPUT_TOO_LARGE, f"the inputs unfold to more than this node takes ({exc})") from exc
        except (MalformedBlock, UnsafeName) as exc:
            raise GiveBack(Reason.INPUT_NOT_FOUND, f"an input is no tree of files: {exc}") from exc

    def _secrets(self) -> Path | None:
        """What the job sees as /secrets; None where it refers to none. From here on they are looked for."""
        if not self._job.secrets:
            return None
        rules = self._parts.policy.secrets
        for ref in self._job.secrets:
            try:
                self._seeds[ref.name] = read_secret(ref.name, rules[ref.name], self._parts.folder)
            except InvalidInput as exc:
                self._work.log.error("a secret cannot be given", problem=str(exc))  # noqa: TRY400 - no traceback holds its bytes
                raise GiveBack(Reason.NODE_FAULT, f"the secret {ref.name} cannot be given here") from exc
        self._audit = ContentAudit(self._parts.policy.outputs, tuple(self._seeds.values()))
        return self._secret_folder().place(self._job.secrets, self._seeds)

    def _secret_folder(self) -> SecretFolder:
        return SecretFolder(self._staging.secrets, self._parts.key.address, self._work.execution_id)

    def _decide(self, report: RunReport) -> Decided | Hold:
        self._check_tripwire()
        span = (report.started_at, report.finished_at)
        if not outcomes.ran_to_its_end(report):
            return self._cut(report.reason, report.detail, *span, report.runtime)
        self._note("quarantined")
        quarantine = self._staging.quarantine(self._parts.holds.keys.create(self._work.execution_id))
        try:
            root = self._collect(quarantine, report)
        except _OutputCut as exc:
            return self._cut(exc.reason, exc.detail, *span, report.runtime)
        found = whole_manifest(quarantine, root)
        rules = self._rules
        self._audit.names(entry.path for entry in found.entries)
        verdict = audit(found, self._parts.policy.outputs, self._audit.findings)
        for finding in verdict.findings:
            text = "(a name holds a secret)" if self._audit.tells_secrets else finding.text
            if self._is_reviewed:
                text = "(its reviewers are told)"
            self._work.log.warning("audit rule broken", rule=finding.rule, text=text)
        if not verdict.is_clean and rules.broken_rule == "withhold":
            return self._withheld(report, span)
        scanned = Scanning(self._work, self._staging, is_reviewed=self._is_reviewed).run(quarantine, found)
        rows = tuple(one.row() for one in scanned)
        if any(one.withholds for one in scanned):
            return self._withheld(report, span, rows)
        verdict = Verdict((*verdict.findings, *(finding for one in scanned for finding in one.findings)))
        decided = self._decided(
            outcomes.released(report, self._work.request.order.result_kind, root),
            span,
            report.runtime,
            detail="" if self._seeds else report.detail,
            output=root,
            manifest_rows=tuple(found.rows()),
            scanners=rows,
            egress=self._egress(is_open=True),
        )
        if self._is_reviewed:
            return hold_output(self._work, decided, found, verdict, rules, self._job.limits.disk_bytes)
        release(self._work, quarantine, root)
        return decided

    def _withheld(
        self, report: RunReport, span: tuple[float, float], scanners: tuple[Mapping[str, Any], ...] = ()
    ) -> Decided:
        runtime = outcomes.public_runtime(report.runtime)
        outcome, egress = outcomes.withheld(Reason.AUDIT_RULE), self._egress(is_open=False)
        span = (report.started_at, outcomes.public_end(*span))
        return self._decided(outcome, span, runtime, scanners=scanners, egress=egress)

    def _check_tripwire(self) -> None:
        """The inputs must be what they were; if not, the sandbox leaks, and nothing it says is worth a signature."""
        for number, item in enumerate(self._job.inputs):
            if not same_files(self._parts.store, item.cid, self._staging.inputs / str(number)):
                self._work.log.error("an input was changed during the run", path=item.path)
                raise GiveBack(Reason.NODE_FAULT, f"input {item.path} was changed during the run")
        cid = program_cid(self._job)
        if cid is not None and not same_files(self._parts.store, cid, self._staging.program):
            self._work.log.error("the program was changed during the run")
            raise GiveBack(Reason.NODE_FAULT, "the program was changed during the run")

    def _collect(self, quarantine: Quarantine, report: RunReport) -> Cid:
        limits = _limits(self._job.limits)
        try:
            collect(self._staging.outputs, self._staging.collected, limits)
        except OutputTooLarge as exc:
            raise _OutputCut(exc.reason, exc.detail) from exc
        except OutputUnsafe as exc:
            # Which may hold a secret; nobody has looked.
            path = "" if self._seeds or self._is_reviewed else exc.path
            self._work.log.info("output unsafe", path=path, problem=exc.problem)
            raise _OutputCut(Reason.OUTPUT_UNSAFE, "") from exc  # the name stays here: nothing was released
        tree = TreeLimits(limits.disk_bytes, limits.output_files)
        return import_output(quarantine, self._staging.collected, report.stdout, report.stderr, tree, self._watched)

    def _watched(self, path: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """The audit of what becomes blocks; it ends when the lease is lost."""
        for chunk in self._audit.watch(path, chunks):
            self._work.pulse.check()
            yield chunk

    def _cut(self, reason: Reason, detail: str, started: float, finished: float, runtime: Mapping[str, Any]) -> Decided:
        self._work.log.info("cut", reason=reason.name, detail=one_line(detail))
        detail = outcomes.public_detail(reason, detail)
        egress = self._egress(is_open=not self._is_reviewed)  # where people review, nobody reviewed this
        if self._is_reviewed or self._classes or self._seeds:
            # Fuel, peaks and sizes would tell what nobody has reviewed, or of what the job was given.
            detail, runtime = "", outcomes.public_runtime(runtime)
            finished = outcomes.public_end(started, finished)
        return self._decided(outcomes.cut(reason), (started, finished), runtime, detail=detail, egress=egress)

    def _decided(
        self,
        outcome: Outcome,
        span: tuple[float, float],
        runtime: Mapping[str, Any],
        *,
        detail: str = "",
        output: Cid | None = None,
        manifest_rows: tuple[Mapping[str, Any], ...] = (),
        scanners: tuple[Mapping[str, Any], ...] = (),
        egress: Mapping[str, Any] | None = None,
    ) -> Decided:
        return Decided(
            outcome=outcome,
            spec=self._spec,
            started_at=span[0],
            finished_at=span[1],
            dependencies=self._dependencies,
            runtime={**runtime, "inputsUnchanged": True},
            manifest=manifest_rows,
            output=output,
            detail=detail,
            policy=self._opened(),
            scanners=scanners,
            egress=egress,
        )

    def _opened(self) -> dict[str, Any]:
        """What of the operator's own was opened to the job, by name, for the receipt."""
        found: dict[str, Any] = {"release": self._rules.mode}
        if self._classes:
            found["privateData"] = sorted(self._classes)
        if self._seeds:
            found["secrets"] = sorted(self._seeds)
        return found

    @property
    def _is_reviewed(self) -> bool:
        """Whether people decide on the output: nothing of it is to outlive its quarantine then, as a log would."""
        return self._rules.mode != "automatic"

    def _note(self, state: str) -> None:
        self._parts.ledger.note(self._work.execution_id, state, self._parts.clock())
        self._work.log.info("phase", phase=state)


class _OutputCut(Exception):
    """The output breaks the job's own limits."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


def _limits(limits: specs.Limits) -> Limits:
    return Limits(
        wall_seconds=limits.wall_seconds,
        cpu_millis=limits.cpu_millis,
        memory_bytes=limits.memory_bytes,
        disk_bytes=limits.disk_bytes,
        output_files=limits.output_files,
        log_bytes=limits.log_bytes,
        pids=limits.pids,
    )
