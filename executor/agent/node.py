"""The node's loop: ask for work while there is room, one thread for each lease, tidy up now and then."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from functools import partial

import structlog

from executor.agent.errors import LeaseLost
from executor.agent.parts import Parts
from executor.agent.retention import shred_due
from executor.agent.runner import LeaseRunner
from executor.content.gc import GRACE_SECONDS, collect_garbage, tell_holes
from executor.errors import ContentError, PeerError, PeerRefused
from executor.protocol.cid import Cid
from executor.protocol.leases import Advert, Lease
from executor.protocol.reasons import Reason

TIDY_SECONDS = 3600.0
TIGHT_SECONDS = 60.0
TIGHT_GRACE_SECONDS = 600.0
"""Garbage collection waits no longer for an import while a store is nearly full; one that it cuts begins anew."""
IDLE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 15.0
DRAIN_FILE = "drain"


class Node:
    """Runs up to `slots` leases. `step` asks once; call it again after `pause_seconds` where it did nothing."""

    def __init__(self, parts: Parts, token: Callable[[], str] = lambda: secrets.token_hex(4)) -> None:
        self._parts = parts
        self._token = token
        self._log = structlog.get_logger("insula.node")
        self._threads: dict[bytes, threading.Thread] = {}
        self._failures = 0
        self._tidied = parts.clock()
        self._holes: tuple[Cid, ...] = ()
        self._drain = ""

    @property
    def running(self) -> int:
        """Leases that are being worked on."""
        return sum(thread.is_alive() for thread in self._threads.values())

    @property
    def pause_seconds(self) -> float:
        """How long to wait after a step that did nothing; grows while the bridge does not answer."""
        return min(LONGEST_PAUSE_SECONDS, IDLE_SECONDS * 2.0 ** min(self._failures, 10))

    @property
    def is_draining(self) -> bool:
        """Whether the operator wants no more work taken."""
        return (self._parts.folder / DRAIN_FILE).exists()

    def resume(self) -> int:
        """Go on with the leases whose outputs are held and nobody works on; how many. Shreds what was kept enough.

        At a start these are those that were held when the node ended; later, those whose end could not be written down.
        """
        shred_due(self._parts)
        holds = [hold for hold in self._parts.holds.open() if hold.request_hash not in self._threads]
        for hold in holds:
            self._parts.room.hold(hold.execution_id, hold.disk_bytes)
            runner = LeaseRunner(self._parts, Lease.model_validate_json(hold.lease), hold.execution_id)
            self._run(hold.request_hash, partial(runner.resume, hold))
        return len(holds)

    def step(self) -> bool:
        """Take one lease if there is one and room for it; whether a lease was taken."""
        self._threads = {key: thread for key, thread in self._threads.items() if thread.is_alive()}
        self._tidy()
        self._tell_drain()
        room = self._parts.room
        if self._parts.stopping.is_set() or self.is_draining or not room.is_settled or not room.free.slots:
            return False
        try:
            lease = self._parts.client.ask(self.advert())
        except PeerError as exc:
            self._failures += 1
            level = self._log.error if isinstance(exc, PeerRefused) else self._log.warning
            level("cannot ask for work", error=str(exc), failures=self._failures)
            return False
        if self._failures:
            self._log.info("the bridge answers again", failures=self._failures)
            self._failures = 0
        if lease is None:
            return False
        self._start(lease)
        return True

    def advert(self) -> Advert:
        """What this node is and has room for now."""
        config = self._parts.config
        room = self._parts.room
        return Advert(
            labels=config.labels,
            tiers=tuple(self._parts.sandboxes),
            free=room.free,
            total=room.total,
            min_unit_price=self._parts.policy.min_unit_price,
            min_fail_price=self._parts.policy.min_fail_price,
            tokens=self._parts.policy.tokens,
            wait_seconds=config.poll_seconds,
        )

    def stop(self, seconds: float) -> bool:
        """End all leases: running jobs are cancelled, leases go back. Whether all threads ended in time."""
        self._parts.stopping.set()
        end = time.monotonic() + seconds
        for thread in self._threads.values():
            thread.join(max(0.0, end - time.monotonic()))
        return self.running == 0

    def _start(self, lease: Lease) -> None:
        earlier = self._threads.get(lease.request_hash)
        if earlier is not None and earlier.is_alive():  # it may have ended while the bridge held our call
            # The bridge has given up an attempt that is still being cleaned up here.
            self._refuse(lease, "an earlier attempt at this request is still being ended here")
            return
        execution_id = f"{lease.request_hash.hex()[:16]}.{lease.slot}.{lease.attempt}.{self._token()}"
        self._parts.room.enter(execution_id)
        self._run(lease.request_hash, LeaseRunner(self._parts, lease, execution_id).run)

    def _run(self, request_hash: bytes, work: Callable[[], str]) -> None:
        thread = threading.Thread(target=work, name=f"lease-0x{request_hash.hex()[:16]}", daemon=True)
        self._threads[request_hash] = thread
        thread.start()

    def _refuse(self, lease: Lease, why: str) -> None:
        try:
            self._parts.client.give_back(lease, Reason.NODE_FAULT, why)
        except (PeerError, LeaseLost) as exc:
            self._log.warning("the bridge did not take the lease back", error=str(exc))

    def _tell_drain(self) -> None:
        """A log line when it begins to drain, when that is done, and when it takes work again."""
        now = ("draining" if self.running else "drained") if self.is_draining else ""
        if now != self._drain:
            self._drain = now
            self._log.info(now or "takes work again", running=self.running)

    def _tidy(self) -> None:
        now = self._parts.clock()
        is_tight = self._is_tight(now)
        if now - self._tidied < (TIGHT_SECONDS if is_tight else TIDY_SECONDS):
            return
        self._tidied = now
        self.resume()
        try:
            grace = TIGHT_GRACE_SECONDS if is_tight else GRACE_SECONDS
            gone = collect_garbage(self._parts.store, self._parts.roots, now, grace)
        except (ContentError, OSError) as exc:
            self._log.error("garbage collection failed", error=str(exc))
        else:
            self._log.info("garbage collected", blocks=gone.blocks, bytes=gone.bytes)
            self._holes = tell_holes(self._log, gone.holes, self._holes)

    def _is_tight(self, now: float) -> bool:
        """Whether the store has little room left; looked at once a minute."""
        if now - self._tidied < TIGHT_SECONDS:
            return False
        usage = self._parts.store.meter.usage()
        return usage is not None and usage.is_tight
