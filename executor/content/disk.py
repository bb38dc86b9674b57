"""What this package needs to know about disks."""

from __future__ import annotations

import errno
import os
from pathlib import Path


def is_disk_full(error: OSError) -> bool:
    """Whether an error means that there is no room: the disk, the quota or the inodes are used up."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT}


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, as fsync does a file's bytes."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
