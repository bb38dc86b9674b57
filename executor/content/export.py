"""Files and directories from blocks to a folder: the only place where content by hash becomes names on a disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from executor.content.blocks import BlockSource
from executor.content.disk import is_disk_full
from executor.content.limits import TreeLimits, Usage
from executor.content.reader import Visits, list_dir, read_file, stat
from executor.errors import DiskFull, InvalidInput
from executor.protocol.cid import Cid

_FILE_MODE: Final = 0o444
_FOLDER_MODE: Final = 0o755
_TIMES: Final = (0, 0)
"""Access and modification times in ns: the same everywhere, so that a job cannot tell nodes or runs apart by them."""


def export_tree(source: BlockSource, root: Cid, target: Path, limits: TreeLimits) -> None:
    """Write the tree (or the single file) `root` to `target`, which must not exist yet, in a folder that does.

    Files are read-only (0444), folders 0755, all times 0. Every name is checked, every file is created anew relative to
    an open descriptor of its folder, and nothing is followed, so that no name leads out of `target` even where
    somebody else writes there. After an error the target is incomplete: remove it. InvalidInput if it exists.
    """
    export = _Export(source, Usage(limits), Visits())
    parent = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _export(export, root, parent, target.name, 0)
    except FileExistsError as exc:
        raise InvalidInput(
            "target", f"{str(target)!r} or something in it exists already; export to a new place"
        ) from exc
    except OSError as exc:
        if is_disk_full(exc):
            raise DiskFull(f"no space left to write {str(target)!r}") from exc
        raise
    finally:
        os.close(parent)


@dataclass(frozen=True, slots=True)
class _Export:
    source: BlockSource
    usage: Usage
    visits: Visits


def _export(export: _Export, cid: Cid, folder: int, name: str, depth: int) -> None:
    source, usage = export.source, export.usage
    found = stat(source, cid)
    if found.kind == "file":
        usage.add_bytes(found.size)
        _write_file(read_file(source, cid, found.size, export.visits), folder, name)
        return
    os.mkdir(name, _FOLDER_MODE, dir_fd=folder)
    with _opened(name, os.O_RDONLY | os.O_DIRECTORY, folder) as descriptor:
        for entry in list_dir(source, cid, usage.limits.max_files):
            usage.add_entry(depth)
            _export(export, entry.cid, descriptor, entry.name, depth + 1)
        os.fchmod(descriptor, _FOLDER_MODE)
        os.utime(descriptor, ns=_TIMES)


def _write_file(chunks: Iterator[bytes], folder: int, name: str) -> None:
    with _opened(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, folder) as descriptor:
        for chunk in chunks:
            view = memoryview(chunk)
            while view:
                view = view[os.write(descriptor, view) :]
        os.fchmod(descriptor, _FILE_MODE)
        os.utime(descriptor, ns=_TIMES)


@contextmanager
def _opened(name: str, flags: int, folder: int) -> Iterator[int]:
    descriptor = os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
