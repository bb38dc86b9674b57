"""Block numbers to epochs and back: the same blocks, with null rounds between them. Pure.

Epochs come in windows of `WINDOW`. Each has as many null rounds as the next one, at places that the seed chooses, so
any number is found without counting up to it, and a reorg moves no null round.
"""

from __future__ import annotations

from bisect import bisect_right
from hashlib import blake2b

WINDOW = 200
MAX_SHARE = 0.5
MAX_REMEMBERED = 256  # windows


class EpochMap:
    """Strictly increasing; 0 stays 0. `share` of all epochs are null, in runs of `run`; `also`: further null epochs."""

    def __init__(self, seed: int, share: float = 0.0, run: int = 1, also: tuple[int, ...] = ()) -> None:
        if not 0 <= share <= MAX_SHARE or not 1 <= run <= WINDOW // 2 or any(epoch < 1 for epoch in also):
            raise ValueError(f"null rounds: a share of at most {MAX_SHARE}, in runs of 1..{WINDOW // 2}, from epoch 1")
        self._seed = seed
        self._run = run
        self._runs = max(1, round(share * WINDOW / run)) if share else 0
        self._blocks = WINDOW - self._runs * run  # in each window
        self._also = sorted(set(also))
        self._places: dict[int, tuple[int, ...]] = {}

    def epoch_of(self, number: int) -> int:
        """The epoch of a block number."""
        window, place = divmod(number, self._blocks)
        epoch = window * WINDOW + self._window(window)[place]
        for null in self._also:
            if null > epoch:
                break
            epoch += 1
        return epoch

    def at_or_below(self, epoch: int) -> int:
        """The newest block number whose epoch is not above this one."""
        window, offset = divmod(epoch - bisect_right(self._also, epoch), WINDOW)
        return window * self._blocks + bisect_right(self._window(window), offset) - 1

    def at_or_above(self, epoch: int) -> int:
        """The oldest block number whose epoch is not below this one."""
        number = self.at_or_below(epoch)
        return number if self.epoch_of(number) == epoch else number + 1

    def is_null(self, epoch: int) -> bool:
        """Whether there is no block in this epoch."""
        return self.epoch_of(self.at_or_below(epoch)) != epoch

    def widest(self, blocks: int, among: int = 20_000) -> int:
        """How many epochs `blocks` blocks in a row take at most, looking at so many block numbers."""
        return max(self.epoch_of(number + blocks) - self.epoch_of(number) for number in range(among))

    def _window(self, window: int) -> tuple[int, ...]:
        """Where in this window the blocks are. Null runs follow blocks, so the first epoch always has one."""
        if window not in self._places:
            if len(self._places) >= MAX_REMEMBERED:
                self._places.clear()
            ranked = sorted(range(self._blocks), key=lambda place: self._rank(window, place))
            before_run = set(ranked[: self._runs])
            places: list[int] = []
            epoch = 0
            for place in range(self._blocks):
                places.append(epoch)
                epoch += 1 + (self._run if place in before_run else 0)
            self._places[window] = tuple(places)
        return self._places[window]

    def _rank(self, window: int, place: int) -> bytes:
        return blake2b(f"{self._seed} null {window} {place}".encode(), digest_size=8).digest()
