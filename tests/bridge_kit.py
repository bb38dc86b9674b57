"""A bridge without its chain: real SQLite, real block store, real signatures; time and the registry are in hand."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eth_account import Account
from sqlalchemy import insert, update

from bridge.config import BridgeConfig, ChainConfig, ContentConfig, DispatchConfig, RelayerConfig
from bridge.dispatcher import Dispatcher
from bridge.jobs import JobState
from bridge.store import leases as rows
from bridge.store.content import slot_owner
from bridge.store.engine import Connection, open_engine, reading, transaction
from bridge.store.jobs import Job, get_job
from bridge.store.schema import cursors, jobs, metadata
from bridge.watch import Watch
from executor.content.blockstore import BlockStore
from executor.protocol.cid import RAW, Cid
from executor.protocol.leases import Advert, Attested, Capacity, Heartbeat, Lease, LeaseReturn, Phase
from executor.protocol.receipt import Run, receipt_bytes, receipt_hash
from executor.protocol.signing import Key, Scope, attestation_message
from executor.protocol.wire import Attestation, Order, Outcome, Request, Status, label_hash
from tests.registry_twin import RegistryTwin

CHAIN_ID = 31415926
CONTRACT = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
CURATOR = "0x90F79bf6EB2c4f870365E785982E1f101E93b906"
RELAYER = "0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65"
REQUESTER = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
SCOPE = Scope(CHAIN_ID, CONTRACT)
GIB = 2**30
START = 1_800_000_000.0
MODULE = Cid.of(RAW, b"module")


def key_of(name: str) -> Key:
    """A key that has the same address in every run."""
    return Key(Account.from_key(hashlib.sha256(name.encode()).digest()))


def operator_of(name: str) -> str:
    return key_of(f"operator {name}").address


def spec_bytes(**changes: Any) -> bytes:
    """A small valid spec; `changes` replace top-level fields."""
    spec: dict[str, Any] = {
        "version": "insula/v1",
        "engine": {"type": "wasm", "module": str(MODULE)},
        "limits": {"wallSeconds": 30, "memoryBytes": 64 * 2**20, "diskBytes": 2**20, "outputFiles": 16},
    }
    spec.update(changes)
    return json.dumps(spec).encode()


def order_of(*labels: str, **changes: Any) -> Order:
    """A small valid order that asks for `labels`."""
    fields: dict[str, Any] = {
        "spec": spec_bytes(**({"selector": ",".join(labels)} if labels else {})),
        "ttl": 3600,
        "curator": CURATOR,
        "labels": tuple(sorted(label_hash(word) for word in labels)),
        "unit_price": 1000,
        "fail_price": 100,
        "delivery_fee": 10,
    }
    fields.update(changes)
    return Order(**fields)


def capacity(slots: int = 4, cpu: int = 4000, memory: int = 4 * GIB, disk: int = 4 * GIB) -> Capacity:
    return Capacity(slots=slots, cpu_millis=cpu, memory_bytes=memory, disk_bytes=disk)


def advert(*labels: str, **changes: Any) -> Advert:
    fields: dict[str, Any] = {
        "labels": labels,
        "tiers": ("wasm", "container"),
        "free": capacity(),
        "total": capacity(),
        "wait_seconds": 0,
    }
    fields.update(changes)
    return Advert(**fields)


@dataclass
class Clock:
    now: float = START

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Node:
    """A registered node: what it signs with, and its id."""

    key: Key
    node_id: int
    operator: str


@dataclass
class Enqueued:
    job: Job
    outcome: Outcome
    attestations: Sequence[Attestation]


@dataclass
class Outbox:
    """What the dispatcher handed over, instead of rows for the relayer."""

    deliveries: list[Enqueued] = field(default_factory=list)

    def enqueue(
        self, connection: Connection, job: Job, outcome: Outcome, attestations: Sequence[Attestation], now: float
    ) -> None:
        self.deliveries.append(Enqueued(job, outcome, attestations))


def config_of(folder: Path, **changes: Any) -> BridgeConfig:
    fields: dict[str, Any] = {
        "data_dir": folder,
        "public_url": "http://bridge.test",
        "chain": ChainConfig(
            rpc_urls=("http://127.0.0.1:1",),
            chain_id=CHAIN_ID,
            bridge_contract=CONTRACT,
            deploy_block=0,
            confirmation_depth=1,
            posting_depth=2,
            finality_depth=5,
        ),
        "relayer": RelayerConfig(key="env:NONE", expire_requests=True),
        "dispatch": DispatchConfig(),
        "content": ContentConfig(),
    }
    fields.update(changes)
    return BridgeConfig(**fields)


class Bridge:
    """The parts of a bridge that the tests of the dispatcher and its API drive."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.config = config_of(folder, **changes)
        self.clock = Clock()
        self.engine = open_engine(self.config.database)
        metadata.create_all(self.engine)
        self.registry = RegistryTwin()
        self.watch = Watch()
        self.store = BlockStore(folder / "blocks")
        self.outbox = Outbox()
        self.dispatcher = self.restarted()
        self._requests = 0

    def restarted(self) -> Dispatcher:
        """A new dispatcher on the same disk, as after kill -9."""
        self.dispatcher = Dispatcher(
            self.engine,
            self.registry,
            self.store,
            self.config,
            self.clock,
            relayer=RELAYER,
            enqueue=self.outbox.enqueue,
        )
        return self.dispatcher

    def node(self, name: str, *labels: str, operator: str | None = None, vouch: bool = True) -> Node:
        """A registered node with `labels` and admission, vouched for by CURATOR."""
        key = key_of(f"node {name}")
        owner = operator_of(operator or name)
        node_id = self.registry.register(key.address, owner, ["node=admitted", *labels])
        if vouch:
            self.registry.vouch(CURATOR, node_id, "node=admitted", *labels)
        return Node(key, node_id, owner)

    def request(self, order: Order, *, state: JobState = JobState.READY, block: int = 100, **changes: Any) -> Job:
        """A request as the listener stores it; the chain stands at block 100."""
        self._requests += 1
        request = Request(
            chain_id=CHAIN_ID,
            contract=CONTRACT,
            id=changes.pop("request_id", self._requests),
            requester=changes.pop("requester", REQUESTER),
            order=order,
            deadline=int(self.clock.now) + order.ttl,
        )
        values = {
            "request_hash": request.hash,
            "chain_id": request.chain_id,
            "contract": request.contract,
            "request_id": request.id,
            "requester": request.requester,
            "deadline": request.deadline,
            "order_bytes": order.encode(),
            "spec": None if order.spec_is_cid else order.spec,
            "state": state.value,
            "block_number": block,
            "block_hash": bytes([1]) * 32,
            "tx_hash": bytes([2]) * 32,
            "observed_at": self.clock.now,
            "changed_at": self.clock.now,
            **changes,
        }
        with transaction(self.engine) as connection:
            connection.execute(insert(jobs).values(**values))
        return self.job(request.hash)

    def job(self, request_hash: bytes) -> Job:
        with reading(self.engine) as connection:
            job = get_job(connection, request_hash)
        assert job is not None
        return job

    def slots(self, request_hash: bytes) -> list[rows.Slot]:
        with reading(self.engine) as connection:
            return rows.slots_of(connection, request_hash)

    def leases(self, request_hash: bytes) -> list[rows.LeaseRow]:
        with reading(self.engine) as connection:
            return rows.leases_of(connection, request_hash)

    def set_job(self, request_hash: bytes, **values: Any) -> None:
        """What the listener does to a row."""
        with transaction(self.engine) as connection:
            connection.execute(update(jobs).where(jobs.c.request_hash == request_hash).values(**values))

    def chain_at(self, number: int) -> None:
        """The listener has scanned up to this block."""
        values = {
            "genesis_hash": b"g" * 32,
            "scanned_number": number,
            "scanned_hash": b"s" * 32,
            "final_number": 0,
            "final_hash": b"f" * 32,
            "changed_at": self.clock.now,
        }
        with transaction(self.engine) as connection:
            connection.execute(cursors.delete())
            connection.execute(insert(cursors).values(chain_id=CHAIN_ID, contract=CONTRACT, **values))

    def lease(self, node: Node, *labels: str, **changes: Any) -> Lease | None:
        """The node asks for work."""
        return self.dispatcher.lease_for(node.key.address, advert("node=admitted", *labels, **changes))

    def beat(self, node: Node, lease: Lease, phase: Phase = Phase.RUNNING, token: int | None = None) -> Any:
        beat = Heartbeat(token=lease.token if token is None else token, phase=phase)
        return self.dispatcher.heartbeat(node.key.address, lease.lease_id, beat)

    def give_back(self, node: Node, lease: Lease, reason: int = 408, detail: str = "") -> None:
        back = LeaseReturn(token=lease.token, reason=reason, detail=detail)
        self.dispatcher.give_back(node.key.address, lease.lease_id, back)

    def bring(self, node: Node, lease: Lease, *blocks: bytes) -> Cid:
        """The node uploads raw blocks; the CID of the first."""
        holdings = self.dispatcher.holdings
        allowance = holdings.allowance(slot_owner(lease.request_hash, node.key.address), GIB)
        holdings.take(allowance, [(Cid.of(RAW, block), block) for block in blocks])
        return Cid.of(RAW, blocks[0])

    def answer(self, node: Node, lease: Lease, attested: Attested) -> None:
        self.dispatcher.accept_attestation(node.key.address, lease.lease_id, attested)

    def close(self) -> None:
        self.engine.dispose()


def success(output: Cid, payload: bytes = b"") -> Outcome:
    return Outcome(status=Status.SUCCEEDED, output_cid=output.binary, payload=payload)


def run_of(key: Key, lease: Lease) -> Run:
    return Run(
        key=key.address,
        slot=lease.slot,
        attempt=lease.attempt,
        started_at=START,
        finished_at=START + 1,
        dependencies=(),
        runtime={},
        policy={},
        manifest=(),
        detail="",
    )


def attested(key: Key, lease: Lease, outcome: Outcome, **changes: Any) -> Attested:
    """A node's signed answer to its lease. `request`, `relayer`, `signer`, `scope`, `receipt` change what is signed;
    `token` what is sent.
    """
    request: Request = changes.get("request", lease.request.request())
    relayer: str = changes.get("relayer", lease.relayer)
    receipt: bytes = changes.get("receipt") or receipt_bytes(request, request.order.spec, outcome, run_of(key, lease))
    message = attestation_message(
        changes.get("scope", SCOPE),
        request_hash=request.hash,
        outcome_hash=outcome.hash,
        receipt_hash=receipt_hash(receipt),
        log_root=bytes(32),
        log_size=1,
        relayer=relayer,
    )
    return Attested(
        token=changes.get("token", lease.token),
        outcome=outcome.encode(),
        receipt=receipt,
        log_root=bytes(32),
        log_size=1,
        relayer=relayer,
        signature=changes.get("signer", key).sign(message),
    )
