"""Storing many final events at once: the same rows as `bridge.store.chain` makes of them, in a few statements.

Where all events of a request lie in one range of final blocks, its rows are written as they will stay. Any other event
(a result whose request came in an earlier range, two of a kind, two endings) goes the usual way, event by event.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Column, Connection, Table, select, update

from bridge.chain.bulk import Found, Order, Result
from bridge.chain.events import Event, Kind, decode_log
from bridge.jobs import JobState
from bridge.store.chain import Scope, add_events, finalise, mirror
from bridge.store.schema import cursors, events, jobs, literally
from executor.protocol.wire import OnChainState

_BATCH = 500  # values in one IN (...)
_ENDINGS = frozenset((Kind.SETTLED, Kind.EXPIRED, Kind.CANCELLED))
_EVENT_COLUMNS = ("block_hash", "tx_hash", "kind", "request_hash", "block_number", "request_id", "data", "topics")
_JOB_COLUMNS = (
    "request_hash",
    "chain_id",
    "contract",
    "request_id",
    "requester",
    "deadline",
    "order_bytes",
    "spec",
    "state",
    "reason",
    "detail",
    "block_number",
    "block_hash",
    "tx_hash",
    "observed_at",
    "changed_at",
    "outcome",
    "chain_state",
    "settled_tx",
    "settled_block_number",
    "settled_block_hash",
    "cancel_marked",
    "callback_ok",
)
Story = list[Found]  # the events of one request


def add_final(
    connection: Connection,
    scope: Scope,
    found: Sequence[Found],
    final_number: int,
    now: float,
    touched: Iterable[bytes] = (),
) -> int:
    """Store the events of final blocks and what they make of the jobs; how many requests had new ones.

    touched: requests of which events were taken away before; they are looked at again with the others.
    """
    whole, others = _stories(connection, found)
    _insert(connection, events, _EVENT_COLUMNS, (_event_row(h, event) for h, story in whole.items() for event in story))
    rows = [_job_row(scope, request_hash, story, now) for request_hash, story in whole.items()]
    _insert(connection, jobs, _JOB_COLUMNS, rows)
    final = sum(any(event.kind in _ENDINGS for event in story) for story in whole.values())
    if final:
        connection.execute(update(cursors).values(final_jobs=cursors.c.final_jobs + final))
    added = add_events(connection, _decoded(others, scope.chain_id))
    for request_hash in sorted(added | set(touched)):
        mirror(connection, scope, request_hash, now)
    finalise(connection, final_number, now)
    return len(whole) + len(added)


def _stories(connection: Connection, found: Sequence[Found]) -> tuple[dict[bytes, Story], list[Found]]:
    """The requests that can be written as they will stay, with their events; and all other events."""
    hash_of: dict[int, bytes] = {}
    stories: dict[bytes, Story] = {}
    odd: set[bytes] = set()
    for event in found:
        if event.kind is Kind.REQUESTED and event.request_hash is not None:
            if event.request_hash in stories or event.request_id in hash_of:
                odd |= {event.request_hash, hash_of.get(event.request_id, event.request_hash)}
            hash_of[event.request_id] = event.request_hash
            stories[event.request_hash] = [event]
    others: list[Found] = []
    for event in found:
        if event.kind is Kind.REQUESTED:
            continue
        request_hash = hash_of.get(event.request_id) if event.request_hash is None else event.request_hash
        story = None if request_hash is None else stories.get(request_hash)
        if story is None or request_hash is None:
            others.append(event)
            continue
        if event.log.block_number < story[0].log.block_number or event.request_id != story[0].request_id:
            odd.add(request_hash)
        story.append(event)
    odd |= {request_hash for request_hash, story in stories.items() if len(story) > 1 and not _is_simple(story)}
    odd |= _known(connection, stories)
    whole = {request_hash: story for request_hash, story in stories.items() if request_hash not in odd}
    if odd:
        taken = {id(event) for story in whole.values() for event in story}
        others = [event for event in found if id(event) not in taken]
    return whole, others


def _is_simple(story: Story) -> bool:
    """Whether there is at most one event of each kind, and at most one ending."""
    kinds = {event.kind for event in story}
    return len(kinds) == len(story) and len(kinds & _ENDINGS) <= 1


def _known(connection: Connection, stories: dict[bytes, Story]) -> set[bytes]:
    """The requests of which something is stored already; and those with a callback whose id another request has."""
    known: set[bytes] = set()
    for hashes in _batches(list(stories)):
        for column in (jobs.c.request_hash, events.c.request_hash):
            known |= set(connection.scalars(select(column).where(column.in_(hashes))))
    called = {s[0].request_id: h for h, s in stories.items() if any(event.kind is Kind.CALLBACK for event in s)}
    for ids in _batches(list(called)):
        query = select(events.c.request_id).where(
            events.c.kind == literally(Kind.REQUESTED.value), events.c.request_id.in_(ids)
        )
        known |= {called[request_id] for request_id in connection.scalars(query)}
    return known


def _decoded(found: Iterable[Found], chain_id: int) -> list[Event]:
    """The events as `bridge.store.chain` takes them; each of these logs was decoded before."""
    decoded = (decode_log(event.log, chain_id) for event in found)
    return [event for event in decoded if event is not None]


def _event_row(request_hash: bytes, event: Found) -> tuple[Any, ...]:
    log = event.log
    topics = '["' + '", "'.join([topic.hex() for topic in log.topics]) + '"]'
    return (
        log.block_hash,
        log.tx_hash,
        event.kind.value,
        request_hash,
        log.block_number,
        event.request_id,
        log.data,
        topics,
    )


def _job_row(scope: Scope, request_hash: bytes, story: Story, now: float) -> tuple[Any, ...]:
    requested = story[0]
    order = requested.fact
    if not isinstance(order, Order):  # pragma: no cover - a story begins with its request
        raise TypeError(requested.kind)
    ending = next((event for event in story if event.kind in _ENDINGS), None)
    result = ending.fact if ending is not None and isinstance(ending.fact, Result) else None
    log = requested.log
    return (
        request_hash,
        scope.chain_id,
        scope.contract,
        requested.request_id,
        order.requester,
        order.deadline,
        order.encoded,
        order.spec,
        (JobState.OBSERVED if ending is None else JobState.FINAL).value,
        0,
        "",
        log.block_number,
        log.block_hash,
        log.tx_hash,
        now,
        now,
        None if result is None else result.outcome,
        int(OnChainState.REQUESTED if result is None else result.state),
        None if ending is None else ending.log.tx_hash,
        None if ending is None else ending.log.block_number,
        None if ending is None else ending.log.block_hash,
        any(event.kind is Kind.CANCEL_REQUESTED for event in story),
        next((event.fact for event in story if event.kind is Kind.CALLBACK), None),
    )


def _insert(connection: Connection, table: Table, names: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> None:
    """One statement for all rows, straight to the driver: what SQLAlchemy does for each value is most of the time."""
    values = list(rows)
    if not values:
        return
    columns: list[Column[Any]] = [table.c[name] for name in names]
    mark = "?" if connection.dialect.paramstyle == "qmark" else "%s"
    marks = ", ".join([mark] * len(columns))
    listed = ", ".join(column.name for column in columns)
    connection.exec_driver_sql(f"INSERT INTO {table.name} ({listed}) VALUES ({marks})", values)  # noqa: S608 - our names


def _batches(values: Sequence[Any]) -> Iterable[Sequence[Any]]:
    for start in range(0, len(values), _BATCH):
        yield values[start : start + _BATCH]
