"""The job spec `insula/v1`: strict, and a pure function of its bytes, so that honest nodes agree on every refusal.

Format and limits: docs/spec.md. Reason codes: `executor.protocol.reasons`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Self

from executor.errors import InvalidInput
from executor.protocol.cid import RAW, Cid
from executor.protocol.dialects import bacalhau1x, lilypad, v1beta
from executor.protocol.dialects.conversion import Conversion
from executor.protocol.labels import Selector
from executor.protocol.network import MAX_DESTINATIONS, MAX_PORTS, Destination, host_problem, order_problem
from executor.protocol.reasons import Reason
from executor.protocol.specparts import (
    LIMITS,
    MAX_ARGS,
    MAX_ENV,
    MAX_INPUTS,
    MAX_SPEC_BYTES_BY_CID,
    MAX_STRING_BYTES,
    InvalidSpec,
    parse_json,
    refuse,
    string_of,
)
from executor.protocol.wire import Dialect, Order, label_hash

__all__ = [
    "INPUTS",
    "LIMITS",
    "MAX_SPEC_BYTES_BY_CID",
    "SECRETS",
    "VERSION",
    "Conversion",
    "DockerEngine",
    "Input",
    "InvalidSpec",
    "JobSpec",
    "Limits",
    "SecretRef",
    "WasmEngine",
    "converted",
    "converted_document",
    "document_of",
    "is_converted",
    "is_image",
    "job_of",
    "spec_cid",
]

VERSION = "insula/v1"
INPUTS = "/inputs"
SECRETS = "/secrets"
MAX_SECRETS = 8
MAX_PATH_BYTES = 255

_DIALECTS: dict[int, ModuleType] = {
    Dialect.BACALHAU_V1BETA: v1beta,
    Dialect.BACALHAU_1X: bacalhau1x,
    Dialect.LILYPAD_MODULE: lilypad,
}
_IMAGE = re.compile(r"sha256:[0-9a-f]{64}|[a-z0-9]+(?:[._/:-][a-z0-9]+)*@sha256:[0-9a-f]{64}")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_SECRET_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_PATH_PART = re.compile(r"[A-Za-z0-9._@+-]{1,100}")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the job may use; units are in the names."""

    wall_seconds: int
    cpu_millis: int
    memory_bytes: int
    disk_bytes: int
    output_files: int
    log_bytes: int
    pids: int


@dataclass(frozen=True, kw_only=True)
class WasmEngine:
    """A WASI preview 1 command module, by CID."""

    module: Cid
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    tier: str = "wasm"


@dataclass(frozen=True, kw_only=True)
class DockerEngine:
    """A container image, by digest; `archive` is a `docker load` archive that holds it."""

    image: str
    archive: Cid | None = None
    entrypoint: tuple[str, ...] | None = None
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    workdir: str = "/"
    tier: str = "container"


@dataclass(frozen=True, kw_only=True)
class Input:
    """A file or directory by CID, seen by the job read-only at `path`; at /inputs itself, a directory."""

    cid: Cid
    path: str


@dataclass(frozen=True, kw_only=True)
class SecretRef:
    """A secret of the node's operator, by the name that he gave it, seen by the job as the file `path`."""

    name: str
    path: str


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """What to run."""

    engine: WasmEngine | DockerEngine
    inputs: tuple[Input, ...] = ()
    secrets: tuple[SecretRef, ...] = ()
    limits: Limits
    selector: Selector = field(default_factory=Selector)
    network: tuple[Destination, ...] = ()

    @property
    def content(self) -> tuple[Cid, ...]:
        """Every CID that the job needs, program included, each once, in the order of the spec."""
        if isinstance(self.engine, WasmEngine):
            program: list[Cid] = [self.engine.module]
        else:
            program = [self.engine.archive] if self.engine.archive else []
        return tuple(dict.fromkeys([*program, *(item.cid for item in self.inputs)]))

    @classmethod
    def parse(cls, data: bytes, max_bytes: int = MAX_SPEC_BYTES_BY_CID) -> Self:
        """The spec of these bytes, or InvalidSpec with reason and field path."""
        return cls.from_json(parse_json(data, max_bytes))

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """The spec of a JSON value, or InvalidSpec."""
        top = _Object(value, "")
        version = top.string("version")
        if version != VERSION:
            refuse(Reason.SPEC_INVALID_FIELD, "version", f"is {version!r:.40}; this format is {VERSION!r}")
        engine = _engine(top.object("engine"))
        spec = cls(
            engine=engine,
            inputs=_inputs(top),
            secrets=_secrets(top),
            limits=_limits(top),
            selector=_selector(top),
            network=_network(top, engine.tier),
        )
        top.close()
        return spec


def spec_cid(order: Order) -> Cid | None:
    """The CID of the spec where the order gives one, None where it gives the spec itself. InvalidSpec(BAD_CID)."""
    if not order.spec_is_cid:
        return None
    try:
        cid = Cid.from_binary(order.spec)
    except InvalidInput as exc:
        raise InvalidSpec(Reason.BAD_CID, "spec", exc.problem) from exc
    if cid.codec != RAW:
        raise InvalidSpec(Reason.BAD_CID, "spec", f"{cid} is no raw block; a spec by CID is one block, as it stands")
    return cid


def job_of(order: Order, spec: bytes) -> JobSpec:
    """What `order` asks for, where `spec` is its spec's bytes (its own, or those of its CID).

    Raises InvalidSpec: the job can never run, and every honest node says so with the same reason.
    """
    if order.version != 1:
        refuse(Reason.UNSUPPORTED_VERSION, "version", f"is {order.version}; these nodes read order version 1")
    if is_converted(order.dialect):
        # Their authors know of no labels; matching and contract ask for the order's own all the same.
        return converted(spec, order.quorum, Dialect(order.dialect))[0]
    if order.dialect != Dialect.INSULA_V1:
        known = f"1 ({VERSION}), 2 (Bacalhau V1beta), 3 (Bacalhau 1.x) and 4 (Lilypad module)"
        refuse(Reason.UNSUPPORTED_DIALECT, "dialect", f"is {order.dialect}; these nodes read {known}")
    job = JobSpec.parse(spec)
    repeated = {label_hash(word) for word in job.selector.required_words()}
    for label in order.labels:
        if label not in repeated:
            refuse(Reason.SELECTOR_WITHOUT_LABEL, "selector", f"does not repeat the order's label 0x{label.hex()}")
    return job


def is_image(text: str) -> bool:
    """Whether this names an image that cannot change: by id, or by digest."""
    return _IMAGE.fullmatch(text) is not None


def is_converted(dialect: int) -> bool:
    """Whether specs of a dialect are converted into `insula/v1`."""
    return dialect in _DIALECTS


def document_of(data: bytes, dialect: Dialect) -> Any:
    """The JSON value of a spec in another dialect, as its author wrote it. InvalidSpec."""
    return _DIALECTS[dialect].read(data)


def converted(data: bytes, quorum: int = 1, dialect: Dialect = Dialect.BACALHAU_V1BETA) -> tuple[JobSpec, Conversion]:
    """The job of a spec in another dialect, and how it became one.

    quorum: of the order. InvalidSpec names the field as the spec's author wrote it.
    """
    return converted_document(document_of(data, dialect), quorum, dialect)


def converted_document(document: Any, quorum: int, dialect: Dialect) -> tuple[JobSpec, Conversion]:
    """As `converted`, of a spec's JSON value."""
    conversion = _DIALECTS[dialect].convert(document, quorum)
    try:
        return JobSpec.from_json(conversion.spec), conversion
    except InvalidSpec as exc:
        raise InvalidSpec(exc.reason, conversion.origin(exc.field), exc.problem) from exc


class _Object:
    """One JSON object; remembers which keys were read, so that `close` can refuse the rest."""

    def __init__(self, value: Any, path: str) -> None:
        if not isinstance(value, dict):
            reason = Reason.SPEC_INVALID_FIELD if path else Reason.SPEC_NOT_JSON
            refuse(reason, path, "must be an object")
        self._value: dict[str, Any] = value
        self._path = path
        self._read: set[str] = set()

    def at(self, key: str) -> str:
        """The path of a field, for the error that is about it."""
        return f"{self._path}.{key}" if self._path else key

    def has(self, key: str) -> bool:
        return key in self._value

    def take(self, key: str) -> Any:
        """A field that has to be there. This and all below: InvalidSpec with the field's path."""
        if key not in self._value:
            refuse(Reason.SPEC_MISSING_FIELD, self.at(key), "is missing")
        self._read.add(key)
        return self._value[key]

    def string(self, key: str, max_bytes: int = MAX_STRING_BYTES) -> str:
        return string_of(self.take(key), self.at(key), max_bytes)

    def cid(self, key: str) -> Cid:
        text = self.string(key, 200)
        try:
            return Cid.parse(text)
        except InvalidInput as exc:
            raise InvalidSpec(Reason.BAD_CID, self.at(key), exc.problem) from exc

    def object(self, key: str) -> _Object:
        return _Object(self.take(key), self.at(key))

    def array(self, key: str, most: int) -> list[Any]:
        """A field of at most so many entries."""
        value = self.take(key)
        if not isinstance(value, list):
            refuse(Reason.SPEC_INVALID_FIELD, self.at(key), "must be an array")
        if len(value) > most:
            refuse(Reason.SPEC_INVALID_FIELD, self.at(key), f"has {len(value)} entries; at most {most} are allowed")
        return value

    def strings(self, key: str, most: int) -> tuple[str, ...]:
        """A list of texts; empty where it is left out."""
        if not self.has(key):
            return ()
        items = self.array(key, most)
        return tuple(string_of(item, f"{self.at(key)}[{i}]", MAX_STRING_BYTES) for i, item in enumerate(items))

    def close(self) -> None:
        """Refuse the fields that nobody took."""
        for key in self._value:
            if key not in self._read:
                refuse(Reason.SPEC_UNKNOWN_FIELD, self.at(f"{key:.80}"), "is not a field of this object")


def _engine(engine: _Object) -> WasmEngine | DockerEngine:
    kind = engine.string("type")
    result: WasmEngine | DockerEngine
    if kind == "wasm":
        result = WasmEngine(module=engine.cid("module"), args=engine.strings("args", MAX_ARGS), env=_env(engine))
    elif kind == "docker":
        result = _docker(engine)
    else:
        refuse(Reason.UNKNOWN_ENGINE, engine.at("type"), f"is {kind!r:.40}; engines are wasm and docker")
    engine.close()
    return result


def _docker(engine: _Object) -> DockerEngine:
    image = engine.string("image", 512)
    if not is_image(image):
        refuse(
            Reason.SPEC_INVALID_FIELD,
            engine.at("image"),
            "must be sha256:<64 hex> or name@sha256:<64 hex>; tags can change and are refused",
        )
    workdir = engine.string("workdir") if engine.has("workdir") else "/"
    if not workdir.startswith("/") or ".." in workdir.split("/"):
        refuse(Reason.SPEC_INVALID_FIELD, engine.at("workdir"), "must be an absolute path without '..'")
    tier = engine.string("tier") if engine.has("tier") else "container"
    if tier not in ("container", "gvisor"):
        refuse(Reason.SPEC_INVALID_FIELD, engine.at("tier"), f"is {tier!r:.40}; tiers are container and gvisor")
    return DockerEngine(
        image=image,
        archive=engine.cid("archive") if engine.has("archive") else None,
        entrypoint=engine.strings("entrypoint", MAX_ARGS) if engine.has("entrypoint") else None,
        args=engine.strings("args", MAX_ARGS),
        env=_env(engine),
        workdir=workdir,
        tier=tier,
    )


def _env(engine: _Object) -> tuple[tuple[str, str], ...]:
    if not engine.has("env"):
        return ()
    value = engine.take("env")
    path = engine.at("env")
    if not isinstance(value, dict):
        refuse(Reason.SPEC_INVALID_FIELD, path, "must be an object of strings")
    if len(value) > MAX_ENV:
        refuse(Reason.SPEC_INVALID_FIELD, path, f"has {len(value)} entries; at most {MAX_ENV} are allowed")
    for name in value:
        if not _ENV_NAME.fullmatch(name):
            refuse(Reason.SPEC_INVALID_FIELD, f"{path}.{name:.80}", "is no name: [A-Za-z_][A-Za-z0-9_]*")
    return tuple((name, string_of(value[name], f"{path}.{name}", MAX_STRING_BYTES)) for name in sorted(value))


def _inputs(top: _Object) -> tuple[Input, ...]:
    if not top.has("inputs"):
        return ()
    inputs = []
    for i, item in enumerate(top.array("inputs", MAX_INPUTS)):
        entry = _Object(item, f"inputs[{i}]")
        inputs.append(Input(cid=entry.cid("cid"), path=_input_path(entry)))
        entry.close()
    paths = [f"{item.path}/" for item in inputs]
    for i, path in enumerate(paths):
        if any(j != i and other.startswith(path) for j, other in enumerate(paths)):
            refuse(Reason.SPEC_INVALID_FIELD, f"inputs[{i}].path", "is the same as, or contains, another input's path")
    return tuple(inputs)


def _input_path(entry: _Object) -> str:
    path = entry.string("path", MAX_PATH_BYTES)
    parts = path.split("/")
    safe = all(_is_part(part) and part not in (".", "..") for part in parts[2:])
    if parts[:2] != ["", "inputs"] or not safe:
        refuse(
            Reason.SPEC_INVALID_FIELD,
            entry.at("path"),
            "must be /inputs or a path below it, of parts with letters, digits and ._@+-",
        )
    return path


def _secrets(top: _Object) -> tuple[SecretRef, ...]:
    if not top.has("secrets"):
        return ()
    found: list[SecretRef] = []
    for i, item in enumerate(top.array("secrets", MAX_SECRETS)):
        entry = _Object(item, f"secrets[{i}]")
        name, path = entry.string("name", 63), entry.string("path", MAX_PATH_BYTES)
        if not _SECRET_NAME.fullmatch(name):
            problem = "is no name: small letters, digits, '.', '_' and '-'"
            refuse(Reason.SPEC_INVALID_FIELD, entry.at("name"), problem)
        parts = path.split("/")
        if parts[:2] != ["", "secrets"] or len(parts) != 3 or parts[2] in (".", "..") or not _is_part(parts[2]):
            problem = f"must be {SECRETS}/ and one name of letters, digits and ._@+-"
            refuse(Reason.SPEC_INVALID_FIELD, entry.at("path"), problem)
        if path in [other.path for other in found]:
            refuse(Reason.SPEC_INVALID_FIELD, entry.at("path"), "is another secret's path")
        entry.close()
        found.append(SecretRef(name=name, path=path))
    return tuple(found)


def _is_part(text: str) -> bool:
    return _PATH_PART.fullmatch(text) is not None


def _limits(top: _Object) -> Limits:
    given = top.object("limits") if top.has("limits") else _Object({}, "limits")
    values = {name: _limit(given, name) for name in LIMITS}
    given.close()
    return Limits(
        wall_seconds=values["wallSeconds"],
        cpu_millis=values["cpuMillis"],
        memory_bytes=values["memoryBytes"],
        disk_bytes=values["diskBytes"],
        output_files=values["outputFiles"],
        log_bytes=values["logBytes"],
        pids=values["pids"],
    )


def _limit(given: _Object, name: str) -> int:
    default, smallest, largest = LIMITS[name]
    if not given.has(name):
        return default
    value = given.take(name)
    if not isinstance(value, int) or isinstance(value, bool):
        refuse(Reason.SPEC_INVALID_FIELD, given.at(name), "must be an integer")
    if not smallest <= value <= largest:
        refuse(Reason.LIMIT_OUT_OF_RANGE, given.at(name), f"is {value}; it must be from {smallest} to {largest}")
    return value


def _selector(top: _Object) -> Selector:
    if not top.has("selector"):
        return Selector()
    text = top.string("selector")
    try:
        return Selector.parse(text)
    except InvalidInput as exc:
        raise InvalidSpec(Reason.SPEC_INVALID_FIELD, "selector", exc.problem) from exc


def _network(top: _Object, tier: str) -> tuple[Destination, ...]:
    if not top.has("network"):
        return ()
    network = top.object("network")
    entries = network.array("allow", MAX_DESTINATIONS)
    found = tuple(_destination(_Object(item, f"network.allow[{i}]")) for i, item in enumerate(entries))
    network.close()
    problem = order_problem(tuple(one.host for one in found)) if found else "is empty; leave out network for none"
    if problem:
        refuse(Reason.SPEC_INVALID_FIELD, "network.allow", problem)
    if tier != "container":
        refuse(Reason.SPEC_UNSUPPORTED, "network", f"tier {tier} has no network; only tier container can be given one")
    return found


def _destination(entry: _Object) -> Destination:
    host = entry.string("host")
    problem = host_problem(host)
    if problem:
        refuse(Reason.SPEC_INVALID_FIELD, entry.at("host"), problem)
    ports = entry.array("ports", MAX_PORTS)
    for i, port in enumerate(ports):
        if not isinstance(port, int) or isinstance(port, bool) or not 1 <= port <= 65535:
            refuse(Reason.SPEC_INVALID_FIELD, f"{entry.at('ports')}[{i}]", "must be a port, 1 to 65535")
    problem = order_problem(tuple(ports)) if ports else "is empty; name the ports"
    if problem:
        refuse(Reason.SPEC_INVALID_FIELD, entry.at("ports"), problem)
    entry.close()
    return Destination(host, tuple(ports))
