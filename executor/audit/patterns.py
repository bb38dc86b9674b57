"""An operator's patterns for what may not leave, in a small part of regular expressions that takes linear time. Pure.

A pattern is a row of parts, each one byte wide, repeated if need be: a literal, `.` (any byte but a newline), a class
`[a-z0-9_]` or `[^...]`, `\\d \\w \\s`, `\\xNN`; then `{n}`, `{m,n}`, `{m,}` without end is refused, and `?`. `(?i)` at
the start: small and large letters are one. No groups, no `|` (write two patterns), no `*` and `+` (say how many), no
anchors. A repeat must not be able to take what the part after it takes: then no position is ever tried twice, and an
output that was made to be slow costs at most MAX_WIDTH steps a byte. Source of the repeats' form: Python's possessive
quantifiers, which mean the same here as greedy ones.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

MAX_WIDTH: Final = 256
"""Bytes that a match has at most."""
MAX_PATTERN_CHARS: Final = 512
_ANY: Final = frozenset(range(256))
_CLASSES: Final = {
    "d": frozenset(b"0123456789"),
    "w": frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"),
    "s": frozenset(b" \t\n\r\f\v"),
}
_ESCAPES: Final = {"n": 10, "r": 13, "t": 9}
_SPECIAL: Final = frozenset("()|*+^$")
_COUNT: Final = re.compile(r"\{(\d{1,4})(?:,(\d{1,4}))?\}")


class BadPattern(ValueError):
    """A pattern that is not of the form above; says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class _Part:
    """Bytes that may stand here, and how often."""

    members: frozenset[int]
    least: int
    most: int


def compiled(pattern: str) -> re.Pattern[bytes]:
    """The pattern, ready to search bytes. BadPattern."""
    if len(pattern) > MAX_PATTERN_CHARS:
        raise BadPattern(f"has more than {MAX_PATTERN_CHARS} characters")
    ignore_case = pattern.startswith("(?i)")
    parts = _parts(pattern[4:] if ignore_case else pattern, ignore_case)
    if not sum(part.least for part in parts):
        raise BadPattern("matches nothing at all, so everything")
    if sum(part.most for part in parts) > MAX_WIDTH:
        raise BadPattern(f"can be longer than {MAX_WIDTH} bytes")
    _check_repeats(parts)
    return re.compile(b"".join(map(_source, parts)), re.DOTALL)


def _check_repeats(parts: list[_Part]) -> None:
    for number, part in enumerate(parts):
        if part.least == part.most:
            continue
        for following in parts[number + 1 :]:
            if part.members & following.members:
                raise BadPattern("a repeat could take what stands after it; say exactly how often, or let them differ")
            if following.least:
                break


def _parts(text: str, ignore_case: bool) -> list[_Part]:
    parts: list[_Part] = []
    at = 0
    while at < len(text):
        rows, at = _item(text, at)
        least, most, at = _repeat(text, at)
        if len(rows) > 1 and (least, most) != (1, 1):
            raise BadPattern("a character beyond ASCII is several bytes; it cannot be repeated")
        parts += [_Part(_folded(members) if ignore_case else members, least, most) for members in rows]
    return parts


def _item(text: str, at: int) -> tuple[list[frozenset[int]], int]:
    """The byte sets of what stands at `at`, and where the rest begins."""
    char = text[at]
    if char in _SPECIAL or char in "{}?]":
        raise BadPattern(f"{char!r} has no meaning here; write \\{char} for the character itself")
    if char == ".":
        return [_ANY - {10}], at + 1
    if char == "[":
        members, at = _class(text, at + 1)
        return [members], at
    if char == "\\":
        members, at = _escape(text, at + 1)
        return [members], at
    return [frozenset((byte,)) for byte in char.encode("utf-8", "surrogatepass")], at + 1


def _escape(text: str, at: int) -> tuple[frozenset[int], int]:
    char = text[at : at + 1]
    if char in _CLASSES:
        return _CLASSES[char], at + 1
    if char in _ESCAPES:
        return frozenset((_ESCAPES[char],)), at + 1
    if char == "x":
        digits = text[at + 1 : at + 3]
        if not re.fullmatch(r"[0-9a-fA-F]{2}", digits):
            raise BadPattern("\\x needs two hexadecimal digits")
        return frozenset((int(digits, 16),)), at + 3
    if not char or char.isalnum() or ord(char) > 127:
        raise BadPattern(f"\\{char} has no meaning here")
    return frozenset((ord(char),)), at + 1


def _class(text: str, at: int) -> tuple[frozenset[int], int]:
    negated = text[at : at + 1] == "^"
    at += negated
    members: frozenset[int] = frozenset()
    while text[at : at + 1] != "]":
        one, at = _member(text, at)
        if text[at : at + 1] == "-" and text[at + 1 : at + 2] not in ("]", ""):
            last, at = _member(text, at + 1)
            if len(one) != 1 or len(last) != 1 or min(one) > min(last):
                raise BadPattern("a range in [...] goes from a smaller character to a larger one")
            one = frozenset(range(min(one), min(last) + 1))
        members |= one
    if not members:
        raise BadPattern("[] holds nothing")
    return (_ANY - members if negated else members), at + 1


def _member(text: str, at: int) -> tuple[frozenset[int], int]:
    char = text[at : at + 1]
    if not char:
        raise BadPattern("[ is never closed")
    if char == "\\":
        return _escape(text, at + 1)
    if ord(char) > 127:
        raise BadPattern("[...] holds ASCII only; write \\xNN for other bytes")
    return frozenset((ord(char),)), at + 1


def _repeat(text: str, at: int) -> tuple[int, int, int]:
    """Least, most, and where the rest begins."""
    if text[at : at + 1] == "?":
        return 0, 1, at + 1
    if text[at : at + 1] != "{":
        return 1, 1, at
    found = _COUNT.match(text, at)
    if not found:
        raise BadPattern("a count is {n} or {m,n}, with an end")
    least = int(found[1])
    most = least if found[2] is None else int(found[2])
    if most < least or most == 0:
        raise BadPattern(f"{found[0]} is no count")
    return least, most, found.end()


def _folded(members: frozenset[int]) -> frozenset[int]:
    text = bytes(sorted(members))
    return members | frozenset(text.lower()) | frozenset(text.upper())


def _source(part: _Part) -> bytes:
    if len(part.members) == 1:
        source = re.escape(bytes(part.members))
    else:
        source = b"[" + b"".join(b"\\x%02x" % byte for byte in sorted(part.members)) + b"]"
    if part.least == part.most:
        return source if part.least == 1 else source + b"{%d}" % part.least
    return source + b"{%d,%d}+" % (part.least, part.most)
