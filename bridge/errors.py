"""The errors of the bridge, by what the caller does next.

InsulaError (executor.errors)
└── BridgeError
    ├── RpcError                  an endpoint did not answer, or not as its protocol says
    │   ├── RpcUnavailable        try again later, same call
    │   │   ├── RateLimited       it said that it is asked too often: leave it alone for a while
    │   │   └── EndpointsDisagree two endpoints tell different things: neither is believed now
    │   ├── RpcRefused(code)      the endpoint understood and said no
    │   │   ├── TooMuch           ask for less at a time
    │   │   └── HistoryPruned     it no longer has what is that old
    │   └── NullRound(number)     no tipset at that epoch: not an error of anybody's
    ├── StoreUnavailable          the database cannot be used now; it may be later, and nothing was written
    │   └── StoreFull             because no space is left for it
    ├── StaleTransition           somebody else moved the row first; drop what was decided on the old state
    ├── AskedTooOften             somebody has all of his content looked through again and again; later it is done
    ├── StaleLease                the fencing token is not the current one; stop working
    └── FatalError                stop the process, a human is needed (wrong chain, deep reorg, bad configuration)
"""

from __future__ import annotations

import math

from executor.errors import InsulaError


class BridgeError(InsulaError):
    """The bridge could not do this."""


class RpcError(BridgeError):
    """The chain's endpoint did not answer as it should."""


class RpcUnavailable(RpcError):
    """The chain's endpoint cannot be reached now."""


class RpcRefused(RpcError):
    """The chain's endpoint refused the call. `code` is the JSON-RPC code, `data` what came with it."""

    def __init__(self, code: int, message: str, data: object = None) -> None:
        super().__init__(code, message, data)
        self.code = code
        self.message = message
        self.data = data

    def __str__(self) -> str:
        return f"{self.message} (code {self.code})"


class RateLimited(RpcUnavailable):
    """The endpoint is asked too often. `retry_after`: seconds that it named, or None."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class EndpointsDisagree(RpcUnavailable):
    """Two endpoints tell different things about one block, and nobody else says who is right."""


class TooMuch(RpcRefused):
    """The answer would be too large, or the range too wide. `suggested`: blocks per range that it named, or None."""

    def __init__(self, code: int, message: str, data: object = None, suggested: int | None = None) -> None:
        super().__init__(code, message, data)
        self.suggested = suggested


class HistoryPruned(RpcRefused):
    """The endpoint does not look back that far."""


class NullRound(RpcError):
    """There is no block at this epoch."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    def __str__(self) -> str:
        return f"epoch {self.number} is a null round"


class StoreUnavailable(BridgeError):
    """The database cannot be used now; nothing was written. The message says why."""


class StoreFull(StoreUnavailable):
    """No space is left for the database; nothing was written."""


class StaleTransition(BridgeError):
    """The row was no longer in the state that the decision was made on."""


class StaleLease(BridgeError):
    """The lease is gone, or another attempt has taken its place."""


class AskedTooOften(BridgeError):
    """What was asked for costs much, and this caller has had it done often. seconds: until it is done again."""

    def __init__(self, seconds: float) -> None:
        self.seconds = math.ceil(seconds)
        super().__init__(f"what is here is being looked through, or was too often; ask again in {self.seconds} s")


class FatalError(BridgeError):
    """The bridge cannot go on without a human."""
