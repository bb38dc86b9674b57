"""Where a node looks for inputs beside its bridge: gateways that its operator lists, and his own Kubo.

What such a source serves, it serves to whoever asks (a Kubo: to its peers), so a job may read what came from there.
What is in the node's own store proves nothing: it came for some job, maybe another account's. And a root that is served
proves nothing for the blocks below it: anybody can make a directory around the CID of somebody else's file. So, without
the bridge's word for the lease, every block of a DAG comes anew, from a source that is open to the job.

Private data of the operator's policy is asked of the bridge alone, every block of it: who asks tells that he wants it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from typing import Final

from executor.agent.classes import Classes
from executor.content.blocks import Block, BlockStoreLike
from executor.content.candidates import Share
from executor.content.patience import Patience
from executor.content.retrieval import Pace, Retriever
from executor.content.scoring import Score
from executor.content.sources import Source, gateway_source, kubo_source
from executor.content.transfer import TRIES, CarSource
from executor.content.weburl import shown
from executor.errors import BlockMissing, PeerRefused, PeerUnavailable
from executor.protocol.cid import Cid

PACE: Final = Pace(rounds=TRIES - 1)
KEPT: Final = 4
"""Retrievers that are kept while nothing is fetched, each with its connections."""


def outside_of(
    gateways: Sequence[str], kubo: str, store: BlockStoreLike, classes: Classes, pace: Pace = PACE
) -> Outside | None:
    """The sources of a node's configuration; None where there are none. In receipts a Kubo's address is not named."""
    sources = [replace(gateway_source(url), name=f"gateway:{shown(url)}") for url in gateways]
    if kubo:
        sources.append(replace(kubo_source(kubo), name="kubo"))
    return Outside(sources, store, classes, pace) if sources else None


class Outside:
    """The sources of one node, and what it knows of them. Any number of threads; `close` it."""

    def __init__(self, sources: Iterable[Source], store: BlockStoreLike, classes: Classes, pace: Pace = PACE) -> None:
        self._sources = [_without_private(source, classes) for source in sources]
        self._store = store
        self._pace = pace
        self._lock = threading.Lock()
        self._open: set[Retriever] = set()
        self._idle: list[Retriever] = []
        self.scores: dict[str, Score] = {}

    def close(self) -> None:
        """End what is being fetched, with PeerUnavailable, and close all connections."""
        with self._lock:
            retrievers, self._open, self._idle = self._open, set(), []
        for retriever in retrievers:
            with suppress(PeerUnavailable):
                retriever.close()

    def fetch(
        self, root: Cid, *, name: str, bridge: CarSource, is_open: bool, max_bytes: int, patience: Patience
    ) -> tuple[Share, ...]:
        """Bring a DAG into the store; what each source brought of it.

        bridge, name: the lease's content there, asked first. is_open: the bridge says that the lease may read all of
        it; else what is here counts as absent. Errors as `Retriever.fetch`, and whatever `bridge` raises.
        """
        first = Source(name, lambda: nullcontext(bridge), is_lent=True)
        store = self._store if is_open else Anew(self._store)
        with self._retriever() as retriever:
            found = retriever.fetch(root, max_bytes=max_bytes, patience=patience, first=first, store=store)
        return found.shares

    @contextmanager
    def _retriever(self) -> Iterator[Retriever]:
        """One that nobody else uses: a fetch that takes long keeps no other job waiting."""
        with self._lock:
            if self._idle:
                retriever = self._idle.pop()
            else:
                retriever = Retriever(self._sources, self._store, pace=self._pace, scores=self.scores)
                self._open.add(retriever)
        try:
            yield retriever
        finally:
            with self._lock:
                is_kept = len(self._idle) < KEPT and not retriever.closed
                if is_kept:
                    self._idle.append(retriever)
                self._open -= set() if is_kept else {retriever}
            if not is_kept:
                retriever.close()


class Anew:
    """A store in which only what was put through this is here."""

    def __init__(self, store: BlockStoreLike) -> None:
        self._store = store
        self._brought: set[Cid] = set()

    def has(self, cid: Cid) -> bool:
        """Whether the block came, and is still here."""
        return cid in self._brought and self._store.has(cid)

    def get(self, cid: Cid) -> bytes:
        """The verified bytes of a block that came; BlockMissing, BlockMismatch."""
        if cid not in self._brought:
            raise BlockMissing(cid)
        return self._store.get(cid)

    def put_many(self, blocks: Iterable[Block]) -> int:
        """Verify and store blocks; the number of blocks taken."""
        taken = list(blocks)
        count = self._store.put_many(taken)
        self._brought.update(cid for cid, _ in taken)
        return count


class _NotPrivate:
    """A source that is never asked for the operator's private data."""

    def __init__(self, source: CarSource, classes: Classes) -> None:
        self._source = source
        self._classes = classes

    def get_car(self, cid: Cid) -> AbstractContextManager[Iterator[bytes]]:
        """The DAG below a CID as a CAR stream; PeerRefused (404) for what is private."""
        if self._classes.of([cid]):
            raise PeerRefused(404, "is private data of this node's operator: only the bridge is asked for it")
        return self._source.get_car(cid)


def _without_private(source: Source, classes: Classes) -> Source:
    @contextmanager
    def opened() -> Iterator[CarSource]:
        with source.open() as client:
            yield _NotPrivate(client, classes)

    return replace(source, open=opened)
