"""Partial release: a form of a held output with less in it, from a reviewer's wish to what is signed.

The node makes the form from the held blocks, so nothing gets in but the replacements of files that were there. It is
audited as the whole output was, again before it leaves, and compared with the original each time that it is read: what
stands in the ledger is believed no more than what lies in the quarantine.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from executor.agent import outcome as outcomes
from executor.agent.errors import GiveBack
from executor.agent.holding import manifest_hash, quarantine_of, record_of, release, rules_of, unpacked, whole_manifest
from executor.agent.parts import Decided, Work
from executor.agent.scanning import Scanned, Scanning
from executor.agent.secrets import read_secret
from executor.agent.staging import Staging
from executor.audit.content import ContentAudit
from executor.audit.needles import SECRETS_RULE
from executor.audit.policy import Policy
from executor.audit.redaction import Difference, Plan, difference
from executor.audit.release import Ruling
from executor.audit.rules import Finding, audit
from executor.content.blocks import Block, BlockSource, BlockStoreLike, MemoryBlocks
from executor.content.edit import edited_blocks
from executor.content.reader import Manifest, ManifestEntry, read_file
from executor.egress.record import closed
from executor.errors import BlockMissing, InvalidInput
from executor.holds import Hold, Redaction
from executor.protocol.cid import Cid
from executor.protocol.leases import Lease
from executor.protocol.reasons import Reason
from executor.protocol.wire import MAX_PAYLOAD_BYTES, Outcome

_OTHER: Final = "the redaction in the quarantine is not what was proposed"


@dataclass(frozen=True)
class Form:
    """A held output with less in it: its files, how they differ, and what is signed if it leaves."""

    found: Manifest
    difference: Difference
    outcome: Outcome


@dataclass(frozen=True)
class Audited:
    """What the audit finds in a form. leaks: secrets of the operator's in replacements, which no policy lets out."""

    findings: tuple[Finding, ...]
    leaks: tuple[Finding, ...]

    def refuses(self, hold: Hold, policy: Policy) -> bool:
        """Whether this form may not leave, whoever approves it."""
        return bool(self.leaks or (self.findings and rules_of(hold, policy).broken_rule == "withhold"))


class _Over:
    """Blocks in memory over those of a store."""

    def __init__(self, new: MemoryBlocks, store: BlockSource) -> None:
        self._new = new
        self._store = store

    def get(self, cid: Cid) -> bytes:
        try:
            return self._new.get(cid)
        except BlockMissing:
            return self._store.get(cid)

    def has(self, cid: Cid) -> bool:
        return self._new.has(cid) or self._store.has(cid)


def propose(
    hold: Hold, plan: Plan, quarantine: BlockStoreLike, policy: Policy, folder: Path, by: str, now: float
) -> Redaction:
    """The redaction of a held output by this plan, its blocks in the quarantine; of one that is refused nothing is.

    folder: the node's. InvalidInput: it changes nothing, or the audit refuses it. ContentError of a damaged quarantine.
    """
    original = whole_manifest(quarantine, Cid.parse(hold.root))
    new: list[Block] = []
    stream = edited_blocks(quarantine, original.root, plan.removed, plan.replaced)
    while True:
        try:
            new.append(next(stream))
        except StopIteration as done:
            root: Cid = done.value.cid
            break
    source = _Over(MemoryBlocks(new), quarantine)
    form = form_of(source, hold, original, root)
    audited = audit_form(source, hold, form, policy, folder)
    if audited.refuses(hold, policy):
        first = (*audited.leaks, *audited.findings)[0]
        raise InvalidInput("redaction", f"the audit refuses it: {first.rule}: {first.text}")
    quarantine.put_many(new)
    return Redaction(
        execution_id=hold.execution_id,
        root=str(root),
        outcome_hash=form.outcome.hash,
        manifest_hash=manifest_hash(form.found),
        salt=secrets.token_bytes(32),  # of its own: this one is published, the original's never
        changes_hash=form.difference.changes.hash,
        findings="\n".join(f"{finding.rule}: {finding.text}" for finding in audited.findings),
        proposed_by=by,
        proposed_at=now,
    )


def form_of(source: BlockSource, hold: Hold, original: Manifest, root: Cid) -> Form:
    """The redacted form with this root. InvalidInput("redaction") where it is none of this output."""
    found = whole_manifest(source, root)
    found_difference = difference(original.entries, found.entries)
    kind = Lease.model_validate_json(hold.lease).request.request().order.result_kind
    stdout, stderr = (_start(source, found.entries, name) for name in ("stdout", "stderr"))
    return Form(found, found_difference, outcomes.redacted(unpacked(hold).outcome, stdout, stderr, kind, root))


def checked_form(source: BlockSource, hold: Hold, original: Manifest, redaction: Redaction) -> Form:
    """The form of a redaction that was proposed. InvalidInput where it is not what was proposed, or adds something."""
    form = form_of(source, hold, original, Cid.parse(redaction.root))
    said = (redaction.outcome_hash, redaction.manifest_hash, redaction.changes_hash)
    if said != (form.outcome.hash, manifest_hash(form.found), form.difference.changes.hash):
        raise InvalidInput("redaction", _OTHER)
    return form


def audit_form(source: BlockSource, hold: Hold, form: Form, policy: Policy, folder: Path) -> Audited:
    """The operator's output rules on the whole form, and all of his secrets in replacements.

    InvalidInput("secrets..."): one cannot be read.
    """
    seeds = {name: read_secret(name, rules, folder) for name, rules in policy.secrets.items()}
    given = unpacked(hold).policy.get("secrets", ())
    content = ContentAudit(policy.outputs, tuple(seeds[name] for name in given if name in seeds))
    for entry in form.found.entries:
        if entry.kind == "file":
            content.look(entry.path, read_file(source, entry.cid, entry.size))
    content.names(entry.path for entry in form.found.entries)
    replaced = ContentAudit(policy.outputs, tuple(seeds.values()))
    for _, entry in form.difference.replaced:
        replaced.look(entry.path, read_file(source, entry.cid, entry.size))
    leaks = tuple(finding for finding in replaced.findings if finding.rule == SECRETS_RULE)
    return Audited(audit(form.found, policy.outputs, content.findings).findings, leaks)


def release_part(work: Work, hold: Hold, ruling: Ruling) -> Decided:
    """What is signed of an output that is released in part; its redacted form is in the block store then.

    Nothing that measures the run leaves with it: what was taken out may be told by how long it took to write. The
    operator's scanners look at the form as well. GiveBack(NODE_FAULT), ContentError, as `holding.conclude`.
    """
    parts = work.parts
    redaction = next(one for one in parts.holds.redactions(hold.execution_id) if one.id == ruling.redaction)
    staging = Staging(parts.executions / hold.execution_id)
    quarantine = quarantine_of(parts, hold)
    decided = _without_measures(unpacked(hold))
    original = whole_manifest(quarantine, Cid.parse(hold.root))
    if manifest_hash(original) != hold.manifest_hash:
        raise GiveBack(Reason.NODE_FAULT, "the quarantine is not what was held")
    try:
        form = checked_form(quarantine, hold, original, redaction)
        audited = audit_form(quarantine, hold, form, parts.policy, parts.folder)
    except InvalidInput as exc:
        raise GiveBack(Reason.NODE_FAULT, exc.problem) from exc
    scanned = Scanning(work, staging, is_reviewed=True).run(quarantine, form.found)
    rows = tuple(one.row() for one in scanned)
    was_refused = hold.ruling == "refused"  # before a kill -9; a scanner that has come to itself changes nothing
    if was_refused or audited.refuses(hold, parts.policy) or _is_news(scanned, decided.scanners):
        work.log.error("the audit refuses a redaction that was approved", redaction=redaction.id)
        parts.holds.overrule(hold.execution_id)  # so that the ledger forgets the original, as of anything withheld
        parts.roots.drop(form.found.root, work.label)  # it was let out where a kill -9 came before the signature
        return replace(decided, outcome=outcomes.withheld(Reason.AUDIT_RULE), scanners=rows)
    release(work, quarantine, form.found.root)
    return replace(
        decided,
        outcome=form.outcome,
        manifest=tuple(form.found.rows()),
        output=form.found.root,
        release={**record_of(parts, hold, ruling), "redacted": _redacted(redaction, form)},
        scanners=rows,
    )


def _without_measures(decided: Decided) -> Decided:
    return replace(
        decided,
        finished_at=outcomes.public_end(decided.started_at, decided.finished_at),
        runtime={**outcomes.public_runtime(decided.runtime), "inputsUnchanged": True},
        detail="",
        egress=closed(decided.egress) if decided.egress is not None else None,
    )


def _is_news(scanned: Sequence[Scanned], before: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a scanner objects that withholds, or that had nothing against the original: nobody has judged that."""
    clean = {row["name"] for row in before if row["verdict"] == "clean"}
    return any(one.withholds or (one.findings and one.scanner.name in clean) for one in scanned)


def _redacted(redaction: Redaction, form: Form) -> dict[str, Any]:
    return {
        "held": f"0x{redaction.held.hash.hex()}",
        "manifestHash": f"0x{redaction.manifest_hash.hex()}",
        "salt": f"0x{redaction.salt.hex()}",
        **form.difference.changes.plain,
    }


def _start(source: BlockSource, entries: Sequence[ManifestEntry], name: str) -> bytes:
    """The bytes of a stream, or of a long one enough of them to see that it is."""
    (entry,) = (one for one in entries if one.path == name)
    data = b""
    for chunk in read_file(source, entry.cid, entry.size):
        data += chunk
        if len(data) > MAX_PAYLOAD_BYTES:
            break
    return data
