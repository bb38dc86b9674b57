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
from bridge.store.schema import jobs, outbox, senders, transactions
from executor.protocol.wire import result_digest
from tests.simulation.contract import SETTLED, SKIPPED, deliveries_in
from tests.simulation.node import decoded_tx
from tests.simulation.people import decided
from tests.simulation.rules import Rule, Violation
from tests.simulation.world import ADDRESS, CHAIN_ID, KEY, QUIET_EPOCHS, World
from tests.stored_events import stored_events

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
    waiting = world.chain.pool.get(KEY.address, {})
    # Of what a deleted database had sent nobody knows: behind a nonce that was lost it may wait for ever.
    may_stay = world.plan.counts["database deleted"] and used not in waiting
    if used < known or (waiting and not may_stay):
        found.append(f"nonce {used} of {known} waits")
    return found


def come_to_rest(world: World) -> None:
    """Let good epochs pass until all is done. Violation when it never is."""
    world.plan.on = False
    world.skip = frozenset()
    world.skip_passed_epochs()
    for _ in range(QUIET_EPOCHS):
        if world.quiet_epoch() and not unfinished(world):
            return
        if not world.people.open_slots(world.chain.tip.state):  # what is left is to become final
            for _ in range(world.config.chain.finality_depth):
                world.mine()
    raise Violation(Rule.AT_REST, "; ".join(unfinished(world) or ["the loops have work for ever"]))


def check_jobs(world: World) -> dict[bytes, tuple[Any, ...]]:
    """Each job of a canonical request has what the chain holds, which is what was decided for it. All are FINAL."""
    found, state, there = all_jobs(world), world.chain.tip.state, requested(world)
    ended = {}
    for request_hash, id_ in there.items():
        slot, job = state.slots[id_], found[request_hash]
        said = job.request.id, job.chain_state
        _must(said == (id_, slot.state), Rule.MIRRORED, f"job {said}, chain {(id_, slot.state)}")
        outcome = decided(request_hash) if slot.state in SETTLED else None
        if outcome is not None:
            _must(slot.digest == result_digest(request_hash, outcome.hash), Rule.RESULT, f"request {id_}")
            _must(job.outcome == outcome, Rule.OUTCOME, f"job {id_}")
        where = job.settled_block_number, job.settled_block_hash, job.settled_tx
        for block_hash in (job.settled_block_hash, job.block_hash):
            block = world.chain.blocks.get(block_hash or b"")
            _must(block is not None and world.chain.is_canonical(block), Rule.PLACE, f"job {id_}")
        ended[request_hash] = (job.chain_state, job.block_hash, job.cancel_marked, where, outcome)
    for request_hash, job in found.items():
        is_right = request_hash in there or job.state is JobState.ORPHANED
        _must(is_right, Rule.ORPHANED, f"job {request_hash.hex()[:8]} is {job.state.value}")
    return ended


def check_effects(world: World) -> None:
    """One end a request, every delivery fee earned once, and nothing paid for twice."""
    endings: Counter[bytes] = Counter()
    fees = {}
    for block in world.chain.branch():
        for _, log in block.logs:
            kind = TOPICS.get(log.topics[0])
            if kind in (Kind.SETTLED, Kind.EXPIRED, Kind.CANCELLED):
                endings[log.topics[2]] += 1
            if kind is Kind.SETTLED and KEY.address[2:].lower() in log.data[:64].hex():
                fees[log.topics[2]] = world.people.orders[log.topics[2]].delivery_fee
    _must(set(endings.values()) <= {1}, Rule.ONE_END, f"{endings}")
    earned = world.chain.tip.state.credits.get(KEY.address.lower(), 0)
    _must(earned == sum(fees.values()), Rule.FEES, f"the relayer earned {earned}, its results are worth {fees}")
    # A database that is lost takes the knowledge of what was sent with it, and so does a state that is too old.
    may_pay_twice = world.plan.counts["database deleted"] or world.plan.counts["state is older"]
    if not may_pay_twice:
        twice = [(id_.hex()[:8], count) for id_, count in _deliveries(world).items() if count > 1]
        _must(not twice, Rule.PAID_ONCE, f"{twice}")


def _deliveries(world: World) -> Counter[bytes]:
    """Request hash -> how many of our transactions that succeeded brought its result, needed or not."""
    found: Counter[bytes] = Counter()
    ours = [(b, tx) for b in world.chain.branch() for tx in b.txs if tx.sender == KEY.address and b.statuses[tx.hash]]
    for block, tx in ours:
        passed_over = {log.topics[1] for tx_hash, log in block.logs if tx_hash == tx.hash and log.topics[0] == SKIPPED}
        for id_, _, _, attestations in deliveries_in(tx.data):
            if id_.to_bytes(32, "big") not in passed_over:
                found[attestations[0][0]] += 1  # see people.delivery
    return found


def check_mirror(world: World) -> None:
    """The stored events are those of the canonical chain; the window is linked and ends where the cursor stands."""
    with reading(world.engine) as connection:
        rows = [(event.block_hash, event.tx_hash, event.kind) for event in stored_events(connection)]
        cursor, window = load_cursor(connection, Scope(CHAIN_ID, ADDRESS)), load_window(connection)
    there = Counter(
        (block.hash, tx_hash, TOPICS[log.topics[0]].value)
        for block in world.chain.branch()
        for tx_hash, log in block.logs
        if log.topics[0] in TOPICS and block.number <= world.chain.head.number
    )
    _must(Counter(rows) == there, Rule.EVENTS, f"{len(rows)} stored, {there.total()} there")
    is_right = cursor is not None and is_linked(window) and window[-1].hash == world.chain.head.hash
    _must(is_right, Rule.WINDOW, f"{[(block.number, block.hash.hex()[:8]) for block in window]}")


def check_nonces(world: World) -> None:
    """No nonce carries two different calls."""
    with reading(world.engine) as connection:
        rows = connection.execute(select(transactions.c.nonce, transactions.c.raw)).all()
    calls = defaultdict(set)
    for row in rows:
        data = decoded_tx(row.raw).data
        if data:
            calls[row.nonce].add(data)
    _must(all(len(data) == 1 for data in calls.values()), Rule.NONCES, f"{[n for n in calls if len(calls[n]) > 1]}")


def _must(holds: bool, rule: Rule, detail: str) -> None:
    if not holds:
        raise Violation(rule, detail)
