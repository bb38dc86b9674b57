"""A quota for a job's outputs where this process may mount: a tmpfs with a size and a number of inodes.

Linux, mount(2) and umount2(2). The source of a mount is a free word for a tmpfs: it names node and execution, so that a
later start of the node finds what a crash left.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_MS_NOSUID: Final = 2
_MS_NODEV: Final = 4
_MS_NOEXEC: Final = 8
_MNT_DETACH: Final = 2
_PREFIX: Final = "insula"


@dataclass(frozen=True, slots=True)
class QuotaMount:
    """A quota mount that is there now."""

    node: str
    execution: str
    path: Path


def may_mount() -> bool:
    """Whether it is worth a try."""
    return sys.platform == "linux" and os.geteuid() == 0


def mount_quota(mount: QuotaMount, size: int, inodes: int, owner: int) -> None:
    """Mount an empty tmpfs of `size` bytes and `inodes` inodes, owned by uid and gid `owner`. OSError where refused."""
    source = f"{_PREFIX}:{mount.node}:{mount.execution}"
    options = f"size={size},nr_inodes={inodes},mode=0700,uid={owner},gid={owner}"
    libc = ctypes.CDLL(None, use_errno=True)
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    if libc.mount(source.encode(), os.fsencode(mount.path), b"tmpfs", ctypes.c_ulong(flags), options.encode()) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), os.fspath(mount.path))


def unmount(path: Path) -> bool:
    """Take the mount at `path` away, at once for new users of the path; False where there is none."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(path), _MNT_DETACH) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOENT, errno.EPERM):  # not a mount point; gone; never ours to mount
        return False
    raise OSError(number, os.strerror(number), os.fspath(path))


def quota_mounts(node: str) -> list[QuotaMount]:
    """Every quota mount of this node that this process sees."""
    found = []
    for line in _mountinfo():
        before, _, after = line.partition(" - ")
        kind, source, *_ = [*after.split(" "), "", ""]
        word = source.split(":", 2)
        if kind == "tmpfs" and len(word) == 3 and word[:2] == [_PREFIX, node]:
            found.append(QuotaMount(node, word[2], Path(_unescaped(before.split(" ")[4]))))
    return found


def _mountinfo() -> list[str]:
    try:
        return Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except FileNotFoundError:
        return []


def _unescaped(path: str) -> str:
    """The kernel writes space, tab, newline and backslash as \\ooo."""
    for code in ("040", "011", "012", "134"):
        path = path.replace(f"\\{code}", chr(int(code, 8)))
    return path
