"""When a held output may leave: from the signers' decisions to a ruling. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from executor.audit.policy import ReleaseRules
from executor.protocol.reasons import Reason
from executor.protocol.release import Redacted, Subject, Vote, is_signed, tally


@dataclass(frozen=True, slots=True)
class Ruling:
    """The end of a hold: released, or withheld for `reason`. `votes`: those that it rests on.

    redaction: the id of the form that is released in place of the whole; empty: the whole, or nothing.
    """

    released: bool
    reason: Reason
    votes: tuple[Vote, ...]
    redaction: str = ""

    @property
    def word(self) -> str:
        """approved, redacted, rejected or timeout."""
        if self.released:
            return "redacted" if self.redaction else "approved"
        return "timeout" if self.reason is Reason.RELEASE_TIMEOUT else "rejected"


Redactions = Mapping[str, Redacted]
"""The forms of a held output that were proposed, by id."""


def counted(
    rules: ReleaseRules, subject: Subject, votes: Sequence[Vote], redactions: Redactions | None = None
) -> tuple[Vote, ...]:
    """The votes that count, in their order: of the policy's signers, truly signed, the first of each signer on a form.

    A signer may approve several forms, each for itself. Whoever has rejected the output approves no form of it any
    more, and the other way round.
    """
    found: dict[tuple[str, str], Vote] = {}
    for vote in votes:
        if vote.signer not in rules.signers or (vote.signer, vote.redaction) in found:
            continue
        earlier = [one for one in found.values() if one.signer == vote.signer]
        if any(not one.approve for one in (*earlier, vote)) and earlier:
            continue
        about = _subject_of(vote, subject, redactions or {})
        if about is not None and is_signed(about, vote):
            found[vote.signer, vote.redaction] = vote
    return tuple(found.values())


def _subject_of(vote: Vote, subject: Subject, redactions: Redactions) -> Subject | None:
    if not vote.redaction:
        return subject
    redacted = redactions.get(vote.redaction)
    return None if redacted is None else replace(subject, redacted=redacted)


def rule(
    rules: ReleaseRules,
    subject: Subject,
    votes: Sequence[Vote],
    *,
    is_over: bool,
    redactions: Redactions | None = None,
) -> Ruling | None:
    """What the votes come to; None: wait for more. `is_over`: the time to wait has passed.

    The whole and each redaction are counted apart: the first of them that enough signers approve is released.
    """
    valid = counted(rules, subject, votes, redactions)
    if rules.mode == "person":
        valid = valid[:1]
    whole = tuple(vote for vote in valid if not vote.redaction)
    redaction = _approved_first(valid, rules.threshold)
    if redaction:
        resting = tuple(vote for vote in valid if vote.redaction == redaction or not vote.approve)
        return Ruling(True, Reason.NONE, resting, redaction)
    decided = tally(whole, rules.mode, len(rules.signers), rules.threshold)
    if decided is None:
        return Ruling(False, Reason.RELEASE_TIMEOUT, whole) if is_over else None
    reasons = [vote.reason for vote in whole if not vote.approve]
    return Ruling(decided, Reason.NONE if decided else Reason(reasons[0]), whole)


def was_approved_in_part(rules: ReleaseRules, votes: Sequence[Vote]) -> bool:
    """Whether some redaction has enough approvals, by their signers' names alone.

    Of an output that is gone: what they signed went with it, so this may have a job run again, and let nothing out.
    """
    named = [vote for vote in votes if vote.signer in rules.signers]
    if rules.mode == "person":
        named = named[:1]
    return bool(_approved_first([vote for vote in named if vote.redaction], rules.threshold))


def _approved_first(valid: Sequence[Vote], threshold: int) -> str:
    """The id of the redaction that had enough approvals before any other form; empty where none did."""
    approvals: Counter[str] = Counter()
    for vote in valid:
        approvals[vote.redaction] += vote.approve
        if approvals[vote.redaction] >= threshold:
            return vote.redaction
    return ""
