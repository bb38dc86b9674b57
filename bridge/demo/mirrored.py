"""What the demo looks at in an operator's Kubo: that each output is kept there and comes back whole."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from bridge.demo.run import POLL_SECONDS, WAIT_SECONDS, DemoRun, Ordered
from bridge.mirror import Alone
from bridge.store.engine import StoreError, open_engine, reading, transaction
from bridge.store.mirror import forget_mirrored, mirrored
from executor.content.blocks import MemoryBlocks
from executor.content.kubo import Kubo
from executor.content.patience import Patience
from executor.content.transfer import fetch_dag
from executor.errors import CarError, PeerError
from executor.protocol.cid import Cid

USUAL = "http://127.0.0.1:5001"


def look_at(run: DemoRun, ordered: Ordered, job: dict[str, Any], address: str) -> None:
    """Fetch a job's output from the daemon alone, every block verified; `job` says what came of it."""
    if not job.get("outputCid"):
        return
    root = Cid.parse(job["outputCid"])
    store = MemoryBlocks()
    try:
        with Kubo(address) as daemon:
            kept = _wait_until_kept(daemon, root)
            patience = Patience(time.time() + WAIT_SECONDS)
            moved = fetch_dag(Alone(daemon), store, root, max_bytes=2**30, patience=patience)
    except (PeerError, CarError) as exc:
        run.hold(ordered, False, f"Kubo: {exc}")
        return
    run.hold(ordered, kept, f"Kubo does not keep {root}")
    job["kubo"] = {"address": address, "kept": kept, "blocks": moved.blocks, "bytes": moved.bytes}


def take_back(database: Path, address: str) -> list[Cid]:
    """Have the daemon keep no longer what a bridge gave it that has ended; what it kept before stays. The roots.

    database: the bridge's; where there is none, or no table in it yet, nothing was given. PeerError, BridgeError.
    """
    if not database.exists():
        return []
    engine = open_engine(f"sqlite:///{database}")
    try:
        with Kubo(address) as daemon:
            peer = daemon.peer_id()
            with reading(engine) as connection:
                ours = [one.root for one in mirrored(connection, peer) if one.ours]
            for root in ours:
                daemon.unpin(root)
                with transaction(engine) as connection:
                    forget_mirrored(connection, peer, root)
    except StoreError:
        return []
    finally:
        engine.dispose()
    return ours


def _wait_until_kept(daemon: Kubo, root: Cid) -> bool:
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        if daemon.is_pinned(root):
            return True
        time.sleep(POLL_SECONDS)
    return False
