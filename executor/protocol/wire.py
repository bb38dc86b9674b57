"""Order, Outcome and Attestation as they stand on the wire, and the hashes over them.

The shapes are those of `contracts/interfaces/IComputeBridge.sol`; `tests/vectors/wire.json`, made by Solidity and
ethers, keeps the two equal. Pure: no I/O, no clock, no keys (signatures: `executor.protocol.signing`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Self

from eth_utils.address import is_address, to_checksum_address

from executor.errors import InvalidInput
from executor.protocol import abiwords
from executor.protocol.abiwords import NotEncoded, Reader
from executor.protocol.keccak import keccak

MAX_SPEC_BYTES = 16 * 1024  # bytes of `spec` in an order
MAX_PAYLOAD_BYTES = 8 * 1024  # bytes of an outcome's payload
MAX_LABELS = 8
MAX_NODES = 16
ZERO_ADDRESS = "0x" + "00" * 20
ZERO_HASH = bytes(32)

ORDER_TYPE = (
    "(uint8,uint8,bool,bytes,uint8,uint8,uint8,uint32,address,uint64,address,bytes32[],address,uint128,uint128,uint128)"
)
OUTCOME_TYPE = "(uint8,uint16,int32,bytes,bytes)"
ATTESTATION_TYPE = "(bytes32,bytes32,uint64,address,bytes)"


class Dialect(IntEnum):
    """How the bytes of a spec are read."""

    INSULA_V1 = 1
    BACALHAU_V1BETA = 2
    BACALHAU_1X = 3
    LILYPAD_MODULE = 4


class ResultKind(IntEnum):
    """What the dApp wants on-chain; the numbers are Lilypad v0's."""

    CID = 0
    STDOUT = 1
    STDERR = 2
    EXIT_CODE = 3


class Status(IntEnum):
    """An outcome's status."""

    SUCCEEDED = 1
    FAILED = 2
    REFUSED = 3
    WITHHELD = 4


class OnChainState(IntEnum):
    """`IComputeBridge.State`."""

    UNKNOWN = 0
    REQUESTED = 1
    FULFILLED = 2
    FAILED = 3
    REFUSED = 4
    WITHHELD = 5
    CANCELLED = 6
    EXPIRED = 7


def checksum_address(value: object, field: str) -> str:
    """`value` as a checksummed address; InvalidInput that names `field` if it is none."""
    if not isinstance(value, str) or not is_address(value):
        raise InvalidInput(field, f"{value!r:.80} is not an address; give 0x and 40 hexadecimal digits")
    return to_checksum_address(value)


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a requester orders: 4a of the design. Amounts are in the token's smallest unit, `ttl` in seconds."""

    version: int = 1
    dialect: int = int(Dialect.INSULA_V1)
    spec_is_cid: bool = False
    spec: bytes
    result_kind: int = int(ResultKind.CID)
    nodes: int = 1
    quorum: int = 1
    ttl: int
    callback: str = ZERO_ADDRESS
    callback_gas: int = 0
    curator: str = ZERO_ADDRESS
    labels: tuple[bytes, ...] = ()
    token: str = ZERO_ADDRESS
    unit_price: int = 0
    fail_price: int = 0
    delivery_fee: int = 0

    @property
    def price(self) -> int:
        """What the requester pays: nodes * unitPrice + deliveryFee."""
        return self.nodes * self.unit_price + self.delivery_fee

    def as_tuple(self) -> tuple[Any, ...]:
        """The fields in ABI order."""
        return (
            self.version,
            self.dialect,
            self.spec_is_cid,
            self.spec,
            self.result_kind,
            self.nodes,
            self.quorum,
            self.ttl,
            self.callback,
            self.callback_gas,
            self.curator,
            self.labels,
            self.token,
            self.unit_price,
            self.fail_price,
            self.delivery_fee,
        )

    @classmethod
    def from_tuple(cls, fields: tuple[Any, ...]) -> Self:
        """The order of 16 decoded ABI values."""
        return cls(
            version=fields[0],
            dialect=fields[1],
            spec_is_cid=fields[2],
            spec=fields[3],
            result_kind=fields[4],
            nodes=fields[5],
            quorum=fields[6],
            ttl=fields[7],
            callback=to_checksum_address(fields[8]),
            callback_gas=fields[9],
            curator=to_checksum_address(fields[10]),
            labels=tuple(fields[11]),
            token=to_checksum_address(fields[12]),
            unit_price=fields[13],
            fail_price=fields[14],
            delivery_fee=fields[15],
        )

    def encode(self) -> bytes:
        """`abi.encode(order)`. InvalidInput("order") for values that do not fit their ABI type."""
        try:
            return abiwords.struct(
                (
                    abiwords.uint(self.version, 8),
                    abiwords.uint(self.dialect, 8),
                    abiwords.boolean(self.spec_is_cid),
                    None,
                    abiwords.uint(self.result_kind, 8),
                    abiwords.uint(self.nodes, 8),
                    abiwords.uint(self.quorum, 8),
                    abiwords.uint(self.ttl, 32),
                    abiwords.address(self.callback),
                    abiwords.uint(self.callback_gas, 64),
                    abiwords.address(self.curator),
                    None,
                    abiwords.address(self.token),
                    abiwords.uint(self.unit_price, 128),
                    abiwords.uint(self.fail_price, 128),
                    abiwords.uint(self.delivery_fee, 128),
                ),
                (abiwords.blob(self.spec), abiwords.words(self.labels)),
            )
        except NotEncoded as exc:
            raise InvalidInput("order", f"a value does not fit its ABI type: {exc}") from exc

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The inverse of `encode`. InvalidInput("order") for bytes that are no order."""
        try:
            return cls.read(Reader(data, 0).inner(0))
        except NotEncoded as exc:
            raise InvalidInput("order", "the bytes are not an ABI-encoded order") from exc

    @classmethod
    def read(cls, fields: Reader) -> Self:
        """The order at a place in ABI-encoded bytes. NotEncoded."""
        return cls(
            version=fields.uint(0, 8),
            dialect=fields.uint(1, 8),
            spec_is_cid=fields.boolean(2),
            spec=fields.blob(3),
            result_kind=fields.uint(4, 8),
            nodes=fields.uint(5, 8),
            quorum=fields.uint(6, 8),
            ttl=fields.uint(7, 32),
            callback=fields.address(8),
            callback_gas=fields.uint(9, 64),
            curator=fields.address(10),
            labels=fields.words(11),
            token=fields.address(12),
            unit_price=fields.uint(13, 128),
            fail_price=fields.uint(14, 128),
            delivery_fee=fields.uint(15, 128),
        )


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a quorum agrees on, byte for byte."""

    status: int
    reason: int = 0
    exit_code: int = 0
    output_cid: bytes = b""
    payload: bytes = b""

    def as_tuple(self) -> tuple[Any, ...]:
        """The fields in ABI order."""
        return (self.status, self.reason, self.exit_code, self.output_cid, self.payload)

    @classmethod
    def from_tuple(cls, fields: tuple[Any, ...]) -> Self:
        """The outcome of 5 decoded ABI values."""
        return cls(status=fields[0], reason=fields[1], exit_code=fields[2], output_cid=fields[3], payload=fields[4])

    def encode(self) -> bytes:
        """`abi.encode(outcome)`. InvalidInput("outcome") for values that do not fit their ABI type."""
        try:
            return abiwords.struct(
                (
                    abiwords.uint(self.status, 8),
                    abiwords.uint(self.reason, 16),
                    abiwords.sint(self.exit_code, 32),
                    None,
                    None,
                ),
                (abiwords.blob(self.output_cid), abiwords.blob(self.payload)),
            )
        except NotEncoded as exc:
            raise InvalidInput("outcome", f"a value does not fit its ABI type: {exc}") from exc

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The inverse of `encode`. InvalidInput("outcome") for bytes that are no outcome."""
        try:
            return cls.read(Reader(data, 0).inner(0))
        except NotEncoded as exc:
            raise InvalidInput("outcome", "the bytes are not an ABI-encoded outcome") from exc

    @classmethod
    def read(cls, fields: Reader) -> Self:
        """The outcome at a place in ABI-encoded bytes. NotEncoded."""
        return cls(
            status=fields.uint(0, 8),
            reason=fields.uint(1, 16),
            exit_code=fields.sint(2, 32),
            output_cid=fields.blob(3),
            payload=fields.blob(4),
        )

    @property
    def hash(self) -> bytes:
        """`outcomeHash`: keccak256(abi.encode(outcome)), 32 bytes."""
        return keccak(self.encode())


@dataclass(frozen=True, kw_only=True)
class Attestation:
    """One node's word for an outcome, as `fulfil` takes it. `signature` is 65 bytes r || s || v."""

    receipt_hash: bytes
    log_root: bytes
    log_size: int
    relayer: str
    signature: bytes = b""

    def as_tuple(self) -> tuple[Any, ...]:
        """The fields in ABI order."""
        return (self.receipt_hash, self.log_root, self.log_size, self.relayer, self.signature)


@dataclass(frozen=True, kw_only=True)
class Request:
    """An order as the chain took it: `id` and `requester` are the contract's word."""

    chain_id: int
    contract: str
    id: int
    requester: str
    order: Order
    deadline: int

    @property
    def hash(self) -> bytes:
        """`requestHash`, 32 bytes: recomputed, never taken from anyone's word."""
        return request_hash(self.chain_id, self.contract, self.id, self.requester, self.order)


def request_hash(chain_id: int, contract: str, request_id: int, requester: str, order: Order) -> bytes:
    """keccak256(abi.encode(chainid, this, id, requester, keccak256(abi.encode(order)))), 32 bytes."""
    order_hash = keccak(order.encode())
    try:
        head = (abiwords.uint(chain_id, 256), abiwords.address(contract), abiwords.uint(request_id, 256))
        return keccak(b"".join((*head, abiwords.address(requester), order_hash)))
    except NotEncoded as exc:
        raise InvalidInput("request", f"a value does not fit its ABI type: {exc}") from exc


def result_digest(request: bytes, outcome: bytes) -> bytes:
    """What `resultOf(id)` gives once settled: keccak256(abi.encode(requestHash, outcomeHash))."""
    return keccak(request + outcome)


def label_hash(word: str) -> bytes:
    """keccak256("key=value"), 32 bytes."""
    return keccak(word.encode())
