"""CIDv1 with sha2-256: the only content identifiers that Insula writes or accepts.

Source: https://github.com/multiformats/cid (CIDv1), multibase prefix `b` (RFC 4648 base32, lower case, no padding),
multicodec table. One spelling per CID: whatever `parse` accepts, `str` gives back unchanged, so texts can be compared.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from typing import Final

from executor.errors import InvalidInput

RAW: Final = 0x55
DAG_PB: Final = 0x70
DAG_CBOR: Final = 0x71
CODECS: Final = {RAW: "raw", DAG_PB: "dag-pb", DAG_CBOR: "dag-cbor"}

BINARY_LENGTH: Final = 36
"""Bytes of a binary CID: version, codec, hash function, digest length (one byte each), digest."""
TEXT_LENGTH: Final = 59
"""Characters of a CID's text: the multibase prefix and 58 of base32."""

_VERSION: Final = 1
_SHA2_256: Final = 0x12
_DIGEST_LENGTH: Final = 32
CID_V0_PREFIX: Final = bytes([_SHA2_256, _DIGEST_LENGTH])
"""How a CIDv0 begins in binary form: it is a bare multihash."""
CID_V0_LENGTH: Final = 34

_TEXT = re.compile(r"b[a-z2-7]{58}")
_CID_V0 = re.compile(r"Qm[1-9A-HJ-NP-Za-km-z]{44}")
_BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True, order=True)
class Cid:
    """A CIDv1: `codec` is RAW, DAG_PB or DAG_CBOR, `digest` the 32 bytes of the block's sha2-256."""

    codec: int
    digest: bytes

    def __post_init__(self) -> None:
        if self.codec not in CODECS:
            raise InvalidInput("cid", _unknown_codec(self.codec))
        if len(self.digest) != _DIGEST_LENGTH:
            raise InvalidInput("cid", f"a sha2-256 digest has {_DIGEST_LENGTH} bytes, not {len(self.digest)}")

    @classmethod
    def of(cls, codec: int, block: bytes | memoryview) -> Cid:
        """The CID of a block's bytes."""
        return cls(codec, hashlib.sha256(block).digest())

    @classmethod
    def parse(cls, text: str, field: str = "cid") -> Cid:
        """Read a CID from its one canonical text; InvalidInput names `field` and what to do."""
        if _CID_V0.fullmatch(text):
            raise InvalidInput(field, f"CIDv0 is not accepted; give the CIDv1 that `ipfs cid base32 {text}` prints")
        if not _TEXT.fullmatch(text):
            raise InvalidInput(field, _why_not_a_text(text))
        try:
            binary = base64.b32decode(text[1:].upper() + "======")
        except binascii.Error as exc:  # pragma: no cover - the pattern above admits nothing that the decoder refuses
            raise InvalidInput(field, "not base32") from exc
        cid = cls.from_binary(binary, field)
        if str(cid) != text:
            raise InvalidInput(field, f"not the canonical text of this CID, which is {cid}")
        return cid

    @classmethod
    def from_binary(cls, binary: bytes, field: str = "cid") -> Cid:
        """Read a CID from exactly its 36 bytes."""
        if binary[:2] == CID_V0_PREFIX:
            raise InvalidInput(field, "CIDv0 is not accepted; use its CIDv1 form")
        if len(binary) != BINARY_LENGTH:
            raise InvalidInput(field, f"a CIDv1 with sha2-256 has {BINARY_LENGTH} bytes, not {len(binary)}")
        version, codec, function, length = binary[:4]
        if version != _VERSION:
            raise InvalidInput(field, f"CID version {version} is not accepted, only version {_VERSION}")
        if codec not in CODECS:
            raise InvalidInput(field, _unknown_codec(codec))
        if (function, length) != (_SHA2_256, _DIGEST_LENGTH):
            raise InvalidInput(field, f"hash function 0x{function:02x} is not accepted, only sha2-256 (32 bytes)")
        return cls(codec, binary[4:])

    @classmethod
    def from_link(cls, binary: bytes, field: str = "link") -> Cid:
        """Read a CID inside a block or a CAR file, where old content still has CIDv0.

        A CIDv0 is a bare sha2-256 multihash (34 bytes) that always means dag-pb, so it becomes the CIDv1 of the same
        block; one block keeps one name here.
        """
        if len(binary) == CID_V0_LENGTH and binary[:2] == CID_V0_PREFIX:
            return cls(DAG_PB, binary[2:])
        return cls.from_binary(binary, field)

    @classmethod
    def parse_any(cls, text: str, field: str = "cid") -> Cid:
        """Read the text of a CIDv1, or of a CIDv0 as the CIDv1 of the same block; InvalidInput names `field`."""
        if not _CID_V0.fullmatch(text):
            return cls.parse(text, field)
        number = 0
        for char in text:
            number = number * 58 + _BASE58.index(char)
        if number >> 8 * (CID_V0_LENGTH - len(CID_V0_PREFIX)) != int.from_bytes(CID_V0_PREFIX, "big"):
            raise InvalidInput(field, "not a CIDv0 with sha2-256")
        return cls.from_link(number.to_bytes(CID_V0_LENGTH, "big"), field)

    @property
    def old_binary(self) -> bytes:
        """The CIDv0 of a dag-pb block: 34 bytes. InvalidInput for another codec, which has none."""
        if self.codec != DAG_PB:
            raise InvalidInput("cid", f"only dag-pb has CIDv0, not {CODECS[self.codec]}")
        return CID_V0_PREFIX + self.digest

    @property
    def old_text(self) -> str:
        """The CIDv0 of a dag-pb block as a text, Qm...; InvalidInput for another codec, which has none."""
        number = int.from_bytes(self.old_binary, "big")
        text = ""
        while number:
            number, digit = divmod(number, 58)
            text = _BASE58[digit] + text
        return text

    @property
    def binary(self) -> bytes:
        """The 36 bytes that stand in blocks, CAR files and on-chain."""
        return bytes([_VERSION, self.codec, _SHA2_256, _DIGEST_LENGTH]) + self.digest

    def matches(self, block: bytes | memoryview) -> bool:
        """Whether these bytes are this CID's block."""
        return hashlib.sha256(block).digest() == self.digest

    def __str__(self) -> str:
        return "b" + base64.b32encode(self.binary).decode("ascii").rstrip("=").lower()

    def __repr__(self) -> str:
        return f"Cid.parse({str(self)!r})"


def _unknown_codec(codec: int) -> str:
    accepted = ", ".join(f"{name} (0x{code:02x})" for code, name in CODECS.items())
    return f"codec 0x{codec:02x} is not accepted, only {accepted}"


def _why_not_a_text(text: str) -> str:
    if not text.startswith("b"):
        return "a CID is written in lower-case base32 and starts with 'b' (bafy...); convert it: `ipfs cid base32 CID`"
    if len(text) != TEXT_LENGTH:
        return f"a CIDv1 with sha2-256 has {TEXT_LENGTH} characters, not {len(text)}"
    return "a CID holds only the letters a-z and the digits 2-7 after its 'b'"
