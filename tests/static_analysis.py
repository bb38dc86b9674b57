"""Slither over the contracts, `python -m tests.static_analysis`: what it finds of high or medium impact is explained.

Explanations are in hardhat/slither.json: which detector, at which places, and why that is no fault. A place is
`Contract.function` or `Contract.function.variable`, without line numbers, and is named as often as it is found. What is
found and not explained fails, and so does what is explained and no longer found. Slither has an environment of its own
(`.venv/slither`, requirements-slither.lock), because it wants an older web3 than we do.
"""

import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
HARDHAT = ROOT / "hardhat"
EXPLAINED = HARDHAT / "slither.json"
SLITHER = ROOT / ".venv" / "slither" / "bin" / "slither"
SECONDS = 300
OPTIONS = (
    "--npx-disable",
    "--hardhat-ignore-compile",
    "--exclude-dependencies",
    "--exclude-informational",
    "--exclude-low",
    "--exclude-optimization",
)

Place = tuple[str, str]


def place_of(element: dict[str, Any]) -> str:
    """`Contract.function` of an element as Slither writes it."""
    parent = element.get("type_specific_fields", {}).get("parent")
    name = str(element["name"])
    return f"{place_of(parent)}.{name}" if parent else name


def findings(report: dict[str, Any]) -> Iterator[tuple[Place, str]]:
    """Detector and place of each finding, and what Slither says about it."""
    if not report["success"]:
        raise SystemExit(f"Slither failed: {report['error']}")
    for found in report["results"].get("detectors", []):
        elements = found["elements"]
        yield (found["check"], place_of(elements[0]) if elements else ""), f"{found['impact']}: {found['description']}"


def faults(report: dict[str, Any], explained: list[dict[str, Any]]) -> list[str]:
    """What is found and not explained, and what is explained and not found."""
    unexplained = Counter((entry["check"], at) for entry in explained if entry["why"].strip() for at in entry["at"])
    wrong = []
    for place, description in findings(report):
        unexplained[place] -= 1
        if unexplained[place] < 0:
            wrong.append(f"{place[0]} at {place[1]} is not explained in {EXPLAINED.name}. {description}")
    stale = [f"{check} at {at} is explained and no longer found" for (check, at), n in unexplained.items() if n > 0]
    return wrong + stale


def analyse(folder: Path) -> dict[str, Any]:
    """Slither's report on the contracts as they are now; `folder` becomes what it takes for a Hardhat project."""
    script = ["node", "--import", "tsx", "scripts/export-asts.ts", folder]
    subprocess.run(script, cwd=HARDHAT, check=True, timeout=SECONDS)
    (folder / "contracts").symlink_to(ROOT / "contracts")
    (folder / "node_modules").symlink_to(HARDHAT / "node_modules")
    (folder / "hardhat.config.js").touch()
    report = folder / "report.json"
    command = [SLITHER, ".", *OPTIONS, "--json", report]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False)
    # It exits with 255 where there are findings.
    if not report.exists():
        raise SystemExit(f"Slither ended with {done.returncode}:\n{done.stderr[-4000:]}")
    # A function that it cannot read is left out of the analysis with no more than this.
    if "ERROR:" in done.stderr:
        raise SystemExit(f"Slither could not analyse everything:\n{done.stderr[:4000]}")
    return dict(json.loads(report.read_text(encoding="utf-8")))


def main() -> int:
    """0 where every finding is explained, else 1."""
    with tempfile.TemporaryDirectory(prefix="insula-slither-") as folder:
        report = analyse(Path(folder))
    wrong = faults(report, json.loads(EXPLAINED.read_text(encoding="utf-8")))
    for fault in wrong:
        print(f"slither: {fault}")
    if not wrong:
        print(f"slither: {len(list(findings(report)))} findings of high or medium impact, each explained")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
