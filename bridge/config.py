"""The bridge's configuration: one TOML file, every field typed, unknown keys refused.

Depths have no default on purpose: what is deep enough depends on the chain (docs/architecture.md, "Depths").
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from executor.content.kuboaddress import rpc_address, swarm_address
from executor.content.quota import DEFAULT_MIN_FREE_BYTES, StoreLimits
from executor.errors import InvalidInput
from executor.protocol.leases import Address, Amount, ByToken


def _path(value: object) -> object:
    if not isinstance(value, str):
        return value
    if "\0" in value:
        raise ValueError("a path has no NUL in it")
    try:
        return Path(value).expanduser()
    except RuntimeError as exc:
        raise ValueError("there is no user of this name, whose home folder ~ would be") from exc


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _listed(value: object) -> object:
    """One address may stand for a list of one, an empty one for none."""
    if isinstance(value, str):
        return (value,) if value else ()
    return value


Addresses = Annotated[tuple[str, ...], BeforeValidator(_listed), Field(max_length=8)]
FilePath = Annotated[Path, BeforeValidator(_path)]
Seconds = Annotated[float, Field(le=10 * 365 * 86400)]  # what every timer and socket takes
Count = Annotated[int, Field(lt=2**63)]  # what the database holds


class Section(BaseModel):
    """A frozen part of the configuration; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ChainConfig(Section):
    """Which chain, which contract, and how deep is deep enough (in blocks)."""

    rpc_urls: Annotated[tuple[str, ...], Field(min_length=1, max_length=8)]
    chain_id: Count = Field(ge=1)
    bridge_contract: Address
    deploy_block: Count = Field(ge=0)  # where the contract was deployed; nothing older is read
    confirmation_depth: Count = Field(ge=0)  # a request this deep may run
    posting_depth: Count = Field(ge=0)  # a request this deep may be answered on-chain
    finality_depth: Count = Field(ge=1)  # a block this deep never leaves the chain; if one does, the bridge halts
    poll_seconds: Seconds = Field(default=10.0, gt=0)
    rpc_timeout_seconds: Seconds = Field(default=20.0, gt=0)
    finality_tag: Literal["", "safe", "finalized"] = ""  # what the endpoint calls so is final before finality_depth
    confirmation_tag: Literal["", "safe", "finalized"] = ""  # a request also waits for this tag before it runs
    optimistic: bool = False  # run at once, at depth 0; only the posting waits for its depth
    stale_head_seconds: Seconds = Field(default=240.0, gt=0)  # a newest block older than this raises an alarm

    @field_validator("rpc_urls")
    @classmethod
    def _reachable(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for place, url in enumerate(urls):  # what is wrong is told without the URL, which may hold a key
            if not _is_http(url):
                raise ValueError(f"entry {place + 1} must be http://host... or https://host...")
        if len(set(urls)) != len(urls):
            raise ValueError("an endpoint is named twice")
        return urls

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.optimistic and self.confirmation_tag:
            raise ValueError("optimistic and confirmation_tag exclude each other")
        if not self.confirmation_depth <= self.posting_depth <= self.finality_depth:
            raise ValueError("must hold: confirmation_depth <= posting_depth <= finality_depth")
        return self


class RelayerConfig(Section):
    """Who pays for deliveries, and how much at most."""

    key: str  # env:NAME, file:PATH or keystore:PATH
    max_fee_per_gas_wei: Amount = 10**12
    max_subsidy_wei: Amount = 10**16  # what a delivery may cost beyond its delivery fee
    max_spend_per_day_wei: Amount = 10**18  # in any 24 hours; at the cap nothing new is signed
    low_balance_deliveries: Count = Field(default=20, ge=0)  # an alarm when the balance pays for fewer
    max_batch: int = Field(default=20, ge=1, le=64)  # deliveries in one transaction; 1 turns batches off
    max_batch_gas: Count = Field(default=2_000_000_000, ge=1)
    max_in_flight: int = Field(default=4, ge=1, le=100)
    bump_after_seconds: Seconds = Field(default=180.0, gt=0)  # resend with higher fees when not mined by then
    resend_after_seconds: Seconds = Field(default=60.0, gt=0)  # send the same bytes again
    expire_requests: bool = False  # also send the refund of requests that nobody fulfilled


class TokenFloor(Section):
    """Minimum prices in a token, in that token's own smallest unit."""

    min_unit_price: Amount
    min_delivery_fee: Amount


class DispatchConfig(Section):
    """Leases and shares."""

    lease_seconds: Seconds = Field(default=60.0, gt=0)  # a lease without a heartbeat for this long is given elsewhere
    heartbeat_seconds: Seconds = Field(default=15.0, gt=0)
    delivery_margin_seconds: Seconds = Field(default=120.0, ge=0)  # kept free before the deadline for the delivery
    max_attempts: Count = Field(default=5, ge=1)  # per slot
    max_running_per_requester: Count = Field(default=16, ge=1)
    fetch_allowance_seconds: Seconds = Field(default=900.0, ge=0)  # a lease lives so long, its job's wall limit and
    upload_margin_seconds: Seconds = Field(default=900.0, ge=0)  # so long, whatever its heartbeats say
    held_seconds: Seconds = Field(default=3600.0, gt=0)  # a held lease may live, and be silent, so much longer
    max_leases_per_node: Count = Field(default=64, ge=1)  # at once, whatever the node says it has room for
    max_callback_gas: Count = Field(default=100_000_000, ge=0)  # orders that ask for more are not started
    agreement_grace_seconds: Seconds = Field(default=10.0, ge=0)  # once a quorum agrees, wait this long for the others
    min_unit_price: Amount = 0
    min_delivery_fee: Amount = 0
    tokens: ByToken[TokenFloor] = {}  # in which tokens an order may pay, beside the chain's own


class ContentConfig(Section):
    """What the bridge stores for others."""

    max_output_bytes: Count = Field(default=256 * 2**20, ge=0)  # per lease, whatever the job's own limits
    retention_seconds: Seconds = Field(default=30 * 86400.0, gt=0)  # public results and uploads are kept this long
    upload_quota_bytes: Count = Field(default=0, ge=0)  # per account below; 0: nobody may upload
    upload_accounts: tuple[Address, ...] = ()
    store_max_bytes: Count = Field(default=0, ge=0)  # of all blocks; 0: as the disk has room
    store_min_free_bytes: Count = Field(default=DEFAULT_MIN_FREE_BYTES, ge=0)  # of its disk
    kubo: Addresses = ()  # RPC APIs of the operator's Kubos, http://127.0.0.1:5001; public results are copied there
    kubo_peers: Annotated[tuple[str, ...], Field(max_length=16)] = ()  # /.../p2p/ID that these stay connected to
    replicas: int = Field(default=1, ge=1, le=9)  # places that a result must be at before it goes on-chain; 1: here

    @property
    def store_limits(self) -> StoreLimits:
        """Of the bridge's block store."""
        return StoreLimits(self.store_max_bytes, self.store_min_free_bytes)

    @field_validator("kubo")
    @classmethod
    def _kubo(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        try:
            found = tuple(map(rpc_address, value))
        except InvalidInput as exc:
            raise ValueError(exc.problem) from exc
        if len(set(found)) != len(found):
            raise ValueError("a Kubo is named twice")
        return found

    @field_validator("kubo_peers")
    @classmethod
    def _kubo_peers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        try:
            return tuple(dict.fromkeys(map(swarm_address, value)))
        except InvalidInput as exc:
            raise ValueError(exc.problem) from exc

    @model_validator(mode="after")
    def _places(self) -> Self:
        if self.kubo_peers and not self.kubo:
            raise ValueError("kubo_peers is for the Kubos of content.kubo, which names none")
        if self.replicas > 1 + len(self.kubo):
            places = f"its own store and {len(self.kubo)} of content.kubo; name more of these, or lower it"
            raise ValueError(f"replicas is {self.replicas}, and this bridge has fewer places: {places}")
        return self


PLACEHOLDER = "FILL-IN"  # how the examples in docs/networks mark what only the operator knows


def _placeholders(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Every key that still holds a placeholder, with what it asks for."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _placeholders(item, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from _placeholders(item, f"{path}[{place}]")
    elif isinstance(value, str) and PLACEHOLDER in value:
        yield path, value.replace(PLACEHOLDER, "").strip(" :")


#: pydantic's words for a type that a TOML file does not know by that name
_WORDS = {
    "missing": "is missing",
    "tuple_type": 'must be a list: ["...", "..."]',
    "path_type": "must be a path in quotes",
    "string_type": "must be text in quotes",
    "model_type": "must be a section of its own, in square brackets",
}


def _in_words(kind: str, message: str, place: tuple[int | str, ...]) -> str:
    if kind == "extra_forbidden":
        return _no_such_key([str(part) for part in place])
    return _WORDS.get(kind, message.removeprefix("Value error, "))


def _no_such_key(place: list[str]) -> str:
    section: Any = BridgeConfig if len(place) == 1 else BridgeConfig.model_fields[place[0]].annotation
    if place[1:2] == ["tokens"] and len(place) > 2:
        section = TokenFloor
    fields: Mapping[str, Any] = getattr(section, "model_fields", {})
    near = get_close_matches(place[-1], fields, 1)
    return f"is no key of a bridge's configuration{f'; do you mean {near[0]}?' if near else ''} (docs/operations.md)"


class BridgeConfig(Section):
    """Everything that the bridge needs to know."""

    data_dir: FilePath
    database_url: str = ""  # empty: SQLite in data_dir
    listen_host: str = "127.0.0.1"
    listen_port: int = Field(default=8040, ge=0, le=65535)
    public_url: str  # how nodes and requesters reach this bridge; part of what they sign
    chain: ChainConfig
    relayer: RelayerConfig
    dispatch: DispatchConfig = DispatchConfig()
    content: ContentConfig = ContentConfig()

    @model_validator(mode="after")
    def _url(self) -> Self:
        if not self.public_url.startswith(("http://", "https://")) or self.public_url.endswith("/"):
            raise ValueError("public_url must start with http:// or https:// and end without a slash")
        return self

    @property
    def database(self) -> str:
        """The SQLAlchemy URL."""
        return self.database_url or f"sqlite:///{self.data_dir / 'bridge.db'}"

    @classmethod
    def load(cls, path: Path) -> Self:
        """The configuration in `path`. InvalidInput that names the key and what is wrong with it."""
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as exc:
            raise InvalidInput(str(path), f"cannot be read ({exc.strerror})") from exc
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
            raise InvalidInput(str(path), f"is not TOML: {exc}") from exc
        left = list(_placeholders(data))
        if left:
            (key, text), *others = left
            also = f"; also to be filled in: {', '.join(key for key, _ in others)}" if others else ""
            raise InvalidInput(f"{path}: {key}", f"is not filled in yet; it wants {text or 'your value'}{also}")
        try:
            return cls.model_validate(data)
        except ValidationError as exc:
            first = exc.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "configuration"
            raise InvalidInput(f"{path}: {where}", _in_words(first["type"], first["msg"], first["loc"])) from exc
