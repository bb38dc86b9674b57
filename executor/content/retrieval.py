"""Bringing a DAG into a store from several sources, whichever of them has it, is up and is fast.

One source is asked at a time, the best by its record, for what is missing. While it brings no block for as long as
nearly all its waits were (2 s where it is unknown, 4 s at most), further ones are asked too; the first that brings a
verified block goes on, the others are ended and their sockets closed. Where it brings blocks, but far fewer than the
next one may (`pacing`), that one is asked too, and the faster goes on. Whoever brings nothing for 10 s is dropped,
whoever sends wrong bytes is never asked again. What one source could not bring is asked of the next: several complete
a DAG together.

Everything is bounded whatever the number of sources: threads and streams by PARALLEL, sources that one DAG is asked of
by MAX_TRIED, clients by `sources.MAX_OPEN`, waits by the patience of the caller.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

from executor.content.attempt import Attempt, Watcher
from executor.content.blocks import BlockStoreLike
from executor.content.pacing import WINDOW_SECONDS, hope, is_slow, winner
from executor.content.patience import Patience
from executor.content.scoring import Score
from executor.content.sources import OpenSources, Source
from executor.content.transfer import TRIES
from executor.content.walk import missing, stored_size
from executor.errors import BlockMismatch, BlockMissing, ContentTooLarge, PeerRefused, PeerUnavailable
from executor.protocol.cid import Cid

HEDGE_SECONDS: Final = 2.0
PROGRESS_SECONDS: Final = 10.0
PARALLEL: Final = 4
MAX_TRIED: Final = 20
IDLE_ROUNDS: Final = 4
_LONGEST_WAIT: Final = 1.0
_SHOWN: Final = 160
STALLED: Final = "brought no block in time"
"""Why an attempt was ended that brought nothing for too long."""
_LOST: Final = "another source was faster"


@dataclass(frozen=True, slots=True)
class Share:
    """What one source brought: verified blocks that were not here, and their bytes."""

    source: str
    blocks: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Retrieved:
    """Where a DAG came from; no shares where all of it was here. tried: how many sources were asked."""

    shares: tuple[Share, ...]
    tried: int

    @property
    def bytes(self) -> int:
        """Bytes of all blocks that came."""
        return sum(share.bytes for share in self.shares)


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds without a block before another source is asked too, and before one is dropped.

    rounds: how often all sources are asked again without a new block in between. window: seconds over which it is
    measured how fast a source is.
    """

    hedge: float = HEDGE_SECONDS
    progress: float = PROGRESS_SECONDS
    rounds: int = IDLE_ROUNDS
    window: float = WINDOW_SECONDS


class Retriever:
    """Long-lived: it keeps what it learns of its sources, and their clients. `close` it.

    sources: where to look, the preferred first; the order counts until something is known of them. One `fetch` runs at
    a time; others wait for it. scores: what is known of sources, where several retrievers share it.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        store: BlockStoreLike,
        *,
        pace: Pace | None = None,
        parallel: int = PARALLEL,
        max_tried: int = MAX_TRIED,
        watcher: Watcher | None = None,
        scores: dict[str, Score] | None = None,
    ) -> None:
        self.sources = tuple({source.name: source for source in sources}.values())
        self.store = store
        self.pace = pace or Pace()
        self.parallel = parallel
        self.max_tried = max_tried
        self.watcher = watcher
        self.scores = {} if scores is None else scores
        self.clients = OpenSources()
        self.closed = False
        self._pool = ThreadPoolExecutor(parallel, thread_name_prefix="retrieval")
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End its threads and connections; a `fetch` that another thread is in fails with PeerUnavailable."""
        self.closed = True
        with self._alone(Patience(time.time() + 2 * PROGRESS_SECONDS)):
            self._pool.shutdown()
        self.clients.close()

    def score(self, source: Source) -> Score:
        """What is known of a source."""
        return self.scores.get(source.name) or Score()

    def fetch(
        self,
        root: Cid,
        *,
        max_bytes: int,
        patience: Patience,
        first: Source | None = None,
        store: BlockStoreLike | None = None,
    ) -> Retrieved:
        """Bring everything below `root` into the store, where it is not there already or is damaged.

        first: a source of this fetch alone, asked before all others whatever is known of it, and given up only for this
        fetch. store: where to bring it, if not into the retriever's own.

        PeerRefused (404) when every source says that it has it not; PeerUnavailable, naming each source and what it
        did, when they bring nothing new or the time is over; ContentTooLarge, MalformedBlock, DiskFull as
        `transfer.fetch_dag`. `patience.pause` is called about once a second, and may raise to end everything. What
        was verified stays in the store.
        """
        target = self.store if store is None else store
        with self._alone(patience):
            fetch = _Fetch(self, target, self._best_sources(first), first, root, max_bytes, patience)
            for _ in range(TRIES):
                if missing(target, root, limit=1):
                    fetch.run()
                try:
                    size = stored_size(target, root, fetch.sizes)
                except (BlockMismatch, BlockMissing) as exc:
                    failure = exc
                    missing(target, root, verify=True)  # reads every block, so that damaged ones are absent now
                else:
                    if size.bytes > max_bytes:
                        raise ContentTooLarge("bytes of all blocks", max_bytes)
                    return fetch.result()
            raise failure

    def _best_sources(self, first: Source | None) -> tuple[Source, ...]:
        """Those that one DAG may be asked of."""
        now = time.monotonic()
        usable = [source for source in self.sources if self.score(source).may_try(now)]
        best = sorted(usable, key=lambda source: self.score(source).order())[: self.max_tried]
        return (*best,) if first is None else (first, *best)

    def start(self, attempt: Attempt, store: BlockStoreLike, root: Cid, room: int, patience: Patience) -> Future[None]:
        """Run an attempt in one of the threads."""
        return self._pool.submit(attempt.run, self.clients, store, root, room, patience)

    @contextmanager
    def _alone(self, patience: Patience) -> Iterator[None]:
        if not self._lock.acquire(timeout=min(patience.left, threading.TIMEOUT_MAX)):
            raise PeerUnavailable("another transfer took all of the time for this one")
        try:
            yield
        finally:
            self._lock.release()


@dataclass(slots=True)
class _Record:
    """One source in one fetch. idle: tries in a row without a block. failed: tries that did not end well. out: not to
    be asked again. lacks: it said that it has it not. races: how often it was asked because another was slow, which it
    is not before `rested`.
    """

    idle: int = 0
    failed: int = 0
    out: bool = False
    lacks: bool = False
    problem: str = ""
    blocks: int = 0
    bytes: int = 0
    races: int = 0
    rested: float = 0.0


@dataclass(slots=True)
class _Fetch:
    """The thread of the caller: starts attempts, watches them, ends them."""

    retriever: Retriever
    store: BlockStoreLike
    candidates: tuple[Source, ...]
    first: Source | None
    root: Cid
    max_bytes: int
    patience: Patience
    records: dict[str, _Record] = field(default_factory=dict)  # of sources that were tried, in that order
    running: list[tuple[Attempt, Future[None]]] = field(default_factory=list)
    sizes: dict[Cid, int] = field(default_factory=dict)  # of blocks that were verified and stored
    round: int = 0
    wake: threading.Event = field(default_factory=threading.Event)

    def result(self) -> Retrieved:
        shares = [Share(name, record.blocks, record.bytes) for name, record in self.records.items() if record.blocks]
        return Retrieved(tuple(shares), len(self.records))

    def run(self) -> None:
        """Until nothing is missing, or no source brings it."""
        try:
            while True:
                self.wake.clear()
                if self._collect():
                    return
                if self.retriever.closed:
                    raise self._error("the retriever was closed")
                if not self.patience.left:
                    raise self._error("the time for this transfer is over")
                self._measure()
                self._settle()
                self._drop()
                self._start()
                self.wake.wait(self._seconds())
                self.patience.pause(0.0)
        finally:
            self._end_all()

    def _end_all(self) -> None:
        for attempt, _ in self.running:
            attempt.end("the transfer is over")
        ended, _ = wait_for([future for _, future in self.running], timeout=PROGRESS_SECONDS)
        for attempt, future in self.running:
            if future in ended and future.exception() is None:
                self._note(attempt)
        self.running = []

    def _collect(self) -> bool:
        """Take note of what ended; whether nothing is missing any longer."""
        ended = [entry for entry in self.running if entry[1].done()]
        self.running = [entry for entry in self.running if not entry[1].done()]
        for attempt, future in ended:
            future.result()
            self._note(attempt)
        if any(attempt.failure is None for attempt, _ in ended):
            return True
        if ended and not self.running and not missing(self.store, self.root, limit=1):
            return True
        for attempt, _ in ended:
            if attempt.is_fatal and attempt.failure is not None:
                raise attempt.failure
        return False

    def _note(self, attempt: Attempt) -> None:
        """What an attempt says of its source, here and for later."""
        retriever, now = self.retriever, time.monotonic()
        score, record = retriever.score(attempt.source), self.records[attempt.source.name]
        if retriever.watcher is not None:
            retriever.watcher.ended(attempt)
        new = attempt.sizes.keys() - attempt.had - self.sizes.keys()  # in a race two sources bring the same blocks
        record.blocks += len(new)
        record.bytes += sum(attempt.sizes[cid] for cid in new)
        self.sizes |= attempt.sizes
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
            record.idle += not attempt.taken and attempt.ended_for != _LOST
            score = self._judged(attempt, record, score, now)
        if not retriever.score(attempt.source).lie:  # another retriever may have found that out meanwhile
            retriever.scores[attempt.source.name] = score

    def _judged(self, attempt: Attempt, record: _Record, score: Score, now: float) -> Score:
        """The score after an attempt that did not bring everything; `record.out` where it is not to be asked again."""
        if attempt.has_lied:
            record.out = True
            return score.failed(now) if attempt.source is self.first else score.lied(record.problem)
        if attempt.ended_for and attempt.ended_for != STALLED:
            return score if attempt.taken else score.silent(now - attempt.started)
        record.out = isinstance(attempt.failure, PeerRefused)
        record.lacks = attempt.has_it_not
        return score if attempt.taken or attempt.has_it_not or attempt.is_fatal else score.failed(now)

    @property
    def working(self) -> list[Attempt]:
        """Those that nobody has ended."""
        return [attempt for attempt, _ in self.running if not attempt.cancel.done]

    def _measure(self) -> None:
        """Whoever was slow is so no longer where it caught up with those that were asked because of it."""
        now, working = time.monotonic(), self.working
        for attempt in working:
            if attempt.measured.look(now, attempt.bytes, self.retriever.pace.window):
                others = [self._hope(other) for other in working if other is not attempt]
                attempt.is_slow = attempt.is_slow and is_slow(attempt.measured.rate, others)

    def _hope(self, attempt: Attempt) -> float:
        rate = attempt.measured.rate
        return hope(self.retriever.score(attempt.source).rate) if rate is None else rate

    def _settle(self) -> None:
        """Where a race is decided: the others are ended."""
        working = self.working
        if any(attempt.is_slow for attempt in working):
            now = time.monotonic()
            first = winner([attempt.runner(now) for attempt in working])
            best = None if first is None else working[first]
        else:  # whoever brought a block
            leaders = [attempt for attempt in working if attempt.leads]
            best = max(leaders, key=lambda attempt: attempt.taken - (attempt.race_mark or 0), default=None)
        if best is None:
            return
        best.race_mark = None
        for attempt, _ in self.running:
            if attempt is not best:
                attempt.end(_LOST)

    def _drop(self) -> None:
        now = time.monotonic()
        for attempt, _ in self.running:
            if now - attempt.last_progress >= self.retriever.pace.progress:
                attempt.end(STALLED)

    def _start(self) -> None:
        """Ask the next source, where none is at work or those that are have been silent for too long or are slow."""
        working = self.working
        now = time.monotonic()
        source = self._next_source(now)
        is_raced = source is not None and self._is_raced(working, source, now)
        if working and now < self._hedge_at(working) and not is_raced:
            return
        if source is None:
            if not self.running:
                self._next_round(now)
            return
        if len(self.running) >= self.retriever.parallel:
            if len(working) == len(self.running):
                self._yield_place(working, now)
            return
        record = self.records.setdefault(source.name, _Record())
        record.problem = record.problem or "no answer"
        if is_raced:
            record.rested = now + self.retriever.pace.window * 2**record.races
            record.races += 1
        for attempt in working:
            attempt.race_mark = attempt.taken
            attempt.is_slow |= is_raced
            attempt.flush()
        watcher = self.retriever.watcher
        attempt = Attempt(source, self.wake.set, watcher)
        attempt.race_mark = 0 if working else None
        room = self.max_bytes - sum(self.sizes.values())  # what two brought counts once
        if watcher is not None:
            watcher.began(attempt)
        future = self.retriever.start(attempt, self.store, self.root, room, self.patience)
        future.add_done_callback(lambda _: self.wake.set())
        self.running.append((attempt, future))

    def _is_raced(self, working: Sequence[Attempt], source: Source, now: float) -> bool:
        """Whether the only one at work is far slower than another may be; each is asked for that ever more seldom."""
        if len(working) != 1 or now < self.records.get(source.name, _Record()).rested:
            return False
        return is_slow(working[0].measured.rate, [hope(self.retriever.score(source).rate)])

    def _hedge_at(self, working: Sequence[Attempt]) -> float:
        """When the silence has lasted long enough; each further source that is silent too halves what is long."""
        newest = working[-1]
        pace = self.retriever.pace
        usual = self.retriever.score(newest.source).hedge_after(pace.hedge, newest.longest_wait)
        if newest.source is self.first:
            usual = max(usual, pace.hedge)
        return max(attempt.last_block for attempt in working) + min(usual, pace.progress) * 0.5 ** (len(working) - 1)

    def _yield_place(self, working: Sequence[Attempt], now: float) -> None:
        """All places are taken: who has been silent for longest, and had its time, goes to the end of the queue."""
        patient = self.retriever.pace.hedge * 2**self.round
        silent = [attempt for attempt in working if not attempt.taken and now - attempt.started >= patient]
        if silent:
            min(silent, key=lambda attempt: attempt.started).end("was silent while others waited for its place")

    def _next_source(self, now: float) -> Source | None:
        """The best one that may be asked now."""
        busy = {attempt.source.name for attempt, _ in self.running}
        best: tuple[tuple[int, int, bool, int, float], Source] | None = None
        for source in self.candidates:
            record = self.records.get(source.name)
            if source.name in busy or not self._may_try(source, now):
                continue
            if record is not None and (record.out or record.idle > self.round):
                continue
            order = self.retriever.score(source).order()
            key = (record.idle if record else 0, record.failed if record else 0, source is not self.first, *order)
            if best is None or key < best[0]:
                best = (key, source)
        return best[1] if best else None

    def _may_try(self, source: Source, now: float) -> bool:
        return source is self.first or self.retriever.score(source).may_try(now)

    def _next_round(self, now: float) -> None:
        """Nobody is at work and nobody is left: ask all again after a pause, or give up."""
        known = [(source, self.records.get(source.name)) for source in self.candidates]
        if not any(record and not record.out and self._may_try(source, now) for source, record in known):
            raise self._error("no source has it" if self.records else "there is no source to ask")
        self.round += 1
        if self.round > self.retriever.pace.rounds or not self.patience.rest(self.round):
            raise self._error("no source brings it")

    def _seconds(self) -> float:
        """How long nothing needs to be looked at, if nobody wakes us."""
        now = time.monotonic()
        working = self.working
        if not working:
            return 0.0 if not self.running else _LONGEST_WAIT
        ends = min(attempt.last_progress for attempt in working) + self.retriever.pace.progress
        hedge = self._hedge_at(working)
        measured = min(attempt.measured.since for attempt in working) + self.retriever.pace.window
        soonest = min(ends, measured, hedge if hedge > now else now + self.retriever.pace.hedge / 8)
        return max(0.005, min(_LONGEST_WAIT, soonest - now, self.patience.left))

    def _error(self, what: str) -> PeerRefused | PeerUnavailable:
        """One error that names each source that was tried and what it did."""
        at_work = {at.source.name: f"brought {at.taken} blocks until then" for at, _ in self.running if at.taken}
        said = [f"{name}: {at_work.get(name, record.problem)}" for name, record in self.records.items()]
        others = [source for source in self.retriever.sources if source.name not in self.records]
        said += [f"{source.name}: {self._why_not(source)}" for source in others[: max(0, MAX_TRIED - len(said))]]
        unnamed = len(self.retriever.sources) - len(said)
        if unnamed > 0:
            said.append(f"{unnamed} more were not asked")
        text = f"{self.root}: {what}. {'; '.join(said)}".rstrip()
        if not others and said and all(record.lacks for record in self.records.values()):
            return PeerRefused(404, text)
        return PeerUnavailable(text)

    def _why_not(self, source: Source) -> str:
        score = self.retriever.score(source)
        if score.lie:
            return f"it sent wrong bytes before ({score.lie})"
        return f"it failed {score.failures} times in a row" if score.failures else "not asked"
