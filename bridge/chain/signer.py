"""A funded key that signs transactions (EIP-1559, type 2). Its secret is never printed, logged or stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from executor.protocol.signing import Key


@dataclass(frozen=True, kw_only=True)
class Transaction:
    """An unsigned transaction. `to` None creates a contract; amounts in wei; access lists are always empty (FEVM)."""

    chain_id: int
    nonce: int
    to: str | None
    data: bytes
    gas: int
    max_fee: int
    tip: int
    value: int = 0


@dataclass(frozen=True)
class SignedTransaction:
    """The bytes that go on the wire, and their keccak256."""

    raw: bytes
    hash: bytes


class TxSigner(Key):
    """A `Key` that also signs transactions: `TxSigner.load("env:NAME")`, `TxSigner.load("keystore:PATH")`."""

    def sign_transaction(self, transaction: Transaction) -> SignedTransaction:
        """Sign. Deterministic (RFC 6979): the same transaction gives the same bytes and hash."""
        fields: dict[str, Any] = {
            "type": 2,
            "chainId": transaction.chain_id,
            "nonce": transaction.nonce,
            "data": transaction.data,
            "gas": transaction.gas,
            "maxFeePerGas": transaction.max_fee,
            "maxPriorityFeePerGas": transaction.tip,
            "value": transaction.value,
        }
        if transaction.to is not None:
            fields["to"] = transaction.to
        signed = self._account.sign_transaction(fields)
        return SignedTransaction(bytes(signed.raw_transaction), bytes(signed.hash))
