"""Whether a process that lives long is said to hold more and more."""

import pytest

from bridge.canary.leaks import ROUNDS, WARM_UP, Series, figures_in
from bridge.canary.records import Figures

MIB = 2**20
ENOUGH = WARM_UP + 2 * ROUNDS


def leaks(figures):
    series = Series()
    for each in figures:
        series = series.add(each)
    return [str(leak) for leak in series.leaks("it")]


def steady(rounds=ENOUGH, **changes):
    return [Figures(**{"fds": 20, "threads": 4, "rss_bytes": 100 * MIB, **changes})] * rounds


#: name -> (figures of each round, what is said)
CASES = {
    "nothing grows": (steady(100), []),
    "too few rounds to say": ([Figures(fds=n * 50) for n in range(ENOUGH - 1)], []),
    "a file a round": (
        [Figures(20 + n, 4, 100 * MIB) for n in range(ENOUGH)], ["it leaks: from 23 to 26 open files in 6 rounds"],
    ),
    "a file in a hundred rounds, after long": (
        [Figures(20 + n // 100, 4, 100 * MIB) for n in range(1000)],
        ["it leaks: from 20 to 29 open files in 998 rounds"],
    ),
    "threads": (
        [*steady(5), *steady(3, threads=9)], ["it leaks: from 4 to 9 threads in 6 rounds"],
    ),
    "memory": (
        [*steady(5), *steady(3, rss_bytes=150 * MIB)], ["it leaks: from 100 to 150 MiB of memory in 6 rounds"],
    ),
    "memory, within what is nothing": ([*steady(5), *steady(3, rss_bytes=142 * MIB)], []),
    "several": (
        [*steady(5), *steady(3, fds=40, threads=40)],
        ["it leaks: from 20 to 40 open files in 6 rounds", "it leaks: from 4 to 40 threads in 6 rounds"],
    ),
    "the warm-up takes much": ([*steady(WARM_UP, fds=2), *steady(9)], []),
    "one round that is large": ([*steady(9), *steady(1, fds=500), *steady(1)], []),
    "it shrinks": ([*steady(5, fds=90), *steady(3)], []),
    "nothing is known": ([Figures()] * 20, []),
    "not known in the end": ([*steady(9), Figures()], []),
}  # fmt: skip


@pytest.mark.parametrize("what", CASES)
def test_what_grew_by_more_than_it_may_is_a_leak(what):
    figures, said = CASES[what]

    assert leaks(figures) == said


METRICS = """# HELP process_open_fds Number of open file descriptors.
# TYPE process_open_fds gauge
process_open_fds 23.0
process_resident_memory_bytes 1.2582912e+08
insula_open_fds 99.0
process_virtual_memory_bytes 1e+09
"""


def test_the_figures_of_a_process_are_found_among_its_metrics():
    assert figures_in(METRICS) == Figures(fds=23, rss_bytes=120 * MIB)


@pytest.mark.parametrize("value", ["NaN", "1e999999", "-1", "1.2.3", "...", "1."])
def test_figures_that_are_no_numbers_are_passed_over(value):
    assert figures_in(f"process_open_fds {value}\n") == Figures()


@pytest.mark.parametrize("text", ["", "process_open_fds\n"])
def test_metrics_without_usable_figures_give_none(text):
    assert figures_in(text) == Figures()
