"""What must hold at the end of a run, when everything has come to rest (fevm.md 3.3, I1-I8)."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from sqlalchemy import select

from bridge.chain.cursor import is_linked
from bridge.chain.events import TOPICS, Kind
from bridge.jobs import JobState
from bridge.store.chain import Scope, load_cursor, load_window
from bridge.store.engine import reading
from bridge.store.jobs import Job, jobs_in
from bridge.store.outbox import LIVE
from bridge.store.schema import events, jobs, outbox, senders, transactions
from executor.protocol.wire import result_digest
from tests.simulation.contract import SETTLED
from tests.simulation.node import decoded_tx
from tests.simulation.people import decided
from tests.simulation.world import ADDRESS, CHAIN_ID, KEY, QUIET_EPOCHS, Violation, World

_OPEN = "open on the chain, after all faults have stopped"


def requested(world: World) -> dict[bytes, int]:
    """Request hash -> id of every request on the canonical chain."""
    found = {}
    for block in world.chain.branch():
        for _, log in block.logs:
            if TOPICS.get(log.topics[0]) is Kind.REQUESTED:
                found[log.topics[2]] = int.from_bytes(log.topics[1], "big")
    return found


def all_jobs(world: World) -> dict[bytes, Job]:
    """Every job in the database."""
    with reading(world.engine) as connection:
        return {job.request_hash: job for job in jobs_in(connection, list(JobState))}


def unfinished(world: World) -> list[str]:
    """What is not at rest yet."""
    found = [f"request {id_} is {_OPEN}" for id_, _ in world.people.open_slots(world.chain.tip.state)]
    with reading(world.engine) as connection:
        states = {row.request_hash: row.state for row in connection.execute(select(jobs.c.request_hash, jobs.c.state))}
        rows = connection.execute(select(outbox.c.id, outbox.c.state, outbox.c.detail, outbox.c.request_hash)).all()
        known = connection.execute(select(senders.c.next_nonce)).scalar_one_or_none() or 0
        cursor = load_cursor(connection, Scope(CHAIN_ID, ADDRESS))
    if cursor is None or cursor.scanned_hash != world.chain.head.hash:
        found.append("the listener is not at the head")
    for request_hash, id_ in requested(world).items():
        state = states.get(request_hash, "missing")
        if state != JobState.FINAL:
            found.append(f"the job of request {id_} ({request_hash.hex()[:8]}) is {state}")
    found += [
        f"outbox row {row.id} is {row.state} ({row.detail}), its job {states.get(row.request_hash)}"
        for row in rows
        if row.state in LIVE and states.get(row.request_hash) != JobState.ORPHANED
    ]
    used = world.chain.tip.state.nonces.get(KEY.address, 0)
    if world.chain.pool.get(KEY.address) or used < known:
        found.append(f"nonce {used} of {known} waits")
    return found


def come_to_rest(world: World) -> None:
    """Let good epochs pass until all is done. Violation when it never is."""
    world.plan.on = False
    world.skip = frozenset()
    for _ in range(QUIET_EPOCHS):
        if world.quiet_epoch() and not unfinished(world):
            return
        if not world.people.open_slots(world.chain.tip.state):  # what is left is to become final
            for _ in range(world.config.chain.finality_depth):
                world.mine()
    raise Violation("it does not come to rest: " + "; ".join(unfinished(world) or ["the loops have work for ever"]))


def check_jobs(world: World) -> dict[bytes, tuple[Any, ...]]:
    """Each canonical request FINAL with what the chain holds, which is what was decided for it; nothing else FINAL."""
    found, state, there = all_jobs(world), world.chain.tip.state, requested(world)
    ended = {}
    for request_hash, id_ in there.items():
        slot, job = state.slots[id_], found[request_hash]
        _must(job.request.id == id_, f"job {request_hash.hex()[:8]} has id {job.request.id}, the chain {id_}")
        _must(job.state is JobState.FINAL, f"job {id_} is {job.state.value}")
        _must(job.chain_state == slot.state, f"job {id_} says {job.chain_state}, the chain {slot.state}")
        outcome = decided(request_hash) if slot.state in SETTLED else None
        if outcome is not None:
            _must(slot.digest == result_digest(request_hash, outcome.hash), f"request {id_} has another's result")
            _must(job.outcome == outcome, f"job {id_} keeps another outcome than the chain")
        where = job.settled_block_number, job.settled_block_hash, job.settled_tx
        for block_hash in (job.settled_block_hash, job.block_hash):
            block = world.chain.blocks.get(block_hash or b"")
            is_there = block is not None and world.chain.is_canonical(block)
            _must(is_there, f"job {id_} stands, or ended, in a block that is not canonical")
        ended[request_hash] = (job.chain_state, job.block_hash, job.cancel_marked, where, outcome)
    for request_hash, job in found.items():
        is_right = request_hash in there or job.state is JobState.ORPHANED
        _must(is_right, f"job {request_hash.hex()[:8]} is {job.state.value} and on no chain")
    return ended


def check_effects(world: World) -> None:
    """One effective result a request, every delivery fee paid once, and nothing paid for twice."""
    endings: Counter[bytes] = Counter()
    fees = 0
    for block in world.chain.branch():
        for _, log in block.logs:
            kind = TOPICS.get(log.topics[0])
            if kind in (Kind.SETTLED, Kind.EXPIRED, Kind.CANCELLED):
                endings[log.topics[2]] += 1
            if kind is Kind.SETTLED and KEY.address[2:].lower() in log.data[:64].hex():
                fees += world.people.orders[log.topics[2]].delivery_fee
    _must(set(endings.values()) <= {1}, "a request ended twice")
    earned = world.chain.tip.state.credits.get(KEY.address.lower(), 0)
    _must(earned == fees, f"the relayer earned {earned}, its results are worth {fees}")
    ours = Counter(
        tx.data
        for block in world.chain.branch()
        for tx in block.txs
        if tx.sender == KEY.address and tx.data and block.statuses[tx.hash]
    )
    # A database that is lost takes the knowledge of what was sent with it, and so does a state that is too old.
    may_pay_twice = world.plan.counts["database deleted"] or world.plan.counts["state is older"]
    _must(bool(may_pay_twice) or set(ours.values()) <= {1}, "a delivery was paid for twice")


def check_mirror(world: World) -> None:
    """The stored events are those of the canonical chain; the window is linked and ends where the cursor stands."""
    with reading(world.engine) as connection:
        rows = connection.execute(select(events.c.block_hash, events.c.tx_hash, events.c.kind)).all()
        cursor, window = load_cursor(connection, Scope(CHAIN_ID, ADDRESS)), load_window(connection)
    there = Counter(
        (block.hash, tx_hash, TOPICS[log.topics[0]].value)
        for block in world.chain.branch()
        for tx_hash, log in block.logs
        if log.topics[0] in TOPICS and block.number <= world.chain.head.number
    )
    _must(Counter(tuple(row) for row in rows) == there, "the stored events are not those of the chain")
    _must(cursor is not None and is_linked(window), "the window is not linked")
    _must(window[-1].hash == world.chain.head.hash, "the window does not end at the head")


def check_nonces(world: World) -> None:
    """No nonce carries two different calls."""
    with reading(world.engine) as connection:
        rows = connection.execute(select(transactions.c.nonce, transactions.c.raw)).all()
    calls = defaultdict(set)
    for row in rows:
        data = decoded_tx(row.raw).data
        if data:
            calls[row.nonce].add(data)
    _must(all(len(data) == 1 for data in calls.values()), "one nonce carries two different calls")


def _must(holds: bool, what: str) -> None:
    if not holds:
        raise Violation(what)
