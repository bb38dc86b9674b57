"""What is free on a node: its configured capacity less what running jobs may use. Pure but for a lock."""

from __future__ import annotations

import threading

from executor.agent.errors import GiveBack
from executor.protocol.leases import Capacity
from executor.protocol.reasons import Reason
from executor.protocol.spec import Limits

MAX_HELD = 256  # outputs that wait for a release; each has a thread for its lease


class Room:
    """Counts leases from `enter` to `leave`. A lease whose limits are not known yet is pending."""

    def __init__(self, total: Capacity) -> None:
        self.total = total
        self._lock = threading.Lock()
        self._leases: dict[str, Limits | None] = {}
        self._held: dict[str, int] = {}  # execution -> bytes of disk
        self._kept: dict[str, int] = {}  # the same of what was withheld and is kept for a while

    def enter(self, execution_id: str) -> None:
        """A lease was taken; what it needs is not known yet."""
        with self._lock:
            self._leases[execution_id] = None

    def reserve(self, execution_id: str, limits: Limits) -> None:
        """Keep room for a job. GiveBack(NODE_FAULT) where it does not fit, which the bridge should have seen."""
        with self._lock:
            free = self._free()
            for name in ("cpu_millis", "memory_bytes", "disk_bytes"):
                if getattr(limits, name) > getattr(free, name):
                    raise GiveBack(
                        Reason.NODE_FAULT,
                        f"{name}: the job may use {getattr(limits, name)}, {getattr(free, name)} is free here",
                    )
            self._leases[execution_id] = limits

    def hold(self, execution_id: str, disk_bytes: int) -> None:
        """The job is over, its output waits for a release: it takes disk, and MAX_HELD of them keep the rest out."""
        with self._lock:
            self._leases.pop(execution_id, None)
            self._held[execution_id] = disk_bytes

    def keep(self, execution_id: str, disk_bytes: int) -> None:
        """Its lease is over, and its output was withheld but is still there: it takes disk and nothing else."""
        with self._lock:
            self._kept[execution_id] = disk_bytes

    def leave(self, execution_id: str) -> None:
        """The lease is over, or the output that it left is gone."""
        with self._lock:
            for place in (self._leases, self._held, self._kept):
                place.pop(execution_id, None)

    @property
    def is_settled(self) -> bool:
        """Whether the needs of every lease are known: only then is `free` worth telling."""
        with self._lock:
            return all(limits is not None for limits in self._leases.values())

    @property
    def free(self) -> Capacity:
        """What is free now; leases that are pending count as a slot only."""
        with self._lock:
            return self._free()

    def _free(self) -> Capacity:
        known = [limits for limits in self._leases.values() if limits is not None]
        return Capacity(
            slots=max(0, min(self.total.slots, MAX_HELD - len(self._held)) - len(self._leases)),
            cpu_millis=max(0, self.total.cpu_millis - sum(limits.cpu_millis for limits in known)),
            memory_bytes=max(0, self.total.memory_bytes - sum(limits.memory_bytes for limits in known)),
            disk_bytes=max(
                0,
                self.total.disk_bytes
                - sum(limits.disk_bytes for limits in known)
                - sum(self._held.values())
                - sum(self._kept.values()),
            ),
        )
