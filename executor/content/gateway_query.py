"""What a client asks a trustless gateway for: path, query and Accept header as one value. Pure.

Source: https://specs.ipfs.tech/http-gateways/trustless-gateway/ and path-gateway, on which it builds; RFC 9110 12.5.1
for the Accept header. Everything here comes from strangers: what is not understood is refused with what to do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

from executor.content.car import MEDIA_TYPE as CAR_TYPE
from executor.content.cidtext import Named, parse_any
from executor.content.limits import check_name
from executor.errors import InsulaError, InvalidInput, UnsafeName

RAW_TYPE: Final = "application/vnd.ipld.raw"
MAX_NAMES: Final = 64
"""Names in one path."""
MAX_FILENAME: Final = 255
_MAX_ACCEPTED: Final = 64
_MAX_OFFSET: Final = 2**63

Form = Literal["raw", "car"]
_FORMS: Final[Mapping[str, Form]] = {RAW_TYPE: "raw", CAR_TYPE: "car"}
_OTHER_FORMATS: Final = frozenset({"tar", "dag-json", "dag-cbor", "json", "cbor"})
"""Formats of other kinds of gateways."""
_CAR_PARAMETERS: Final[Mapping[str, tuple[str, ...]]] = {
    "version": ("1",),
    "order": ("dfs", "unk"),
    "dups": ("n", "y"),
}
"""What a CAR may be asked to be, the default first."""
_READ: Final = frozenset(
    {"format", "filename", "dag-scope", "entity-bytes", *(f"car-{name}" for name in _CAR_PARAMETERS)}
)
_SPAN = re.compile(r"(-?[0-9]{1,19}):(-?[0-9]{1,19}|\*)")
_QUALITY = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})|%")


class Unanswerable(InsulaError):
    """A request that no content can answer. status: of HTTP; detail: what is wrong and what to do."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail


class Scope(StrEnum):
    """Which blocks at the end of a path."""

    BLOCK = "block"
    ENTITY = "entity"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Span:
    """`entity-bytes`: first and last byte, both inclusive; negative ones count from the end, None is the end."""

    first: int
    last: int | None

    def within(self, size: int) -> tuple[int, int] | None:
        """First and last byte of an entity of that size; None where no byte of it is meant."""
        first, last = self._ends(size)
        first, last = max(0, first), min(last, size - 1)
        return (first, last) if first <= last else None

    def is_outside(self, size: int) -> bool:
        """Whether all of it lies before or behind an entity of that size."""
        first, last = self._ends(size)
        return first >= max(1, size) or (self.first < 0 and last < 0 < size)

    def _ends(self, size: int) -> tuple[int, int]:
        first = self.first + size if self.first < 0 else self.first
        if self.last is None:
            return first, size - 1
        return first, self.last + size if self.last < 0 else self.last

    def __str__(self) -> str:
        return f"{self.first}:{'*' if self.last is None else self.last}"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request. names: the path below the CID. filename: what a browser is to save it as, '' for the usual."""

    named: Named
    names: tuple[str, ...]
    form: Form
    scope: Scope = Scope.ALL
    span: Span | None = None
    dups: bool = False
    filename: str = ""


def understand(path: str, query: Iterable[tuple[str, str]], accept: str | None) -> Asked:
    """What is asked for; Unanswerable. path: as it was sent, percent-encoded, from /ipfs/ on. accept: None: no header.

    query: decoded names and values; those that a gateway does not know are passed over.
    """
    said = _once(query)
    form, parameters = _form(said, accept)
    named, names = read_path(path)
    filename = said.get("filename", "")
    if len(filename) > MAX_FILENAME:
        raise Unanswerable(400, f"filename: at most {MAX_FILENAME} characters")
    if form == "raw":
        if names:
            raise Unanswerable(406, "a block is asked for by its CID alone; ask for format=car below a path")
        return Asked(named, names, form, filename=filename)
    span = _span(said["entity-bytes"]) if "entity-bytes" in said else None
    scope = _scope(said.get("dag-scope"), has_span=span is not None)
    return Asked(named, names, form, scope, span, parameters["dups"] == "y", filename)


def read_path(path: str) -> tuple[Named, tuple[str, ...]]:
    """CID and names of "/ipfs/CID/a/b", as it was sent; one slash at the end is passed over. Unanswerable."""
    text, *parts = path.removeprefix("/ipfs/").removesuffix("/").split("/")
    if len(parts) > MAX_NAMES:
        raise Unanswerable(400, f"path: at most {MAX_NAMES} names")
    try:
        return parse_any(text), tuple(check_name(_unescaped(part)) for part in parts)
    except InvalidInput as exc:
        raise Unanswerable(400, str(exc)) from exc
    except (UnsafeName, ValueError) as exc:
        raise Unanswerable(400, f"path: {exc}") from exc


def _once(query: Iterable[tuple[str, str]]) -> dict[str, str]:
    said: dict[str, str] = {}
    for name, value in query:
        if name in _READ and said.setdefault(name, value) != value:
            raise Unanswerable(400, f"{name}: stands twice in the query, with different values")
    return said


def _form(said: Mapping[str, str], accept: str | None) -> tuple[Form, Mapping[str, str]]:
    """Which format, and of a CAR how it is to be: `format` first, then the Accept header."""
    asked = said.get("format")
    explicit = {name: said[f"car-{name}"] for name in _CAR_PARAMETERS if f"car-{name}" in said}
    accepted = _accepted(accept or "")
    if asked is not None:
        form = _known_format(asked)
        ours = [parameters for kind, parameters in accepted if kind == form]
        if form == "car" and ours:
            return form, _first_supported(ours, explicit)
        return form, _supported({}, explicit)
    if not (accept or "").strip():
        raise Unanswerable(400, f"say what you take: format=raw, format=car, or Accept {RAW_TYPE} or {CAR_TYPE}")
    for kind, parameters in accepted:
        if kind == "raw":
            return kind, {}
        if _is_supported({**parameters, **explicit}):
            return kind, _supported(parameters, explicit)
    raise Unanswerable(406, f"this gateway gives {RAW_TYPE} and {CAR_TYPE} (version 1, order dfs), nothing else")


def _known_format(asked: str) -> Form:
    if asked in ("raw", "car"):
        return "raw" if asked == "raw" else "car"
    if asked in _OTHER_FORMATS:
        raise Unanswerable(406, f"format: {asked} is for others; this gateway is trustless: raw or car")
    if asked == "ipns-record":
        raise Unanswerable(400, "format: an IPNS record is not below /ipfs")
    raise Unanswerable(400, "format: is not known; raw or car")


def _first_supported(candidates: Sequence[Mapping[str, str]], explicit: Mapping[str, str]) -> Mapping[str, str]:
    for parameters in candidates:
        if _is_supported({**parameters, **explicit}):
            return _supported(parameters, explicit)
    return _supported(candidates[0], explicit)


def _supported(parameters: Mapping[str, str], explicit: Mapping[str, str]) -> Mapping[str, str]:
    """All parameters of a CAR; those of the URL count more. Unanswerable(406)."""
    wanted = {**{name: values[0] for name, values in _CAR_PARAMETERS.items()}, **parameters, **explicit}
    if not _is_supported(wanted):
        raise Unanswerable(406, "a CAR of this gateway has version=1, order=dfs and dups=y or dups=n")
    return wanted


def _is_supported(parameters: Mapping[str, str]) -> bool:
    return all(parameters.get(name, values[0]) in values for name, values in _CAR_PARAMETERS.items())


def _accepted(header: str) -> list[tuple[Form, dict[str, str]]]:
    """The media ranges of a header that name a format of ours, the most wanted first."""
    found: list[tuple[float, Form, dict[str, str]]] = []
    for part in header.split(",")[:_MAX_ACCEPTED]:
        kind, *rest = (piece.strip() for piece in part.split(";"))
        form = _FORMS.get(kind.lower())
        parameters = dict(_parameter(piece) for piece in rest)
        quality = parameters.get("q", "1")
        weight = float(quality) if _QUALITY.fullmatch(quality) else 0.0
        if form is not None and weight > 0:
            kept = {name: value for name, value in parameters.items() if name in _CAR_PARAMETERS}
            found.append((weight, form, kept))
    found.sort(key=lambda entry: -entry[0])  # a stable sort: of two that are wanted alike, the first
    return [(form, parameters) for _, form, parameters in found]


def _parameter(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name.strip().lower(), value.strip().strip('"').lower()


def _scope(text: str | None, *, has_span: bool) -> Scope:
    if text is None:
        return Scope.ENTITY if has_span else Scope.ALL
    try:
        scope = Scope(text)
    except ValueError as exc:
        raise Unanswerable(400, "dag-scope: block, entity or all") from exc
    if has_span and scope is not Scope.ENTITY:
        raise Unanswerable(400, f"entity-bytes: means dag-scope=entity, and dag-scope={scope} is asked for")
    return scope


def _span(text: str) -> Span:
    match = _SPAN.fullmatch(text)
    if match is None:
        raise Unanswerable(400, "entity-bytes: FROM:TO, two offsets, or * for the end as the second")
    first = int(match[1])
    last = None if match[2] == "*" else int(match[2])
    if max(abs(first), abs(last or 0)) >= _MAX_OFFSET:
        raise Unanswerable(400, "entity-bytes: an offset has at most 63 bits")
    if last is not None and (first < 0) == (last < 0) and first > last:
        raise Unanswerable(400, "entity-bytes: ends before it begins")
    return Span(first, last)


def _unescaped(text: str) -> str:
    """A part of a path without its percent signs; ValueError where it is not UTF-8."""

    def byte(match: re.Match[str]) -> str:
        if match[1] is None:
            raise ValueError("a percent sign is not followed by two hexadecimal digits")
        return chr(int(match[1], 16))

    try:
        return _ESCAPE.sub(byte, text).encode("latin-1").decode()
    except UnicodeError as exc:
        raise ValueError("a name is not UTF-8") from exc
