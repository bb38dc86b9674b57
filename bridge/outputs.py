"""What nodes upload: kept per uploader, so that nobody learns from the bridge which blocks others have stored."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field

from bridge.errors import AskedTooOften
from bridge.store.content import (
    BLOCK_OVERHEAD_BYTES,
    account_bytes,
    account_owner,
    forget_block,
    held_among,
    held_bytes,
    held_cids,
    held_count,
    hold_blocks,
    holds_any,
    walk_bytes,
)
from bridge.store.engine import Engine, reading, transaction
from bridge.walks import Budget, Walk, Walks
from executor.content.blocks import Block, BlockSource
from executor.content.blockstore import BlockStore
from executor.content.walk import Descent, Frontier, links, missing
from executor.errors import BlockMismatch, BlockMissing, ContentTooLarge, MalformedBlock
from executor.protocol.cid import DAG_PB, Cid
from executor.protocol.leases import MAX_MISSING


class HeldView:
    """A block source in which only what one owner brought is here."""

    def __init__(self, store: BlockSource, held: Container[Cid]) -> None:
        self._store = store
        self._held = held

    def has(self, cid: Cid) -> bool:
        """Whether the owner brought this block and it is still here."""
        return cid in self._held and self._store.has(cid)

    def get(self, cid: Cid) -> bytes:
        """The verified bytes of a block that the owner brought; BlockMissing, BlockMismatch."""
        if cid not in self._held:
            raise BlockMissing(cid)
        return self._store.get(cid)


class _Brought:
    """The blocks of one owner, looked up one by one but for those that came just now."""

    def __init__(self, engine: Engine, owner: str, fresh: Container[Cid]) -> None:
        self._engine = engine
        self._owner = owner
        self._fresh = fresh

    def __contains__(self, cid: object) -> bool:
        if cid in self._fresh:
            return True
        with reading(self._engine) as connection:
            return isinstance(cid, Cid) and bool(held_among(connection, self._owner, [cid]))


@dataclass
class Allowance:
    """What one upload may still store: bytes, each block counted with its overhead.

    used: what is counted already, of this upload or all of an account. holds: whether the owner has any block.
    fresh: the blocks that came since this was asked for, and what a walk through them costs (`walk_bytes`).
    """

    owner: str
    limit: int
    used: int
    holds: bool
    fresh: set[Cid] = field(default_factory=set)
    fresh_walk_bytes: int = 0

    def take(self, cid: Cid, size: int) -> None:
        """Count one block that the owner had not; ContentTooLarge over the limit."""
        cost = size + BLOCK_OVERHEAD_BYTES
        if self.used + cost > self.limit:
            raise ContentTooLarge("bytes of this upload, each block counted with 1 KiB more", self.limit)
        self.used += cost
        self.fresh_walk_bytes += BLOCK_OVERHEAD_BYTES + (size if cid.codec == DAG_PB else 0)
        self.fresh.add(cid)
        self.holds = True


class Holdings:
    """The blocks that uploaders brought, in one store. Used by any thread."""

    def __init__(
        self, engine: Engine, store: BlockStore, walks: Walks | None = None, budget: Budget | None = None
    ) -> None:
        self._engine = engine
        self._store = store
        self._walks = walks or Walks()
        self._budget = budget or Budget()

    def missing(
        self,
        owner: str,
        root: Cid,
        *,
        who: str | None = None,
        brought: Allowance | None = None,
        verify: bool = False,
    ) -> list[Cid]:
        """Which blocks below `root` this owner has not brought yet, at most MAX_MISSING; none: complete.

        While some are missing, only what came since the last call is looked at; before nothing is, all of it again.
        who: against whom it counts where all that is here has to be looked at; AskedTooOften then, and where that is
        being done. brought: what came with this call, which does not count. verify: read every block, so that those
        that are damaged on our disk are asked for again; what is known already is said instead where that was asked
        for too often. MalformedBlock where a block is no dag-pb.
        """
        with reading(self._engine) as connection:
            if not holds_any(connection, owner):
                return [root]
        waits = who is None or brought is not None  # of uploads, few run at a time
        with self._walks.of(owner, root, waits=waits) as walk:
            if walk.frontier is None or verify:
                later = self._count_walk(who, owner, brought, verify=verify) if who else 0.0
                if not later:
                    return self._walk_anew(walk, owner, root, verify=verify)
                if walk.frontier is None and not self._is_still_whole(walk, owner):
                    raise AskedTooOften(later)
            if walk.frontier is None:
                return []
            source = HeldView(self._store, _Brought(self._engine, owner, brought.fresh if brought else ()))
            absent = _look(walk, walk.frontier, source)
            return absent or self._walk_anew(walk, owner, root)

    def _count_walk(self, who: str, owner: str, brought: Allowance | None, *, verify: bool) -> float:
        """Count against `who` a walk over what an owner has but for what came just now: 0, or seconds to wait."""
        fresh = brought.fresh_walk_bytes if brought else 0
        later = 0.0 if fresh else self._budget.wait(who)
        if later:
            return later  # to sum up what a hundred thousand blocks hold takes long, too
        with reading(self._engine) as connection:
            size = held_bytes(connection, owner) if verify else walk_bytes(connection, owner)
        return self._budget.take(who, max(0, size - fresh))

    def _is_still_whole(self, walk: Walk, owner: str) -> bool:
        with reading(self._engine) as connection:
            return walk.whole is not None and held_count(connection, owner) >= walk.whole

    def _walk_anew(self, walk: Walk, owner: str, root: Cid, *, verify: bool = False) -> list[Cid]:
        with reading(self._engine) as connection:
            held = held_cids(connection, owner)
        absent = _look(walk, Frontier(root), HeldView(self._store, held), verify=verify)
        if not absent:
            walk.whole = len(held)
        return absent

    def allowance(self, owner: str, limit: int) -> Allowance:
        """What an owner of output may still bring, of `limit` bytes."""
        with reading(self._engine) as connection:
            return Allowance(owner, limit, held_bytes(connection, owner), holds_any(connection, owner))

    def account_allowance(self, account: str, root: Cid, limit: int) -> Allowance:
        """What an account may still bring, of `limit` bytes over all its uploads."""
        owner = account_owner(account, root)
        with reading(self._engine) as connection:
            return Allowance(owner, limit, account_bytes(connection, account), holds_any(connection, owner))

    def take(self, allowance: Allowance, blocks: Sequence[Block]) -> None:
        """Store verified blocks for an owner. ContentTooLarge at the first that is too much; those before are kept."""
        with reading(self._engine) as connection:
            known = held_among(connection, allowance.owner, [cid for cid, _ in blocks])
        fitting: list[Block] = []
        try:
            for cid, block in blocks:
                if cid not in known and cid not in allowance.fresh:
                    allowance.take(cid, len(block))
                fitting.append((cid, block))
        finally:
            if fitting:
                self._store.put_many(fitting)
                with transaction(self._engine) as connection:
                    hold_blocks(connection, allowance.owner, ((cid, len(block)) for cid, block in fitting))

    def unreadable(self, root: Cid) -> Cid | None:
        """Read a whole DAG back and re-hash every block; the first that is missing or damaged, None if all are good.

        Damaged blocks are removed, so that whoever brings them again repairs them. Memory: one CID a block.
        MalformedBlock where a block is no dag-pb.
        """
        first: Cid | None = None
        descent = Descent([root])
        for cid in descent:
            try:
                block = self._store.get(cid)
            except (BlockMissing, BlockMismatch):
                first = first or cid
                self._store.delete(cid)
                with transaction(self._engine) as connection:
                    forget_block(connection, cid)
                continue
            if cid.codec == DAG_PB:
                descent.below(links(cid, block))
        return first

    def is_below(self, owner: str, root: Cid, wanted: Cid, *, who: str) -> bool:
        """Whether `wanted` is a block below `root`, as far as that is here; of a DAG that is here, looked up but once.

        who: against whom it counts to look; AskedTooOften as `missing`.
        """
        with self._walks.of(owner, root, waits=False) as walk:
            if walk.below:
                return wanted in walk.below
            later = self._count_walk(who, owner, None, verify=False)
            if later:
                raise AskedTooOften(later)
            seen: set[Cid] = set()
            if not missing(self._store, root, seen=seen):
                walk.below = seen
            return wanted in seen


def _look(walk: Walk, frontier: Frontier, source: BlockSource, *, verify: bool = False) -> list[Cid]:
    """Go on with a walk and note in `walk` how far it is. Where a look fails, the walk is begun anew next time."""
    walk.frontier = walk.whole = None
    try:
        absent = frontier.missing(source, MAX_MISSING, verify=verify)
    except (MalformedBlock, ContentTooLarge):
        walk.frontier = frontier  # it says so again without looking
        raise
    if absent:
        walk.frontier = frontier
    return absent
