"""Unsigned varints (LEB128), as protobuf, CIDs and CAR files use them. Pure.

Source: https://github.com/multiformats/unsigned-varint. Only the shortest form is accepted, so that one number has one
spelling, and never more than 10 bytes (64 bits) are looked at.
"""

from __future__ import annotations

from typing import Final

MAX_LENGTH: Final = 10
"""Bytes of the longest varint, that of 2**64 - 1."""
_MAX_VALUE: Final = 2**64 - 1


class VarintError(ValueError):
    """Not a varint of at most 64 bits in its shortest form."""


def encode(value: int) -> bytes:
    """The shortest varint of 0 <= value < 2**64."""
    if not 0 <= value <= _MAX_VALUE:
        raise VarintError(f"{value} does not fit into an unsigned 64-bit varint")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode(buffer: bytes | bytearray | memoryview, offset: int = 0) -> tuple[int, int] | None:
    """Read one varint: (value, offset behind it); None where the buffer ends inside it; VarintError if malformed."""
    value = 0
    for index, byte in enumerate(buffer[offset : offset + MAX_LENGTH]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            if value > _MAX_VALUE:
                raise VarintError("a varint has more than 64 bits")
            if byte == 0 and index > 0:
                raise VarintError("a varint is not in its shortest form")
            return value, offset + index + 1
    if len(buffer) - offset >= MAX_LENGTH:
        raise VarintError("a varint has more than 10 bytes")
    return None
