"""What a reviewer sees of held outputs, and how a decision gets to the node: through the node's own folder.

Who can read the folder (0700) sees held bytes; so does a reviewer by the node's API (`reviewapi`). A decision is an
EIP-712 signature of one of the policy's signers, made here or elsewhere, kept in the ledger; the node checks it again
before it acts on it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from executor.agent.config import NodeConfig
from executor.agent.holding import manifest_hash, rules_of, unpacked, whole_manifest
from executor.agent.record import one_line
from executor.agent.staging import Staging
from executor.audit.magic import HEAD_BYTES, type_of
from executor.audit.policy import Policy, ReleaseRules
from executor.content.export import export_tree
from executor.content.limits import TreeLimits
from executor.content.reader import Manifest, ManifestEntry, read_file
from executor.errors import ContentError, DiskFull, InvalidInput
from executor.holds import Hold, Holds
from executor.ledger import Ledger, is_locked
from executor.protocol.cid import Cid
from executor.protocol.reasons import Reason
from executor.protocol.release import (
    REJECT_REASONS,
    Subject,
    Vote,
    check_decision,
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

    def find_shown(self, word: str) -> Hold:
        """As `find`, for an approval: by execution id only. InvalidInput("ID").

        A request that ran again holds another output under the same id and hash than the one that was looked at.
        """
        hold = self.find(word)
        if word != hold.execution_id:
            problem = "an approval is for one output: give its own id, as `insula release show` of it says"
            raise InvalidInput("ID", problem)
        return hold

    def show(self, hold: Hold) -> dict[str, Any]:
        """All that can be said of one: its files with their types, broken rules, decisions, what is to be signed."""
        subject = self._subject(hold)
        with _undamaged():
            found = self._manifest(hold)
            files = [self._row(hold, entry) for entry in found.entries]
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
        }

    def document(self, hold: Hold, approve: bool, reason: int) -> dict[str, Any]:
        """The typed data to be signed elsewhere (`eth_signTypedData_v4`)."""
        check_decision(approve, reason)
        return dict(release_document(self._subject(hold), hold.held, approve, reason))

    def documents(self, hold: Hold) -> dict[str, Any]:
        """What each decision signs, as `document`: {"approve": ..., "reject": {"300": ..., ...}}."""
        rejections = {str(int(reason)): self.document(hold, False, int(reason)) for reason in REJECT_REASONS}
        return {"approve": self.document(hold, True, int(Reason.NONE)), "reject": rejections}

    def read(self, hold: Hold, path: str) -> tuple[int, Iterator[bytes]]:
        """One file of the output: its size and its bytes, each block hashed as it is read. InvalidInput."""
        with _undamaged():
            entry = named(self._manifest(hold).entries, path)
            return entry.size, read_file(self._quarantine(hold), entry.cid, entry.size)

    def save(self, hold: Hold, path: str | None, target: Path) -> int:
        """Write one file of the output (0600), or the whole of it below a new folder (0700); how many bytes."""
        with _undamaged():
            return self._save(hold, path, target)

    def _save(self, hold: Hold, path: str | None, target: Path) -> int:
        source = self._quarantine(hold)
        found = self._manifest(hold)
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

    def decide(self, hold: Hold, approve: bool, reason: int, signer: Key | bytes) -> dict[str, Any]:
        """Sign (or take a signature made elsewhere) and keep it for the node. InvalidInput.

        The quarantine is read and hashed before anything is signed: nobody approves what is not there.
        """
        subject = self._subject(hold)
        field = "--signature"
        if isinstance(signer, Key):
            field = "--key"
            with _undamaged():
                self._manifest(hold)
            vote = sign_release(subject, signer, approve, reason)
        else:
            vote = signed_release(subject, approve, reason, signer)
        self._check_signer(hold, vote, field)
        new = self._holds.vote(hold.execution_id, vote, self._clock())
        votes = self._holds.votes(hold.execution_id)
        return {
            "id": hold.execution_id,
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
        votes = self._holds.votes(hold.execution_id)
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
            "votes": [{"signer": vote.signer, "approve": vote.approve, "reason": vote.reason} for vote in votes],
        }

    def _subject(self, hold: Hold) -> Subject:
        if hold.policy_hash != self._policy.hash:
            raise InvalidInput(
                "policy", "was changed since this output was held; started again, the node gives the job back"
            )
        return Subject(
            scope=self._scope,
            request_hash=hold.request_hash,
            node=self._node,
            policy_hash=hold.policy_hash,
            held=hold.held_hash,
        )

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


def named(entries: Sequence[ManifestEntry], path: str) -> ManifestEntry:
    """The one file of this path, as it is or as it is shown; a name may be made to look like another."""
    files = [entry for entry in entries if entry.kind == "file" and path in (entry.path, one_line(entry.path))]
    if not files:
        raise InvalidInput("--file", f"{path!r:.200} is no file of this output; `insula release show` lists them")
    if len(files) > 1:
        raise InvalidInput("--file", f"{path!r:.200} is shown of {len(files)} files; save all of them, without --file")
    return files[0]


def _make(target: Path, make: Callable[[], T]) -> T:
    try:
        return make()
    except FileExistsError as exc:
        raise InvalidInput("--save", f"{target} exists already; give another place") from exc
    except OSError as exc:
        raise InvalidInput("--save", f"{target} cannot be made ({exc.strerror})") from exc
