"""Reading another system's object as Go's encoding/json does (keys in any case, null for absence), but strictly. Pure.

Where Go would take the last of two equal keys and pass over unknown ones, a spec is refused: text that a contract
pastes into its spec must not be able to replace a field.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from executor.protocol.reasons import Reason
from executor.protocol.specparts import refuse, string_of

MAX_ENTRIES = 64  # of any list, and of an object whose keys are the author's own
_SHOWN = 80  # characters of a key in a field's path


class Fields:
    """The fields of one object; remembers which were read, so that `close` can refuse the rest."""

    def __init__(self, value: Any, path: str) -> None:
        if not isinstance(value, dict):
            refuse(Reason.SPEC_INVALID_FIELD if path else Reason.SPEC_NOT_JSON, path, "must be an object")
        self.path = path
        self._fields: dict[str, tuple[str, Any]] = {}
        self._read: set[str] = set()
        for key, item in value.items():
            folded = fold(key)
            if folded in self._fields:
                first = self._fields[folded][0]
                refuse(Reason.SPEC_DUPLICATE_KEY, self._at(key), f"stands twice in one object (as {first!r:.80})")
            self._fields[folded] = (key, item)

    def at(self, name: str) -> str:
        """The path of a field, with its key as its author wrote it."""
        return self._at(self._fields.get(fold(name), (name, None))[0])

    def _at(self, key: str) -> str:
        return child(self.path, key)

    def has(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self._fields.get(fold(name), (name, None))[1] is not None

    def is_object(self, name: str) -> bool:
        """Whether the field is an object."""
        return isinstance(self._fields.get(fold(name), (name, None))[1], dict)

    def is_float(self, name: str) -> bool:
        """Whether the field is a number with a fraction or exponent."""
        return isinstance(self._fields.get(fold(name), (name, None))[1], float)

    def take(self, name: str) -> Any:
        """The field's value; None where it is absent or null."""
        folded = fold(name)
        self._read.add(folded)
        return self._fields.get(folded, (name, None))[1]

    def text(self, name: str) -> str:
        """The field as a string, "" where it is absent."""
        value = self.take(name)
        return "" if value is None else string_of(value, self.at(name))

    def word(self, name: str) -> str:
        """The field as one of the dialect's own words, which it compares in lower case and without spaces around."""
        return fold(self.text(name).strip(" \t\r\n"))

    def given_text(self, name: str) -> str:
        """The field as a string that must be there."""
        text = self.text(name)
        if not text:
            refuse(Reason.SPEC_MISSING_FIELD, self.at(name), "is missing")
        return text

    def count(self, name: str) -> int:
        """The field as a whole number of things, 0 where it is absent."""
        value = self.take(name)
        if value is None:
            return 0
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            refuse(Reason.SPEC_INVALID_FIELD, self.at(name), "must be a whole number, not below 0")
        return value

    def object(self, name: str) -> Fields:
        """The field as an object, an empty one where it is absent."""
        value = self.take(name)
        return Fields({} if value is None else value, self.at(name))

    def entries(self, name: str) -> Iterator[tuple[str, Any]]:
        """Path and value of each entry of a list, none where it is absent."""
        value = self.take(name)
        path = self.at(name)
        if value is None:
            return
        if not isinstance(value, list):
            refuse(Reason.SPEC_INVALID_FIELD, path, "must be an array")
        if len(value) > MAX_ENTRIES:
            refuse(Reason.SPEC_INVALID_FIELD, path, f"has {len(value)} entries; at most {MAX_ENTRIES} are allowed")
        for number, item in enumerate(value):
            yield entry(path, number), item

    def texts(self, name: str) -> list[str]:
        """The field as a list of strings, none where it is absent."""
        return [string_of(item, path) for path, item in self.entries(name)]

    def strings(self, name: str) -> dict[str, str]:
        """The field as an object of strings with keys of the author's own, {} where it is absent."""
        value, path = self.take(name), self.at(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            refuse(Reason.SPEC_INVALID_FIELD, path, "must be an object of strings")
        if len(value) > MAX_ENTRIES:
            refuse(Reason.SPEC_INVALID_FIELD, path, f"has {len(value)} entries; at most {MAX_ENTRIES} are allowed")
        return {key: string_of(item, child(path, key)) for key, item in value.items()}

    def objects(self, name: str) -> list[Fields]:
        """The field as a list of objects, none where it is absent."""
        return [Fields(item, path) for path, item in self.entries(name)]

    def assignments(self, name: str) -> dict[str, str]:
        """The field as a list of NAME=value, each name once."""
        found: dict[str, str] = {}
        for path, item in self.entries(name):
            key, equals, value = string_of(item, path).partition("=")
            if not equals:
                refuse(Reason.SPEC_INVALID_FIELD, path, "must be NAME=value")
            if key in found:
                refuse(Reason.SPEC_DUPLICATE_KEY, path, f"sets {key!r:.80} a second time")
            found[key] = value
        return found

    def must_be_empty(self, name: str, problem: str, reason: Reason = Reason.SPEC_UNSUPPORTED) -> None:
        """Refuse a field that says anything: `"Wasm": {"EntryModule": {}}` says nothing."""
        if not _is_empty(self.take(name)):
            refuse(reason, self.at(name), problem)

    def close(self) -> None:
        """Refuse whatever was not read."""
        for folded, (key, _) in self._fields.items():
            if folded not in self._read:
                refuse(Reason.SPEC_UNKNOWN_FIELD, self._at(key), "is not a field of this object")


def child(path: str, key: str) -> str:
    """The path of a field of the object at `path`."""
    return f"{path}.{key:.{_SHOWN}}" if path else f"{key:.{_SHOWN}}"


def entry(path: str, number: int) -> str:
    """The path of an entry of the list at `path`."""
    return f"{path}[{number}]"


def fold(text: str) -> str:
    """Lower case of ASCII only: signs that other alphabets fold to a letter (the Kelvin sign) stay what they are."""
    return text.lower() if text.isascii() else text


def _is_empty(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_empty, value.values()))
    return not value if isinstance(value, list) else value in (None, "", 0, False)
