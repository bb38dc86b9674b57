"""What a verification says of one thing that it looked at."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Basis(StrEnum):
    """What a check stands on."""

    OFFLINE = "offline"
    CHAIN = "chain"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. `detail` says what was found, or what is wrong.

    checked: False where it could not be looked at: that accuses nobody, and `ok` is False then.
    """

    name: str
    ok: bool
    detail: str
    basis: Basis = Basis.OFFLINE
    checked: bool = True

    @property
    def failed(self) -> bool:
        """Whether it was looked at and does not hold."""
        return self.checked and not self.ok
