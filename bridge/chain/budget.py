"""What deliveries may cost: shares of a batch, what was spent, whether an estimate is believable. Pure; wei and gas."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from executor.protocol.wire import ZERO_ADDRESS, Order

#: weight of a delivery in a batch: gas of its work apart from calldata and callback, by EVM prices
BASE_WEIGHT = 40_000
BYTE_WEIGHT = 8  # gas of a byte of calldata: most are zero
REMEMBERED_SECONDS = 600.0  # so long an estimate is taken for batches like the one that it was made for
JUMP = 5  # an estimate beyond so many times the median is not believed
MIN_SAMPLES = 5  # fewer deliveries than these say nothing


@dataclass(frozen=True)
class Cost:
    """One transaction: what it costs at most, and what it did cost once its receipt is known (wei)."""

    nonce: int
    at_most: int
    actual: int | None = None
    weight: int = 1
    total: int = 1

    def share(self, cost: int) -> int:
        """This delivery's part of a cost, rounded up."""
        return share(cost, self.weight, self.total)


@dataclass(frozen=True)
class Sample:
    """A delivery that was mined: its gas, its bytes of calldata, its cost in wei."""

    gas: int
    size: int
    cost: int


@dataclass(frozen=True)
class Estimate:
    """What an endpoint thought that a batch without callbacks needs, and when. size: bytes of its deliveries."""

    gas: int
    deliveries: int
    size: int
    at: float

    def for_batch(self, sizes: Sequence[int], now: float) -> int | None:
        """The same for another batch; None for one that is not as many deliveries of about as many bytes, or later.

        To be confirmed by a call with so much gas: what each delivery needs depends on the contract's state too.
        """
        size = sum(sizes)
        alike = len(sizes) == self.deliveries and abs(size - self.size) * 10 <= self.size
        if not alike or not 0 <= now - self.at < REMEMBERED_SECONDS:
            return None
        return share(self.gas, max(size, self.size), self.size)


def weight(calldata: bytes, callback_gas: int) -> int:
    """A delivery's part of a batch's cost, against the other weights."""
    return BASE_WEIGHT + BYTE_WEIGHT * len(calldata) + callback_gas


def earned(order: Order) -> int:
    """What the delivery of this order earns in the chain's own token; what another is worth, nobody knows."""
    return order.delivery_fee if order.token == ZERO_ADDRESS else 0


def share(cost: int, part: int, total: int) -> int:
    """A part of a cost, rounded up."""
    return -(-cost * part // total)


def spent(costs: Iterable[Cost]) -> int:
    """What these transactions cost: of each nonce the one that was mined, or the dearest while none is known to be."""
    by_nonce: dict[int, list[Cost]] = {}
    for cost in costs:
        by_nonce.setdefault(cost.nonce, []).append(cost)
    return sum(_of_nonce(group) for group in by_nonce.values())


def _of_nonce(group: Sequence[Cost]) -> int:
    # An endpoint may show any receipt: no transaction costs more than it was signed for.
    actual = [cost.share(min(cost.actual, cost.at_most)) for cost in group if cost.actual is not None]
    return max(actual) if actual else max(cost.share(cost.at_most) for cost in group)


def beyond(cost: int, weights: Mapping[int, int], allowances: Mapping[int, int]) -> list[int]:
    """Which deliveries' shares of `cost` are above what each may still cost."""
    total = sum(weights.values())
    return [key for key, part in weights.items() if share(cost, part, total) > allowances[key]]


def believable(gas: int, sizes: Sequence[int], callback_gas: int, samples: Sequence[Sample]) -> bool:
    """Whether an estimate for deliveries of these sizes (bytes of calldata) is near what such deliveries needed.

    A larger delivery may need more in proportion; what orders ask for their callbacks comes on top.
    """
    if len(samples) < MIN_SAMPLES:
        return True
    usual = median(sample.gas for sample in samples)
    size = max(1, median(sample.size for sample in samples))
    return gas <= JUMP * sum(usual * max(1, given / size) for given in sizes) + 2 * callback_gas


def usual_cost(samples: Sequence[Sample]) -> int | None:
    """What a delivery costs, by the last ones; None while nothing is known."""
    return int(median(sample.cost for sample in samples)) if samples else None
