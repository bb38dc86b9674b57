"""Receipts: canonical bytes of an in-toto statement, read back strictly; canonical JSON itself."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.errors import InvalidInput
from executor.protocol.canonical import DepthError, DuplicateKeyError, canonical_json, sha256, strict_json
from executor.protocol.cid import RAW, Cid
from executor.protocol.receipt import (
    Dependency,
    Run,
    dependency_cids,
    parse_receipt,
    receipt_bytes,
    receipt_hash,
)
from executor.protocol.wire import Outcome, Request, Status
from tests.bridge_kit import CHAIN_ID, CONTRACT, REQUESTER, order_of, success

INPUT = Cid.of(RAW, b"input")
OUTPUT = Cid.of(RAW, b"output")
REQUEST = Request(
    chain_id=CHAIN_ID, contract=CONTRACT, id=2**60, requester=REQUESTER, order=order_of(), deadline=2_000_000_000
)
RUN = Run(
    key="0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F",
    slot=2,
    attempt=3,
    started_at=1_800_000_000.25,
    finished_at=1_800_000_001.0,
    dependencies=(Dependency(name="input", cid=INPUT, size=5, blocks=1, source="bridge"),),
    runtime={"engine": "wasm"},
    policy={"name": "open"},
    manifest=({"path": "stdout", "bytes": 0},),
    detail="",
)


def receipt(outcome=None):
    return receipt_bytes(REQUEST, b"spec", outcome or success(OUTPUT), RUN)


def test_exchanges_and_scanners_are_byproducts_where_there_are_any():
    told = {"reproducible": False, "count": 0, "omitted": 0, "exchanges": []}
    row = {"name": "rows", "program": "sha256:ab", "tier": "wasm", "verdict": "clean"}
    run = replace(RUN, egress=told, scanners=(row,))

    byproducts = parse_receipt(receipt_bytes(REQUEST, b"spec", success(OUTPUT), run))["predicate"]["runDetails"]

    found = {one["name"]: one["annotations"] for one in byproducts["byproducts"]}
    assert (found["egress"], found["scanners"]) == (told, {"entries": [row]})
    plain = parse_receipt(receipt())["predicate"]["runDetails"]["byproducts"]
    assert {"egress", "scanners"}.isdisjoint(one["name"] for one in plain)


def test_a_receipt_names_the_request_the_outcome_and_everything_that_went_in():
    value = parse_receipt(receipt())
    definition = value["predicate"]["buildDefinition"]
    details = value["predicate"]["runDetails"]

    assert definition["externalParameters"]["requestHash"] == f"0x{REQUEST.hash.hex()}"
    assert definition["externalParameters"]["requestId"] == str(2**60)  # a string: it may pass 2**53
    assert definition["externalParameters"]["specSha256"] == sha256(b"spec").hex()
    assert details["byproducts"][0]["annotations"]["outcomeHash"] == f"0x{success(OUTPUT).hash.hex()}"
    assert details["metadata"]["startedOn"] == "2027-01-15T08:00:00.250Z"
    assert details["metadata"]["invocationId"] == f"0x{REQUEST.hash.hex()}/2/3"
    assert dependency_cids(value) == {"input": str(INPUT)}
    assert [subject["name"] for subject in value["subject"]] == ["outcome", "output"]
    assert definition["internalParameters"].keys() == {"runtime", "policy"}


def test_a_receipt_says_how_a_spec_of_another_dialect_was_read():
    report = {"dialect": 2, "specSha256": "00" * 32, "changes": []}
    value = parse_receipt(receipt_bytes(REQUEST, b"spec", success(OUTPUT), replace(RUN, conversion=report)))

    assert value["predicate"]["buildDefinition"]["internalParameters"]["conversion"] == report


def test_a_receipt_without_an_output_has_the_outcome_as_its_only_subject():
    value = parse_receipt(receipt(Outcome(status=Status.REFUSED, reason=101)))

    assert [subject["name"] for subject in value["subject"]] == ["outcome"]


def test_equal_runs_have_equal_receipts():
    assert receipt() == receipt()
    assert receipt_hash(receipt()) == sha256(receipt())


#: name -> bytes that are no receipt
NO_RECEIPTS = {
    "nothing": b"",
    "not JSON": b"{",
    "a list": b"[]",
    "another statement": b'{"_type":"https://in-toto.io/Statement/v0.1"}',
    "not canonical": json.dumps(json.loads(receipt()), indent=1).encode(),
    "a space more": receipt() + b" ",
    "a key twice": receipt()[:-1] + b',"_type":"https://in-toto.io/Statement/v1"}',
    "not UTF-8": b"\xff",
    "nested too deep": b"[" * 50 + b"]" * 50,
}


@pytest.mark.parametrize("name", NO_RECEIPTS)
def test_what_is_no_receipt_is_refused_by_name(name):
    with pytest.raises(InvalidInput) as caught:
        parse_receipt(NO_RECEIPTS[name])
    assert caught.value.field == "receipt"


@pytest.mark.parametrize(
    "value", [{}, {"predicate": []}, {"predicate": {"buildDefinition": {"resolvedDependencies": [1]}}}]
)
def test_a_receipt_without_dependencies_is_refused(value):
    with pytest.raises(InvalidInput, match="resolvedDependencies"):
        dependency_cids(value)


#: RFC 8785, section 3.2.3 (sorting by UTF-16 code units) and appendix B (numbers)
CANONICAL = {
    '{"b":1,"a":2}': '{"a":2,"b":1}',
    '{"\\u20ac":1,"\\r":2,"\\ufb33":3,"1":4,"\\ud83d\\ude00":5,"\\u0080":6,"\\u00f6":7}': (
        '{"\\r":2,"1":4,"\u0080":6,"ö":7,"€":1,"😀":5,"\ufb33":3}'
    ),
    "[1.0, 1e21, 1e-7, 0.1, -0.0]": "[1,1e+21,1e-7,0.1,0]",
    '"\\u0001\\/é"': '"\\u0001/é"',
}


@pytest.mark.parametrize("text", CANONICAL)
def test_json_has_one_canonical_form(text):
    assert canonical_json(json.loads(text)).decode() == CANONICAL[text]


@pytest.mark.parametrize("value", [2**53, float("nan"), float("inf"), object(), {1: 2}, "\ud800"])
def test_what_has_no_canonical_form_is_refused(value):
    with pytest.raises(InvalidInput, match="json"):
        canonical_json(value)


@given(st.dictionaries(st.text(max_size=8), st.integers(-(2**53) + 1, 2**53 - 1), max_size=8))
def test_the_canonical_form_reads_back_the_same(value):
    try:
        form = canonical_json(value)
    except InvalidInput:
        return  # lone surrogates
    assert strict_json(form.decode()) == value


def test_strict_json_names_the_key_that_stands_twice():
    with pytest.raises(DuplicateKeyError) as caught:
        strict_json('{"a": {"b": 1, "b": 2}}')
    assert caught.value.key == "b"


@pytest.mark.parametrize(("depth", "good"), [(16, True), (17, False)])
def test_strict_json_counts_depth_before_it_parses(depth, good):
    text = "[" * depth + "]" * depth
    if good:
        strict_json(text)
    else:
        with pytest.raises(DepthError):
            strict_json(text)


def test_brackets_inside_strings_are_no_depth():
    assert strict_json('["[[[[[[[[[[[[[[[[[[[[\\"[[[[[[[["]') == ['[[[[[[[[[[[[[[[[[[[["[[[[[[[[']


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", "-Infinity", '"\\ud800"', "1" * 21, "{} {}"])
def test_strict_json_refuses_what_parsers_disagree_on(text):
    with pytest.raises(ValueError, match=r"."):
        strict_json(text)
