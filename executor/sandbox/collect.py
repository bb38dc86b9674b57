"""A dead job's outputs, copied to a clean folder: regular files and folders only, with names that are safe everywhere.

Nothing is followed and nothing is waited for (`tree.walk`). What is copied is read through one descriptor that is
checked before and after, so that later readers find exactly the bytes that were judged. Modes, owners, times, extended
attributes and holes are dropped.
"""

from __future__ import annotations

import hashlib
import os
import stat
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from executor.content.limits import check_name
from executor.errors import InsulaError, UnsafeName
from executor.protocol.reasons import Reason
from executor.sandbox.tree import Entry, OutputUnsafe, walk
from executor.sandbox.types import Limits

MAX_PATH_BYTES: Final = 1024
_CHUNK: Final = 2**20
_FOLDER_MODE: Final = 0o755
_FILE_MODE: Final = 0o644
_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_KINDS: Final = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
#: control characters, and those that make a name read other than it is
_BAD_CATEGORIES: Final = frozenset(("Cc", "Cs", "Zl", "Zp"))
_BIDI: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class OutputTooLarge(InsulaError):
    """The outputs are over a limit. reason: DISK_LIMIT or FILES_LIMIT."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return self.detail


@dataclass(frozen=True, slots=True)
class Collected:
    """One thing that was collected. path: relative, with "/"; size and sha256 (hex) are 0 and empty for a folder."""

    path: str
    kind: Literal["file", "directory"]
    size: int = 0
    sha256: str = ""


def collect(outputs: Path, into: Path, limits: Limits) -> tuple[Collected, ...]:
    """Copy the job's outputs to `into`, which is made here; the listing, in order of the paths' bytes.

    Call it when the job is dead and before `Sandbox.release`. Raises OutputUnsafe (reason OUTPUT_UNSAFE) and
    OutputTooLarge; `into` then holds a part of it, for the caller to remove. FileExistsError where `into` is there.
    """
    into.mkdir(mode=_FOLDER_MODE)
    return tuple(sorted(_copied(outputs, into, limits), key=lambda item: item.path.encode()))


def _copied(outputs: Path, into: Path, limits: Limits) -> Iterator[Collected]:
    size = 0
    for entries, entry in enumerate(walk(outputs), start=1):
        if entries > limits.output_files:
            raise OutputTooLarge(Reason.FILES_LIMIT, f"/outputs: more than {limits.output_files} entries")
        path = _safe_path(entry.path)
        mode = entry.status.st_mode
        if stat.S_ISDIR(mode):
            _demand(entry, 0o500)
            (into / path).mkdir(mode=_FOLDER_MODE)
            yield Collected(path, "directory")
        elif stat.S_ISREG(mode):
            _demand(entry, 0o400)
            size += entry.status.st_size
            if size > limits.disk_bytes:
                raise OutputTooLarge(Reason.DISK_LIMIT, f"/outputs: more than {limits.disk_bytes} bytes")
            yield Collected(path, "file", entry.status.st_size, _copy(entry, into / path))
        else:
            raise OutputUnsafe(entry.path, f"is {_KINDS.get(stat.S_IFMT(mode), 'no file')}")


def _demand(entry: Entry, bits: int) -> None:
    """What its owner may not read is refused, so that it makes no difference whether the node runs as root."""
    if entry.status.st_mode & bits != bits:
        raise OutputUnsafe(
            entry.path, f"its mode {stat.S_IMODE(entry.status.st_mode):04o} lets not even its owner read it"
        )


def _safe_path(path: bytes) -> str:
    if len(path) > MAX_PATH_BYTES:
        raise OutputUnsafe(path, f"its path has more than {MAX_PATH_BYTES} bytes")
    try:
        text = path.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise OutputUnsafe(path, "its name is not UTF-8") from exc
    try:
        check_name(text.rpartition("/")[2])
    except UnsafeName as exc:
        raise OutputUnsafe(path, exc.problem) from exc
    if any(character in _BIDI or unicodedata.category(character) in _BAD_CATEGORIES for character in text):
        raise OutputUnsafe(path, "its name holds a control character")
    return text


def _copy(entry: Entry, target: Path) -> str:
    """Copy one file; its SHA-256. OutputUnsafe where it is not, or does not stay, what the walk saw."""
    try:
        source = os.open(entry.name, _OPEN, dir_fd=entry.parent)
    except OSError as exc:
        raise OutputUnsafe(entry.path, f"cannot be opened: {exc.strerror}") from exc
    try:
        if _identity(os.fstat(source)) != _identity(entry.status):
            raise OutputUnsafe(entry.path, "changed while it was collected")
        digest = hashlib.sha256()
        left = entry.status.st_size
        with target.open("xb") as out:
            while left > 0 and (chunk := os.read(source, min(_CHUNK, left))):
                digest.update(chunk)
                out.write(chunk)
                left -= len(chunk)
        if left or _identity(os.fstat(source)) != _identity(entry.status):
            raise OutputUnsafe(entry.path, "changed while it was collected")
    finally:
        os.close(source)
    target.chmod(_FILE_MODE)
    return digest.hexdigest()


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns)
