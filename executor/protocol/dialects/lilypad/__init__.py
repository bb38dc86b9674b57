"""Lilypad's modules, a machine and a Bacalhau job around which a template stands, converted into `insula/v1`. Pure.

A spec is the module itself, or `{"module": TEXT, "inputs": {...}}`: the text of its lilypad_module.json.tmpl and what
is filled in. The job is one of V1beta's. The table of what becomes what: docs/spec.md.
"""

from __future__ import annotations

from typing import Any

from executor.protocol.dialects import v1beta
from executor.protocol.dialects.conversion import Conversion, Draft, Rule
from executor.protocol.dialects.fields import Fields
from executor.protocol.dialects.lilypad.rules import MODULE, ORDER
from executor.protocol.dialects.lilypad.template import filled
from executor.protocol.reasons import Reason
from executor.protocol.specparts import LIMITS, MAX_SPEC_BYTES_BY_CID, InvalidSpec, parse_json, refuse
from executor.protocol.wire import Dialect

#: field of the machine -> (limit, its units in one of the field's): thousandths of a core, and megabytes
_MACHINE = {"cpu": ("cpuMillis", 1), "ram": ("memoryBytes", 2**20), "disk": ("diskBytes", 2**20)}


def read(data: bytes) -> Any:
    """The JSON value of a spec, its template filled in. InvalidSpec."""
    document = parse_json(data, MAX_SPEC_BYTES_BY_CID)
    top = Fields(document, "")
    key, value, inputs = top.at("module"), top.take("module"), top.strings("inputs")
    if not isinstance(value, str):
        if inputs:
            refuse(Reason.SPEC_UNKNOWN_FIELD, top.at("inputs"), "is for a module that is a template's text")
        if b"{{" in data:  # the job would run with the action's own words
            problem = "has a {{ that nothing is filled in for; give the module as text, with its inputs beside it"
            refuse(Reason.SPEC_UNSUPPORTED, key if top.has("module") else "", problem)
        return document
    text = filled(value, inputs)
    try:
        return {**document, key: parse_json(text.encode(), MAX_SPEC_BYTES_BY_CID)}
    except InvalidSpec as exc:
        below = "" if exc.field == "spec" else f".{exc.field}"
        raise InvalidSpec(exc.reason, f"module{below}", f"{exc.problem} (once it is filled in)") from exc


def convert(document: Any, quorum: int) -> Conversion:
    """The conversion of a module. quorum: of the order. InvalidSpec where it has none."""
    top = Fields(document, "")
    module, tables = top, dict[str, tuple[Rule, ...]]({"": MODULE})
    if top.has("module"):
        module, tables = top.object("module"), {"module.": MODULE, "": ORDER}
        top.take("inputs")
        top.close()
    draft = Draft()
    job = _job(module)
    spec = _Converter(draft, module).convert(job, quorum)
    return draft.done(Dialect.LILYPAD_MODULE, quorum, document, spec, {**tables, **v1beta.tables(job)})


def _job(module: Fields) -> Fields:
    for name in ("repo", "hash"):
        if module.has(name):
            problem = "names a git repository, which can change; give the text of its lilypad_module.json.tmpl"
            refuse(Reason.SPEC_UNSUPPORTED, module.at(name), problem)
    if not module.has("job"):
        refuse(Reason.SPEC_MISSING_FIELD, module.at("job"), "is missing")
    return module.object("job")


class _Converter:
    """One conversion: the machine and the time limit of the module, laid under those of its job."""

    def __init__(self, draft: Draft, module: Fields) -> None:
        self._draft = draft
        self._module = module

    def convert(self, job: Fields, quorum: int) -> dict[str, Any]:
        """The module's job as the JSON value of `insula/v1`. InvalidSpec names the field as its author wrote it."""
        machine = self._machine(self._module.object("machine"))
        seconds = self._seconds()
        self._check_files(self._module.object("inputFiles"))
        for name in ("author", "description", "image", "model"):
            self._module.take(name)
        self._module.close()
        presets = {limit: max(value, LIMITS[limit][1]) for limit, (_, value) in machine.items()}
        spec = v1beta.convert_job(job, quorum, self._draft, presets)
        for limit, (path, value) in machine.items():
            if f"limits.{limit}" in self._draft.origins:
                self._draft.note(path, "not used: the job's Resources say it")
            else:
                self._draft.amount(limit, path, value, spec["limits"])
        if seconds:
            self._shorten(spec["limits"], seconds)
        return spec

    def _machine(self, machine: Fields) -> dict[str, tuple[str, int]]:
        """Limit -> where the machine says it, and its value."""
        if machine.count("gpu"):
            refuse(Reason.SPEC_UNSUPPORTED, machine.at("gpu"), "asks for a GPU; there are none")
        machine.must_be_empty("gpus", "asks for GPUs; there are none")
        found = {}
        for name, (limit, unit) in _MACHINE.items():
            if value := machine.count(name):
                found[limit] = (machine.at(name), value * unit)
        machine.close()
        return found

    def _seconds(self) -> int:
        seconds, most = self._module.count("executionTimeoutSeconds"), LIMITS["wallSeconds"][2]
        if seconds > most:
            path = self._module.at("executionTimeoutSeconds")
            refuse(Reason.LIMIT_OUT_OF_RANGE, path, f"must be from 0 to {most}")
        return seconds

    def _shorten(self, limits: dict[str, int], seconds: int) -> None:
        """Hold the job to the shorter of the module's time and its own."""
        path = self._module.at("executionTimeoutSeconds")
        own = [where for where, target in self._draft.landed.items() if target == "limits.wallSeconds"]
        if own and limits["wallSeconds"] <= seconds:
            self._draft.note(path, "not used: the job's Timeout is no longer")
            return
        for where in own:
            del self._draft.landed[where]
            self._draft.note(where, "not used: executionTimeoutSeconds is shorter")
        limits["wallSeconds"] = seconds
        self._draft.landed[path] = "limits.wallSeconds"

    def _check_files(self, files: Fields) -> None:
        if files.texts("required"):
            problem = "asks for files; put them among the job's inputs, by CID, and leave this out"
            refuse(Reason.SPEC_UNSUPPORTED, files.at("required"), problem)
        if files.texts("optional"):
            self._draft.note(files.at("optional"), "not used: the job's inputs are all that it gets")
        files.close()
