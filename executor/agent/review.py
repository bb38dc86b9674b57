"""What a reviewer sees of held outputs, and how a decision gets to the node: through the node's own folder.

Who can read the folder (0700) sees held bytes; so does a reviewer by the node's API (`reviewapi`). A decision is an
EIP-712 signature of one of the policy's signers, made here or elsewhere, kept in the ledger; the node checks it again
before it acts on it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from executor.agent.config import NodeConfig
from executor.agent.holding import manifest_hash, rules_of, unpacked, whole_manifest
from executor.agent.record import one_line
from executor.agent.redacting import Form, checked_form, propose
from executor.agent.staging import Staging
from executor.audit.magic import HEAD_BYTES, type_of
from executor.audit.policy import Policy, ReleaseRules
from executor.audit.redaction import plan
from executor.content.export import export_tree
from executor.content.limits import TreeLimits
from executor.content.reader import Manifest, ManifestEntry, read_file
from executor.errors import ContentError, DiskFull, InvalidInput
from executor.holds import Hold, Holds, Redaction
from executor.ledger import Ledger, is_locked
from executor.protocol.cid import Cid
from executor.protocol.reasons import Reason
from executor.protocol.release import (
    REJECT_REASONS,
    Subject,
    Vote,
    check_decision,
    redaction_document,
    release_digest,
    release_document,
    sign_release,
    signed_release,
)
from executor.protocol.signing import Key
from executor.quarantine import Quarantine

T = TypeVar("T")

_DAMAGED = "the quarantine is not what was held; do not approve it, and look at the disk"


class Review:
    """The held outputs of one node's folder, whether or not the node runs."""

    def __init__(
        self, folder: Path, config: NodeConfig, node: str, policy: Policy, holds: Holds, clock: Callable[[], float]
    ) -> None:
        self._folder = folder
        self._scope = config.scope
        self._kept_until = config.kept_until
        self._node = node
        self._policy = policy
        self._holds = holds
        self._clock = clock

    def listing(self) -> list[dict[str, Any]]:
        """Every output that waits, oldest first; then those that were withheld and are kept for a while."""
        return [self._summary(hold) for hold in (*self._holds.open(), *self._holds.kept())]

    def listing_for(self, reviewer: str) -> list[dict[str, Any]]:
        """Those that this address may decide on."""
        return [self._summary(hold) for hold in self._holds.open() if reviewer in self._rules(hold).signers]

    def find_for(self, execution_id: str, reviewer: str) -> Hold | None:
        """One that waits and that this address may decide on; None for any other, whatever the reason."""
        for hold in self._holds.open():
            if hold.execution_id == execution_id and reviewer in self._rules(hold).signers:
                return hold
        return None

    def find(self, word: str) -> Hold:
        """The one held output of this execution id, request id or request hash. InvalidInput("ID")."""
        if not word:
            raise InvalidInput("ID", "give one of `insula release list`")
        found = _named(word, self._holds.open()) or _named(word, self._holds.kept())
        if len(found) == 1:
            return found[0]
        if found:
            raise InvalidInput("ID", f"{word} is several: {', '.join(hold.execution_id for hold in found)}")
        if (ended := self._holds.get(word)) is not None:
            raise InvalidInput("ID", f"{word} is no longer held: {ended.ruling or 'its lease is over'}")
        raise InvalidInput("ID", f"nothing of {word!r:.100} is held here; see `insula release list --dir FOLDER`")

    def opening(self, execution_id: str) -> dict[str, Any]:
        """What the original of an output was that was released in part: it opens `held` of its receipt.

        Whoever has it can hold a guess at the original against the receipt. InvalidInput("ID").
        """
        hold = self._holds.get(execution_id)
        is_let_out = hold is not None and hold.ruling == "redacted" and hold.closed_at is not None
        if hold is None or not is_let_out or not hold.salt:
            problem = f"{execution_id!r:.100} is no execution here whose output was released in part, and has ended"
            raise InvalidInput("ID", problem)
        return {
            "id": hold.execution_id,
            "requestHash": hold.request_hash,
            "outputCid": hold.root,
            "outcomeHash": hold.outcome_hash,
            "manifestHash": hold.manifest_hash,
            "salt": hold.salt,
            "held": hold.held.hash,
        }

    def find_shown(self, word: str) -> Hold:
        """As `find`, for an approval or a redaction: by execution id only. InvalidInput("ID").

        A request that ran again holds another output under the same id and hash than the one that was looked at.
        """
        hold = self.find(word)
        if word != hold.execution_id:
            problem = "this is for one output: give its own id, as `insula release show` of it says"
            raise InvalidInput("ID", problem)
        return hold

    def show(self, hold: Hold) -> dict[str, Any]:
        """All that can be said of one: its files with their types, broken rules, decisions, what is to be signed."""
        subject = self._subject(hold)
        with _undamaged():
            found = self._manifest(hold)
            files = [self._row(hold, entry) for entry in found.entries]
            redactions = [self._shown(hold, one) for one in self._holds.redactions(hold.execution_id)]
        return {
            **self._summary(hold),
            "outputCid": hold.root,
            "outcomeHash": hold.outcome_hash,
            "manifestHash": hold.manifest_hash,
            "salt": hold.salt,
            "held": hold.held.hash,
            "policyHash": hold.policy_hash,
            "totalBytes": found.total_bytes,
            "files": files,
            "findings": [one_line(line) for line in hold.findings.splitlines()],
            "approveDigest": release_digest(subject, True, 0),
            "redactions": redactions,
        }

    def redact(
        self, hold: Hold, without: Sequence[str], replacements: Mapping[str, bytes], by: str = ""
    ) -> dict[str, Any]:
        """Propose a form of the output without some files and folders, and with others in the place of some.

        by: the reviewer's address, "" in the node's folder. InvalidInput that names the wish, the audit's rule, or why
        nothing can be proposed any more. The same form again is the same redaction.
        """
        self._subject(hold)
        now = self._clock()
        self._holds.check_proposal(hold.execution_id, by, now)
        with _undamaged():
            entries = self._manifest(hold).entries
            gone = [_changed(entries, path, "--without") for path in without]
            others = [(_changed(entries, path, "--replace"), content) for path, content in replacements.items()]
            made = propose(
                hold, plan(entries, gone, others), self._quarantine(hold), self._policy, self._folder, by, now
            )
            kept = self._holds.propose(made)
            return {"execution": hold.execution_id, "new": kept == made, **self._shown(hold, kept)}

    def redaction(self, hold: Hold, word: str) -> Redaction | None:
        """The redaction of this id; None for none. InvalidInput("--redaction")."""
        if not word:
            return None
        for found in self._holds.redactions(hold.execution_id):
            if found.id == word:
                return found
        raise InvalidInput("--redaction", f"{word!r:.40} is no redaction of it; see `insula release show`")

    def document(self, hold: Hold, approve: bool, reason: int, redaction: str = "") -> dict[str, Any]:
        """The typed data to be signed elsewhere (`eth_signTypedData_v4`). redaction: the id of one, to approve that."""
        check_decision(approve, reason, redaction)
        found = self.redaction(hold, redaction)
        if found is None:
            return dict(release_document(self._subject(hold), hold.held, approve, reason))
        with _undamaged():
            changes = self._form(hold, found).difference.changes
        return dict(redaction_document(self._subject(hold, found), hold.held, found.held, changes))

    def documents(self, hold: Hold) -> dict[str, Any]:
        """What each decision signs, as `document`: {"approve": ..., "reject": {"300": ...}, "redactions": {...}}."""
        rejections = {str(int(reason)): self.document(hold, False, int(reason)) for reason in REJECT_REASONS}
        approval = int(Reason.NONE)
        forms = [one.id for one in self._holds.redactions(hold.execution_id)]
        return {
            "approve": self.document(hold, True, approval),
            "reject": rejections,
            "redactions": {form: self.document(hold, True, approval, form) for form in forms},
        }

    def read(self, hold: Hold, path: str, redaction: str = "") -> tuple[int, Iterator[bytes]]:
        """One file of the output: its size and its bytes, each block hashed as it is read. InvalidInput."""
        with _undamaged():
            entry = named(self._found(hold, redaction).entries, path)
            return entry.size, read_file(self._quarantine(hold), entry.cid, entry.size)

    def save(self, hold: Hold, path: str | None, target: Path, redaction: str = "") -> int:
        """Write one file of the output (0600), or the whole of it below a new folder (0700); how many bytes.

        redaction: the id of one, to look at that form of it.
        """
        with _undamaged():
            return self._save(hold, path, target, redaction)

    def _save(self, hold: Hold, path: str | None, target: Path, redaction: str) -> int:
        source = self._quarantine(hold)
        found = self._found(hold, redaction)
        if path is None:
            _make(target, lambda: target.mkdir(mode=0o700))
            export_tree(source, found.root, target / "output", TreeLimits(2**62, 2**31))
            return found.total_bytes
        entry = named(found.entries, path)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(_make(target, lambda: os.open(target, flags, 0o600)), "wb") as file:
            for chunk in read_file(source, entry.cid, entry.size):
                file.write(chunk)
        return entry.size

    def decide(
        self, hold: Hold, approve: bool, reason: int, signer: Key | bytes, redaction: str = ""
    ) -> dict[str, Any]:
        """Sign (or take a signature made elsewhere) and keep it for the node. InvalidInput.

        redaction: the id of one, to approve that form. The quarantine is read and hashed before anything is signed:
        nobody approves what is not there.
        """
        check_decision(approve, reason, redaction)
        subject = self._subject(hold, self.redaction(hold, redaction))
        field = "--signature"
        if isinstance(signer, Key):
            field = "--key"
            with _undamaged():
                self._found(hold, redaction)
            vote = sign_release(subject, signer, approve, reason)
        else:
            vote = signed_release(subject, approve, reason, signer)
        self._check_signer(hold, vote, field)
        new = self._holds.vote(hold.execution_id, vote, self._clock())
        votes = self._votes(hold, redaction)
        return {
            "id": hold.execution_id,
            "redaction": redaction,
            "signer": vote.signer,
            "decision": "approve" if approve else "reject",
            "new": new,
            "approvals": sum(one.approve for one in votes),
            "rejections": sum(not one.approve for one in votes),
            "threshold": self._rules(hold).threshold,
            "needed": _needed(self._rules(hold), approve=approve),
            "signature": vote.signature,
            "nodeRuns": is_locked(self._folder),
        }

    def _rules(self, hold: Hold) -> ReleaseRules:
        return rules_of(hold, self._policy)

    def _check_signer(self, hold: Hold, vote: Vote, field: str) -> None:
        if vote.signer in self._rules(hold).signers:
            return
        why = f"{vote.signer} is none of the signers that this node's policy names"
        if field == "--signature":
            why += "; or it was made for another output, another decision or another reason"
        raise InvalidInput(field, why)

    def _summary(self, hold: Hold) -> dict[str, Any]:
        return {
            "id": hold.execution_id,
            "requestId": hold.request_id,
            "requestHash": hold.request_hash,
            "exitCode": None if hold.gone else unpacked(hold).outcome.exit_code,
            "gone": hold.gone,
            "keptUntil": None if hold.closed_at is None else self._kept_until(hold.closed_at),
            "heldAt": hold.held_at,
            "until": hold.until,
            "secondsLeft": max(0, int(hold.until - self._clock())),
            "mode": self._rules(hold).mode,
            "threshold": self._rules(hold).threshold,
            "ruling": hold.ruling,
            "brokenRules": len(hold.findings.splitlines()),
            "votes": _plain_votes(self._votes(hold)),
            "proposals": len(self._holds.redactions(hold.execution_id)),
        }

    def _votes(self, hold: Hold, redaction: str = "") -> list[Vote]:
        """The decisions on one form of it, and no others."""
        return [vote for vote in self._holds.votes(hold.execution_id) if vote.redaction == redaction]

    def _shown(self, hold: Hold, redaction: Redaction) -> dict[str, Any]:
        """What a redaction takes out, what it leaves, who has approved it, what is to be signed."""
        form = self._form(hold, redaction)
        found = form.difference
        return {
            "id": redaction.id,
            "outputCid": redaction.root,
            "outcomeHash": redaction.outcome_hash,
            "manifestHash": redaction.manifest_hash,
            "salt": redaction.salt,
            "held": redaction.held.hash,
            "changes": found.changes.plain,
            "changesHash": redaction.changes_hash,
            "totalBytes": form.found.total_bytes,
            "removed": [one_line(entry.path) for entry in found.removed],
            "replaced": [{**self._row(hold, after), "before": before.size} for before, after in found.replaced],
            "kept": [one_line(entry.path) for entry in found.kept],
            "findings": [one_line(line) for line in redaction.findings.splitlines()],
            "proposedBy": redaction.proposed_by,
            "proposedAt": redaction.proposed_at,
            "votes": _plain_votes(self._votes(hold, redaction.id)),
            "approveDigest": release_digest(self._subject(hold, redaction), True, 0),
        }

    def _form(self, hold: Hold, redaction: Redaction) -> Form:
        return checked_form(self._quarantine(hold), hold, self._manifest(hold), redaction)

    def _found(self, hold: Hold, redaction: str) -> Manifest:
        """The files of one form of it."""
        found = self.redaction(hold, redaction)
        return self._manifest(hold) if found is None else self._form(hold, found).found

    def _subject(self, hold: Hold, redaction: Redaction | None = None) -> Subject:
        if hold.policy_hash != self._policy.hash:
            raise InvalidInput(
                "policy", "was changed since this output was held; started again, the node gives the job back"
            )
        subject = Subject(
            scope=self._scope,
            request_hash=hold.request_hash,
            node=self._node,
            policy_hash=hold.policy_hash,
            held=hold.held_hash,
        )
        return subject if redaction is None else replace(subject, redacted=redaction.signed)

    def _quarantine(self, hold: Hold) -> Quarantine:
        key = self._holds.keys.get(hold.execution_id)
        if hold.gone or key is None:
            raise InvalidInput("ID", hold.gone or "its key is gone: it has just ended")
        return Staging(self._folder / "executions" / hold.execution_id).quarantine(key)

    def _manifest(self, hold: Hold) -> Manifest:
        found = whole_manifest(self._quarantine(hold), Cid.parse(hold.root))
        if manifest_hash(found) != hold.manifest_hash:
            raise InvalidInput("ID", _DAMAGED)
        return found

    def _row(self, hold: Hold, entry: ManifestEntry) -> dict[str, Any]:
        row = {"path": one_line(entry.path), "kind": entry.kind, "size": entry.size, "type": "directory"}
        if entry.kind == "file":
            head = b""
            for chunk in read_file(self._quarantine(hold), entry.cid, entry.size):
                head += chunk[:HEAD_BYTES]
                if len(head) >= HEAD_BYTES:
                    break
            row["type"] = type_of(head[:HEAD_BYTES])
        return row


@contextmanager
def _undamaged() -> Iterator[None]:
    try:
        yield
    except DiskFull:  # of what is saved
        raise
    except ContentError as exc:
        raise InvalidInput("ID", f"{_DAMAGED} ({exc})") from exc


@contextmanager
def open_review(folder: Path, clock: Callable[[], float] = time.time) -> Iterator[Review]:
    """The held outputs of a node's work folder. InvalidInput for a folder that is none."""
    folder = folder.resolve()
    config = NodeConfig.load(folder)
    node = config.load_key(folder).address
    ledger = Ledger.open(folder / "ledger.db", node)
    try:
        holds = Holds(ledger, config.quarantine_keys(folder, node))
        yield Review(folder, config, node, config.load_policy(folder), holds, clock)
    finally:
        ledger.close()


def _named(word: str, holds: Sequence[Hold]) -> list[Hold]:
    """Those of this execution id, request id or request hash."""
    return [hold for hold in holds if word in (hold.execution_id, str(hold.request_id), f"0x{hold.request_hash.hex()}")]


def _needed(rules: ReleaseRules, *, approve: bool) -> int:
    """How many such decisions end it."""
    if approve or rules.mode == "person":
        return rules.threshold
    return len(rules.signers) - rules.threshold + 1


def _plain_votes(votes: Iterable[Vote]) -> list[dict[str, Any]]:
    return [{"signer": vote.signer, "approve": vote.approve, "reason": vote.reason} for vote in votes]


def named(entries: Sequence[ManifestEntry], path: str) -> ManifestEntry:
    """The one file of this path, as it is or as it is shown; a name may be made to look like another."""
    files = [entry for entry in entries if entry.kind == "file" and path in (entry.path, one_line(entry.path))]
    if not files:
        raise InvalidInput("--file", f"{path!r:.200} is no file of this output; `insula release show` lists them")
    if len(files) > 1:
        raise InvalidInput("--file", f"{path!r:.200} is shown of {len(files)} files; save all of them, without --file")
    return files[0]


def _changed(entries: Sequence[ManifestEntry], path: str, field: str) -> ManifestEntry:
    """Likewise the one file or folder that a redaction is to change."""
    found = [entry for entry in entries if path in (entry.path, one_line(entry.path))]
    if not found:
        problem = f"{path!r:.200} is no file or folder of this output; `insula release show` lists them"
        raise InvalidInput(field, problem)
    if len(found) > 1:
        problem = f"{path!r:.200} is shown of {len(found)} files; take out the folder that they are in"
        raise InvalidInput(field, problem)
    return found[0]


def _make(target: Path, make: Callable[[], T]) -> T:
    try:
        return make()
    except FileExistsError as exc:
        raise InvalidInput("--save", f"{target} exists already; give another place") from exc
    except OSError as exc:
        raise InvalidInput("--save", f"{target} cannot be made ({exc.strerror})") from exc
