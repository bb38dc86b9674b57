"""Faults of eth_getLogs, and the logs of blocks that left the chain. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from bridge.devnet.chaos.dice import Dice
from bridge.devnet.chaos.settings import Settings

MAX_REMEMBERED = 1024  # blocks

LogDict = dict[str, Any]


def spoiled(dice: Dice, settings: Settings, logs: list[LogDict]) -> tuple[list[LogDict], list[str]]:
    """The logs after the faults that they meet, and the names of these."""
    met: list[str] = []
    if not logs:
        return logs, met
    for kind, change in _CHANGES.items():
        if dice.happens(kind, "eth_getLogs", getattr(settings, kind)):
            logs = change(logs)
            met.append(kind)
    return logs, met


_CHANGES: dict[str, Callable[[list[LogDict]], list[LogDict]]] = {
    "log_index": lambda logs: [log | {"logIndex": "0x0"} for log in logs],
    "duplicate_logs": lambda logs: [*logs, *logs[: (len(logs) + 1) // 2]],
    "truncate_logs": lambda logs: logs[: len(logs) // 2],
    "drop_logs": lambda _: [],
}


def matches(log: LogDict, query: dict[str, Any]) -> bool:
    """Whether eth_getLogs with this filter shows the log."""
    address = query.get("address")
    wanted = [address] if isinstance(address, str) else address or []
    if wanted and str(log.get("address")).lower() not in [str(item).lower() for item in wanted]:
        return False
    topics = query.get("topics") or []
    had = log.get("topics") or []
    return len(topics) <= len(had) and all(
        topic is None or own in (topic if isinstance(topic, list) else [topic])
        for topic, own in zip(topics, had, strict=False)
    )


class Memory:
    """Blocks that were seen, with their logs, by the node's own hash. Lotus keeps dead tipsets and answers for them."""

    def __init__(self) -> None:
        self._blocks: OrderedDict[str, tuple[dict[str, Any], list[LogDict]]] = OrderedDict()

    def add(self, block: dict[str, Any], logs: list[LogDict]) -> None:
        """Keep a block."""
        self._blocks[block["hash"]] = block, logs
        while len(self._blocks) > MAX_REMEMBERED:
            self._blocks.popitem(last=False)

    def __contains__(self, block_hash: str) -> bool:
        return block_hash in self._blocks

    def block(self, block_hash: str) -> dict[str, Any] | None:
        """A block's header."""
        found = self._blocks.get(block_hash)
        return None if found is None else found[0]

    def removed(self, block_hash: str, query: dict[str, Any]) -> list[LogDict]:
        """The logs of a block that left the chain, marked as such."""
        _, logs = self._blocks[block_hash]
        return [log | {"removed": True} for log in logs if matches(log, query)]
