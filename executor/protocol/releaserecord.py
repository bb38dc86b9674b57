"""What a receipt says of the reviewers' release, and whether that is so: each signature over exactly this output. Pure.

Of an output that was released in part, each approval is over two: the original, of which a salted hash is all that is
told, and what came out.

The names of the signers are the node's word (its policy, whose hash they signed); that they signed is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from pydantic import Field, StrictBool, ValidationError

from executor.errors import InvalidInput
from executor.protocol.canonical import canonical_json, sha256
from executor.protocol.leases import Address, Hash, HexBytes, Message
from executor.protocol.reasons import Reason
from executor.protocol.release import MAX_REPLACED, Changes, Held, Redacted, Subject, Vote, is_signed, tally
from executor.protocol.signing import Scope
from executor.protocol.wire import Outcome, Request, Status

MAX_VOTES = 32


class RecordedVote(Message):
    """One signer's decision."""

    signer: Address
    approve: bool
    reason: int = Field(ge=0, lt=2**16)
    signature: HexBytes = Field(min_length=65, max_length=65)


class RedactedForm(Message):
    """What came out in place of the whole. `held`: hashStruct over the outcome's hash, `manifest_hash` and `salt`.

    removed: whether anything was taken out; replaced: paths of the files whose bytes are others.
    """

    held: Hash
    manifest_hash: Hash = Field(alias="manifestHash")
    salt: Hash
    removed: StrictBool
    replaced: tuple[str, ...] = Field(max_length=MAX_REPLACED)

    @property
    def changes(self) -> Changes:
        """As they are signed."""
        return Changes(removed=self.removed, replaced=self.replaced)


class ReleaseRecord(Message):
    """The byproduct `release` of a receipt. `manifest_hash` and `salt` stand there only of what was released whole.

    held: the output as it was held; redacted: what was released in its place.
    """

    mode: Literal["person", "signers"]
    signers: tuple[Address, ...] = Field(min_length=1, max_length=MAX_VOTES)
    threshold: int = Field(ge=1, le=MAX_VOTES)
    ruling: Literal["approved", "redacted", "rejected", "timeout"]
    held: Hash
    votes: tuple[RecordedVote, ...] = Field(max_length=MAX_VOTES)
    manifest_hash: Hash | None = Field(default=None, alias="manifestHash")
    salt: Hash | None = None
    redacted: RedactedForm | None = None


def check_release(receipt: Mapping[str, Any], node: str, request: Request, outcome: Outcome) -> ReleaseRecord | None:
    """The record of a parsed receipt, checked; None where no reviewer was asked, and none had to be.

    node: the address of the key that signed the receipt. InvalidInput("release") says what does not fit.
    """
    try:
        policy = receipt["predicate"]["buildDefinition"]["internalParameters"]["policy"]
        found = {item["name"]: item["annotations"] for item in receipt["predicate"]["runDetails"]["byproducts"]}
        mode = policy.get("release", "automatic")
        if "release" not in found:
            _check_unasked(mode, outcome)
            return None
        record = ReleaseRecord.model_validate(found["release"])
        subject = Subject(
            scope=Scope(request.chain_id, request.contract),
            request_hash=request.hash,
            node=node,
            policy_hash=bytes.fromhex(policy["sha256"]),
            held=record.held,
        )
        entries = found["manifest"]["entries"]
        is_cut = bool(entries) and "omitted" in entries[-1]
        manifest = None if is_cut else sha256(canonical_json(entries))
        files = None if is_cut else {row["path"] for row in entries if row["type"] == "file"}
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidInput("release", f"{where}: {first['msg']}") from exc
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise InvalidInput("release", "the receipt has another form") from exc
    if record.mode != mode:
        raise InvalidInput("release", f"is of the mode {record.mode}, and the node's policy of {mode!r:.40}")
    if (record.ruling == "redacted") is not (record.redacted is not None):
        raise InvalidInput("release", f"is {record.ruling}, which does not go with what it says of a redaction")
    _check_votes(record, subject)
    _check_ruling(record)
    _check_reason(record, outcome)
    if record.ruling == "approved":
        _check_approved(record, outcome, manifest)
    elif record.redacted is not None:
        _check_redacted(record.redacted, record.held, outcome, manifest)
        _check_changes(record.redacted, files)
    else:
        _check_withheld(record, outcome)
    return record


def _check_votes(record: ReleaseRecord, subject: Subject) -> None:
    """Approvals of a redaction are over both forms; who rejected the output did so as it was."""
    approved = subject
    if record.redacted is not None:
        redacted = Redacted(held=record.redacted.held, changes=record.redacted.changes.hash)
        approved = replace(subject, redacted=redacted)
    seen: set[str] = set()
    for vote in record.votes:
        if vote.signer not in record.signers or vote.signer in seen:
            raise InvalidInput("release", f"{vote.signer} is no signer, or is named twice")
        seen.add(vote.signer)
        if not is_signed(approved if vote.approve else subject, _vote(vote)):
            raise InvalidInput("release", f"the signature is not {vote.signer}'s over this output and this decision")


def _check_reason(record: ReleaseRecord, outcome: Outcome) -> None:
    """Whoever reads the outcome alone sees whether it is a part. Of a job that failed, its own reason stands there."""
    is_part = outcome.reason == Reason.RELEASED_IN_PART
    if outcome.status == Status.SUCCEEDED and is_part is not (record.redacted is not None):
        said = "in part" if is_part else "as a whole"
        raise InvalidInput("release", f"is {record.ruling}, and the outcome says that the output was released {said}")


def _check_unasked(mode: str, outcome: Outcome) -> None:
    if outcome.reason == Reason.RELEASED_IN_PART:
        raise InvalidInput("release", "the outcome says that reviewers released a part, and the receipt names none")
    if mode != "automatic" and outcome.output_cid:
        raise InvalidInput("release", "the node's policy asks for reviewers, and the receipt names none")
    if outcome.status == Status.WITHHELD and outcome.reason in (Reason.RELEASE_REJECTED, Reason.RELEASE_TIMEOUT):
        raise InvalidInput("release", "the outcome is one that reviewers decide on, and the receipt names none")


def _check_ruling(record: ReleaseRecord) -> None:
    """That it follows from the votes; a node that leaves votes out can only be told by who cast them."""
    votes = [_vote(one) for one in record.votes]
    if record.mode == "person" and (record.threshold != 1 or len(votes) > 1):
        raise InvalidInput("release", "one person decides, by the first decision alone, and more is named")
    due = {True: "approved" if record.redacted is None else "redacted", False: "rejected", None: "timeout"}[
        tally(votes, record.mode, len(record.signers), record.threshold)
    ]
    if record.ruling != due:
        approvals = sum(vote.approve for vote in votes)
        counts = f"{approvals} approvals, where {record.threshold} are needed, and {len(votes) - approvals} rejections"
        raise InvalidInput("release", f"is {record.ruling}, but {counts} make it {due}")


def _vote(made: RecordedVote) -> Vote:
    return Vote(signer=made.signer, approve=made.approve, reason=made.reason, signature=made.signature)


def _check_approved(record: ReleaseRecord, outcome: Outcome, manifest: bytes | None) -> None:
    if not outcome.output_cid:
        raise InvalidInput("release", "is approved, and the outcome has no output")
    if record.manifest_hash is None or record.salt is None:
        raise InvalidInput("release", "does not say what was approved")
    if manifest is not None and manifest != record.manifest_hash:
        raise InvalidInput("release", "another manifest was approved")
    held = Held(outcome_hash=outcome.hash, manifest_hash=record.manifest_hash, salt=record.salt)
    if held.hash != record.held:
        raise InvalidInput("release", "another outcome was approved")


def _check_redacted(form: RedactedForm, original: bytes, outcome: Outcome, manifest: bytes | None) -> None:
    if not outcome.output_cid:
        raise InvalidInput("release", "is redacted, and the outcome has no output")
    if form.held == original:
        raise InvalidInput("release", "the redacted form is the original itself")
    if manifest is not None and manifest != form.manifest_hash:
        raise InvalidInput("release", "another manifest was approved")
    held = Held(outcome_hash=outcome.hash, manifest_hash=form.manifest_hash, salt=form.salt)
    if held.hash != form.held:
        raise InvalidInput("release", "another outcome was approved")


def _check_changes(form: RedactedForm, files: set[str] | None) -> None:
    if not form.removed and not form.replaced:
        raise InvalidInput("release", "is redacted, and nothing was removed or replaced")
    if list(form.replaced) != sorted(set(form.replaced), key=lambda path: path.encode("utf-8", "surrogatepass")):
        raise InvalidInput("release", "names replaced files twice, or out of order")
    if files is not None and (strange := [path for path in form.replaced if path not in files]):
        raise InvalidInput("release", f"says that {strange[0]!r:.200} was replaced, which is no file of the output")


def _check_withheld(record: ReleaseRecord, outcome: Outcome) -> None:
    reasons = [vote.reason for vote in record.votes if not vote.approve]
    if record.ruling == "timeout":
        reasons = [int(Reason.RELEASE_TIMEOUT)]
    if outcome.status != Status.WITHHELD or [outcome.reason] != reasons[:1]:
        raise InvalidInput("release", f"is {record.ruling}, and the outcome says something else")
