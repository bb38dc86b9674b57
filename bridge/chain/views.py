"""What our contracts say, as typed values. Each method is one eth_call.

Errors: those of `ChainClient`; InvalidInput when an answer does not decode (no contract there, or another one).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eth_utils.address import to_checksum_address

from bridge.chain.client import ChainClient, Tag
from bridge.chain.contracts import (
    ContractAbi,
    compute_bridge,
    compute_lens,
    decode_revert,
    node_registry,
    result_book,
)
from bridge.chain.rpc_errors import revert_data
from bridge.errors import RpcRefused
from executor.errors import InvalidInput
from executor.protocol.wire import ZERO_ADDRESS, OnChainState, Order, Outcome


@dataclass(frozen=True)
class Result:
    """`resultOf(id)`: `digest` is keccak256(requestHash, outcomeHash) once an outcome is settled, else 32 zeros."""

    state: OnChainState
    digest: bytes


@dataclass(frozen=True)
class RequestView:
    """`requestOf(id)`; times in seconds since 1970, `cancel_marked_at` 0 when not marked."""

    requester: str
    deadline: int
    state: OnChainState
    cancel_marked_at: int
    callback_failed: bool


@dataclass(frozen=True)
class Bounds:
    """Smallest and largest ttl and the cancel delay, in seconds."""

    min_ttl: int
    max_ttl: int
    cancel_delay: int


@dataclass(frozen=True)
class ActiveNode:
    """A node whose key is current and that is active."""

    node_id: int
    operator: str


@dataclass(frozen=True)
class NodeView:
    """`nodeOf(id)`; `key` is the zero address when none joined."""

    operator: str
    key: str
    active: bool


@dataclass(frozen=True)
class StakeView:
    """`stakeOf(id)` in wei; `released_at` in seconds since 1970, 0 when nothing unbonds."""

    bonded: int
    unbonding: int
    released_at: int


@dataclass(frozen=True)
class QuotePage:
    """A page of `ComputeLens.quote`: `next` is where the next one begins, 0 when there is none."""

    price: int
    carriers: tuple[ActiveNode, ...]
    next: int


class _Views:
    """What a contract answers to `eth_call`. RpcRefused where it reverts; others as `ChainClient.call`."""

    def __init__(self, client: ChainClient, address: str, abi: ContractAbi) -> None:
        self.client = client
        self.address = address
        self._abi = abi

    def _get(self, function: str, *arguments: Any, block: Tag = "latest") -> tuple[Any, ...]:
        data = self.client.call(self.address, self._abi.encode(function, *arguments), block)
        return self._abi.decode(function, data)


class BridgeViews(_Views):
    """A ComputeBridge."""

    def __init__(self, client: ChainClient, contract: str) -> None:
        super().__init__(client, contract, compute_bridge())

    def request_count(self, block: Tag = "latest") -> int:
        """The number of requests so far; ids run from 1 to this."""
        return int(self._get("requestCount", block=block)[0])

    def request_hash(self, request_id: int, block: Tag = "latest") -> bytes | None:
        """The request hash while the request is open, else None."""
        (value,) = self._get("requestHash", request_id, block=block)
        return bytes(value) if any(value) else None

    def result_of(self, request_id: int, block: Tag = "latest") -> Result:
        """State and digest of a request."""
        state, digest = self._get("resultOf", request_id, block=block)
        return Result(_state(state), bytes(digest))

    def request_of(self, request_id: int, block: Tag = "latest") -> RequestView:
        """Requester, deadline, state, marks."""
        requester, deadline, state, marked, failed = self._get("requestOf", request_id, block=block)
        return RequestView(to_checksum_address(requester), deadline, _state(state), marked, failed)

    def check_result(self, request_id: int, request_hash: bytes, outcome: Outcome, block: Tag = "latest") -> bool:
        """Whether the request was settled with this outcome."""
        return bool(self._get("checkResult", request_id, request_hash, outcome.as_tuple(), block=block)[0])

    def credit_of(self, account: str, token: str = ZERO_ADDRESS, block: Tag = "latest") -> int:
        """What an account can withdraw, in the token's smallest unit."""
        return int(self._get("creditOf", account, token, block=block)[0])

    def quote(self, order: Order) -> int:
        """The price of an order. RpcRefused when the contract would not take it: see `refusals`."""
        return int(self._get("quote", order.as_tuple())[0])

    def registry(self) -> str:
        """The registry's address."""
        return to_checksum_address(self._get("registry")[0])

    def is_paused(self) -> bool:
        """Whether its owner has paused new requests."""
        return bool(self._get("paused")[0])

    def bounds(self) -> Bounds:
        """The contract's bounds in seconds."""
        return Bounds(*self._get("bounds"))


class RegistryViews(_Views):
    """A NodeRegistry."""

    def __init__(self, client: ChainClient, registry: str) -> None:
        super().__init__(client, registry, node_registry())

    def node_count(self, block: Tag = "latest") -> int:
        """The number of nodes; ids run from 1 to this."""
        return int(self._get("nodeCount", block=block)[0])

    def node_of(self, node_id: int, block: Tag = "latest") -> NodeView | None:
        """A node; None when there is none of that id."""
        try:
            operator, key, active = self._get("nodeOf", node_id, block=block)
        except RpcRefused as exc:
            if _reverted_with(exc, "NodeRegistryUnknownNode"):
                return None
            raise
        return NodeView(to_checksum_address(operator), to_checksum_address(key), active)

    def node_of_key(self, key: str, block: Tag = "latest") -> int | None:
        """The node that a key ever joined, current or not."""
        return int(self._get("nodeOfKey", key, block=block)[0]) or None

    def active_node_of_key(self, key: str, block: Tag = "latest") -> ActiveNode | None:
        """The node whose current key this is, if it is active now."""
        node_id, operator = self._get("activeNodeOfKey", key, block=block)
        return ActiveNode(node_id, to_checksum_address(operator)) if node_id else None

    def key_nonce(self, node_id: int, block: Tag = "latest") -> int:
        """The nonce that the next joining key signs."""
        return int(self._get("keyNonce", node_id, block=block)[0])

    def labels_count(
        self, node_id: int, curator: str, label_hashes: Sequence[bytes], block: Tag = "latest"
    ) -> tuple[bool, ...]:
        """Which labels count for a node now, by the curator's word, or its own for the zero address."""
        (counts,) = self._get("labelsCount", node_id, curator, list(label_hashes), block=block)
        return tuple(bool(count) for count in counts)

    def carries(self, node_id: int, curator: str, label_hashes: Sequence[bytes], block: Tag = "latest") -> bool:
        """Whether all labels count; none with a curator means "node=admitted"."""
        return bool(self._get("carries", node_id, curator, list(label_hashes), block=block)[0])

    def stake_of(self, node_id: int, block: Tag = "latest") -> StakeView:
        """What a node has at stake, and what unbonds."""
        return StakeView(*self._get("stakeOf", node_id, block=block))

    def reward_of(self, prover: str, block: Tag = "latest") -> int:
        """What somebody who proved contradictions can draw, in wei."""
        return int(self._get("rewardOf", prover, block=block)[0])

    def is_proven(self, key: str, block: Tag = "latest") -> bool:
        """Whether a contradiction of this key was proven, for which it is slashed once."""
        return bool(self._get("isProven", key, block=block)[0])

    def notice(self) -> int:
        """Seconds between a removal or deactivation and its effect."""
        return int(self._get("notice")[0])


class LensViews(_Views):
    """A ComputeLens."""

    def __init__(self, client: ChainClient, lens: str) -> None:
        super().__init__(client, lens, compute_lens())

    def quote(self, bridge: str, order: Order, start: int, limit: int) -> QuotePage:
        """What an order costs, and which of `limit` nodes from id `start` on could answer it now.

        RpcRefused when the contract would not take the order (`refusal` says why).
        """
        price, carriers, following = self._get("quote", bridge, order.as_tuple(), start, limit)
        nodes = tuple(ActiveNode(node_id, to_checksum_address(operator)) for node_id, operator in carriers)
        return QuotePage(price, nodes, following)


class BookViews(_Views):
    """A ResultBook, the example dApp."""

    def __init__(self, client: ChainClient, book: str) -> None:
        super().__init__(client, book, result_book())

    def result_of(self, request_id: int) -> Outcome | None:
        """The stored outcome; None when there is none yet."""
        fields = self._get("resultOf", request_id)
        return Outcome.from_tuple(fields) if fields[0] else None

    def callback_gas(self) -> int:
        """The gas that its orders ask for."""
        return int(self._get("CALLBACK_GAS")[0])


def _state(value: int) -> OnChainState:
    try:
        return OnChainState(value)
    except ValueError as exc:
        raise InvalidInput("state", f"{value} is no state; is this another contract?") from exc


def _reverted_with(error: RpcRefused, name: str) -> bool:
    data = revert_data(error)
    return data is not None and decode_revert(data).name == name
