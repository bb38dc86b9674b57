"""Which content is private data: by any block, from above and from below."""

from executor.agent.classes import Classes
from executor.audit.policy import DataClass
from executor.content.blocks import MemoryBlocks
from executor.content.importer import import_bytes, import_listing
from executor.content.limits import TreeLimits
from executor.content.reader import resolve
from executor.protocol.cid import DAG_CBOR, RAW, Cid

LIMITS = TreeLimits(10**9)
SECRET = b"s" * 3 * 2**20


def tree(blocks, **more):
    return import_listing(
        blocks, {"scan/one.dcm": SECRET, "scan/two.dcm": b"two", "none": b"", "empty/": b"", **more}, LIMITS
    )


def classes(blocks, *roots):
    return Classes(blocks, {"medical": DataClass(cids=tuple(map(str, roots)))})


def test_abuse_a_part_of_private_data_is_private():
    blocks = MemoryBlocks()
    root = tree(blocks)
    found = classes(blocks, root)

    for path in ("", "scan", "scan/one.dcm", "scan/two.dcm"):
        assert found.of([resolve(blocks, root, path)]) == {"medical"}
    assert found.of([Cid.of(RAW, SECRET[: 2**20])]) == {"medical"}  # one chunk of a file


def test_abuse_what_is_built_around_private_data_is_private():
    blocks = MemoryBlocks()
    root = tree(blocks)
    around = import_listing(blocks, {"mine": b"mine", "theirs": b"two"}, LIMITS)

    assert classes(blocks, root).of([around]) == {"medical"}


def test_abuse_private_data_that_is_not_all_here_is_private_by_what_is():
    blocks = MemoryBlocks()
    root = tree(blocks)
    listed = classes(MemoryBlocks([(root, blocks.get(root))]), root)

    assert listed.of([root]) == {"medical"}
    assert listed.of([resolve(blocks, root, "scan")]) == {"medical"}


def test_what_arrives_later_counts():
    blocks, here = MemoryBlocks(), MemoryBlocks()
    root = tree(blocks)
    part = Cid.of(RAW, SECRET[: 2**20])
    found = classes(here, root)
    assert found.of([part]) == frozenset()

    here.put_many((cid, blocks.get(cid)) for cid in blocks)

    assert found.of([part]) == {"medical"}
    assert found.of([part]) == {"medical"}  # remembered now


def test_other_content_is_public_whatever_everybody_has():
    blocks = MemoryBlocks()
    root = tree(blocks)
    other = import_listing(blocks, {"other": b"other", "none": b"", "empty/": b""}, LIMITS)

    assert classes(blocks, root).of([other, import_bytes(blocks, b""), Cid.of(DAG_CBOR, b"x")]) == frozenset()
    assert Classes(blocks, {}).of([root]) == frozenset()
