"""The local node behind the personality: anvil or Hardhat, and how each is made to change its mind."""

from __future__ import annotations

import itertools
from collections import deque
from typing import Any

import orjson

from bridge.chain.transport import HttpTransport, Transport
from bridge.devnet.chaos.dialects import RpcFault
from bridge.errors import RpcUnavailable

TIMEOUT_SECONDS = 30.0
MAX_ANSWER_BYTES = 64 * 2**20
_MAX_SNAPSHOTS = 100


class NodeFault(RpcFault):
    """An error in the node's own words."""


class Node:
    """One local node. Not thread-safe: its user holds a lock."""

    def __init__(self, upstream: str | Transport) -> None:
        self._transport = _http(upstream) if isinstance(upstream, str) else upstream
        self._ids = itertools.count(1)
        self._kind = ""
        self._snapshots: deque[tuple[int, Any]] = deque(maxlen=_MAX_SNAPSHOTS)  # Hardhat: (block number, snapshot id)

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def ask(self, method: str, *params: Any) -> Any:
        """A call's result. NodeFault: the node's error. RpcUnavailable: it does not answer."""
        ident = next(self._ids)
        request = {"jsonrpc": "2.0", "id": ident, "method": method, "params": params}
        _, body = self._transport.post(orjson.dumps(request))
        try:
            answer = orjson.loads(body)
        except ValueError as exc:
            raise RpcUnavailable("the node's answer is not JSON") from exc
        if not isinstance(answer, dict):
            raise RpcUnavailable("the node's answer is not a JSON object")
        error = answer.get("error")
        if isinstance(error, dict):
            raise NodeFault(int(error.get("code", -32000)), str(error.get("message", "")), error.get("data"))
        return answer.get("result")

    @property
    def kind(self) -> str:
        """`anvil` or `hardhat`."""
        if not self._kind:
            self._kind = "anvil" if "anvil" in str(self.ask("web3_clientVersion")).lower() else "hardhat"
        return self._kind

    def drop(self, tx_hash: str) -> None:
        """Take a transaction out of the node's pool."""
        try:
            self.ask(f"{self.kind}_dropTransaction", tx_hash)
        except NodeFault:
            return  # it is not there

    def keep_place(self, number: int) -> None:
        """Note the present head as one that can be gone back to."""
        if self.kind == "hardhat" and (not self._snapshots or self._snapshots[-1][0] != number):
            snapshot = self.ask("evm_snapshot")
            if int(self.ask("eth_blockNumber"), 16) == number:  # no block came meanwhile
                self._snapshots.append((number, snapshot))

    def go_back(self, head: int, depth: int) -> int | None:
        """Take back the newest `depth` blocks, or somewhat fewer; the head's number then. None: not possible."""
        if self.kind == "anvil":
            self.ask("anvil_rollback", depth)
            return head - depth
        places = [place for place in self._snapshots if head - depth <= place[0] < head]
        if not places:
            return None
        number, snapshot = places[0]
        self._snapshots = deque((p for p in self._snapshots if p[0] < number), maxlen=_MAX_SNAPSHOTS)
        if self.ask("evm_revert", snapshot) is not True:
            self._snapshots.clear()
            return None
        self.keep_place(number)  # a snapshot is good for one return
        return number

    def mine(self, blocks: int, salt: int, last_timestamp: int) -> None:
        """Mine blocks that differ from any before; the last one no earlier than `last_timestamp` (seconds)."""
        self.ask(f"{self.kind}_setCoinbase", f"0x{salt % 2**160:040x}")
        for left in range(blocks - 1, -1, -1):
            if left == 0:
                self._not_before(last_timestamp)
            self.ask("evm_mine")

    def _not_before(self, timestamp: int) -> None:
        """Going back sets back the node's clock as well: catch up, for the deadlines' sake."""
        try:
            self.ask("evm_setNextBlockTimestamp", hex(timestamp))
        except NodeFault:
            return  # its clock is further on


def _http(url: str) -> Transport:
    return HttpTransport(url, TIMEOUT_SECONDS, MAX_ANSWER_BYTES)
