"""Where a verifier's content comes from beside the bridge: block stores, and CAR files that are read into a scratch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from bridge.cli.stores import MAX_TREE_BYTES, home
from bridge.verify import Layered
from bridge.verify_check import Check
from executor.content.blocks import BlockSource
from executor.content.blockstore import BlockStore
from executor.content.car import CarLimits, CarParser, read_car, write_car
from executor.content.walk import blocks
from executor.errors import CarError, ContentError, ContentTooLarge, InvalidInput
from executor.protocol.cid import Cid

_PIECE = 2**20


def car_beside(bundle: Path) -> Path:
    """Where `insula job export --content` puts the blocks of a bundle: next to it."""
    return bundle.with_name(bundle.name + ".car")


def gather(places: Sequence[Path], bundle: Path | None, scratch: BlockStore) -> tuple[Layered, list[Check]]:
    """The blocks of $INSULA_HOME/content, of folders with a block store and of CAR files, the bundle's own among them.

    A CAR file that is cut or damaged is a check that failed; the good blocks before that are used. InvalidInput for
    what is neither.
    """
    stores: list[BlockSource] = [BlockStore(home() / "content", create=False)]
    cars = []
    for place in places:
        if place.is_file():
            cars.append(place)
        else:
            stores.append(_block_store(place))
    if bundle is not None and car_beside(bundle).is_file():
        cars.append(car_beside(bundle))
    return Layered(stores, scratch), [read_car_file(car, scratch) for car in dict.fromkeys(cars)]


def write_blocks(path: Path, source: BlockSource, roots: Sequence[Cid]) -> list[Cid]:
    """A CAR file of all DAGs that are here in full, in place of what was there; the roots that are not here."""
    absent = [root for root in roots if not _is_whole(source, root)]
    present = [root for root in roots if root not in absent]
    partial = path.with_name(path.name + ".tmp")
    try:
        with partial.open("wb") as file:
            for piece in write_car(present, _distinct(source, present)):
                file.write(piece)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return absent


def read_car_file(path: Path, scratch: BlockStore) -> Check:
    """Take a CAR file's blocks into `scratch`, each re-hashed; what came of it."""
    name = f"content file {path.name}"
    parser = CarParser(CarLimits(MAX_TREE_BYTES))
    try:
        with path.open("rb") as file:
            taken = scratch.put_many(read_car(iter(lambda: file.read(_PIECE), b""), parser))
    except OSError as exc:
        raise InvalidInput("--content", f"{path} cannot be read ({exc.strerror})") from exc
    except (CarError, ContentTooLarge) as exc:
        return Check(name, ok=False, detail=str(exc))
    return Check(name, ok=True, detail=f"{taken} blocks, each re-hashed")


def _block_store(folder: Path) -> BlockStore:
    if not (folder / "blocks").is_dir():
        raise InvalidInput(
            "--content",
            f"{folder} is no CAR file and no block store: it has no folder blocks (see $INSULA_HOME/content)",
        )
    return BlockStore(folder, create=False)


def _is_whole(source: BlockSource, root: Cid) -> bool:
    try:
        for _ in blocks(source, root):
            pass
    except ContentError:
        return False
    return True


def _distinct(source: BlockSource, roots: Iterable[Cid]) -> Iterator[tuple[Cid, bytes]]:
    seen: set[Cid] = set()
    for root in roots:
        for cid, block in blocks(source, root):
            if cid not in seen:
                seen.add(cid)
                yield cid, block
