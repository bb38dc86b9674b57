"""A copy of every public result at the operator's Kubo, for as long as the bridge serves it itself.

Results only: what somebody uploads is public as soon as he says so, and an operator's Kubo is not a stranger's to fill.

The block store stays what counts: a Kubo that is away, full or wrong costs its copies and nothing else. Each root is
written down before it is given to the daemon and after, so that whatever was begun is finished or taken back after a
kill -9, and a root that the daemon's owner kept before is never taken from him.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import structlog

from bridge.settlement import OUTPUT_LABEL
from bridge.store.engine import Engine, reading, transaction
from bridge.store.mirror import Mirrored, forget_mirrored, keep_mirrored, mirrored
from executor.content.blocks import BlockSource
from executor.content.roots import RootSet
from executor.errors import ContentError, PeerRefused, PeerUnavailable
from executor.protocol.cid import Cid

log = structlog.get_logger("bridge.mirror")

AGAIN_SECONDS = 600.0
"""A root that the daemon refuses, to take or to give back, is tried again after this long."""


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


class Mirror:
    """`step` moves one root. clock: seconds since 1970."""

    def __init__(
        self, engine: Engine, store: BlockSource, roots: RootSet, daemon: PinningPeer, clock: Callable[[], float]
    ) -> None:
        self._engine = engine
        self._store = store
        self._roots = roots
        self._daemon = daemon
        self._clock = clock
        self._refused: dict[Cid, float] = {}
        self._cut: set[Cid] = set()

    def step(self) -> bool:
        """Give the daemon one public root that it has not, or take one back that is public no longer; whether it did.

        PeerUnavailable while it does not answer.
        """
        now, peer = self._clock(), self._daemon.peer_id()
        public = {root.cid for root in self._roots.live(now) if root.public and root.label.startswith(OUTPUT_LABEL)}
        with reading(self._engine) as connection:
            known = {one.root: one for one in mirrored(connection, peer)}
        self._refused = {root: until for root, until in self._refused.items() if until > now}
        for root in sorted(known.keys() - public - self._refused.keys(), key=str):
            self._take_back(peer, known[root])
            return True
        self._cut &= public
        for root in sorted(public - self._refused.keys(), key=lambda one: (one in self._cut, str(one))):
            if root not in known or not known[root].done:
                self._give(peer, known.get(root) or self._begin(peer, root))
                return True
        return False

    def _begin(self, peer: str, root: Cid) -> Mirrored:
        """Write down that this root is about to be given, and whether the daemon keeps it anyway."""
        found = Mirrored(root, ours=not self._daemon.is_pinned(root), done=False)
        with transaction(self._engine) as connection:
            keep_mirrored(connection, peer, found)
        return found

    def _give(self, peer: str, one: Mirrored) -> None:
        try:
            self._daemon.publish(self._store, one.root)
        except (PeerRefused, ContentError) as exc:  # the daemon has no room, or garbage collection was faster
            self._wait("kubo does not take a result", one.root, exc)
            return
        except PeerUnavailable:
            self._cut.add(one.root)  # the others first: it may be this root that the daemon hangs over
            raise
        self._cut.discard(one.root)
        with transaction(self._engine) as connection:
            keep_mirrored(connection, peer, Mirrored(one.root, ours=one.ours, done=True))
        log.info("result copied to kubo", cid=str(one.root))

    def _take_back(self, peer: str, one: Mirrored) -> None:
        try:
            if one.ours:
                self._daemon.unpin(one.root)
        except PeerRefused as exc:
            self._wait("kubo does not give a result back", one.root, exc)
            return
        with transaction(self._engine) as connection:
            forget_mirrored(connection, peer, one.root)
        log.info("result taken from kubo", cid=str(one.root), ours=one.ours)

    def _wait(self, what: str, root: Cid, exc: Exception) -> None:
        self._refused[root] = self._clock() + AGAIN_SECONDS
        log.warning(what, cid=str(root), error=str(exc))
