"""docs/threat-model.md names a control only with a test that shows it."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "threat-model.md"


def rows():
    """The cells of the table's rows: asset, attacker, control, tests."""
    text = PAGE.read_text().split("<!-- threats: begin", 1)[1].split("-->", 1)[1].split("<!-- threats: end", 1)[0]
    lines = [line for line in text.strip().splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def suite():
    """Names of all tests in Python, and of the files of contract tests."""
    found = {path.name for path in (ROOT / "hardhat" / "test").glob("*.*")}
    for path in (ROOT / "tests").rglob("test_*.py"):
        found |= {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}
    return found


def test_every_control_names_tests_that_exist():
    known = suite()

    named = {f"{asset}, {attacker}": re.findall(r"`([^`]+)`", tests) for asset, attacker, _, tests in rows()}

    assert all(named.values())
    assert {test for tests in named.values() for test in tests} - known == set()


def test_every_row_tells_asset_attacker_and_control():
    assert len(rows()) >= 20
    assert all(asset and attacker and control for asset, attacker, control, _ in rows())
