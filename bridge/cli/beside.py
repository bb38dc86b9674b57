"""A folder beside the goal, in which something is made before it is put in place: a reader never sees half of it.

    PARENT/.insula-part-<random>    locked (flock) by whoever makes something there; without a lock, a dead one's

The lock is the kernel's and ends with the process, however that ends: what a `kill -9` leaves is removed by the next
call that has a goal in the same PARENT.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from executor.errors import InvalidInput

_PREFIX: Final = ".insula-part-"
_NAME: Final = re.compile(re.escape(_PREFIX) + r"[a-z0-9_]{8}")  # as tempfile.mkdtemp makes them


@contextmanager
def folder_beside(goal: Path) -> Iterator[Path]:
    """An empty folder (0700) beside `goal`, on the same disk; it is gone in the end, and so is what the dead left."""
    goal.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(goal.parent)
    folder, descriptor = _made(goal.parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def check_free(goal: Path, field: str) -> None:
    """InvalidInput(field) where something is at `goal`, or nothing can be made there: before work that takes long."""
    if os.path.lexists(goal):
        raise InvalidInput(field, f"{goal} exists already; give another place")
    above = next(folder for folder in goal.absolute().parents if os.path.lexists(folder))
    if not above.is_dir():
        raise InvalidInput(field, f"{above} is no folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise InvalidInput(field, f"nothing can be written in {above}; give another place")


def put_in_place(made: Path, goal: Path, field: str) -> None:
    """Rename what was made beside `goal`; InvalidInput(field) where something has come there meanwhile, which stays."""
    try:
        if made.is_dir() and not made.is_symlink():
            made.rename(goal)  # the kernel replaces nothing but an empty folder
        elif not _linked(made, goal):
            check_free(goal, field)
            made.rename(goal)
    except OSError as exc:
        if exc.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            problem = f"{goal} has come into being meanwhile, and stays as it is; give another place"
            raise InvalidInput(field, problem) from exc
        raise


def _linked(made: Path, goal: Path) -> bool:
    """A second name for a file, which no other is replaced for; False on a disk that has none."""
    try:
        os.link(made, goal, follow_symlinks=False)
    except OSError as exc:
        if exc.errno in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            return False
        raise
    return True


def _made(parent: Path) -> tuple[Path, int]:
    """A new folder and its lock. Until it is locked, somebody may take it for a dead one's and remove it."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        with suppress(OSError):  # a disk that knows no locks: nobody can lock what is there, nor removes it
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if folder.exists():
            return folder, descriptor
        os.close(descriptor)


def _remove_leftovers(parent: Path) -> None:
    try:
        found = [path for path in parent.iterdir() if _NAME.fullmatch(path.name)]
    except PermissionError:  # it may be written to all the same
        return
    for path in found:
        with suppress(OSError):  # another user's, no folder, locked, or just gone
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if os.fstat(descriptor).st_uid == os.geteuid():
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(descriptor)
