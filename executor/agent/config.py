"""A node's configuration: `node.toml` in its work folder, every field typed, unknown keys refused.

FOLDER/node.toml      this file; may be edited while the node is stopped
FOLDER/key            the attestation key (0600); never funded
FOLDER/policy.toml    the operator's policy (optional; `policy` names another place)
FOLDER/ledger.db      what the key has signed: never copy, restore or delete it while the key is in use
FOLDER/content/       blocks: inputs, programs, released outputs
FOLDER/executions/    one folder for each running job, with its quarantine, which is encrypted
FOLDER/quarantine-keys/  what opens quarantines (`quarantine_key_dir` names another place); shredded when each ends
FOLDER/containers/    the ids of containers that were started, for the clean-up after a crash
FOLDER/drain          while this file exists, the node asks for no more work
"""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from executor.audit.policy import LabelWords, Policy
from executor.content.kuboaddress import rpc_address
from executor.content.quota import DEFAULT_MIN_FREE_BYTES, StoreLimits
from executor.content.weburl import is_base_url, shown
from executor.errors import InvalidInput
from executor.ledger import Ledger
from executor.protocol.leases import Address, Amount
from executor.protocol.nodeauth import Audience
from executor.protocol.signing import Key, Scope
from executor.quarantine import QuarantineKeys
from executor.sandbox.escapes import names

Tier = Literal["wasm", "container", "gvisor"]
CONFIG_NAME = "node.toml"


class NodeConfig(BaseModel):
    """Everything that a node needs to know. Sizes in bytes, processor in thousandths of a core, times in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bridge_url: str
    chain_id: int = Field(ge=1, lt=2**63)
    bridge_contract: Address
    registry: Address
    key: str = "file:key"  # env:NAME, file:PATH or keystore:PATH, relative to the work folder
    labels: LabelWords = Field(default=(), max_length=64)
    tiers: tuple[Tier, ...] = ("wasm", "container", "gvisor")  # wanted; offered where their probe holds
    slots: int = Field(default=2, ge=1, le=256)
    cpu_millis: int = Field(default=2000, ge=100)
    memory_bytes: int = Field(default=2 * 2**30, ge=16 * 2**20)
    disk_bytes: int = Field(default=4 * 2**30, ge=0)
    min_unit_price: Amount = 0
    min_fail_price: Amount = 0
    rpc_url: str = ""
    rpc_depth: int = Field(default=0, ge=0)  # blocks below the head at which a request must stand
    policy: str = ""  # a TOML file; empty: policy.toml in the work folder, or the default policy
    poll_seconds: float = Field(default=3.0, ge=0, le=25)  # how long the bridge may hold a request for work
    retention_seconds: float = Field(default=14 * 86400.0, gt=0)  # released outputs are kept for re-delivery
    store_max_bytes: int = Field(default=0, ge=0, lt=2**63)  # of all blocks; 0: as the disk has room
    store_min_free_bytes: int = Field(default=DEFAULT_MIN_FREE_BYTES, ge=0, lt=2**63)  # of its disk
    fetch_seconds: float = Field(default=600.0, gt=0)  # for spec, program and inputs of a job
    gateways: tuple[str, ...] = Field(default=(), max_length=16)  # trustless ones, asked for inputs beside the bridge
    kubo: str = ""  # RPC API of the operator's own Kubo, such as http://127.0.0.1:5001; asked for inputs likewise
    quarantine_key_dir: str = ""  # of the keys of quarantined outputs; empty: quarantine-keys in the work folder
    quarantine_keep_days: float = Field(default=0, ge=0, le=3650)  # what was not released is kept so long
    review_port: int = Field(default=0, ge=0, le=65535)  # of 127.0.0.1, for the policy's reviewers; 0: none
    gateway_host: str = "127.0.0.1"  # where anybody may fetch what is public here
    gateway_port: int = Field(default=0, ge=0, le=65535)  # 0: nowhere
    public_retention_seconds: float = Field(default=30 * 86400.0, gt=0)  # results are served so long once on-chain

    @field_validator("bridge_url")
    @classmethod
    def _url(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        return value.rstrip("/")

    @field_validator("gateways")
    @classmethod
    def _gateways(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for place, url in enumerate(value):
            if (
                not is_base_url(url) or shown(url) != url
            ):  # told without the URL, which may hold what is nobody's business
                raise ValueError(f"entry {place + 1} must be https://host or http://host, with no user and no query")
        found = tuple(url.rstrip("/") for url in value)
        if len(set(found)) != len(found):
            raise ValueError("a gateway is named twice")
        return found

    @field_validator("kubo")
    @classmethod
    def _kubo(cls, value: str) -> str:
        try:
            return rpc_address(value) if value else ""
        except InvalidInput as exc:
            raise ValueError(exc.problem) from exc

    @model_validator(mode="after")
    def _rpc(self) -> Self:
        if self.rpc_url and not self.rpc_url.startswith(("http://", "https://")):
            raise ValueError("rpc_url must start with http:// or https://")
        return self

    @property
    def store_limits(self) -> StoreLimits:
        """Of the node's block store."""
        return StoreLimits(self.store_max_bytes, self.store_min_free_bytes)

    @property
    def scope(self) -> Scope:
        """The chain and contract that attestations are for."""
        return Scope(self.chain_id, self.bridge_contract)

    @property
    def audience(self) -> Audience:
        """Whom calls to the bridge are signed for."""
        return Audience(self.scope, self.bridge_url)

    @property
    def gateway_url(self) -> str:
        """Where the node's gateway is; empty where it has none."""
        host = f"[{self.gateway_host}]" if ":" in self.gateway_host else self.gateway_host
        return f"http://{host}:{self.gateway_port}" if self.gateway_port else ""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The configuration of a work folder. InvalidInput that names file and key."""
        path = folder / CONFIG_NAME
        if not path.is_file():
            raise InvalidInput(str(path), "is not there; make a node with `insula node init`")
        return cls.parse(read_toml(path), str(path))

    @classmethod
    def parse(cls, value: object, where: str) -> Self:
        """The configuration of plain data."""
        try:
            return cls.model_validate(value)
        except ValidationError as exc:
            first = exc.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            raise InvalidInput(f"{where}: {name}" if name else where, first["msg"]) from exc

    def load_key(self, folder: Path) -> Key:
        """The attestation key."""
        kind, _, name = self.key.partition(":")
        return Key.load(f"{kind}:{folder / Path(name).expanduser()}" if kind in ("file", "keystore") else self.key)

    def quarantine_keys(self, folder: Path, node: str) -> QuarantineKeys:
        """The keys of quarantined outputs; those of each node in a folder of its own, by its address."""
        place = folder / Path(self.quarantine_key_dir or "quarantine-keys").expanduser()
        return QuarantineKeys(place / node)

    def kept_until(self, closed_at: float) -> float:
        """When an output that was not released, and ended then, is shredded; seconds since 1970."""
        return closed_at + self.quarantine_keep_days * 86400.0

    def load_policy(self, folder: Path) -> Policy:
        """The operator's policy, never cheaper than this file. A policy that decides on who asks needs `rpc_url`."""
        path = folder / (self.policy or "policy.toml")
        is_given = bool(self.policy) or path.exists()
        policy = Policy.parse(read_toml(path), str(path)) if is_given else Policy()
        if policy.needs_chain and not self.rpc_url:
            raise InvalidInput(
                str(path),
                "names requesters or contracts, for jobs, data or secrets, which only the chain can vouch for; "
                "set rpc_url in node.toml",
            )
        prices = {
            "min_unit_price": max(policy.min_unit_price, self.min_unit_price),
            "min_fail_price": max(policy.min_fail_price, self.min_fail_price),
        }
        return policy.model_copy(update=prices)


def init_node(folder: Path, *, accepts_known_escapes: bool = False, **fields: Any) -> dict[str, Any]:
    """Make a work folder (0700) with a new key and an empty ledger; `fields` are those of NodeConfig.

    accepts_known_escapes: write a policy that accepts every escape that is known now, by name, for nodes that run only
    their owner's jobs.

    Gives {"folder", "key", "config"}: the folder, the key's address, the configuration file. InvalidInput if there is a
    node already or a field is not valid; nothing is written then.
    """
    config = NodeConfig.parse(fields, "node")
    path = folder / CONFIG_NAME
    for taken in (path, folder / "key", folder / "ledger.db"):
        if taken.exists():
            raise InvalidInput(str(taken), "exists already; a node needs a folder of its own")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    kind, _, _ = config.key.partition(":")
    key = config.load_key(folder) if kind in ("env", "keystore") else Key.create(folder / "key")
    Ledger.create(folder / "ledger.db", key.address).close()
    _write_new(path, to_toml(config))
    if accepts_known_escapes:
        _write_new(folder / "policy.toml", f"accept_escapes = {json.dumps(names())}\n")
    return {"folder": str(folder), "key": key.address, "config": str(path)}


def to_toml(config: NodeConfig) -> str:
    """The configuration as TOML. JSON's strings, numbers and arrays of strings are TOML's."""
    lines = ["# A compute node of Insula; the fields are explained in docs/operations.md."]
    for name, value in config.model_dump(mode="json").items():
        if value is not None:
            lines.append(f"{name} = {json.dumps(value, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file of at most 1 MiB. InvalidInput."""
    try:
        with path.open("rb") as file:
            data = file.read(2**20 + 1)
    except OSError as exc:
        raise InvalidInput(str(path), f"cannot be read ({exc.strerror})") from exc
    if len(data) > 2**20:
        raise InvalidInput(str(path), "is larger than 1 MiB")
    try:
        return tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise InvalidInput(str(path), f"is not TOML: {exc}") from exc


def _write_new(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
