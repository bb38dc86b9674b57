"""What an endpoint's error means: one table of code and text, matched from the top. Pure.

Sources: lotus api/api_errors.go (code 12, ENullRound), node/impl/eth (texts of code 1), gateway ("server busy");
Hardhat's EDR and anvil as they answered. Codes alone are not enough: dRPC says 12 for "Can't route your request".
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Any

from bridge.chain.shapes import data_of
from bridge.errors import NullRound, RpcError, RpcRefused, RpcUnavailable

RESPONSE_TOO_LARGE = 413  # the code of RpcRefused for an answer beyond our byte limit, and for HTTP 413
REVERTED = 3  # JSON-RPC code of an execution that reverted, with the revert bytes as data
MAX_MESSAGE = 500  # characters kept of an endpoint's own words


class Meaning(Enum):
    """What the caller does next."""

    NULL_ROUND = "null round"
    UNAVAILABLE = "try again later"
    REFUSED = "no"


_ANY: int | None = None
#: (JSON-RPC code or any, text) -> meaning; the first match counts
TABLE: tuple[tuple[int | None, str, Meaning], ...] = (
    (12, r"^requested epoch was a null round", Meaning.NULL_ROUND),  # lotus >= 1.31
    (1, r"requested epoch was a null round", Meaning.NULL_ROUND),  # lotus <= 1.30, sometimes wrapped
    (12, r"", Meaning.UNAVAILABLE),  # dRPC: can't route your request
    (_ANY, r"requested a future epoch", Meaning.UNAVAILABLE),  # a load balancer's other node is behind
    (_ANY, r"not yet available", Meaning.UNAVAILABLE),  # events of a tipset that is not executed yet
    (_ANY, r"server busy|connection limited|rate limit|too many requests|try again", Meaning.UNAVAILABLE),
    (_ANY, r"header not found|unknown block|blockhash cannot be found|could not find", Meaning.UNAVAILABLE),
    (-32002, r"", Meaning.UNAVAILABLE),  # lotus: state of an upgrade's epoch; others: resource unavailable
    (429, r"", Meaning.UNAVAILABLE),
    (_ANY, r"", Meaning.REFUSED),
)
_COMPILED = tuple((code, re.compile(text, re.IGNORECASE), meaning) for code, text, meaning in TABLE)


def meaning_of(code: int, message: str) -> Meaning:
    """What an error with this code and text means."""
    return next(meaning for known, text, meaning in _COMPILED if known in (_ANY, code) and text.search(message))


def error_of(error: object, number: int | None = None) -> RpcError:
    """The exception for a JSON-RPC error object. `number`: the block number that was asked for, if any."""
    fields = error if isinstance(error, dict) else {}
    code = fields.get("code")
    code = code if isinstance(code, int) and abs(code) < 2**31 else 0
    message = _printable(fields.get("message"))
    meaning = meaning_of(code, message)
    if meaning is Meaning.NULL_ROUND and number is not None:
        return NullRound(number)
    if meaning is Meaning.REFUSED:
        return RpcRefused(code, message, fields.get("data"))
    return RpcUnavailable(f"{message} (code {code})")


def http_error_of(status: int, body: Any, number: int | None = None) -> RpcError:
    """The exception for an HTTP status of 400 or more; `body` is its JSON, or None."""
    if status not in (408, 429) and isinstance(body, dict) and isinstance(body.get("error"), dict):
        return error_of(body["error"], number)
    if status in (408, 429) or status >= 500:
        return RpcUnavailable(f"the endpoint answered with HTTP status {status}")
    return RpcRefused(status, f"the endpoint answered with HTTP status {status}")


def revert_data(error: RpcRefused) -> bytes | None:
    """The bytes that an execution reverted with; None when the error is not a revert.

    Lotus, geth and anvil give them as `data`, Hardhat inside an object; a plain revert may have none (empty bytes).
    """
    data = error.data
    if isinstance(data, dict):
        data = data.get("data")
    if isinstance(data, str):
        try:
            return data_of(data, "error.data")
        except RpcUnavailable:
            return b"" if error.code == REVERTED else None
    reverted = error.code == REVERTED or "revert" in error.message.lower()
    return b"" if reverted else None


def _printable(message: object) -> str:
    text = message if isinstance(message, str) else "no message"
    return "".join(char if char.isprintable() else " " for char in text[:MAX_MESSAGE])
