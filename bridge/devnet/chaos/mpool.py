"""Lotus's message pool as a sender meets it: nonces, replace-by-fee, messages that are kept and not sent on. Pure.

Source: lotus chain/messagepool/messagepool.go (add, verifyMsgBeforeAdd, ComputeMinRBF).
"""

from __future__ import annotations

import re
from base64 import b32encode
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b
from typing import Any

import rlp  # type: ignore[import-untyped]
from eth_keys.datatypes import Signature
from eth_keys.exceptions import BadSignature
from eth_utils.crypto import keccak
from eth_utils.exceptions import ValidationError as BadKey
from rlp.exceptions import DecodingError  # type: ignore[import-untyped]

from bridge.devnet.chaos.dialects import MAX_PENDING, MIN_FEE_CAP, Dialect, RpcFault

RBF_PERCENT = 110
MAX_ENTRIES = 10_000
_FEE_MARKET_FIELDS = 12
_LEGACY_FIELDS = 9


@dataclass(frozen=True)
class Tx:
    """A signed transaction. Amounts in attoFIL (wei) per gas."""

    raw: str
    hash: str
    sender: str
    nonce: int
    premium: int
    fee_cap: int
    fields: dict[str, Any]

    @property
    def key(self) -> tuple[str, int]:
        """What a replacement shares with it."""
        return self.sender, self.nonce


class Fate(Enum):
    """What becomes of a message."""

    FORWARDED = "handed to the node"
    STUCK = "kept until its premium rises"
    LOW_FEE = "kept until the base fee falls"
    DROPPED = "lost"


@dataclass
class Entry:
    """A message that was accepted."""

    tx: Tx
    fate: Fate


@dataclass(frozen=True)
class Offer:
    """The answer to an accepted message: whether the node gets it, and which one it replaces there."""

    forward: bool
    replaces: str | None = None


def decode(raw: object) -> Tx | None:
    """A raw transaction (0x-hex, type 2 or legacy); None for what cannot be read. RpcFault for EIP-2930."""
    if not isinstance(raw, str) or not re.fullmatch(r"0x([0-9a-fA-F]{2})+", raw):
        return None
    data = bytes.fromhex(raw[2:])
    if data[0] == 1:
        raise RpcFault(1, "EIP-2930 transaction is not supported")
    try:
        return _fee_market(raw, data) if data[0] == 2 else _legacy(raw, data)
    except (DecodingError, BadSignature, BadKey, ValueError, TypeError):
        return None


def _fee_market(raw: str, data: bytes) -> Tx | None:
    items: Any = rlp.decode(data[1:])
    if len(items) != _FEE_MARKET_FIELDS:
        return None
    numbers = [int.from_bytes(item) for item in (*items[:5], items[6], *items[9:])]
    chain_id, nonce, premium, fee_cap, gas, value, parity, r, s = numbers
    digest = keccak(b"\x02" + rlp.encode(items[:9]))
    shown = {
        "type": "0x2",
        "chainId": hex(chain_id),
        "maxPriorityFeePerGas": hex(premium),
        "maxFeePerGas": hex(fee_cap),
    }
    fields = _fields(nonce, gas, items[5], value, items[7], (parity, r, s)) | shown
    return _tx(raw, data, digest, (parity, r, s), premium, fee_cap, fields)


def _legacy(raw: str, data: bytes) -> Tx | None:
    items: Any = rlp.decode(data)
    if len(items) != _LEGACY_FIELDS:
        return None
    nonce, price, gas, value, v, r, s = (int.from_bytes(item) for item in (*items[:3], items[4], *items[6:]))
    unsigned = list(items[:6])
    if v >= 35:
        unsigned += [_minimal((v - 35) // 2), b"", b""]
    digest, parity = keccak(rlp.encode(unsigned)), (v + 1) % 2
    fields = _fields(nonce, gas, items[3], value, items[5], (v, r, s)) | {"type": "0x0", "gasPrice": hex(price)}
    return _tx(raw, data, digest, (parity, r, s), price, price, fields)


def _minimal(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8)


def _fields(
    nonce: int, gas: int, to: bytes, value: int, data: bytes, signature: tuple[int, int, int]
) -> dict[str, Any]:
    v, r, s = (hex(part) for part in signature)
    return {
        "nonce": hex(nonce), "gas": hex(gas), "to": "0x" + to.hex() if to else None, "value": hex(value),
        "input": "0x" + data.hex(), "v": v, "r": r, "s": s,
        "blockHash": None, "blockNumber": None, "transactionIndex": None,
    }  # fmt: skip


def _tx(
    raw: str, data: bytes, digest: bytes, vrs: tuple[int, int, int], premium: int, fee_cap: int, fields: dict[str, Any]
) -> Tx:
    sender = Signature(vrs=vrs).recover_public_key_from_msg_hash(digest).to_address()
    own_hash = "0x" + keccak(data).hex()
    shown = fields | {"hash": own_hash, "from": sender}
    return Tx(raw, own_hash, sender, int(fields["nonce"], 16), premium, fee_cap, shown)


def filecoin_address(address: str) -> str:
    """The f410 address of an Ethereum account."""
    actor = bytes.fromhex(address[2:])
    checksum = blake2b(b"\x04\x0a" + actor, digest_size=4).digest()
    return "f410f" + b32encode(actor + checksum).decode().lower().rstrip("=")


class Mpool:
    """Every message that was accepted and is not known to be mined. Not thread-safe."""

    def __init__(self, dialect: Dialect, max_pending: int = 0) -> None:
        self._dialect = dialect
        self._max_pending = max_pending or MAX_PENDING
        self._entries: OrderedDict[tuple[str, int], Entry] = OrderedDict()
        self._replaced: OrderedDict[str, str] = OrderedDict()

    def offer(self, tx: Tx, state_nonce: int, fate_of: Callable[[Tx], Fate]) -> Offer:
        """Take a message, or RpcFault. `state_nonce`: how many its sender has on-chain."""
        self._check_fees(tx)
        if tx.nonce < state_nonce:
            self.forget_mined(tx.sender, state_nonce)
            raise self._fault(f"minimum expected nonce is {state_nonce}, got {tx.nonce}: message nonce too low")
        held = self._entries.get(tx.key)
        if held is not None and held.fate is Fate.DROPPED:  # it is not in the pool; offered again, it lives
            self._put(tx, Fate.FORWARDED)
            return Offer(forward=True)
        if held is not None:
            return self._replace(tx, held)
        if self._waiting(tx.sender, state_nonce) >= self._max_pending:
            raise self._fault(f"too many pending messages for actor {filecoin_address(tx.sender)}")
        fate = fate_of(tx)
        self._put(tx, fate)
        return Offer(forward=fate is Fate.FORWARDED)

    def _check_fees(self, tx: Tx) -> None:
        if tx.fee_cap < tx.premium:
            raise self._fault("'GasFeeCap' less than 'GasPremium'")
        if tx.fee_cap < MIN_FEE_CAP:
            raise self._fault(f"gas fee cap too low: {tx.fee_cap} < {MIN_FEE_CAP}")

    def _replace(self, tx: Tx, held: Entry) -> Offer:
        who = f"message from {filecoin_address(tx.sender)} with nonce {tx.nonce} already in mpool"
        if tx.hash == held.tx.hash:
            raise self._fault(f"{who}: message with nonce already exists")
        least = held.tx.premium * RBF_PERCENT // 100 + 1
        if tx.premium < least:
            raise self._fault(
                f"{who}, increase GasPremium to {least} from {held.tx.premium} to trigger replace by fee: "
                "replace by fee has too low GasPremium"
            )
        self._put(tx, Fate.FORWARDED)
        self._replaced[held.tx.hash] = tx.hash
        while len(self._replaced) > MAX_ENTRIES:
            self._replaced.popitem(last=False)
        return Offer(forward=True, replaces=held.tx.hash if held.fate is Fate.FORWARDED else None)

    def _put(self, tx: Tx, fate: Fate) -> None:
        self._entries[tx.key] = Entry(tx, fate)
        while len(self._entries) > MAX_ENTRIES:
            self._entries.popitem(last=False)

    def _waiting(self, sender: str, state_nonce: int) -> int:
        return sum(key[0] == sender and key[1] >= state_nonce for key in self._entries)

    def _fault(self, text: str) -> RpcFault:
        return RpcFault(self._dialect.generic, f"mpool push: {text}")

    def refused(self, tx: Tx, *, low_fee: bool) -> None:
        """The node did not take what it was handed; a fee below the base fee is waited out."""
        if low_fee:
            self._put(tx, Fate.LOW_FEE)
        else:
            self._entries.pop(tx.key, None)

    def forget_mined(self, sender: str, state_nonce: int) -> None:
        """Everything below the account's nonce is done with."""
        for key in [key for key in self._entries if key[0] == sender and key[1] < state_nonce]:
            del self._entries[key]

    def with_fate(self, fate: Fate) -> list[Tx]:
        """The messages with this fate, in the order of their nonces."""
        found = [entry.tx for entry in self._entries.values() if entry.fate is fate]
        return sorted(found, key=lambda tx: tx.nonce)

    def forwarded(self, tx: Tx) -> None:
        """The node has taken a message that had waited."""
        self._put(tx, Fate.FORWARDED)

    def lose(self, hashes: set[str]) -> None:
        """Messages of blocks that died are gone for good, unless somebody offers them again."""
        for entry in self._entries.values():
            if entry.tx.hash in hashes:
                entry.fate = Fate.DROPPED

    def kept(self, tx_hash: str) -> Tx | None:
        """A message that is in the pool and not at the node."""
        kept = (Fate.STUCK, Fate.LOW_FEE)
        return next((e.tx for e in self._entries.values() if e.fate in kept and e.tx.hash == tx_hash), None)

    def replacement_of(self, tx_hash: str) -> str | None:
        """The newest replacement of a message; None when it was not replaced."""
        found = self._replaced.get(tx_hash)
        while found is not None and found in self._replaced:
            found = self._replaced[found]
        return found

    def next_nonce(self, sender: str, nonce: int) -> int:
        """The nonce after this one that no message in the pool has."""
        while True:
            entry = self._entries.get((sender.lower(), nonce))
            if entry is None or entry.fate is Fate.DROPPED:
                return nonce
            nonce += 1
