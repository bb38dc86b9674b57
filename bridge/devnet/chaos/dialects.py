"""What Filecoin's clients answer, word for word: one table. Pure.

Sources: lotus api/api_errors.go (ENullRound, code 12), chain/events/filter, node/impl/eth (tipsetresolver, events,
transaction), chain/messagepool/messagepool.go and gateway/; CHANGELOG 1.31.0 (#12655, #12529), 1.36.x (#13694,
#13664, #13617); forest src/rpc/methods/eth.rs and forest#7276. go-jsonrpc gives an error without a code of its own the
code 1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Any


class RpcFault(Exception):
    """A JSON-RPC error as it goes to the client."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data

    def fields(self) -> dict[str, Any]:
        """The `error` object."""
        fields = {"code": self.code, "message": self.message}
        return fields if self.data is None else {**fields, "data": self.data}


class NullAnswer(Enum):
    """What a block API says about an epoch without a block."""

    CODE_12 = "error with code 12 and the epoch as data"
    CODE_1 = "error with code 1"
    NOTHING = "null"
    PREVIOUS = "the block before"


@dataclass(frozen=True)
class Dialect:
    """One client's habits. `generic`: the code of an error that has no code of its own."""

    name: str
    null_answer: NullAnswer
    generic: int = 1
    future: str = "requested a future epoch (beyond 'latest')"
    earliest: str = 'block param "earliest" is not supported'
    strict_receipts: bool = False  # eth_getBlockReceipts refuses null epochs (lotus#13694)
    range_code: int = 1
    range_text: str = (
        "failed to get events for filter: failed to parse eth filter spec: invalid epoch range: "
        "range between to and from blocks is too large (maximum: {most})"
    )
    cap_spares_one_tipset: bool = False  # lotus#13617
    reverts_with_data: bool = True  # code 3 (since 1.31.0)
    bloom_is_full: bool = True  # before lotus#13618
    imitates: bool = True  # False: the node's own words


_RANGE_NOW = "block range exceeds maximum of {most} (got {got})"

DIALECTS = {
    dialect.name: dialect
    for dialect in (
        Dialect("node", NullAnswer.NOTHING, generic=-32000, future="header not found", imitates=False),
        Dialect("lotus-1.30", NullAnswer.CODE_1, reverts_with_data=False),
        Dialect("lotus-null", NullAnswer.NOTHING),  # between #12529 and #12655; also what other gateways make of it
        Dialect("lotus-1.31", NullAnswer.CODE_12),
        Dialect(
            "lotus-1.36",
            NullAnswer.CODE_12,
            strict_receipts=True,
            range_code=-32005,
            range_text=_RANGE_NOW,
            cap_spares_one_tipset=True,
            bloom_is_full=False,
        ),
        Dialect(
            "forest",
            NullAnswer.PREVIOUS,
            generic=-32603,
            future='requested a future epoch (beyond "latest")',
        ),
    )
}

MAX_RANGE = 2880  # epochs between the two ends of eth_getLogs (MaxFilterHeightRange)
MAX_LOGS = 10_000  # MaxFilterResults
MAX_PENDING = 1000  # messages of one sender; 100 for untrusted ones (gateway)
MIN_FEE_CAP = 100  # attoFIL per gas
MIN_PREMIUM = 100_000  # attoFIL per gas: the floor of eth_maxPriorityFeePerGas
RECEIPT_LOOKBACK = 20  # epochs: DefaultMaxMessageLookbackEpochs of lotus-gateway

#: which parameter names a block, of APIs that refuse a null epoch (lotus#13694); receipts: see `strict_receipts`
BLOCK_METHODS = {
    "eth_getBlockByNumber": 0,
    "eth_getBlockTransactionCountByNumber": 0,
    "eth_getTransactionByBlockNumberAndIndex": 0,
    "eth_getBlockReceipts": 0,
    "trace_block": 0,
}
#: the same of APIs that silently take the tipset before
STATE_METHODS = {
    "eth_getBalance": 1,
    "eth_getCode": 1,
    "eth_getStorageAt": 2,
    "eth_getTransactionCount": 1,
    "eth_call": 1,
    "eth_estimateGas": 1,
    "eth_feeHistory": 1,
}
HASH_METHODS = ("eth_getBlockByHash", "eth_getBlockTransactionCountByHash", "eth_getTransactionByBlockHashAndIndex")
#: lotus-gateway offers these over WebSocket only
STATEFUL_METHODS = {
    "eth_newFilter": "EthNewFilter",
    "eth_newBlockFilter": "EthNewBlockFilter",
    "eth_newPendingTransactionFilter": "EthNewPendingTransactionFilter",
    "eth_getFilterChanges": "EthGetFilterChanges",
    "eth_getFilterLogs": "EthGetFilterLogs",
    "eth_uninstallFilter": "EthUninstallFilter",
    "eth_subscribe": "EthSubscribe",
    "eth_unsubscribe": "EthUnsubscribe",
}


def null_round(dialect: Dialect, epoch: int) -> RpcFault | None:
    """The error for a null epoch; None where the dialect gives no error."""
    if dialect.null_answer is NullAnswer.CODE_12:
        return RpcFault(12, f"requested epoch was a null round ({epoch})", epoch)
    if dialect.null_answer is NullAnswer.CODE_1:
        return RpcFault(1, "failed to get tipset: requested epoch was a null round")
    return None


def future_epoch(dialect: Dialect) -> RpcFault:
    """A number above `latest`."""
    return RpcFault(dialect.generic, dialect.future)


def not_supported(dialect: Dialect, tag: str) -> RpcFault:
    """A tag that is none here."""
    if tag == "earliest":
        return RpcFault(dialect.generic, dialect.earliest)
    return RpcFault(dialect.generic, f"cannot parse block number: strconv.ParseUint: parsing {tag!r:.40}")


def no_filter_tag(dialect: Dialect, end: str) -> RpcFault:
    """eth_getLogs takes numbers, "latest" and "earliest" only."""
    return RpcFault(
        dialect.generic,
        f"failed to get events for filter: failed to parse eth filter spec: invalid epoch range: {end} is not a hex",
    )


def events_unavailable(dialect: Dialect) -> RpcFault:
    """Events of a tipset that is not executed yet."""
    return RpcFault(dialect.generic, "events for the requested block are not yet available")


def wrong_order(dialect: Dialect, first: int, last: int) -> RpcFault:
    """eth_getLogs with its ends exchanged."""
    return RpcFault(dialect.generic, f"invalid epoch range: to block ({last}) must be after from block ({first})")


def range_too_wide(dialect: Dialect, got: int, most: int) -> RpcFault:
    """eth_getLogs over more than `most` epochs."""
    return RpcFault(dialect.range_code, dialect.range_text.format(most=most, got=got))


def too_many_events(dialect: Dialect) -> RpcFault:
    """More results than MaxFilterResults."""
    return RpcFault(dialect.generic, "filter matches too many events, try a more restricted filter")


def lookback_too_long(dialect: Dialect) -> RpcFault:
    """Older than a gateway looks back."""
    return RpcFault(dialect.generic, "lookbacks of more than 24h0m0s are disallowed")


def unknown_tipset(dialect: Dialect) -> RpcFault:
    """A block hash that the node has not got."""
    return RpcFault(dialect.generic, "failed to get events for filter: ipld: could not find tipset")


def stateful_only(dialect: Dialect, method: str) -> RpcFault:
    """Filters and subscriptions over HTTP."""
    return RpcFault(
        dialect.generic,
        f"{STATEFUL_METHODS[method]} not supported: stateful methods are only available on websockets connections",
    )


def reverted(dialect: Dialect, data: str) -> RpcFault:
    """A call that reverted with these bytes."""
    if not dialect.reverts_with_data:
        return RpcFault(1, f"message execution failed: exit 33, revert reason: {data}, vm error: message failed")
    text = f"message execution failed (exit=[33], revert reason=[{data}], vm error=[message failed])"
    return RpcFault(3, text, data)


#: what anvil and Hardhat say when they refuse a transaction -> what Lotus says
SEND_TEXTS = (
    (r"already imported|known transaction|already known", "already in mpool: message with nonce already exists"),
    (r"nonce too low|nonce.*has already been used", "message nonce too low"),
    (r"insufficient funds|enough funds|insufficient balance", "not enough funds to execute transaction"),
    (
        r"exceeds block gas limit|exceeds transaction gas cap|intrinsic gas too high",
        "'GasLimit' field cannot be greater than a block's gas limit",
    ),
    (r"intrinsic gas|gas floor", "'GasLimit' field cannot be less than the cost of storing a message on chain"),
    (r"invalid signature|invalid sender|failed to recover", "signature verification failed"),
    (r"oversized|code size|initcode", "message too big"),
)
LOW_FEE = re.compile(r"max fee per gas less than block base fee|less than .*base ?fee", re.IGNORECASE)
UNDERPRICED = re.compile(r"underpriced", re.IGNORECASE)
_SEND_TEXTS = tuple((re.compile(text, re.IGNORECASE), lotus) for text, lotus in SEND_TEXTS)


def translated(dialect: Dialect, error: dict[str, Any], *, sending: bool) -> dict[str, Any]:
    """A local node's error object in the words of the dialect; the node's own where there is no equivalent."""
    if not dialect.imitates:
        return error
    message = str(error.get("message", ""))
    if sending:
        for pattern, lotus in _SEND_TEXTS:
            if pattern.search(message):
                return RpcFault(dialect.generic, f"mpool push: {lotus}").fields()
        return error
    data = error.get("data")
    if isinstance(data, dict):
        data = data.get("data")
    if error.get("code") == 3 or "revert" in message.lower():
        return reverted(dialect, data if isinstance(data, str) else "0x").fields()
    return error
