"""Bacalhau's V1beta job specs, as callers of Lilypad v0 send them, converted into `insula/v1`. Pure.

The table of what becomes what: docs/spec.md. Nothing but the spec's bytes and the order's quorum decides, so every
honest node runs the same job or refuses for the same reason. What would change the result is refused, never dropped;
what is dropped or replaced (a dead publisher, a number of copies) is listed in `Conversion.changes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from executor.protocol.dialects.conversion import DEFAULTS, Conversion, Draft, Tables
from executor.protocol.dialects.fields import Fields
from executor.protocol.dialects.networks import network
from executor.protocol.dialects.requirements import selector
from executor.protocol.dialects.v1beta.rules import AROUND, SPEC
from executor.protocol.dialects.v1beta.storage import stored
from executor.protocol.reasons import Reason
from executor.protocol.specparts import MAX_SPEC_BYTES_BY_CID, parse_json, refuse
from executor.protocol.wire import Dialect

VERSIONS = ("V1beta1", "V1beta2")
#: Publishers that no longer exist, or that stand for "somewhere": the output goes where Insula's outputs go.
PUBLISHERS = ("", "noop", "ipfs", "filecoin", "lotus", "estuary")
_ENGINES = {"docker": "Docker", "wasm": "Wasm"}
_SECTIONS = ("Docker", "Wasm", "Language")


def read(data: bytes) -> Any:
    """The JSON value of a spec's bytes. InvalidSpec."""
    return parse_json(data, MAX_SPEC_BYTES_BY_CID)


def convert(document: Any, quorum: int) -> Conversion:
    """The conversion of a spec. quorum: of the order. InvalidSpec where it has none."""
    draft, top = Draft(), Fields(document, "")
    spec = convert_job(top, quorum, draft, {})
    return draft.done(Dialect.BACALHAU_V1BETA, quorum, document, spec, tables(top))


def convert_job(top: Fields, quorum: int, draft: Draft, presets: Mapping[str, int]) -> dict[str, Any]:
    """A job or a bare spec as one in `insula/v1`. presets: limits where the spec says nothing. InvalidSpec."""
    return _Converter(draft, presets).convert(top, quorum)


def tables(top: Fields) -> Tables:
    """What becomes of each field, below the path of a job or a bare spec."""
    prefix = f"{top.path}." if top.path else ""
    return {f"{top.at('Spec')}.": SPEC, prefix: AROUND} if top.has("Spec") else {prefix: SPEC}


class _Converter:
    """One conversion, section by section."""

    def __init__(self, draft: Draft, presets: Mapping[str, int]) -> None:
        self._draft = draft
        self._presets = presets

    def convert(self, top: Fields, quorum: int) -> dict[str, Any]:
        """A job or a bare spec as the JSON value of `insula/v1`. InvalidSpec names the field as its author wrote it."""
        spec = self._unwrapped(top)
        result: dict[str, Any] = {"version": "insula/v1", "engine": self._engine(spec)}
        if inputs := self._inputs(spec):
            result["inputs"] = inputs
        result["limits"] = self._limits(spec)
        if words := selector(spec, "NodeSelectors", self._draft):
            result["selector"] = words
        self._check_outputs(spec)
        self._check_publishers(spec)
        if found := self._network(spec.object("Network")):
            result["network"] = found
        self._check_agreement(spec, quorum)
        for name in ("Sharding", "Contexts"):
            spec.must_be_empty(name, "is not supported")
        for name in ("Annotations", "DoNotTrack"):
            spec.take(name)
        spec.close()
        return result

    def _unwrapped(self, top: Fields) -> Fields:
        """The spec itself; some callers send the whole job around it."""
        if not top.has("Spec"):
            return top
        version = top.text("APIVersion")
        if version not in ("", *VERSIONS):
            problem = f"is {version!r:.40}; this dialect is {' or '.join(VERSIONS)}"
            refuse(Reason.SPEC_INVALID_FIELD, top.at("APIVersion"), problem)
        if top.take("Metadata") is not None:
            self._draft.note(top.at("Metadata"), "not used")
        spec = top.object("Spec")
        top.close()
        return spec

    def _engine(self, spec: Fields) -> dict[str, Any]:
        kind = spec.word("Engine")
        if not kind:
            refuse(Reason.SPEC_MISSING_FIELD, spec.at("Engine"), "is missing")
        if kind not in _ENGINES:
            refuse(Reason.UNKNOWN_ENGINE, spec.at("Engine"), f"is {kind!r:.40}; engines are docker and wasm")
        for other in _SECTIONS:
            if other != _ENGINES[kind]:
                problem = f"is not for the engine {kind}; leave it out or empty"
                spec.must_be_empty(other, problem, Reason.SPEC_INVALID_FIELD)
        self._draft.landed[spec.at("Engine")] = "engine.type"
        section = spec.object(_ENGINES[kind])
        engine = self._docker(section) if kind == "docker" else self._wasm(section)
        section.close()
        self._draft.origins["engine"] = section.path
        return engine

    def _docker(self, docker: Fields) -> dict[str, Any]:
        engine: dict[str, Any] = {"type": "docker", "image": docker.given_text("Image")}
        for name, written in (("entrypoint", "Entrypoint"), ("args", "Parameters")):
            self._draft.put(engine, name, docker.at(written), docker.texts(written))
        self._draft.put_variables(engine, docker)
        self._draft.put(engine, "workdir", docker.at("WorkingDirectory"), docker.text("WorkingDirectory"))
        self._draft.origins["engine.image"] = docker.at("Image")
        if "workdir" not in engine:
            self._draft.note(docker.at("WorkingDirectory"), "/, whatever the image says")
        return engine

    def _wasm(self, wasm: Fields) -> dict[str, Any]:
        entry = wasm.text("EntryPoint")
        if entry not in ("", "_start"):
            problem = f"is {entry!r:.40}; only _start is called"
            refuse(Reason.SPEC_UNSUPPORTED, wasm.at("EntryPoint"), problem)
        if not wasm.has("EntryModule"):
            refuse(Reason.SPEC_MISSING_FIELD, wasm.at("EntryModule"), "is missing")
        module = wasm.object("EntryModule")
        content = stored(module)
        module.take("Path")
        module.close()
        if content.note:
            self._draft.note(content.field, content.note)
        engine: dict[str, Any] = {"type": "wasm", "module": str(content.cid)}
        self._draft.put(engine, "args", wasm.at("Parameters"), wasm.texts("Parameters"))
        self._draft.origins["engine.module"] = content.field
        if wasm.has("EnvironmentVariables"):  # an object here, with names that keep their case
            engine["env"] = wasm.take("EnvironmentVariables")
            self._draft.origins["engine.env"] = wasm.at("EnvironmentVariables")
        wasm.must_be_empty("ImportModules", "is not supported; link what the module needs into it")
        return engine

    def _inputs(self, spec: Fields) -> list[dict[str, str]]:
        self._draft.origins["inputs"] = spec.at("inputs")
        inputs = []
        for number, item in enumerate(spec.objects("inputs")):
            content = stored(item)
            path = item.given_text("path").rstrip("/")
            self._draft.origins[f"inputs[{number}].cid"] = content.field
            self._draft.origins[f"inputs[{number}].path"] = item.at("path")
            item.close()
            if content.note:
                self._draft.note(content.field, content.note)
            inputs.append({"cid": str(content.cid), "path": f"{path}/{content.name}" if content.name else path})
        return inputs

    def _limits(self, spec: Fields) -> dict[str, int]:
        limits = {**DEFAULTS, **self._presets}
        self._draft.seconds(spec, "Timeout", limits)
        self._draft.resources(spec.object("Resources"), limits)
        return limits

    def _check_outputs(self, spec: Fields) -> None:
        for output in spec.objects("outputs"):
            source = output.word("StorageSource")
            if source not in PUBLISHERS:
                refuse(Reason.SPEC_UNSUPPORTED, output.at("StorageSource"), f"is {source!r:.40}; outputs get a CID")
            self._draft.output(output, "path")
            for other in ("CID", "URL", "Repo", "S3", "SourcePath"):
                output.must_be_empty(other, "has no meaning for an output", Reason.SPEC_INVALID_FIELD)
            for other in ("Metadata", "ReadWrite"):
                output.take(other)
            output.close()

    def _check_publishers(self, spec: Fields) -> None:
        publisher = spec.object("PublisherSpec")
        for section, name in ((spec, "Publisher"), (publisher, "Type")):
            word = section.word(name)
            if word not in PUBLISHERS:
                problem = f"is {word!r:.40}; outputs are kept by the bridge, under their CID"
                refuse(Reason.SPEC_UNSUPPORTED, section.at(name), problem)
            if word:
                self._draft.note(section.at(name), "the bridge keeps the output")
        for name in ("Params", "Config"):
            publisher.must_be_empty(name, "is not supported")
        publisher.close()

    def _network(self, section: Fields) -> dict[str, Any] | None:
        found = network(section, self._draft, ("", "none"))
        section.close()
        return found

    def _check_agreement(self, spec: Fields, quorum: int) -> None:
        """How many nodes run a job and agree on it is the order's to say; a spec must not be promised more."""
        deal = spec.object("Deal")
        copies, agreeing = deal.count("Concurrency"), deal.count("Confidence")
        verifier = spec.word("Verifier")
        if verifier == "deterministic":
            needed = agreeing or copies // 2 + 1
            if needed > quorum:
                problem = f"asks for {needed} nodes that agree; the order has a quorum of {quorum}"
                refuse(Reason.SPEC_UNSUPPORTED, spec.at("Verifier"), problem)
        elif verifier not in ("", "noop"):
            refuse(Reason.SPEC_UNSUPPORTED, spec.at("Verifier"), f"is {verifier!r:.40}; it is noop or deterministic")
        if copies > 1:
            self._draft.note(deal.at("Concurrency"), "not used: the order says how many nodes run it")
        deal.count("MinBids")
        mode = deal.word("TargetingMode")
        if mode not in ("", "any"):
            refuse(Reason.SPEC_UNSUPPORTED, deal.at("TargetingMode"), f"is {mode!r:.40}; it is any")
        deal.close()
