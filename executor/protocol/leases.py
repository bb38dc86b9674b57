"""The messages between a node and a bridge, as JSON over HTTP. Both sides validate with these very models.

Paths (docs/spec.md, "Node API"); every call is signed (`executor.protocol.nodeauth`):

    POST /v1/leases                          Advert       -> 200 Lease | 204 nothing to do
    POST /v1/leases/{lease_id}/heartbeat     Heartbeat    -> 200 HeartbeatAnswer
    POST /v1/leases/{lease_id}/return        LeaseReturn  -> 204
    GET  /v1/leases/{lease_id}/car/{cid}     -> 200 CAR of the DAG below an input's CID (or any block below it)
    GET  /v1/leases/{lease_id}/missing?root=CID&token=N   -> 200 Missing
    PUT  /v1/leases/{lease_id}/content?root=CID&token=N   CAR, at most MAX_CAR_BYTES -> 200 Missing
    POST /v1/leases/{lease_id}/attestation   Attested     -> 204
    GET  /v1/content/missing?root=CID        -> 200 Missing                          (a requester's account signs)
    PUT  /v1/content?root=CID&public=0|1     CAR, at most MAX_CAR_BYTES -> 200 Missing      (likewise)
    DELETE /v1/content?root=CID              -> 200 Withdrawn                               (likewise)

Bytes are 0x-hex, amounts decimal strings (they pass 2**53), times seconds since 1970.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    ValidationError,
)

from executor.errors import InvalidInput
from executor.protocol.canonical import DepthError, DuplicateKeyError, strict_json
from executor.protocol.wire import ZERO_ADDRESS, Attestation, Order, Outcome, Request, checksum_address

MAX_CAR_BYTES = 64 * 2**20  # one upload; a larger DAG goes in several
MAX_JSON_BYTES = 512 * 2**10  # any JSON body
MAX_MISSING = 256  # CIDs named in one answer
MAX_RECEIPT_BYTES = 192 * 2**10  # its hex must fit into MAX_JSON_BYTES
MAX_WAIT_SECONDS = 25


def _bytes_in(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str) or not value.startswith("0x"):
        raise ValueError("must be 0x and hexadecimal digits")
    try:
        return bytes.fromhex(value[2:])
    except ValueError as exc:
        raise ValueError("must be 0x and hexadecimal digits") from exc


def _amount_in(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 78:
        return int(value)
    raise ValueError("must be a decimal number in a string")


def _address_in(value: Any) -> str:
    try:
        return checksum_address(value, "address")
    except InvalidInput as exc:
        raise ValueError(str(exc)) from exc


HexBytes = Annotated[bytes, BeforeValidator(_bytes_in), PlainSerializer(lambda b: "0x" + b.hex(), when_used="json")]
Hash = Annotated[HexBytes, Field(min_length=32, max_length=32)]
Signature = Annotated[HexBytes, Field(min_length=65, max_length=65)]
LogProof = Annotated[tuple[Hash, ...], Field(max_length=63)]  # siblings from the leaf up
Amount = Annotated[int, BeforeValidator(_amount_in), PlainSerializer(str, when_used="json"), Field(ge=0, lt=2**256)]
Address = Annotated[str, BeforeValidator(_address_in)]
ShortText = Annotated[str, StringConstraints(max_length=1000)]
LabelWord = Annotated[str, StringConstraints(max_length=128)]


class Message(BaseModel):
    """A strict, frozen message: unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Capacity(Message):
    """What is free on a node now."""

    slots: int = Field(ge=0, le=4096)
    cpu_millis: int = Field(ge=0, le=2**31)
    memory_bytes: int = Field(ge=0, le=2**53)
    disk_bytes: int = Field(ge=0, le=2**53)


class TokenPrice(Message):
    """What a node asks for in a token, in that token's own smallest unit."""

    min_unit_price: Amount
    min_fail_price: Amount = 0


def _named_once(value: Any) -> Any:
    """Two spellings of one address would be one key, and one of the prices would be lost."""
    if isinstance(value, dict):
        tokens = [_address_in(token) for token in value]
        if len(set(tokens)) != len(tokens):
            raise ValueError("a token is named twice")
        if ZERO_ADDRESS in tokens:
            raise ValueError("the zero address stands for the chain's own token, whose prices are not set here")
    return value


T = TypeVar("T")
#: token's address -> what is asked for in it
ByToken = Annotated[dict[Address, T], BeforeValidator(_named_once), Field(max_length=16)]


class Advert(Message):
    """A node asks for work: what it is and what it has room for."""

    labels: tuple[LabelWord, ...] = Field(max_length=64)
    tiers: tuple[LabelWord, ...] = Field(max_length=8)
    free: Capacity
    total: Capacity
    min_unit_price: Amount = 0
    min_fail_price: Amount = 0
    tokens: ByToken[TokenPrice] = {}
    wait_seconds: float = Field(ge=0, le=MAX_WAIT_SECONDS)


class RequestMessage(Message):
    """A request in full; the node recomputes its hash."""

    chain_id: int = Field(ge=1, lt=2**63)
    contract: Address
    id: int = Field(ge=1, lt=2**63)
    requester: Address
    deadline: int = Field(ge=0, lt=2**63)
    order: HexBytes = Field(max_length=64 * 1024)

    @classmethod
    def of(cls, request: Request) -> Self:
        """The message of a request."""
        return cls(
            chain_id=request.chain_id,
            contract=request.contract,
            id=request.id,
            requester=request.requester,
            deadline=request.deadline,
            order=request.order.encode(),
        )

    def request(self) -> Request:
        """The request of this message. InvalidInput("order") if its order does not decode."""
        return Request(
            chain_id=self.chain_id,
            contract=self.contract,
            id=self.id,
            requester=self.requester,
            deadline=self.deadline,
            order=Order.decode(self.order),
        )


class Lease(Message):
    """A node's exclusive, expiring right to one attempt at one slot. `token` is the fencing token."""

    lease_id: ShortText
    token: int = Field(ge=1, lt=2**63)
    request_hash: Hash
    slot: int = Field(ge=1, le=16)
    attempt: int = Field(ge=1)
    request: RequestMessage
    relayer: Address
    heartbeat_seconds: float = Field(gt=0, le=3600)
    expires_in_seconds: float = Field(gt=0, le=3600)


class Phase(StrEnum):
    """What a node is doing with a lease."""

    RUNNING = "running"
    HELD = "held"  # in quarantine, waiting for release


class Heartbeat(Message):
    """A node renews its lease."""

    token: int = Field(ge=1, lt=2**63)
    phase: Phase


class HeartbeatAnswer(Message):
    """Whether to go on; `reason` says why not."""

    go_on: bool
    reason: ShortText = ""
    expires_in_seconds: float = 0


class LeaseReturn(Message):
    """A node gives a lease back for a reason that is its own: a code from 400 to 499."""

    token: int = Field(ge=1, lt=2**63)
    reason: int = Field(ge=400, lt=500)
    detail: ShortText = ""


class Missing(Message):
    """Which blocks below a root are not there yet; at most MAX_MISSING of them. None: complete."""

    missing: tuple[ShortText, ...]


class Withdrawn(Message):
    """An upload that its account took back. freed_bytes: what that gave back of its quota; 0 where nothing counted."""

    freed_bytes: int = Field(ge=0)


class Attested(Message):
    """A node's signed outcome, with its receipt's exact bytes.

    dsse_signature: of the receipt's DSSE envelope (`executor.protocol.dsse`). log_proof: that the receipt is the last
    entry of the log of `log_root` and `log_size`. None of a record from before there were such.
    """

    token: int = Field(ge=1, lt=2**63)
    outcome: HexBytes = Field(max_length=32 * 1024)
    receipt: HexBytes = Field(max_length=MAX_RECEIPT_BYTES)
    log_root: Hash
    log_size: int = Field(ge=1, lt=2**63)
    relayer: Address
    signature: Signature
    dsse_signature: Signature | None = None
    log_proof: LogProof | None = None

    def decoded(self) -> Outcome:
        """The outcome. InvalidInput("outcome")."""
        return Outcome.decode(self.outcome)

    def attestation(self, receipt_hash: bytes) -> Attestation:
        """The attestation as `fulfil` takes it, given the hash of `receipt`."""
        return Attestation(
            receipt_hash=receipt_hash,
            log_root=self.log_root,
            log_size=self.log_size,
            relayer=self.relayer,
            signature=self.signature,
        )


M = TypeVar("M", bound=BaseModel)


def parse_body(kind: type[M], body: bytes) -> M:
    """The message in the JSON body of a call. InvalidInput with the path of the field."""
    try:
        value = strict_json(body.decode())
    except DuplicateKeyError as exc:
        raise InvalidInput(f"{exc.key:.80}", "stands twice in one object") from exc
    except DepthError as exc:
        raise InvalidInput("body", f"is {exc}") from exc
    except (ValueError, RecursionError) as exc:
        raise InvalidInput("body", f"is not JSON in UTF-8: {exc!s:.120}") from exc
    try:
        return kind.model_validate(value)
    except ValidationError as exc:
        first = exc.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InvalidInput(f"{field:.120}" or "body", first["msg"]) from exc
