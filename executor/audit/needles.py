"""What is looked for in the bytes of an output, and how: in constant memory, across the borders of chunks. Pure.

A secret is looked for as it is, reversed, as JSON, URLs and UTF-16 write it, in hexadecimal and in base64 (each
alphabet, wherever in the encoded text it begins); line breaks, and between hexadecimal digits also ':' and '-', make no
difference to the last two. Well-known forms of secrets and the operator's patterns are looked for as they are.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from executor.audit.outputrules import OutputRules
from executor.audit.patterns import MAX_WIDTH, compiled

SECRETS_RULE: Final = "secrets"
CONTEXT: Final = 2048
"""Bytes before and after a place that decide whether it is a well-known form."""
_BLANKS: Final = b" \t\r\n\v\f"
_LOWER: Final = bytes(range(256)).lower()
_SEPARATORS: Final = _BLANKS + b":-"
_AWS: Final = re.compile(rb"A[KS]IA[A-Z2-7]{16}")
_UPPER_OR_DIGIT: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_UNRESERVED: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")  # RFC 3986
_PEM: Final = b"PRIVATE KEY-----"


@dataclass(frozen=True, slots=True)
class Seed:
    """A secret that a job was given: what must not stand in its output. The name may be told, the value never."""

    name: str
    value: bytes

    def __repr__(self) -> str:
        return f"Seed({self.name!r})"


@dataclass(frozen=True, slots=True)
class Hit:
    """Something was found. rule: of the policy; text: what, without a byte of it."""

    rule: str
    text: str


@dataclass(frozen=True, slots=True)
class Needles:
    """What is looked for in every stream of one output; made once."""

    plain: tuple[tuple[bytes, Hit], ...]
    squeezed: tuple[tuple[bytes, Hit], ...]
    digits: tuple[tuple[bytes, Hit], ...]
    patterns: tuple[tuple[re.Pattern[bytes], Hit], ...]
    forms: frozenset[str]

    @classmethod
    def of(cls, rules: OutputRules, seeds: Sequence[Seed]) -> Needles:
        """All that the operator's rules name, and the secrets of this job in every form."""
        plain, squeezed, digits = [], [], []
        for seed in seeds:
            value = seed.value.strip(_BLANKS)
            plain += [(value, _hit(seed, "as it is")), (value[::-1], _hit(seed, "reversed"))]
            plain += [(text, _hit(seed, "as programs write text")) for text in text_forms(value)]
            squeezed += [(text, _hit(seed, "in base64")) for text in base64_forms(value)]
            digits.append((value.hex().encode(), _hit(seed, "in hexadecimal")))
        patterns = [
            (compiled(pattern), Hit("denied_patterns", f"matches pattern {number}"))
            for number, pattern in enumerate(rules.denied_patterns, start=1)
        ]
        return cls(tuple(plain), tuple(squeezed), tuple(digits), tuple(patterns), frozenset(rules.secret_forms))


def _hit(seed: Seed, form: str) -> Hit:
    return Hit(SECRETS_RULE, f"holds the secret {seed.name} {form}")


def text_forms(value: bytes) -> tuple[bytes, ...]:
    """How programs write `value` into JSON, a URL, lines of Windows, UTF-16 and UTF-32; not where it looks as it is."""
    text = value.decode("utf-8", "replace")
    found = {
        json.dumps(text)[1:-1].encode(),
        json.dumps(text, ensure_ascii=False)[1:-1].encode(),
        _percent(value, _UNRESERVED),
        _percent(value, _UNRESERVED | {ord("/")}),
        _percent(value, _UNRESERVED | {ord(" ")}).replace(b" ", b"+"),
        value.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"),
        text.encode("utf-16-le"),
        text.encode("utf-16-be"),
        text.encode("utf-32-le"),
        text.encode("utf-32-be"),
    }
    return tuple(sorted(found - {value}))


def _percent(value: bytes, kept: frozenset[int]) -> bytes:
    return b"".join(bytes((byte,)) if byte in kept else b"%%%02X" % byte for byte in value)


def base64_forms(value: bytes) -> tuple[bytes, ...]:
    """The characters that stand for exactly `value` in base64, for each place in a group of three where it begins."""
    found: dict[bytes, None] = {}
    for offset in range(3):
        for alphabet in (b"+/", b"-_"):
            text = base64.b64encode(bytes(offset) + value, alphabet)
            found[text[-(-offset * 8 // 6) : (offset + len(value)) * 8 // 6]] = None
    return tuple(found)


class Search:
    """Looks through one stream of bytes. `feed` its chunks, then `close`; each hit is told once."""

    def __init__(self, needles: Needles) -> None:
        self._texts = [
            _Texts(chosen, change)
            for chosen, change in (
                (needles.plain, _same),
                (needles.squeezed, _squeeze),
                (needles.digits, _as_digits),
            )
            if chosen
        ]
        self._places = _Places(needles)

    def feed(self, chunk: bytes) -> Iterator[Hit]:
        """What is found with this chunk."""
        for texts in self._texts:
            yield from texts.feed(chunk)
        yield from self._places.feed(chunk)

    def close(self) -> Iterator[Hit]:
        """What only the end of the stream shows."""
        yield from self._places.close()


def _same(chunk: bytes) -> bytes:
    return chunk


def _squeeze(chunk: bytes) -> bytes:
    return chunk.translate(None, _BLANKS)


def _as_digits(chunk: bytes) -> bytes:
    return chunk.translate(_LOWER, _SEPARATORS)


class _Texts:
    """Fixed texts in a stream that is changed chunk by chunk before it is looked through."""

    def __init__(self, wanted: Sequence[tuple[bytes, Hit]], change: Callable[[bytes], bytes]) -> None:
        self._wanted = list(wanted)
        self._change = change
        self._overlap = max(len(text) for text, _ in wanted) - 1
        self._tail = b""

    def feed(self, chunk: bytes) -> Iterator[Hit]:
        data = self._tail + self._change(chunk)
        found = {hit for text, hit in self._wanted if text in data}
        if found:
            self._wanted = [(text, hit) for text, hit in self._wanted if hit not in found]
            yield from sorted(found, key=lambda hit: hit.text)
        self._tail = data[len(data) - self._overlap :] if len(data) > self._overlap else data


class _Places:
    """Well-known forms and patterns: found in each chunk, and once more around each border, with what is near them."""

    def __init__(self, needles: Needles) -> None:
        self._patterns = list(needles.patterns)
        self._forms = set(needles.forms)
        self._tail = b""
        self._is_cut = False  # there was something before the tail

    def feed(self, chunk: bytes) -> Iterator[Hit]:
        tail = self._tail
        if tail:
            yield from self._look(tail + chunk[:CONTEXT], is_start=not self._is_cut, is_end=False)
        yield from self._look(chunk, is_start=not tail, is_end=False)
        self._is_cut = self._is_cut or len(tail) + len(chunk) > CONTEXT
        self._tail = (chunk if len(chunk) >= CONTEXT else tail + chunk)[-CONTEXT:]

    def close(self) -> Iterator[Hit]:
        yield from self._look(self._tail, is_start=not self._is_cut, is_end=True)

    def _look(self, data: bytes, *, is_start: bool, is_end: bool) -> Iterator[Hit]:
        for form in sorted(self._forms):
            if _FORMS[form](data, is_start, is_end):
                self._forms.discard(form)
                yield Hit("secret_forms", f"holds what looks like: {form}")
        for pattern, hit in list(self._patterns):
            if pattern.search(data):
                self._patterns.remove((pattern, hit))
                yield hit


def _is_private_key(data: bytes, _start: bool, _end: bool) -> bool:
    return any(b"-----BEGIN " in data[max(0, at - 64) : at] for at in _places(data, _PEM))


def _is_aws_key(data: bytes, is_start: bool, is_end: bool) -> bool:
    """With nothing before and after it that could be part of it: sequences of proteins hold these letters, too."""
    for found in _AWS.finditer(data):
        begins, ends = found.span()
        free_before = data[begins - 1] not in _UPPER_OR_DIGIT if begins else is_start
        free_after = data[ends] not in _UPPER_OR_DIGIT if ends < len(data) else is_end
        if free_before and free_after:
            return True
    return False


def _is_keystore(data: bytes, _start: bool, _end: bool) -> bool:
    return b'"cipherparams"' in data and b'"ciphertext"' in data and b'"kdf"' in data


def _places(data: bytes, text: bytes) -> Iterator[int]:
    at = data.find(text)
    while at >= 0:
        yield at
        at = data.find(text, at + len(text))


_FORMS: Final[dict[str, Callable[[bytes, bool, bool], bool]]] = {
    "private-key": _is_private_key,
    "aws-key": _is_aws_key,
    "ethereum-keystore": _is_keystore,
}

assert MAX_WIDTH < CONTEXT  # noqa: S101 - a pattern's match always lies within a chunk or around a border
