"""What a reviewer signs about a held output: EIP-712 typed data, bound to the exact bytes. Pure.

    Release(bytes32 requestHash,address node,bytes32 policyHash,Held held,bool approve,uint16 reason)
    Redaction(bytes32 requestHash,address node,bytes32 policyHash,Held held,Held redacted,bytes32 changesHash)
    Held(bytes32 outcomeHash,bytes32 manifestHash,bytes32 salt)

in the domain {InsulaRelease, 1, chainId, ComputeBridge}. A Release decides on the output as it is; a Redaction approves
one form of it with less in it, and nothing else: each is of a type of its own, so that none counts as another. The
outcome holds exit code and output CID, which stands for every byte of files, stdout and stderr; `salt` is random and of
one hold or redaction only. Of a rejected output the receipt names hashStruct(held) alone: the signature can be checked
with it, and without the salt it helps nobody to guess the output. The same holds of the original of a redacted one.
`changesHash`: what a receipt may say of the redaction (`Changes`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from eth_utils.crypto import keccak

from executor.errors import InvalidInput
from executor.protocol.canonical import canonical_json, sha256
from executor.protocol.reasons import Reason
from executor.protocol.signing import Key, Scope, digest, recover, struct_message

DOMAIN: Final = "InsulaRelease"
MAX_REPLACED: Final = 64
"""Files that one redaction replaces: the receipt names them, and is bounded."""
REJECT_REASONS: Final = (Reason.RELEASE_REJECTED, Reason.AUDIT_RULE)
"""What a reviewer may give as the reason of a rejection."""
_HELD_TYPE: Final = (("bytes32", "outcomeHash"), ("bytes32", "manifestHash"), ("bytes32", "salt"))
_RELEASE_TYPE: Final = (
    ("bytes32", "requestHash"),
    ("address", "node"),
    ("bytes32", "policyHash"),
    ("Held", "held"),
    ("bool", "approve"),
    ("uint16", "reason"),
)
_REDACTION_TYPE: Final = (
    ("bytes32", "requestHash"),
    ("address", "node"),
    ("bytes32", "policyHash"),
    ("Held", "held"),
    ("Held", "redacted"),
    ("bytes32", "changesHash"),
)


def _encoded(name: str, fields: tuple[tuple[str, str], ...]) -> str:
    return f"{name}({','.join(' '.join(field) for field in fields)})"


_HELD_HASH: Final = keccak(text=_encoded("Held", _HELD_TYPE))
_RELEASE_HASH: Final = keccak(text=_encoded("Release", _RELEASE_TYPE) + _encoded("Held", _HELD_TYPE))
_REDACTION_HASH: Final = keccak(text=_encoded("Redaction", _REDACTION_TYPE) + _encoded("Held", _HELD_TYPE))


@dataclass(frozen=True, kw_only=True)
class Held:
    """An output in quarantine, as its reviewers see it. 32 bytes each."""

    outcome_hash: bytes
    manifest_hash: bytes
    salt: bytes

    @property
    def hash(self) -> bytes:
        """hashStruct(held), 32 bytes."""
        return keccak(_HELD_HASH + self.outcome_hash + self.manifest_hash + self.salt)


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What may be told of a redaction. removed: whether anything was; replaced: paths of files, sorted by their bytes.

    Names and number of what was removed are the job's to choose, and so are not told.
    """

    removed: bool
    replaced: tuple[str, ...]

    @property
    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"removed": self.removed, "replaced": list(self.replaced)}

    @property
    def hash(self) -> bytes:
        """SHA-256 of their canonical JSON, 32 bytes."""
        return sha256(canonical_json(self.plain))


@dataclass(frozen=True, kw_only=True)
class Redacted:
    """A form of a held output with less in it. held: hashStruct of that form; changes: their hash. 32 bytes each."""

    held: bytes
    changes: bytes

    @property
    def id(self) -> str:
        """The name of this form on its node. It tells nothing: what it is taken from is salted."""
        return self.held.hex()[:16]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is decided on: whose request, on which node, under which policy, which bytes (`held`: hashStruct).

    redacted: the form that is to leave in its place; None: it is decided on as it is.
    """

    scope: Scope
    request_hash: bytes
    node: str
    policy_hash: bytes
    held: bytes
    redacted: Redacted | None = None


@dataclass(frozen=True, kw_only=True)
class Vote:
    """One signer's decision. `reason` is 0 of an approval; `redaction`: the id of the form that it approves, if any."""

    signer: str
    approve: bool
    reason: int
    signature: bytes
    redaction: str = ""


def check_decision(approve: bool, reason: int, redaction: str = "") -> None:
    """InvalidInput("reason") unless an approval has none and a rejection one of REJECT_REASONS.

    InvalidInput("redaction"): a redaction is approved or left alone.
    """
    if redaction and not approve:
        raise InvalidInput("redaction", "is approved or left alone; reject the output itself, and nothing of it leaves")
    if approve and reason != Reason.NONE:
        raise InvalidInput("reason", "an approval has none: it must be 0")
    if not approve and reason not in REJECT_REASONS:
        known = " or ".join(f"{int(item)} ({item.name})" for item in REJECT_REASONS)
        raise InvalidInput("reason", f"{reason} is no reason of a rejection; give {known}")


def tally(votes: Sequence[Vote], mode: str, signers: int, threshold: int) -> bool | None:
    """What valid votes of distinct signers come to: released, rejected, or None while it is open.

    In mode "person" the first one alone counts. Rejected: `threshold` approvals are no longer possible.
    """
    counted, possible = (votes[:1], 1) if mode == "person" else (votes, signers)
    approvals = sum(vote.approve for vote in counted)
    if approvals >= threshold:
        return True
    return False if len(counted) - approvals > possible - threshold else None


def release_digest(subject: Subject, approve: bool, reason: int) -> bytes:
    """The 32 bytes that are signed."""
    return digest(_message(subject, approve, reason))


def sign_release(subject: Subject, key: Key, approve: bool, reason: int) -> Vote:
    """A decision, signed with this key. InvalidInput("reason")."""
    form = _form(subject)
    check_decision(approve, reason, form)
    signature = key.sign(_message(subject, approve, reason))
    return Vote(signer=key.address, approve=approve, reason=reason, signature=signature, redaction=form)


def signed_release(subject: Subject, approve: bool, reason: int, signature: bytes) -> Vote:
    """A decision that was signed elsewhere, by whoever the signature recovers to. InvalidInput."""
    form = _form(subject)
    check_decision(approve, reason, form)
    signer = recover(_message(subject, approve, reason), signature)
    return Vote(signer=signer, approve=approve, reason=reason, signature=signature, redaction=form)


def is_signed(subject: Subject, vote: Vote) -> bool:
    """Whether this very decision on this very subject was signed by whom it names."""
    try:
        return signed_release(subject, vote.approve, vote.reason, vote.signature).signer == vote.signer
    except InvalidInput:
        return False


def release_document(subject: Subject, held: Held, approve: bool, reason: int) -> Mapping[str, Any]:
    """The typed data as wallets take it (`eth_signTypedData_v4`): plain JSON, bytes in 0x-hex."""
    decision = {"approve": approve, "reason": reason}
    return _document(subject, "Release", _RELEASE_TYPE, {"held": _shown(held), **decision})


def redaction_document(subject: Subject, held: Held, redacted: Held, changes: Changes) -> Mapping[str, Any]:
    """Likewise of the approval of a redaction. `subject.redacted` is of these."""
    forms = {"held": _shown(held), "redacted": _shown(redacted), "changesHash": f"0x{changes.hash.hex()}"}
    return _document(subject, "Redaction", _REDACTION_TYPE, forms)


def _document(
    subject: Subject, name: str, fields: tuple[tuple[str, str], ...], about: Mapping[str, Any]
) -> Mapping[str, Any]:
    domain = (("string", "name"), ("string", "version"), ("uint256", "chainId"), ("address", "verifyingContract"))
    types = {"EIP712Domain": domain, name: fields, "Held": _HELD_TYPE}
    return {
        "types": {kind: [{"type": what, "name": field} for what, field in members] for kind, members in types.items()},
        "primaryType": name,
        "domain": {
            "name": DOMAIN,
            "version": "1",
            "chainId": subject.scope.chain_id,
            "verifyingContract": subject.scope.contract,
        },
        "message": {
            "requestHash": f"0x{subject.request_hash.hex()}",
            "node": subject.node,
            "policyHash": f"0x{subject.policy_hash.hex()}",
            **about,
        },
    }


def _shown(held: Held) -> dict[str, str]:
    return {
        "outcomeHash": f"0x{held.outcome_hash.hex()}",
        "manifestHash": f"0x{held.manifest_hash.hex()}",
        "salt": f"0x{held.salt.hex()}",
    }


def _form(subject: Subject) -> str:
    return "" if subject.redacted is None else subject.redacted.id


def _message(subject: Subject, approve: bool, reason: int) -> Any:
    about = (
        subject.request_hash,
        bytes.fromhex(subject.node[2:]).rjust(32, b"\0"),
        subject.policy_hash,
        subject.held,
    )
    if subject.redacted is not None:
        words = (_REDACTION_HASH, *about, subject.redacted.held, subject.redacted.changes)
    else:
        words = (_RELEASE_HASH, *about, int(approve).to_bytes(32, "big"), int(reason).to_bytes(32, "big"))
    return struct_message(DOMAIN, subject.scope, keccak(b"".join(words)))
