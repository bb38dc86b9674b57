"""The checked-in mutations of the contracts still fit the sources. Whether the tests notice them: `./dev mutate`."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LISTED = json.loads((ROOT / "hardhat" / "mutations.json").read_text(encoding="utf-8"))
MUTATIONS, EQUIVALENT = LISTED["mutations"], LISTED["equivalent"]
AT_LEAST = 60
# Each has rules of its own to take away.
MUST_HAVE = {
    "ComputeBridge.sol",
    "ComputeLens.sol",
    "NodeRegistry.sol",
    "client/ComputeClient.sol",
    "client/PayerRefunds.sol",
    "libraries/Quorum.sol",
    "libraries/WireRules.sol",
    "lilypad/LilypadV0.sol",
}


@pytest.mark.parametrize("mutation", MUTATIONS + EQUIVALENT, ids=lambda m: f"{m['file']}: {m['why']}")
def test_a_mutation_changes_a_text_that_stands_exactly_once(mutation):
    source = (ROOT / "contracts" / mutation["file"]).read_text(encoding="utf-8")
    hint = "the source moved on: mend the mutation in hardhat/mutations.json"
    assert source.count(mutation["text"]) == 1, hint
    assert mutation["instead"] != mutation["text"]
    assert mutation["why"].strip()


def test_every_mutation_names_tests_that_are_there():
    named = {test for mutation in MUTATIONS for test in mutation["tests"]}
    assert all(mutation["tests"] for mutation in MUTATIONS)
    assert {name for name in named if not (ROOT / "hardhat" / "test" / name).is_file()} == set()


def test_no_mutation_is_listed_twice():
    changes = [(m["file"], m["text"], m["instead"]) for m in MUTATIONS + EQUIVALENT]
    assert len(set(changes)) == len(changes)


def test_the_list_reaches_every_contract_with_rules_of_its_own():
    assert len(MUTATIONS) >= AT_LEAST
    assert {mutation["file"] for mutation in MUTATIONS} >= MUST_HAVE
