"""Operator-supplied scanners: what the policy says of them, and what of their words is an answer."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.audit.policy import Policy
from executor.audit.rules import Finding
from executor.audit.scananswer import BadAnswer, findings_of
from executor.audit.scannerrules import Scanner
from executor.errors import InvalidInput

PATHS = {"outputs", "outputs/a.csv", "stdout"}
SHA = "ab" * 32
MODULE = {"name": "rows", "module": "rows.wasm", "sha256": SHA}
FINDING = {"path": "outputs/a.csv", "rule": "k-anonymity", "text": "too few"}


def said(**fields):
    return json.dumps({"verdict": "finding", **fields}).encode()


def test_a_clean_answer_has_no_findings():
    assert findings_of(b'{"verdict": "clean"}', PATHS, "rows") == ()
    assert findings_of(b'{"verdict": "clean", "findings": []}', PATHS, "rows") == ()


def test_a_finding_names_scanner_rule_path_and_text():
    whole = {"path": "", "rule": "size", "text": "line\x1b[2Jone\ntwo"}

    assert findings_of(said(findings=[FINDING, whole]), PATHS, "rows") == (
        Finding("scanner rows, k-anonymity", "outputs/a.csv: too few"),
        Finding("scanner rows, size", ": line\\x1b[2Jone\\ntwo"),
    )


GARBAGE = {
    "nothing": b"",
    "no JSON": b"clean",
    "no UTF-8": b'{"verdict": "clean\xff"}',
    "a list": b"[]",
    "no verdict": b'{"findings": []}',
    "another verdict": b'{"verdict": "fine"}',
    "a verdict that is true": b'{"verdict": true}',
    "a verdict twice": b'{"verdict": "finding", "verdict": "clean"}',
    "another field": b'{"verdict": "clean", "release": true}',
    "clean with findings": json.dumps({"verdict": "clean", "findings": [FINDING]}).encode(),
    "a finding without findings": b'{"verdict": "finding"}',
    "findings that are no list": said(findings={}),
    "too many findings": said(findings=[FINDING] * 21),
    "a finding that is text": said(findings=["x"]),
    "a finding with a field less": said(findings=[{"path": "stdout", "rule": "x"}]),
    "a finding with a field more": said(findings=[FINDING | {"severity": 1}]),
    "a path that is a number": said(findings=[FINDING | {"path": 1}]),
    "a rule that is a list": said(findings=[FINDING | {"rule": []}]),
    "a text that is null": said(findings=[FINDING | {"text": None}]),
    "a path that is not there": said(findings=[FINDING | {"path": "outputs/b.csv"}]),
    "a path that leads away": said(findings=[FINDING | {"path": "outputs/../stdout"}]),
    "an absolute path": said(findings=[FINDING | {"path": "/etc/passwd"}]),
    "a rule that is no word": said(findings=[FINDING | {"rule": "a\nb"}]),
    "a long text": said(findings=[FINDING | {"text": "x" * 501}]),
    "deep nesting": b"[" * 5000,
    "a lone surrogate": b'{"verdict": "\\ud800"}',
}


@pytest.mark.parametrize("name", GARBAGE, ids=[f"abuse {name}" for name in GARBAGE])
def test_what_is_not_exactly_an_answer_is_none(name):
    with pytest.raises(BadAnswer):
        findings_of(GARBAGE[name], PATHS, "rows")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.sampled_from(["verdict", "findings", "path", "rule", "text"]), x),
    )
)
def test_whatever_a_scanner_says_it_is_findings_or_no_answer(value):
    try:
        findings_of(json.dumps(value).encode(), PATHS, "rows")
    except BadAnswer:
        return


@pytest.mark.parametrize(
    ("scanner", "where"),
    [
        ({"name": "rows"}, "scanners.0"),
        (MODULE | {"image": f"sha256:{SHA}"}, "scanners.0"),
        ({"name": "rows", "module": "rows.wasm"}, "scanners.0"),
        ({"name": "rows", "image": f"sha256:{SHA}", "sha256": SHA}, "scanners.0"),
        ({"name": "rows", "image": "rows:latest"}, "scanners.0.image"),
        (MODULE | {"sha256": "AB" * 32}, "scanners.0.sha256"),
        (MODULE | {"name": "Rows"}, "scanners.0.name"),
        (MODULE | {"name": "a\nb"}, "scanners.0.name"),
        (MODULE | {"on_finding": "release"}, "scanners.0.on_finding"),
        (MODULE | {"wall_seconds": 0}, "scanners.0.wall_seconds"),
        (MODULE | {"memory_bytes": 1}, "scanners.0.memory_bytes"),
        (MODULE | {"network": True}, "scanners.0.network"),
        (MODULE | {"on_finding": "hold"}, ""),
    ],
    ids=[
        "no program", "two programs", "no hash", "a second hash", "a tag", "upper case", "a name",
        "a name of two lines", "another action", "no time", "no memory", "unknown key", "hold, and nobody decides",
    ],
)  # fmt: skip
def test_a_scanner_that_is_not_valid_is_refused_by_the_name_of_its_field(scanner, where):
    with pytest.raises(InvalidInput) as caught:
        Policy.parse({"scanners": [scanner]}, "policy.toml")

    assert caught.value.field == (f"policy.toml.{where}" if where else "policy.toml")


def test_two_scanners_have_two_names():
    with pytest.raises(InvalidInput, match="same name"):
        Policy.parse({"scanners": [MODULE, MODULE]})


def test_a_scanner_says_what_runs_and_where():
    module, image = Scanner(**MODULE), Scanner(name="rows", image=f"rows@sha256:{SHA}", tier="gvisor")

    assert (module.program, module.needed_tier) == (f"sha256:{SHA}", "wasm")
    assert (image.program, image.needed_tier) == (f"rows@sha256:{SHA}", "gvisor")


def test_a_scanner_may_hold_where_people_decide():
    signer = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"

    policy = Policy.parse(
        {"scanners": [MODULE | {"on_finding": "hold"}], "release": {"mode": "person", "signers": [signer]}}
    )

    assert policy.scanners[0].on_finding == "hold"
    assert policy.hash != Policy.parse({"release": {"mode": "person", "signers": [signer]}}).hash
