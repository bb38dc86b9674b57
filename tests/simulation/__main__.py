"""Thousands of runs, and a summary: `python -m tests.simulation --runs 10000 --jobs 2`; or one: `--seed 7 --trace`."""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.kills import ELSEWHERE, MOMENTS, places
from tests.simulation.runs import Run, run_seed

CHUNK = 20  # runs that one process does at a time


def run_many(first: int, runs: int) -> list[Run]:
    """The runs of seeds first, first + 1, ..."""
    if not gc.get_freeze_count():  # what is imported stays; runs are short and small
        gc.freeze()
        gc.set_threshold(50_000)
    return [run_seed(seed) for seed in range(first, first + runs)]


def replay(seed: int) -> str:
    """The command that repeats a run."""
    return f"python -m tests.simulation --seed {seed} --trace"


def summary(runs: Iterable[Run], seconds: float) -> str:
    """What happened in all of them, for people."""
    done = list(runs)
    faults: Counter[str] = Counter()
    depths: Counter[int] = Counter()
    for run in done:
        faults.update(run.faults)
        depths.update(run.depths)

    def total(name: str) -> int:
        return sum(getattr(run, name) for run in done)

    bad = [run for run in done if run.violation]
    lines = [
        f"runs          {len(done)} (seeds {done[0].seed}..{done[-1].seed})",
        f"blocks        {total('epochs')}, loop steps {total('steps')}",
        f"requests      {total('requests')} answered or refunded, {total('gone')} more that reorgs took away",
        f"results       {total('results')}, refunds {total('refunds')}",
        f"kills         {total('kills')}, databases deleted and rebuilt {total('rebuilt')}",
        *_killed_at(done),
        f"reorgs        {sum(depths.values())}, by depth: "
        + ", ".join(f"{depth}: {count}" for depth, count in sorted(depths.items())),
        f"faults        {sum(faults.values())}",
        *(f"  {kind:<22}{count}" for kind, count in sorted(faults.items())),
        f"violations    {len(bad)}",
        f"seconds       {seconds:.0f}",
    ]
    return "\n".join(lines)


def _killed_at(runs: Iterable[Run]) -> list[str]:
    """How often the process died at each transaction, in a table."""
    killed: Counter[tuple[str, str]] = Counter()
    for run in runs:
        killed.update(run.killed_at)
    rows = [(place, *(killed[place, moment] for moment in MOMENTS)) for place in (*places(), ELSEWHERE)]
    head = f"  {'at the transaction of':<26}" + "".join(f"{moment:>8}" for moment in MOMENTS)
    return [head, *(f"  {place:<26}" + "".join(f"{count:>8}" for count in counts) for place, *counts in rows)]


def main(arguments: list[str] | None = None) -> int:
    """0: everything held. 1: a violation. 2: bad arguments."""
    parser = argparse.ArgumentParser(prog="./dev soak", description=__doc__)
    parser.add_argument("--runs", type=int, help="how many seeds; 10000, or 1 where --seed is given")
    parser.add_argument("--seed", type=int, help="the first one; 1")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--trace", action="store_true", help="print every event of each run")
    given = parser.parse_args(arguments)
    first = 1 if given.seed is None else given.seed
    count = given.runs if given.runs is not None else (10_000 if given.seed is None else 1)
    if count < 1 or given.jobs < 1:
        parser.error("--runs and --jobs must be at least 1")
    started = time.monotonic()
    done: list[Run] = []
    for batch in _traced(first, count) if given.trace else _batches(first, count, given.jobs):
        done += batch
        for run in batch:
            if run.violation:
                print(f"seed {run.seed}: {run.violation[:600]}\n  again: {replay(run.seed)}", flush=True)
        if sys.stderr.isatty() or len(done) % 500 < CHUNK:
            seconds = time.monotonic() - started
            print(f"{len(done)} of {count} runs, {seconds:.0f} s", file=sys.stderr, flush=True)
    print(summary(done, time.monotonic() - started))
    return 1 if any(run.violation for run in done) else 0


def _traced(first: int, count: int) -> Iterable[list[Run]]:
    for seed in range(first, first + count):
        yield [run_seed(seed, trace=print)]


def _batches(first: int, count: int, jobs: int) -> Iterable[list[Run]]:
    starts = range(first, first + count, CHUNK)
    sizes = [min(CHUNK, first + count - start) for start in starts]
    if jobs == 1:
        yield from map(run_many, starts, sizes)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(run_many, starts, sizes)


if __name__ == "__main__":
    sys.exit(main())
