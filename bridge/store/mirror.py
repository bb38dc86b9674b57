"""Which roots were given to an operator's Kubo, by its peer id: another daemon has none of what this one got.

And which results were read back from it, whole, before they go on-chain. What the newest KEPT_PEERS daemons at each
address were given is remembered, so that one that comes back has it taken back in time; what those before them were
given is forgotten, so that a daemon which calls itself something else at each call fills no table.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, and_, delete, func, insert, select

from bridge.jobs import JobState
from bridge.store.jobs import unpublished_jobs
from bridge.store.schema import copies, jobs, mirror_peers, mirrored_roots
from executor.protocol.cid import Cid
from executor.protocol.reasons import Reason
from executor.protocol.wire import Outcome

PAGE = 500  # results that are looked at for one copy
KEPT_PEERS = 4  # daemons of one address that are remembered


def note_peer(connection: Connection, address: str, peer: str, now: float) -> str:
    """Write down which daemon answers at an address. The one that did before it; '' where it is the same, or the first.

    What was given to ones that are not remembered any longer, at no address, is forgotten.
    """
    here = mirror_peers.c.address == address
    newest_first = mirror_peers.c.seen_at.desc(), mirror_peers.c.peer
    before = list(connection.execute(select(mirror_peers.c.peer).where(here).order_by(*newest_first)).scalars())
    others = [one for one in before if one != peer]
    old = others[KEPT_PEERS - 1 :]
    connection.execute(delete(mirror_peers).where(here, mirror_peers.c.peer.in_([peer, *old])))
    connection.execute(insert(mirror_peers).values(address=address, peer=peer, seen_at=now))
    elsewhere = select(mirror_peers.c.peer)
    for table in (mirrored_roots, copies):
        connection.execute(delete(table).where(table.c.peer.in_(old), table.c.peer.not_in(elsewhere)))
    return others[0] if others and before[0] != peer else ""


@dataclass(frozen=True, slots=True)
class Mirrored:
    """ours: the daemon did not keep it before. done: it has said that it does now."""

    root: Cid
    ours: bool
    done: bool


def mirrored(connection: Connection, peer: str) -> Sequence[Mirrored]:
    """All that this daemon was given."""
    rows = connection.execute(select(mirrored_roots).where(mirrored_roots.c.peer == peer)).all()
    return [Mirrored(Cid.from_binary(row.root), row.ours, row.done) for row in rows]


def keep_mirrored(connection: Connection, peer: str, one: Mirrored) -> None:
    """Write one down, in place of what was there."""
    forget_mirrored(connection, peer, one.root)
    connection.execute(insert(mirrored_roots).values(root=one.root.binary, peer=peer, ours=one.ours, done=one.done))


def forget_mirrored(connection: Connection, peer: str, root: Cid) -> None:
    """Remove one."""
    of_root = mirrored_roots.c.root == root.binary
    connection.execute(delete(mirrored_roots).where(of_root, mirrored_roots.c.peer == peer))


def forget_copies(connection: Connection, peer: str, root: Cid) -> None:
    """A daemon keeps a result no longer."""
    connection.execute(delete(copies).where(copies.c.peer == peer, copies.c.root == root.binary))


@dataclass(frozen=True, slots=True)
class Owed:
    """A result that waits for a copy."""

    request_hash: bytes
    root: Cid


def owed_copies(connection: Connection, peer: str) -> Sequence[Owed]:
    """Results of STORED jobs that were not read back from this daemon, oldest request first."""
    known = and_(copies.c.request_hash == jobs.c.request_hash, copies.c.peer == peer)
    query = (
        select(jobs.c.request_hash, jobs.c.outcome)
        .outerjoin(copies, known)
        .where(jobs.c.state == JobState.STORED.value, jobs.c.outcome.is_not(None), copies.c.root.is_(None))
        .order_by(jobs.c.block_number, jobs.c.request_id)
        .limit(PAGE)
    )
    found = [(row.request_hash, Outcome.decode(row.outcome).output_cid) for row in connection.execute(query)]
    return [Owed(request_hash, Cid.from_binary(output)) for request_hash, output in found if output]


def unposted_roots(connection: Connection) -> set[Cid]:
    """Results on their way to the chain: agreed on and read back, and not public yet."""
    states = [JobState.STORED.value, JobState.POSTING.value]
    rows = connection.execute(select(jobs.c.outcome).where(jobs.c.state.in_(states), jobs.c.outcome.is_not(None)))
    outcomes = [Outcome.decode(outcome) for (outcome,) in rows]
    outcomes += [job.outcome for job in unpublished_jobs(connection, 10_000) if job.outcome is not None]
    return {Cid.from_binary(outcome.output_cid) for outcome in outcomes if outcome.output_cid}


def keep_copy(connection: Connection, owed: Owed, peer: str, now: float) -> None:
    """Write down that a result was read back from a daemon. Again: the newer time counts."""
    connection.execute(delete(copies).where(copies.c.request_hash == owed.request_hash, copies.c.peer == peer))
    connection.execute(
        insert(copies).values(request_hash=owed.request_hash, peer=peer, root=owed.root.binary, confirmed_at=now)
    )


def count_copies(connection: Connection, owed: Owed, peers: Collection[str]) -> int:
    """From how many of these daemons a result was read back."""
    where = (copies.c.request_hash == owed.request_hash, copies.c.root == owed.root.binary, copies.c.peer.in_(peers))
    return int(connection.execute(select(func.count()).select_from(copies).where(*where)).scalar_one())


def waiting_results(connection: Connection) -> tuple[int, float | None]:
    """How many results wait for copies, and since when the first does."""
    where = (jobs.c.state == JobState.STORED.value, jobs.c.reason == Reason.COPIES_MISSING.value)
    count, oldest = connection.execute(select(func.count(), func.min(jobs.c.changed_at)).where(*where)).one()
    return int(count), oldest


def forget_other_copies(connection: Connection, request_hash: bytes, output: bytes) -> None:
    """Remove copies of what is not this job's output any longer."""
    connection.execute(delete(copies).where(copies.c.request_hash == request_hash, copies.c.root != output))
