"""What a round says, and what the last rounds say together: which source is at fault, and one line for people. Pure.

Only what a user would notice is wrong: content that does not come, comes as other bytes, stands still or is slow, a
job whose result is not what it must be, a process that holds more and more. What keeps the canary itself from looking
(no funds, no leave to upload) accuses nobody.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from typing import Final

from bridge.canary.leaks import Leak
from bridge.canary.records import Blame, Fault, Fetch, Round

WINDOW: Final = 20
"""Rounds that are looked at together."""
BUDGET: Final = 0.05
"""The share of rounds that may go wrong; a burn of 1 uses up exactly that."""
MOST_FINDINGS: Final = 3
"""That are named in the line."""
_WORST: Final = tuple(Fault)


class Health(StrEnum):
    """What is to be said of a round; the worst first."""

    WRONG = "wrong"
    UNREACHABLE = "unreachable"
    BLIND = "blind"
    WELL = "well"


_HEALTH: Final = {Blame.NETWORK: Health.WRONG, Blame.UNREACHABLE: Health.UNREACHABLE, Blame.OWN: Health.BLIND}


@dataclass(frozen=True, slots=True)
class Limits:
    """What is still well: seconds to the first verified block, seconds without one, and bytes per second."""

    first_seconds: float = 5.0
    stall_seconds: float = 5.0
    bytes_per_second: float = float(2**20)

    def seconds_for(self, size: int) -> float:
        """How long so much may take."""
        return self.first_seconds + size / self.bytes_per_second


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. subject: a source, or the subject of a trouble."""

    subject: str
    text: str
    health: Health = Health.WRONG


@dataclass(frozen=True, slots=True)
class Quantile:
    """Of one source and size over the last rounds: 95 of 100 were at most so long. None: none came."""

    source: str
    size: int
    first_seconds: float | None
    seconds: float | None
    stall_seconds: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a round came to. line: for people. burn: how fast the last rounds use up the budget of wrong ones."""

    health: Health
    line: str
    findings: tuple[Finding, ...]
    quantiles: tuple[Quantile, ...]
    burn: float


@dataclass(frozen=True, slots=True)
class History:
    """The last rounds and what was said of each, the newest last; at most WINDOW."""

    rounds: tuple[Round, ...] = ()
    healths: tuple[Health, ...] = ()

    def add(self, new: Round, health: Health) -> History:
        """One round more."""
        return History((*self.rounds, new)[-WINDOW:], (*self.healths, health)[-WINDOW:])

    def burn(self, newest: Health) -> float:
        """The share of rounds that went wrong, of those that could look, in BUDGETs."""
        looked = [health for health in (*self.healths, newest)[-WINDOW:] if health is not Health.BLIND]
        return sum(health is not Health.WELL for health in looked) / len(looked) / BUDGET if looked else 0.0


def judge(new: Round, before: History, limits: Limits, leaks: Sequence[Leak] = ()) -> Verdict:
    """What this round says, in the light of those before it."""
    window = (*before.rounds, new)[-WINDOW:]
    findings = [
        *_of_sources(new, window, limits),
        *(Finding(t.subject, t.text, _HEALTH[t.blame]) for t in new.troubles),
        *(Finding("leak", str(leak)) for leak in leaks),
    ]
    findings.sort(key=lambda finding: list(Health).index(finding.health))
    health = findings[0].health if findings else Health.WELL
    burn = before.burn(health)
    line = _wrong(new, findings) if findings else _well(new, burn, (*before.healths, health)[-WINDOW:])
    return Verdict(health, f"canary: {line}", tuple(findings), tuple(_quantiles(window)), burn)


def p95(values: Sequence[float]) -> float | None:
    """The smallest value that 95 of 100 do not pass (nearest rank): of fewer than 20 values, the largest."""
    ordered = sorted(values)
    return ordered[math.ceil(0.95 * len(ordered)) - 1] if ordered else None


def worst(healths: Sequence[Health]) -> Health:
    """The worst of several rounds."""
    return min(healths, key=list(Health).index, default=Health.WELL)


def size_text(size: int) -> str:
    """A number of bytes for people: 512 B, 1 KiB, 12.5 MiB."""
    value, unit = float(size), "B"
    for larger in ("KiB", "MiB", "GiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.1f}".removesuffix(".0") + f" {unit}"


# -- sources ------------------------------------------------------------------------------------------------------


def _of_sources(new: Round, window: Sequence[Round], limits: Limits) -> Iterator[Finding]:
    """For each source the worst that is wrong with it, with all sizes of which that is so; the worst sources first."""
    found: list[tuple[int, Finding]] = []
    for source, fetches in groupby(sorted(new.fetches, key=lambda f: (f.source, f.size)), key=lambda f: f.source):
        bad = [(rank, fetch, text) for fetch in fetches for rank, text in _wrong_with(fetch, window, limits)]
        if bad:
            rank = min(rank for rank, *_ in bad)
            same = [(fetch, text) for other, fetch, text in bad if other == rank]
            sizes = ", ".join(size_text(fetch.size) for fetch, _ in same)
            found.append((rank, Finding(source, f"{sizes} from {source}{same[-1][1]}")))
    yield from (finding for _, finding in sorted(found, key=lambda entry: entry[0]))


def _wrong_with(fetch: Fetch, window: Sequence[Round], limits: Limits) -> Iterator[tuple[int, str]]:
    """What is wrong with a fetch, if anything: how bad, and how the line goes on after the source's name."""
    rank = _WORST.index(fetch.fault)
    if fetch.fault is Fault.WRONG_BYTES:
        yield rank, f": it sent wrong bytes ({fetch.detail})"
    elif fetch.fault is Fault.LACKS:
        yield rank, ": it has it not"
    elif fetch.fault is Fault.FAILED:
        yield rank, f" failed after {size_text(fetch.bytes)}: {fetch.detail}"
    elif fetch.fault is Fault.STALLED and fetch.first_seconds is None:
        yield rank, f": no whole block in {fetch.seconds:.1f} s"
    elif fetch.fault is Fault.STALLED:
        stood = f" stalled {fetch.stall_seconds:.1f} s after {size_text(fetch.stall_at)}"
        yield rank, f"{stood}; {size_text(fetch.bytes)} came in all"
    elif fetch.stall_seconds > limits.stall_seconds:
        stood = f" stalled {fetch.stall_seconds:.1f} s after {size_text(fetch.stall_at)}"
        yield _WORST.index(Fault.STALLED), stood
    elif fetch.first_seconds is not None and fetch.first_seconds > limits.first_seconds:
        yield len(_WORST), f": first block after {fetch.first_seconds:.1f} s"
    elif _is_slow(fetch, window, limits):
        allowed = limits.seconds_for(fetch.size)
        yield len(_WORST) + 1, f" took {fetch.seconds:.1f} s, more than {allowed:.1f} s"


def _is_slow(fetch: Fetch, window: Sequence[Round], limits: Limits) -> bool:
    """Whether it took too long, and not for the first time in many rounds."""
    allowed = limits.seconds_for(fetch.size)
    usual = p95([f.seconds for f in _alike(window, fetch.source, fetch.size)])
    return fetch.seconds > allowed and usual is not None and usual > allowed


def _alike(window: Sequence[Round], source: str, size: int) -> list[Fetch]:
    """The fetches of one source and size that came whole."""
    return [
        fetch
        for each in window
        for fetch in each.fetches
        if (fetch.source, fetch.size) == (source, size) and fetch.fault is Fault.NONE
    ]


def _quantiles(window: Sequence[Round]) -> Iterator[Quantile]:
    for source, size in dict.fromkeys((fetch.source, fetch.size) for each in window for fetch in each.fetches):
        alike = _alike(window, source, size)
        firsts = [fetch.first_seconds for fetch in alike if fetch.first_seconds is not None]
        stall = p95([fetch.stall_seconds for fetch in alike]) or 0.0
        yield Quantile(source, size, p95(firsts), p95([fetch.seconds for fetch in alike]), stall)


# -- the line -----------------------------------------------------------------------------------------------------


def _wrong(new: Round, findings: Sequence[Finding]) -> str:
    parts = [finding.text for finding in findings[:MOST_FINDINGS]]
    if len(findings) > MOST_FINDINGS:
        parts.append(f"and {len(findings) - MOST_FINDINGS} more")
    guilty = {finding.subject for finding in findings}
    sources = {fetch.source for fetch in new.fetches}
    if sources - guilty:
        parts.append("other sources fine" if sources & guilty else "content fine")
    if new.jobs and "job" not in guilty:
        parts.append("jobs fine")
    return "; ".join(parts)


def _well(new: Round, burn: float, healths: Sequence[Health]) -> str:
    parts = []
    if new.fetches:
        sizes = ", ".join(size_text(size) for size in sorted({fetch.size for fetch in new.fetches}))
        count = len({fetch.source for fetch in new.fetches})
        first = max(fetch.first_seconds or 0.0 for fetch in new.fetches)
        slowest = max(fetch.seconds for fetch in new.fetches)
        parts.append(f"{sizes} by {count} way{'s' if count > 1 else ''}, first block within {first:.2f} s, ")
        parts[-1] += f"verified within {slowest:.1f} s"
    parts += [f"job {job.request_id} in {job.seconds:.1f} s" for job in new.jobs]
    if burn > 1:
        wrong = sum(health not in (Health.WELL, Health.BLIND) for health in healths)
        return f"well now, but {wrong} of the last {len(healths)} rounds were not: " + "; ".join(parts)
    return "all well: " + ("; ".join(parts) or "nothing was to be looked at")
