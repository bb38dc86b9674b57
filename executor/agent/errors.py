"""Why a node stops working on a lease. Neither of these says anything about the job: nothing is attested.

NodeError
├── GiveBack(reason, detail)   this node cannot do it now; the lease goes back, another attempt follows
└── LeaseLost(why)             the bridge took the lease away; there is nothing to give back
"""

from __future__ import annotations

from executor.errors import InsulaError
from executor.protocol.reasons import Reason


class NodeError(InsulaError):
    """The node does not go on with a lease."""


class GiveBack(NodeError):
    """The lease goes back. `reason` is one of the 400s; `detail` is one line for people, shown outside this node."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason.name}: {self.detail}"


class LeaseLost(NodeError):
    """The bridge took the lease back."""
