"""What a conversion into `insula/v1` gives, and the draft that collects it field by field. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from executor.protocol.dialects.fields import Fields
from executor.protocol.dialects.quantities import byte_count, cpu_millis
from executor.protocol.reasons import Reason
from executor.protocol.specparts import LIMITS, refuse
from executor.protocol.wire import Dialect

#: What the dialects have no word for, or leave to the server: Bacalhau ran a job for ten minutes and cut no streams.
DEFAULTS = {"wallSeconds": 600, "logBytes": 2**20}


class Action(StrEnum):
    """What became of a field."""

    MAPPED = "mapped"  # what it says holds for the job
    OVERRIDDEN = "overridden"  # what it says was replaced or dropped
    DEFAULTED = "defaulted"  # it stands in the converted spec, and the author did not write it
    REFUSED = "refused"


@dataclass(frozen=True)
class Rule:
    """A row of a dialect's table: what becomes of a field, and what of it is refused.

    field: its path, `[]` for each entry of a list; the row holds for all that is below. why: part of every report, so a
    change of it is a new format of the report.
    """

    field: str
    action: Action
    why: str
    refused: str = ""


#: prefix of a path ("Spec.") -> the rows for what is below it
Tables = Mapping[str, tuple[Rule, ...]]


@dataclass(frozen=True)
class Change:
    """What the conversion dropped or replaced. field: its path as the spec's author wrote it."""

    field: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """A spec in `insula/v1`, as a JSON value that is still to be validated.

    document: the spec as its author wrote it, as JSON. origins: path in `spec` -> path in `document`. landed: the other
    way round. tables: what becomes of each field of the document.
    """

    dialect: Dialect
    quorum: int
    document: Any
    spec: dict[str, Any]
    changes: tuple[Change, ...]
    origins: dict[str, str]
    landed: dict[str, str]
    tables: Tables

    def origin(self, path: str) -> str:
        """Where the author wrote what stands at `path` of `spec` ("engine.args[1]"); `path` itself if nowhere."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.origins and path[end : end + 1] in ("", ".", "["):
                return self.origins[path[:end]] + path[end:]
        return path


@dataclass
class Draft:
    """A conversion in the making: what was dropped or replaced, and what stands where."""

    changes: list[Change] = field(default_factory=list)
    origins: dict[str, str] = field(default_factory=dict)
    landed: dict[str, str] = field(default_factory=dict)

    def note(self, path: str, text: str) -> None:
        """The author's field at `path` was dropped or replaced."""
        self.changes.append(Change(path, text))

    def put(self, engine: dict[str, Any], name: str, path: str, value: Any) -> None:
        """Set a field of the engine that the author wrote at `path`, unless it says nothing."""
        if value:
            engine[name] = value
            self.origins[f"engine.{name}"] = path

    def put_variables(self, engine: dict[str, Any], section: Fields) -> None:
        """Set the engine's variables from a list of NAME=value."""
        name = "EnvironmentVariables"
        self.put(engine, "env", section.at(name), section.assignments(name))

    def output(self, output: Fields, name: str = "Path") -> None:
        """Check one entry of the outputs: what is below /outputs is kept, all of it, under that name."""
        path = output.given_text(name)
        parts = path.rstrip("/").split("/")
        if parts[:2] != ["", "outputs"] or ".." in parts:
            problem = f"is {path!r:.40}; only what is below /outputs is kept"
            refuse(Reason.SPEC_UNSUPPORTED, output.at(name), problem)
        if len(parts) > 2:
            self.note(output.at(name), "all of /outputs is the output")
        if output.text("Name") not in ("", "outputs"):
            self.note(output.at("Name"), "not used: the output's folder is outputs")

    def resources(self, resources: Fields, limits: dict[str, int]) -> None:
        """Set the limits that `Resources` says; what it says nothing of stays as it is."""
        self._amount(resources, "CPU", "cpuMillis", cpu_millis, limits)
        self._amount(resources, "Memory", "memoryBytes", byte_count, limits)
        self._amount(resources, "Disk", "diskBytes", byte_count, limits)
        gpus = resources.text("GPU").strip(" ")
        if gpus.strip("0"):
            refuse(Reason.SPEC_UNSUPPORTED, resources.at("GPU"), f"is {gpus!r:.40}; there are no GPUs")
        resources.close()

    def seconds(self, section: Fields, name: str, limits: dict[str, int]) -> None:
        """Set the wall limit from a number of seconds; 0 and absence leave what is there."""
        value, path = section.take(name), section.at(name)
        if value is None:
            return
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            refuse(Reason.SPEC_INVALID_FIELD, path, "must be a number of seconds")
        most = LIMITS["wallSeconds"][2]
        if not 0 <= value <= most:
            refuse(Reason.LIMIT_OUT_OF_RANGE, path, f"must be from 0 to {most}; 0 is {DEFAULTS['wallSeconds']}")
        if value == 0:
            return
        limits["wallSeconds"] = math.ceil(value)
        self.landed[path] = "limits.wallSeconds"
        if limits["wallSeconds"] != value:
            self.note(path, f"rounded up to {limits['wallSeconds']}")

    def amount(self, limit: str, path: str, value: int, limits: dict[str, int]) -> None:
        """Set a limit that the author wrote at `path`, raised to the smallest one."""
        self.origins[f"limits.{limit}"] = path
        limits[limit] = max(value, LIMITS[limit][1])
        if limits[limit] != value:
            self.note(path, f"raised to the smallest limit, {limits[limit]}")

    def _amount(
        self, resources: Fields, name: str, limit: str, read: Callable[[str], int | None], limits: dict[str, int]
    ) -> None:
        text = resources.text(name)
        value = read(text) if text else 0
        if value is None:
            problem = f"is {text!r:.40}; write it like 500m (CPU) or 512Mb"
            refuse(Reason.SPEC_INVALID_FIELD, resources.at(name), problem)
        if value:
            self.amount(limit, resources.at(name), value, limits)

    def done(self, dialect: Dialect, quorum: int, document: Any, spec: dict[str, Any], tables: Tables) -> Conversion:
        """The conversion."""
        landed = {path: target for target, path in self.origins.items()} | self.landed
        return Conversion(
            dialect=dialect,
            quorum=quorum,
            document=document,
            spec=spec,
            changes=tuple(self.changes),
            origins=self.origins,
            landed=landed,
            tables=tables,
        )
