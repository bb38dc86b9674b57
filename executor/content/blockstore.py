"""Blocks on disk, one file each, named by their CID.

    root/blocks/<2 characters>/<CID>    a block; the folder is named after the last characters of the CID but one
    root/tmp/<pid>-<random>             a block that is being written
    root/tmp/damaged-<CID>-<random>     a block whose bytes were not its own
    root/lock                           shared: writers of blocks and roots; exclusive: garbage collection, for moments
    root/usage                          how much there is and may be, where somebody set limits (quota.py)
    root/roots.sqlite3                  which DAGs are kept, and which of them are public (roots.py)

Any number of processes may use one store. A block appears under its name only when its bytes were verified and are on
disk, so that kill -9 or a power cut leaves at most files in tmp/, which garbage collection removes. Bytes are verified
again whenever they are read: a damaged block is never handed out but moved to tmp/, and the log names it. It counts as
absent then, and is fetched or uploaded anew. Outputs in quarantine lie elsewhere (executor/quarantine.py).
"""

from __future__ import annotations

import fcntl
import os
import secrets
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from executor.content.ahead import LONG_BYTES, in_order
from executor.content.blocks import Block, Verified
from executor.content.dagpb import MAX_BLOCK_BYTES
from executor.content.disk import is_disk_full, sync_folder
from executor.content.quota import Meter, on_disk
from executor.errors import BlockMismatch, BlockMissing, ContentTooLarge, DiskFull, InvalidInput
from executor.protocol.cid import Cid

log = structlog.get_logger("insula.content")

BATCH_BLOCKS: Final = 64
BATCH_BYTES: Final = 8 * 1024 * 1024
"""put_many makes blocks durable in groups of this size: one flush of many files is far cheaper than many of one."""


@dataclass(frozen=True, slots=True)
class BlockStat:
    """size: bytes of the block as it lies on disk, unverified; written_at: when it was last put, seconds since 1970."""

    size: int
    written_at: float


@dataclass(frozen=True, slots=True)
class _Pending:
    """A block in tmp/ that is not yet durable; its file is still open."""

    target: Path
    path: Path
    descriptor: int
    era: int | None


class BlockStore:
    """See the module. Creates `root` (0700) where it does not exist; create=False: only to read, it may be absent."""

    def __init__(self, root: Path, max_block_bytes: int = MAX_BLOCK_BYTES, *, create: bool = True) -> None:
        self.root = root
        self.max_block_bytes = max_block_bytes
        self._blocks = root / "blocks"
        self._tmp = root / "tmp"
        self.meter = Meter(root, self._bytes_on_disk)
        if not create:
            return
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._blocks.mkdir(mode=0o700, exist_ok=True)
        self._tmp.mkdir(mode=0o700, exist_ok=True)
        (root / "lock").touch(mode=0o600)

    def put(self, cid: Cid, block: bytes) -> None:
        """Store one block; when this returns, it is on disk. BlockMismatch, ContentTooLarge, DiskFull."""
        self.put_many([(cid, block)])

    def put_many(self, blocks: Iterable[Block]) -> int:
        """Store blocks as they come, in constant memory; when this returns, all are on disk. Gives their number.

        After an error, whole groups before it are on disk, and all the others are not there at all. `blocks` is read a
        few ahead, to verify them in threads; what it has ready when it fails itself may not be stored.
        """
        count = 0
        size = 0
        group: dict[Cid, bytes] = {}
        for cid, block in in_order(self._checked, blocks, _is_long):
            group[cid] = block
            size += len(block)
            count += 1
            if len(group) >= BATCH_BLOCKS or size >= BATCH_BYTES:
                self._write_group(group)
                group, size = {}, 0
        if group:
            self._write_group(group)
        return count

    def get(self, cid: Cid) -> bytes:
        """The verified bytes of a block; BlockMissing, BlockMismatch for a damaged one, which is then here no more."""
        try:
            block = self._read(self._path(cid))
        except FileNotFoundError:
            raise BlockMissing(cid) from None
        if not self._is_sound(cid, block):
            self._put_away(cid)
            raise BlockMismatch(cid, "block store")
        return block

    def has(self, cid: Cid) -> bool:
        """Whether the block is here; its bytes are not read."""
        return self._path(cid).is_file()

    def stat(self, cid: Cid) -> BlockStat:
        """Size and time of a block; BlockMissing."""
        try:
            found = self._path(cid).stat()
        except FileNotFoundError:
            raise BlockMissing(cid) from None
        return BlockStat(found.st_size, found.st_mtime)

    def delete(self, cid: Cid) -> bool:
        """Remove a block, whether anything needs it or not; whether it was here."""
        path = self._path(cid)
        era = self.meter.era()
        try:
            size = path.stat().st_size
            path.unlink()
        except FileNotFoundError:
            return False
        self.meter.release(size, era)
        return True

    def __iter__(self) -> Iterator[Cid]:
        """Every block that is here, in no order; files that are not blocks are passed over."""
        for folder in self._blocks.iterdir():
            for path in folder.iterdir():
                with suppress(InvalidInput):
                    yield Cid.parse(path.name)

    def damaged(self) -> Iterator[Cid]:
        """Re-hash everything; the blocks whose bytes are not theirs."""
        for cid in self:
            try:
                self.get(cid)
            except BlockMismatch:
                yield cid
            except BlockMissing:
                continue

    @contextmanager
    def locked(self, *, exclusive: bool = False) -> Iterator[None]:
        """Hold the store's lock. Exclusive only for moments: every writer of every process waits meanwhile."""
        with (self.root / "lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
            yield  # closing the file gives the lock back, as does the end of the process

    def recount(self) -> None:
        """Count anew what is here, where somebody set limits. Others may write and remove meanwhile."""
        with self.locked(exclusive=True):  # no group is being written: what was counted for one is on disk by now
            begun = self.meter.begin()
        self.meter.recount(begun)

    def remove_old_tmp(self, before: float) -> int:
        """Remove what killed writers left in tmp/ and did not touch since `before` (seconds since 1970); how many."""
        removed = 0
        with self.locked(exclusive=True):  # no group is being written now, whatever the clocks say
            for path in self.old_tmp(before):
                with suppress(FileNotFoundError):
                    path.unlink()
                    removed += 1
        return removed

    def old_tmp(self, before: float) -> list[Path]:
        """What `remove_old_tmp` would remove."""
        old = []
        for path in self._tmp.iterdir():
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < before:
                    old.append(path)
        return old

    def _bytes_on_disk(self) -> int:
        total = 0
        for folder in self._blocks.iterdir():
            with suppress(FileNotFoundError), os.scandir(folder) as entries:
                for entry in entries:
                    with suppress(FileNotFoundError):
                        total += on_disk(entry.stat(follow_symlinks=False).st_size)
        return total

    def _path(self, cid: Cid) -> Path:
        text = str(cid)
        return self._blocks / text[-3:-1] / text

    def _read(self, path: Path) -> bytes:
        """At most one byte more than a block has."""
        with path.open("rb") as file:
            return file.read(min(os.fstat(file.fileno()).st_size, self.max_block_bytes) + 1)

    def _is_sound(self, cid: Cid, block: bytes) -> bool:
        return len(block) <= self.max_block_bytes and cid.matches(block)

    def _put_away(self, cid: Cid) -> None:
        away = self._tmp / f"damaged-{cid}-{secrets.token_hex(4)}"
        era = self.meter.era()
        try:
            self._path(cid).replace(away)
            if self._is_sound(cid, self._read(away)):  # somebody repaired it between our look and our move
                away.replace(self._path(cid))
                return
            os.utime(away)
            self.meter.release(away.stat().st_size, era)
        except FileNotFoundError:  # somebody else has moved it
            return
        except OSError as exc:
            problem = f"it cannot be moved away: {exc.strerror}"
            log.error("a block is damaged", block=str(cid), store=str(self.root), problem=problem)  # noqa: TRY400
            return
        log.error("a block was damaged; it is fetched or uploaded anew", block=str(cid), moved_to=str(away))

    def _checked(self, named: Block) -> Block:
        cid, block = named
        if len(block) > self.max_block_bytes:
            raise ContentTooLarge("bytes of a block", self.max_block_bytes)
        if not isinstance(named, Verified) and not cid.matches(block):
            raise BlockMismatch(cid, "block store")
        return named

    def _write_group(self, group: dict[Cid, bytes]) -> None:
        pending: list[_Pending] = []
        try:
            # The lock stands between "it is here already, keep it" and garbage collection's "it is old, remove it".
            with self.locked():
                for cid, block in group.items():
                    target = self._path(cid)
                    if not self._keep(target, block):
                        pending.append(self._write_tmp(target, block))
                self._publish(pending)
        except OSError as exc:
            if is_disk_full(exc):
                raise DiskFull(f"no space left in the block store {str(self.root)!r}") from exc
            raise
        finally:
            for item in pending:
                size = os.fstat(item.descriptor).st_size
                os.close(item.descriptor)
                with suppress(FileNotFoundError):  # it is where it belongs
                    item.path.unlink()
                    self.meter.release(size, item.era)

    def _keep(self, target: Path, block: bytes) -> bool:
        """Whether the block is on disk already, unharmed; if so it counts as written now."""
        try:
            if self._read(target) != block:
                return False
            os.utime(target)
        except FileNotFoundError:
            return False
        return True

    def _write_tmp(self, target: Path, block: bytes) -> _Pending:
        era = self.meter.reserve(len(block))
        path = self._tmp / f"{os.getpid()}-{secrets.token_hex(8)}"
        try:
            descriptor = _written(path, block)
        except OSError:
            path.unlink(missing_ok=True)
            self.meter.release(len(block), era)
            raise
        return _Pending(target, path, descriptor, era)

    def _publish(self, pending: list[_Pending]) -> None:
        for item in pending:
            os.fsync(item.descriptor)
        folders = {self._blocks}  # always: another process may have made a folder that is not on disk yet
        for item in pending:
            try:
                item.path.replace(item.target)
            except FileNotFoundError:
                item.target.parent.mkdir(mode=0o700, exist_ok=True)
                item.path.replace(item.target)
            folders.add(item.target.parent)
        for folder in folders:
            sync_folder(folder)


def _is_long(named: Block) -> bool:
    return not isinstance(named, Verified) and len(named[1]) >= LONG_BYTES


def _written(path: Path, block: bytes) -> int:
    """A descriptor of a new file that holds the block."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
    try:
        view = memoryview(block)
        while view:
            view = view[os.write(descriptor, view) :]
        _begin_to_sync(descriptor)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _begin_to_sync(descriptor: int) -> None:
    """Have Linux write a file out now: a group's files go to the disk together, and their fsyncs find little to do."""
    if sys.platform == "linux":
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
