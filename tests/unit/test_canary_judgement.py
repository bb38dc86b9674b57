"""What the canary says of a round: which source is at fault, in one line, in the light of the rounds before."""

import pytest

from bridge.canary.judgement import (
    BUDGET,
    WINDOW,
    Health,
    History,
    Limits,
    judge,
    p95,
    size_text,
    worst,
)
from bridge.canary.leaks import Leak
from bridge.canary.records import HEDGED, Blame, Fault, Fetch, Job, Round, Trouble

MIB = 2**20
SIZE = 60 * MIB
BRIDGE, GATEWAY = "bridge http://b", "gateway http://g"
NOTHING = History()


def fetch(source=BRIDGE, size=SIZE, **changes):
    """A fetch that is well."""
    fields = {
        "first_seconds": 0.1, "seconds": 2.0, "stall_seconds": 0.2, "stall_at": 12 * MIB, "bytes": size,
        "shares": ((source, size),), "attempts": 1,
    }  # fmt: skip
    return Fetch(source, size, **{**fields, **changes})


def round_of(*fetches, number=1, **changes):
    return Round(number, 1000.0, fetches=fetches, **changes)


def verdict_of(*fetches, before=NOTHING, limits=None, leaks=(), **changes):
    return judge(round_of(*fetches, **changes), before, limits or Limits(), leaks)


def test_a_round_in_which_all_came_is_well_and_says_how_fast():
    found = verdict_of(
        fetch(size=1024), fetch(), fetch(GATEWAY, first_seconds=0.3, seconds=4.04), jobs=(Job(17, 6.25, 100),)
    )

    assert (found.health, found.findings) == (Health.WELL, ())
    assert found.line == (
        "canary: all well: 1 KiB, 60 MiB by 2 ways, first block within 0.30 s, verified within 4.0 s; job 17 in 6.2 s"
    )


def test_one_way_is_one_way():
    assert " by 1 way, " in verdict_of(fetch()).line


def test_a_round_that_looked_at_nothing_says_so():
    assert verdict_of().line == "canary: all well: nothing was to be looked at"


#: name -> (what is not as in a good fetch, how the line begins)
WRONG = {
    "wrong bytes": (
        {"fault": Fault.WRONG_BYTES, "detail": "block x"},
        "60 MiB from gateway http://g: it sent wrong bytes (block x)",
    ),
    "it has it not": ({"fault": Fault.LACKS, "first_seconds": None}, "60 MiB from gateway http://g: it has it not"),
    "it fails": (
        {"fault": Fault.FAILED, "detail": "says 503", "bytes": 3 * MIB},
        "60 MiB from gateway http://g failed after 3 MiB: says 503",
    ),
    "it is silent": (
        {"fault": Fault.STALLED, "first_seconds": None, "seconds": 46.2},
        "60 MiB from gateway http://g: no whole block in 46.2 s",
    ),
    "it stalls for good": (
        {"fault": Fault.STALLED, "stall_seconds": 40.0, "bytes": 13 * MIB},
        "60 MiB from gateway http://g stalled 40.0 s after 12 MiB; 13 MiB came in all",
    ),
    "it stalls and goes on": ({"stall_seconds": 10.2}, "60 MiB from gateway http://g stalled 10.2 s after 12 MiB"),
    "its first block is late": ({"first_seconds": 7.04}, "60 MiB from gateway http://g: first block after 7.0 s"),
    "it is slow": ({"seconds": 71.0}, "60 MiB from gateway http://g took 71.0 s, more than 65.0 s"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_with_a_source_is_one_line_that_clears_the_others(what):
    changes, words = WRONG[what]

    found = verdict_of(fetch(), fetch(GATEWAY, **changes), fetch(HEDGED), jobs=(Job(1, 1.0, 0),))

    assert found.health is Health.WRONG
    assert found.line == f"canary: {words}; other sources fine; jobs fine"
    assert [finding.subject for finding in found.findings] == [GATEWAY]


def test_a_single_source_that_fails_clears_nobody():
    assert verdict_of(fetch(fault=Fault.LACKS)).line == "canary: 60 MiB from bridge http://b: it has it not"


def test_the_same_fault_of_several_sizes_is_told_once_and_milder_ones_not_at_all():
    found = verdict_of(
        fetch(size=1024, first_seconds=6.0),
        fetch(size=MIB, fault=Fault.LACKS),
        fetch(fault=Fault.LACKS),
        fetch(GATEWAY),
    )

    assert found.line == "canary: 1 MiB, 60 MiB from bridge http://b: it has it not; other sources fine"


def test_the_worst_source_is_named_first_and_at_most_three_findings():
    found = verdict_of(
        fetch("a", seconds=100.0),
        fetch("b", fault=Fault.STALLED, stall_seconds=10.0),
        fetch("c", fault=Fault.WRONG_BYTES, detail="x"),
        fetch("d", fault=Fault.FAILED, detail="y"),
    )

    assert [finding.subject for finding in found.findings] == ["c", "d", "b", "a"]
    assert found.line.endswith("; 60 MiB came in all; and 1 more")


#: whose trouble -> (what it makes of the round)
BLAMED = {Blame.NETWORK: Health.WRONG, Blame.UNREACHABLE: Health.UNREACHABLE, Blame.OWN: Health.BLIND}


@pytest.mark.parametrize("blame", BLAMED)
def test_a_trouble_is_told_with_whose_it_is(blame):
    found = verdict_of(fetch(), troubles=(Trouble("job", "no job was ordered", blame),))

    assert (found.health, found.line) == (BLAMED[blame], "canary: no job was ordered; content fine")


def test_what_is_wrong_with_the_network_comes_before_what_is_the_canarys_own():
    found = verdict_of(
        fetch(fault=Fault.LACKS), troubles=(Trouble("job", "no funds", Blame.OWN), Trouble("kubo", "kubo is away"))
    )

    assert found.health is Health.WRONG
    assert found.line == "canary: 60 MiB from bridge http://b: it has it not; kubo is away; no funds"


def test_a_job_that_went_wrong_is_not_called_fine():
    found = verdict_of(fetch(), troubles=(Trouble("job", "job 7 ended as FAILED"),), jobs=(Job(6, 1.0, 0),))

    assert found.line == "canary: job 7 ended as FAILED; content fine"


def test_a_leak_is_a_finding():
    found = verdict_of(fetch(), leaks=[Leak("this canary", "fds", 20, 31, 9)])

    assert found.line == "canary: this canary leaks: from 20 to 31 open files in 9 rounds; content fine"


# --- several rounds


def history_of(*healths, **changes):
    history = History()
    for number, health in enumerate(healths):
        history = history.add(round_of(fetch(**changes), number=number), health)
    return history


def test_one_slow_round_of_twenty_is_no_finding_and_two_are():
    slow = fetch(seconds=100.0)

    assert verdict_of(slow, before=history_of(*[Health.WELL] * 19)).health is Health.WELL
    before = history_of(*[Health.WELL] * 18).add(round_of(slow), Health.WELL)
    assert verdict_of(slow, before=before).health is Health.WRONG


def test_slow_rounds_of_before_are_not_held_against_a_fast_one():
    assert verdict_of(fetch(), before=history_of(Health.WRONG, seconds=100.0)).findings == ()


def test_the_limit_grows_with_the_size():
    limits = Limits(first_seconds=1.0, bytes_per_second=2 * MIB)

    assert limits.seconds_for(60 * MIB) == 31.0
    assert verdict_of(fetch(seconds=32.0), limits=limits).health is Health.WRONG


def test_only_so_many_rounds_are_remembered():
    history = history_of(*[Health.WELL] * (WINDOW + 5))

    assert (len(history.rounds), len(history.healths)) == (WINDOW, WINDOW)
    assert history.rounds[-1].number == WINDOW + 4


def test_a_round_that_is_well_after_too_many_that_were_not_says_so():
    before = history_of(Health.WRONG, Health.UNREACHABLE, *[Health.WELL] * 7)

    found = verdict_of(fetch(), before=before)

    assert found.burn == pytest.approx(2 / 10 / BUDGET)
    assert found.health is Health.WELL
    assert found.line.startswith("canary: well now, but 2 of the last 10 rounds were not: 60 MiB by 1 way")


def test_one_wrong_round_of_twenty_is_within_the_budget():
    before = history_of(Health.WRONG, *[Health.WELL] * 18)

    assert verdict_of(fetch(), before=before).burn == pytest.approx(1.0)
    assert verdict_of(fetch(), before=before).line.startswith("canary: all well")


def test_rounds_that_could_not_look_burn_nothing():
    blind = verdict_of(troubles=(Trouble("upload", "no", Blame.OWN),), before=history_of(Health.BLIND))

    assert (blind.health, blind.burn) == (Health.BLIND, 0.0)
    assert History(healths=(Health.BLIND, Health.WRONG)).burn(Health.BLIND) == pytest.approx(1 / BUDGET)


def test_quantiles_are_of_what_came_in_the_last_rounds():
    before = history_of(Health.WELL).add(
        round_of(fetch(first_seconds=0.5, seconds=8.0, stall_seconds=3.0)), Health.WELL
    )
    found = verdict_of(
        fetch(), fetch(GATEWAY, fault=Fault.FAILED), fetch(size=1, first_seconds=None, seconds=0.1), before=before
    )

    by_key = {(quantile.source, quantile.size): quantile for quantile in found.quantiles}
    largest = by_key[BRIDGE, SIZE]
    assert (largest.first_seconds, largest.seconds, largest.stall_seconds) == (0.5, 8.0, 3.0)
    assert (by_key[GATEWAY, SIZE].seconds, by_key[GATEWAY, SIZE].stall_seconds) == (None, 0.0)
    assert by_key[BRIDGE, 1].first_seconds is None


@pytest.mark.parametrize(
    ("values", "wanted"), [([], None), ([3.0], 3.0), ([1.0, 9.0], 9.0), (list(range(1, 21)), 19), (range(1, 101), 95)]
)
def test_p95_is_by_nearest_rank(values, wanted):
    assert p95(list(values)) == wanted


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (60 * MIB, "60 MiB"), (12 * MIB + MIB // 2, "12.5 MiB"),
     (2**30, "1 GiB"), (5 * 2**40, "5120 GiB")],
)  # fmt: skip
def test_sizes_are_told_in_units(size, text):
    assert size_text(size) == text


def test_the_worst_of_several_rounds_counts():
    assert worst([]) is Health.WELL
    assert worst([Health.WELL, Health.BLIND, Health.UNREACHABLE]) is Health.UNREACHABLE
    assert worst([Health.UNREACHABLE, Health.WRONG]) is Health.WRONG
