"""A block store on disk in the hands of a test: damage, old age, and content to bring to it."""

import os
import time

from executor.content.unixfs import walk
from executor.protocol.cid import RAW
from tests.faulty_sources import Content

CONTENT = Content.of(os.urandom(3_000_000))
BIG = Content.of(os.urandom(40 * 2**20))
"""More blocks than a store writes at a time."""


def path_of(store, cid):
    [path] = (store.root / "blocks").rglob(str(cid))
    return path


def flip(store, cid):
    """Change one byte of a block on the disk."""
    path = path_of(store, cid)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)


def age(store, seconds=2 * 3600.0):
    """Make all blocks so old that nothing but a pin keeps them."""
    then = time.time() - seconds
    for cid in store:
        os.utime(path_of(store, cid), (then, then))


def raw_leaf(store, root):
    return next(cid for cid in walk(store, root) if cid.codec == RAW and store.stat(cid).size > 1000)
