"""Whom one DAG may be asked of, what each did until now, and who is next. No network: it is told of attempts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from executor.content.attempt import LOST, STALLED, Attempt
from executor.content.pacing import hope, is_slow
from executor.content.scoring import Score
from executor.content.sources import Source
from executor.errors import PeerRefused, PeerUnavailable
from executor.protocol.cid import Cid

MAX_TRIED: Final = 20
_SHOWN: Final = 160


@dataclass(frozen=True, slots=True)
class Share:
    """What one source brought: verified blocks that were not here, and their bytes."""

    source: str
    blocks: int
    bytes: int


@dataclass(slots=True)
class Record:
    """One source in one fetch. idle: tries in a row without a block. failed: tries that did not end well. out: not to
    be asked again. lacks: it said that it has it not. races: how often it was asked because another was slow, which it
    is not before `rested`. asks: seconds for which it wants to be left alone.
    """

    idle: int = 0
    failed: int = 0
    out: bool = False
    lacks: bool = False
    problem: str = "no answer"
    blocks: int = 0
    bytes: int = 0
    races: int = 0
    rested: float = 0.0
    asks: float = 0.0


class Candidates:
    """The best of the `listed` sources, at most `most`, in one fetch. Times are handed in, of a monotonic clock.

    scores: what is known of sources for later; other fetches may add to it meanwhile. first: a source of this fetch
    alone, asked before all others, whose mistakes are held against it here only. records: of sources that were asked,
    in that order. sizes, bytes: of blocks that were verified and stored. round: how often all were asked again.
    """

    def __init__(
        self, listed: Sequence[Source], scores: dict[str, Score], first: Source | None, most: int, now: float
    ) -> None:
        self.listed = listed
        self.scores = scores
        self.first = first
        usable = [source for source in listed if self.score(source).may_try(now)]
        best = sorted(usable, key=lambda source: self.score(source).order())[:most]
        self.sources = (*best,) if first is None else (first, *best)
        self.records: dict[str, Record] = {}
        self.sizes: dict[Cid, int] = {}
        self.bytes = 0
        self._shared: set[Cid] = set()
        self.round = 0

    def score(self, source: Source) -> Score:
        """What is known of a source."""
        return self.scores.get(source.name) or Score()

    def shares(self) -> tuple[Share, ...]:
        """What each of those brought that brought anything."""
        brought = [(name, record) for name, record in self.records.items() if record.blocks]
        return tuple(Share(name, record.blocks, record.bytes) for name, record in brought)

    # --- who is next

    def next(self, busy: Collection[str], now: float) -> Source | None:
        """The best one that may be asked now. busy: names of those that are at work."""
        free = [source for source in self.sources if source.name not in busy and self._is_due(source, now)]
        return min(free, key=self._order, default=None)

    def rival(self, rate: float | None, busy: Collection[str], now: float) -> Source | None:
        """The best one that may be far faster than another, which brings so many bytes a second; None where none is.

        One that brought nothing when it was asked is asked for this too, and each ever more seldom.
        """
        free = [source for source in self.sources if source.name not in busy and self._may_race(source, now)]
        faster = [source for source in free if is_slow(rate, [hope(self.score(source).rate)])]
        return min(faster, key=self._order, default=None)

    def _may_race(self, source: Source, now: float) -> bool:
        record = self.records.get(source.name) or Record()
        return self._may_try(source, now) and not record.out and now >= record.rested

    def _is_due(self, source: Source, now: float) -> bool:
        record = self.records.get(source.name)
        return self._may_try(source, now) and (record is None or not (record.out or record.idle > self.round))

    def _order(self, source: Source) -> tuple[int, int, bool, int, float]:
        record = self.records.get(source.name) or Record()
        return record.idle, record.failed, source is not self.first, *self.score(source).order()

    def _may_try(self, source: Source, now: float) -> bool:
        return source is self.first or self.score(source).may_try(now)

    def may_ask_again(self, now: float) -> bool:
        """Whether another round makes sense: somebody was asked who may bring something later."""
        known = [(source, self.records.get(source.name)) for source in self.sources]
        return any(record and not record.out and self._may_try(source, now) for source, record in known)

    @property
    def pause(self) -> float:
        """Seconds before all are asked again, as `first` wants it; what others want is no reason to wait."""
        record = self.records.get(self.first.name) if self.first is not None else None
        return record.asks if record is not None and not record.out else 0.0

    # --- what they do

    def begin(self, source: Source) -> None:
        """It is about to be asked."""
        self.records.setdefault(source.name, Record())

    def rest(self, source: Source, now: float, window: float) -> None:
        """It is asked because another is slow: not again for this before twice as long as the last time."""
        record = self.records[source.name]
        record.rested = now + window * 2**record.races
        record.races += 1

    def note(self, attempt: Attempt, now: float) -> None:
        """What an attempt that is over says of its source, here and for later."""
        score, record = self.score(attempt.source), self.records[attempt.source.name]
        self._count(attempt, record)
        if attempt.taken:
            silence = now - attempt.last_block if attempt.failure else 0.0
            score = score.brought(attempt.bytes, now - attempt.started, max(attempt.longest_wait, silence))
            self.round = record.idle = 0
            for other in self.records.values():
                other.idle = 0
                other.out = other.out and not other.lacks  # it may have what is missing now
        if attempt.failure is not None:
            record.problem = attempt.ended_for or " ".join(str(attempt.failure).split())[:_SHOWN]
            record.failed += 1
            record.asks = attempt.failure.retry_after if isinstance(attempt.failure, PeerUnavailable) else 0.0
            record.idle += not attempt.taken and attempt.ended_for != LOST
            score = self._judged(attempt, record, score, now)
        if not self.score(attempt.source).lie:  # another retriever may have found that out meanwhile
            self.scores[attempt.source.name] = score

    def _count(self, attempt: Attempt, record: Record) -> None:
        """In a race two sources bring the same blocks, which count once, for the one that is over first."""
        for cid, size in attempt.sizes.items():
            if cid not in self.sizes:
                self.sizes[cid] = size
                self.bytes += size
            if cid not in attempt.had and cid not in self._shared:
                self._shared.add(cid)
                record.blocks += 1
                record.bytes += size

    def _judged(self, attempt: Attempt, record: Record, score: Score, now: float) -> Score:
        """The score after an attempt that did not bring everything; `record.out` where it is not to be asked again."""
        if attempt.has_lied:
            record.out = True
            return score.failed(now) if attempt.source is self.first else score.lied(record.problem)
        if attempt.ended_for and attempt.ended_for != STALLED:
            return score if attempt.taken else score.silent(now - attempt.started)
        record.out = isinstance(attempt.failure, PeerRefused)
        record.lacks = attempt.has_it_not
        return score if attempt.taken or attempt.has_it_not or attempt.is_fatal else score.failed(now)

    # --- what is told

    def error(self, what: str, running: Sequence[Attempt]) -> PeerRefused | PeerUnavailable:
        """One error that names each source that was tried and what it did. running: attempts that are not over."""
        at_work = {at.source.name: f"brought {at.taken} blocks until then" for at in running if at.taken}
        said = [f"{name}: {at_work.get(name, record.problem)}" for name, record in self.records.items()]
        others = [source for source in self.listed if source.name not in self.records]
        said += [f"{source.name}: {self._why_not(source)}" for source in others[: max(0, MAX_TRIED - len(said))]]
        unnamed = len(self.listed) - len(said)
        if unnamed > 0:
            said.append(f"{unnamed} more were not asked")
        text = f"{what}. {'; '.join(said)}".rstrip()
        if not others and said and all(record.lacks for record in self.records.values()):
            return PeerRefused(404, text)
        return PeerUnavailable(text)

    def _why_not(self, source: Source) -> str:
        score = self.score(source)
        if score.lie:
            return f"it sent wrong bytes before ({score.lie})"
        return f"it failed {score.failures} times in a row" if score.failures else "not asked"
