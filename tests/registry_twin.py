"""A node registry in memory: what `bridge.chain.views.RegistryViews` answers, without a chain."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from bridge.errors import RpcUnavailable
from executor.protocol.labels import ADMITTED
from executor.protocol.wire import ZERO_ADDRESS, label_hash


@dataclass(frozen=True)
class TwinNode:
    """A registered node."""

    node_id: int
    operator: str


@dataclass
class RegistryTwin:
    """Nodes by their current key, the words they declared, and whom which curator vouched for."""

    nodes: dict[str, TwinNode] = field(default_factory=dict)
    declared: dict[int, set[bytes]] = field(default_factory=dict)
    vouched: set[tuple[str, int, bytes]] = field(default_factory=set)
    asked: int = 0
    fails: bool = False  # the endpoint does not answer

    def register(self, key: str, operator: str, labels: Iterable[str] = ()) -> int:
        """A new active node; its id."""
        node_id = len(self.declared) + 1
        self.nodes[key] = TwinNode(node_id, operator)
        self.declared[node_id] = {label_hash(word) for word in labels}
        return node_id

    def vouch(self, curator: str, node_id: int, *labels: str) -> None:
        """The curator's word for labels of a node."""
        self.vouched |= {(curator, node_id, label_hash(word)) for word in labels}

    def withdraw(self, curator: str, node_id: int, *labels: str) -> None:
        """He takes it back."""
        self.vouched -= {(curator, node_id, label_hash(word)) for word in labels}

    def rotate(self, old: str, new: str) -> None:
        """A new key takes the place of the current one."""
        self.nodes[new] = self.nodes.pop(old)

    def active_node_of_key(self, key: str) -> TwinNode | None:
        """As the contract answers."""
        self.asked += 1
        return self.nodes.get(key)

    def labels_count(self, node_id: int, curator: str, label_hashes: Sequence[bytes]) -> tuple[bool, ...]:
        """As the contract answers: a label counts where the node declared it and the curator vouched for it."""
        self.asked += 1
        if self.fails:
            raise RpcUnavailable("no answer")
        return tuple(self._counts(node_id, curator, label) for label in label_hashes)

    def carries(self, node_id: int, curator: str, label_hashes: Sequence[bytes]) -> bool:
        """As the contract answers."""
        self.asked += 1
        if curator != ZERO_ADDRESS and not label_hashes:
            return self._counts(node_id, curator, label_hash(ADMITTED))
        return all(self._counts(node_id, curator, label) for label in label_hashes)

    def _counts(self, node_id: int, curator: str, label: bytes) -> bool:
        if curator == ZERO_ADDRESS:
            return label in self.declared.get(node_id, set())
        return (curator, node_id, label) in self.vouched
