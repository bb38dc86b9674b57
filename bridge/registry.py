"""What the dispatcher asks the chain's node registry. The real one is `bridge.chain.views.RegistryViews`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from executor.errors import InvalidInput


class ActiveNode(Protocol):
    """A node whose key is current and that is active."""

    @property
    def node_id(self) -> int:
        """From 1."""
        ...

    @property
    def operator(self) -> str:
        """Whose node it is; a quorum counts operators."""
        ...


class ChainView(Protocol):
    """The registry as it is now. RpcError where the chain does not answer."""

    def active_node_of_key(self, key: str) -> ActiveNode | None:
        """The node whose current key this is, if it is active."""
        ...

    def labels_count(self, node_id: int, curator: str, label_hashes: Sequence[bytes]) -> tuple[bool, ...]:
        """Which labels count, by the curator's word, or the node's own for the zero address."""
        ...

    def carries(self, node_id: int, curator: str, label_hashes: Sequence[bytes]) -> bool:
        """Whether all labels count; none with a curator means "node=admitted"."""
        ...


class NotRegistered(InvalidInput):
    """The key that signed is not the current key of an active node."""

    def __init__(self, key: str) -> None:
        super().__init__("Insula-Key", f"{key} is not the current key of an active node; see `insula node register`")
        self.key = key
