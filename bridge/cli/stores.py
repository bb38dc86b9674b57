"""Block stores of the command line: where they are, what is pinned in them, and how content in one is named."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Annotated, Final

import typer

from executor.content import unixfs
from executor.content.arrival import Kept
from executor.content.blockstore import BlockStore
from executor.content.quota import StoreLimits
from executor.errors import InvalidInput
from executor.protocol.cid import Cid

MAX_TREE_BYTES = 64 * 2**30
LIMITS = unixfs.TreeLimits(max_bytes=MAX_TREE_BYTES, max_files=1_000_000, max_depth=64)
OWN_LIMITS: Final = StoreLimits(min_free_bytes=256 * 2**20)
PIN_PREFIX: Final = "pin:"
"""Before the label of every pin of ours: no verb ends what a bridge or node keeps under a label of its own."""
MAX_PIN_SECONDS: Final = 100 * 365 * 86400.0
_LABEL: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")

PinSecondsOption = Annotated[float | None, typer.Option("--for", help="Seconds to keep it; else until `unpin`.")]
StoreOption = Annotated[
    Path | None,
    typer.Option("--store", help="Another block store, a node's or bridge's folder content, say; it may be running."),
]
ContentArgument = Annotated[
    str, typer.Argument(metavar="CID", help="The CID, optionally with a path: CID/outputs/report.json.")
]


def home() -> Path:
    """Where the command line keeps blocks between calls: $INSULA_HOME, else ~/.local/share/insula."""
    return Path(os.environ.get("INSULA_HOME") or "~/.local/share/insula").expanduser()


def local_store() -> BlockStore:
    """The command line's own block store, which leaves some of the disk free."""
    store = BlockStore(home() / "content")
    if store.meter.usage() is None:
        store.meter.set_limits(OWN_LIMITS)
    return store


def store_at(folder: Path | None) -> BlockStore:
    """The store in a folder, or the command line's own; InvalidInput where there is none, or it is another user's.

    Files that another user wrote into it could not be read by the bridge or node that it belongs to.
    """
    if folder is None:
        return local_store()
    if not (folder / "blocks").is_dir():
        raise InvalidInput("--store", f"{folder} is no block store: it has no folder blocks")
    owner = folder.stat().st_uid
    if owner != os.geteuid():
        raise InvalidInput("--store", f"{folder} belongs to the user with the number {owner}: run this as that user")
    return BlockStore(folder)


def named(content: str) -> tuple[Cid, str]:
    """CID and path of "CID/path"; InvalidInput."""
    text, _, inner = content.removeprefix("ipfs://").partition("/")
    return Cid.parse_any(text, "CID"), inner.removesuffix("/")


def found_at(store: BlockStore, content: str) -> Cid:
    """The CID of what "CID/path" names."""
    root, inner = named(content)
    return unixfs.resolve(store, root, inner)


def pin_label(label: str) -> str:
    """How a pin's label stands in the store; InvalidInput."""
    if not _LABEL.fullmatch(label):
        raise InvalidInput("--label", "1 to 64 of the letters A-Z a-z, digits and . _ : -")
    return PIN_PREFIX + label


def pin_for(label: str, seconds: float | None, now: float) -> Kept:
    """A pin that ends so many seconds from `now`, or never; InvalidInput."""
    if seconds is None:
        return Kept(pin_label(label))
    if not (math.isfinite(seconds) and 0 < seconds <= MAX_PIN_SECONDS):
        raise InvalidInput("--for", f"seconds, more than 0 and at most {MAX_PIN_SECONDS:.0f} (100 years)")
    return Kept(pin_label(label), now + seconds)
