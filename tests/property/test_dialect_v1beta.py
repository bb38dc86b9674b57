"""Whatever bytes somebody pays for: a job, or the refusal that every honest node attests, and soon."""

import json
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from executor.protocol.cid import RAW, Cid
from executor.protocol.dialects.quantities import byte_count, cpu_millis
from executor.protocol.spec import MAX_SPEC_BYTES_BY_CID, InvalidSpec, JobSpec, converted
from executor.protocol.wire import MAX_SPEC_BYTES
from tests.property.json_places import places, replaced

CONTENT = {"StorageSource": "IPFS", "CID": str(Cid.of(RAW, b"x"))}
SPECS = (
    {"Engine": "wasm", "Wasm": {"EntryModule": CONTENT, "Parameters": ["a"], "EnvironmentVariables": {"A": "b"}}},
    {
        "Engine": "docker",
        "Docker": {
            "Image": f"sha256:{'0' * 64}",
            "Entrypoint": ["a"],
            "EnvironmentVariables": ["A=b"],
            "WorkingDirectory": "/a",
        },
        "inputs": [{**CONTENT, "path": "/inputs"}],
        "outputs": [{"Name": "outputs", "path": "/outputs"}],
        "Resources": {"CPU": "1", "Memory": "1Gb", "Disk": "1Mb", "GPU": ""},
        "Network": {"Type": "None", "Domains": []},
        "NodeSelectors": [{"Key": "a", "Operator": "in", "Values": ["b"]}],
        "Publisher": "Estuary",
        "Verifier": "Noop",
        "Timeout": 1800,
        "Deal": {"Concurrency": 1},
    },
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=15,
)
WORST_SECONDS = 2.0


def outcome_of(data):
    """The job, or the reason and field of the refusal; anything else is an error of the test."""
    try:
        job, conversion = converted(data)
    except InvalidSpec as exc:
        refusal = exc
    else:
        refusal = None
    if refusal is not None:
        assert 100 <= refusal.reason < 200
        assert len(refusal.field) < 500
        return refusal.reason, refusal.field
    assert JobSpec.from_json(conversion.spec) == job
    return job


@given(st.binary(max_size=300))
@example(b"\xff" * 20)
def test_any_bytes_are_a_job_or_a_refusal(data):
    assert outcome_of(data) == outcome_of(data)


@pytest.mark.parametrize("number", range(len(SPECS)))
@given(st.data())
def test_any_value_in_any_place_is_a_job_or_a_refusal(number, data):
    spec = SPECS[number]
    path = data.draw(st.sampled_from(list(places(spec))))
    outcome_of(json.dumps(replaced(spec, path, data.draw(JSON))).encode())


@pytest.mark.parametrize("number", range(len(SPECS)))
@given(st.data())
def test_any_bytes_pasted_anywhere_are_a_job_or_a_refusal(number, data):
    spec = json.dumps(SPECS[number]).encode()
    at = data.draw(st.integers(0, len(spec)))
    outcome_of(spec[:at] + data.draw(st.binary(max_size=40)) + spec[at:])


@given(st.sampled_from(SPECS), st.data())
def test_the_case_of_keys_changes_nothing(spec, data):
    def shouted(value):
        if isinstance(value, dict) and not {"A"} & value.keys():  # a variable's name is no key of the format
            return {
                data.draw(st.sampled_from([str.lower, str.upper, str]))(key): shouted(v) for key, v in value.items()
            }
        return [shouted(item) for item in value] if isinstance(value, list) else value

    assert outcome_of(json.dumps(shouted(spec)).encode()) == outcome_of(json.dumps(spec).encode())


@given(st.sampled_from(SPECS), st.randoms(use_true_random=False))
def test_the_order_of_keys_changes_nothing(spec, random):
    keys = list(spec)
    random.shuffle(keys)

    assert outcome_of(json.dumps({key: spec[key] for key in keys}).encode()) == outcome_of(json.dumps(spec).encode())


@given(st.text(max_size=30))
def test_any_text_is_an_amount_or_none(text):
    for read in (cpu_millis, byte_count):
        value = read(text)
        assert value is None or 0 <= value < 2**140


#: name -> bytes that a careless reader would take long for, or much memory
HEAVY = {
    "brackets": b"[" * MAX_SPEC_BYTES_BY_CID,
    "objects": b'{"Wasm":' * (MAX_SPEC_BYTES // 8),
    "a number": b'{"Timeout": ' + b"9" * MAX_SPEC_BYTES_BY_CID,
    "a fraction": b'{"Engine": "wasm", "Timeout": 0.' + b"9" * 16_000 + b"}",
    "an exponent": b'{"Engine": "wasm", "Timeout": 1e' + b"9" * 4_000 + b"}",
    "digits in a word": json.dumps({**SPECS[0], "Resources": {"CPU": "9" * 4096, "Memory": "1" * 4096}}).encode(),
    "many keys": json.dumps({f"k{n}": n for n in range(20_000)}).encode(),
    "many inputs": json.dumps({**SPECS[0], "inputs": [{}] * 50_000}).encode(),
    "many empty things": json.dumps({**SPECS[0], "Docker": {str(n): [] for n in range(15_000)}}).encode(),
    "a long CID": json.dumps(
        {"Engine": "wasm", "Wasm": {"EntryModule": {**CONTENT, "CID": "Qm" + "1" * 4000}}}
    ).encode(),
    "a long URL": json.dumps(
        {
            **SPECS[0],
            "inputs": [{"StorageSource": "urldownload", "URL": "http://a" + "/ipfs/" * 600, "path": "/inputs"}],
        }
    ).encode(),
}


@pytest.mark.parametrize("name", HEAVY)
def test_a_heavy_spec_is_answered_soon(name):
    began = time.process_time()
    outcome_of(HEAVY[name])

    assert time.process_time() - began < WORST_SECONDS
