"""Bringing a DAG into a store from several sources, whichever of them has it, is up and is fast.

One source is asked at a time, the best by its record, for what is missing. While it brings no block for as long as
nearly all its waits were (2 s where it is unknown, 4 s at most), further ones are asked too; the first that brings a
verified block goes on, the others are ended and their sockets closed. Where it brings blocks, but far fewer than
another may (`pacing`), that one is asked too, and the faster goes on. Whoever brings nothing for 10 s is dropped,
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

from executor.content.attempt import LOST, STALLED, Absent, Attempt, Watcher
from executor.content.blocks import BlockStoreLike
from executor.content.candidates import MAX_TRIED, Candidates, Share
from executor.content.pacing import WINDOW_SECONDS, hope, is_slow, winner
from executor.content.patience import Patience
from executor.content.scoring import Score
from executor.content.sources import OpenSources, Source, told_apart
from executor.content.transfer import TRIES
from executor.content.walk import Frontier, missing, stored_size
from executor.errors import BlockMismatch, BlockMissing, ContentTooLarge, PeerRefused, PeerUnavailable
from executor.protocol.cid import Cid

HEDGE_SECONDS: Final = 2.0
PROGRESS_SECONDS: Final = 10.0
PARALLEL: Final = 4
IDLE_ROUNDS: Final = 4
_LONGEST_WAIT: Final = 1.0


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
        self.sources = told_apart(sources)
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
            candidates = Candidates(self.sources, self.scores, first, self.max_tried, time.monotonic())
            fetch = _Fetch(self, target, candidates, root, max_bytes, patience)
            for _ in range(TRIES):
                fetch.run()
                try:
                    size = stored_size(target, root, candidates.sizes)
                except (BlockMismatch, BlockMissing) as exc:
                    failure = exc
                    missing(target, root, verify=True)  # reads every block, so that damaged ones are absent now
                else:
                    if size.bytes > max_bytes:
                        raise ContentTooLarge("bytes of all blocks", max_bytes)
                    return Retrieved(candidates.shares(), len(candidates.records))
            raise failure

    def start(
        self, attempt: Attempt, store: BlockStoreLike, absent: Absent, room: int, patience: Patience
    ) -> Future[None]:
        """Run an attempt in one of the threads."""
        return self._pool.submit(attempt.run, self.clients, store, absent, room, patience)

    @contextmanager
    def _alone(self, patience: Patience) -> Iterator[None]:
        if not self._lock.acquire(timeout=min(patience.left, threading.TIMEOUT_MAX)):
            raise PeerUnavailable("another transfer took all of the time for this one")
        try:
            yield
        finally:
            self._lock.release()


@dataclass(slots=True)
class _Fetch:
    """The thread of the caller: starts attempts, watches them, ends them. Who is asked next, `candidates` says."""

    retriever: Retriever
    store: BlockStoreLike
    candidates: Candidates
    root: Cid
    max_bytes: int
    patience: Patience
    running: list[tuple[Attempt, Future[None]]] = field(default_factory=list)
    wake: threading.Event = field(default_factory=threading.Event)
    frontier: Frontier = field(init=False)  # of all attempts of a run, so that each block is looked at once
    looking: threading.Lock = field(default_factory=threading.Lock)

    def run(self) -> None:
        """Until nothing is missing, or no source brings it. Blocks that go meanwhile are missed by the next run."""
        self.frontier = Frontier(self.root)
        if not self._absent(1):
            return
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

    def _absent(self, limit: int) -> list[Cid]:
        """The first blocks that are not here, of those whose parent is; any thread may ask."""
        with self.looking:
            return self.frontier.missing(self.store, limit)

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
        if ended and not self.running and not self._absent(1):
            return True
        for attempt, _ in ended:
            if attempt.is_fatal and attempt.failure is not None:
                raise attempt.failure
        return False

    def _note(self, attempt: Attempt) -> None:
        if self.retriever.watcher is not None:
            self.retriever.watcher.ended(attempt)
        self.candidates.note(attempt, time.monotonic())

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
            first = winner([attempt.runner(now, self.retriever.pace.window) for attempt in working])
            best = None if first is None else working[first]
        else:  # whoever brought a block
            leaders = [attempt for attempt in working if attempt.leads]
            best = max(leaders, key=lambda attempt: attempt.taken - (attempt.race_mark or 0), default=None)
        if best is None:
            return
        best.race_mark = None
        for attempt, _ in self.running:
            if attempt is not best:
                attempt.end(LOST)

    def _drop(self) -> None:
        now = time.monotonic()
        for attempt, _ in self.running:
            if now - attempt.last_progress >= self.retriever.pace.progress:
                attempt.end(STALLED)

    def _start(self) -> None:
        """Ask the next source, where none is at work or those that are have been silent for too long or are slow."""
        working, now = self.working, time.monotonic()
        busy = {attempt.source.name for attempt, _ in self.running}
        rival = self.candidates.rival(working[0].measured.rate, busy, now) if len(working) == 1 else None
        if working and now < self._hedge_at(working) and rival is None:
            return
        source = rival or self.candidates.next(busy, now)
        if source is None:
            if not self.running:
                self._next_round(now)
        elif len(self.running) < self.retriever.parallel:
            self.candidates.begin(source)
            if rival is not None:
                self.candidates.rest(source, now, self.retriever.pace.window)
            for attempt in working:
                attempt.race_mark = attempt.taken
                attempt.is_slow |= rival is not None
                attempt.flush()
            self._ask(source, is_alone=not working)
        elif len(working) == len(self.running):
            self._yield_place(working, now)

    def _ask(self, source: Source, *, is_alone: bool) -> None:
        watcher = self.retriever.watcher
        attempt = Attempt(source, self.wake.set, watcher)
        attempt.race_mark = None if is_alone else 0
        room = self.max_bytes - self.candidates.bytes
        if watcher is not None:
            watcher.began(attempt)
        future = self.retriever.start(attempt, self.store, self._absent, room, self.patience)
        future.add_done_callback(lambda _: self.wake.set())
        self.running.append((attempt, future))

    def _hedge_at(self, working: Sequence[Attempt]) -> float:
        """When the silence has lasted long enough; each further source that is silent too halves what is long."""
        newest = working[-1]
        pace = self.retriever.pace
        usual = self.retriever.score(newest.source).hedge_after(pace.hedge, newest.longest_wait)
        if newest.source is self.candidates.first:
            usual = max(usual, pace.hedge)
        return max(attempt.last_block for attempt in working) + min(usual, pace.progress) * 0.5 ** (len(working) - 1)

    def _yield_place(self, working: Sequence[Attempt], now: float) -> None:
        """All places are taken: who has been silent for longest, and had its time, goes to the end of the queue."""
        patient = self.retriever.pace.hedge * 2**self.candidates.round
        silent = [attempt for attempt in working if not attempt.taken and now - attempt.started >= patient]
        if silent:
            min(silent, key=lambda attempt: attempt.started).end("was silent while others waited for its place")

    def _next_round(self, now: float) -> None:
        """Nobody is at work and nobody is left: ask all again after a pause, or give up."""
        candidates = self.candidates
        if not candidates.may_ask_again(now):
            raise self._error("no source has it" if candidates.records else "there is no source to ask")
        candidates.round += 1
        if candidates.round > self.retriever.pace.rounds or not self.patience.rest(candidates.round, candidates.pause):
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
        return self.candidates.error(f"{self.root}: {what}", [attempt for attempt, _ in self.running])
