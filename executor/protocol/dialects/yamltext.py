"""YAML as JSON, strictly: what YAML 1.1 and 1.2 read differently, and what grows or runs, is refused. Pure.

PyYAML gives the events only (its own Python parser, so that every node reads alike); no object of Python's is ever made
from a tag. Refused: anchors, aliases, tags, merge keys, several documents, plain words that are yes, 012 or 2001-01-01.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from executor.protocol.dialects.fields import child, entry
from executor.protocol.reasons import Reason
from executor.protocol.specparts import refuse

MAX_YAML_BYTES = 64 * 1024
MAX_DEPTH = 16
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,19})")
_FLOAT = re.compile(r"-?(?:0|[1-9][0-9]{0,19})(?:\.[0-9]{1,30})?(?:[eE][-+]?[0-9]{1,4})?")
_ODD_BREAKS = re.compile("[\x85\u2028\u2029\ufeff]")
_WORDS: dict[str, bool | None] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_WORDS |= {word: word.lower() == "true" for word in ("true", "True", "TRUE", "false", "False", "FALSE")}
#: what some reader of YAML takes for a number or a boolean although JSON does not
_AMBIGUOUS = re.compile(
    r"[-+]?(?:0[xX][0-9a-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+|(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9_]+)(?:[eE][-+]?[0-9]+)?"
    r"|\.(?:inf|Inf|INF|nan|NaN|NAN))|[yYnN]"
)
_RESOLVERS: dict[str, list[tuple[str, re.Pattern[str]]]] = yaml.SafeLoader.yaml_implicit_resolvers
_SAME_IN_ALL = "tag:yaml.org,2002:value"  # the word `=`, which is itself everywhere


def parse_yaml(data: bytes) -> Any:
    """The JSON value of one YAML document. InvalidSpec."""
    if len(data) > MAX_YAML_BYTES:
        problem = f"the spec has {len(data)} bytes; at most {MAX_YAML_BYTES} of YAML are read, more as JSON"
        refuse(Reason.SPEC_TOO_LARGE, "", problem)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as exc:
        refuse(Reason.SPEC_NOT_UTF8, "", f"byte {exc.start} is not UTF-8")
    if odd := _ODD_BREAKS.search(text):
        problem = (
            f"holds U+{ord(odd.group()):04X}, a line break to some readers of YAML; write it as an escape in quotes"
        )
        refuse(Reason.SPEC_NOT_JSON, "", problem)
    return _Composer(text).document()


class _Composer:
    """Makes a value from a parser's events."""

    def __init__(self, text: str) -> None:
        self._events = _events(text)

    def document(self) -> Any:
        """The value of the one document. InvalidSpec where there is none, or several."""
        for _ in range(2):  # the start of the stream and of a document
            event = next(self._events)
        if isinstance(event, yaml.StreamEndEvent):
            refuse(Reason.SPEC_NOT_JSON, "", "the spec is empty")
        if event.version or event.tags:
            refuse(Reason.SPEC_NOT_JSON, "", "has a directive (%YAML or %TAG); leave it out")
        value = self._value(next(self._events), "", 0)
        next(self._events)  # the end of the document
        if not isinstance(next(self._events), yaml.StreamEndEvent):
            refuse(Reason.SPEC_NOT_JSON, "", "the spec is several YAML documents; one is read")
        return value

    def _value(self, event: Any, path: str, depth: int) -> Any:
        if depth > MAX_DEPTH:
            refuse(Reason.SPEC_TOO_LARGE, "", f"the spec is nested deeper than {MAX_DEPTH}")
        if isinstance(event, yaml.AliasEvent) or event.anchor:
            refuse(Reason.SPEC_INVALID_FIELD, path, "has an anchor or an alias (& or *); write the value out")
        if event.tag:
            refuse(Reason.SPEC_INVALID_FIELD, path, f"has the tag {event.tag!r:.60}; leave it out, or use quotes")
        if isinstance(event, yaml.ScalarEvent):
            return _plain(event.value, path) if event.style is None else _text(event.value, path)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._list(path, depth)
        return self._object(path, depth)

    def _list(self, path: str, depth: int) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._value(event, entry(path, len(items)), depth + 1))
        return items

    def _object(self, path: str, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._value(event, path, depth + 1)
            if not isinstance(key, str):
                refuse(Reason.SPEC_INVALID_FIELD, path, "has a key that is no word; put it in quotes")
            if key in found:
                refuse(Reason.SPEC_DUPLICATE_KEY, child(path, key), "stands twice in one object")
            found[key] = self._value(next(self._events), child(path, key), depth + 1)
        return found


def _events(text: str) -> Iterator[Any]:
    try:
        yield from yaml.parse(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as exc:
        place = f" at line {exc.problem_mark.line + 1}" if exc.problem_mark else ""
        refuse(Reason.SPEC_NOT_JSON, "", f"the spec is neither JSON nor YAML: {exc.problem!s:.120}{place}")
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as exc:
        refuse(Reason.SPEC_NOT_JSON, "", f"the spec is neither JSON nor YAML: {exc!s:.120}")


def _plain(text: str, path: str) -> Any:
    """A scalar without quotes: what it is in JSON, or a word."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    kinds = _RESOLVERS.get(text[0], [])
    resolved = any(tag != _SAME_IN_ALL and pattern.match(text) for tag, pattern in kinds)
    if resolved or _AMBIGUOUS.fullmatch(text):
        refuse(Reason.SPEC_INVALID_FIELD, path, f"is {text!r:.40}, which readers of YAML disagree on; put it in quotes")
    return _text(text, path)


def _text(text: str, path: str) -> str:
    if any("\ud800" <= char <= "\udfff" for char in text):
        refuse(Reason.SPEC_INVALID_FIELD, path, "holds half a surrogate pair")
    return text
