"""The rows of one execution as they come to be."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from executor.egress.heads import BadRequest
from executor.egress.record import Exchange


@dataclass
class Journal:
    """The rows of one execution, at most `limit`; no exchange goes on without one."""

    limit: int
    clock: Callable[[], float]
    _rows: list[Exchange] = field(default_factory=list)
    _omitted: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self) -> Exchange:
        """The row of a connection's request, from before anything is done about it. BadRequest(429): no row is left."""
        with self._lock:
            if len(self._rows) >= self.limit:
                self._omitted += 1
                raise BadRequest(429, f"this job may make {self.limit} requests")
            row = Exchange(at=int(self.clock() * 1000))
            self._rows.append(row)
            return row

    def record(self) -> dict[str, Any]:
        """All of it, as JSON. omitted: how many were refused without a row."""
        with self._lock:
            return {"exchanges": [row.row() for row in self._rows], "omitted": self._omitted}
