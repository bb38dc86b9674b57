"""What a look found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One look. `level`: ok, note (fine, but know it) or problem; `remedy`: what to do."""

    level: str
    name: str
    detail: str
    remedy: str = ""


def ok(name: str, detail: str) -> Finding:
    """All is well."""
    return Finding("ok", name, detail)


def note(name: str, detail: str, remedy: str = "") -> Finding:
    """Fine, but know it."""
    return Finding("note", name, detail, remedy)


def problem(name: str, detail: str, remedy: str) -> Finding:
    """Something must be done."""
    return Finding("problem", name, detail, remedy)
