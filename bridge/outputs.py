"""What nodes upload: kept per uploader, so that nobody learns from the bridge which blocks others have stored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bridge.store.content import (
    BLOCK_OVERHEAD_BYTES,
    account_bytes,
    account_owner,
    forget_block,
    held_bytes,
    held_cids,
    hold_blocks,
)
from bridge.store.engine import Engine, reading, transaction
from executor.content.blocks import Block, BlockSource
from executor.content.blockstore import BlockStore
from executor.content.walk import Descent, links, missing
from executor.errors import BlockMismatch, BlockMissing, ContentTooLarge, MalformedBlock
from executor.protocol.cid import DAG_PB, Cid
from executor.protocol.leases import MAX_MISSING


class HeldView:
    """A block source in which only what one owner brought is here."""

    def __init__(self, store: BlockSource, held: set[Cid]) -> None:
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


@dataclass
class Allowance:
    """What one upload may still store: bytes, each block counted with its overhead. `held`: what is counted already."""

    owner: str
    limit: int
    used: int
    held: set[Cid]

    def take(self, cid: Cid, size: int) -> None:
        """Count one block, once; ContentTooLarge over the limit."""
        if cid in self.held:
            return
        if self.used + size + BLOCK_OVERHEAD_BYTES > self.limit:
            raise ContentTooLarge("bytes of this upload, each block counted with 1 KiB more", self.limit)
        self.used += size + BLOCK_OVERHEAD_BYTES
        self.held.add(cid)


class Holdings:
    """The blocks that uploaders brought, in one store. Used by any thread."""

    def __init__(self, engine: Engine, store: BlockStore) -> None:
        self._engine = engine
        self._store = store

    def missing(self, owner: str, root: Cid, *, verify: bool = False) -> list[Cid]:
        """Which blocks below `root` this owner has not brought yet, at most MAX_MISSING; none: complete.

        verify: read every block, so that those that are damaged on our disk are asked for again.
        MalformedBlock where a block is no dag-pb.
        """
        with reading(self._engine) as connection:
            held = held_cids(connection, owner)
        return missing(HeldView(self._store, held), root, MAX_MISSING, verify=verify)

    def allowance(self, owner: str, limit: int) -> Allowance:
        """What an owner of output may still bring, of `limit` bytes."""
        with reading(self._engine) as connection:
            return Allowance(owner, limit, held_bytes(connection, owner), held_cids(connection, owner))

    def account_allowance(self, account: str, root: Cid, limit: int) -> Allowance:
        """What an account may still bring, of `limit` bytes over all its uploads."""
        owner = account_owner(account, root)
        with reading(self._engine) as connection:
            return Allowance(owner, limit, account_bytes(connection, account), held_cids(connection, owner))

    def take(self, allowance: Allowance, blocks: Sequence[Block]) -> None:
        """Store verified blocks for an owner. ContentTooLarge at the first that is too much; those before are kept."""
        fitting: list[Block] = []
        try:
            for cid, block in blocks:
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

    def is_below(self, roots: Iterable[Cid], wanted: Cid) -> bool:
        """Whether `wanted` is one of `roots` or a block below them, as far as these DAGs are here."""
        descent = Descent(list(roots))
        for cid in descent:
            if cid == wanted:
                return True
            if cid.codec != DAG_PB:
                continue
            try:
                descent.below(links(cid, self._store.get(cid)))
            except (BlockMissing, BlockMismatch, MalformedBlock):
                continue
        return False
