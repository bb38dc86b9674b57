"""The small part of protobuf that dag-pb and UnixFS use: numbers and bytes. Pure, bounded by its input.

Source: https://protobuf.dev/programming-guides/encoding/. Fixed-width and group fields do not occur and are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from executor.content import varint

_VARINT: Final = 0
_BYTES: Final = 2


class ProtobufError(ValueError):
    """Not the protobuf that dag-pb and UnixFS allow."""


def varint_field(number: int, value: int) -> bytes:
    """A field that holds a number."""
    return varint.encode(number << 3 | _VARINT) + varint.encode(value)


def bytes_field(number: int, value: bytes) -> bytes:
    """A field that holds bytes, a text or a message."""
    return varint.encode(number << 3 | _BYTES) + varint.encode(len(value)) + value


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Every field of a message in its order: (number, value); a number for varints, else bytes."""
    offset = 0
    while offset < len(message):
        tag, offset = number(message, offset)
        field, wire_type = tag >> 3, tag & 7
        value, offset = number(message, offset)
        if wire_type == _VARINT:
            yield field, value
        elif wire_type == _BYTES:
            if value > len(message) - offset:
                raise ProtobufError(f"field {field} is longer than its message")
            yield field, message[offset : offset + value]
            offset += value
        else:
            raise ProtobufError(f"field {field} has the wire type {wire_type}, which is not used here")


def number(message: bytes, offset: int) -> tuple[int, int]:
    """The varint that stands there, and the offset behind it."""
    if offset < len(message) and message[offset] < 0x80:
        return message[offset], offset + 1  # most are so short, and a large directory has a hundred thousand of them
    try:
        found = varint.decode(message, offset)
    except varint.VarintError as exc:
        raise ProtobufError(str(exc)) from exc
    if found is None:
        raise ProtobufError("the message ends inside a number")
    return found
