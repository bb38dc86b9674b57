"""One bridge per data folder. The lock is the kernel's (flock(2)): it ends with the process, however that ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from executor.errors import InvalidInput


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold `folder` (made where it is not there). InvalidInput if another process does."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise InvalidInput("data_dir", f"a bridge runs in {folder}; stop it first, or use another folder") from exc
        yield
    finally:
        os.close(descriptor)
