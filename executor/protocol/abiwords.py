"""The few shapes of Solidity's ABI that orders and outcomes are made of, by hand. Pure.

A library's decoder (`eth_abi`, the oracle of this module's tests) takes some hundred microseconds for one order, which
is most of what reading a contract's history costs. Source: the Contract ABI Specification of Solidity, "Formal
Specification of the Encoding".
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from eth_utils.address import to_checksum_address

WORD = 32


class NotEncoded(ValueError):
    """The bytes are not the ABI encoding of what was expected, or a value has no encoding."""


def uint(value: int, bits: int) -> bytes:
    """The word of an unsigned integer of so many bits."""
    if not isinstance(value, int) or not 0 <= value < 1 << bits:
        raise NotEncoded(f"{value!r:.80} is no uint{bits}")
    return value.to_bytes(WORD, "big")


def sint(value: int, bits: int) -> bytes:
    """The word of a signed integer of so many bits: two's complement."""
    if not isinstance(value, int) or not -(1 << (bits - 1)) <= value < 1 << (bits - 1):
        raise NotEncoded(f"{value!r:.80} is no int{bits}")
    return value.to_bytes(WORD, "big", signed=True)


def boolean(value: bool) -> bytes:
    """The word of a bool."""
    if not isinstance(value, bool):
        raise NotEncoded(f"{value!r:.80} is no bool")
    return value.to_bytes(WORD, "big")


def address(value: str) -> bytes:
    """The word of an address: 0x and 40 hexadecimal digits."""
    try:
        raw = bytes.fromhex(value.removeprefix("0x"))
    except (AttributeError, ValueError) as exc:
        raise NotEncoded(f"{value!r:.80} is no address") from exc
    if len(raw) != 20:
        raise NotEncoded(f"{value!r:.80} is no address")
    return bytes(12) + raw


def blob(value: bytes) -> bytes:
    """The tail of a `bytes`: its length, and its bytes padded to words."""
    if not isinstance(value, (bytes, bytearray)):
        raise NotEncoded(f"{value!r:.80} is no bytes")
    return len(value).to_bytes(WORD, "big") + value + bytes(-len(value) % WORD)


def words(values: Sequence[bytes]) -> bytes:
    """The tail of a `bytes32[]`."""
    if any(not isinstance(value, bytes) or len(value) != WORD for value in values):
        raise NotEncoded("a value of bytes32[] has not 32 bytes")
    return len(values).to_bytes(WORD, "big") + b"".join(values)


def struct(head: Sequence[bytes | None], tails: Sequence[bytes]) -> bytes:
    """`abi.encode` of one dynamic struct: None in the head stands for the offset of the next tail."""
    offset = WORD * len(head)
    waiting = iter(tails)
    parts = [WORD.to_bytes(WORD, "big")]
    ends: list[bytes] = []
    for word in head:
        if word is not None:
            parts.append(word)
            continue
        parts.append(offset.to_bytes(WORD, "big"))
        ends.append(next(waiting))
        offset += len(ends[-1])
    return b"".join([*parts, *ends])


class Reader:
    """One struct in `data`, whose head begins at `start`; offsets in it count from there."""

    def __init__(self, data: bytes, start: int) -> None:
        self._data = data
        self._start = start

    def inner(self, place: int) -> Reader:
        """The dynamic struct whose offset stands at a place of the head."""
        return Reader(self._data, self._start + _number(self._data, self._start + WORD * place))

    def word(self, place: int) -> bytes:
        """The 32 bytes at a place of the head."""
        return _word(self._data, self._start + WORD * place)

    def uint(self, place: int, bits: int) -> int:
        """The unsigned integer at a place of the head."""
        value = _number(self._data, self._start + WORD * place)
        if value >> bits:
            raise NotEncoded(f"a uint{bits} has too many bits")
        return value

    def sint(self, place: int, bits: int) -> int:
        """The signed integer at a place of the head."""
        value = int.from_bytes(self.word(place), "big", signed=True)
        if not -(1 << (bits - 1)) <= value < 1 << (bits - 1):
            raise NotEncoded(f"an int{bits} has too many bits")
        return value

    def boolean(self, place: int) -> bool:
        """The bool at a place of the head."""
        return bool(self.uint(place, 1))

    def address(self, place: int) -> str:
        """The address at a place of the head, checksummed."""
        word = self.word(place)
        if any(word[:12]):
            raise NotEncoded("an address has too many bits")
        return checksummed(word[12:])

    def blob(self, place: int) -> bytes:
        """The `bytes` whose offset stands at a place of the head."""
        at = self._start + _number(self._data, self._start + WORD * place)
        size = _number(self._data, at)
        end = at + WORD + size
        padded = end + -size % WORD
        if padded > len(self._data) or any(self._data[end:padded]):
            raise NotEncoded("bytes that end too soon, or are padded with something else than zeros")
        return self._data[at + WORD : end]

    def words(self, place: int) -> tuple[bytes, ...]:
        """The `bytes32[]` whose offset stands at a place of the head."""
        at = self._start + _number(self._data, self._start + WORD * place)
        size = _number(self._data, at)
        if at + WORD + WORD * size > len(self._data):
            raise NotEncoded("an array that ends too soon")
        return tuple(self._data[n : n + WORD] for n in range(at + WORD, at + WORD + WORD * size, WORD))


@lru_cache(maxsize=4096)
def checksummed(raw: bytes) -> str:
    """The checksummed address of 20 bytes."""
    return to_checksum_address(raw)


def _word(data: bytes, at: int) -> bytes:
    word = data[at : at + WORD]
    if len(word) != WORD:
        raise NotEncoded("the bytes end too soon")
    return word


def _number(data: bytes, at: int) -> int:
    return int.from_bytes(_word(data, at), "big")
