"""Content on its way into a store: kept from its first block on, so that what a crash cut short can be resumed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from executor.content.blocks import Block
from executor.content.blockstore import BlockStore
from executor.content.car import CarLimits, CarParser, read_car
from executor.content.roots import RootSet
from executor.content.walk import missing
from executor.errors import CarError, ContentTooLarge, DiskFull
from executor.protocol.cid import Cid

ARRIVING: Final = "arriving"
"""The label of what is not all here yet."""
ARRIVAL_SECONDS: Final = 24 * 3600.0
"""How long blocks of an arrival that was cut short are kept for the next try."""


@dataclass(frozen=True, slots=True)
class Kept:
    """How long to keep what arrives, and why. expires_at: seconds since 1970, None for as long as nobody drops it."""

    label: str
    expires_at: float | None = None


@contextmanager
def arriving(roots: RootSet, cids: Sequence[Cid], kept: Kept, now: float) -> Iterator[None]:
    """Keep DAGs while they arrive, and then as `kept` says; after an error for ARRIVAL_SECONDS from `now`."""
    for cid in cids:
        roots.keep(cid, ARRIVING, now + ARRIVAL_SECONDS)
    yield
    for cid in cids:
        roots.keep(cid, kept.label, kept.expires_at)
        roots.drop(cid, ARRIVING)
    roots.note_whole(cids)


@dataclass(slots=True)
class CarImport:
    """One CAR stream into a store; `run` it once. roots: of its header. blocks: verified ones that it brought; new:
    those of them that were not here.
    """

    store: BlockStore
    kept_roots: RootSet
    limits: CarLimits
    roots: tuple[Cid, ...] = ()
    blocks: int = 0
    new: int = 0
    failure: CarError | ContentTooLarge | None = None

    def run(self, pieces: Iterable[bytes], kept: Kept, now: float) -> None:
        """Store every block, verified, and keep the roots. Blocks that are here already are not written again.

        CarError where the stream is cut or wrong, or is at its end and a block below its roots is missing. All good
        blocks before that are stored, and those that the roots reach are kept for ARRIVAL_SECONDS. DiskFull.
        """
        parser = CarParser(self.limits)
        try:
            self.store.put_many(self._good(pieces, parser, now))
        except DiskFull as exc:
            raise DiskFull(f"{exc}; what was stored before stays for a day: make room, and import again") from exc
        if self.failure is not None:
            raise CarError(f"{self.failure}. {self._stored()}") from self.failure
        with arriving(self.kept_roots, self.roots, kept, now):
            seen: set[Cid] = set()  # a header may name hundreds of roots above one DAG
            absent = [cid for root in self.roots for cid in missing(self.store, root, seen=seen)]
            if absent:
                lack = f"{len(absent)} blocks below its roots are neither in it nor here, the first is {absent[0]}"
                raise CarError(f"{lack}. {self._stored()}")

    def _good(self, pieces: Iterable[bytes], parser: CarParser, now: float) -> Iterator[Block]:
        """The blocks before any error. It is kept, not raised: whoever stores them would lose its last group."""
        try:
            for block in read_car(pieces, parser):
                self._begin(parser, now)
                self.blocks += 1
                self.new += not self.store.has(block[0])
                yield block
            self._begin(parser, now)
        except (CarError, ContentTooLarge) as exc:
            self.failure = exc

    def _begin(self, parser: CarParser, now: float) -> None:
        if self.roots:
            return
        self.roots = tuple(dict.fromkeys(parser.roots or ()))
        if not self.roots:
            raise CarError("the header names no root, so nothing says what is to be kept")
        for cid in self.roots:
            self.kept_roots.keep(cid, ARRIVING, now + ARRIVAL_SECONDS)

    def _stored(self) -> str:
        if not self.blocks:
            return "Nothing was stored"
        return f"{self.blocks} verified blocks are stored ({self.new} were new), and kept for a day: import it again"
