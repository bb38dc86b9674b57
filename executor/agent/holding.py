"""An output between quarantine and release: held, ruled on by its reviewers, then let out or withheld.

While it is held nothing of it leaves the node: heartbeats say "held" and no more. The lease goes on, also over a
restart of the node: lease, decision and quarantine are on disk before the first heartbeat says so.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from executor.agent import outcome as outcomes
from executor.agent.errors import GiveBack
from executor.agent.parts import Decided, Parts, Work
from executor.agent.staging import Staging
from executor.audit.policy import Policy, ReleaseRules
from executor.audit.release import Ruling, rule, was_approved_in_part
from executor.audit.rules import Verdict
from executor.content.blocks import BlockSource
from executor.content.limits import TreeLimits
from executor.content.reader import Manifest, manifest
from executor.content.walk import blocks
from executor.egress.record import closed
from executor.holds import Hold
from executor.ledger import LedgerError
from executor.protocol.canonical import canonical_json, sha256
from executor.protocol.cid import Cid
from executor.protocol.leases import Phase
from executor.protocol.reasons import Reason
from executor.protocol.receipt import Dependency
from executor.protocol.release import Held, Redacted, Subject
from executor.protocol.wire import Outcome
from executor.quarantine import Quarantine

POLL_SECONDS = 0.5
DELIVERY_SECONDS = 60.0  # before the request's deadline, or half of what is left; undecided then, it is withheld
_WHOLE = TreeLimits(2**62, 2**31)


def whole_manifest(source: BlockSource, root: Cid) -> Manifest:
    """The manifest of an output; its size was bounded when it was collected."""
    return manifest(source, root, _WHOLE)


def manifest_hash(found: Manifest) -> bytes:
    """SHA-256 of the manifest's canonical JSON, 32 bytes."""
    return sha256(canonical_json(found.rows()))


def release(work: Work, quarantine: BlockSource, root: Cid) -> None:
    """Out of quarantine, every block hashed again. From here on the output is the node's to hand out."""
    work.parts.roots.keep(root, work.label, work.parts.clock() + work.parts.config.retention_seconds)
    work.parts.store.put_many(blocks(quarantine, root))
    work.parts.roots.note_whole([root])
    work.parts.ledger.note(work.execution_id, "released", work.parts.clock())
    work.log.info("phase", phase="released")


def hold_output(
    work: Work, decided: Decided, found: Manifest, verdict: Verdict, rules: ReleaseRules, disk_bytes: int
) -> Hold:
    """Write down that this output waits. `decided`: what is signed if it is released by these rules."""
    parts = work.parts
    now = parts.clock()
    hold = Hold(
        execution_id=work.execution_id,
        request_hash=work.request.hash,
        request_id=work.request.id,
        lease=work.lease.model_dump_json(),
        decided=_packed(decided, rules),
        withheld=_packed(_closed(decided), rules),
        root=str(found.root),
        findings="\n".join(f"{finding.rule}: {finding.text}" for finding in verdict.findings),
        outcome_hash=decided.outcome.hash,
        manifest_hash=manifest_hash(found),
        salt=secrets.token_bytes(32),
        policy_hash=parts.policy.hash,
        disk_bytes=disk_bytes,
        held_at=now,
        until=time_to_decide(now, rules.wait_seconds, work.request.deadline),
    )
    parts.holds.hold(hold)
    work.log.info("phase", phase="held", until=hold.until, mode=rules.mode)
    return hold


def time_to_decide(now: float, wait_seconds: float, deadline: float) -> float:
    """When waiting ends, seconds since 1970: in time for the word to get on-chain before the request's deadline."""
    return min(now + wait_seconds, deadline - min(DELIVERY_SECONDS, max(0.0, deadline - now) / 2))


def subject_of(parts: Parts, hold: Hold) -> Subject:
    """What the reviewers of a hold sign about."""
    return Subject(
        scope=parts.config.scope,
        request_hash=hold.request_hash,
        node=parts.key.address,
        policy_hash=hold.policy_hash,
        held=hold.held_hash,
    )


def await_ruling(work: Work, hold: Hold) -> Ruling:
    """The ruling, as soon as it is written down.

    GiveBack (the node stops, or has another policy now, or what is approved is gone), LeaseLost, LedgerError (the
    ledger is damaged).

    A disk that is full meanwhile does not undo what reviewers did: the ruling waits, no longer than the lease.
    Nobody can look at an output that is gone: its time is over at once.
    """
    parts = work.parts
    if hold.policy_hash != parts.policy.hash:
        raise GiveBack(Reason.NODE_FAULT, "the policy was changed while the output was held")
    if hold.gone:
        work.log.error("a held output is lost", why=hold.gone)
        if not hold.withheld:
            raise GiveBack(Reason.NODE_FAULT, hold.gone)
    subject = subject_of(parts, hold)
    rules = rules_of(hold, parts.policy)
    work.pulse.phase = Phase.HELD
    while True:
        is_over = parts.clock() >= hold.until or hold.ruling == "timeout" or bool(hold.gone)
        try:
            ruling = parts.holds.settle(
                hold.execution_id,
                lambda votes: rule(rules, subject, votes, is_over=is_over, redactions=_forms(parts, hold)),  # noqa: B023 - called at once
            )
        except LedgerError as exc:
            if exc.damaged:
                raise
            work.log.warning("a ruling cannot be written down; it is tried again", error=str(exc))
            ruling = None
        if ruling is not None:
            work.log.info("phase", phase=ruling.word, signers=[vote.signer for vote in ruling.votes])
            if hold.gone and (ruling.released or (ruling.word == "timeout" and _was_to_leave(parts, hold, rules))):
                raise GiveBack(Reason.NODE_FAULT, hold.gone)
            return ruling
        work.pulse.pause(POLL_SECONDS)


def conclude(work: Work, hold: Hold, ruling: Ruling) -> Decided:
    """What is signed. A released output is in the block store then. GiveBack(NODE_FAULT), ContentError."""
    record = record_of(work.parts, hold, ruling)
    if not ruling.released:
        return replace(_unpacked(hold.withheld), outcome=outcomes.withheld(ruling.reason), release=record)
    decided = unpacked(hold)
    quarantine = quarantine_of(work.parts, hold)
    root = Cid.parse(hold.root)
    found = whole_manifest(quarantine, root)
    shown = Held(outcome_hash=decided.outcome.hash, manifest_hash=manifest_hash(found), salt=hold.salt)
    if shown != hold.held or decided.outcome.output_cid != root.binary:
        raise GiveBack(Reason.NODE_FAULT, "the quarantine is not what was held")
    release(work, quarantine, root)
    return replace(decided, manifest=tuple(found.rows()), output=root, release=record)


def quarantine_of(parts: Parts, hold: Hold) -> Quarantine:
    """Where a held output lies. GiveBack(NODE_FAULT)."""
    key = parts.holds.keys.get(hold.execution_id)
    if key is None:
        raise GiveBack(Reason.NODE_FAULT, "the key of the quarantine is gone")
    return Staging(parts.executions / hold.execution_id).quarantine(key)


def _was_to_leave(parts: Parts, hold: Hold, rules: ReleaseRules) -> bool:
    return was_approved_in_part(rules, parts.holds.votes(hold.execution_id))


def _forms(parts: Parts, hold: Hold) -> dict[str, Redacted]:
    return {one.id: one.signed for one in parts.holds.redactions(hold.execution_id)}


def record_of(parts: Parts, hold: Hold, ruling: Ruling) -> dict[str, Any]:
    """What the receipt says. Salt and manifest's hash, which would help to guess an output, only of what left whole."""
    rules = rules_of(hold, parts.policy)
    record: dict[str, Any] = {
        "mode": rules.mode,
        "signers": list(rules.signers),
        "threshold": rules.threshold,
        "ruling": ruling.word,
        "held": f"0x{hold.held_hash.hex()}",
        "votes": [
            {
                "signer": vote.signer,
                "approve": vote.approve,
                "reason": vote.reason,
                "signature": f"0x{vote.signature.hex()}",
            }
            for vote in ruling.votes
        ],
    }
    if ruling.word == "approved":
        record |= {"manifestHash": f"0x{hold.manifest_hash.hex()}", "salt": f"0x{hold.salt.hex()}"}
    return record


def _closed(decided: Decided) -> Decided:
    """The same of an output that stays here: nothing in it tells of the output. Reason and votes are yet to come."""
    return replace(
        decided,
        outcome=outcomes.withheld(Reason.RELEASE_TIMEOUT),
        finished_at=outcomes.public_end(decided.started_at, decided.finished_at),
        manifest=(),
        output=None,
        runtime={**outcomes.public_runtime(decided.runtime), "inputsUnchanged": True},
        detail="",
        egress=closed(decided.egress) if decided.egress is not None else None,
    )


def _packed(decided: Decided, rules: ReleaseRules) -> str:
    fields = {
        "outcome": decided.outcome.encode().hex(),
        "spec": decided.spec.hex(),
        "started_at": decided.started_at,
        "finished_at": decided.finished_at,
        "dependencies": [{**asdict(one), "cid": str(one.cid)} for one in decided.dependencies],
        "policy": dict(decided.policy),
        "rules": rules.model_dump(mode="json"),
        "runtime": decided.runtime,
        "detail": decided.detail,
        "egress": decided.egress,
        "scanners": list(decided.scanners),
    }
    return json.dumps(fields)


def unpacked(hold: Hold) -> Decided:
    """What is signed if it is released; without its manifest, which the quarantine tells."""
    return _unpacked(hold.decided)


def _unpacked(packed: str) -> Decided:
    fields: Mapping[str, Any] = json.loads(packed)
    return Decided(
        outcome=Outcome.decode(bytes.fromhex(fields["outcome"])),
        spec=bytes.fromhex(fields["spec"]),
        started_at=fields["started_at"],
        finished_at=fields["finished_at"],
        dependencies=tuple(Dependency(**{**one, "cid": Cid.parse(one["cid"])}) for one in fields["dependencies"]),
        runtime=fields["runtime"],
        detail=fields["detail"],
        policy=fields.get("policy", {}),
        scanners=tuple(fields.get("scanners", ())),
        egress=fields.get("egress"),  # absent in what an older version held
    )


def rules_of(hold: Hold, policy: Policy) -> ReleaseRules:
    """The rules by which a hold ends: those of the policy, or of the private data that its job was given."""
    rules = json.loads(hold.withheld).get("rules") if hold.withheld else None  # none: an older version held it
    return policy.release if rules is None else ReleaseRules.model_validate(rules)
