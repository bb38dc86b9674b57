"""Each numbered scenario has its tests, and docs/scenarios.md tells of exactly these."""

import ast
import re
from pathlib import Path

FOLDER = Path(__file__).parent
DOCS = FOLDER.parents[1] / "docs" / "scenarios.md"

LISTENER = {f"S{n:02d}" for n in range(1, 45)}
WRITER = {f"S{n:02d}" for n in range(45, 71)} | {"S57b"}


def named():
    """Scenario -> names of its tests, as they stand in this folder's files."""
    found = {}
    for path in sorted(FOLDER.glob("test_*.py")):
        for node in ast.parse(path.read_text()).body:
            match = re.match(r"test_(S\d\d[a-z]?)_", getattr(node, "name", ""))
            if isinstance(node, ast.FunctionDef) and match:
                found.setdefault(match[1], []).append(node.name)
    return found


def rows():
    """The cells of the table's rows: number, what happens, what must hold, tests."""
    text = DOCS.read_text().split("<!-- scenarios: begin", 1)[1].split("-->", 1)[1].split("<!-- scenarios: end", 1)[0]
    lines = [line for line in text.strip().splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_every_numbered_scenario_has_a_test():
    assert set(named()) == LISTENER | WRITER


def test_the_table_of_scenarios_names_every_test_of_each():
    table = {number: re.findall(r"`(test_\w+)`", cell) for number, _, _, cell in rows()}
    assert table == named()


def test_no_scenario_is_named_twice_in_the_table():
    numbers = [number for number, *_ in rows()]
    assert numbers == sorted(set(numbers))
    assert all(happens and holds for _, happens, holds, _ in rows())
