"""Bacalhau's 1.x job files, in YAML or JSON, converted into `insula/v1`. Pure.

The table of what becomes what: docs/spec.md. As with V1beta, nothing but the spec's bytes and the order's quorum
decides, and what would change the result is refused. Keys are read in any case, as Bacalhau's loader reads them.
"""

from __future__ import annotations

from typing import Any

from executor.protocol.dialects.bacalhau1x.rules import JOB
from executor.protocol.dialects.bacalhau1x.sources import Source, source_of, sources
from executor.protocol.dialects.conversion import DEFAULTS, Conversion, Draft
from executor.protocol.dialects.fields import Fields
from executor.protocol.dialects.networks import network
from executor.protocol.dialects.requirements import selector
from executor.protocol.dialects.yamltext import parse_yaml
from executor.protocol.reasons import Reason
from executor.protocol.specparts import MAX_SPEC_BYTES_BY_CID, parse_json, refuse
from executor.protocol.wire import Dialect

#: Publishers that stand for "somewhere": the output goes where Insula's outputs go.
PUBLISHERS = ("", "noop", "ipfs", "local", "s3managed")
_UNUSED = ("ID", "Name", "Namespace", "State", "Version", "Revision", "CreateTime", "ModifyTime")


def read(data: bytes) -> Any:
    """The JSON value of a job file: JSON where it starts with a brace, YAML elsewhere. InvalidSpec."""
    if data.lstrip(b" \t\r\n").startswith(b"{"):
        return parse_json(data, MAX_SPEC_BYTES_BY_CID)
    return parse_yaml(data)


def convert(document: Any, quorum: int) -> Conversion:
    """The conversion of a job file. quorum: of the order. InvalidSpec where it has none."""
    draft = Draft()
    spec = _Converter(draft).convert(Fields(document, ""))
    return draft.done(Dialect.BACALHAU_1X, quorum, document, spec, {"": JOB})


class _Converter:
    """One conversion, section by section."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft

    def convert(self, job: Fields) -> dict[str, Any]:
        """The job as the JSON value of `insula/v1`. InvalidSpec names the field as its author wrote it."""
        self._check_job(job)
        task = _one_task(job)
        found = sources(task, "InputSources")
        result: dict[str, Any] = {"version": "insula/v1", "engine": self._engine(task, found)}
        if inputs := self._inputs(task, found):
            result["inputs"] = inputs
        result["limits"] = self._limits(task)
        if words := selector(job, "Constraints", self._draft):
            result["selector"] = words
        self._check_outputs(task)
        if found_network := self._network(task.object("Network")):
            result["network"] = found_network
        task.take("Name")
        task.strings("Meta")
        task.close()
        job.close()
        return result

    def _check_job(self, job: Fields) -> None:
        kind = job.word("Type")
        if kind not in ("", "batch"):
            problem = f"is {kind!r:.40}; only batch jobs end, and give one result"
            refuse(Reason.SPEC_UNSUPPORTED, job.at("Type"), problem)
        if job.count("Count") > 1:
            self._draft.note(job.at("Count"), "not used: the order says how many nodes run it")
        if job.take("Priority"):
            self._draft.note(job.at("Priority"), "not used: jobs start in the order of the chain")
        for name in ("Labels", "Meta"):
            job.strings(name)
        for name in _UNUSED:
            job.take(name)

    def _engine(self, task: Fields, found: list[Source]) -> dict[str, Any]:
        section = task.object("Engine")
        kind = section.word("Type")
        if not kind:
            refuse(Reason.SPEC_MISSING_FIELD, section.at("Type"), "is missing")
        if kind not in ("docker", "wasm"):
            refuse(Reason.UNKNOWN_ENGINE, section.at("Type"), f"is {kind!r:.40}; engines are docker and wasm")
        params = section.object("Params")
        self._draft.origins["engine"] = params.path
        self._draft.landed[section.at("Type")] = "engine.type"
        engine = self._docker(params) if kind == "docker" else self._wasm(params, found)
        self._variables(engine, task)
        params.close()
        section.close()
        return engine

    def _docker(self, params: Fields) -> dict[str, Any]:
        engine: dict[str, Any] = {"type": "docker", "image": params.given_text("Image")}
        self._draft.origins["engine.image"] = params.at("Image")
        for name, written in (("entrypoint", "Entrypoint"), ("args", "Parameters")):
            self._draft.put(engine, name, params.at(written), params.texts(written))
        self._draft.put_variables(engine, params)
        self._draft.put(engine, "workdir", params.at("WorkingDirectory"), params.text("WorkingDirectory"))
        if "workdir" not in engine:
            self._draft.note(params.at("WorkingDirectory"), "/, whatever the image says")
        return engine

    def _wasm(self, params: Fields, found: list[Source]) -> dict[str, Any]:
        entry = params.text("Entrypoint")
        if entry not in ("", "_start"):
            refuse(Reason.SPEC_UNSUPPORTED, params.at("Entrypoint"), f"is {entry!r:.40}; only _start is called")
        engine: dict[str, Any] = {"type": "wasm", "module": self._module(params, found)}
        self._draft.put(engine, "args", params.at("Parameters"), params.texts("Parameters"))
        self._draft.put(engine, "env", params.at("EnvironmentVariables"), params.strings("EnvironmentVariables"))
        params.must_be_empty("ImportModules", "is not supported; link what the module needs into it")
        return engine

    def _module(self, params: Fields, found: list[Source]) -> str:
        """The module's CID. Bacalhau 1.7 names one of the input sources; before, the source itself stood here."""
        name, path = "EntryModule", params.at("EntryModule")
        if not params.has(name):
            refuse(Reason.SPEC_MISSING_FIELD, path, "is missing")
        if params.is_object(name):
            source = source_of(params.object(name), needs_target=False)
        else:
            text = params.given_text(name)
            named = [item for item in found if text == item.alias or text.rstrip("/") == item.target]
            if len(named) != 1:
                problem = f"is {text!r:.60}, the alias or target of {len(named)} input sources; give that of one"
                refuse(Reason.SPEC_INVALID_FIELD, path, problem)
            source = named[0]
            source.is_module = True
            self._draft.landed[path] = "engine.module"
        self._draft.origins["engine.module"] = source.content.field
        if source.content.note:
            self._draft.note(source.content.field, source.content.note)
        return str(source.content.cid)

    def _variables(self, engine: dict[str, Any], task: Fields) -> None:
        """Add the task's variables to the engine's own; none may be meant twice, and none is a node's."""
        path = task.at("Env")
        own = engine.get("env", {})
        variables = task.strings("Env")
        for name in variables:
            if name in own:
                refuse(Reason.SPEC_DUPLICATE_KEY, path, f"sets {name!r:.80}, which the engine's variables set too")
        for name, value in {**own, **variables}.items():
            if value.startswith("env:"):
                where = path if name in variables else self._draft.origins["engine.env"]
                problem = f"sets {name!r:.80} from the node's own variables; write the value"
                refuse(Reason.SPEC_UNSUPPORTED, where, problem)
        if variables:
            engine["env"] = {**own, **variables}
            self._draft.origins.setdefault("engine.env", path)
            self._draft.landed[path] = "engine.env"

    def _inputs(self, task: Fields, found: list[Source]) -> list[dict[str, str]]:
        self._draft.origins["inputs"] = task.at("InputSources")
        inputs: list[dict[str, str]] = []
        for source in found:
            content = source.content
            if source.is_module and not f"{source.target}/".startswith("/inputs/"):
                self._draft.note(source.target_field, "read as the module only, not among the inputs")
                continue
            number = len(inputs)
            self._draft.origins[f"inputs[{number}].cid"] = content.field
            self._draft.origins[f"inputs[{number}].path"] = source.target_field
            if content.note and not source.is_module:
                self._draft.note(content.field, content.note)
            path = f"{source.target}/{content.name}" if content.name else source.target
            inputs.append({"cid": str(content.cid), "path": path})
        return inputs

    def _limits(self, task: Fields) -> dict[str, int]:
        limits = dict(DEFAULTS)
        timeouts = task.object("Timeouts")
        if timeouts.is_float("ExecutionTimeout"):
            refuse(Reason.SPEC_INVALID_FIELD, timeouts.at("ExecutionTimeout"), "must be a whole number of seconds")
        self._draft.seconds(timeouts, "ExecutionTimeout", limits)
        for name in ("QueueTimeout", "TotalTimeout"):
            if timeouts.count(name):
                self._draft.note(timeouts.at(name), "not used: the order says until when it waits")
        timeouts.close()
        self._draft.resources(task.object("Resources"), limits)
        return limits

    def _check_outputs(self, task: Fields) -> None:
        for output in task.objects("ResultPaths"):
            self._draft.output(output)
            output.close()
        publisher = task.object("Publisher")
        word = publisher.word("Type")
        if word not in PUBLISHERS:
            problem = f"is {word!r:.40}; outputs are kept by the bridge, under their CID"
            refuse(Reason.SPEC_UNSUPPORTED, publisher.at("Type"), problem)
        if word:
            self._draft.note(publisher.at("Type"), "the bridge keeps the output")
        publisher.must_be_empty("Params", "is not supported")
        publisher.close()

    def _network(self, section: Fields) -> dict[str, Any] | None:
        found = network(section, self._draft, ("", "none", "default"))
        section.must_be_empty("Ports", "is not supported; nothing reaches a job from outside")
        section.close()
        return found


def _one_task(job: Fields) -> Fields:
    tasks = job.objects("Tasks")
    if not tasks:
        refuse(Reason.SPEC_MISSING_FIELD, job.at("Tasks"), "is missing")
    if len(tasks) > 1:
        refuse(Reason.SPEC_UNSUPPORTED, job.at("Tasks"), f"has {len(tasks)} entries; a job is one task")
    return tasks[0]
