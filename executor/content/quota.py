"""How much a block store may hold, and how much of its disk stays free.

    root/usage      three numbers of 64 bits: bytes in use, the most that may be in use (0: no limit), bytes kept free

Whoever owns the store writes the limits there; from then on every process that puts a block counts it in the file
before it writes the block: a `kill -9` in between leaves the count too high, never too low. Garbage collection counts
anew. A store whose limits nobody set has no such file, and no limits. A block counts with whole pages of the disk, so
that a million tiny ones are not taken for nothing.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from executor.errors import DiskFull

DEFAULT_MIN_FREE_BYTES: Final = 2**30
_PAGE: Final = 4096
_NUMBERS: Final = struct.Struct("<QQQ")
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
            used = self._scan() if known is None else known[0]
            _write(descriptor, used, limits)

    def usage(self) -> Usage | None:
        """What is counted; None where nobody set limits."""
        try:
            with self._locked() as descriptor:
                return self._usage(descriptor)
        except FileNotFoundError:
            return None

    def reserve(self, size: int) -> None:
        """Count a block that is to be written; DiskFull where there is no room for it."""
        needed = on_disk(size)
        try:
            with self._locked() as descriptor:
                found = self._usage(descriptor)
                problem = found.refusal(needed)
                if problem:
                    raise DiskFull(f"no space left in the block store {str(self._root)!r}: {problem}")
                _write(descriptor, found.used + needed, found.limits)
        except FileNotFoundError:
            return

    def release(self, size: int) -> None:
        """A block is not there, or no longer."""
        try:
            with self._locked() as descriptor:
                found = self._usage(descriptor)
                _write(descriptor, max(0, found.used - on_disk(size)), found.limits)
        except FileNotFoundError:
            return

    def recount(self) -> None:
        """Take what is on disk instead of the count. Writers go on meanwhile; what they add counts too."""
        before = self.usage()
        if before is None:
            return
        scanned = self._scan()
        with self._locked() as descriptor:
            found = self._usage(descriptor)
            _write(descriptor, scanned + max(0, found.used - before.used), found.limits)

    def _usage(self, descriptor: int) -> Usage:
        used, most, kept_free = _read(descriptor) or (self._scan(), 0, DEFAULT_MIN_FREE_BYTES)
        disk = os.statvfs(self._root)
        return Usage(used, StoreLimits(most, kept_free), disk.f_bavail * disk.f_frsize)

    @contextmanager
    def _locked(self) -> Iterator[int]:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)  # gives the lock back


def _read(descriptor: int) -> tuple[int, int, int] | None:
    """The three numbers; None where they are not all there: a new file, or one that a crash of the system emptied."""
    raw = os.pread(descriptor, _NUMBERS.size, 0)
    if len(raw) < _NUMBERS.size:
        return None
    used, most, kept_free = _NUMBERS.unpack(raw)
    return used, most, kept_free


def _write(descriptor: int, used: int, limits: StoreLimits) -> None:
    os.pwrite(descriptor, _NUMBERS.pack(used, limits.max_bytes, limits.min_free_bytes), 0)
