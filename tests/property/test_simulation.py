"""A part of `./dev soak`: seeded runs of the real loops on a simulated chain, and deliberate faults that must show."""

import os

import pytest

from tests.simulation.__main__ import replay, summary
from tests.simulation.faults import Aim
from tests.simulation.kills import RARE, places
from tests.simulation.mutants import MUTANTS
from tests.simulation.rules import Rule
from tests.simulation.runs import run_seed
from tests.simulation.world import Parts

BASE = int(os.environ.get("INSULA_TEST_SEED", "1"))
SEEDS = 25  # of each of the parts below
PARTS = 5
ENOUGH = 300  # within so many seeds a deliberate fault shows, and every transaction is met


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


@pytest.mark.timeout(600)  # where the seeds of kills.RARE are no longer right
@pytest.mark.parametrize("moment", ["commit", "after"])  # dying at the begin leaves what dying at the commit leaves
@pytest.mark.parametrize("place", places())
def test_a_bridge_that_dies_in_any_transaction_or_right_after_it_goes_on(place, moment):
    for seed in (RARE.get(place, 1), *range(1, 1 + ENOUGH)):
        run = run_seed(seed, Parts(aim=Aim((place,), moment)))
        assert run.violation == ""
        if run.killed_at[place, moment]:
            return
    pytest.fail(f"no run came to {place}")


@pytest.mark.timeout(600)  # where the seeds of MUTANTS are no longer right
@pytest.mark.parametrize(
    ("name", "rule"),
    [pytest.param(name, rule, id=f"{name}: {rule.name}") for name in MUTANTS for rule in MUTANTS[name].breaks],
)
def test_a_deliberate_fault_shows(name, rule):
    mutant = MUTANTS[name]
    seeds = (mutant.breaks[rule], *range(1, 1 + ENOUGH))
    assert any(run_seed(seed, mutant.parts()).broken is rule for seed in seeds)


def test_every_rule_is_broken_by_some_deliberate_fault():
    assert {rule for mutant in MUTANTS.values() for rule in mutant.breaks} == set(Rule)


def test_the_places_that_few_runs_come_to_are_there():
    assert set(RARE) <= set(places())
