"""When a held output may leave: from the signers' decisions to a ruling. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from executor.audit.policy import ReleaseRules
from executor.protocol.reasons import Reason
from executor.protocol.release import Subject, Vote, is_signed, tally


@dataclass(frozen=True, slots=True)
class Ruling:
    """The end of a hold: released, or withheld for `reason`. `votes`: those that it rests on."""

    released: bool
    reason: Reason
    votes: tuple[Vote, ...]

    @property
    def word(self) -> str:
        """approved, rejected or timeout."""
        if self.released:
            return "approved"
        return "timeout" if self.reason is Reason.RELEASE_TIMEOUT else "rejected"


def counted(rules: ReleaseRules, subject: Subject, votes: Sequence[Vote]) -> tuple[Vote, ...]:
    """The votes that count, in their order: of the policy's signers, truly signed, the first of each signer."""
    found: dict[str, Vote] = {}
    for vote in votes:
        if vote.signer in rules.signers and vote.signer not in found and is_signed(subject, vote):
            found[vote.signer] = vote
    return tuple(found.values())


def rule(rules: ReleaseRules, subject: Subject, votes: Sequence[Vote], *, is_over: bool) -> Ruling | None:
    """What the votes come to; None: wait for more. `is_over`: the time to wait has passed."""
    valid = counted(rules, subject, votes)
    if rules.mode == "person":
        valid = valid[:1]
    decided = tally(valid, rules.mode, len(rules.signers), rules.threshold)
    if decided is None:
        return Ruling(False, Reason.RELEASE_TIMEOUT, valid) if is_over else None
    reasons = [vote.reason for vote in valid if not vote.approve]
    return Ruling(decided, Reason.NONE if decided else Reason(reasons[0]), valid)
