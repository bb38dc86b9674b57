"""Which of several endpoints to ask: judged by height, latency and errors. Pure.

No endpoint is judged by one answer alone: what it costs is a sum in seconds, and the one in use stays until another is
clearly cheaper. Heights come from endpoints, which may lie: a height counts for a bounded amount.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

LONGEST_PAUSE = 120.0  # seconds that an endpoint is left alone at most, whatever it says
FRESH_SECONDS = 5.0  # a head that was seen longer ago says little about where the endpoint is now
HEARD_SECONDS = 600.0  # while an endpoint showed what we have taken in so lately, one that is behind is not used
CHECK_SECONDS = 300.0  # chain id and first block are looked at again after this
PRUNED_SECONDS = 600.0  # an endpoint that lacked history is asked last for so long

LATENCY_SHARE = 0.2  # of the newest answer in the running mean
ERROR_SHARE = 0.1
ERROR_SECONDS = 5.0  # what an endpoint costs that fails always
FAILURE_SECONDS = 30.0  # for each failure in a row
MOST_FAILURES = 10
LAG_ALLOWED = 2  # blocks: heads differ by so much at any moment
LAG_SECONDS = 0.5  # for each block of lag beyond that
MOST_LAG = 20
PRUNED_COST = 1000.0
STAY_FACTOR, STAY_SECONDS = 1.5, 1.0  # the endpoint in use is left when it costs more than this times the best, plus


@dataclass(frozen=True)
class Health:
    """What is known of one endpoint. Times are seconds since 1970, 0 for never.

    `head`: the newest block that it showed, at `heard_at`. `latency`: running mean in seconds. `errors`: share of calls
    that failed, a running mean. `failures`, `throttles`: in a row. `refused`: why it is never used again.
    """

    head: int = -1
    heard_at: float = 0.0
    checked_at: float = 0.0
    latency: float = 0.0
    errors: float = 0.0
    failures: int = 0
    throttles: int = 0
    not_before: float = 0.0
    pruned_at: float = 0.0
    refused: str = ""

    def answered(self, seconds: float) -> Health:
        """A request was answered after so many seconds."""
        latency = self.latency + LATENCY_SHARE * (max(0.0, seconds) - self.latency)
        return replace(self, latency=latency, errors=self.errors * (1 - ERROR_SHARE), throttles=0)

    def failed(self) -> Health:
        """A request failed, or its answer was of no use. Before it counts as sound again it is checked."""
        errors = self.errors + ERROR_SHARE * (1 - self.errors)
        return replace(self, errors=errors, failures=self.failures + 1, checked_at=0.0)

    def throttled(self, now: float, retry_after: float | None) -> Health:
        """It said that it is asked too often: left alone until it said, else twice as long each time."""
        wait = 2.0 ** min(self.throttles, 10) if retry_after is None else retry_after
        errors = self.errors + ERROR_SHARE * (1 - self.errors)
        return replace(self, errors=errors, throttles=self.throttles + 1, not_before=now + min(LONGEST_PAUSE, wait))

    def lacks_history(self, now: float) -> Health:
        """It does not show blocks that are still to be read."""
        return replace(self, pruned_at=now)

    def showed(self, head: int, now: float, *, checked: bool) -> Health:
        """It showed its head, on our chain. `checked`: its first block too was as it should be, or is not shown."""
        return replace(self, head=head, heard_at=now, failures=0, checked_at=now if checked else self.checked_at)

    def refuse(self, reason: str) -> Health:
        """Never use it again."""
        return replace(self, refused=reason)

    def is_left_alone(self, now: float) -> bool:
        """Whether it asked not to be asked now. A time that is too far off comes from a clock that was set back."""
        return now < self.not_before <= now + LONGEST_PAUSE

    def needs_check(self, now: float) -> bool:
        """Whether chain id and first block are to be looked at before anything else is asked."""
        return self.checked_at == 0.0 or not 0 <= now - self.checked_at < CHECK_SECONDS

    def is_fresh(self, now: float) -> bool:
        """Whether its head was seen just now."""
        return 0 <= now - self.heard_at < FRESH_SECONDS


def is_behind(healths: Sequence[Health], place: int, floor: int, now: float) -> bool:
    """Whether this endpoint lags behind block `floor`, which we have taken in, while another one lately did not.

    With no such other one the chain may have become shorter, and the endpoint may be right.
    """
    if healths[place].head >= floor or not healths[place].is_fresh(now):
        return False
    others = [other for other in healths if not other.refused and other.head >= floor]
    return any(0 <= now - other.heard_at < HEARD_SECONDS for other in others)


def cost(health: Health, best_head: int, now: float) -> float:
    """What asking this endpoint costs, in seconds, more or less."""
    lag = min(MOST_LAG, max(0, best_head - health.head - LAG_ALLOWED)) if health.head >= 0 else 0
    pruned = PRUNED_COST if health.pruned_at and 0 <= now - health.pruned_at < PRUNED_SECONDS else 0.0
    failures = FAILURE_SECONDS * min(MOST_FAILURES, health.failures)
    return health.latency + ERROR_SECONDS * health.errors + failures + LAG_SECONDS * lag + pruned


def choose(
    healths: Sequence[Health], now: float, floor: int, current: int | None, excluded: Collection[int] = ()
) -> int | None:
    """The place of the endpoint to ask; None when none can be asked now.

    `floor`: the newest block that we have taken in. `current`: the one in use, kept unless another is clearly better.
    """
    usable = [
        place
        for place, health in enumerate(healths)
        if place not in excluded
        and not health.refused
        and not health.is_left_alone(now)
        and not is_behind(healths, place, floor, now)
    ]
    if not usable:
        return None
    best_head = max(health.head for health in healths if not health.refused)
    costs = {place: cost(healths[place], best_head, now) for place in usable}
    best = min(usable, key=lambda place: (costs[place], place))
    if current in costs and costs[current] <= STAY_FACTOR * costs[best] + STAY_SECONDS:
        return current
    return best
