"""Files and directories read from blocks: also from blocks that lie."""

import pytest

from executor.content import hamt, unixfs_node
from executor.content.blocks import MemoryBlocks
from executor.content.dagpb import Link, Node
from executor.content.murmur3 import murmur3_x64_64
from executor.content.profiles import V1_2025
from executor.content.unixfs import (
    EMPTY_FILE,
    Entry,
    ManifestEntry,
    Stat,
    TreeLimits,
    TreeSize,
    export_tree,
    import_bytes,
    import_listing,
    list_dir,
    manifest,
    read_file,
    resolve,
    stat,
    tree_size,
    walk,
)
from executor.content.unixfs_node import MURMUR3_X64_64, TYPE_FILE, TYPE_SHARD, Data
from executor.errors import (
    BlockMissing,
    ContentTooLarge,
    InvalidInput,
    MalformedBlock,
    PathNotFound,
    UnsafeName,
)
from executor.protocol.cid import RAW, Cid
from tests.dag_kit import directory, file, put, raw

LIMITS = TreeLimits(max_bytes=50_000_000)
MIB = 1024 * 1024


@pytest.fixture
def store():
    return MemoryBlocks()


def test_a_manifest_lists_everything_sorted_by_path(store):
    root = import_listing(store, {"b": b"12", "a/x": b"123", "a-": b"", "e/": b""}, LIMITS)
    listing = manifest(store, root, LIMITS)

    assert [(row.path, row.kind, row.size) for row in listing.entries] == [
        ("a", "directory", 0),
        ("a-", "file", 0),
        ("a/x", "file", 3),
        ("b", "file", 2),
        ("e", "directory", 0),
    ]
    assert listing.total_bytes == 5
    assert listing.rows()[2] == {"path": "a/x", "type": "file", "size": 3, "cid": str(Cid.of(RAW, b"123"))}
    assert tree_size(store, root, LIMITS) == TreeSize(files=3, directories=2, bytes=5)


def test_the_manifest_of_a_file_is_that_file(store):
    cid = import_bytes(store, b"x")

    assert manifest(store, cid, LIMITS).entries == (ManifestEntry("", "file", 1, cid),)
    assert manifest(store, import_listing(store, {}, LIMITS), LIMITS).entries == ()


def test_a_path_is_resolved_from_directory_to_directory(store):
    large = {f"large/{i}": b"%d" % i for i in range(6000)}
    root = import_listing(store, {"a/b/c": b"deep", **large}, LIMITS)

    assert resolve(store, root, "") == root
    assert resolve(store, root, "a/b/c") == Cid.of(RAW, b"deep")
    assert resolve(store, root, "large/4321") == Cid.of(RAW, b"4321")
    assert stat(store, resolve(store, root, "large")) == Stat("directory", 0)
    assert stat(store, resolve(store, root, "a/b/c")) == Stat("file", 4)
    for absent in ("x", "a/x", "a/b/c/d", "large/6000", "large/x", "large/1/2"):
        with pytest.raises(PathNotFound, match=absent):
            resolve(store, root, absent)
    for wrong in ("/a", "a/", "a//b", "a/../a", "./a"):
        with pytest.raises(InvalidInput):
            resolve(store, root, wrong)


def test_a_large_directory_is_listed_in_the_order_of_names(store):
    names = sorted(f"{i:x}" for i in range(7000))
    root = import_listing(store, dict.fromkeys(names, b"x"), LIMITS)

    assert [entry.name for entry in list_dir(store, root)] == names
    with pytest.raises(ContentTooLarge):
        list_dir(store, root, max_entries=6999)


def test_a_file_is_no_directory_and_a_directory_no_file(store):
    with pytest.raises(MalformedBlock, match="a file, not a directory"):
        list_dir(store, import_bytes(store, b"x"))
    with pytest.raises(MalformedBlock, match="a directory, not a file"):
        next(read_file(store, import_listing(store, {}, LIMITS), 10))


def test_a_file_over_the_limit_is_refused_before_its_first_byte(store):
    cid = import_bytes(store, bytes(MIB + 1))

    with pytest.raises(ContentTooLarge):
        read_file(store, cid, MIB)


def test_a_missing_chunk_is_named(store):
    cid = file(store, [(raw(store, b"one"), 3), (Cid.of(RAW, b"two"), 3)])
    found = read_file(store, cid, 100)

    assert next(found) == b"one"
    with pytest.raises(BlockMissing, match=str(Cid.of(RAW, b"two"))):
        next(found)


def test_trees_of_other_shapes_are_read_too(store):
    """Old files hold bytes beside their links, chunks of no bytes, and leaves in dag-pb."""
    leaf = put(store, Node((), unixfs_node.encode_data(Data(0, data=b"leaf", file_size=4))))
    data = Data(TYPE_FILE, data=b"own ", file_size=11, block_sizes=(4, 0, 3))
    links = (Link("", leaf, 0), Link("", raw(store, b""), 0), Link("", raw(store, b"raw"), 0))

    assert b"".join(read_file(store, put(store, Node(links, unixfs_node.encode_data(data))), 11)) == b"own leafraw"


def test_a_chunk_of_another_size_than_said_is_refused(store):
    with pytest.raises(MalformedBlock, match="a chunk of 3 bytes"):
        list(read_file(store, file(store, [(raw(store, b"one"), 4)]), 100))


def test_a_file_of_too_many_levels_is_refused(store):
    cid = raw(store, b"x")
    for _ in range(40):
        cid = file(store, [(cid, 1)])

    with pytest.raises(MalformedBlock, match="at most 32 levels"):
        list(read_file(store, cid, 100))


def test_a_file_of_far_too_many_blocks_is_refused(store):
    """1100 bytes in 1100 blocks of one byte each."""
    with pytest.raises(MalformedBlock, match="far more blocks"):
        list(read_file(store, file(store, [(raw(store, b"x"), 1)] * 1100), 2000))


def test_a_file_that_unfolds_beyond_the_limit_is_refused_at_once(store):
    cid, size = raw(store, b"x"), 1
    for _ in range(6):
        cid, size = file(store, [(cid, size)] * 1000), size * 1000

    with pytest.raises(ContentTooLarge):
        read_file(store, cid, 10**12)


def test_directories_that_unfold_without_end_are_refused(store, tmp_path):
    cid = import_listing(store, {}, LIMITS)
    for _ in range(20):
        cid = directory(store, *(Link(name, cid, 0) for name in "abcdefghij"))

    with pytest.raises(ContentTooLarge, match="files and directories"):
        manifest(store, cid, TreeLimits(10, max_files=1000))
    with pytest.raises(ContentTooLarge, match="files and directories"):
        export_tree(store, cid, tmp_path / "out", TreeLimits(10, max_files=100))
    assert len(list(walk(store, cid))) == 21


def test_a_symbolic_link_in_a_dag_is_refused(store, tmp_path):
    link = put(store, Node((), unixfs_node.encode_data(Data(4, data=b"/etc/passwd"))))
    root = directory(store, Link("a", link, 0))

    for refused in (manifest, lambda *_: export_tree(store, root, tmp_path / "out", LIMITS)):
        with pytest.raises(MalformedBlock, match="symbolic links are not accepted"):
            refused(store, root, LIMITS)


def shard(store, *entries):
    data = Data(
        TYPE_SHARD,
        data=unixfs_node.bitfield([int(name[:2], 16) for name, _ in entries]),
        hash_type=MURMUR3_X64_64,
        fanout=256,
    )
    return put(store, Node(tuple(Link(name, cid, 0) for name, cid in entries), unixfs_node.encode_data(data)))


def bucket(name, level=0):
    return f"{murmur3_x64_64(name.encode()) >> (56 - 8 * level) & 0xFF:02X}"


def test_a_sharded_directory_by_hand_is_read(store):
    x = raw(store, b"x")
    below = shard(store, (bucket("a", 1) + "a", x))
    root = shard(store, (bucket("a"), below))

    assert list_dir(store, root) == [Entry("a", x)]
    assert resolve(store, root, "a") == x
    assert list_dir(store, shard(store)) == []


def lying_shards(store):
    x = raw(store, b"x")
    wrong = f"{int(bucket('a'), 16) ^ 1:02X}a"
    deep = shard(store, ("00a", x))
    for _ in range(8):
        deep = shard(store, ("00", deep))
    return {
        "a name in a wrong bucket": (shard(store, (wrong, x)), "where its hash does not belong"),
        "a name in a wrong deeper bucket": (
            shard(store, (bucket("a"), shard(store, (f"{int(bucket('a', 1), 16) ^ 1:02X}a", x)))),
            "where its hash does not belong",
        ),
        "a shard without names": (shard(store, ("00", shard(store))), "is empty"),
        "a file as a shard": (shard(store, ("00", x)), "not a shard of its directory"),
        "a directory as a shard": (shard(store, ("00", import_listing(store, {}, LIMITS))), "not a shard"),
        "more levels than the hash has bits": (deep, "deeper than its hash"),
    }


@pytest.mark.parametrize("case", lying_shards(MemoryBlocks()))
def test_a_sharded_directory_that_lies_is_refused(store, case):
    root, problem = lying_shards(store)[case]

    with pytest.raises(MalformedBlock, match=problem):
        list_dir(store, root)


def test_finding_in_shards_ends_where_the_hash_ends(store):
    name = "a"
    below = shard(store, ("00x", raw(store, b"x")))
    for level in reversed(range(8)):
        below = shard(store, (bucket(name, level), below))

    with pytest.raises(PathNotFound):
        resolve(store, below, name)


def test_a_shard_that_links_to_one_child_from_every_bucket_is_refused_at_once(store):
    child = shard(store, (bucket("a", 7) + "a", raw(store, b"x")))
    for _ in range(7):
        child = shard(store, *((f"{i:02X}", child) for i in range(256)))

    with pytest.raises(MalformedBlock, match="where its hash does not belong"):
        list_dir(store, child)


def test_two_names_with_one_hash_cannot_be_in_one_sharded_directory():
    with pytest.raises(UnsafeName, match="the same hash"):
        list(hamt.build([Link("a", EMPTY_FILE, 0), Link("a", EMPTY_FILE, 0)], V1_2025))
