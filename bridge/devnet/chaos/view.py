"""Which block a caller means: tags, epochs, null rounds, what is not executed yet. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bridge.devnet.chaos.dialects import (
    DIALECTS,
    MAX_RANGE,
    Dialect,
    NullAnswer,
    RpcFault,
    events_unavailable,
    future_epoch,
    lookback_too_long,
    no_filter_tag,
    not_supported,
    null_round,
    range_too_wide,
    wrong_order,
)
from bridge.devnet.chaos.epochs import EpochMap
from bridge.devnet.chaos.looks import Look
from bridge.devnet.chaos.settings import Settings


class NoBlock(Exception):
    """There is nothing at that number: the answer is null."""


@dataclass(frozen=True)
class View:
    """The chain as one answering node sees it: `head` is its newest block number, `look` how it shows blocks."""

    settings: Settings
    head: int
    look: Look

    @property
    def dialect(self) -> Dialect:
        """How it speaks."""
        return DIALECTS[self.settings.dialect]

    @property
    def epochs(self) -> EpochMap:
        """Numbers and epochs."""
        return self.look.epochs

    @property
    def latest(self) -> int:
        """The newest block that is executed."""
        return max(0, self.head - 1) if self.settings.deferred else self.head

    @property
    def latest_epoch(self) -> int:
        """The epoch of `latest`."""
        return self.epochs.epoch_of(self.latest)

    def tagged(self, lag: int) -> int:
        """The block that a tag means which is `lag` epochs behind `latest`."""
        return self.epochs.at_or_below(max(0, self.latest_epoch - lag))

    def state_at(self, param: Any) -> Any:
        """The block parameter of a state or range call, for the node. Null epochs give the block before them."""
        if isinstance(param, dict):
            return self._by_fields(param)
        number = self._number(param)
        return number if isinstance(number, str) else hex(number)

    def block_at(self, param: Any, *, strict: bool = True) -> Any:
        """The same of a call about a block. RpcFault or NoBlock for null and future epochs, as the dialect has it."""
        if isinstance(param, dict):
            return self._by_fields(param)
        try:
            number = self._number(param)
        except RpcFault as exc:
            if not self.dialect.imitates and exc.message == self.dialect.future:
                raise NoBlock from exc
            raise
        if isinstance(number, str):
            return hex(self.head) if number == "pending" else number
        if strict and _is_number(param) and self.epochs.epoch_of(number) != int(param, 16):
            self._refuse_null(int(param, 16))
        return hex(number)

    def range_of(self, query: dict[str, Any]) -> tuple[int, int] | None:
        """The block numbers that eth_getLogs is to read, both included; None: the range has null rounds only."""
        first, last = (self._end(query.get(name), name) for name in ("fromBlock", "toBlock"))
        if self.dialect.imitates:
            most = self.settings.max_range or MAX_RANGE
            if first > last:
                raise wrong_order(self.dialect, first, last)
            if last - first > most:
                raise range_too_wide(self.dialect, last - first, most)
        self._check_lookback(first)
        if last >= self.epochs.epoch_of(self.head) + (self.head == self.latest):
            raise events_unavailable(self.dialect)
        lowest, highest = self.epochs.at_or_above(first), self.epochs.at_or_below(last)
        return None if lowest > highest else (lowest, highest)

    def _end(self, param: Any, name: str) -> int:
        if param in (None, "latest"):
            return self.latest_epoch
        if param == "earliest":
            return 0
        if not _is_number(param):
            if self.dialect.imitates:
                raise no_filter_tag(self.dialect, name[0].upper() + name[1:])
            return self.latest_epoch
        return int(param, 16)

    def _number(self, param: Any) -> int | str:
        """The block number; "pending" and whatever the node itself is to judge stay words."""
        if param in (None, "latest"):
            return self.latest
        if param in ("safe", "finalized") and self.settings.tags:
            return self.tagged(self.settings.safe_lag if param == "safe" else self.settings.finalized_lag)
        if not _is_number(param):
            if param == "earliest" and self.dialect.imitates:
                raise not_supported(self.dialect, param)
            return str(param)
        epoch = int(param, 16)
        if epoch > self.latest_epoch:
            raise future_epoch(self.dialect)
        self._check_lookback(epoch)
        return self.epochs.at_or_below(epoch)

    def _check_lookback(self, epoch: int) -> None:
        if self.settings.lookback and epoch < self.latest_epoch - self.settings.lookback:
            raise lookback_too_long(self.dialect)

    def _by_fields(self, param: dict[str, Any]) -> dict[str, Any]:
        """EIP-1898: {"blockNumber"} or {"blockHash"}."""
        if "blockHash" in param:
            return param | {"blockHash": self.look.candidates(str(param["blockHash"]))[0]}
        return param | {"blockNumber": self.state_at(param.get("blockNumber"))}

    def _refuse_null(self, epoch: int) -> None:
        fault = null_round(self.dialect, epoch)
        if fault is not None:
            raise fault
        if self.dialect.null_answer is NullAnswer.NOTHING:
            raise NoBlock


def _is_number(param: Any) -> bool:
    if not isinstance(param, str) or not param.startswith("0x") or len(param) > 18:
        return False
    try:
        return int(param, 16) >= 0
    except ValueError:
        return False
