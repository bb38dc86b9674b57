"""The report of a conversion: every field of a spec, and what became of it, as canonical JSON with a hash. Pure.

A receipt holds the report's hash, so the same spec has to give the same bytes for ever: whatever changes them, a word
of a table included, is a new FORMAT. docs/spec.md describes the form.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from executor.protocol.canonical import canonical_json, sha256
from executor.protocol.dialects.conversion import Action, Conversion, Tables
from executor.protocol.dialects.fields import child, entry, fold
from executor.protocol.specparts import LIMITS, InvalidSpec
from executor.protocol.wire import Dialect

FORMAT = "insula-conversion/2"
_NOT_SAID = "not said"
_EXACT = 2**53
_NUMBER = re.compile(r"\[[0-9]+\]")
_FIXED = {"docker": {"engine.workdir": "/", "engine.tier": "container"}, "wasm": {}}


def report(conversion: Conversion, source: bytes) -> dict[str, Any]:
    """Every field of `source` with its old value, path and value in `insula/v1`, and why; then what was not said."""
    nodes = dict(_nodes(conversion.spec, ""))
    table = _Table(conversion.tables)
    notes = {change.field: change.text for change in conversion.changes}
    fields = []
    for path, old in _written(table, conversion.document, ""):
        target = conversion.landed.get(path, "")
        found = nodes.get(target) if target else None
        action, why = table.verdict(path, old if found is None else found)
        if path in notes:
            action, why = Action.OVERRIDDEN, notes.pop(path)
        fields.append(_row(path, action, old, "" if found is None else target, found, why))
    fields += [_row(path, Action.OVERRIDDEN, None, "", None, why) for path, why in notes.items()]
    return {
        **_head(conversion.dialect, conversion.quorum, source),
        "specSha256": sha256(canonical_json(conversion.spec)).hex(),
        "fields": [*fields, *_defaulted(conversion.spec, {row["to"] for row in fields})],
    }


def refusal(dialect: Dialect, quorum: int, source: bytes, document: Any, problem: InvalidSpec) -> dict[str, Any]:
    """The report of a spec that has no conversion: the field that is wrong. document: None where there is none.

    The reason's name says why: the words of a refusal may differ from one version of a parser to the next.
    """
    old = dict(_nodes(document, "")).get(problem.field)
    row = _row(problem.field, Action.REFUSED, old, "", None, problem.reason.name)
    return {**_head(dialect, quorum, source), "reason": problem.reason.name, "fields": [row]}


def report_bytes(value: Mapping[str, Any]) -> bytes:
    """A report in its canonical bytes."""
    return canonical_json(value)


def report_hash(value: Mapping[str, Any]) -> bytes:
    """SHA-256 of a report's canonical bytes, 32 bytes."""
    return sha256(report_bytes(value))


class _Table:
    """The rows of a dialect, by the path in a document that they are for."""

    def __init__(self, tables: Tables) -> None:
        self._rules = {fold_path(prefix + rule.field): rule for prefix, rules in tables.items() for rule in rules}
        self._inner = {path[:end] for path in self._rules for end, char in enumerate(path) if char in ".["}
        self._inner.add("")

    def is_inner(self, path: str) -> bool:
        """Whether the rows tell apart what is below a path."""
        return fold_path(path) in self._inner

    def verdict(self, path: str, value: Any) -> tuple[Action, str]:
        """What becomes of a field with a value. A field without a row can only be empty: all else is refused."""
        rule = self._rules.get(fold_path(path))
        if rule is None or value in (None, "", [], {}):
            return Action.MAPPED, "says nothing"
        return rule.action, rule.why


def fold_path(path: str) -> str:
    """A path in lower case, with `[]` for the number of an entry."""
    return fold(_NUMBER.sub("[]", path))


def _head(dialect: Dialect, quorum: int, source: bytes) -> dict[str, Any]:
    return {"format": FORMAT, "dialect": int(dialect), "quorum": quorum, "sourceSha256": sha256(source).hex()}


def _defaulted(spec: Mapping[str, Any], said: set[str]) -> Iterator[dict[str, Any]]:
    engine = spec["engine"]
    defaults = {"version": spec["version"], **_FIXED[engine["type"]]}
    defaults |= {f"limits.{name}": spec["limits"].get(name, bounds[0]) for name, bounds in LIMITS.items()}
    for target, value in defaults.items():
        if target not in said:
            yield _row("", Action.DEFAULTED, None, target, value, _NOT_SAID)


def _row(path: str, action: Action, old: Any, target: str, new: Any, why: str) -> dict[str, Any]:
    return {"path": path, "action": str(action), "old": _shown(old), "to": target, "new": _shown(new), "why": why}


def _shown(value: Any) -> Any:
    """A value with text for each number that parsers of JSON do not read alike: beyond 2**53, and 1e999."""
    if isinstance(value, dict):
        return {key: _shown(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_shown(item) for item in value]
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return repr(value) if is_number and not -_EXACT < value < _EXACT else value


def _written(table: _Table, value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Path and value of every field that a row is for."""
    if isinstance(value, dict | list) and value and table.is_inner(path):
        for below, item in _children(value, path):
            yield from _written(table, item, below)
    else:
        yield path, value


def _nodes(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Path and value of everything in a JSON value, in its order."""
    yield path, value
    for below, item in _children(value, path):
        yield from _nodes(item, below)


def _children(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield child(path, key), item
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield entry(path, number), item
