"""Walking a DAG, and exporting it to a folder."""

import pytest

from executor.content.blocks import MemoryBlocks
from executor.content.blockstore import BlockStore
from executor.content.dagpb import Link
from executor.content.unixfs import (
    EMPTY_DIRECTORY,
    EMPTY_FILE,
    StoredSize,
    TreeLimits,
    blocks,
    export_tree,
    import_bytes,
    import_listing,
    missing,
    resolve,
    stored_size,
    walk,
)
from executor.content.walk import Frontier
from executor.errors import (
    BlockMissing,
    InvalidInput,
    MalformedBlock,
)
from executor.protocol.cid import DAG_CBOR, DAG_PB, RAW, Cid
from tests.dag_kit import directory
from tests.hostile_dags import Counted

LIMITS = TreeLimits(max_bytes=50_000_000)
MIB = 1024 * 1024


@pytest.fixture
def store():
    return MemoryBlocks()


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_walk_names_each_block_once_parents_first(store):
    root = import_listing(store, {"a/x": b"same", "b/x": b"same", "c": b"2"}, LIMITS)
    order = list(walk(store, root))

    assert order[0] == root
    assert sorted(order) == sorted(set(store))
    assert order[1:3] == [resolve(store, root, "a"), Cid.of(RAW, b"same")]
    assert dict(blocks(store, root)) == {cid: store.get(cid) for cid in store}
    assert stored_size(store, root) == StoredSize(4, sum(len(store.get(cid)) for cid in store))


def test_a_chain_of_any_depth_is_walked(store):
    cid = import_listing(store, {}, LIMITS)
    for _ in range(5000):
        cid = directory(store, Link("d", cid, 0))

    assert len(list(walk(store, cid))) == 5001
    assert missing(store, cid) == []


def test_the_missing_frontier_shrinks_until_the_dag_is_complete(store):
    whole = MemoryBlocks()
    root = import_listing(whole, {"a/b/c": b"1", "a/d": b"2", "e": b"3"}, LIMITS)
    rounds = []
    while absent := missing(store, root):
        rounds.append(absent)
        store.put_many((cid, whole.get(cid)) for cid in absent)

    assert rounds[0] == [root]
    assert rounds[1] == [resolve(whole, root, "a"), resolve(whole, root, "e")]
    assert len(rounds) == 4
    assert set(store) == set(whole)


def test_the_missing_frontier_can_be_asked_for_in_parts():
    whole = MemoryBlocks()
    root = import_listing(whole, {str(i): b"%d" % i for i in range(10)}, LIMITS)
    store = MemoryBlocks([(root, whole.get(root))])

    assert len(missing(store, root, limit=3)) == 3
    assert missing(store, root, limit=3) == missing(store, root)[:3]


def test_a_frontier_that_is_asked_again_says_what_a_walk_would_and_reads_each_block_once():
    whole = MemoryBlocks()
    root = import_listing(whole, {f"{i}/{j}/x": b"%d %d" % (i, j) for i in range(6) for j in range(6)}, LIMITS)
    store, twin, frontier = Counted(), MemoryBlocks(), Frontier(root)
    while absent := frontier.missing(store, limit=5):
        assert absent == missing(twin, root, limit=5)
        for blocks_of in (store, twin):
            blocks_of.put_many((cid, whole.get(cid)) for cid in absent[::2])

    assert set(store) == set(whole)
    assert (frontier.looked_at, frontier.waiting) == (len(whole), 0)
    assert store.reads == sum(cid.codec == DAG_PB for cid in whole)


def test_a_frontier_of_what_can_never_be_whole_says_so_again_without_reading():
    store = Counted()
    broken = Cid.of(DAG_PB, b"broken")
    store.put_many([(broken, b"broken")])
    frontier = Frontier(broken)

    for _ in range(3):
        with pytest.raises(MalformedBlock):
            frontier.missing(store)
    assert store.reads == 1


def test_a_damaged_block_counts_as_missing(tmp_path):
    store = BlockStore(tmp_path)
    root = import_listing(store, {"a": b"1"}, LIMITS)
    [path] = tmp_path.rglob(str(root))
    path.chmod(0o600)
    path.write_bytes(b"damaged")

    assert missing(store, root) == [root]


def test_a_damaged_raw_block_counts_as_missing_where_all_bytes_are_read(tmp_path):
    store = BlockStore(tmp_path)
    root = import_listing(store, {"a": b"1"}, LIMITS)
    leaf = Cid.of(RAW, b"1")
    [path] = tmp_path.rglob(str(leaf))
    path.chmod(0o600)
    path.write_bytes(b"2")

    assert missing(store, root) == []
    assert missing(store, root, verify=True) == [leaf]
    assert missing(store, root) == [leaf]


def test_dag_cbor_cannot_be_walked(store):
    cid = Cid.of(DAG_CBOR, b"\xa0")
    store.put_many([(cid, b"\xa0")])

    for refused in (lambda: list(walk(store, cid)), lambda: missing(store, cid)):
        with pytest.raises(MalformedBlock, match="dag-cbor"):
            refused()


def test_a_walk_over_something_absent_says_so(store):
    root = directory(store, Link("a", EMPTY_DIRECTORY, 0))

    with pytest.raises(BlockMissing, match=str(EMPTY_DIRECTORY)):
        list(walk(store, root))


def test_an_exported_tree_is_read_only_and_of_no_time(store, tmp_path):
    root = import_listing(store, {"a": b"1", "d/b": b"2", "e/": b""}, LIMITS)
    export_tree(store, root, tmp_path / "out", LIMITS)

    assert contents(tmp_path / "out") == {"a": b"1", "d/b": b"2"}
    assert (tmp_path / "out" / "e").is_dir()
    for path in (tmp_path / "out").rglob("*"):
        assert path.stat().st_mtime == 0
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o444)
    assert (tmp_path / "out").stat().st_mtime == 0


def test_a_single_file_is_exported_under_the_name_of_the_target(store, tmp_path):
    export_tree(store, import_bytes(store, b"x" * 3 * MIB), tmp_path / "out", LIMITS)

    assert (tmp_path / "out").read_bytes() == b"x" * 3 * MIB


@pytest.mark.parametrize("kind", ["file", "folder", "link to a folder", "link to nothing"])
def test_nothing_that_exists_is_written_over(store, tmp_path, kind):
    target = tmp_path / "out"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    {
        "file": target.touch,
        "folder": target.mkdir,
        "link to a folder": lambda: target.symlink_to(elsewhere),
        "link to nothing": lambda: target.symlink_to(tmp_path / "nothing"),
    }[kind]()

    for root in (import_listing(store, {"a": b"1"}, LIMITS), import_bytes(store, b"1")):
        with pytest.raises(InvalidInput, match="exists already"):
            export_tree(store, root, target, LIMITS)
    assert contents(elsewhere) == {}
    assert not (tmp_path / "nothing").exists()


def test_an_export_of_something_absent_says_so(store, tmp_path):
    with pytest.raises(BlockMissing):
        export_tree(store, directory(store, Link("a", EMPTY_FILE, 0)), tmp_path / "out", LIMITS)


def test_a_folder_that_is_not_there_is_an_error_of_the_system(store, tmp_path):
    with pytest.raises(FileNotFoundError):
        export_tree(store, import_bytes(store, b"1"), tmp_path / "nothing" / "out", LIMITS)
