"""A node's calls to its bridge: `executor.protocol.leases` over `executor.content.web`, every call signed.

Errors: PeerUnavailable (later), LeaseLost (the lease is gone, or no longer this node's), PeerRefused (anything else).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from executor.agent.errors import LeaseLost
from executor.content.web import Http, HttpPeer, Reply, lease_peer
from executor.errors import PeerRefused
from executor.ledger import SignedRecord
from executor.protocol.cid import Cid
from executor.protocol.leases import (
    Advert,
    Attested,
    Hash,
    Heartbeat,
    HeartbeatAnswer,
    Lease,
    LeaseReturn,
    Message,
    Phase,
    ShortText,
)
from executor.protocol.produced import Produced, Producers
from executor.protocol.reasons import Reason

T = TypeVar("T")

HEARTBEAT_SECONDS = 8.0
_GONE = frozenset({"not-registered", "unknown-lease", "stale-lease", "conflict"})
"""Problems that mean: this lease is no longer this node's."""


_SETTLED = frozenset({"posted", "final"})


class _SettledOutcome(BaseModel):
    outcome_hash: Hash


class _SettledJob(BaseModel):
    """What counts of a job's public view; a bridge shows an outcome only while it stands on-chain."""

    state: ShortText
    outcome: _SettledOutcome | None


class BridgeClient:
    """See the module. Any number of threads."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def ask(self, advert: Advert) -> Lease | None:
        """Ask for work; the bridge may hold the call for `advert.wait_seconds`. None: nothing to do."""
        seconds = advert.wait_seconds + 10
        body = advert.model_dump_json().encode()
        reply = self._http.call("POST", "/v1/leases", body, seconds=seconds, silence_seconds=seconds)
        if reply.status == 204:
            return None
        try:
            return Lease.model_validate_json(reply.body)
        except ValidationError as exc:
            raise _misunderstood(reply, exc) from exc

    def settled_outcome(self, request_hash: bytes) -> bytes | None:
        """The hash of the outcome that stands on-chain, as far as the bridge has seen one; None of others."""
        try:
            reply = self._http.call("GET", f"/v1/jobs/0x{request_hash.hex()}")
            job = _SettledJob.model_validate_json(reply.body)
        except PeerRefused as exc:
            if exc.status == 404:
                return None
            raise
        except ValidationError as exc:
            raise _misunderstood(reply, exc) from exc
        return job.outcome.outcome_hash if job.outcome is not None and job.state in _SETTLED else None

    def heartbeat(self, lease: Lease, phase: Phase) -> HeartbeatAnswer:
        """Renew a lease."""
        reply = self._post(lease, "heartbeat", Heartbeat(token=lease.token, phase=phase), HEARTBEAT_SECONDS)
        try:
            return HeartbeatAnswer.model_validate_json(reply.body)
        except ValidationError as exc:
            raise _misunderstood(reply, exc) from exc

    def give_back(self, lease: Lease, reason: Reason, detail: str) -> None:
        """Return a lease for a reason of this node's own."""
        self._post(lease, "return", LeaseReturn(token=lease.token, reason=reason, detail=detail[:1000]), 8.0)

    def attest(self, lease: Lease, record: SignedRecord) -> None:
        """Hand in a signed outcome."""
        message = Attested(
            token=lease.token,
            outcome=record.outcome,
            receipt=record.receipt,
            log_root=record.log_root,
            log_size=record.log_size,
            relayer=record.relayer,
            signature=record.signature,
            dsse_signature=record.dsse_signature,
            log_proof=record.log_proof,
        )
        self._post(lease, "attestation", message, 20.0)

    def producers(self, cid: Cid, seconds: float) -> tuple[Produced, ...]:
        """What the bridge says of who produced a CID; not checked here."""
        reply = self._http.call("GET", f"/v1/outputs/{cid}", seconds=seconds)
        try:
            return Producers.model_validate_json(reply.body).produced
        except ValidationError as exc:
            raise _misunderstood(reply, exc) from exc

    def peer(self, lease: Lease, check: Callable[[], None]) -> LeasePeer:
        """The content of a lease: `executor.content.transfer.Peer`. `check` raises to end a transfer in its middle."""
        return LeasePeer(lease_peer(self._http, lease.lease_id, lease.token), check)

    def _post(self, lease: Lease, verb: str, message: Message, seconds: float) -> Reply:
        path = f"/v1/leases/{quote(lease.lease_id, safe='')}/{verb}"
        body = message.model_dump_json().encode()
        return _unless_gone(lambda: self._http.call("POST", path, body, seconds=seconds))


class LeasePeer:
    """A lease's content, where a lease that is gone is LeaseLost."""

    def __init__(self, peer: HttpPeer, check: Callable[[], None]) -> None:
        self._peer = peer
        self._check = check

    @contextmanager
    def get_car(self, cid: Cid) -> Iterator[Iterator[bytes]]:
        """The DAG below a CID as a CAR stream."""
        try:
            with self._peer.get_car(cid) as pieces:
                yield self._checked(pieces)
        except PeerRefused as exc:
            raise _gone(exc) from exc

    def missing(self, root: Cid) -> tuple[Cid, ...]:
        """What the bridge lacks below `root`."""
        return _unless_gone(lambda: self._peer.missing(root))

    def put_car(self, root: Cid, car: bytes) -> tuple[Cid, ...]:
        """Give the bridge blocks below `root`."""
        self._check()
        return _unless_gone(lambda: self._peer.put_car(root, car))

    def _checked(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self._check()
            yield piece


def _unless_gone(call: Callable[[], T]) -> T:
    try:
        return call()
    except PeerRefused as exc:
        raise _gone(exc) from exc


def _gone(exc: PeerRefused) -> Exception:
    return LeaseLost(exc.problem) if exc.name in _GONE or exc.status == 410 else exc


def _misunderstood(reply: Reply, exc: ValidationError) -> PeerRefused:
    first = exc.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return PeerRefused(reply.status, f"the bridge's answer is not understood: {where}: {first['msg']}")
