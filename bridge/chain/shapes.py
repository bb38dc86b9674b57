"""What an endpoint answers, checked: every JSON value is taken for hostile until it has the shape it should have. Pure.

Anything malformed is `RpcUnavailable`: this endpoint cannot be used now, another call may go better.
"""

from __future__ import annotations

import re
from binascii import unhexlify
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from bridge.errors import RpcUnavailable
from executor.protocol.abiwords import checksummed

MAX_NUMBER = 2**63 - 1  # block numbers, times: what the database stores
MAX_AMOUNT = 2**256 - 1
MAX_NONCE = 2**48  # no account sends so many transactions
MAX_DATA_BYTES = 4 * 2**20  # of one log, one return value
_WORD = 66  # characters of 32 bytes in hex
_QUANTITY = re.compile(r"0x[0-9a-fA-F]{1,64}")


@dataclass(frozen=True)
class Block:
    """A block header (on Filecoin: a tipset, an epoch). `timestamp` is in seconds since 1970, hashes are 32 bytes."""

    number: int
    hash: bytes
    parent_hash: bytes
    timestamp: int


class Log(NamedTuple):
    """One event of a contract. There is no log index here: it is not stable on FEVM."""

    address: str
    topics: tuple[bytes, ...]
    data: bytes
    block_number: int
    block_hash: bytes
    tx_hash: bytes


@dataclass(frozen=True)
class TxReceipt:
    """What became of a transaction. Its logs are left out on purpose: an early receipt may lack them (lotus#13758)."""

    tx_hash: bytes
    block_number: int
    block_hash: bytes
    ok: bool
    gas_used: int
    contract_address: str | None


def malformed(field: str, value: object) -> RpcUnavailable:
    """The error for an answer that is not as its protocol says."""
    return RpcUnavailable(f"the endpoint's answer is malformed: {field} is {value!r:.80}")


def fields_of(value: object, field: str) -> dict[str, Any]:
    """`value` as a JSON object."""
    if not isinstance(value, dict):
        raise malformed(field, value)
    return value


def quantity(value: object, field: str, limit: int = MAX_NUMBER) -> int:
    """A hex number from 0 to `limit`."""
    if not isinstance(value, str) or not _QUANTITY.fullmatch(value):
        raise malformed(field, value)
    number = int(value, 16)
    if number > limit:
        raise malformed(field, value)
    return number


def data_of(value: object, field: str, size: int | None = None) -> bytes:
    """Hex bytes; exactly `size` of them where given."""
    if not isinstance(value, str) or len(value) > 2 + 2 * MAX_DATA_BYTES or value[:2] != "0x":
        raise malformed(field, value)
    try:
        data = unhexlify(value[2:])  # bytes.fromhex would pass over spaces
    except ValueError as exc:
        raise malformed(field, value) from exc
    if size is not None and size != len(data):
        raise malformed(field, value)
    return data


def address_of(value: object, field: str) -> str:
    """A checksummed address."""
    return checksummed(data_of(value, field, 20))


def block_of(value: object) -> Block:
    """A header as eth_getBlockBy* gives it."""
    fields = fields_of(value, "block")
    return Block(
        number=quantity(fields.get("number"), "block.number"),
        hash=data_of(fields.get("hash"), "block.hash", 32),
        parent_hash=data_of(fields.get("parentHash"), "block.parentHash", 32),
        timestamp=quantity(fields.get("timestamp"), "block.timestamp"),
    )


def logs_of(values: Iterable[object]) -> list[Log]:
    """Logs as eth_getLogs gives them, without those that are marked as removed."""
    logs: list[Log] = []
    before: list[object] = []
    place: tuple[str, int, bytes, bytes] | None = None
    for value in values:
        fields = fields_of(value, "log")
        get = fields.get
        if get("removed") is True:
            continue
        topics = get("topics")
        if not isinstance(topics, list) or len(topics) > 4:
            raise malformed("log.topics", topics)
        said = [get("address"), get("blockNumber"), get("blockHash"), get("transactionHash")]
        if place is None or said != before:  # the logs of a transaction say the same of it again and again
            place, before = _place_of(said), said
        address, number, block_hash, tx_hash = place
        logs.append(_log((address, _words(topics), data_of(get("data"), "log.data"), number, block_hash, tx_hash)))
    return logs


_log = partial(tuple.__new__, Log)  # a third of the time that `Log` takes


def _words(topics: Sequence[Any]) -> tuple[bytes, ...]:
    """As `data_of` reads each, but for calling it."""
    try:
        return tuple([unhexlify(t[2:]) if len(t) == _WORD and t[:2] == "0x" else _no_word(t) for t in topics])
    except (TypeError, ValueError) as exc:
        raise malformed("log.topics", topics) from exc


def _no_word(topic: object) -> bytes:
    raise malformed("log.topics", topic)


def _place_of(said: Sequence[object]) -> tuple[str, int, bytes, bytes]:
    address, number, block_hash, tx_hash = said
    return (
        address_of(address, "log.address"),
        quantity(number, "log.blockNumber"),
        data_of(block_hash, "log.blockHash", 32),
        data_of(tx_hash, "log.transactionHash", 32),
    )


def receipt_of(value: object) -> TxReceipt:
    """A transaction receipt."""
    fields = fields_of(value, "receipt")
    created = fields.get("contractAddress")
    return TxReceipt(
        tx_hash=data_of(fields.get("transactionHash"), "receipt.transactionHash", 32),
        block_number=quantity(fields.get("blockNumber"), "receipt.blockNumber"),
        block_hash=data_of(fields.get("blockHash"), "receipt.blockHash", 32),
        ok=quantity(fields.get("status"), "receipt.status", 1) == 1,
        gas_used=quantity(fields.get("gasUsed"), "receipt.gasUsed"),
        contract_address=None if created is None else address_of(created, "receipt.contractAddress"),
    )
