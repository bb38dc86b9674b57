"""The chain as the database mirrors it: cursor, window, events, and what they make of the jobs.

Everything here runs inside one transaction of the listener. A request's job is derived from its canonical events as a
whole (`bridge.chain.events.facts_of`), so the order in which blocks come and go makes no difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, func, insert, select, update

from bridge.chain.bulk import Order, Result, log_of_request, log_of_result
from bridge.chain.contracts import fulfilled_outcome
from bridge.chain.cursor import Window
from bridge.chain.events import (
    KIND_OF,
    CallbackResult,
    Ending,
    Event,
    Facts,
    JobCancelled,
    JobExpired,
    JobRequested,
    JobSettled,
    Kind,
    decode_log,
    facts_of,
)
from bridge.chain.shapes import Block, Log
from bridge.errors import StaleTransition
from bridge.jobs import JobState
from bridge.store.jobs import Job, get_job, move_job
from bridge.store.outbox import Delivery, SendState, find, forget_receipts, revive
from bridge.store.schema import blocks, cursors, events, jobs, literally
from executor.protocol.wire import OnChainState

_BATCH = 500  # values in one IN (...)
_ENDED = {JobSettled: JobState.POSTED, JobExpired: JobState.EXPIRED, JobCancelled: JobState.CANCELLED}
_ENDINGS = frozenset(_ENDED.values())
_DELIVERY = {JobState.POSTED: Delivery.FULFIL, JobState.EXPIRED: Delivery.EXPIRE, JobState.CANCELLED: Delivery.DRAW}
# Statements of every step are made once: making one costs more than running it.
_CURSOR = select(cursors).where(
    cursors.c.chain_id == bindparam("chain_id"), cursors.c.contract == bindparam("contract")
)
_WINDOW = select(blocks).order_by(blocks.c.number)
_DEEP = select(jobs.c.request_hash).where(
    jobs.c.state == JobState.OBSERVED.value, jobs.c.block_number <= bindparam("limit")
)
_SETTLED = select(jobs.c.request_hash, jobs.c.state).where(
    jobs.c.state.in_([state.value for state in _ENDINGS]), jobs.c.settled_block_number <= bindparam("final")
)
_CALLBACK = Kind.CALLBACK.value
_EVENTS = select(events).where(events.c.request_hash == bindparam("request_hash"), events.c.kind != _CALLBACK)
_FOLDED = select(jobs).where(jobs.c.request_hash == bindparam("request_hash"), jobs.c.settled_relayer.is_not(None))
_FOLDED_OF_ID = select(jobs.c.block_number, jobs.c.request_hash).where(
    jobs.c.request_id == bindparam("request_id"), jobs.c.settled_relayer.is_not(None)
)
_HASH_OF_ID = select(events.c.block_number, events.c.request_hash).where(
    events.c.kind == literally(Kind.REQUESTED.value), events.c.request_id == bindparam("request_id")
)
_LAST_CALLBACK = (
    select(events)
    .where(events.c.request_hash == bindparam("request_hash"), events.c.kind == _CALLBACK)
    .order_by(events.c.block_number.desc(), events.c.data.desc())
    .limit(1)
)
_SAME_EVENT = select(events.c.data).where(
    *(events.c[name] == bindparam(name) for name in ("block_hash", "tx_hash", "kind", "request_hash"))
)
_NOT_SETTLED = {"settled_tx": None, "settled_block_number": None, "settled_block_hash": None}
#: a request that is open again: what was agreed on is found again from its slots, whose answers are kept
_REOPENED: dict[str, Any] = {
    "chain_state": OnChainState.REQUESTED,
    "outcome": None,
    "agreed_at": None,
    "published_at": None,
    **_NOT_SETTLED,
}


@dataclass(frozen=True)
class Scope:
    """Which contract on which chain."""

    chain_id: int
    contract: str


@dataclass(frozen=True)
class Cursor:
    """Where the listener stands. `scanned` is the window's tip; nothing up to `final` is ever read again."""

    genesis_hash: bytes
    scanned_number: int
    scanned_hash: bytes
    final_number: int
    final_hash: bytes


def load_cursor(connection: Connection, scope: Scope) -> Cursor | None:
    """The cursor; None before the first start."""
    row = connection.execute(_CURSOR, vars(scope)).one_or_none()
    if row is None:
        return None
    return Cursor(row.genesis_hash, row.scanned_number, row.scanned_hash, row.final_number, row.final_hash)


def load_window(connection: Connection) -> Window:
    """The window's blocks, oldest first."""
    rows = connection.execute(_WINDOW)
    return tuple(Block(row.number, row.hash, row.parent_hash, row.timestamp) for row in rows)


def create_cursor(connection: Connection, scope: Scope, cursor: Cursor, anchor: Block, now: float) -> None:
    """The first cursor, with a window of one block."""
    connection.execute(insert(cursors).values(**_cursor_values(cursor, now), **vars(scope)))
    insert_blocks(connection, (anchor,))


def save_cursor(connection: Connection, scope: Scope, before: Cursor, after: Cursor, now: float) -> None:
    """Move the cursor. StaleTransition when somebody else moved it: two listeners run on one database."""
    same = (cursors.c.scanned_hash == before.scanned_hash, cursors.c.final_hash == before.final_hash)
    result = connection.execute(update(cursors).where(*_of(scope), *same).values(**_cursor_values(after, now)))
    if result.rowcount != 1:
        raise StaleTransition("another listener moved the cursor")


def insert_blocks(connection: Connection, added: Iterable[Block]) -> None:
    """Add blocks to the window."""
    rows = [vars(block) for block in added]
    if rows:
        connection.execute(insert(blocks), rows)


def delete_blocks(connection: Connection, removed: Iterable[Block]) -> set[bytes]:
    """Take blocks out of the chain, with their events; the request hashes that these were about."""
    touched: set[bytes] = set()
    for hashes in _batches([block.hash for block in removed]):
        gone = events.c.block_hash.in_(hashes)
        touched |= {row.request_hash for row in connection.execute(select(events.c.request_hash).where(gone))}
        connection.execute(delete(events).where(gone))
        connection.execute(delete(blocks).where(blocks.c.hash.in_(hashes)))
    return touched


def prune_blocks(connection: Connection, below: int) -> None:
    """Forget the window's blocks below a number; their events stay."""
    connection.execute(delete(blocks).where(blocks.c.number < below))


def add_events(connection: Connection, found: Sequence[Event]) -> set[bytes]:
    """Store events that are not stored yet; the request hashes that the new ones are about."""
    touched: set[bytes] = set()
    for event in sorted(found, key=lambda e: (e.log.block_number, not isinstance(e, JobRequested))):
        request_hash = _request_hash(connection, event)
        if request_hash is not None and _add_event(connection, event, request_hash):
            touched.add(request_hash)
    return touched


def mirror(connection: Connection, scope: Scope, request_hash: bytes, now: float) -> None:
    """Bring the job of a request to what its canonical events say."""
    facts = facts_of(_events_of(connection, scope, request_hash))
    job = get_job(connection, request_hash)
    if facts.requested is None:
        if job is not None and job.state not in (JobState.ORPHANED, JobState.FINAL):
            values = {"chain_state": OnChainState.UNKNOWN, "cancel_marked": False, "callback_ok": None, **_NOT_SETTLED}
            move_job(connection, request_hash, job.state, JobState.ORPHANED, now, **values)
        return
    state = _place(connection, job, facts.requested, now)
    _settle(connection, request_hash, state, facts, now)
    marks = {"cancel_marked": facts.cancel_marked, "callback_ok": facts.callback_ok}
    connection.execute(update(jobs).where(jobs.c.request_hash == request_hash).values(**marks))


def promote(connection: Connection, tip: int, depth: int, now: float) -> int:
    """OBSERVED -> READY for requests at least `depth` below the tip; how many."""
    rows = connection.execute(_DEEP, {"limit": tip - depth}).all()
    for row in rows:
        move_job(connection, row.request_hash, JobState.OBSERVED, JobState.READY, now)
    return len(rows)


def finalise(connection: Connection, final_number: int, now: float) -> int:
    """POSTED, EXPIRED, CANCELLED -> FINAL where the ending's block is final; how many."""
    rows = connection.execute(_SETTLED, {"final": final_number}).all()
    for row in rows:
        move_job(connection, row.request_hash, JobState(row.state), JobState.FINAL, now)
    if rows:
        connection.execute(update(cursors).values(final_jobs=cursors.c.final_jobs + len(rows)))
    return len(rows)


# -- one request --------------------------------------------------------------------------------------------------


def _place(connection: Connection, job: Job | None, requested: JobRequested, now: float) -> JobState:
    log = requested.log
    where = {
        "block_number": log.block_number,
        "block_hash": log.block_hash,
        "tx_hash": log.tx_hash,
        "deadline": requested.request.deadline,  # counted from the block's time
    }
    if job is None:
        _insert_job(connection, requested, where, now)
        return JobState.OBSERVED
    if job.state in (JobState.ORPHANED, JobState.READY) and (job.state, job.block_hash) != (
        JobState.READY,
        log.block_hash,
    ):
        opened = _REOPENED if job.state is JobState.ORPHANED else {}
        move_job(connection, job.request_hash, job.state, JobState.OBSERVED, now, **where, **opened)
        return JobState.OBSERVED
    if job.block_hash != log.block_hash and job.state is not JobState.FINAL:
        # It runs on: what it computes is the same, and posting waits for the new block's depth.
        connection.execute(update(jobs).where(jobs.c.request_hash == job.request_hash).values(**where))
    return job.state


def _insert_job(connection: Connection, requested: JobRequested, where: dict[str, Any], now: float) -> None:
    request = requested.request
    connection.execute(
        insert(jobs).values(
            request_hash=requested.request_hash,
            chain_id=request.chain_id,
            contract=request.contract,
            request_id=request.id,
            requester=request.requester,
            order_bytes=request.order.encode(),
            spec=None if request.order.spec_is_cid else request.order.spec,
            state=JobState.OBSERVED.value,
            observed_at=now,
            changed_at=now,
            chain_state=OnChainState.REQUESTED,
            **where,
        )
    )


def _settle(connection: Connection, request_hash: bytes, state: JobState, facts: Facts, now: float) -> None:
    ending = facts.ending
    if state is JobState.FINAL:
        return
    if ending is None:
        if state in _ENDINGS:
            _reopen(connection, request_hash, state, now)
        return
    target = _ENDED[type(ending)]
    values = _settled_values(ending)
    if state is target:
        _forget_receipts(connection, request_hash, state, ending, now)
        connection.execute(update(jobs).where(jobs.c.request_hash == request_hash).values(**values))
        return
    if state in _ENDINGS:
        move_job(connection, request_hash, state, JobState.OBSERVED, now)
        state = JobState.OBSERVED
    move_job(connection, request_hash, state, target, now, **values)


def _forget_receipts(connection: Connection, request_hash: bytes, state: JobState, ending: Ending, now: float) -> None:
    """An ending that moved to another block: the relayer's receipts are of a block that left the chain."""
    job, delivery = get_job(connection, request_hash), find(connection, request_hash, _DELIVERY[state])
    has_moved = job is not None and job.settled_block_hash != ending.log.block_hash
    if has_moved and delivery is not None and delivery.state is SendState.DONE:
        forget_receipts(connection, delivery, now)


def _settled_values(ending: Ending) -> dict[str, Any]:
    values: dict[str, Any] = {
        "settled_tx": ending.log.tx_hash,
        "settled_block_number": ending.log.block_number,
        "settled_block_hash": ending.log.block_hash,
    }
    match ending:
        case JobSettled():
            return values | {"chain_state": ending.state, "outcome": ending.outcome.encode()}
        case JobExpired():
            return values | {"chain_state": OnChainState.EXPIRED}
        case JobCancelled():
            return values | {"chain_state": OnChainState.CANCELLED}


def _reopen(connection: Connection, request_hash: bytes, state: JobState, now: float) -> None:
    """The ending left the chain. Ours is sent again; anybody else's leaves the job to the dispatcher."""
    kind = _DELIVERY[state]
    ours = find(connection, request_hash, kind)
    if ours is not None and state is JobState.POSTED:
        outcome = fulfilled_outcome(ours.calldata).encode()
        move_job(connection, request_hash, state, JobState.POSTING, now, **(_REOPENED | {"outcome": outcome}))
    else:
        move_job(connection, request_hash, state, JobState.OBSERVED, now, **_REOPENED)
    revive(connection, request_hash, kind, now)


# -- events -------------------------------------------------------------------------------------------------------


def _events_of(connection: Connection, scope: Scope, request_hash: bytes) -> list[Event]:
    found = []
    for log in logs_of(connection, scope, request_hash):
        event = decode_log(log, scope.chain_id)
        if event is not None:
            found.append(event)
    return found


def logs_of(connection: Connection, scope: Scope, request_hash: bytes) -> list[Log]:
    """The canonical logs that are about a request, as the chain gave them; of its callbacks, which anybody can have
    retried without end, only the last.

    One that succeeded is not retried, so in its block it is the last; its data sorts above that of one that failed.
    """
    of_request = {"request_hash": request_hash}
    found = []
    for row in (*connection.execute(_EVENTS, of_request), *connection.execute(_LAST_CALLBACK, of_request)):
        topics = tuple(bytes.fromhex(topic) for topic in row.topics)
        found.append(Log(scope.contract, topics, row.data, row.block_number, row.block_hash, row.tx_hash))
    folded = connection.execute(_FOLDED, of_request).one_or_none()
    return found if folded is None else [*_unfolded(scope, folded), *found]


def _unfolded(scope: Scope, job: Row[Any]) -> tuple[Log, Log]:
    """The logs that a job's row holds (`bridge.store.backfill`)."""
    order = Order(job.requester, job.deadline, job.order_bytes, None)
    result = Result(OnChainState(job.chain_state), job.outcome)
    requested = log_of_request(job.request_id, job.request_hash, order)
    settled = log_of_result(job.request_id, job.request_hash, result, job.settled_relayer)
    return (
        Log(scope.contract, *requested, job.block_number, job.block_hash, job.tx_hash),
        Log(scope.contract, *settled, job.settled_block_number, job.settled_block_hash, job.settled_tx),
    )


def _is_folded(connection: Connection, event: Event, request_hash: bytes) -> bool:
    """Whether the row of a job holds this event."""
    if not isinstance(event, JobRequested | JobSettled):
        return False
    job = connection.execute(_FOLDED, {"request_hash": request_hash}).one_or_none()
    if job is None:
        return False
    requested, settled = (job.block_hash, job.tx_hash), (job.settled_block_hash, job.settled_tx)
    return (event.log.block_hash, event.log.tx_hash) == (requested if isinstance(event, JobRequested) else settled)


def _request_hash(connection: Connection, event: Event) -> bytes | None:
    """The request an event is about; a callback's log has only the id, which the stored requests resolve.

    Of several with one id, which no sound contract has, the first in the chain: wherever their logs are stored.
    """
    if not isinstance(event, CallbackResult):
        return event.request_hash
    of_id = {"request_id": event.request_id}
    found = (*connection.execute(_HASH_OF_ID, of_id), *connection.execute(_FOLDED_OF_ID, of_id))
    return min(((row.block_number, bytes(row.request_hash)) for row in found), default=(0, None))[1]


def _add_event(connection: Connection, event: Event, request_hash: bytes) -> bool:
    log = event.log
    key = {
        "block_hash": log.block_hash,
        "tx_hash": log.tx_hash,
        "kind": KIND_OF[type(event)].value,
        "request_hash": request_hash,
    }
    known = connection.execute(_SAME_EVENT, key).one_or_none()
    if _is_folded(connection, event, request_hash) or (known is not None and known.data == log.data):
        return False
    if known is not None:  # two of a kind in one transaction, as a retried callback may be: the later one counts
        same = [events.c[name] == value for name, value in key.items()]
        connection.execute(update(events).where(*same).values(data=log.data))
        return True
    if isinstance(event, CallbackResult):
        _forget_callbacks(connection, request_hash)
    connection.execute(
        insert(events).values(
            **key,
            block_number=log.block_number,
            request_id=event.request_id,
            data=log.data,
            topics=[topic.hex() for topic in log.topics],
        )
    )
    return True


def _forget_callbacks(connection: Connection, request_hash: bytes) -> None:
    """Of a request's callbacks in final blocks only the last can still count."""
    mine = (events.c.request_hash == request_hash, events.c.kind == Kind.CALLBACK.value)
    final = select(func.min(blocks.c.number)).scalar_subquery()
    last = select(func.max(events.c.block_number)).where(*mine, events.c.block_number <= final)
    number = connection.execute(last).scalar_one_or_none()
    if number is not None:
        connection.execute(delete(events).where(*mine, events.c.block_number < number))


def _of(scope: Scope) -> tuple[Any, Any]:
    return cursors.c.chain_id == scope.chain_id, cursors.c.contract == scope.contract


def _cursor_values(cursor: Cursor, now: float) -> dict[str, Any]:
    return {**vars(cursor), "changed_at": now}


def _batches(values: Sequence[bytes]) -> Iterable[Sequence[bytes]]:
    for start in range(0, len(values), _BATCH):
        yield values[start : start + _BATCH]
