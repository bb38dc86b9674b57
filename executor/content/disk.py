"""What this package needs to know about disks."""

from __future__ import annotations

import errno


def is_disk_full(error: OSError) -> bool:
    """Whether an error means that there is no room: the disk, the quota or the inodes are used up."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT}
