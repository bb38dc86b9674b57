"""Copies of results at the operator's Kubos: of public ones for as long as the bridge serves them itself, and of those
that go on-chain only once they are at several places (`content.replicas`).

Results only: what somebody uploads is public as soon as he says so, and an operator's Kubo is not a stranger's to fill.

The block store stays what counts: a Kubo that is away, full or wrong costs its copies and, where results must be at
several places, their delivery, and nothing else. Each root is written down before it is given to the daemon and after,
so that whatever was begun is finished or taken back after a kill -9, and a root that the daemon's owner kept before is
never taken from him. A copy that a job waits for counts once all of it was read back from the daemon's own disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import structlog

from bridge.outputs import HeldView
from bridge.replicas import AWAY, Replicas
from bridge.settlement import OUTPUT_LABEL
from bridge.store.engine import Engine, reading, transaction
from bridge.store.mirror import (
    Mirrored,
    Owed,
    forget_copies,
    forget_mirrored,
    keep_copy,
    keep_mirrored,
    mirrored,
    note_peer,
    owed_copies,
    unposted_roots,
)
from executor.content.blocks import Block, BlockSource
from executor.content.kuboaddress import by_peer
from executor.content.patience import Patience
from executor.content.roots import RootSet
from executor.content.transfer import Download
from executor.content.walk import missing, stored_size
from executor.errors import ContentError, PeerRefused, PeerUnavailable
from executor.protocol.cid import Cid

log = structlog.get_logger("bridge.mirror")

AGAIN_SECONDS = 600.0
"""A root that the daemon refuses, to take or to give back, is tried again after this long."""
OWED_AGAIN_SECONDS = 30.0
"""One that a job waits for, sooner."""
READ_BACK_SECONDS = 3600.0
PEERS_AGAIN_SECONDS = 60.0
"""A daemon that was started anew between two looks has forgotten its peers, and nothing shows it."""
_SHOWN = 160


class PinningPeer(Protocol):
    """What is needed of a daemon; see `executor.content.kubo.Kubo`."""

    def peer_id(self) -> str:
        """Its name among peers, by which it is told from another one at the same address."""

    def publish(self, store: BlockSource, root: Cid) -> None:
        """Give it a whole DAG, and have it keep it. PeerUnavailable, PeerRefused."""

    def is_pinned(self, root: Cid) -> bool:
        """Whether it keeps a DAG."""

    def unpin(self, root: Cid) -> None:
        """Have it keep a DAG no longer."""

    def peer_with(self, *addresses: str) -> None:
        """Have it stay connected to a peer, at all of these addresses. PeerUnavailable, PeerRefused."""

    def get_car(self, cid: Cid, *, offline: bool = False) -> AbstractContextManager[Iterator[bytes]]:
        """The DAG below a CID as a CAR stream; offline: from its own disk. PeerUnavailable, PeerRefused."""


class Alone:
    """A daemon as a source that asks no peers: see `executor.content.transfer.CarSource`."""

    def __init__(self, daemon: PinningPeer) -> None:
        self._daemon = daemon

    def get_car(self, cid: Cid) -> AbstractContextManager[Iterator[bytes]]:
        """What is on its own disk."""
        return self._daemon.get_car(cid, offline=True)


class Mirror:
    """`step` moves one root. clock: seconds since 1970. replicas, name: where it is told how this place does.

    address: where the daemon is, by which it is known after a restart that another one answers there now. peers:
    addresses that the daemon is to stay connected to; it is told again and again, since it forgets them.
    """

    def __init__(
        self,
        engine: Engine,
        store: BlockSource,
        roots: RootSet,
        daemon: PinningPeer,
        clock: Callable[[], float],
        *,
        replicas: Replicas | None = None,
        name: str = "kubo",
        address: str = "",
        peers: Sequence[str] = (),
    ) -> None:
        self._engine = engine
        self._store = store
        self._roots = roots
        self._daemon = daemon
        self._clock = clock
        self._replicas = replicas or Replicas()
        self._name = name
        self._address = address
        self._peers = by_peer(peers)
        self._told = ""
        self._tell_again = 0.0
        self._not_taken: set[str] = set()
        self._refused: dict[Cid, float] = {}
        self._cut: set[Cid] = set()

    def step(self) -> bool:
        """Give the daemon one root that it has not, or take one back that it shall not have any longer; whether it did.

        PeerUnavailable while it does not answer.
        """
        now, peer = self._clock(), self._peer()
        public = {root.cid for root in self._roots.live(now) if root.public and root.label.startswith(OUTPUT_LABEL)}
        with reading(self._engine) as connection:
            known = {one.root: one for one in mirrored(connection, peer)}
            needs_copies = self._replicas.wanted > 1
            owed = owed_copies(connection, peer) if needs_copies else ()
            unposted = unposted_roots(connection) if needs_copies else set()
        self._refused = {root: until for root, until in self._refused.items() if until > now}
        for one in owed:
            if one.root not in self._refused:
                self._pay(peer, one, known.get(one.root))
                return True
        for root in sorted(known.keys() - public - unposted - self._refused.keys(), key=str):
            self._take_back(peer, known[root])
            return True
        self._cut &= public
        for root in sorted(public - self._refused.keys(), key=lambda one: (one in self._cut, str(one))):
            if root not in known or not known[root].done:
                self._give(peer, root, known.get(root))
                return True
        return False

    def _peer(self) -> str:
        try:
            peer = self._daemon.peer_id()
        except PeerUnavailable:
            self._replicas.note(self._name, AWAY)
            self._told = ""
            raise
        except PeerRefused as exc:
            self._replicas.note(self._name, f"is no Kubo that can be used: {_line(exc)}")
            raise
        if not peer:
            self._replicas.note(self._name, "does not say which peer it is")
            raise PeerUnavailable(f"{self._name} does not say which peer it is")
        if peer != self._told:
            self._meet(peer)
        self._replicas.found(self._name, peer)
        now = self._clock()
        if peer != self._told or now >= self._tell_again:
            self._told, self._tell_again = peer, now + PEERS_AGAIN_SECONDS
            self._tell_peers(peer)
        return peer

    def _meet(self, peer: str) -> None:
        """Another daemon than at the last call, or the first one."""
        with transaction(self._engine) as connection:
            earlier = note_peer(connection, self._address, peer, self._clock())
        if earlier:
            log.warning("another kubo answers at this address", place=self._name, peer=peer, earlier=earlier)

    def _tell_peers(self, own: str) -> None:
        """What is no copy keeps no copy waiting: a daemon that does not take a peer does without it until next time."""
        for peer, addresses in self._peers.items():
            if peer == own:  # one list is for several daemons, and may name each of them
                continue
            try:
                self._daemon.peer_with(*addresses)
                self._not_taken.discard(peer)
            except (PeerRefused, PeerUnavailable) as exc:
                if peer not in self._not_taken:
                    log.warning("kubo does not take a peer", peer=peer, place=self._name, error=_line(exc))
                self._not_taken.add(peer)
                if isinstance(exc, PeerUnavailable):
                    return  # if it is away, what comes next says so

    def _pay(self, peer: str, owed: Owed, known: Mirrored | None) -> None:
        """Give the daemon a result that a job waits for, and read all of it back."""
        try:
            one = known or self._begin(peer, owed.root)
            self._daemon.publish(self._store, owed.root)
            read_back(self._daemon, self._store, owed.root, Patience(self._clock() + READ_BACK_SECONDS, self._clock))
        except PeerUnavailable:
            self._refused[owed.root] = self._clock() + OWED_AGAIN_SECONDS  # others may have more luck meanwhile
            self._replicas.note(self._name, f"stopped answering over {owed.root}")
            raise
        except (PeerRefused, ContentError) as exc:
            self._wait("kubo does not keep a result", owed.root, exc, OWED_AGAIN_SECONDS)
            self._replicas.note(self._name, f"does not keep {owed.root}: {_line(exc)}")
            return
        now = self._clock()
        with transaction(self._engine) as connection:
            keep_mirrored(connection, peer, Mirrored(one.root, ours=one.ours, done=True))
            keep_copy(connection, owed, peer, now)
        self._replicas.note(self._name, "")
        log.info("result copied to kubo and read back", cid=str(owed.root), place=self._name)

    def _begin(self, peer: str, root: Cid) -> Mirrored:
        """Write down that this root is about to be given, and whether the daemon keeps it anyway."""
        found = Mirrored(root, ours=not self._daemon.is_pinned(root), done=False)
        with transaction(self._engine) as connection:
            keep_mirrored(connection, peer, found)
        return found

    def _give(self, peer: str, root: Cid, known: Mirrored | None) -> None:
        try:
            one = known or self._begin(peer, root)
            self._daemon.publish(self._store, root)
        except (PeerRefused, ContentError) as exc:  # the daemon has no room, or garbage collection was faster
            self._wait("kubo does not take a result", root, exc)
            return
        except PeerUnavailable:
            self._cut.add(root)  # the others first: it may be this root that the daemon hangs over
            raise
        self._cut.discard(root)
        with transaction(self._engine) as connection:
            keep_mirrored(connection, peer, Mirrored(root, ours=one.ours, done=True))
        log.info("result copied to kubo", cid=str(root))

    def _take_back(self, peer: str, one: Mirrored) -> None:
        try:
            if one.ours:
                self._daemon.unpin(one.root)
        except PeerRefused as exc:
            self._wait("kubo does not give a result back", one.root, exc)
            return
        except PeerUnavailable:
            self._refused[one.root] = self._clock() + OWED_AGAIN_SECONDS  # what others wait for first
            raise
        with transaction(self._engine) as connection:
            forget_mirrored(connection, peer, one.root)
            forget_copies(connection, peer, one.root)
        log.info("result taken from kubo", cid=str(one.root), ours=one.ours)

    def _wait(self, what: str, root: Cid, exc: Exception, seconds: float = AGAIN_SECONDS) -> None:
        self._refused[root] = self._clock() + seconds
        log.warning(what, cid=str(root), error=str(exc))


def read_back(daemon: PinningPeer, store: BlockSource, root: Cid, patience: Patience) -> None:
    """Have a daemon send a whole DAG from its own disk, and hash every block; nothing of it is kept.

    PeerUnavailable, PeerRefused; CarError where it sends something else. `store` has the same DAG.
    """
    seen = _Seen(store)
    Download(Alone(daemon), seen, patience, stored_size(store, root).bytes).run(root)
    absent = missing(seen, root, limit=1)
    if absent:
        raise PeerRefused(404, f"block {absent[0]} does not come back")


class _Seen(HeldView):
    """Takes verified blocks and keeps their names only; their bytes are in the store."""

    def __init__(self, store: BlockSource) -> None:
        self._came: set[Cid] = set()
        super().__init__(store, self._came)

    def put_many(self, blocks: Iterable[Block]) -> int:
        """Note blocks that came; how many."""
        taken = [cid for cid, _ in blocks]
        self._came.update(taken)
        return len(taken)


def _line(exc: Exception) -> str:
    """Its words for whoever asks about a job: cut, and without the daemon's address."""
    return " ".join(word for word in str(exc).split() if not word.startswith("http://"))[:_SHOWN]
