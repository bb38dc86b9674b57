"""The private folder of one execution: what goes in, what came out, and whether the inputs are still what they were.

<execution>/inputs/<n>      each input, read-only; never linked to the block store
<execution>/program         the module or the image archive
<execution>/outputs         the job's /outputs
<execution>/secrets         in memory: the job's /secrets, where it has any
<execution>/scratch         the sandbox's own
<execution>/collected       what of the outputs is plain files and folders, copied when the job is dead
<execution>/quarantine      encrypted blocks (executor/quarantine.py); holds the output until it is released
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from executor.content.blocks import BlockSink, BlockSource
from executor.content.export import export_tree
from executor.content.importer import (
    Imported,
    Watch,
    file_blocks,
    import_directory,
    store_blocks,
    tree_blocks,
)
from executor.content.limits import TreeLimits
from executor.content.reader import read_file, walk_tree
from executor.errors import DiskFull
from executor.protocol.cid import Cid
from executor.protocol.spec import Input
from executor.quarantine import Quarantine
from executor.sandbox.types import InputMount

QUARANTINE = "quarantine"
SECRETS = "secrets"
_CHUNK = 2**20


@dataclass(frozen=True)
class Staging:
    """The folder of one execution and its parts."""

    folder: Path

    @classmethod
    def create(cls, folder: Path) -> Staging:
        """A new folder (0700) with its parts."""
        folder.mkdir(mode=0o700, parents=True)
        staging = cls(folder)
        for part in (staging.inputs, staging.outputs, staging.scratch):
            part.mkdir(mode=0o755)
        return staging

    @property
    def inputs(self) -> Path:
        """Each input below its number."""
        return self.folder / "inputs"

    @property
    def program(self) -> Path:
        """The module or the image archive."""
        return self.folder / "program"

    @property
    def outputs(self) -> Path:
        """The job's /outputs."""
        return self.folder / "outputs"

    @property
    def scratch(self) -> Path:
        """The sandbox's own."""
        return self.folder / "scratch"

    @property
    def collected(self) -> Path:
        """The clean copy of the outputs; made by the collection."""
        return self.folder / "collected"

    @property
    def secrets(self) -> Path:
        """The job's /secrets: a mount, while it is there."""
        return self.folder / SECRETS

    def quarantine(self, key: bytes) -> Quarantine:
        """What the output is imported into, and read from with the same key."""
        return Quarantine(self.folder / QUARANTINE, key)

    def place(self, source: BlockSource, inputs: tuple[Input, ...], max_bytes: int) -> tuple[InputMount, ...]:
        """Write the inputs to files; `max_bytes` bounds what they unfold to, all together. ContentTooLarge."""
        mounts = []
        left = max_bytes
        for number, item in enumerate(inputs):
            target = self.inputs / str(number)
            limits = TreeLimits(left)
            left -= sum(entry.size for entry in walk_tree(source, item.cid, limits))
            export_tree(source, item.cid, target, limits)
            _close_folders(target)
            mounts.append(InputMount(source=target, target=item.path))
        return tuple(mounts)

    def place_program(self, source: BlockSource, cid: Cid, max_bytes: int) -> Path:
        """Write the program's file. MalformedBlock where it is no file."""
        for _ in read_file(source, cid, max_bytes):  # raises before anything is written
            break
        export_tree(source, cid, self.program, TreeLimits(max_bytes))
        return self.program

    def remove(self, *, keep_quarantine: bool = False) -> None:
        """Remove the folder and all that the job left in it, but for the quarantine of an output that is held."""
        if not keep_quarantine:
            remove_tree(self.folder)
            return
        for path in self.folder.iterdir():
            if path.name == QUARANTINE:
                continue
            if path.is_dir() and not path.is_symlink():
                remove_tree(path)
            else:
                path.unlink()


def same_files(source: BlockSource, cid: Cid, path: Path) -> bool:
    """Whether the files at `path` are still exactly the tree `cid`: the tripwire after a run."""
    expected = 0
    for entry in walk_tree(source, cid, TreeLimits(2**62, 2**31)):
        place = path / entry.path if entry.path else path
        expected += 1
        if not (_same_file(source, entry.cid, place, entry.size) if entry.kind == "file" else _is_folder(place)):
            return False
    return expected == _count(path)


def _same_file(source: BlockSource, cid: Cid, path: Path, size: int) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return False
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size != size:
            return False
        return all(file.read(len(chunk)) == chunk for chunk in read_file(source, cid, size))


def _close_folders(path: Path) -> None:
    """Nobody makes anything in an input: its folders are 0555, as its files are 0444."""
    if _is_folder(path):
        for folder, _, _ in os.walk(path, topdown=False):
            Path(folder).chmod(0o555)


def _is_folder(path: Path) -> bool:
    return stat.S_ISDIR(path.lstat().st_mode) if os.path.lexists(path) else False


def _count(path: Path) -> int:
    if not _is_folder(path):
        return 1
    return 1 + sum(len(folders) + len(files) for _, folders, files in os.walk(path))


def import_output(
    sink: BlockSink, outputs: Path, stdout: bytes, stderr: bytes, limits: TreeLimits, watch: Watch
) -> Cid:
    """The output's root (docs/spec.md): outputs/, stdout, stderr. ContentTooLarge, UnsafeName, SourceChanged.

    watch: sees the very bytes that become blocks.
    """

    def below(path: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
        return watch(f"outputs/{path}", chunks)

    parts: list[tuple[str, Imported]] = [
        ("outputs", store_blocks(sink, tree_blocks(outputs, limits, below))),
        ("stdout", store_blocks(sink, file_blocks(watch("stdout", _chunks(stdout))))),
        ("stderr", store_blocks(sink, file_blocks(watch("stderr", _chunks(stderr))))),
    ]
    return import_directory(sink, parts).cid


def _chunks(content: bytes) -> Iterator[bytes]:
    for offset in range(0, len(content), _CHUNK):
        yield content[offset : offset + _CHUNK]


def check_disk(folder: Path, needed: int, reserve: int = 64 * 2**20) -> None:
    """DiskFull where the disk has not `needed` bytes and a reserve."""
    free = shutil.disk_usage(folder).free
    if free < needed + reserve:
        raise DiskFull(f"the disk has {free} bytes left; the job and a reserve need {needed + reserve}")


def remove_tree(path: Path) -> None:
    """Remove a folder, also where a job took away the rights to look into it. Never follows links."""

    def mend(function: Callable[..., Any], name: str, _: object) -> None:
        parent = Path(name).parent
        for place in (parent, Path(name)):
            if not place.is_symlink() and place.is_dir():
                place.chmod(0o700)
        if function is os.unlink or function is os.rmdir:
            function(name)
        else:
            shutil.rmtree(name, ignore_errors=True)

    if os.path.lexists(path):
        shutil.rmtree(path, onerror=mend)
