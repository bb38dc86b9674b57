"""Garbage collection of the bridge's block store, as a loop of its own: it may take minutes."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from executor.content.blockstore import BlockStore
from executor.content.gc import collect_garbage, tell_holes
from executor.content.roots import RootSet
from executor.errors import ContentError
from executor.protocol.cid import Cid

log = structlog.get_logger("bridge.housekeeping")

EVERY_SECONDS = 3600.0
TIGHT_SECONDS = 60.0


class Housekeeping:
    """`step` collects once an hour, once a minute while there is little room left. clock: seconds since 1970."""

    def __init__(self, store: BlockStore, roots: RootSet, clock: Callable[[], float]) -> None:
        self._store = store
        self._roots = roots
        self._clock = clock
        self._last = clock()
        self._said: tuple[Cid, ...] = ()

    def step(self) -> bool:
        """Collect if it is time; whether anything was removed."""
        now = self._clock()
        if now - self._last < (TIGHT_SECONDS if self._is_tight(now) else EVERY_SECONDS):
            return False
        self._last = now
        try:
            found = collect_garbage(self._store, self._roots, now)
        except (ContentError, OSError) as exc:
            log.error("garbage collection failed; it is tried again", error=str(exc))  # noqa: TRY400
            return False
        log.info("garbage collected", blocks=found.blocks, bytes=found.bytes, roots=found.roots)
        self._said = tell_holes(log, found.holes, self._said)
        return bool(found.blocks or found.roots)

    def _is_tight(self, now: float) -> bool:
        if now - self._last < TIGHT_SECONDS:
            return False
        usage = self._store.meter.usage()
        return usage is not None and usage.is_tight
