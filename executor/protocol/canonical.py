"""Canonical JSON (RFC 8785): the one way in which anything of ours is hashed or signed as JSON. Pure."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import rfc8785

from executor.errors import InvalidInput


def canonical_json(value: Any) -> bytes:
    """`value` in the form of RFC 8785. InvalidInput for what that form cannot hold (NaN, integers beyond 2**53)."""
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, ValueError, TypeError) as exc:
        raise InvalidInput("json", f"cannot be written canonically: {exc}") from exc


def sha256(data: bytes) -> bytes:
    """SHA-256, 32 bytes."""
    return hashlib.sha256(data).digest()


class DuplicateKeyError(ValueError):
    """An object has the same key twice."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


class DepthError(ValueError):
    """Objects and arrays are nested deeper than allowed."""


def strict_json(text: str, max_depth: int = 16) -> Any:
    """Parse JSON and refuse what parsers disagree on: duplicate keys, NaN and Infinity, deep nesting, lone surrogates.

    Raises DuplicateKeyError, DepthError, or ValueError with a position.
    """
    _check_depth(text, max_depth)
    value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_int=_bounded_int)
    json.dumps(
        value, ensure_ascii=False
    ).encode()  # a lone surrogate has no UTF-8 form: UnicodeEncodeError (ValueError)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise DuplicateKeyError(key)
        found[key] = value
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _bounded_int(digits: str) -> int:
    if len(digits) > 20:
        raise ValueError("an integer has more than 20 digits")
    return int(digits)


def _check_depth(text: str, max_depth: int) -> None:
    """Before parsing: json's own recursion must never be the limit."""
    depth, in_string, escaped = 0, False, False
    for char in text:
        if in_string:
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == '"':
                in_string = False
        elif char == '"':
            in_string = True
        elif char in "[{":
            depth += 1
            if depth > max_depth:
                raise DepthError(f"nested deeper than {max_depth}")
        elif char in "]}":
            depth -= 1
