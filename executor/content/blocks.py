"""Where blocks come from and go to: the two small protocols of this package, and a store in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, Self

from executor.errors import BlockMismatch, BlockMissing
from executor.protocol.cid import Cid

Block = tuple[Cid, bytes]
"""A block under its CID. Nothing that receives one trusts that they belong together, unless it is Verified."""


class Verified(tuple[Cid, bytes]):
    """A block whose bytes were hashed when it was made, by one of these two ways; they cannot change afterwards.

    A store does not hash it again: to hash costs more than to write.
    """

    __slots__ = ()

    @classmethod
    def of(cls, codec: int, content: bytes) -> Self:
        """Bytes under the CID that is theirs."""
        return cls((Cid.of(codec, content), content))

    @classmethod
    def checked(cls, cid: Cid, content: bytes) -> Self | None:
        """Bytes under a CID; None where it is not theirs."""
        return cls((cid, content)) if cid.matches(content) else None


class BlockSource(Protocol):
    """Blocks that can be read."""

    def get(self, cid: Cid) -> bytes:
        """The verified bytes of a block; BlockMissing, BlockMismatch."""

    def has(self, cid: Cid) -> bool:
        """Whether the block is here; a hint, the bytes are not verified."""


class BlockSink(Protocol):
    """Blocks that can be written."""

    def put_many(self, blocks: Iterable[Block]) -> int:
        """Verify and store blocks as they come; the number of blocks taken. When it returns, they are on disk."""


class BlockStoreLike(BlockSource, BlockSink, Protocol):
    """Both."""


class Discarded:
    """A sink that keeps nothing: for who wants to know what something would be called."""

    def put_many(self, blocks: Iterable[Block]) -> int:
        """Let them go by; their number."""
        return sum(1 for _ in blocks)


class MemoryBlocks:
    """Blocks in a dictionary, for small content that never touches a disk."""

    def __init__(self, blocks: Iterable[Block] = ()) -> None:
        self._blocks: dict[Cid, bytes] = {}
        self.put_many(blocks)

    def get(self, cid: Cid) -> bytes:
        """The bytes of a block; BlockMissing."""
        try:
            return self._blocks[cid]
        except KeyError:
            raise BlockMissing(cid) from None

    def has(self, cid: Cid) -> bool:
        """Whether the block is here."""
        return cid in self._blocks

    def put_many(self, blocks: Iterable[Block]) -> int:
        """Verify and keep blocks; the number of blocks taken."""
        count = 0
        for named in blocks:
            cid, block = named
            if not isinstance(named, Verified) and not cid.matches(block):
                raise BlockMismatch(cid, "memory")
            self._blocks[cid] = block
            count += 1
        return count

    def __iter__(self) -> Iterator[Cid]:
        return iter(self._blocks)

    def __len__(self) -> int:
        return len(self._blocks)
