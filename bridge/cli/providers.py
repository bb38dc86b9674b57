"""How many peers of the IPFS network an operator's Kubo finds for a CID."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from executor.errors import PeerRefused
from executor.protocol.cid import Cid

SECONDS: Final = 20.0
MOST: Final = 20


@dataclass(frozen=True)
class Found:
    """count: None where the Kubo could not look, and `problem` says why. is_cut: the time ran out."""

    count: int | None
    is_cut: bool = False
    problem: str = ""

    @property
    def row(self) -> dict[str, Any]:
        """For --json."""
        return {"found": self.count, "most": MOST, "cut": self.is_cut, "problem": self.problem or None}

    @property
    def text(self) -> str:
        """In words."""
        if self.count is None:
            return f"providers not looked for: {self.problem}"
        most = " or more" if self.count >= MOST else ""
        what = "provider" if self.count == 1 else "providers"
        return f"{self.count}{most} {what} found" + (f" in {SECONDS:.0f} s, when the time was over" * self.is_cut)


def find_providers(address: str, root: Cid) -> Found:
    """Ask the Kubo whose RPC API is there, for at most SECONDS and MOST of them.

    InvalidInput where it is no such address; PeerUnavailable where nobody answers.
    """
    from executor.content.kubo import Kubo  # its library takes its time

    with Kubo(address, silence_seconds=SECONDS) as daemon:
        try:
            problem = daemon.facts().problem
            found = None if problem else daemon.providers(root, MOST, SECONDS)
        except PeerRefused as exc:
            return Found(None, problem=exc.problem)
    return Found(len(found.peers), found.is_cut) if found else Found(None, problem=problem)
