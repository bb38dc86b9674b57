"""Heartbeats of one lease: they keep it, and they bring the word to stop. `step` decides, a thread only repeats it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from structlog.typing import FilteringBoundLogger

from executor.agent.client import BridgeClient
from executor.agent.errors import GiveBack, LeaseLost
from executor.errors import PeerError
from executor.protocol.leases import Lease, Phase
from executor.protocol.reasons import Reason

STOPPING = "the node is stopping"


class Pulse:
    """Renews one lease. `phase` is what the next heartbeat says; `stopping` is set when the node stops."""

    def __init__(
        self,
        client: BridgeClient,
        lease: Lease,
        stopping: threading.Event,
        clock: Callable[[], float],
        log: FilteringBoundLogger,
    ) -> None:
        self.phase = Phase.RUNNING
        self._client = client
        self._lease = lease
        self._stopping = stopping
        self._clock = clock
        self._log = log
        self._lost: str | None = None
        self._over = threading.Event()  # the lease's work is done, or the lease is lost
        self._expires = clock() + lease.expires_in_seconds
        self._next = clock() + lease.heartbeat_seconds

    def step(self) -> bool:
        """Send the heartbeat that is due, and notice when the lease has run out; whether anything was sent."""
        now = self._clock()
        if self._lost is not None:
            return False
        # A held lease may be silent for long (dispatch.held_seconds): nothing runs, and the bridge knows best.
        if now >= self._expires and self.phase is Phase.RUNNING:
            self._lose("no heartbeat reached the bridge in time")
            return False
        if now < self._next:
            return False
        self._next = now + self._lease.heartbeat_seconds
        try:
            answer = self._client.heartbeat(self._lease, self.phase)
        except LeaseLost as exc:
            self._lose(str(exc))
        except PeerError as exc:
            # Sooner than the usual beat: there may be only a few tries left before the lease runs out.
            self._next = now + min(2.0, self._lease.heartbeat_seconds / 2)
            self._log.warning("heartbeat failed", error=str(exc))
        else:
            if not answer.go_on:
                self._lose(answer.reason or "the bridge says stop")
            elif answer.expires_in_seconds > 0:
                self._expires = now + answer.expires_in_seconds
        return True

    def why_stop(self) -> str | None:
        """Why the work on this lease must end now; None to go on. What sandboxes ask while a job runs."""
        if self._lost is not None:
            return self._lost
        return STOPPING if self._stopping.is_set() else None

    def check(self) -> None:
        """LeaseLost when the lease is lost; GiveBack(NODE_STOPPING) when the node stops."""
        if self._lost is not None:
            raise LeaseLost(self._lost)
        if self._stopping.is_set():
            raise GiveBack(Reason.NODE_STOPPING, STOPPING)

    def pause(self, seconds: float) -> None:
        """Wait between two tries; `check` meanwhile."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.check()
            self._over.wait(min(0.2, left))
        self.check()

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Heartbeats from a thread while inside."""
        thread = threading.Thread(target=self._beat, name=f"pulse-{self._lease.token}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _beat(self) -> None:
        interval = min(0.5, self._lease.heartbeat_seconds / 4)
        while not self._over.wait(interval):
            self.step()

    def _lose(self, why: str) -> None:
        self._lost = why
        self._over.set()
        self._log.info("lease lost", why=why)
