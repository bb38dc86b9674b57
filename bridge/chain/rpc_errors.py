"""What an endpoint's error means: one table of code and text, matched from the top. Pure.

Sources: lotus api/api_errors.go (code 12, ENullRound), node/impl/eth (texts of code 1), gateway ("server busy",
"lookbacks of more than"); Hardhat's EDR and anvil as they answered; the published limits of Alchemy, Ankr, dRPC,
Infura, QuickNode and others. Codes alone are not enough: dRPC says 12 for "Can't route your request", and -32005 is a
range limit here and a rate limit there.
"""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Any

from bridge.chain.shapes import data_of
from bridge.errors import HistoryPruned, NullRound, RateLimited, RpcError, RpcRefused, RpcUnavailable, TooMuch

RESPONSE_TOO_LARGE = 413  # the code of RpcRefused for an answer beyond our byte limit, and for HTTP 413
REVERTED = 3  # JSON-RPC code of an execution that reverted, with the revert bytes as data
MAX_MESSAGE = 500  # characters kept of an endpoint's own words


class Meaning(Enum):
    """What the caller does next."""

    NULL_ROUND = "null round"
    UNAVAILABLE = "try again later"
    THROTTLED = "ask less often"
    TOO_MUCH = "ask for less at a time"
    PRUNED = "too old"
    REFUSED = "no"


_ANY: int | None = None
#: (JSON-RPC code or any, text) -> meaning; the first match counts
TABLE: tuple[tuple[int | None, str, Meaning], ...] = (
    (12, r"^requested epoch was a null round", Meaning.NULL_ROUND),  # lotus >= 1.31
    (1, r"requested epoch was a null round", Meaning.NULL_ROUND),  # lotus <= 1.30, sometimes wrapped
    (REVERTED, r"", Meaning.REFUSED),  # the words of a revert are the contract's: nothing is read into them
    (_ANY, r"revert", Meaning.REFUSED),
    (12, r"", Meaning.UNAVAILABLE),  # dRPC: can't route your request
    (_ANY, r"requested a future epoch", Meaning.UNAVAILABLE),  # a load balancer's other node is behind
    (_ANY, r"not yet available|backfill", Meaning.UNAVAILABLE),  # lotus: not executed, or not indexed, yet
    # -- a range is too wide, or holds too much
    (_ANY, r"block range exceeds|range between .*blocks is too large|too far in the (past|future)", Meaning.TOO_MUCH),
    (_ANY, r"too many (events|results|logs|blocks)|more than \d+ (results|logs)", Meaning.TOO_MUCH),  # lotus, Infura
    (_ANY, r"block range (is )?(too (wide|large|big)|limit)|range (is )?too (large|wide)", Meaning.TOO_MUCH),  # Ankr
    (_ANY, r"exceed\w* (the )?max\w* (allowed )?(block )?range|max\w* block range|blocks distance", Meaning.TOO_MUCH),
    (_ANY, r"limited to (a )?\d[\d,]*k?( blocks?)? range|up to (a )?\d[\d,]*k? block range", Meaning.TOO_MUCH),
    (_ANY, r"response (size|is too|too)|exceeds? (max results|limit of \d+)|query timeout exceeded", Meaning.TOO_MUCH),
    (_ANY, r"maximum allowed number of requested blocks|exceeded max allowed range", Meaning.TOO_MUCH),
    # -- history that is gone
    (_ANY, r"lookbacks? of more than|pruned|missing trie node|state .*is not available|archive", Meaning.PRUNED),
    # -- too often
    (_ANY, r"server busy|connection limited|rate.?limit|too many requests|request count exceeded", Meaning.THROTTLED),
    (_ANY, r"(compute units|requests) per second|throughput|credits", Meaning.THROTTLED),  # Alchemy, QuickNode
    (429, r"", Meaning.THROTTLED),
    (-32005, r"", Meaning.TOO_MUCH),  # EIP-1474: a limit is exceeded; what is about requests is above
    (_ANY, r"try again|timed out|deadline exceeded", Meaning.UNAVAILABLE),
    (_ANY, r"header not found|unknown block|blockhash cannot be found|could not find", Meaning.UNAVAILABLE),
    (-32002, r"", Meaning.UNAVAILABLE),  # lotus: state of an upgrade's epoch; others: resource unavailable
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
    if meaning is Meaning.TOO_MUCH:
        return TooMuch(code, message, fields.get("data"), suggested_span(message))
    if meaning is Meaning.PRUNED:
        return HistoryPruned(code, message, fields.get("data"))
    if meaning is Meaning.REFUSED:
        return RpcRefused(code, message, fields.get("data"))
    text = f"{message} (code {code})"
    return RateLimited(text) if meaning is Meaning.THROTTLED else RpcUnavailable(text)


def http_error_of(status: int, body: Any, number: int | None = None) -> RpcError:
    """The exception for an HTTP status of 400 or more; `body` is its JSON, or None."""
    if status not in (408, 429) and isinstance(body, dict) and isinstance(body.get("error"), dict):
        return error_of(body["error"], number)
    text = f"the endpoint answered with HTTP status {status}"
    if status == 429:
        return RateLimited(text)
    if status == 408 or status >= 500:
        return RpcUnavailable(text)
    return TooMuch(status, text) if status == RESPONSE_TOO_LARGE else RpcRefused(status, text)


#: where an error text names a range that would do, or how many blocks a range may have
_NUMBER = r"(0x[0-9a-f]{1,15}|\d{1,15})"
_RANGE = re.compile(rf"\[\s*{_NUMBER}\s*,\s*{_NUMBER}\s*\]|\brange {_NUMBER}\s*-\s*{_NUMBER}", re.IGNORECASE)
_SPAN = re.compile(
    r"(?:max(?:imum)?(?: of| is| is set to|:)|max(?:imum)? block range:?|limited to(?: a)?|up to(?: a)?|distance:"
    r"|requested blocks is) \(?(\d[\d,]{0,11})(k?)\b",
    re.IGNORECASE,
)


def suggested_span(message: str) -> int | None:
    """How many blocks the endpoint's own words say that a range may have; None when they do not."""
    found = _RANGE.search(message)
    if found is not None:
        first, last = (int(text, 16 if text.startswith(("0x", "0X")) else 10) for text in found.groups() if text)
        return last - first + 1 if last >= first else None
    span = _SPAN.search(message)
    if span is None:
        return None
    blocks = int(span.group(1).replace(",", "")) * (1000 if span.group(2) else 1)
    return blocks or None


def retry_after_of(value: str | None, date: str | None) -> float | None:
    """Seconds of a Retry-After header (RFC 9110, 10.2.3); a time counts from the answer's own Date. None: no such."""
    if value is None:
        return None
    if re.fullmatch(r"\s*\d{1,9}\s*", value):
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - parsedate_to_datetime(date or "").timestamp())
    except (ValueError, TypeError, OverflowError, OSError):
        return None


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
