"""A node's log as others can follow it: a signed checkpoint, and proofs that it grew out of earlier ones. Pure.

Sources: C2SP tlog-checkpoint and signed-note v1.0.0, RFC 6962 section 2.1.2. The signature is of a type that C2SP has
not assigned (0xff and a name): ECDSA on secp256k1 by the node's key over the SHA-256 of the note's text, 65 bytes
r || s || v, so that the address in the origin is all that a verifier needs.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Final, Literal, Self

from pydantic import Field, ValidationError

from executor.errors import InvalidInput
from executor.protocol.canonical import DepthError, sha256, strict_json
from executor.protocol.leases import Hash, LogProof, Message
from executor.protocol.merkle import is_consistent
from executor.protocol.signing import Key, recover_digest
from executor.protocol.wire import checksum_address

MAX_LOG_FILE_BYTES: Final = 4 * 2**20
MAX_PROOFS: Final = 1000
_TYPE: Final = b"\xffinsula-secp256k1-sha256"
_NOTE: Final = re.compile(
    r"insula/(0x[0-9a-fA-F]{40})\n(0|[1-9][0-9]{0,15})\n([A-Za-z0-9+/]{43}=)\n\n"
    r"\N{EM DASH} insula/(0x[0-9a-fA-F]{40}) ([A-Za-z0-9+/]{92})\n"
)


@dataclass(frozen=True)
class Checkpoint:
    """The log of `key` at `size` entries. `root` has 32 bytes."""

    key: str
    size: int
    root: bytes

    @property
    def origin(self) -> str:
        """The log's name, which is also its key's."""
        return f"insula/{self.key}"

    @property
    def text(self) -> str:
        """What is signed: origin, size, root, a line each."""
        return f"{self.origin}\n{self.size}\n{b64encode(self.root).decode()}\n"

    @property
    def digest(self) -> bytes:
        """The 32 bytes that the key signs."""
        return sha256(self.text.encode())

    def note(self, key: Key) -> str:
        """The signed note."""
        line = b64encode(_key_id(self) + key.sign_digest(self.digest)).decode()
        return f"{self.text}\n\N{EM DASH} {self.origin} {line}\n"

    @classmethod
    def of_note(cls, note: str) -> Self:
        """The checkpoint of a note that its own key has signed. InvalidInput("checkpoint")."""
        found = _NOTE.fullmatch(note)
        if found is None:
            raise InvalidInput(
                "checkpoint", "is no signed note of a node: origin, size, root, an empty line, signature"
            )
        key, size, root, name, line = found.groups()
        made = cls(checksum_address(key, "checkpoint"), int(size), b64decode(root))
        signed = b64decode(line)
        if (key, name) != (made.key, made.key) or b64encode(made.root).decode() != root or signed[:4] != _key_id(made):
            raise InvalidInput("checkpoint", "names another key than it is of, or is not written in its one form")
        if recover_digest(made.digest, signed[4:]) != made.key:
            raise InvalidInput("checkpoint", f"is not signed by {made.key}: size, root or signature was changed")
        return made


def _key_id(checkpoint: Checkpoint) -> bytes:
    return sha256(checkpoint.origin.encode() + b"\n" + _TYPE + bytes.fromhex(checkpoint.key[2:]))[:4]


class Since(Message):
    """That the log with `size` entries and this root is the beginning of the one of the checkpoint."""

    size: int = Field(ge=1, lt=2**53)
    root: Hash
    proof: LogProof


class LogFile(Message):
    """What `insula node log --save` writes."""

    format: Literal["insula-log/1"] = "insula-log/1"
    checkpoint: str = Field(max_length=1000)
    since: tuple[Since, ...] = Field(default=(), max_length=MAX_PROOFS)

    @classmethod
    def parse(cls, raw: bytes, where: str) -> Self:
        """The file with these bytes. InvalidInput that names the field."""
        try:
            return cls.model_validate(strict_json(raw.decode(), max_depth=6))
        except ValidationError as exc:
            first = exc.errors()[0]
            path = ".".join(str(part) for part in first["loc"])
            raise InvalidInput(f"{where}: {path}" if path else where, first["msg"]) from exc
        except (ValueError, DepthError) as exc:
            raise InvalidInput(
                where, f"is no log file, or cut: {exc!s:.100}; insula node log --save makes one"
            ) from exc

    def grew_from(self, size: int, root: bytes) -> str | None:
        """What is wrong with an earlier state of the same log: "" if nothing is, None where no proof is about it."""
        now = Checkpoint.of_note(self.checkpoint)
        if size > now.size:
            return (
                f"had {size} entries and has {now.size} now: entries were taken off its end, or this file is older "
                "than that; ask its operator for a new one"
            )
        if size == now.size:
            return "" if root == now.root else f"has two different roots at {size} entries: it was rewritten"
        proofs = [one for one in self.since if one.size == size]
        if not proofs:
            return None
        if any(is_consistent(size, root, now.size, now.root, one.proof) for one in proofs):
            return ""
        return (
            f"at {now.size} entries does not begin with what it was at {size}: it was rewritten, or the proof is wrong"
        )
