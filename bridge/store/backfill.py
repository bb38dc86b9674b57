"""Storing many final events at once: the same rows as `bridge.store.chain` makes of them, in a few statements.

Where all events of a request lie in one range of final blocks, its rows are written as they will stay; most need none
beside the job's, from which their logs follow (`bridge.store.chain.logs_of`). Any other event
(a result whose request came in an earlier range, two of a kind, two endings) goes the usual way, event by event.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

from sqlalchemy import Connection, Table, func, select, update

from bridge.chain.bulk import Found, Order, Result
from bridge.chain.events import Event, Kind, decode_log
from bridge.jobs import JobState
from bridge.store.chain import Scope, add_events, finalise, mirror
from bridge.store.schema import cursors, events, jobs
from executor.protocol.wire import OnChainState

_BATCH = 500  # values in one IN (...)
_PARAMETERS = 32_000  # of one INSERT; SQLite takes 32 766, PostgreSQL more
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
    "settled_relayer",
    "cancel_marked",
    "callback_ok",
)
#: of a request whose row holds its two logs and nothing else: the columns that are the same in every row, and the rest
_FOLDED_CONSTANTS = {
    "state": f"'{JobState.FINAL.value}'",
    "reason": "0",
    "detail": "''",
    "cancel_marked": "false",
    "callback_ok": "NULL",
}
_FOLDED_COLUMNS = tuple(name for name in _JOB_COLUMNS if name not in _FOLDED_CONSTANTS)
_REQUESTED, _SETTLED, _CALLBACK = Kind.REQUESTED, Kind.SETTLED, Kind.CALLBACK  # found faster than in their class
_NAMES = {kind: kind.value for kind in Kind}
_OBSERVED, _FINAL = JobState.OBSERVED.value, JobState.FINAL.value
_STATE = _JOB_COLUMNS.index("state")
_FOLDED = frozenset((Kind.REQUESTED, Kind.SETTLED))  # what a job's row can hold
_NO_RESULT = Result(OnChainState.REQUESTED, None)
_UNSETTLED: tuple[Any, ...] = (None, None, None)  # transaction, block number, block hash
Story = list[Found]  # the events of one request
_Row = tuple[Any, ...]


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
    folded, unfolded = _folded(whole)
    of_jobs, of_events = _rows(scope, unfolded, now)
    _insert_folded(connection, scope, folded, now)
    _insert(connection, jobs, _JOB_COLUMNS, of_jobs)
    _insert(connection, events, _EVENT_COLUMNS, of_events)
    final = len(folded) + sum([row[_STATE] == _FINAL for row in of_jobs])
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
        if event.kind is _REQUESTED and event.request_hash is not None:
            if event.request_hash in stories or event.request_id in hash_of:
                odd |= {event.request_hash, hash_of.get(event.request_id, event.request_hash)}
            hash_of[event.request_id] = event.request_hash
            stories[event.request_hash] = [event]
    others: list[Found] = []
    for event in found:
        if event.kind is _REQUESTED:
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
    if len(story) == 2:  # most are
        return story[1].kind is not _REQUESTED
    kinds = {event.kind for event in story}
    return len(kinds) == len(story) and len(kinds & _ENDINGS) <= 1


def _known(connection: Connection, stories: dict[bytes, Story]) -> set[bytes]:
    """The requests of which something is stored already; and those with a callback whose id another request has."""
    known: set[bytes] = set(_stored(connection, events, "request_hash", list(stories)))
    newest = connection.scalar(select(func.max(jobs.c.request_id))) or 0
    old = {s[0].request_id: request_hash for request_hash, s in stories.items() if s[0].request_id <= newest}
    if not old:  # the contract counts its requests: all of these come after all that is stored
        return known
    known.update(_stored(connection, jobs, "request_hash", list(old.values())))
    called = [i for i, h in old.items() if any(event.kind is Kind.CALLBACK for event in stories[h])]
    known.update(old[request_id] for request_id in _stored(connection, jobs, "request_id", called))
    return known


def _stored(connection: Connection, table: Table, column: str, values: Sequence[Any]) -> Iterable[Any]:
    """Which of these values stand in a column; straight to the driver, as in `_insert`."""
    mark = _mark(connection)
    for start in range(0, len(values), _BATCH):
        part = tuple([bytearray(v) if isinstance(v, bytes) else v for v in values[start : start + _BATCH]])
        marks = ", ".join([mark] * len(part))
        query = f"SELECT {column} FROM {table.name} WHERE {column} IN ({marks})"  # noqa: S608 - our names
        for (value,) in connection.exec_driver_sql(query, part):
            yield value


def _decoded(found: Iterable[Found], chain_id: int) -> list[Event]:
    """The events as `bridge.store.chain` takes them; each of these logs was decoded before."""
    decoded = (decode_log(event.log, chain_id) for event in found)
    return [event for event in decoded if event is not None]


def _folded(stories: dict[bytes, Story]) -> tuple[list[Story], dict[bytes, Story]]:
    """Those that consist of a request and its result in their usual form, as most do; and the others."""
    folded, others = [], {}
    for request_hash, story in stories.items():
        if len(story) == 2 and story[0].rest is not None and story[1].rest is not None:
            folded.append(story)
        else:
            others[request_hash] = story
    return folded, others


def _rows(scope: Scope, stories: dict[bytes, Story], now: float) -> tuple[list[_Row], list[_Row]]:
    """Rows of jobs; and of those events that are in no job's row."""
    of_jobs, of_events = [], []
    for request_hash, story in stories.items():
        relayer = _relayer(story)
        of_jobs.append(_job_row(scope, request_hash, story, relayer, now))
        rest = story if relayer is None else [event for event in story if event.kind not in _FOLDED]
        of_events += [_event_row(request_hash, event) for event in rest]
    return of_jobs, of_events


def _relayer(story: Story) -> bytes | None:
    """Who relayed the result, where the job's row can hold request and result: both have their usual form."""
    if story[0].rest is not None:
        for event in story[1:]:
            if event.kind is _SETTLED:
                return event.rest
    return None


def _event_row(request_hash: bytes, event: Found) -> _Row:
    log = event.log
    topics = '["' + '", "'.join([topic.hex() for topic in log.topics]) + '"]'
    names = log.block_hash, log.tx_hash, _NAMES[event.kind], request_hash
    return *names, log.block_number, event.request_id, log.data, topics


def _job_row(scope: Scope, request_hash: bytes, story: Story, relayer: bytes | None, now: float) -> _Row:
    requested = story[0]
    order, log = requested.fact, requested.log
    if not isinstance(order, Order):  # pragma: no cover - a story begins with its request
        raise TypeError(requested.kind)
    result, settled, marked, called = _NO_RESULT, _UNSETTLED, False, None
    for event in story[1:]:
        if event.kind in _ENDINGS:
            result = event.fact if isinstance(event.fact, Result) else _NO_RESULT
            settled = event.log.tx_hash, event.log.block_number, event.log.block_hash
        elif event.kind is _CALLBACK:
            called = event.fact
        else:
            marked = True
    return (
        request_hash,
        scope.chain_id,
        scope.contract,
        requested.request_id,
        order.requester,
        order.deadline,
        order.encoded,
        order.spec,
        _OBSERVED if settled is _UNSETTLED else _FINAL,
        0,
        "",
        log.block_number,
        log.block_hash,
        log.tx_hash,
        now,
        now,
        result.outcome,
        result.state.value,
        *settled,
        relayer,
        marked,
        called,
    )


def _insert_folded(connection: Connection, scope: Scope, stories: Sequence[Story], now: float) -> None:
    """Insert the rows of requests that hold their logs.

    Bytes go to SQLite's driver as bytearrays, which it takes as they are: with `bytes` (and None) it looks first for
    somebody who would convert them, which takes three times as long as all the rest.
    """
    columns = (*_FOLDED_COLUMNS, *_FOLDED_CONSTANTS)
    marks = "(" + ", ".join([*[_mark(connection)] * len(_FOLDED_COLUMNS), *_FOLDED_CONSTANTS.values()]) + ")"
    size = _PARAMETERS // len(_FOLDED_COLUMNS)
    for start in range(0, len(stories), size):
        part = stories[start : start + size]
        values: list[Any] = []
        for requested, settled in part:
            values += _folded_row(scope, requested, settled, now)
        _execute_insert(connection, jobs, columns, [marks] * len(part), values)


def _folded_row(scope: Scope, requested: Found, settled: Found, now: float) -> _Row:
    order, result, asked, ended = requested.fact, settled.fact, requested.log, settled.log
    if not isinstance(order, Order) or not isinstance(result, Result):  # pragma: no cover - as `_folded` found them
        raise TypeError(requested.kind)
    return (
        bytearray(requested.request_hash or b""),
        scope.chain_id,
        scope.contract,
        requested.request_id,
        order.requester,
        order.deadline,
        bytearray(order.encoded),
        None if order.spec is None else bytearray(order.spec),
        asked.block_number,
        bytearray(asked.block_hash),
        bytearray(asked.tx_hash),
        now,
        now,
        bytearray(result.outcome or b""),
        int(result.state),
        bytearray(ended.tx_hash),
        ended.block_number,
        bytearray(ended.block_hash),
        bytearray(settled.rest or b""),
    )


def _insert(connection: Connection, table: Table, names: Sequence[str], rows: Sequence[_Row]) -> None:
    """Many rows in each statement, straight to the driver: what SQLAlchemy does for each value is most of the time.

    While SQLite works on a statement the thread that reads the next range goes on. With a statement for each row it
    would be woken and stopped again thousands of times a second.
    """
    marks = "(" + ", ".join([_mark(connection)] * len(names)) + ")"
    size = _PARAMETERS // len(names)
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        _execute_insert(connection, table, names, [marks] * len(part), chain.from_iterable(part))


def _execute_insert(
    connection: Connection, table: Table, names: Sequence[str], marks: Sequence[str], values: Iterable[Any]
) -> None:
    statement = f"INSERT INTO {table.name} ({', '.join(names)}) VALUES {', '.join(marks)}"  # noqa: S608 - our names
    connection.exec_driver_sql(statement, tuple(values))


def _mark(connection: Connection) -> str:
    """What stands for a parameter in this driver's statements."""
    return "?" if connection.dialect.paramstyle == "qmark" else "%s"
