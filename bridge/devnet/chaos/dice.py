"""Chance that repeats itself: every decision is a function of the seed, its kind and what it is about. Pure."""

from __future__ import annotations

from collections import Counter
from hashlib import blake2b

_SCALE = 2**64


def fraction(seed: int, *about: object) -> float:
    """A number in [0, 1) that depends on nothing but the arguments."""
    words = "\0".join(map(str, (seed, *about))).encode()
    return int.from_bytes(blake2b(words, digest_size=8).digest()) / _SCALE


class Dice:
    """The decisions of one run. Not thread-safe: its user holds a lock."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._counts: Counter[tuple[str, str]] = Counter()

    def happens(self, kind: str, method: str, probability: float) -> bool:
        """Whether fault `kind` meets this call: decided by how many-th call of `method` it is that could be met."""
        if not probability:
            return False
        self._counts[kind, method] += 1
        return fraction(self.seed, kind, method, self._counts[kind, method]) < probability

    def nth(self, kind: str, method: str) -> int:
        """How many calls were looked at for this fault."""
        return self._counts[kind, method]

    def befalls(self, kind: str, subject: object, probability: float) -> bool:
        """Whether fault `kind` befalls a transaction or a block: the same answer however often it is asked."""
        return probability > 0 and fraction(self.seed, kind, subject) < probability

    def pick(self, kind: str, subject: object, lowest: int, highest: int) -> int:
        """A whole number from `lowest` to `highest`, both included."""
        return lowest + int(fraction(self.seed, kind, "pick", subject) * (highest - lowest + 1))

    def noise(self, kind: str, method: str) -> float:
        """A number around 0, in [-6, 6], near to a normal distribution of deviation 1."""
        self._counts[kind, method] += 1
        count = self._counts[kind, method]
        return sum(fraction(self.seed, kind, method, count, part) for part in range(12)) - 6
