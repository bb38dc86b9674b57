"""The operator's scanners at work on a quarantined output: each in a sandbox, without a network, on a copy.

A scanner that hangs, breaks off, or says anything but an answer has found something: fail closed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from executor.agent.errors import GiveBack
from executor.agent.parts import Work
from executor.agent.staging import Staging, remove_tree, same_files
from executor.audit.policy import Policy
from executor.audit.rules import Finding
from executor.audit.scananswer import ANSWER_FILE, MAX_ANSWER_BYTES, BadAnswer, findings_of
from executor.audit.scannerrules import Scanner
from executor.content.blocks import BlockSource
from executor.content.export import export_tree
from executor.content.limits import TreeLimits
from executor.content.reader import Manifest
from executor.errors import InvalidInput
from executor.protocol.canonical import sha256
from executor.protocol.reasons import Reason
from executor.protocol.spec import INPUTS
from executor.sandbox.collect import OutputTooLarge, collect
from executor.sandbox.tree import OutputUnsafe
from executor.sandbox.types import (
    ContainerProgram,
    Execution,
    InputMount,
    Limits,
    RunReport,
    Runtime,
    Sandbox,
    WasmProgram,
)

MAX_MODULE_BYTES: Final = 64 * 2**20
#: room for an answer, and for nothing else
_DISK_BYTES: Final = 2**20
_FILES: Final = 4
_LOG_BYTES: Final = 64 * 1024
_WHOLE: Final = TreeLimits(2**62, 2**31)


@dataclass(frozen=True, slots=True)
class Scanned:
    """One scanner's word: clean, finding, or broken, which is a finding about the scanner."""

    scanner: Scanner
    findings: tuple[Finding, ...] = ()
    is_broken: bool = False

    @property
    def withholds(self) -> bool:
        """Whether the output stays here for it, whoever might decide."""
        return bool(self.findings) and self.scanner.on_finding == "withhold"

    def row(self) -> dict[str, Any]:
        """For the receipt: never a finding's text."""
        word = "broken" if self.is_broken else "finding" if self.findings else "clean"
        return {
            "name": self.scanner.name,
            "program": self.scanner.program,
            "tier": self.scanner.needed_tier,
            "verdict": word,
        }


def check_scanners(policy: Policy, folder: Path, tiers: Mapping[str, Sandbox]) -> None:
    """At a node's start: whether every scanner of its policy can run here. InvalidInput that names it."""
    for scanner in policy.scanners:
        if scanner.needed_tier not in tiers:
            text = f"runs in tier {scanner.needed_tier}, which this node does not offer"
            raise InvalidInput(f"policy: scanners, {scanner.name}", text)
    check_modules(policy, folder)


def check_modules(policy: Policy, folder: Path) -> None:
    """Whether every scanner's module lies in the node's folder. InvalidInput that names it."""
    for scanner in policy.scanners:
        if scanner.module and _module(scanner, folder) is None:
            text = f"{folder / scanner.module} is not there, or has another SHA-256 than the policy"
            raise InvalidInput(f"policy: scanners, {scanner.name}", text)


class Scanning:
    """Runs the scanners of a node's policy on one output. staging: of the job's execution.

    is_reviewed: people decide on it; then no words about it go into the node's log, which outlives the quarantine.
    """

    def __init__(self, work: Work, staging: Staging, *, is_reviewed: bool) -> None:
        self._work = work
        self._is_reviewed = is_reviewed
        self._folder = staging.folder / "scans"
        self._tree = self._folder / "tree"

    def run(self, quarantine: BlockSource, found: Manifest) -> tuple[Scanned, ...]:
        """Each in turn, until one withholds the output. GiveBack, SandboxUnavailable, JobCancelled."""
        scanners = self._work.parts.policy.scanners
        if not scanners:
            return ()
        self._folder.mkdir(mode=0o755)
        done: list[Scanned] = []
        try:
            export_tree(quarantine, found.root, self._tree, _WHOLE)
            for number, scanner in enumerate(scanners):
                done.append(self._scan(number, scanner, found))
                if not same_files(quarantine, found.root, self._tree):
                    raise GiveBack(Reason.NODE_FAULT, "a scanner's copy of the output was changed")
                if done[-1].withholds:
                    break
        finally:
            remove_tree(self._folder)
        return tuple(done)

    def _scan(self, number: int, scanner: Scanner, found: Manifest) -> Scanned:
        home = self._folder / str(number)
        for part in (home, home / "outputs", home / "scratch"):
            part.mkdir(mode=0o755)
        sandbox = self._work.parts.sandboxes.get(scanner.needed_tier)
        if sandbox is None:
            raise GiveBack(Reason.ENGINE_MISSING, f"a scanner needs the tier {scanner.needed_tier}")
        execution = Execution(
            execution_id=f"{self._work.execution_id}.scan{number}",
            trace={"request_id": str(self._work.request.id), "request_hash": f"0x{self._work.request.hash.hex()}"},
            program=self._program(scanner, home),
            inputs=(InputMount(self._tree, INPUTS),),
            outputs=home / "outputs",
            scratch=home / "scratch",
            limits=_limits(scanner),
        )
        try:
            report = sandbox.run(execution, self._work.pulse.why_stop)
            self._work.pulse.check()
            scanned = self._judged(scanner, report, execution, found)
        finally:
            sandbox.release(execution)
        for finding in scanned.findings:
            text = "(its reviewers are told)" if self._is_reviewed else finding.text
            self._work.log.warning("scanner found something", rule=finding.rule, text=text)
        self._work.log.info("scanned", scanner=scanner.name, verdict=scanned.row()["verdict"])
        return scanned

    def _program(self, scanner: Scanner, home: Path) -> WasmProgram | ContainerProgram:
        if scanner.image:
            runtime: Runtime = "runsc" if scanner.tier == "gvisor" else "runc"
            return ContainerProgram(scanner.image, args=scanner.args, runtime=runtime)
        data = _module(scanner, self._work.parts.folder)
        if data is None:
            raise GiveBack(Reason.NODE_FAULT, "a scanner of this node is not what its policy names")
        module = home / "module"
        module.write_bytes(data)
        return WasmProgram(module, args=scanner.args)

    def _judged(self, scanner: Scanner, report: RunReport, execution: Execution, found: Manifest) -> Scanned:
        try:
            data = _answer(execution, report, execution.scratch.parent / "collected")
            paths = {entry.path for entry in found.entries}
            return Scanned(scanner, findings_of(data, paths, scanner.name))
        except BadAnswer as exc:
            said = "" if self._is_reviewed else report.stderr[:500].decode("utf-8", "replace")
            self._work.log.warning("scanner broken", scanner=scanner.name, problem=str(exc), stderr=ascii(said))
            return Scanned(scanner, (Finding(f"scanner {scanner.name}", str(exc)),), is_broken=True)


def _answer(execution: Execution, report: RunReport, into: Path) -> bytes:
    """The one file that it may leave. BadAnswer."""
    if report.reason is not Reason.NONE:
        raise BadAnswer(f"it ended with {report.reason.name}, exit code {report.exit_code}")
    try:
        files = collect(execution.outputs, into, execution.limits)
    except OutputTooLarge as exc:
        raise BadAnswer(f"it left more than an answer ({exc.reason.name})") from exc
    except OutputUnsafe as exc:
        raise BadAnswer("what it left is no plain file") from exc
    if [(one.path, one.kind) for one in files] != [(ANSWER_FILE, "file")] or files[0].size > MAX_ANSWER_BYTES:
        raise BadAnswer(f"it left something else than {ANSWER_FILE} of at most {MAX_ANSWER_BYTES} bytes")
    return (into / ANSWER_FILE).read_bytes()


def _module(scanner: Scanner, folder: Path) -> bytes | None:
    """The module's bytes, where they are those that the policy names."""
    try:
        descriptor = os.open(folder / scanner.module, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(MAX_MODULE_BYTES + 1)
    return data if sha256(data).hex() == scanner.sha256 else None


def _limits(scanner: Scanner) -> Limits:
    return Limits(
        wall_seconds=scanner.wall_seconds,
        cpu_millis=scanner.cpu_millis,
        memory_bytes=scanner.memory_bytes,
        disk_bytes=_DISK_BYTES,
        output_files=_FILES,
        log_bytes=_LOG_BYTES,
        pids=scanner.pids,
    )
