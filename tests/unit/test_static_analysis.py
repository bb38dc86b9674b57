"""What the check over Slither's report lets through."""

import pytest

from tests.static_analysis import faults

CONTRACT = {"type": "contract", "name": "C"}
FUNCTION = {"type": "function", "name": "f", "type_specific_fields": {"parent": CONTRACT}}
VARIABLE = {"type": "variable", "name": "x", "type_specific_fields": {"parent": FUNCTION}}


def report(*found):
    detectors = [{"check": c, "elements": [e], "impact": "Medium", "description": "words"} for c, e in found]
    return {"success": True, "error": None, "results": {"detectors": detectors}}


def explained(check, *at, why="meant so"):
    return [{"check": check, "at": list(at), "why": why}]


@pytest.mark.parametrize(
    ("found", "known"),
    [
        pytest.param([], [], id="nothing found, nothing explained"),
        pytest.param([("a", FUNCTION)], explained("a", "C.f"), id="a function"),
        pytest.param([("a", VARIABLE)], explained("a", "C.f.x"), id="a variable of a function"),
        pytest.param([("a", FUNCTION), ("a", FUNCTION)], explained("a", "C.f", "C.f"), id="one place twice"),
    ],
)
def test_explained_findings_pass(found, known):
    assert faults(report(*found), known) == []


@pytest.mark.parametrize(
    ("found", "known", "words"),
    [
        pytest.param([("a", FUNCTION)], [], "a at C.f is not explained", id="no explanation"),
        pytest.param([("a", FUNCTION)], explained("b", "C.f"), "a at C.f is not", id="of another detector"),
        pytest.param([("a", FUNCTION)], explained("a", "C.g"), "a at C.f is not", id="of another place"),
        pytest.param([("a", FUNCTION)], explained("a", "C.f", why=" "), "a at C.f is not", id="without a reason"),
        pytest.param([("a", FUNCTION)] * 2, explained("a", "C.f"), "a at C.f is not", id="a second one at one place"),
        pytest.param([], explained("a", "C.f"), "a at C.f is explained and no longer found", id="what is mended"),
    ],
)
def test_a_finding_without_an_explanation_fails_and_so_does_an_explanation_without_a_finding(found, known, words):
    assert faults(report(*found), known)[0].startswith(words)


def test_a_report_of_a_failure_is_no_report():
    with pytest.raises(SystemExit, match="no solc"):
        faults({"success": False, "error": "no solc", "results": {}}, [])
