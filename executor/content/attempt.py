"""One source at work on what is missing of a DAG, in a thread of its own; others watch it and may end it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Protocol

from executor.content.blocks import BlockStoreLike
from executor.content.cancel import Cancel
from executor.content.pacing import Measured, Runner, overall
from executor.content.patience import Patience
from executor.content.sources import OpenSources, Source
from executor.content.transfer import CarSource, Download
from executor.errors import CarError, ContentError, ContentTooLarge, PeerRefused, PeerUnavailable
from executor.protocol.cid import Cid

FRONTIER: Final = 32
"""Missing blocks that a source is asked for before it is taken to have nothing of the rest."""
PROGRESS_BYTES: Final = 256 * 1024
"""So many bytes of a block that is not whole yet count as progress: on a slow line a block of 1 MiB takes its time."""
STALLED: Final = "brought no block in time"
"""Why an attempt was ended that brought nothing for too long."""
LOST: Final = "another source was faster"
Absent = Callable[[int], list[Cid]]
"""Gives at most so many blocks that are not here, of those whose parent is."""
_NOT_THERE: Final = frozenset({404, 410})


class Watcher(Protocol):
    """Hears of attempts while they run, in whatever thread that happens: it is quick, and raises nothing."""

    def began(self, attempt: Attempt) -> None:
        """A source is about to be asked."""

    def brought(self, attempt: Attempt, total: int) -> None:
        """A verified block came. total: bytes of those that were not here, since the attempt began."""

    def ended(self, attempt: Attempt) -> None:
        """It is over; `failure` and `ended_for` say how."""


class Attempt:
    """What a source brings until it has no more, fails or is ended.

    taken: verified blocks. sizes: theirs. had: those of them that were here. blocks, bytes: those that were not, and
    their bytes. longest_wait: seconds between two blocks. measured: its rate. is_slow: others are asked because of
    that. ended_for: why it was ended from outside. failure: what the source did, or the error of the content itself or
    the store (`is_fatal`), which no other source can mend.
    """

    def __init__(self, source: Source, wake: Callable[[], None], watcher: Watcher | None = None) -> None:
        self.source = source
        self.cancel = Cancel()
        self.failure: PeerUnavailable | PeerRefused | ContentError | None = None
        self.ended_for = ""
        self.taken = 0
        self.blocks = 0
        self.bytes = 0
        self.sizes: dict[Cid, int] = {}
        self.had: set[Cid] = set()
        self.started = time.monotonic()
        self.last_block = self.last_progress = self.started
        self.longest_wait = 0.0
        self.measured = Measured(self.started)
        self.is_slow = False
        self.race_mark: int | None = None
        self._unfinished = 0
        self._wake = wake
        self._watcher = watcher
        self._download: Download | None = None

    @property
    def is_fatal(self) -> bool:
        """Whether the fault is not the source's."""
        if isinstance(self.failure, ContentTooLarge):
            return "CAR" not in self.failure.what
        return isinstance(self.failure, ContentError) and not self.has_lied

    @property
    def has_lied(self) -> bool:
        """Whether the source sent what is not what was asked for."""
        return isinstance(self.failure, CarError) or (
            isinstance(self.failure, ContentTooLarge) and "CAR" in self.failure.what
        )

    @property
    def has_it_not(self) -> bool:
        """Whether the source said that it lacks the content, which is no fault."""
        return isinstance(self.failure, PeerRefused) and self.failure.status in _NOT_THERE

    @property
    def leads(self) -> bool:
        """Whether it brought a block since the race began."""
        return self.race_mark is not None and self.taken > self.race_mark

    def runner(self, now: float, window: float) -> Runner:
        """How it does in a race of rates."""
        return Runner(overall(self.bytes, now - self.started, window), self.measured.rate, self.is_slow, self.leads)

    def end(self, why: str) -> None:
        """Have it stop at once; its sockets are closed by its own thread, which this wakes."""
        self.ended_for = self.ended_for or why
        self.cancel.now()

    def flush(self) -> None:
        """Store what it verified, so that another source is not asked for it."""
        download = self._download
        if download is not None:
            download.flush()

    def run(self, clients: OpenSources, store: BlockStoreLike, absent: Absent, room: int, patience: Patience) -> None:
        """Bring all that is missing. Whatever is expected to go wrong is found in `failure` afterwards."""
        try:
            with self.cancel.scope(), clients.using(self.source) as client:
                while wanted := absent(FRONTIER):
                    self._bring(client, store, wanted, room, patience)
        except (PeerUnavailable, PeerRefused, ContentError) as exc:
            self.failure = exc

    def _bring(
        self, client: CarSource, store: BlockStoreLike, wanted: list[Cid], room: int, patience: Patience
    ) -> None:
        """The DAGs below some blocks. A source that lacks one may have the next; PeerRefused where it has none."""
        refusal: PeerRefused | None = None
        before = self.taken
        for cid in wanted:
            if self.cancel.done:
                raise PeerUnavailable(self.ended_for)
            if store.has(cid):
                continue
            try:
                self._download_one(client, store, cid, room, patience)
            except PeerRefused as exc:
                if exc.status not in _NOT_THERE:
                    raise
                refusal = exc
        if refusal is not None and self.taken == before:
            raise refusal

    def _download_one(self, client: CarSource, store: BlockStoreLike, cid: Cid, room: int, patience: Patience) -> None:
        taken, blocks, size = self.taken, self.blocks, self.bytes
        download = Download(client, store, patience, room - size, lambda count: self._note(taken, size, count))
        self._download = download
        try:
            download.run(cid)
        finally:
            self.taken = taken + download.taken
            self.blocks = blocks + download.blocks
            self.bytes = size + download.bytes
            self.sizes |= download.sizes
            self.had |= download.had
        if not download.taken:
            raise PeerUnavailable("the stream ends before its first block")

    def _note(self, taken_before: int, size_before: int, count: int) -> None:
        """A piece came."""
        download = self._download
        now = time.monotonic()
        self._unfinished += count
        taken = taken_before + (download.taken if download else 0)
        if taken > self.taken:
            self.longest_wait = max(self.longest_wait, now - self.last_block)
            self.last_block = self.last_progress = now
            self.taken, self._unfinished = taken, 0
            self.bytes = size_before + (download.bytes if download else 0)
            if self._watcher is not None:
                self._watcher.brought(self, self.bytes)
            if self.leads:
                self._wake()
        elif self._unfinished >= PROGRESS_BYTES:
            self.last_progress, self._unfinished = now, 0
