"""What of a DAG is here, and in what state: the walk that goes on where others stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from executor.content.blockstore import BlockStore
from executor.content.walk import Descent, links
from executor.errors import BlockMismatch, BlockMissing, MalformedBlock
from executor.protocol.cid import DAG_PB, Cid


@dataclass(slots=True)
class Survey:
    """blocks, bytes: distinct blocks that are here, and what they hold. absent: blocks that are not, of those whose
    parent is (what is below them is not known). damaged: those of them whose bytes were not theirs. malformed: blocks
    that no reader can make sense of, with the reason.
    """

    blocks: int = 0
    bytes: int = 0
    absent: list[Cid] = field(default_factory=list)
    damaged: list[Cid] = field(default_factory=list)
    malformed: list[tuple[Cid, str]] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether everything is here and can be read."""
        return not self.absent and not self.malformed


def survey(
    store: BlockStore,
    root: Cid,
    *,
    verify: bool = False,
    seen: set[Cid] | None = None,
    watch: Callable[[int], object] = lambda _: None,
) -> Survey:
    """Look at every block below `root` once; raw ones are read and hashed with `verify` only, the others always.

    seen: blocks to pass over; those that were looked at are added. watch: told the size of each block.
    """
    found = Survey()
    descent = Descent([root], set() if seen is None else seen)
    for cid in descent:
        try:
            block = store.get(cid) if verify or cid.codec == DAG_PB else None
            size = store.stat(cid).size if block is None else len(block)
            descent.below(links(cid, block or b""))
        except BlockMismatch:
            found.damaged.append(cid)
            found.absent.append(cid)
            continue
        except (BlockMissing, OSError):  # an OSError: the disk does not give it
            found.absent.append(cid)
            continue
        except MalformedBlock as exc:
            found.malformed.append((cid, exc.problem))
            continue
        found.blocks += 1
        found.bytes += size
        watch(size)
    return found
