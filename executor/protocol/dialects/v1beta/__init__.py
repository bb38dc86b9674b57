"""Bacalhau's V1beta job specs, as callers of Lilypad v0 send them, converted into `insula/v1`. Pure.

The table of what becomes what: docs/spec.md. Nothing but the spec's bytes and the order's quorum decides, so every
honest node runs the same job or refuses for the same reason. What would change the result is refused, never dropped;
what is dropped or replaced (a dead publisher, a number of copies) is listed in `Conversion.changes`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from executor.protocol.canonical import canonical_json, sha256
from executor.protocol.dialects.v1beta.fields import Fields
from executor.protocol.dialects.v1beta.quantities import byte_count, cpu_millis
from executor.protocol.dialects.v1beta.storage import stored
from executor.protocol.labels import LABEL_KEY, LABEL_VALUE
from executor.protocol.reasons import Reason
from executor.protocol.specparts import LIMITS, MAX_SPEC_BYTES_BY_CID, parse_json, refuse
from executor.protocol.wire import Dialect

VERSIONS = ("V1beta1", "V1beta2")
#: What V1beta has no word for, or leaves to the server: Bacalhau ran a job for ten minutes and did not cut its streams.
DEFAULTS = {"wallSeconds": 600, "logBytes": 2**20}
#: Publishers that no longer exist, or that stand for "somewhere": the output goes where Insula's outputs go.
PUBLISHERS = ("", "noop", "ipfs", "filecoin", "lotus", "estuary")
_ENGINES = {"docker": "Docker", "wasm": "Wasm"}
_SECTIONS = ("Docker", "Wasm", "Language")
_SELECTORS = {
    "=": "{key}={value}",
    "==": "{key}={value}",
    "!=": "{key}!={value}",
    "in": "{key} in ({values})",
    "notin": "{key} notin ({values})",
    "exists": "{key}",
    "!": "!{key}",
    "gt": "{key}>{value}",
    "lt": "{key}<{value}",
}


@dataclass(frozen=True)
class Change:
    """What the conversion dropped or replaced. field: its path as the spec's author wrote it."""

    field: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """A spec in `insula/v1`, as a JSON value that is still to be validated.

    origins: path in `spec` -> path as the spec's author wrote it.
    """

    spec: dict[str, Any]
    changes: tuple[Change, ...]
    origins: dict[str, str]

    def origin(self, field: str) -> str:
        """Where the author wrote what stands at `field` of `spec` ("engine.args[1]"); `field` itself if nowhere."""
        for end in range(len(field), 0, -1):
            if field[:end] in self.origins and field[end : end + 1] in ("", ".", "["):
                return self.origins[field[:end]] + field[end:]
        return field

    @property
    def report(self) -> dict[str, Any]:
        """What a receipt says of the conversion of a valid spec."""
        return {
            "dialect": int(Dialect.BACALHAU_V1BETA),
            "specSha256": sha256(canonical_json(self.spec)).hex(),
            "changes": [{"field": change.field, "text": change.text} for change in self.changes],
        }


def convert(data: bytes, quorum: int = 1) -> Conversion:
    """The conversion of a spec's bytes. quorum: of the order. InvalidSpec where it has none."""
    return _Converter().convert(Fields(parse_json(data, MAX_SPEC_BYTES_BY_CID), ""), quorum)


class _Converter:
    """One conversion: collects the spec, its origins and its changes."""

    def __init__(self) -> None:
        self._changes: list[Change] = []
        self._origins: dict[str, str] = {}

    def convert(self, top: Fields, quorum: int) -> Conversion:
        spec = self._unwrapped(top)
        result: dict[str, Any] = {"version": "insula/v1", "engine": self._engine(spec)}
        if inputs := self._inputs(spec):
            result["inputs"] = inputs
        result["limits"] = self._limits(spec)
        if selector := self._selector(spec):
            result["selector"] = selector
        self._check_outputs(spec)
        self._check_publishers(spec)
        self._check_network(spec.object("Network"))
        self._check_agreement(spec, quorum)
        for name in ("Sharding", "Contexts"):
            spec.must_be_empty(name, "is not supported")
        for name in ("Annotations", "DoNotTrack"):
            spec.take(name)
        spec.close()
        return Conversion(spec=result, changes=tuple(self._changes), origins=self._origins)

    def _note(self, field: str, text: str) -> None:
        self._changes.append(Change(field, text))

    def _unwrapped(self, top: Fields) -> Fields:
        """The spec itself; some callers send the whole job around it."""
        if not top.has("Spec"):
            return top
        version = top.text("APIVersion")
        if version not in ("", *VERSIONS):
            problem = f"is {version!r:.40}; this dialect is {' or '.join(VERSIONS)}"
            refuse(Reason.SPEC_INVALID_FIELD, top.at("APIVersion"), problem)
        if top.take("Metadata") is not None:
            self._note(top.at("Metadata"), "not used")
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
        section = spec.object(_ENGINES[kind])
        engine = self._docker(section) if kind == "docker" else self._wasm(section)
        section.close()
        self._origins["engine"] = section.path
        return engine

    def _docker(self, docker: Fields) -> dict[str, Any]:
        engine: dict[str, Any] = {"type": "docker", "image": docker.given_text("Image")}
        self._put(engine, docker, "entrypoint", "Entrypoint", docker.texts("Entrypoint"))
        self._put(engine, docker, "args", "Parameters", docker.texts("Parameters"))
        self._put(engine, docker, "env", "EnvironmentVariables", docker.assignments("EnvironmentVariables"))
        self._put(engine, docker, "workdir", "WorkingDirectory", docker.text("WorkingDirectory"))
        self._origins["engine.image"] = docker.at("Image")
        if "workdir" not in engine:
            self._note(docker.at("WorkingDirectory"), "/, whatever the image says")
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
            self._note(content.field, content.note)
        engine: dict[str, Any] = {"type": "wasm", "module": str(content.cid)}
        self._put(engine, wasm, "args", "Parameters", wasm.texts("Parameters"))
        if wasm.has("EnvironmentVariables"):  # an object here, with names that keep their case
            engine["env"] = wasm.take("EnvironmentVariables")
            self._origins["engine.env"] = wasm.at("EnvironmentVariables")
        wasm.must_be_empty("ImportModules", "is not supported; link what the module needs into it")
        return engine

    def _put(self, into: dict[str, Any], section: Fields, name: str, written: str, value: Any) -> None:
        """Set a field of the engine, unless it says nothing."""
        if value:
            into[name] = value
            self._origins[f"engine.{name}"] = section.at(written)

    def _inputs(self, spec: Fields) -> list[dict[str, str]]:
        self._origins["inputs"] = spec.at("inputs")
        inputs = []
        for number, item in enumerate(spec.objects("inputs")):
            content = stored(item)
            path = item.given_text("path").rstrip("/")
            self._origins[f"inputs[{number}].cid"] = content.field
            self._origins[f"inputs[{number}].path"] = item.at("path")
            item.close()
            if content.note:
                self._note(content.field, content.note)
            inputs.append({"cid": str(content.cid), "path": f"{path}/{content.name}" if content.name else path})
        return inputs

    def _limits(self, spec: Fields) -> dict[str, int]:
        resources = spec.object("Resources")
        limits = dict(DEFAULTS)
        self._seconds(spec, limits)
        self._amount(resources, "CPU", "cpuMillis", cpu_millis, limits)
        self._amount(resources, "Memory", "memoryBytes", byte_count, limits)
        self._amount(resources, "Disk", "diskBytes", byte_count, limits)
        gpus = resources.text("GPU").strip(" ")
        if gpus.strip("0"):
            refuse(Reason.SPEC_UNSUPPORTED, resources.at("GPU"), f"is {gpus!r:.40}; there are no GPUs")
        resources.close()
        return limits

    def _seconds(self, spec: Fields, limits: dict[str, int]) -> None:
        value, field = spec.take("Timeout"), spec.at("Timeout")
        if value is None:
            return
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            refuse(Reason.SPEC_INVALID_FIELD, field, "must be a number of seconds")
        most = LIMITS["wallSeconds"][2]
        if not 0 <= value <= most:
            refuse(Reason.LIMIT_OUT_OF_RANGE, field, f"must be from 0 to {most}; 0 is {DEFAULTS['wallSeconds']}")
        if value == 0:
            return
        limits["wallSeconds"] = math.ceil(value)
        if limits["wallSeconds"] != value:
            self._note(field, f"rounded up to {limits['wallSeconds']}")

    def _amount(
        self, resources: Fields, name: str, limit: str, read: Callable[[str], int | None], limits: dict[str, int]
    ) -> None:
        text = resources.text(name)
        field = resources.at(name)
        value = read(text) if text else 0
        if value is None:
            refuse(Reason.SPEC_INVALID_FIELD, field, f"is {text!r:.40}; write it like 500m (CPU) or 512Mb")
        if value == 0:
            return
        self._origins[f"limits.{limit}"] = field
        limits[limit] = max(value, LIMITS[limit][1])
        if limits[limit] != value:
            self._note(field, f"raised to the smallest limit, {limits[limit]}")

    def _selector(self, spec: Fields) -> str:
        self._origins["selector"] = spec.at("NodeSelectors")
        return ",".join(map(_requirement, spec.objects("NodeSelectors")))

    def _check_outputs(self, spec: Fields) -> None:
        for output in spec.objects("outputs"):
            source = output.word("StorageSource")
            if source not in PUBLISHERS:
                refuse(Reason.SPEC_UNSUPPORTED, output.at("StorageSource"), f"is {source!r:.40}; outputs get a CID")
            path = output.given_text("path").rstrip("/")
            if path != "/outputs" and not path.startswith("/outputs/"):
                problem = f"is {path!r:.40}; only what is below /outputs is kept"
                refuse(Reason.SPEC_UNSUPPORTED, output.at("path"), problem)
            if output.text("Name") not in ("", "outputs"):
                self._note(output.at("Name"), "not used: the output's folder is outputs")
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
                self._note(section.at(name), "the bridge keeps the output")
        for name in ("Params", "Config"):
            publisher.must_be_empty(name, "is not supported")
        publisher.close()

    def _check_network(self, network: Fields) -> None:
        kind = network.word("Type")
        if kind not in ("", "none"):
            refuse(Reason.SPEC_UNSUPPORTED, network.at("Type"), f"is {kind!r:.40}; jobs have no network")
        if network.texts("Domains"):
            self._note(network.at("Domains"), "not used: there is no network")
        network.close()

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
            self._note(deal.at("Concurrency"), "not used: the order says how many nodes run it")
        deal.count("MinBids")
        mode = deal.word("TargetingMode")
        if mode not in ("", "any"):
            refuse(Reason.SPEC_UNSUPPORTED, deal.at("TargetingMode"), f"is {mode!r:.40}; it is any")
        deal.close()


def _requirement(item: Fields) -> str:
    """One entry of NodeSelectors in the syntax of a selector."""
    key, operator, values = item.given_text("Key"), item.word("Operator"), item.texts("Values")
    item.close()
    if not LABEL_KEY.fullmatch(key):
        refuse(Reason.SPEC_INVALID_FIELD, item.at("Key"), f"is {key!r:.80}; a key is [a-z0-9][a-z0-9._/-]{{0,62}}")
    form = _SELECTORS.get(operator)
    if form is None:
        refuse(Reason.SPEC_INVALID_FIELD, item.at("Operator"), f"is {operator!r:.40}, not {', '.join(_SELECTORS)}")
    least = 1 if "value" in form else 0
    most = len(values) if "values" in form else least
    if not all(map(LABEL_VALUE.fullmatch, values)) or not least <= len(values) <= most:
        refuse(Reason.SPEC_INVALID_FIELD, item.at("Values"), f"do not fit the operator {operator}")
    return form.format(key=key, value=values[0] if values else "", values=",".join(values))
