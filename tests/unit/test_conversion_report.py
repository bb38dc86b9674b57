"""The report of a conversion: every field and what became of it, in bytes that never change; its hash in receipts."""

import hashlib
import json
from pathlib import Path

import pytest

from executor.protocol.canonical import canonical_json
from executor.protocol.conversions import conversion_problem, conversion_report, report
from executor.protocol.dialects.report import FORMAT, report_bytes, report_hash
from executor.protocol.spec import converted
from executor.protocol.wire import Dialect, Order

DIALECTS = (Dialect.BACALHAU_V1BETA, Dialect.BACALHAU_1X, Dialect.LILYPAD_MODULE)
GOLDEN = Path(__file__).resolve().parents[1] / "vectors" / "dialects"
#: dialect -> the spec whose report is beside it
FILES = {
    Dialect.BACALHAU_V1BETA: "v1beta.json",
    Dialect.BACALHAU_1X: "bacalhau-1.x.yaml",
    Dialect.LILYPAD_MODULE: "lilypad.json",
}
#: a spec that none of the dialects takes, for a reason of its own
BAD = b'{"x": 1e999}'


def spec_of(dialect):
    return (GOLDEN / FILES[dialect]).read_bytes()


def order(dialect, spec=None, **changes):
    return Order(spec=spec_of(dialect) if spec is None else spec, ttl=60, dialect=int(dialect), **changes)


def rows(dialect, spec=None):
    return report(spec_of(dialect) if spec is None else spec, 1, dialect)["fields"]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_spec_of_the_vectors_keeps_its_report_byte_for_byte(dialect):
    """Receipts hold its hash: where this fails, a word of a table was changed, so FORMAT needs a new number."""
    kept = GOLDEN / (FILES[dialect].rsplit(".", 1)[0] + ".report.json")

    assert report_bytes(report(spec_of(dialect), 1, dialect)) == kept.read_bytes()


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_report_pins_the_spec_and_what_it_became(dialect):
    found = report(spec_of(dialect), 2, dialect)

    assert (found["format"], found["dialect"], found["quorum"]) == (FORMAT, int(dialect), 2)
    assert found["sourceSha256"] == hashlib.sha256(spec_of(dialect)).hexdigest()
    spec = converted(spec_of(dialect), 2, dialect)[1].spec
    assert found["specSha256"] == hashlib.sha256(canonical_json(spec)).hexdigest()


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_row_has_path_and_values_before_and_after_and_why(dialect):
    for row in rows(dialect):
        assert set(row) == {"path", "action", "old", "to", "new", "why"}
        assert row["action"] in ("mapped", "overridden", "defaulted")
        assert row["why"]
        assert (row["action"] == "defaulted") == (row["path"] == "")


V1BETA = {"Engine": "docker", "Docker": {"Image": f"sha256:{'0' * 64}"}}


def v1beta(**changes):
    spec = json.dumps({**V1BETA, **changes}).encode()
    return {row["path"] or row["to"]: row for row in rows(Dialect.BACALHAU_V1BETA, spec)}


def test_a_field_that_is_mapped_says_where_it_went():
    assert v1beta(Resources={"CPU": "500m"})["Resources.CPU"] == {
        "path": "Resources.CPU",
        "action": "mapped",
        "old": "500m",
        "to": "limits.cpuMillis",
        "new": 500,
        "why": "cores (`500m`, `1.5`), rounded up and raised to the smallest limit",
    }


def test_a_field_that_is_overridden_says_by_what():
    row = v1beta(Resources={"CPU": "1m"})["Resources.CPU"]

    assert (row["action"], row["old"], row["new"]) == ("overridden", "1m", 100)
    assert row["why"] == "raised to the smallest limit, 100"


def test_what_the_author_did_not_say_is_defaulted():
    found = v1beta()

    assert (found["limits.wallSeconds"]["action"], found["limits.wallSeconds"]["new"]) == ("defaulted", 600)
    assert (found["engine.workdir"]["new"], found["engine.tier"]["new"]) == ("/", "container")
    assert found["Docker.WorkingDirectory"]["action"] == "overridden"
    assert v1beta(Docker={**V1BETA["Docker"], "WorkingDirectory": "/a"}).get("engine.workdir") is None


def test_a_network_is_told_by_its_words_and_by_what_they_became():
    found = v1beta(Network={"Type": "HTTP", "Domains": ["a.example"]})

    allow = [{"host": "a.example", "ports": [80, 443]}]
    assert (found["Network.Type"]["to"], found["Network.Type"]["new"]) == ("network", {"allow": allow})
    assert (found["Network.Domains"]["to"], found["Network.Domains"]["new"]) == ("network.allow", allow)
    assert found["Network.Domains"]["action"] == "mapped"


@pytest.mark.parametrize("value", [None, "", [], {}])
def test_a_field_that_says_nothing_is_told_as_such(value):
    assert v1beta(Annotations=value)["Annotations"]["why"] == "says nothing"


def test_a_section_of_another_engine_is_told_even_where_the_format_does_not_have_its_fields():
    assert v1beta(Wasm={"x": False})["Wasm.x"]["why"] == "says nothing"


def test_a_list_is_one_row_where_its_entries_have_no_rows_of_their_own():
    row = v1beta(NodeSelectors=[{"Key": "a", "Operator": "exists"}])["NodeSelectors"]

    assert (row["old"], row["to"], row["new"]) == ([{"Key": "a", "Operator": "exists"}], "selector", "a")


@pytest.mark.parametrize(
    ("text", "shown"),
    [("1e999", "inf"), ("-1e999", "-inf"), ("12345678901234567890", "12345678901234567890"), ("1e17", "1e+17"),
     ("[1e999, 1]", ["inf", 1]), ('{"a": 1e999}', {"a": "inf"}), ("1", 1), ("true", True), ("1.5", 1.5),
     (str(2**53 - 1), 2**53 - 1), (str(-(2**53)), str(-(2**53)))],
)  # fmt: skip
def test_a_number_that_parsers_read_differently_is_told_as_text(text, shown):
    spec = json.dumps({**V1BETA, "DoNotTrack": 0}).replace('"DoNotTrack": 0', f'"DoNotTrack": {text}').encode()

    (row,) = [row for row in rows(Dialect.BACALHAU_V1BETA, spec) if row["path"] == "DoNotTrack"]
    assert row["old"] == shown


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_refusal_has_a_report_that_names_the_field(dialect):
    found = report(BAD, 1, dialect)

    assert "specSha256" not in found
    (row,) = found["fields"]
    assert (row["action"], found["reason"]) == ("refused", row["why"])


def test_a_refusal_shows_the_value_that_is_wrong():
    found = report(json.dumps({**V1BETA, "Resources": {"GPU": "2"}}).encode(), 1, Dialect.BACALHAU_V1BETA)

    assert found["reason"] == "SPEC_UNSUPPORTED"
    assert found["fields"] == [
        {"path": "Resources.GPU", "action": "refused", "old": "2", "to": "", "new": None, "why": "SPEC_UNSUPPORTED"}
    ]


@pytest.mark.parametrize("data", [b"", b"\xff", b"[" * 100])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_bytes_that_are_no_spec_have_a_report_too(dialect, data):
    (row,) = report(data, 1, dialect)["fields"]

    assert (row["path"], row["old"]) == ("spec", None)


def test_a_receipt_holds_the_hash_of_the_report():
    dialect = Dialect.LILYPAD_MODULE
    said = conversion_report(order(dialect), spec_of(dialect))

    assert said["reportSha256"] == hashlib.sha256(report_bytes(report(spec_of(dialect), 1, dialect))).hexdigest()
    assert (said["format"], said["dialect"]) == (FORMAT, 4)
    assert conversion_report(order(dialect, BAD), BAD) == {
        "format": FORMAT,
        "dialect": 4,
        "reason": "SPEC_MISSING_FIELD",
        "reportSha256": report_hash(report(BAD, 1, dialect)).hex(),
    }


#: name -> an order whose spec is not converted
NOT_CONVERTED = {
    "our own format": order(Dialect.INSULA_V1, b"{}"),
    "another version": order(Dialect.BACALHAU_1X, version=2),
    "a dialect that nobody reads": order(5, b"{}"),
    "a spec by CID that was not read": order(Dialect.BACALHAU_1X, b"cid", spec_is_cid=True),
}


@pytest.mark.parametrize("name", NOT_CONVERTED)
def test_what_is_not_converted_has_no_report_in_its_receipt(name):
    placed = NOT_CONVERTED[name]

    assert conversion_report(placed, placed.spec) is None
    assert conversion_problem(placed, placed.spec, None) == ""
    assert "is not converted" in conversion_problem(placed, placed.spec, {"dialect": 2})


def without(said, *names):
    return {key: value for key, value in said.items() if key not in names}


#: name -> (what a receipt says in place of the truth, what is said of it)
TOLD = {
    "the truth": (lambda said: said, ""),
    "a receipt from before reports": (lambda said: without(said, "format", "reportSha256"), ""),
    "another report": (lambda said: {**said, "reportSha256": "00" * 32}, "conversion.reportSha256 is '0000"),
    "no report": (lambda said: without(said, "reportSha256"), "conversion.reportSha256 is None"),
    "another spec": (lambda said: {**said, "specSha256": "00" * 32}, "conversion.specSha256 is '0000"),
    "other changes": (lambda said: {**said, "changes": []}, "conversion.changes is []"),
    "another dialect": (lambda said: {**said, "dialect": 1}, "conversion.dialect is 1"),
    "something more": (lambda said: {**said, "x": 1}, "conversion.x is 1"),
    "a format to come": (lambda said: {**said, "format": "insula-conversion/3"}, "this program reads"),
    "another spec, from before reports": (lambda said: {**without(said, "format", "reportSha256"), "dialect": 1},
                                          "tells of another conversion"),
    "nothing": (lambda _: None, "tells of another conversion"),
    "a word": (lambda _: "converted", "tells of another conversion"),
}  # fmt: skip


@pytest.mark.parametrize("name", TOLD)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_receipt_that_tells_of_another_conversion_is_named(dialect, name):
    told, problem = TOLD[name]
    placed = order(dialect)

    found = conversion_problem(placed, placed.spec, told(conversion_report(placed, placed.spec)))

    assert (found == "") == (problem == "")
    assert problem in found


@pytest.mark.parametrize(
    ("told", "holds"),
    [(lambda said: said, True), (lambda _: None, True), (lambda said: without(said, "format"), False),
     (lambda said: {**said, "reason": "BAD_CID"}, False)],
    ids=["the truth", "a receipt from before reports", "half of it", "another reason"],
)  # fmt: skip
def test_a_receipt_of_a_refusal_is_held_to_its_reason(told, holds):
    placed = order(Dialect.BACALHAU_1X, BAD)

    assert (conversion_problem(placed, BAD, told(conversion_report(placed, BAD))) == "") == holds
