"""Labels and Kubernetes-style selectors. Pure.

Grammar of labels: design section 4. Selector semantics: Kubernetes' label selectors, set-based requirements included
(kubernetes.io, "Labels and Selectors"), and the node-affinity operators `>` and `<`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from executor.errors import InvalidInput

LABEL_KEY = re.compile(r"[a-z0-9][a-z0-9._/-]{0,62}")
LABEL_VALUE = re.compile(r"[A-Za-z0-9._-]{0,63}")
ADMITTED = "node=admitted"  # what a curator vouches for when an order asks for no label
MAX_SELECTOR_CHARS = 2048
MAX_REQUIREMENTS = 32
MAX_VALUES = 32

_TOKEN = re.compile(r"\s*(?:(!=|==|=|>|<|!|\(|\)|,)|([A-Za-z0-9._/-]+))")

#: Labels as a selector sees them: each key with every value that it carries. A node may declare `site=a` and `site=b`.
LabelSet = Mapping[str, frozenset[str]]


@dataclass(frozen=True, order=True)
class Label:
    """One `key=value`."""

    key: str
    value: str

    def __str__(self) -> str:
        return f"{self.key}={self.value}"

    @classmethod
    def parse(cls, word: str) -> Self:
        """The label of `key=value`. InvalidInput("label") if it breaks the grammar."""
        key, equals, value = word.partition("=")
        if not equals or not LABEL_KEY.fullmatch(key) or not LABEL_VALUE.fullmatch(value):
            raise InvalidInput(
                "label",
                f"{word!r:.140} is not key=value; a key is [a-z0-9][a-z0-9._/-]{{0,62}}, "
                "a value [A-Za-z0-9._-]{0,63}",
            )
        return cls(key, value)


class Operator(StrEnum):
    """What a requirement asks of a key."""

    EQUALS = "="
    NOT_EQUALS = "!="
    IN = "in"
    NOT_IN = "notin"
    EXISTS = "exists"
    NOT_EXISTS = "!"
    GREATER = ">"
    LESS = "<"


@dataclass(frozen=True)
class Requirement:
    """One requirement of a selector."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def matches(self, labels: LabelSet) -> bool:
        """Whether `labels` satisfy it. As in Kubernetes, != and notin hold where the key is absent."""
        carried = labels.get(self.key, frozenset())
        match self.operator:
            case Operator.EXISTS:
                return bool(carried)
            case Operator.NOT_EXISTS:
                return not carried
            case Operator.EQUALS | Operator.IN:
                return not carried.isdisjoint(self.values)
            case Operator.NOT_EQUALS | Operator.NOT_IN:
                return carried.isdisjoint(self.values)
            case Operator.GREATER:
                return any(_is_integer(value) and int(value) > int(self.values[0]) for value in carried)
            case _:  # Operator.LESS
                return any(_is_integer(value) and int(value) < int(self.values[0]) for value in carried)

    def __str__(self) -> str:
        match self.operator:
            case Operator.EXISTS:
                return self.key
            case Operator.NOT_EXISTS:
                return f"!{self.key}"
            case Operator.IN | Operator.NOT_IN:
                return f"{self.key} {self.operator} ({','.join(self.values)})"
            case _:
                return f"{self.key}{self.operator}{self.values[0]}"


@dataclass(frozen=True)
class Selector:
    """Requirements that all have to hold; none of them: any node."""

    requirements: tuple[Requirement, ...] = ()

    @classmethod
    def parse(cls, text: str, field: str = "selector") -> Self:
        """The selector of `text`. InvalidInput(field) that says where it stops making sense."""
        if len(text) > MAX_SELECTOR_CHARS:
            raise InvalidInput(field, f"is longer than {MAX_SELECTOR_CHARS} characters")
        if not text.strip():
            return cls()
        requirements = tuple(_Parser(text, field).requirements())
        if len(requirements) > MAX_REQUIREMENTS:
            raise InvalidInput(field, f"has more than {MAX_REQUIREMENTS} requirements")
        return cls(requirements)

    def unmet(self, labels: LabelSet) -> tuple[Requirement, ...]:
        """The requirements that `labels` do not satisfy."""
        return tuple(r for r in self.requirements if not r.matches(labels))

    def matches(self, labels: LabelSet) -> bool:
        """Whether `labels` satisfy every requirement."""
        return not self.unmet(labels)

    def repeats(self, label: Label) -> bool:
        """Whether some requirement can only hold where the node carries `label`."""
        return any(
            r.key == label.key and r.operator in (Operator.EQUALS, Operator.IN) and r.values == (label.value,)
            for r in self.requirements
        )

    def required_words(self) -> tuple[str, ...]:
        """The `key=value` words that the selector pins to one value, sorted."""
        return tuple(
            sorted(
                f"{r.key}={r.values[0]}"
                for r in self.requirements
                if r.operator in (Operator.EQUALS, Operator.IN) and len(r.values) == 1
            )
        )

    def __str__(self) -> str:
        return ",".join(str(r) for r in self.requirements)


def label_set(words: Iterable[str]) -> dict[str, frozenset[str]]:
    """Label words (`key=value`) as a selector sees them. InvalidInput("label") for a word that is no label."""
    values: dict[str, set[str]] = {}
    for label in map(Label.parse, words):
        values.setdefault(label.key, set()).add(label.value)
    return {key: frozenset(carried) for key, carried in values.items()}


def _is_integer(value: str) -> bool:
    return re.fullmatch(r"-?[0-9]{1,18}", value) is not None


class _Parser:
    """Recursive descent over the few tokens of a selector."""

    def __init__(self, text: str, field: str) -> None:
        self._field = field
        self._tokens = self._tokenize(text)
        self._at = 0

    def _tokenize(self, text: str) -> list[str]:
        tokens: list[str] = []
        position = 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                if not text[position:].strip():
                    break
                raise InvalidInput(self._field, f"is not understood from {text[position : position + 20]!r} on")
            tokens.append(match.group(1) or match.group(2))
            position = match.end()
        return tokens

    def _peek(self) -> str | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _take(self) -> str:
        token = self._peek()
        if token is None:
            raise InvalidInput(self._field, "ends too early; write requirements like a=b, a in (x,y), !a")
        self._at += 1
        return token

    def requirements(self) -> list[Requirement]:
        """All of them, a comma between two. InvalidInput."""
        found = [self._requirement()]
        while self._peek() is not None:
            if self._take() != ",":
                raise InvalidInput(self._field, "has two requirements with no comma between them")
            found.append(self._requirement())
        return found

    def _requirement(self) -> Requirement:
        token = self._take()
        if token == "!":
            return Requirement(self._key(self._take()), Operator.NOT_EXISTS)
        key = self._key(token)
        following = self._peek()
        if following is None or following == ",":
            return Requirement(key, Operator.EXISTS)
        operator = self._take()
        if operator in ("in", "notin"):
            return Requirement(key, Operator(operator), self._values())
        if operator in ("=", "=="):
            return Requirement(key, Operator.EQUALS, (self._value_or_empty(),))
        if operator == "!=":
            return Requirement(key, Operator.NOT_EQUALS, (self._value_or_empty(),))
        if operator in (">", "<"):
            bound = self._take()
            if not _is_integer(bound):
                raise InvalidInput(self._field, f"compares {key} with {bound!r:.40}, which is not an integer")
            return Requirement(key, Operator(operator), (bound,))
        raise InvalidInput(self._field, f"has an unknown operator {operator!r:.40} after {key}")

    def _key(self, token: str) -> str:
        if not LABEL_KEY.fullmatch(token):
            raise InvalidInput(self._field, f"has {token!r:.80} where a label key should stand")
        return token

    def _value(self, token: str) -> str:
        if not LABEL_VALUE.fullmatch(token):
            raise InvalidInput(self._field, f"has {token!r:.80} where a label value should stand")
        return token

    def _value_or_empty(self) -> str:
        following = self._peek()
        if following is None or following == ",":
            return ""
        return self._value(self._take())

    def _values(self) -> tuple[str, ...]:
        if self._take() != "(":
            raise InvalidInput(self._field, "needs its values in parentheses: a in (x,y)")
        values = [self._value(self._take())]
        while (token := self._take()) != ")":
            if token != ",":
                raise InvalidInput(self._field, "needs commas between values: a in (x,y)")
            values.append(self._value(self._take()))
        if len(values) > MAX_VALUES:
            raise InvalidInput(self._field, f"lists more than {MAX_VALUES} values")
        return tuple(sorted(set(values)))
