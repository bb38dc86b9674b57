"""What is asked of the database all the time goes by an index, and asks nothing of the jobs that have ended."""

import re

import pytest
from sqlalchemy import event

from bridge.jobs import OPEN_STATES, JobState
from bridge.store import chain, leases, outbox, senders, standing
from bridge.store import jobs as rows
from bridge.store.content import Upload, account_bytes, begin_account_upload, is_meant_for
from bridge.store.engine import reading, transaction
from executor.protocol.cid import RAW, Cid
from tests.bridge_kit import CHAIN_ID, CONTRACT, RELAYER, Bridge, order_of
from tests.history import add_history

HISTORY = 300
GROWS = "jobs|events|outbox|slots|leases|transactions|transaction_items|uploads|held_blocks"
#: indexes that are read from an end, or that hold only what is still to be done
SMALL = ("USING INDEX jobs_by_block", "USING INDEX jobs_taken_back")
HASH = bytes(32)
UPLOAD = Upload(account=RELAYER, root=Cid.of(RAW, b"input").binary, public=False, requester=RELAYER, complete=False)

HOT = {
    "jobs whose lease may be given": lambda c: rows.leasable(c, 64, 2000),
    "whether work came": rows.leasable_mark,
    "answered jobs": rows.answered_jobs,
    "attested jobs": lambda c: rows.jobs_in(c, [JobState.ATTESTED], 1),
    "stored jobs": lambda c: rows.jobs_in(c, [JobState.STORED]),
    "jobs that wait": lambda c: rows.waiting_jobs(c, 500, 0, without_spec=False),
    "jobs without a spec": lambda c: rows.waiting_jobs(c, 500, 0, without_spec=True),
    "outputs to publish": rows.unpublished_jobs,
    "outputs to publish anew": rows.forget_published,
    "refunds that are due": lambda c: rows.overdue_jobs(c, 2e9),
    "shares of requesters": rows.running_by_requester,
    "counts by state": rows.count_by_state,
    "the newest jobs": lambda c: rows.latest_jobs(c, None, 50),
    "the newest jobs of a state": lambda c: rows.latest_jobs(c, JobState.FINAL, 50),
    "a job by its id": lambda c: rows.find_jobs(c, 7),
    "a job by its hash": lambda c: rows.get_job(c, HASH),
    "leases that are over": lambda c: leases.overdue(c, 2e9, 60.0),
    "leases without a point": lambda c: leases.active_in_states(c, [s.value for s in JobState]),
    "what nodes have reserved": leases.reserved,
    "slots of a request": lambda c: leases.slots_of(c, HASH),
    "leases of a request": lambda c: leases.leases_of(c, HASH),
    "deliveries to look at": outbox.work,
    "deliveries in flight": outbox.in_flight,
    "a delivery": lambda c: outbox.find(c, HASH, "fulfil"),
    "why jobs wait": lambda c: standing.jobs_by_reason(c, sorted(OPEN_STATES)),
    "why deliveries wait": standing.deliveries_by_reason,
    "costs of a day": lambda c: senders.costs_since(c, RELAYER, 1e9),
    "costs to go by": lambda c: senders.samples(c, RELAYER, "fulfil"),
    "transactions without a receipt": lambda c: senders.without_receipt(c, RELAYER, 1e9),
    "transactions of a delivery": lambda c: outbox.attempts_of(c, 1),
    "transactions of a nonce": lambda c: outbox.attempts_at(c, RELAYER, 1),
    "the window": chain.load_window,
    "jobs deep enough": lambda c: chain.promote(c, 10**6, 1, 1.0),
    "jobs that are final": lambda c: chain.finalise(c, 10**6, 1.0),
    "a request's events": lambda c: chain.mirror(c, chain.Scope(CHAIN_ID, CONTRACT), HASH, 1.0),
    "events of blocks that left": lambda c: chain.delete_blocks(c, [chain.Block(1, HASH, HASH, 1)]),
    "what an account has uploaded": lambda c: begin_account_upload(c, UPLOAD, 1.0) or account_bytes(c, RELAYER),
    "whose a specification is": lambda c: is_meant_for(c, Cid.of(RAW, b"spec"), RELAYER),
}


@pytest.fixture
def bridge(tmp_path):
    bridge = Bridge(tmp_path)
    bridge.chain_at(10**6)
    add_history(bridge.engine, HISTORY, CHAIN_ID, CONTRACT)
    yield bridge
    bridge.close()


def plans(engine, ask):
    """How SQLite goes about the statements that `ask` executes."""
    seen = []

    def remember(connection, cursor, statement, parameters, context, executemany):
        seen.append((statement, parameters))

    with transaction(engine) as connection:
        event.listen(connection, "before_cursor_execute", remember)
        ask(connection)
        event.remove(connection, "before_cursor_execute", remember)
        return [
            line.detail
            for statement, parameters in seen
            for line in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        ]


@pytest.mark.parametrize("name", HOT)
def test_what_is_asked_often_goes_by_an_index(bridge, name):
    found = plans(bridge.engine, HOT[name])

    assert found
    assert [line for line in found if re.match(rf"SCAN ({GROWS})\b", line) and not line.endswith(SMALL)] == []


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("outputs to publish", "jobs_unpublished"),
        ("outputs to publish anew", "jobs_taken_back"),
        ("refunds that are due", "jobs_by_state"),
        ("deliveries to look at", "outbox_by_state"),
        ("the newest jobs", "jobs_by_block"),
    ],
)
def test_an_index_is_used_for_what_it_was_made_for(bridge, name, index):
    assert any(index in line for line in plans(bridge.engine, HOT[name]))


def test_a_lease_without_a_point_is_found_by_the_lease_and_not_by_its_ended_job(bridge):
    first = plans(bridge.engine, HOT["leases without a point"])[0]

    assert "leases" in first


def test_an_ended_delivery_that_is_wanted_again_is_found_by_its_open_job_and_not_among_all_that_ended(bridge):
    found = plans(bridge.engine, HOT["deliveries to look at"])
    by_job = [place for place, line in enumerate(found) if "jobs_by_state" in line]

    assert by_job
    assert "request_hash=?" in found[by_job[0] + 1]


def test_final_jobs_are_counted_as_they_come(bridge):
    job = bridge.request(order_of(), state=JobState.POSTED, settled_block_number=7, published_at=1.0)
    bridge.request(order_of(), state=JobState.EXPIRED, settled_block_number=9)
    with transaction(bridge.engine) as connection:
        assert chain.finalise(connection, 8, 5.0) == 1
    with reading(bridge.engine) as connection:
        assert rows.count_by_state(connection) == {"final": HISTORY + 1, "expired": 1}
    assert bridge.job(job.request_hash).state is JobState.FINAL


def test_a_long_past_leaves_a_new_job_its_way_through_the_dispatcher(bridge):
    node = bridge.node("a", "tier=wasm")
    job = bridge.request(order_of("tier=wasm"), request_id=HISTORY + 1)
    bridge.dispatcher.step()
    assert bridge.lease(node, "tier=wasm").request_hash == job.request_hash
    assert bridge.job(job.request_hash).state is JobState.RUNNING
