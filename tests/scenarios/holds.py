"""What must hold in every scenario (fevm.md 3.3): after each step, and once the faults have stopped.

The database is compared with anvil's own logs and blocks, read past the endpoint that misbehaves.
"""

from collections import Counter

from sqlalchemy import select

from bridge.chain.cursor import is_linked
from bridge.chain.events import KIND_OF, JobRequested, JobSettled
from bridge.devnet.chaos.dialects import STATEFUL_METHODS
from bridge.jobs import JobState
from bridge.store.engine import reading
from bridge.store.schema import transactions
from tests.stored_events import stored_events as known_events


def always(rig):
    """After each step, whether it failed or not."""
    cursor = rig.cursor()
    if cursor is None:
        assert rig.jobs() == {}
        return
    window = rig.window()
    assert is_linked(window), "the window is not linked"
    assert (window[-1].number, window[-1].hash) == (cursor.scanned_number, cursor.scanned_hash)
    assert cursor.final_number >= rig._highest_final, "the final position went back"
    rig._highest_final = cursor.final_number
    stored = stored_events(rig)
    jobs_are_their_events(rig, stored)
    nothing_passed_over(rig, window, cursor, stored)


def jobs_are_their_events(rig, stored):
    """No commit was partial: a job that is not orphaned has its request's event at its place, and none is without."""
    alive = {job.request_hash: job for job in rig.jobs().values() if job.state is not JobState.ORPHANED}
    requested = {key: number for key, number in stored.items() if key[2] == "JobRequested"}
    assert Counter(key[3] for key in requested) == Counter(alive.keys()), "a job without its event, or two of one"
    places = {key[3]: (key[0], key[1], number) for key, number in requested.items()}
    assert {h: (j.block_hash, j.tx_hash, j.block_number) for h, j in alive.items()} == places


def nothing_passed_over(rig, window, cursor, stored):
    """Each canonical event in a block that was taken in is stored; up to the final block whatever the endpoint said."""
    known = {block.hash for block in window}
    is_ours = final_is_canonical(rig, cursor)
    for event in rig.truth():
        is_final = is_ours and event.log.block_number <= cursor.final_number
        if is_final or (event.log.block_hash in known and not rig.leaves_out):
            assert key_of(event) in stored, f"passed over: {event}"


def final_is_canonical(rig, cursor):
    """Whether the final block is on anvil's chain now."""
    number = rig.epochs.at_or_below(cursor.final_number)
    return number <= rig.head() and rig.block(number).hash == cursor.final_hash


def at_rest(rig):
    """The faults are over and nothing moves any more."""
    cursor, window = rig.cursor(), rig.window()
    always(rig)
    tip = rig.head() - rig.endpoints[0].settings.get("deferred", False)
    assert cursor.scanned_hash == rig.block(tip).hash, "not at the head"
    for block in window:  # never stored under a wrong number, none from another branch
        assert block == rig.block(rig.epochs.at_or_below(block.number))
    truth = [event for event in rig.truth() if event.log.block_number <= cursor.scanned_number]
    stored = stored_events(rig)
    assert stored == {key_of(event): event.log.block_number for event in truth}
    canonical = [event.request_hash for event in truth if isinstance(event, JobRequested)]
    jobs = rig.jobs()
    assert len(canonical) == len(set(canonical))
    assert {h for h, job in jobs.items() if job.state is not JobState.ORPHANED} == set(canonical)
    once_on_chain(rig, truth, jobs)
    nonces(rig)
    no_dependence_on_pushes(rig)


def once_on_chain(rig, truth, jobs):
    """Each canonical request that was decided has one result on-chain, the one decided. No other one has any."""
    settled = [event for event in truth if isinstance(event, JobSettled)]
    wanted = {h: outcome for h, outcome in rig.decided.items() if jobs[h].state is not JobState.ORPHANED}
    assert Counter(event.request_hash for event in settled) == Counter(wanted.keys())
    assert {event.request_hash: event.outcome for event in settled} == wanted
    assert {jobs[h].state for h in wanted} <= {JobState.FINAL}


def nonces(rig):
    """All of a nonce's transactions do the same, but for one that uses it up; whatever was sent is in the store."""
    with reading(rig.engine) as connection:
        rows = connection.execute(select(transactions.c.nonce, transactions.c.calldata, transactions.c.raw)).all()
    acts = {}
    for row in rows:
        acts.setdefault(row.nonce, set()).add(row.calldata)
    assert all(len(each - {b""}) <= 1 for each in acts.values())
    stored = {"0x" + row.raw.hex() for row in rows}
    sent = {call["params"][0] for endpoint in rig.endpoints for call in endpoint.script.calls("eth_sendRawTransaction")}
    assert sent <= stored


def no_dependence_on_pushes(rig):
    """No filter and no subscription was ever asked for: the endpoint's memory is not needed."""
    asked = {method for endpoint in rig.endpoints for method in endpoint.script.methods()}
    assert asked.isdisjoint(STATEFUL_METHODS)


def stored_events(rig):
    """(block hash, transaction, kind, request hash) -> block number, as the database has them."""
    with reading(rig.engine) as connection:
        rows = known_events(connection)
    return {(row.block_hash, row.tx_hash, row.kind, row.request_hash): row.block_number for row in rows}


def key_of(event):
    """The same of an event on the chain."""
    return event.log.block_hash, event.log.tx_hash, KIND_OF[type(event)].value, event.request_hash
