"""How many places must hold a result before it goes on-chain, and what keeps the others from it.

The bridge's own store is the first: each block was read back from it. The others are daemons from which `bridge.mirror`
read the whole result back for this job, and that answered at one of the configured addresses since this process began:
of one that did not, nobody knows whether it is there, or which daemon it is now. Two addresses of one daemon are one
place, and two daemons that took turns at one address are one as well.
"""

from __future__ import annotations

from bridge.store.engine import Connection, Engine, reading
from bridge.store.jobs import Job
from bridge.store.mirror import Owed, count_copies, waiting_results
from bridge.watch import Alarm, Watch
from executor.protocol.cid import Cid

AWAY = "does not answer"
"""What is said of a place until it answers."""
LATE_SECONDS = 300.0
"""A result that has waited so long for its copies raises an alarm."""


class Replicas:
    """Shared by threads. wanted: places, the bridge's own store among them."""

    def __init__(self, wanted: int = 1, watch: Watch | None = None) -> None:
        self.wanted = wanted
        self._watch = watch or Watch()
        self._problems: dict[str, str] = {}
        self._peers: dict[str, str] = {}

    def found(self, place: str, peer: str) -> None:
        """Which daemon is at a place now, by its peer id: it answers."""
        self._peers[place] = peer
        if self._problems.get(place) == AWAY:
            self._problems[place] = ""

    def note(self, place: str, problem: str) -> None:
        """What a place's last try came to; empty where it went well."""
        self._problems[place] = problem

    def lacking(self, connection: Connection, job: Job) -> str:
        """What a STORED job waits for; empty where its result is at enough places, or has no output."""
        output = job.outcome.output_cid if job.outcome else b""
        if self.wanted == 1 or not output:
            return ""
        owed = Owed(job.request_hash, Cid.from_binary(output))
        held = 1 + count_copies(connection, owed, set(self._peers.copy().values()))
        if held >= self.wanted:
            return ""
        problems = "; ".join(f"{place} {problem}" for place, problem in sorted(self._problems.items()) if problem)
        return f"its output is at {held} of {self.wanted} places" + (f": {problems}" if problems else "")

    def show(self, engine: Engine, now: float) -> None:
        """Tell whoever watches how many results wait for copies, and whether one does for too long."""
        if self.wanted == 1:
            return
        with reading(engine) as connection:
            waiting, oldest = waiting_results(connection)
        self._watch.set("results_without_copies", waiting)
        if oldest is None:
            self._watch.over(Alarm.COPIES_MISSING, now)
        elif now - oldest >= LATE_SECONDS:
            detail = f"{waiting} results wait for copies, the oldest for {now - oldest:.0f} s"
            self._watch.alarm(Alarm.COPIES_MISSING, detail, now)
