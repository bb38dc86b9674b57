"""The job spec: what is read, and hostile specs that every node refuses with the same reason."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.protocol.cid import DAG_PB, RAW, Cid
from executor.protocol.reasons import Reason
from executor.protocol.spec import (
    LIMITS,
    MAX_SPEC_BYTES_BY_CID,
    DockerEngine,
    InvalidSpec,
    JobSpec,
    WasmEngine,
    job_of,
    spec_cid,
)
from executor.protocol.wire import Order, label_hash

MODULE = str(Cid.of(RAW, b"module"))
INPUT = str(Cid.of(RAW, b"input"))
IMAGE = f"sha256:{'0' * 64}"
WASM = {"type": "wasm", "module": MODULE}
DOCKER = {"type": "docker", "image": IMAGE}


def text(**changes):
    """A spec; a value of ... removes the field."""
    fields = {"version": "insula/v1", "engine": WASM, **changes}
    return json.dumps({key: value for key, value in fields.items() if value is not ...}).encode()


def parse(**changes):
    return JobSpec.parse(text(**changes))


def refusal(data):
    with pytest.raises(InvalidSpec) as caught:
        JobSpec.parse(data)
    return caught.value.reason, caught.value.field


def test_the_smallest_spec_has_every_default():
    spec = parse()

    assert spec.engine == WasmEngine(module=Cid.parse(MODULE))
    assert vars(spec.limits) == {
        "wall_seconds": LIMITS["wallSeconds"][0],
        "cpu_millis": LIMITS["cpuMillis"][0],
        "memory_bytes": LIMITS["memoryBytes"][0],
        "disk_bytes": LIMITS["diskBytes"][0],
        "output_files": LIMITS["outputFiles"][0],
        "log_bytes": LIMITS["logBytes"][0],
        "pids": LIMITS["pids"][0],
    }
    assert (spec.inputs, str(spec.selector), spec.content) == ((), "", (Cid.parse(MODULE),))


def test_a_full_docker_spec_is_read_field_by_field():
    engine = {
        **DOCKER,
        "archive": INPUT,
        "entrypoint": ["/bin/job"],
        "args": ["--top", "10"],
        "env": {"B": "2", "A": "1"},
        "workdir": "/work",
        "tier": "gvisor",
    }

    spec = parse(engine=engine, inputs=[{"cid": MODULE, "path": "/inputs/a.txt"}], selector="site=camera")

    assert spec.engine == DockerEngine(
        image=IMAGE,
        archive=Cid.parse(INPUT),
        entrypoint=("/bin/job",),
        args=("--top", "10"),
        env=(("A", "1"), ("B", "2")),
        workdir="/work",
        tier="gvisor",
    )
    assert spec.content == (Cid.parse(INPUT), Cid.parse(MODULE))


def test_a_docker_spec_without_an_archive_needs_no_content():
    assert parse(engine=DOCKER).content == ()


@pytest.mark.parametrize("image", [IMAGE, f"alpine@{IMAGE}", f"ghcr.io/a/b-c:1.2@{IMAGE}"])
def test_an_image_by_digest_is_accepted(image):
    assert parse(engine={**DOCKER, "image": image}).engine.image == image


def test_one_input_can_be_the_inputs_themselves():
    assert [item.path for item in parse(inputs=[{"cid": MODULE, "path": "/inputs"}]).inputs] == ["/inputs"]


def test_secrets_are_names_and_paths_and_none_by_default():
    spec = JobSpec.parse(secrets(("api", "/secrets/token"), ("api", "/secrets/again")))

    assert [(secret.name, secret.path) for secret in spec.secrets] == [
        ("api", "/secrets/token"), ("api", "/secrets/again"),
    ]  # fmt: skip
    assert parse().secrets == ()


def test_an_input_that_is_named_twice_is_content_once():
    inputs = [{"cid": MODULE, "path": "/inputs/a"}, {"cid": MODULE, "path": "/inputs/b"}]

    assert parse(inputs=inputs).content == (Cid.parse(MODULE),)


def engine(**changes):
    fields = {**WASM, **changes}
    return text(engine={key: value for key, value in fields.items() if value is not ...})


def docker(**changes):
    return text(engine={**DOCKER, **changes})


def inputs(*paths, cid=MODULE, **more):
    return text(inputs=[{"cid": cid, "path": path, **more} for path in paths])


def secrets(*pairs, **more):
    return text(secrets=[{"name": name, "path": path, **more} for name, path in pairs])


R = Reason
#: name -> (bytes of the spec, reason, field)
HOSTILE = {
    "nothing": (b"", R.SPEC_NOT_JSON, "spec"),
    "not UTF-8": (b'{"a": "\xff"}', R.SPEC_NOT_UTF8, "spec"),
    "UTF-16": (text().decode().encode("utf-16"), R.SPEC_NOT_UTF8, "spec"),
    "a byte order mark": (b"\xef\xbb\xbf" + text(), R.SPEC_NOT_JSON, "spec"),
    "a list": (b"[]", R.SPEC_NOT_JSON, "spec"),
    "a string": (b'"insula/v1"', R.SPEC_NOT_JSON, "spec"),
    "null": (b"null", R.SPEC_NOT_JSON, "spec"),
    "two objects": (text() + text(), R.SPEC_NOT_JSON, "spec"),
    "a comment": (b"/* */" + text(), R.SPEC_NOT_JSON, "spec"),
    "a trailing comma": (text()[:-1] + b",}", R.SPEC_NOT_JSON, "spec"),
    "NaN": (text(limits=...)[:-1] + b', "limits": {"pids": NaN}}', R.SPEC_NOT_JSON, "spec"),
    "a lone surrogate": (engine(args=["\ud800"]), R.SPEC_NOT_JSON, "spec"),
    "an integer of a thousand digits": (text()[:-1] + b', "x": ' + b"9" * 1000 + b"}", R.SPEC_NOT_JSON, "spec"),
    "nested a hundred deep": (b'{"a":' + b"[" * 100 + b"]" * 100 + b"}", R.SPEC_TOO_LARGE, "spec"),
    "a hundred thousand brackets": (b"[" * 100_000, R.SPEC_TOO_LARGE, "spec"),
    "too large": (text() + b" " * MAX_SPEC_BYTES_BY_CID, R.SPEC_TOO_LARGE, "spec"),
    "the same key twice": (b'{"version": "insula/v1", "version": "x"}', R.SPEC_DUPLICATE_KEY, "version"),
    "the same key twice, written otherwise": (b'{"a": 1, "\\u0061": 2}', R.SPEC_DUPLICATE_KEY, "a"),
    "an unknown key": (text(volumes=True), R.SPEC_UNKNOWN_FIELD, "volumes"),
    "a key in the wrong case": (text(Limits={}), R.SPEC_UNKNOWN_FIELD, "Limits"),
    "an unknown key of the engine": (engine(privileged=True), R.SPEC_UNKNOWN_FIELD, "engine.privileged"),
    "a docker key of a wasm engine": (engine(workdir="/"), R.SPEC_UNKNOWN_FIELD, "engine.workdir"),
    "an unknown key of an input": (inputs("/inputs/a", mode="rw"), R.SPEC_UNKNOWN_FIELD, "inputs[0].mode"),
    "an unknown limit": (text(limits={"gpus": 1}), R.SPEC_UNKNOWN_FIELD, "limits.gpus"),
    "no version": (text(version=...), R.SPEC_MISSING_FIELD, "version"),
    "another version": (text(version="insula/v2"), R.SPEC_INVALID_FIELD, "version"),
    "a version that is a number": (text(version=1), R.SPEC_INVALID_FIELD, "version"),
    "no engine": (text(engine=...), R.SPEC_MISSING_FIELD, "engine"),
    "an engine that is a list": (text(engine=[]), R.SPEC_INVALID_FIELD, "engine"),
    "an unknown engine": (engine(type="shell"), R.UNKNOWN_ENGINE, "engine.type"),
    "no module": (engine(module=...), R.SPEC_MISSING_FIELD, "engine.module"),
    "a module that is a path": (engine(module="../../etc/passwd"), R.BAD_CID, "engine.module"),
    "a module that is a URL": (engine(module="https://example.org/a.wasm"), R.BAD_CID, "engine.module"),
    "a module in base58": (
        engine(module="QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG"),
        R.BAD_CID,
        "engine.module",
    ),
    "a module in upper case": (engine(module=MODULE.upper()), R.BAD_CID, "engine.module"),
    "an image by tag": (docker(image="alpine:latest"), R.SPEC_INVALID_FIELD, "engine.image"),
    "an image by short id": (docker(image="sha256:0000"), R.SPEC_INVALID_FIELD, "engine.image"),
    "an image with a space": (docker(image=f"a b@{IMAGE}"), R.SPEC_INVALID_FIELD, "engine.image"),
    "an image that looks like an option": (docker(image=f"--rm@{IMAGE}"), R.SPEC_INVALID_FIELD, "engine.image"),
    "a relative workdir": (docker(workdir="work"), R.SPEC_INVALID_FIELD, "engine.workdir"),
    "a workdir that goes up": (docker(workdir="/a/../../etc"), R.SPEC_INVALID_FIELD, "engine.workdir"),
    "an unknown tier": (docker(tier="none"), R.SPEC_INVALID_FIELD, "engine.tier"),
    "an archive that is no CID": (docker(archive="x"), R.BAD_CID, "engine.archive"),
    "an entrypoint that is a string": (docker(entrypoint="/bin/sh -c"), R.SPEC_INVALID_FIELD, "engine.entrypoint"),
    "args that are a string": (engine(args="--top"), R.SPEC_INVALID_FIELD, "engine.args"),
    "an argument that is a number": (engine(args=["a", 1]), R.SPEC_INVALID_FIELD, "engine.args[1]"),
    "an argument with a NUL": (engine(args=["a\0b"]), R.SPEC_INVALID_FIELD, "engine.args[0]"),
    "an argument that is too long": (engine(args=["é" * 2049]), R.SPEC_INVALID_FIELD, "engine.args[0]"),
    "too many arguments": (engine(args=["a"] * 65), R.SPEC_INVALID_FIELD, "engine.args"),
    "env that is a list": (engine(env=["A=1"]), R.SPEC_INVALID_FIELD, "engine.env"),
    "an env name with an equals sign": (engine(env={"A=B": "1"}), R.SPEC_INVALID_FIELD, "engine.env.A=B"),
    "an env value that is a number": (engine(env={"A": 1}), R.SPEC_INVALID_FIELD, "engine.env.A"),
    "too many env": (engine(env={f"A{i}": "" for i in range(65)}), R.SPEC_INVALID_FIELD, "engine.env"),
    "inputs that are an object": (text(inputs={}), R.SPEC_INVALID_FIELD, "inputs"),
    "an input that is a string": (text(inputs=["a"]), R.SPEC_INVALID_FIELD, "inputs[0]"),
    "an input without a CID": (text(inputs=[{"path": "/inputs/a"}]), R.SPEC_MISSING_FIELD, "inputs[0].cid"),
    "an input that is no CID": (inputs("/inputs/a", cid="x"), R.BAD_CID, "inputs[0].cid"),
    "an input elsewhere": (inputs("/etc/passwd"), R.SPEC_INVALID_FIELD, "inputs[0].path"),
    "an input that goes up": (inputs("/inputs/../etc"), R.SPEC_INVALID_FIELD, "inputs[0].path"),
    "an input at a dot": (inputs("/inputs/./a"), R.SPEC_INVALID_FIELD, "inputs[0].path"),
    "an input at the root of the inputs": (inputs("/inputs/"), R.SPEC_INVALID_FIELD, "inputs[0].path"),
    "an input beside one at the inputs themselves": (
        inputs("/inputs", "/inputs/a"),
        R.SPEC_INVALID_FIELD,
        "inputs[0].path",
    ),
    "two inputs at the inputs themselves": (inputs("/inputs", "/inputs"), R.SPEC_INVALID_FIELD, "inputs[0].path"),
    "an input at a path that is too long": (inputs("/inputs/" + "a" * 250), R.SPEC_INVALID_FIELD, "inputs[0].path"),
    "an input at a path with a newline": (inputs("/inputs/a\nb"), R.SPEC_INVALID_FIELD, "inputs[0].path"),
    "two inputs at one path": (inputs("/inputs/a", "/inputs/a"), R.SPEC_INVALID_FIELD, "inputs[0].path"),
    "an input inside another": (inputs("/inputs/a/b", "/inputs/a"), R.SPEC_INVALID_FIELD, "inputs[1].path"),
    "too many inputs": (inputs(*(f"/inputs/{i}" for i in range(17))), R.SPEC_INVALID_FIELD, "inputs"),
    "secrets that are an object": (text(secrets={}), R.SPEC_INVALID_FIELD, "secrets"),
    "a secret that is a string": (text(secrets=["api"]), R.SPEC_INVALID_FIELD, "secrets[0]"),
    "a secret with its value": (secrets(("api", "/secrets/a"), value="x"), R.SPEC_UNKNOWN_FIELD, "secrets[0].value"),
    "a secret without a name": (text(secrets=[{"path": "/secrets/a"}]), R.SPEC_MISSING_FIELD, "secrets[0].name"),
    "a secret with a path for a name": (secrets(("../x", "/secrets/a")), R.SPEC_INVALID_FIELD, "secrets[0].name"),
    "a secret elsewhere": (secrets(("api", "/inputs/a")), R.SPEC_INVALID_FIELD, "secrets[0].path"),
    "a secret at the secrets themselves": (secrets(("api", "/secrets")), R.SPEC_INVALID_FIELD, "secrets[0].path"),
    "a secret in a folder": (secrets(("api", "/secrets/a/b")), R.SPEC_INVALID_FIELD, "secrets[0].path"),
    "a secret above": (secrets(("api", "/secrets/..")), R.SPEC_INVALID_FIELD, "secrets[0].path"),
    "a secret with blanks in its path": (secrets(("api", "/secrets/a b")), R.SPEC_INVALID_FIELD, "secrets[0].path"),
    "two secrets at one path": (
        secrets(("a", "/secrets/x"), ("b", "/secrets/x")),
        R.SPEC_INVALID_FIELD,
        "secrets[1].path",
    ),
    "too many secrets": (secrets(*((f"s{i}", f"/secrets/{i}") for i in range(9))), R.SPEC_INVALID_FIELD, "secrets"),
    "limits that are a list": (text(limits=[]), R.SPEC_INVALID_FIELD, "limits"),
    "a limit that is a string": (text(limits={"pids": "64"}), R.SPEC_INVALID_FIELD, "limits.pids"),
    "a limit that is true": (text(limits={"pids": True}), R.SPEC_INVALID_FIELD, "limits.pids"),
    "a limit that is a fraction": (text(limits={"pids": 1.0}), R.SPEC_INVALID_FIELD, "limits.pids"),
    "a negative limit": (text(limits={"wallSeconds": -1}), R.LIMIT_OUT_OF_RANGE, "limits.wallSeconds"),
    "a selector that is a list": (text(selector=["a"]), R.SPEC_INVALID_FIELD, "selector"),
    "a selector that makes no sense": (text(selector="a=b;c"), R.SPEC_INVALID_FIELD, "selector"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_spec_is_refused_with_reason_and_field(name):
    data, reason, field = HOSTILE[name]

    assert refusal(data) == (reason, field)
    assert reason.is_attestable


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_holds_from_its_smallest_to_its_largest_value(name):
    _, smallest, largest = LIMITS[name]

    for good in (smallest, largest):
        assert parse(limits={name: good})
    for bad in (smallest - 1, largest + 1):
        assert refusal(text(limits={name: bad})) == (Reason.LIMIT_OUT_OF_RANGE, f"limits.{name}")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=15,
)


def reason_of(data):
    """Why a spec is refused; None if it is a spec."""
    try:
        JobSpec.parse(data)
    except InvalidSpec as exc:
        return exc.reason
    return None


@given(st.binary(max_size=200))
def test_any_bytes_are_a_spec_or_refused(data):
    assert reason_of(data) is None or reason_of(data).is_attestable


@given(JSON, st.sampled_from(["version", "engine", "inputs", "limits", "selector", "more"]))
def test_any_json_in_any_place_is_a_spec_or_refused(value, place):
    reason = reason_of(text(**{place: value}))

    assert reason is None or 100 <= reason < 200


def order(**changes):
    return Order(**{"spec": text(), "ttl": 60, **changes})


def test_an_order_of_another_version_is_refused():
    with pytest.raises(InvalidSpec) as caught:
        job_of(order(version=2), text())
    assert caught.value.reason is Reason.UNSUPPORTED_VERSION


@pytest.mark.parametrize("dialect", [0, 5, 255])
def test_a_dialect_that_nobody_reads_is_refused(dialect):
    with pytest.raises(InvalidSpec) as caught:
        job_of(order(dialect=dialect), text())
    assert caught.value.reason is Reason.UNSUPPORTED_DIALECT


def test_the_selector_has_to_repeat_every_label_of_the_order():
    labels = (label_hash("site=camera"), label_hash("gpu=yes"))

    assert job_of(order(labels=labels), text(selector="site=camera,gpu in (yes)"))
    with pytest.raises(InvalidSpec) as caught:
        job_of(order(labels=labels), text(selector="site=camera,gpu"))
    assert caught.value.reason is Reason.SELECTOR_WITHOUT_LABEL
    assert label_hash("gpu=yes").hex() in caught.value.problem


def test_the_cid_of_a_spec_is_read_from_the_order():
    cid = Cid.of(RAW, text())

    assert spec_cid(order()) is None
    assert spec_cid(order(spec=cid.binary, spec_is_cid=True)) == cid
    with pytest.raises(InvalidSpec) as caught:
        spec_cid(order(spec=b"no cid", spec_is_cid=True))
    assert caught.value.reason is Reason.BAD_CID


def test_a_spec_by_cid_is_one_raw_block():
    cid = Cid.of(DAG_PB, b"")
    with pytest.raises(InvalidSpec, match="no raw block") as caught:
        spec_cid(Order(spec=cid.binary, spec_is_cid=True, ttl=60))
    assert caught.value.reason is Reason.BAD_CID
