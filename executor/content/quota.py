"""How much a block store may hold, and how much of its disk stays free.

    root/usage      five numbers of 64 bits: bytes in use, the most that may be in use (0: no limit), bytes kept free;
                    all bytes that were ever counted before a block was written, and how often all was counted anew

Whoever owns the store writes the limits there; from then on every process that puts a block counts it in the file
before it writes the block: a `kill -9` in between leaves the count too high, never too low. Garbage collection counts
anew while others write and remove: what it cannot know for certain leaves the count too high until the next time. A
store whose limits nobody set has no such file, and no limits. A block counts with whole pages of the disk, so that a
million tiny ones are not taken for nothing.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from executor.errors import DiskFull

DEFAULT_MIN_FREE_BYTES: Final = 2**30
_PAGE: Final = 4096
_NUMBERS: Final = struct.Struct("<QQQQQ")
_OLD_BYTES: Final = 24
"""Of a file that an earlier version wrote: the first three."""
_TIGHT: Final = 0.9


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """max_bytes: of all blocks, 0 for no limit. min_free_bytes: of the disk, that no block is written into."""

    max_bytes: int = 0
    min_free_bytes: int = DEFAULT_MIN_FREE_BYTES


@dataclass(frozen=True, slots=True)
class Usage:
    """What a store holds, its limits, and bytes that its disk has left."""

    used: int
    limits: StoreLimits
    free: int

    @property
    def is_tight(self) -> bool:
        """Whether little room is left, so that what nobody keeps should go."""
        most = self.limits.max_bytes
        return (most > 0 and self.used > _TIGHT * most) or self.free * _TIGHT < self.limits.min_free_bytes

    def refusal(self, needed: int) -> str:
        """Why so many more bytes cannot be stored; '' if they can."""
        most, kept_free = self.limits.max_bytes, self.limits.min_free_bytes
        if most and self.used + needed > most:
            return (
                f"it holds {self.used} bytes, {needed} more are over its limit of {most}: unpin what is not needed and"
                " collect garbage, or raise the limit"
            )
        if kept_free and self.free - needed < kept_free:
            return (
                f"its disk has {self.free} bytes left, of which {kept_free} are kept free: make room there, unpin what"
                " is not needed and collect garbage, or keep less free"
            )
        return ""


def on_disk(size: int) -> int:
    """What a block of so many bytes counts."""
    return -(-max(size, 1) // _PAGE) * _PAGE


class Meter:
    """The count of one store. scan: its blocks' bytes as they lie there, each as `on_disk`; it reads whole folders."""

    def __init__(self, root: Path, scan: Callable[[], int]) -> None:
        self._root = root
        self._path = root / "usage"
        self._scan = scan

    def set_limits(self, limits: StoreLimits) -> None:
        """Count and limit from now on, in every process."""
        self._path.touch(mode=0o600)
        with self._locked() as descriptor:
            known = _read(descriptor)
            count = _Count(self._scan()) if known is None else known
            _write(descriptor, replace(count, limits=limits))

    def usage(self) -> Usage | None:
        """What is counted; None where nobody set limits."""
        try:
            with self._locked() as descriptor:
                return self._usage(self._count(descriptor))
        except FileNotFoundError:
            return None

    def era(self) -> int | None:
        """Which count this is, for `release`; ask before a block is removed. None where nobody set limits."""
        try:
            with self._locked() as descriptor:
                return self._count(descriptor).era
        except FileNotFoundError:
            return None

    def reserve(self, size: int) -> int | None:
        """Count a block that is to be written; DiskFull where there is no room for it. In which era, for `release`."""
        needed = on_disk(size)
        try:
            with self._locked() as descriptor:
                count = self._count(descriptor)
                problem = self._usage(count).refusal(needed)
                if problem:
                    raise DiskFull(f"no space left in the block store {str(self._root)!r}: {problem}")
                _write(descriptor, replace(count, used=count.used + needed, reserved=count.reserved + needed))
                return count.era
        except FileNotFoundError:
            return None

    def release(self, size: int, era: int | None) -> None:
        """A block is not there, or no longer. era: of before it was counted, or was removed.

        Where all was counted anew since then, this block is not in the new count, or is by mistake until the next one.
        """
        if era is None:
            return
        with suppress(FileNotFoundError), self._locked() as descriptor:
            count = self._count(descriptor)
            if count.era == era:
                _write(descriptor, replace(count, used=max(0, count.used - on_disk(size))))

    def begin(self) -> int | None:
        """What `recount` has to be given. While this is called, no block that was counted may still be on its way."""
        try:
            with self._locked() as descriptor:
                return self._count(descriptor).reserved
        except FileNotFoundError:
            return None

    def recount(self, begun: int | None) -> None:
        """Take what is on disk instead of the count. Others go on meanwhile; all that they add counts, seen or not."""
        if begun is None:
            return
        scanned = self._scan()
        with self._locked() as descriptor:
            count = self._count(descriptor)
            used = scanned + max(0, count.reserved - begun)
            _write(descriptor, replace(count, used=used, era=count.era + 1))

    def _count(self, descriptor: int) -> _Count:
        return _read(descriptor) or _Count(self._scan())

    def _usage(self, count: _Count) -> Usage:
        disk = os.statvfs(self._root)
        return Usage(count.used, count.limits, disk.f_bavail * disk.f_frsize)

    @contextmanager
    def _locked(self) -> Iterator[int]:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)  # gives the lock back


@dataclass(frozen=True, slots=True)
class _Count:
    """What the file holds. reserved: all that was ever added to `used`. era: how often all was counted anew."""

    used: int
    limits: StoreLimits = StoreLimits()
    reserved: int = 0
    era: int = 0


def _read(descriptor: int) -> _Count | None:
    """None where not all is there: a new file, or one that a crash of the system emptied."""
    raw = os.pread(descriptor, _NUMBERS.size, 0)
    if len(raw) < _OLD_BYTES:
        return None
    used, most, kept_free, reserved, era = _NUMBERS.unpack(raw.ljust(_NUMBERS.size, b"\0"))
    return _Count(used, StoreLimits(most, kept_free), reserved, era)


def _write(descriptor: int, count: _Count) -> None:
    limits = count.limits
    numbers = _NUMBERS.pack(count.used, limits.max_bytes, limits.min_free_bytes, count.reserved, count.era)
    os.pwrite(descriptor, numbers, 0)
