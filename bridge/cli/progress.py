"""Progress bars on standard error, for people only: none with --json, none where nobody looks at a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bridge.cli.output import errors
from executor.content.blocks import Block, BlockSink, BlockSource, BlockStoreLike
from executor.content.transfer import CarSink
from executor.protocol.cid import Cid

Advance = Callable[[int], object]


def is_shown(*, as_json: bool) -> bool:
    """Whether there is a bar at all."""
    return sys.stderr.isatty() and not as_json


@contextmanager
def progress(what: str, total: int | None, *, as_json: bool, unit: str = "bytes") -> Iterator[Advance]:
    """A bar while something runs: call what it gives with how much was done. total: None where nobody knows.

    unit: "bytes" (shown with speed) or the name of what is counted.
    """
    if not is_shown(as_json=as_json):
        yield lambda _: None
        return
    from rich import progress as bars

    counted = bars.DownloadColumn() if unit == "bytes" else bars.TextColumn("{task.completed:.0f} {task.fields[unit]}")
    columns = [bars.TextColumn("{task.description}"), bars.BarColumn(), counted, bars.TimeRemainingColumn()]
    if unit == "bytes":
        columns.insert(3, bars.TransferSpeedColumn())
    with bars.Progress(*columns, console=errors, transient=True) as bar:
        task = bar.add_task(what, total=total, unit=unit)
        yield lambda count: bar.advance(task, count)


@dataclass(frozen=True, slots=True)
class WatchedSink:
    """Something that takes blocks, and tells of the bytes that it took."""

    sink: BlockSink
    written: Advance

    def put_many(self, blocks: Iterable[Block]) -> int:
        """See BlockSink."""
        return self.sink.put_many(self._told(blocks))

    def _told(self, blocks: Iterable[Block]) -> Iterator[Block]:
        for block in blocks:
            yield block
            self.written(len(block[1]))


@dataclass(frozen=True, slots=True)
class Watched:
    """A block store that tells of the bytes that are written to it."""

    store: BlockStoreLike
    written: Advance

    def get(self, cid: Cid) -> bytes:
        """See BlockSource."""
        return self.store.get(cid)

    def has(self, cid: Cid) -> bool:
        """See BlockSource."""
        return self.store.has(cid)

    def put_many(self, blocks: Iterable[Block]) -> int:
        """See BlockSink."""
        return WatchedSink(self.store, self.written).put_many(blocks)


@dataclass(frozen=True, slots=True)
class WatchedSource:
    """A source of blocks that tells of the bytes that are read from it."""

    source: BlockSource
    read: Advance

    def get(self, cid: Cid) -> bytes:
        """See BlockSource."""
        block = self.source.get(cid)
        self.read(len(block))
        return block

    def has(self, cid: Cid) -> bool:
        """See BlockSource."""
        return self.source.has(cid)


@dataclass(frozen=True, slots=True)
class WatchedUpload:
    """A place that takes blocks as CAR, and tells of the bytes that it took."""

    sink: CarSink
    sent: Advance

    def missing(self, root: Cid) -> tuple[Cid, ...]:
        """See CarSink."""
        return self.sink.missing(root)

    def put_car(self, root: Cid, car: bytes) -> tuple[Cid, ...]:
        """See CarSink."""
        left = self.sink.put_car(root, car)
        self.sent(len(car))
        return left
