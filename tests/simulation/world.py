"""One run: a bridge's real listener, store and relayer, and a chain on which everything goes wrong for a while.

In place of nodes and dispatcher a few lines move jobs on by the store's own functions (`_dispatch`), with the outcome
that is decided for a request hash. The order of all things, and every fault, follows from the seed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from bridge.chain.client import ChainClient
from bridge.chain.signer import TxSigner
from bridge.config import BridgeConfig
from bridge.errors import FatalError, RpcRefused, RpcUnavailable, StaleTransition
from bridge.jobs import JobState
from bridge.listener import Listener
from bridge.relayer import Relayer
from bridge.store import outbox
from bridge.store.engine import Connection, Engine, transaction
from bridge.store.jobs import Job, jobs_in, move_job, scanned_number
from tests.simulation.contract import Contract, deliveries_in
from tests.simulation.database import Database
from tests.simulation.faults import Aim, FaultyNode, Killed, Plan
from tests.simulation.kills import Kills, aim_of
from tests.simulation.node import EPOCH_SECONDS, Chain, Refused, decoded_tx
from tests.simulation.people import People, decided, delivery, is_signed
from tests.simulation.rpc import Dialect
from tests.simulation.rules import Rule, Violation

CHAIN_ID = 31415926
ADDRESS = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
KEY = TxSigner.from_hex("0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a")
MAX_REQUESTS = 6
MAX_STEPS = 60  # of one loop in one epoch
QUIET_EPOCHS = 90  # within which everything must come to rest once nothing goes wrong any more
PASSING = (RpcUnavailable, RpcRefused, StaleTransition)


@dataclass
class Parts:
    """What is tested; a deliberate fault puts another one in its place (tests/simulation/mutants.py)."""

    listener: Callable[..., Listener] = Listener
    relayer: Callable[..., Relayer] = Relayer
    posting_depth: bool = True  # whether the dispatcher waits for it
    calldata: Callable[[Job, bytes], bytes] | None = None
    contract: type[Contract] = Contract
    attests: Callable[[bytes, bytes, tuple[Any, ...]], bool] = is_signed
    aim: Aim | None = None  # None: drawn from the seed


@dataclass
class Run:
    """What became of a run."""

    seed: int
    violation: str = ""
    broken: Rule | None = None  # the rule that was violated
    faults: Counter[str] = field(default_factory=Counter)
    depths: Counter[int] = field(default_factory=Counter)
    requests: int = 0
    results: int = 0
    refunds: int = 0
    gone: int = 0  # requests that ended on no chain
    epochs: int = 0
    steps: int = 0
    sent: int = 0  # transactions that were handed in, again or anew
    kills: int = 0
    killed_at: Counter[tuple[str, str]] = field(default_factory=Counter)  # (place, moment): see kills.py
    rebuilt: int = 0


class World:
    """Everything of one run."""

    def __init__(self, seed: int, parts: Parts, trace: Callable[[str], None] | None, folder: Path | None) -> None:
        self.run = Run(seed)
        self.random = Random(seed)
        self.parts = parts
        self.trace = trace or (lambda _: None)
        self.plan = Plan(seed, self.random)
        self.plan.trace = self.trace
        drawn = aim_of(self.plan)
        self.plan.aim = parts.aim or drawn
        self.kills = Kills(self.plan)
        self.chain = self._chain()
        self.config = self._config()
        self.people = People(self.chain, self.plan, KEY.address)
        self.node = FaultyNode(self.chain, self._dialect(), self.plan)
        self.node.finality_depth = self.config.chain.finality_depth
        self.node.on_send = self._check_sent
        self.node.on_call = self.kills.check
        self.skip: frozenset[bytes] = frozenset()
        self.now = float(self.chain.head.timestamp)
        begin, commit = self.kills.begin, self.kills.commit
        self.database = Database(folder, lambda reads: begin(reads=reads), lambda reads: commit(reads=reads))
        self.start()

    # -- the bridge -----------------------------------------------------------------------------------------------

    @property
    def engine(self) -> Engine:
        """The database as it is now."""
        return self.database.engine

    def start(self) -> None:
        """A process begins: nothing is remembered but what is in the database."""
        self.kills.reborn()
        client = ChainClient(self.node)
        self.listener = self.parts.listener(self.engine, client, self.config, self.clock)
        self.relayer = self.parts.relayer(self.engine, client, KEY, self.config, self.clock)
        self.loops = {"listener": self.listener.step, "dispatcher": self._dispatch, "relayer": self.relayer.step}

    def clock(self) -> float:
        """Seconds since 1970."""
        return self.now

    def turn(self, name: str, limit: int) -> bool:
        """Step one loop until it has nothing to do, or meets an error, or dies; whether it came to rest."""
        for _ in range(limit):
            self.run.steps += 1
            try:
                moved = self.loops[name]()
                self.kills.check()
                if not moved:
                    return True
                self.trace(f"{name}: stepped")
            except PASSING as exc:
                self.trace(f"{name}: {type(exc).__name__}: {exc}")
                return False
            except FatalError as exc:
                raise Violation(Rule.RUNS_ON, f"the {name} halts: {exc}") from exc
            except Killed:
                self.trace(f"{name}: killed")
                self.run.kills += 1
                if self.plan.now("reorg while down"):
                    self.reorg()
                self.start()
                return False
        return False

    def forget(self) -> None:
        """The database is deleted; the bridge starts anew."""
        self.database.delete()
        self.run.rebuilt += 1
        self.start()

    def _dispatch(self) -> bool:
        """What dispatcher and nodes do, with the store's own functions: READY to POSTING, now and then in stages."""
        moved = False
        with transaction(self.engine) as connection:
            tip = scanned_number(connection, CHAIN_ID, ADDRESS)
            for job in jobs_in(connection, list(_NEXT)) if tip is not None else ():
                state: JobState | None = job.state
                while state in _NEXT:  # in bad times not all the way at once
                    state = self._dispatch_one(connection, job, state, tip or 0)
                    moved |= state is not None
        return moved

    def _dispatch_one(self, connection: Connection, job: Job, before: JobState, tip: int) -> JobState | None:
        """Move a job one state on; None: not now."""
        if self.plan.on and self.random.random() < 0.15:
            return None
        after, values = _NEXT[before], {}
        if after is JobState.ATTESTED:
            values = {"outcome": decided(job.request_hash).encode()}
        if after is JobState.POSTING:
            is_deep = tip - job.block_number >= self.config.chain.posting_depth or not self.parts.posting_depth
            if not is_deep or self.now >= job.request.deadline:
                return None
            outbox.enqueue(connection, job.request_hash, "fulfil", self._calldata(job), self.now)
        move_job(connection, job.request_hash, before, after, self.now, **values)
        return after

    def _calldata(self, job: Job) -> bytes:
        made = delivery(job.request_hash, job.request.id, job.request.order, KEY.address)
        return made if self.parts.calldata is None else self.parts.calldata(job, made)

    # -- the chain ------------------------------------------------------------------------------------------------

    def epoch(self) -> None:
        """One epoch of the bad time."""
        plan, random = self.plan, self.random
        messages = [
            self.people.request() for _ in range(random.choice((0, 0, 1, 1, 2))) if self.people.sent < MAX_REQUESTS
        ]
        messages += self.people.others()
        if not self.config.relayer.expire_requests and random.random() < 0.3:
            messages += self.people.refunds()
        if plan.now("dropped") and self.chain.pending():
            self.chain.drop(random.choice(self.chain.pending()))
        if plan.now("stuck"):
            self.skip |= {tx.hash for tx in self.chain.pending()}
        gap = random.randint(1, 3) if plan.now("null rounds") else 0
        gap = random.randint(8, 60) if plan.now("long null run") else gap
        self.mine(messages, gap)
        if plan.now("reorg"):
            self.reorg()
        self._move_clock()
        if plan.now("down for long"):
            for _ in range(random.randint(3, 45)):
                self.mine(self.people.others())
            self._move_clock()
            self.start()
        elif plan.now("restart"):
            self.start()
        if plan.now("database deleted"):
            self.forget()
        names = list(self.loops)
        random.shuffle(names)
        for name in [name for name in names if not plan.now("loop asleep")]:
            self.turn(name, random.choice((1, 2, 5)))
            if plan.now("reorg between loops"):
                self.reorg()

    def skip_passed_epochs(self) -> None:
        """A reorg takes blocks away, and no time: the next block is of an epoch that the clock has not passed."""
        passed = int(self.now - self.chain.tip.timestamp) // EPOCH_SECONDS
        if passed > 1:
            self.mine(gap=passed - 1)

    def quiet_epoch(self) -> bool:
        """One epoch in which nothing goes wrong; whether every loop came to rest."""
        self.mine(self.people.refunds() if not self.config.relayer.expire_requests else ())
        self._move_clock()
        at_rest = [self.turn(name, MAX_STEPS) for name in self.loops]
        return all(at_rest)

    def mine(self, messages: object = (), gap: int = 0) -> None:
        """A block."""
        block = self.chain.mine(gap, messages, self.skip)  # type: ignore[arg-type]
        self.people.note(block)
        self.run.epochs += 1
        self.trace(f"block {block.number} {block.hash.hex()[:8]}: {len(block.txs)} transactions")

    def reorg(self) -> None:
        """Leave some blocks for others; nothing that was final by what was shown."""
        line = []
        for block in self.chain.tip.ancestors():
            line.append(block)
            if block.number <= self.node.final:
                break
        if len(line) < 2:
            return
        depth = max(self.random.randint(1, len(line) - 1) for _ in range(2))  # rather deep than shallow
        fork, dropped = line[depth], line[:depth][::-1]
        tip = self.people.moved(dropped, fork)
        gone = self.chain.adopt(tip)
        self.run.depths[depth] += 1
        self.trace(f"reorg: {depth} blocks from {dropped[0].number} leave, tip is {tip.number} {tip.hash.hex()[:8]}")
        for tx in gone:
            if tx.nonce is not None and self.random.random() < 0.6:
                try:
                    self.chain.submit(tx)
                except Refused as exc:
                    self.trace(f"not taken back: {exc}")

    def _move_clock(self) -> None:
        self.now = max(self.now, self.chain.tip.timestamp + self.random.randint(0, EPOCH_SECONDS - 1))

    def _check_sent(self, raw: bytes) -> None:
        """What is sent is stored (I6), and answers a request that was deep enough on a chain that was shown (I2)."""
        tx = decoded_tx(raw)
        self.run.sent += 1
        if not self.database.has_transaction(tx.hash):
            raise Violation(Rule.STORED_FIRST, f"nonce {tx.nonce} is sent and not in the database")
        for _, _, _, attestations in deliveries_in(tx.data):
            self._check_depth_of(attestations[0][0])  # see people.delivery

    def _check_depth_of(self, request_hash: bytes) -> None:
        blocks = self.people.places.get(request_hash, ())
        depth = max((self.node.shown.get(block.hash, 0) - block.number for block in blocks), default=-1)
        if depth < self.config.chain.posting_depth:
            raise Violation(Rule.DEPTH, f"a result for {request_hash.hex()[:8]} is sent at depth {depth}")

    # -- drawn from the seed --------------------------------------------------------------------------------------

    def _config(self) -> BridgeConfig:
        random = self.random
        posting = random.choice((0, 0, 1, 2, 3))
        chain = {
            "rpc_urls": ["http://127.0.0.1:1"],
            "chain_id": CHAIN_ID,
            "bridge_contract": ADDRESS,
            "deploy_block": self.chain.branch()[0].number + 1,
            "confirmation_depth": min(random.randint(0, posting) for _ in range(2)),
            "posting_depth": posting,
            "finality_depth": random.randint(max(2, posting), 7),
        }
        relayer = {
            "key": "env:UNUSED",
            "expire_requests": random.random() < 0.7,
            "max_in_flight": random.choice((1, 4)),
            "bump_after_seconds": random.choice((60.0, 180.0)),
            "resend_after_seconds": random.choice((20.0, 60.0)),
        }
        fields = {"data_dir": "/nonexistent", "public_url": "http://127.0.0.1:1", "chain": chain, "relayer": relayer}
        return BridgeConfig.model_validate(fields)

    def _chain(self) -> Chain:
        contract = self.parts.contract(CHAIN_ID, ADDRESS, attests=self.parts.attests)
        chain = Chain(contract, number=self.random.choice((0, 0, 5000)), salt=self.run.seed)
        chain.deferred = self.random.random() < 0.5
        chain.mine()
        return chain

    def _dialect(self) -> Dialect:
        return Dialect(
            null_round=self.random.choice(("lotus", "old", "null", "forest")),
            largest_range=self.random.choice((2880, 2880, 3, 0)),
            lookback=self.random.choice((None, 3)),
        )


_NEXT = {
    JobState.READY: JobState.RUNNING,
    JobState.RUNNING: JobState.ATTESTED,
    JobState.ATTESTED: JobState.STORED,
    JobState.STORED: JobState.POSTING,
}
