"""Limits on trees of files, and the names that may stand in one. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from executor.errors import ContentTooLarge, InvalidInput, UnsafeName

MAX_NAME_BYTES: Final = 255
"""Bytes of the longest file name: what every usual file system can hold."""


@dataclass(frozen=True, slots=True)
class TreeLimits:
    """How much one tree may hold. Each is inclusive.

    max_bytes: sum of the sizes of all files, each counted as often as it occurs. max_files: files and directories
    together, without the root. max_depth: levels of directories below the root.
    """

    max_bytes: int
    max_files: int = 100_000
    max_depth: int = 64

    def __post_init__(self) -> None:
        for name in ("max_bytes", "max_files", "max_depth"):
            if getattr(self, name) < 0:
                raise InvalidInput(name, "a limit is not negative")
        if self.max_depth > 200:
            raise InvalidInput("max_depth", "at most 200")


@dataclass(slots=True)
class Usage:
    """What one walk through a tree has used of its limits so far."""

    limits: TreeLimits
    bytes: int = field(default=0)
    files: int = field(default=0)

    def add_bytes(self, count: int) -> None:
        """Count bytes of a file; ContentTooLarge."""
        self.bytes += count
        if self.bytes > self.limits.max_bytes:
            raise ContentTooLarge("bytes of all files", self.limits.max_bytes)

    def add_entry(self, depth: int) -> None:
        """Count one file or directory whose parent is `depth` levels below the root; ContentTooLarge."""
        self.files += 1
        if self.files > self.limits.max_files:
            raise ContentTooLarge("files and directories", self.limits.max_files)
        if depth > self.limits.max_depth:
            raise ContentTooLarge("levels of directories", self.limits.max_depth)


def check_name(name: str) -> str:
    """Return a name that is safe as one component of a path; UnsafeName says what is wrong with any other."""
    if name in {"", ".", ".."}:
        raise UnsafeName(name, "not a name of a file")
    if "/" in name or "\0" in name:
        raise UnsafeName(name, "a name holds neither '/' nor NUL")
    try:
        length = len(name.encode())
    except UnicodeEncodeError as exc:
        raise UnsafeName(name, "a name must be valid UTF-8") from exc
    if length > MAX_NAME_BYTES:
        raise UnsafeName(name, f"a name has at most {MAX_NAME_BYTES} bytes, this one has {length}")
    return name
