"""What is below a folder that a job wrote to: measured without following links, and in bounded depth.

Nothing a job made is trusted: names are bytes, links are never followed (each level is opened relative to its parent
with O_NOFOLLOW), FIFOs are never opened for waiting, and a folder deeper than MAX_DEPTH ends the walk.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from executor.errors import InsulaError

MAX_DEPTH: Final = 32
"""Levels of folders below the one walked; also the number of descriptors that a walk holds at most."""

_DIRECTORY_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_SHOWN_BYTES: Final = 200


class OutputUnsafe(InsulaError):
    """A job left something that is not collected. path: relative, escaped, cut to a bounded length."""

    def __init__(self, path: bytes, problem: str) -> None:
        shown = escaped(path)
        super().__init__(shown, problem)
        self.path = shown
        self.problem = problem

    def __reduce__(self) -> tuple[type[OutputUnsafe], tuple[bytes, str]]:
        return OutputUnsafe, (self.path.encode(), self.problem)

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


@dataclass(frozen=True, slots=True)
class Usage:
    """size: sum of file sizes in bytes (sparse files as large as they look); entries: files, folders, all else."""

    size: int
    entries: int


@dataclass(frozen=True, slots=True)
class Entry:
    """Something below the folder. parent: an open descriptor of the folder that holds it, valid until the next step."""

    parent: int
    name: bytes
    path: bytes
    status: os.stat_result


def escaped(path: bytes) -> str:
    """A path of any bytes as printable ASCII of a bounded length."""
    cut = path if len(path) <= _SHOWN_BYTES else path[:_SHOWN_BYTES] + b"..."
    return "".join(chr(b) if 0x20 < b < 0x7F and b != 0x5C else f"\\x{b:02x}" for b in cut) or "."


def walk(root: Path) -> Iterator[Entry]:
    """Everything below `root`, folders before what they hold, names of one folder in order of their bytes.

    Raises OutputUnsafe below MAX_DEPTH, and for a folder that became something else meanwhile.
    """
    stack = [_Level(os.open(root, _DIRECTORY_FLAGS), b"")]
    try:
        while stack:
            level = stack[-1]
            name = level.next()
            if name is None:
                os.close(stack.pop().descriptor)
                continue
            path = level.prefix + name
            try:
                status = os.stat(name, dir_fd=level.descriptor, follow_symlinks=False)
            except FileNotFoundError:  # a living job removed it: only a measurement sees that
                continue
            yield Entry(level.descriptor, name, path, status)
            if stat.S_ISDIR(status.st_mode):
                if len(stack) > MAX_DEPTH:
                    raise OutputUnsafe(path, f"more than {MAX_DEPTH} levels deep")
                stack.append(_enter(level, name, path))
    finally:
        for level in stack:
            os.close(level.descriptor)


def measure(root: Path) -> Usage:
    """What is below `root` now, the folder itself not counted. Raises OutputUnsafe for a folder too deep."""
    size = entries = 0
    for entry in walk(root):
        entries += 1
        if stat.S_ISREG(entry.status.st_mode):
            size += entry.status.st_size
    return Usage(size, entries)


class _Level:
    """One folder of the walk: its descriptor, the path that leads to it, the names that are left."""

    def __init__(self, descriptor: int, prefix: bytes) -> None:
        self.descriptor = descriptor
        self.prefix = prefix
        # os.listdir gives text for a descriptor; fsencode gives back the exact bytes
        self._names = sorted((os.fsencode(name) for name in os.listdir(descriptor)), reverse=True)

    def next(self) -> bytes | None:
        """The next name in byte order; None after the last."""
        return self._names.pop() if self._names else None


def _enter(level: _Level, name: bytes, path: bytes) -> _Level:
    try:
        descriptor = os.open(name, _DIRECTORY_FLAGS, dir_fd=level.descriptor)
    except OSError as exc:
        raise OutputUnsafe(path, f"cannot be opened as a folder: {exc.strerror}") from exc
    try:
        return _Level(descriptor, path + b"/")
    except OSError as exc:
        os.close(descriptor)
        raise OutputUnsafe(path, f"cannot be read: {exc.strerror}") from exc
