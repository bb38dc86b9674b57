"""A part of `./dev soak`: seeded runs of the real loops on a simulated chain, and deliberate faults that must show."""

import os

import pytest

from tests.simulation.__main__ import replay, summary
from tests.simulation.mutants import MUTANTS
from tests.simulation.runs import run_seed

BASE = int(os.environ.get("INSULA_TEST_SEED", "1"))
SEEDS = 25  # of each of the parts below
PARTS = 5
ENOUGH = 300  # within so many seeds a deliberate fault shows


@pytest.mark.parametrize("part", range(PARTS))
def test_nothing_is_lost_doubled_or_mixed_up_and_all_comes_to_rest(part):
    first = BASE + part * SEEDS
    runs = [run_seed(seed) for seed in range(first, first + SEEDS)]
    print(summary(runs, 0.0))
    failed = [f"{run.violation}; again: {replay(run.seed)}" for run in runs if run.violation]
    assert failed == []


def test_a_seed_gives_the_same_run_again():
    once, again = [], []
    run_seed(BASE, trace=once.append)
    run_seed(BASE, trace=again.append)
    assert once == again


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", MUTANTS)
def test_a_deliberate_fault_shows(name):
    assert any(run_seed(seed, MUTANTS[name]()).violation for seed in range(1, 1 + ENOUGH))
