"""Before anything starts: is this the request, may this node run it, and is every byte that it needs here and verified?

Each step raises GiveBack with the node's reason, or InvalidSpec where no node can ever run it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from executor.agent.config import NodeConfig
from executor.agent.errors import GiveBack
from executor.agent.parts import Work
from executor.agent.provenance import Origins
from executor.audit.policy import PolicyRefused
from executor.content.candidates import Share
from executor.content.patience import Patience
from executor.content.reader import read_file
from executor.content.transfer import fetch_dag
from executor.content.walk import stored_size
from executor.content.weburl import shown
from executor.errors import (
    CarError,
    ContentError,
    ContentTooLarge,
    DiskFull,
    InvalidInput,
    PeerRefused,
    PeerUnavailable,
)
from executor.protocol.cid import Cid
from executor.protocol.leases import Lease
from executor.protocol.reasons import Reason
from executor.protocol.receipt import Dependency
from executor.protocol.spec import (
    MAX_SPEC_BYTES_BY_CID,
    DockerEngine,
    InvalidSpec,
    JobSpec,
    WasmEngine,
    job_of,
    spec_cid,
)
from executor.protocol.wire import Order, Request

SPEC_SECONDS = 60.0
CHAIN_SECONDS = 20.0
READABLE_SECONDS = 30.0
MAX_SPEC_DAG_BYTES = 2 * MAX_SPEC_BYTES_BY_CID


def request_of(lease: Lease, config: NodeConfig) -> Request:
    """The lease's request, recomputed. GiveBack(REQUEST_NOT_ON_CHAIN) where it is not what the lease says it is."""
    try:
        request = lease.request.request()
        found = request.hash
    except InvalidInput as exc:
        raise GiveBack(Reason.REQUEST_NOT_ON_CHAIN, f"the lease's request does not decode: {exc}") from exc
    if (request.chain_id, request.contract) != (config.chain_id, config.bridge_contract):
        raise GiveBack(
            Reason.REQUEST_NOT_ON_CHAIN,
            f"the request is for chain {request.chain_id}, contract {request.contract}; "
            f"this node works for chain {config.chain_id}, contract {config.bridge_contract}",
        )
    if found != lease.request_hash:
        raise GiveBack(Reason.REQUEST_NOT_ON_CHAIN, "the request's hash is not the one of its lease")
    return request


def check_chain(work: Work) -> None:
    """Ask the chain itself, where the node has an endpoint."""
    if work.parts.chain is not None:
        work.parts.chain.check(work.request, work.patience(CHAIN_SECONDS))


def read_spec(work: Work) -> tuple[bytes, tuple[Dependency, ...]]:
    """The bytes of the job spec, and where they came from if it was given by CID."""
    order = work.request.order
    _check_readable(order)
    cid = spec_cid(order)
    if cid is None:
        return order.spec, ()
    try:
        dependency = fetch(work, "spec", cid, MAX_SPEC_DAG_BYTES, SPEC_SECONDS)
        if work.parts.classes.of([cid]):  # what is said about a spec in a receipt may quote it
            raise PolicyRefused(Reason.POLICY, "the spec is private data of this node's operator")
        return b"".join(read_file(work.parts.store, cid, MAX_SPEC_BYTES_BY_CID)), (dependency,)
    except ContentTooLarge as exc:
        raise InvalidSpec(Reason.SPEC_TOO_LARGE, "spec", str(exc)) from exc
    except ContentError as exc:
        raise GiveBack(Reason.INPUT_NOT_FOUND, f"spec: {exc}") from exc


def _check_readable(order: Order) -> None:
    """An order that no node reads is refused before its spec is fetched, whether or not that could be had."""
    try:
        job_of(order, b"")
    except InvalidSpec as exc:
        if exc.reason in (Reason.UNSUPPORTED_VERSION, Reason.UNSUPPORTED_DIALECT):
            raise


def program_cid(job: JobSpec) -> Cid | None:
    """The CID of the program, if it comes by CID."""
    return job.engine.module if isinstance(job.engine, WasmEngine) else job.engine.archive


def fetch_content(work: Work, job: JobSpec) -> tuple[Dependency, ...]:
    """Program and inputs into the block store, every block verified. GiveBack."""
    wanted = [(item.path, item.cid) for item in job.inputs]
    program = program_cid(job)
    if program is not None:
        wanted.insert(0, ("program", program))
    policy = work.parts.policy
    left = policy.max_input_bytes
    origins = Origins(work)
    found = []
    for name, cid in wanted:
        most = min(left, policy.max_each_input_bytes)
        try:
            dependency = fetch(work, name, cid, most, work.parts.config.fetch_seconds)
        except ContentTooLarge as exc:
            what = "program and inputs pass" if left < policy.max_each_input_bytes else "passes"
            raise GiveBack(Reason.INPUT_TOO_LARGE, f"{name}: {what} this node's limit ({exc})") from exc
        found.append(replace(dependency, produced=origins.of(cid)))
        left -= dependency.size
    if isinstance(job.engine, DockerEngine):
        work.log.info("program", image=job.engine.image, archive=str(job.engine.archive))
    return tuple(found)


def fetch(work: Work, name: str, cid: Cid, max_bytes: int, seconds: float) -> Dependency:
    """One DAG into the block store, every block of it hashed here, those that were there before as well.

    ContentTooLarge, GiveBack. What is here already was brought for some job: it is read for this one only if the bridge
    says that this lease may read it, too, if it comes again from a source that is open to all (`agent.outside`), or if
    the operator's policy decides on it.
    """
    store, clock = work.parts.store, work.parts.clock
    was_here = store.has(cid)
    work.parts.roots.keep(cid, work.label, work.request.deadline + 3600.0)
    try:
        shares = _bring(work, cid, max_bytes, work.patience(seconds), was_here=was_here)
        fetched_at = clock()
        size = stored_size(store, cid)
    except ContentTooLarge:
        work.parts.roots.drop(cid, work.label)
        raise
    except DiskFull as exc:  # what came of it would keep the store full, and every other job away
        work.parts.roots.drop(cid, work.label)
        raise GiveBack(Reason.DISK_FULL, str(exc)) from exc
    except (PeerUnavailable, PeerRefused, CarError, ContentError) as exc:
        raise GiveBack(Reason.INPUT_NOT_FOUND, f"{name} ({cid}): {exc}") from exc
    source = _told(shares, size.blocks)
    work.log.info("fetched", name=name, cid=str(cid), source=source, bytes=sum(share.bytes for share in shares))
    return Dependency(
        name=name,
        cid=cid,
        size=size.bytes,
        blocks=size.blocks,
        source=source,
        fetched_at=fetched_at if shares else None,
        verified_at=clock(),
    )


def _bring(work: Work, cid: Cid, max_bytes: int, patience: Patience, *, was_here: bool) -> tuple[Share, ...]:
    """A DAG into the block store, as far as this lease may read it; what each source brought of it."""
    parts = work.parts
    bridge = f"bridge:{shown(parts.config.bridge_url)}"
    if parts.outside is None or parts.classes.of([cid]):
        moved = fetch_dag(work.peer, parts.store, cid, max_bytes=max_bytes, patience=patience)
        if was_here and not parts.classes.of([cid]):
            _check_readable_by_lease(work, cid)
        return (Share(bridge, moved.blocks, moved.bytes),) if moved.blocks else ()
    try:
        return parts.outside.fetch(
            cid,
            name=bridge,
            bridge=work.peer,
            is_open=was_here and _is_readable_by_lease(work, cid),
            max_bytes=max_bytes,
            patience=patience,
        )
    except (PeerUnavailable, PeerRefused) as exc:  # what a source of the operator's own says is for his log
        work.log.warning("no source brings an input", cid=str(cid), error=str(exc))
        raise PeerUnavailable("neither the bridge nor another source of this node brings it all") from exc


def _told(shares: Sequence[Share], blocks: int) -> str:
    """Where the blocks of a DAG came from, for the receipt: each source in order of names, and what was here."""
    brought = {share.source: share.blocks for share in shares}
    if blocks > sum(brought.values()):
        brought["cache"] = blocks - sum(brought.values())
    if len(brought) == 1:
        return next(iter(brought))
    return ", ".join(f"{name} ({count} blocks)" for name, count in sorted(brought.items()))


def _check_readable_by_lease(work: Work, cid: Cid) -> None:
    """What is here came for some job, maybe another account's: the bridge says whether this one may read it, too.

    A CID is no secret. The bridge answers as if the content were not there, and opens a DAG only as a whole, so its
    first bytes say it. PeerRefused, PeerUnavailable.
    """

    work.patience(READABLE_SECONDS).persist(lambda: _open(work, cid))


def _is_readable_by_lease(work: Work, cid: Cid) -> bool:
    """The same where there are other sources: without the bridge's word now, what is here is brought anew."""
    try:
        _open(work, cid)
    except (PeerRefused, PeerUnavailable):
        return False
    return True


def _open(work: Work, cid: Cid) -> None:
    with work.peer.get_car(cid) as pieces:
        next(pieces, None)
