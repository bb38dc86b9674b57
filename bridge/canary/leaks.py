"""Whether a process that lives long holds more and more. Pure.

The median of the newest rounds is compared with the median of the first ones after a warm-up: one large round says
nothing, and a leak of little a round is found whenever it has added up, because the first rounds are remembered.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from bridge.canary.records import Figures

WARM_UP: Final = 2
"""Rounds that load modules and fill caches."""
ROUNDS: Final = 3
"""Of which a median is taken, at the beginning and at the end."""
#: figure -> (growth that is nothing, and the share of the beginning that is nothing beside it)
ALLOWED: Final = {"fds": (2, 0.0), "threads": (2, 0.0), "rss_bytes": (32 * 2**20, 0.1)}
_METRICS: Final = {"process_open_fds": "fds", "process_resident_memory_bytes": "rss_bytes"}
_SAMPLE: Final = re.compile(r"^(process_[a-z_]+) ([0-9]{1,24}(?:\.[0-9]{1,24})?(?:e\+?[0-9]{1,2})?)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Leak:
    """A figure of a process that grew."""

    process: str
    figure: str
    before: int
    after: int
    rounds: int

    def __str__(self) -> str:
        unit, what = (2**20, "MiB of memory") if self.figure == "rss_bytes" else (1, _WORDS[self.figure])
        grown = f"{self.before // unit} to {self.after // unit} {what}"
        return f"{self.process} leaks: from {grown} in {self.rounds} rounds"


_WORDS: Final = {"fds": "open files", "threads": "threads"}


@dataclass(frozen=True, slots=True)
class Series:
    """The figures of one process, round by round: the first after the warm-up, and the newest."""

    rounds: int = 0
    first: tuple[Figures, ...] = ()
    newest: tuple[Figures, ...] = field(default=())

    def add(self, figures: Figures) -> Series:
        """One round more."""
        rounds = self.rounds + 1
        if rounds <= WARM_UP:
            return Series(rounds)
        if len(self.first) < ROUNDS:
            return Series(rounds, (*self.first, figures))
        return Series(rounds, self.first, (*self.newest, figures)[-ROUNDS:])

    def leaks(self, process: str) -> Iterator[Leak]:
        """What grew by more than it may; nothing before there are enough rounds."""
        if len(self.newest) < ROUNDS:
            return
        for figure, (least, share) in ALLOWED.items():
            before, after = _median(self.first, figure), _median(self.newest, figure)
            if before is not None and after is not None and after - before > least + share * before:
                yield Leak(process, figure, before, after, self.rounds - WARM_UP)


def _median(figures: tuple[Figures, ...], name: str) -> int | None:
    values = [value for each in figures if (value := getattr(each, name)) is not None]
    return int(statistics.median(values)) if len(values) == len(figures) else None


def figures_in(metrics: str) -> Figures:
    """What a program says of its own process at /metrics, in Prometheus' text format; None where it says nothing."""
    found = {_METRICS[name]: int(float(value)) for name, value in _SAMPLE.findall(metrics) if name in _METRICS}
    return Figures(**found)
