"""CIDs as the world writes them: any version, base, codec and hash. Pure.

Insula itself writes one spelling only (`executor.protocol.cid`). A gateway is asked by others, so it reads them all and
says which of its blocks is meant, if any can be. Sources: https://github.com/multiformats/cid and its multibase table.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Final

from executor.content import varint
from executor.errors import InvalidInput
from executor.protocol.cid import CID_V0_LENGTH, CID_V0_PREFIX, DAG_PB, RAW, Cid

MAX_TEXT: Final = 512
_BASE36: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_IDENTITY: Final = 0
_V0_START, _V0_TEXT_LENGTH = "Qm", 46


@dataclass(frozen=True, slots=True)
class Named:
    """A CID as somebody wrote it.

    binary: its bytes. cid: the block of ours that it names, None where no block of ours can have such a CID. inline:
    the content of an identity CID of the codec raw, which is written inside it. is_old: CIDv0.
    """

    text: str
    binary: bytes
    cid: Cid | None
    inline: bytes | None = None

    @property
    def is_old(self) -> bool:
        """Whether it is a CIDv0, as which the blocks below it are most likely linked too."""
        return len(self.binary) == CID_V0_LENGTH and self.binary.startswith(CID_V0_PREFIX)


def parse_any(text: str, field: str = "cid") -> Named:
    """Read a CID; InvalidInput where it is none."""
    if not (text.isascii() and text.isalnum() and len(text) <= MAX_TEXT):
        raise InvalidInput(field, "a CID is at most 512 letters and digits")
    try:
        if text.startswith(_V0_START) and len(text) == _V0_TEXT_LENGTH:
            return _old(text, _from_digits(text, _BASE58))
        return _new(text, _decode(text[:1], text[1:]))
    except (ValueError, binascii.Error) as exc:
        raise InvalidInput(field, f"not a CID: {exc}") from exc


def text_of(cid: Cid, *, is_old: bool) -> str:
    """A CID's text; as CIDv0 where that is how the content names it."""
    return _to_digits(old_binary(cid), _BASE58) if is_old else str(cid)


def old_binary(cid: Cid) -> bytes:
    """The bytes of the CIDv0 of a dag-pb block."""
    return CID_V0_PREFIX + cid.digest


def _old(text: str, binary: bytes) -> Named:
    if len(binary) != CID_V0_LENGTH or not binary.startswith(CID_V0_PREFIX):
        raise ValueError("a CIDv0 is a sha2-256 multihash")
    return Named(text, binary, Cid(DAG_PB, binary[2:]))


def _new(text: str, binary: bytes) -> Named:
    version, offset = _number(binary, 0)
    if version != 1:
        raise ValueError(f"version {version} is not known")
    codec, offset = _number(binary, offset)
    function, offset = _number(binary, offset)
    length, offset = _number(binary, offset)
    digest = binary[offset:]
    if len(digest) != length:
        raise ValueError(f"its hash has {len(digest)} bytes, and says {length}")
    if function == _IDENTITY:
        return Named(text, binary, None, digest if codec == RAW else None)
    try:
        return Named(text, binary, Cid.from_binary(binary))
    except InvalidInput:  # another codec or hash than any block of ours has
        return Named(text, binary, None)


def _number(binary: bytes, offset: int) -> tuple[int, int]:
    found = varint.decode(binary, offset)
    if found is None:
        raise ValueError("it is cut")
    return found


def _decode(base: str, digits: str) -> bytes:
    if base in ("b", "B"):
        if digits != (digits.lower() if base == "b" else digits.upper()):
            raise ValueError("letters of both cases")
        binary = base64.b32decode(digits.upper() + "=" * (-len(digits) % 8))
        if base64.b32encode(binary).decode().rstrip("=") != digits.upper():
            raise ValueError("its last character says more than it may")
        return binary
    if base in ("f", "F"):
        return bytes.fromhex(digits)
    if base in ("k", "K"):
        return _from_digits(digits.lower(), _BASE36)
    if base == "z":
        return _from_digits(digits, _BASE58)
    raise ValueError("it does not start with a base that is read here (b, f, k, z or Qm)")


def _from_digits(text: str, alphabet: str) -> bytes:
    number = 0
    for char in text:
        number = number * len(alphabet) + alphabet.index(char)
    zeros = len(text) - len(text.lstrip(alphabet[0]))
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")


def _to_digits(binary: bytes, alphabet: str) -> str:
    number = int.from_bytes(binary, "big")
    out = ""
    while number:
        number, digit = divmod(number, len(alphabet))
        out = alphabet[digit] + out
    return out
