"""Moving a DAG between this store and a peer: resumable in both directions, verified before it is stored.

Nothing here knows HTTP: a peer is three small calls (`executor.content.web` has those that speak it). Every transfer
ends: by its deadline, by a source that brings nothing new, or at once when a source sends what nobody asked for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, Protocol

from executor.content.blocks import Block, BlockStoreLike
from executor.content.car import CarLimits, CarParser, write_car
from executor.content.patience import Patience
from executor.content.walk import MAX_BLOCKS, Frontier, StoredSize, blocks, links, missing, stored_size, walk
from executor.errors import BlockMismatch, BlockMissing, CarError, ContentTooLarge, PeerRefused, PeerUnavailable
from executor.protocol.cid import Cid

SEGMENT_BYTES: Final = 16 * 2**20
"""Blocks of one upload: held in memory, because the call's signature covers its body."""
MAX_SEGMENT_BYTES: Final = 48 * 2**20
BLOCK_SECONDS: Final = 30.0
"""A download that completes no block for this long is given up and resumed; silence ends earlier (in the peer)."""
TRIES: Final = 8
"""Tries in a row that bring nothing new before a peer is given up."""
_BATCH_BYTES: Final = 8 * 2**20


class CarSource(Protocol):
    """Where a DAG comes from."""

    def get_car(self, cid: Cid) -> AbstractContextManager[Iterator[bytes]]:
        """The DAG below a CID as a CAR stream, parents first. PeerUnavailable, PeerRefused (404: not there)."""


class CarSink(Protocol):
    """Where a DAG goes."""

    def missing(self, root: Cid) -> tuple[Cid, ...]:
        """Some blocks below `root` that it lacks, none of them below another; empty when it has all."""

    def put_car(self, root: Cid, car: bytes) -> tuple[Cid, ...]:
        """Give it blocks below `root`; what it lacks then."""


class Peer(CarSource, CarSink, Protocol):
    """Both."""


@dataclass(frozen=True, slots=True)
class Moved:
    """What one transfer moved: blocks and their bytes, not counting what was there before."""

    blocks: int
    bytes: int


def fetch_dag(source: CarSource, store: BlockStoreLike, root: Cid, *, max_bytes: int, patience: Patience) -> Moved:
    """Bring everything below `root` into `store`; asks only for what is not there, or is there and damaged.

    PeerUnavailable when the deadline passes or the source goes quiet; PeerRefused as the source said it; CarError when
    the source sends wrong or unasked bytes (never worth a retry); ContentTooLarge when the DAG's distinct blocks have
    more than `max_bytes`; BlockMismatch where the store damages blocks again and again. Whatever was verified stays in
    the store, so that the next call resumes.
    """
    moved = Moved(0, 0)
    sizes: dict[Cid, int] = {}
    for _ in range(TRIES):
        moved = _fetch_absent(source, store, root, moved, max_bytes, patience, sizes)
        try:
            size = stored_size(store, root, sizes)
        except (BlockMismatch, BlockMissing) as exc:
            failure = exc
            missing(store, root, verify=True)  # reads every block, so that all damaged ones are absent now
        else:
            _check_size(size, max_bytes)
            return moved
    raise failure


def _fetch_absent(
    source: CarSource,
    store: BlockStoreLike,
    root: Cid,
    moved: Moved,
    max_bytes: int,
    patience: Patience,
    sizes: dict[Cid, int],
) -> Moved:
    idle, since = 0, patience.clock()
    frontier = Frontier(root)
    while absent := frontier.missing(store, limit=1):
        download = Download(source, store, patience, max_bytes - moved.bytes)
        try:
            download.run(absent[0])
        except PeerUnavailable as exc:
            failure = exc
        else:
            failure = PeerUnavailable(f"{root}: the peer ends the stream before the whole DAG is here")
        idle, since = (0, patience.clock()) if download.blocks else (idle + 1, since)
        moved = Moved(moved.blocks + download.blocks, moved.bytes + download.bytes)
        sizes |= download.sizes
        is_hopeless = idle >= TRIES or (idle and patience.clock() - since >= patience.stubborn)
        wants_rest = download.failed or not download.blocks
        if wants_rest and (is_hopeless or not patience.rest(max(1, idle), failure.retry_after)):
            raise failure
    return moved


def upload_dag(
    sink: CarSink, store: BlockStoreLike, root: Cid, *, patience: Patience, segment_bytes: int = SEGMENT_BYTES
) -> Moved:
    """Give a peer everything below `root` that it lacks, in segments; BlockMissing where it is not all here.

    PeerUnavailable when the deadline passes; PeerRefused as the peer said it, when it asks for anything else, or when
    it takes the same blocks again and again and still lacks them.
    """
    moved = Moved(0, 0)
    absent = patience.persist(lambda: sink.missing(root))
    below = set(walk(store, root)) if absent else set()
    idle = 0
    while absent:
        for cid in absent:
            if cid not in below:  # the store may hold it for others, and the peer know its name
                raise PeerRefused(200, f"the peer asks for {cid}, which is nothing of {root}")
        segment = _segment(store, absent, min(segment_bytes, MAX_SEGMENT_BYTES))
        car = b"".join(write_car([root], segment))
        left = patience.persist(_putting(sink, root, car))
        moved = Moved(moved.blocks + len(segment), moved.bytes + sum(len(block) for _, block in segment))
        idle = idle + 1 if left == absent else 0
        if idle >= TRIES:
            raise PeerRefused(200, f"the peer takes {absent[0]} again and again and still lacks it")
        if left and not patience.left:
            raise PeerUnavailable("the time for this transfer is over")
        patience.pause(0.0)  # whoever waits may end it between two segments
        absent = left
    return moved


def _putting(sink: CarSink, root: Cid, car: bytes) -> Callable[[], tuple[Cid, ...]]:
    """`put_car` as a call that can be repeated: the same blocks again do no harm."""
    return lambda: sink.put_car(root, car)


def _segment(store: BlockStoreLike, roots: Sequence[Cid], max_bytes: int) -> list[Block]:
    """Blocks below `roots`, parents first, each once, at least one and not more than `max_bytes` of them."""
    taken: dict[Cid, bytes] = {}
    size = 0
    for root in roots:
        for cid, block in blocks(store, root):
            if cid in taken:
                continue
            size += len(block) + 40  # a CAR section's CID and length
            if taken and size > max_bytes:
                return list(taken.items())
            taken[cid] = block
    return list(taken.items())


def _check_size(size: StoredSize, max_bytes: int) -> None:
    if size.bytes > max_bytes:
        raise ContentTooLarge("bytes of all blocks", max_bytes)


class Download:
    """One CAR stream into the store. Only blocks that the DAG needs are taken: each must be linked by one before it.

    room: bytes of blocks that may come. progress: told after each piece how many bytes it had. sizes: of the verified
    blocks that came; had: those of them that the store had before. taken, blocks, bytes: the number of all, that of
    those that the store had not, and the bytes of these.
    """

    def __init__(
        self,
        source: CarSource,
        store: BlockStoreLike,
        patience: Patience,
        room: int,
        progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.blocks = 0
        self.bytes = 0
        self.failed = False
        self._progress = progress
        self._lock = threading.Lock()
        self._source = source
        self._store = store
        self._patience = patience
        self._room = max(0, room)
        self._wanted: set[Cid] = set()
        self.sizes: dict[Cid, int] = {}
        self.had: set[Cid] = set()
        self._batch: list[Block] = []
        self._batch_bytes = 0
        self._storer = ThreadPoolExecutor(1, thread_name_prefix="storing")
        self._storing: Future[int] | None = None
        self._last = patience.clock()

    def run(self, cid: Cid) -> None:
        """Read the DAG below `cid`. PeerUnavailable when it is cut, too slow or late; CarError when it is wrong."""
        self._wanted.add(cid)
        parser = CarParser(CarLimits(total_bytes=2 * self._room + 2**20))
        try:
            with self._storer, self._source.get_car(cid) as pieces:
                for piece in pieces:
                    for block in parser.feed(piece):
                        self._take(block)
                    self._progress(len(piece))
                    self._check_pace()
            self._end(parser)
        except PeerUnavailable:
            self.failed = True
            raise
        finally:
            self.flush()

    @property
    def taken(self) -> int:
        """How many verified blocks came."""
        return len(self.sizes)

    def flush(self) -> None:
        """Store what was verified up to now; any thread may ask for it."""
        with self._lock:
            batch = self._next_batch()
            if batch:
                self._store.put_many(batch)

    def _flush_meanwhile(self) -> None:
        """Store in another thread, while the next blocks come."""
        with self._lock:
            self._storing = self._storer.submit(self._store.put_many, self._next_batch())

    def _next_batch(self) -> list[Block]:
        """What is to be stored, when the batch before it is; an error of that one is raised here."""
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        before, self._storing = self._storing, None
        if before is not None:
            before.result()
        return batch

    def _end(self, parser: CarParser) -> None:
        parser.feed(b"")  # an error that was kept back for the good blocks before it: the source is bad
        try:
            parser.finish()
        except CarError as exc:
            raise PeerUnavailable(f"the CAR stream is cut: {exc}") from exc

    def _take(self, block: Block) -> None:
        cid, content = block
        if cid in self.sizes:
            return
        if cid not in self._wanted:
            raise CarError(f"block {cid} is nothing that was asked for")
        if self.bytes + len(content) > self._room:
            raise ContentTooLarge("bytes of all blocks", self._room)
        self._wanted.update(links(cid, content))
        if len(self._wanted) > MAX_BLOCKS:
            raise ContentTooLarge("blocks of a DAG", MAX_BLOCKS)
        self.sizes[cid] = len(content)
        with self._lock:
            self._batch.append(block)
            self._batch_bytes += len(content)
        if self._store.has(cid):  # a subtree that is asked for may hold blocks that came with another one
            self.had.add(cid)
        else:
            self.bytes += len(content)
            self.blocks += 1
        self._last = self._patience.clock()
        if self._batch_bytes >= _BATCH_BYTES:
            self._flush_meanwhile()

    def _check_pace(self) -> None:
        now = self._patience.clock()
        if now >= self._patience.deadline:
            raise PeerUnavailable("the time for this transfer is over")
        if now - self._last > BLOCK_SECONDS:
            raise PeerUnavailable(f"the peer brought no whole block for {BLOCK_SECONDS:.0f} s")
