"""Outputs that nobody has released: encrypted on the disk, each execution's with a key of its own that can be shredded.

    KEYS/<execution>.key             32 random bytes (0600), on disk before the first block is
    <execution>/quarantine/<HMAC>    a block: AES-256-GCM, its CID as associated data; named by a keyed hash of its
                                     CID, because a CID tells who guesses an output whether he guessed right

Shredding overwrites the key, then removes it, then the blocks. Whatever of the blocks an undelete, a backup or an
image of the disk still has cannot be opened without the key. What overwriting a file can promise, and where keys
should lie: docs/operations.md. A kill -9 leaves at most a key or blocks that no hold names: the next start of the
node shreds them. A quarantine counts only when the hold that names it is written. A block gets its name when it is
whole: reviewers may propose redactions with the same blocks at the same time.
"""

from __future__ import annotations

import hmac
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from executor.content.blocks import Block
from executor.content.blockstore import BATCH_BLOCKS, BATCH_BYTES
from executor.content.dagpb import MAX_BLOCK_BYTES
from executor.content.disk import is_disk_full, sync_folder
from executor.errors import BlockMismatch, ContentError, ContentTooLarge, DiskFull, InvalidInput
from executor.protocol.cid import Cid
from executor.sealing import KEY_BYTES, OVERHEAD_BYTES, SealBroken, derive, seal, unseal

_SUFFIX: Final = ".key"
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class QuarantineDamaged(ContentError):
    """A quarantined output cannot be read. Says why, and nothing of the output: these words go into logs."""


class QuarantineKeys:
    """The keys of one node's quarantined outputs, in a folder of their own. Any number of threads and processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def prepare(self) -> None:
        """At a node's start: keys can be made here. InvalidInput."""
        try:
            self._make_folder()
        except OSError as exc:
            raise InvalidInput(str(self.folder), f"cannot be made ({exc.strerror}); see quarantine_key_dir") from exc
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise InvalidInput(str(self.folder), "cannot be written to by this user; see quarantine_key_dir")

    def create(self, execution_id: str) -> bytes:
        """A new key, on disk when this returns. OSError; FileExistsError for an execution that has one."""
        self._make_folder()
        key = secrets.token_bytes(KEY_BYTES)
        descriptor = os.open(self._path(execution_id), _NEW, 0o600)
        try:
            os.write(descriptor, key)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        sync_folder(self.folder)
        return key

    def get(self, execution_id: str) -> bytes | None:
        """The key of an execution; None where it is shredded, or the folder of keys is gone.

        InvalidInput for a key that is there and cannot be read: nothing may be concluded from that.
        """
        path = self._path(execution_id)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
            with os.fdopen(descriptor, "rb") as file:
                key = file.read(KEY_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise InvalidInput(str(path), f"cannot be read ({exc.strerror}); it opens a held output") from exc
        return key if len(key) == KEY_BYTES else None

    def shred(self, execution_id: str) -> bool:
        """Overwrite the key and remove it, both on disk when this returns; whether it was there. OSError."""
        path = self._path(execution_id)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            return False
        try:
            os.pwrite(descriptor, secrets.token_bytes(max(KEY_BYTES, os.fstat(descriptor).st_size)), 0)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        path.unlink(missing_ok=True)
        sync_folder(self.folder)
        return True

    def names(self) -> list[str]:
        """The executions that have a key, sorted; none where the folder is not there. InvalidInput."""
        try:
            return sorted(
                path.name.removesuffix(_SUFFIX) for path in self.folder.iterdir() if path.name.endswith(_SUFFIX)
            )
        except FileNotFoundError:
            return []
        except OSError as exc:
            raise InvalidInput(str(self.folder), f"cannot be read ({exc.strerror})") from exc

    def _make_folder(self) -> None:
        if not self.folder.is_dir():
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            sync_folder(self.folder.parent)

    def _path(self, execution_id: str) -> Path:
        return self.folder / f"{execution_id}{_SUFFIX}"


class Quarantine:
    """The blocks of one execution's output, in `root`, by its key. See the module."""

    def __init__(self, root: Path, key: bytes) -> None:
        self.root = root
        self._block_key = derive(key, "quarantined blocks")
        self._name_key = derive(key, "quarantined names")

    def put_many(self, blocks: Iterable[Block]) -> int:
        """Encrypt and store blocks as they come, in constant memory; when this returns, all are on disk.

        BlockMismatch, ContentTooLarge, DiskFull; some of the blocks are there then, and mean nothing.
        QuarantineDamaged: the execution ended meanwhile, and its folder is gone.
        """
        count = size = 0
        pending: list[int] = []
        try:
            self.root.mkdir(mode=0o700, exist_ok=True)
            for cid, block in blocks:
                if len(block) > MAX_BLOCK_BYTES:
                    raise ContentTooLarge("bytes of a block", MAX_BLOCK_BYTES)
                if not cid.matches(block):
                    raise BlockMismatch(cid, "quarantine")
                count += 1
                size += len(block)
                if not self._is_sound(cid):  # the same block twice
                    pending.append(self._write(cid, block))
                if len(pending) >= BATCH_BLOCKS or size >= BATCH_BYTES:
                    size = 0
                    _flush(pending)
            _flush(pending)
            sync_folder(self.root)
        except FileNotFoundError as exc:
            raise QuarantineDamaged("its execution has just ended") from exc
        except OSError as exc:
            if is_disk_full(exc):
                raise DiskFull("no space left in quarantine") from exc
            raise
        finally:
            for descriptor in pending:
                os.close(descriptor)
        return count

    def get(self, cid: Cid) -> bytes:
        """The verified bytes of a block. QuarantineDamaged: it is gone, or was changed on the disk."""
        try:
            with self.path(cid).open("rb") as file:
                sealed = file.read(MAX_BLOCK_BYTES + OVERHEAD_BYTES + 1)
        except FileNotFoundError as exc:
            raise QuarantineDamaged("a block is not in quarantine any more") from exc
        try:
            block = unseal(self._block_key, sealed, cid.binary)
        except SealBroken as exc:
            raise QuarantineDamaged("a block in quarantine was changed on the disk, or is not of its key") from exc
        if not cid.matches(block):
            raise QuarantineDamaged("a block in quarantine is not what its name says")
        return block

    def has(self, cid: Cid) -> bool:
        """Whether the block is here; its bytes are not read."""
        return self.path(cid).is_file()

    def _is_sound(self, cid: Cid) -> bool:
        """Whether the block is here. What a writer left half done when it was killed is removed."""
        if not self.has(cid):
            return False
        try:
            self.get(cid)
        except QuarantineDamaged:
            self.path(cid).unlink(missing_ok=True)
            return False
        return True

    def path(self, cid: Cid) -> Path:
        """Its file, whether it is there or not."""
        return self.root / hmac.digest(self._name_key, cid.binary, "sha256").hex()

    def _write(self, cid: Cid, block: bytes) -> int:
        path = self.path(cid)
        new = path.with_suffix(f".{secrets.token_hex(8)}")
        descriptor = os.open(new, _NEW, 0o400)
        view = memoryview(seal(self._block_key, block, cid.binary))
        try:
            while view:
                view = view[os.write(descriptor, view) :]
            new.replace(path)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor


def _flush(pending: list[int]) -> None:
    while pending:
        descriptor = pending.pop()
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
