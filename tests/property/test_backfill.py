"""Both ways into the store leave the same database, over random histories: whole, cut into ranges, and hostile ones."""

import hashlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, select

from bridge.chain.bulk import harvest
from bridge.chain.events import TOPICS, Kind, decode_log
from bridge.chain.shapes import Log
from bridge.store.backfill import add_final
from bridge.store.chain import Scope, add_events, finalise, logs_of, mirror
from bridge.store.engine import open_engine, transaction
from bridge.store.schema import cursors, events, jobs, metadata
from executor.protocol.wire import Order, Outcome, Request
from tests.property.test_bulk import requested, settled

SCOPE = Scope(314, "0x5FbDB2315678afecb367f032d93F642f64180aa3")
ACCOUNT = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
TOPIC = {kind: topic for topic, kind in TOPICS.items()}
OUTCOMES = tuple(Outcome(status=status, payload=bytes([status])) for status in (1, 2, 3, 4))
#: (what happens, to which request, a variant, how many blocks later, to whom in the same transaction as before)
HAPPENINGS = st.lists(
    st.tuples(st.sampled_from(list(Kind)), st.integers(1, 4), st.integers(0, 3), st.integers(0, 2), st.booleans()),
    max_size=25,
)


def order_of(variant):
    spec_is_cid = variant == 3
    return Order(spec=b"spec %d" % variant, ttl=60, spec_is_cid=spec_is_cid)


def log_of(kind, ident, variant, number, tx):
    # Usually an id has one order; now and then another request claims the same id, which no sound contract does.
    order = order_of(variant if variant == 3 else 0)
    request = Request(chain_id=314, contract=SCOPE.contract, id=ident, requester=ACCOUNT, order=order, deadline=99)
    if kind is Kind.REQUESTED:
        log = requested(order, ACCOUNT, ident, 99)
    elif kind is Kind.SETTLED:
        outcome = OUTCOMES[variant]
        log = settled(outcome, ident, 1 + outcome.status, ACCOUNT)
        log = Log(log.address, (*log.topics[:2], request.hash, log.topics[3]), log.data, 0, b"", b"")
    else:
        ident_word = ident.to_bytes(32, "big")
        second = bytes(12) + bytes.fromhex(ACCOUNT[2:]) if kind is Kind.CALLBACK else request.hash
        data = (variant % 2).to_bytes(32, "big")
        if kind is Kind.CALLBACK:
            data += (64).to_bytes(32, "big") + bytes(32)
        log = Log(SCOPE.contract, (TOPIC[kind], ident_word, second), data, 0, b"", b"")
    return Log(log.address, log.topics, log.data, number, digest("block", number), digest("tx", tx))


def digest(what, number):
    return hashlib.sha256(f"{what} {number}".encode()).digest()


def history(happenings):
    """Logs in the chain's order."""
    number, logs, seen = 1, [], set()
    for count, (kind, ident, variant, later, together) in enumerate(happenings):
        number += later
        tx = f"{number} {0 if together else count}"
        key = (tx, kind, ident)
        if key in seen and kind is not Kind.CALLBACK:  # one contract says a thing once in a transaction
            continue
        seen.add(key)
        logs.append(log_of(kind, ident, variant, number, tx))
    return logs


def ranges(logs, width):
    last = logs[-1].block_number if logs else 0
    for first in range(1, last + 1, width):
        end = first + width - 1
        yield end, [log for log in logs if first <= log.block_number <= end]


def usual_way(connection, found, final):
    for request_hash in sorted(add_events(connection, [event for event in found if event is not None])):
        mirror(connection, SCOPE, request_hash, 5.0)
    finalise(connection, final, 5.0)


def contents(engine):
    """Rows of jobs and cursors, and the logs of each request, wherever they stand."""
    with transaction(engine) as connection:
        columns = [column for column in jobs.c if column is not jobs.c.settled_relayer]
        found = {
            "jobs": connection.execute(select(*columns).order_by(jobs.c.request_hash)).all(),
            "cursors": connection.execute(select(cursors)).all(),
        }
        hashes = connection.scalars(select(events.c.request_hash).union(select(jobs.c.request_hash))).all()
        found["logs"] = {h: sorted(map(repr, logs_of(connection, SCOPE, h))) for h in sorted(hashes)}
        return found


def emptied(engine):
    with transaction(engine) as connection:
        for table in (jobs, events, cursors):
            connection.execute(delete(table))
        values = {"genesis_hash": b"", "scanned_hash": b"", "final_hash": b"", "scanned_number": 0, "final_number": 0}
        connection.execute(insert(cursors).values(**vars(SCOPE), **values, changed_at=0.0))


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    made = [open_engine(f"sqlite:///{folder / name}.db") for name in ("usual", "bulk")]
    for engine in made:
        metadata.create_all(engine)
    yield made
    for engine in made:
        engine.dispose()


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(HAPPENINGS, st.sampled_from([1, 3, 100]))
def test_both_ways_leave_the_same_rows(engines, happenings, width):
    both_ways(engines, ranges(history(happenings), width))


def both_ways(engines, read):
    """What was read, as (last block, logs), into both databases; they are the same then."""
    usual, bulk = engines
    emptied(usual)
    emptied(bulk)
    for final, logs in read:
        with transaction(usual) as connection:
            usual_way(connection, [decode_log(log, SCOPE.chain_id) for log in logs], final)
        with transaction(bulk) as connection:
            add_final(connection, SCOPE, harvest(logs, SCOPE.chain_id).events, final, 5.0)

    assert contents(bulk) == contents(usual)


R, S, X, C = Kind.REQUESTED, Kind.SETTLED, Kind.EXPIRED, Kind.CALLBACK
FIRST = [
    (R, 1, 0, 0, True),
    (S, 1, 0, 0, True),
    (C, 1, 0, 0, True),
]  # in block 1, held by the job's row but for the last
#: what comes after the blocks in which a job became final, by name
LATER = {
    "another outcome": [(S, 1, 1, 1, False)],
    "another outcome and a refund": [(S, 1, 1, 1, False), (X, 1, 0, 1, False)],
    "the same outcome in another block": [(S, 1, 0, 1, False)],
    "the callback again, and again": [(C, 1, 0, 1, False), (C, 1, 1, 1, False)],
    "the request in another block": [(R, 1, 0, 1, False)],
    "the request again, and another outcome": [(R, 1, 0, 1, False), (S, 1, 2, 0, False)],
    "a mark": [(Kind.CANCEL_REQUESTED, 1, 0, 1, False)],
    "another request of its id, then a callback": [(R, 1, 3, 1, False), (C, 1, 1, 1, False)],
    "another whole job of its id, then a callback": [(R, 1, 3, 1, False), (S, 1, 3, 0, True), (C, 1, 1, 1, False)],
    "the id of a later job, then a callback": [(R, 2, 0, 1, False), (R, 1, 3, 1, False), (C, 1, 1, 1, False)],
}


@pytest.mark.parametrize("width", [1, 2, 3, 100])
@pytest.mark.parametrize("what", LATER)
def test_what_comes_after_a_folded_job_leaves_the_same_rows(engines, what, width):
    logs = history([*FIRST, *LATER[what]])

    both_ways(engines, ranges(logs, width))


@pytest.mark.parametrize("what", LATER)
def test_a_range_that_is_read_again_leaves_the_same_rows(engines, what):
    read = list(ranges(history([*FIRST, *LATER[what]]), 1))

    both_ways(engines, [read[0], read[0], *read[1:], *read])


def test_a_whole_story_becomes_a_final_job_at_once(engines):
    _, bulk = engines
    emptied(bulk)
    story = [
        (Kind.REQUESTED, 1, 0, 0, True),
        (Kind.CANCEL_REQUESTED, 1, 0, 1, True),
        (Kind.SETTLED, 1, 1, 1, True),
        (Kind.CALLBACK, 1, 1, 0, True),
        (Kind.REQUESTED, 2, 0, 0, True),
    ]
    with transaction(bulk) as connection:
        assert add_final(connection, SCOPE, harvest(history(story), SCOPE.chain_id).events, 100, 5.0) == 2
    found = {row.request_id: row for row in contents(bulk)["jobs"]}

    first = found[1]
    assert (first.state, first.chain_state, first.cancel_marked, first.callback_ok) == ("final", 3, True, True)
    assert first.outcome == OUTCOMES[1].encode()
    assert (found[2].state, found[2].chain_state, found[2].outcome) == ("observed", 1, None)
    assert contents(bulk)["cursors"][0].final_jobs == 1
