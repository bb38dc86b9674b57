"""Trees in and out: what is imported, read and exported, and what is refused."""

import os
import socket
from pathlib import Path

import pytest

from executor.content import dagpb, hamt, unixfs_node
from executor.content.blocks import MemoryBlocks
from executor.content.blockstore import BlockStore
from executor.content.dagpb import Link, Node
from executor.content.importer import file_blocks, only_hash, tree_blocks
from executor.content.murmur3 import murmur3_x64_64
from executor.content.unixfs import (
    EMPTY_DIRECTORY,
    EMPTY_FILE,
    Entry,
    Imported,
    ManifestEntry,
    Stat,
    StoredSize,
    TreeLimits,
    TreeSize,
    blocks,
    check_name,
    export_tree,
    import_bytes,
    import_directory,
    import_file,
    import_listing,
    import_tree,
    list_dir,
    manifest,
    missing,
    read_file,
    resolve,
    stat,
    stored_size,
    tree_size,
    walk,
)
from executor.content.unixfs_node import MURMUR3_X64_64, TYPE_DIRECTORY, TYPE_FILE, TYPE_SHARD, Data
from executor.errors import (
    BlockMissing,
    ContentTooLarge,
    InvalidInput,
    MalformedBlock,
    PathNotFound,
    SourceChanged,
    UnsafeName,
)
from executor.protocol.cid import DAG_CBOR, DAG_PB, RAW, Cid

LIMITS = TreeLimits(max_bytes=50_000_000)
MIB = 1024 * 1024


@pytest.fixture
def store():
    return MemoryBlocks()


def put(store, node):
    block = dagpb.encode(node)
    cid = Cid.of(DAG_PB, block)
    store.put_many([(cid, block)])
    return cid


def directory(store, *links):
    return put(store, Node(links, unixfs_node.encode_data(Data(TYPE_DIRECTORY))))


def file(store, children, size=None):
    sizes = tuple(of for _, of in children)
    data = Data(TYPE_FILE, file_size=sum(sizes) if size is None else size, block_sizes=sizes)
    return put(store, Node(tuple(Link("", cid, 0) for cid, _ in children), unixfs_node.encode_data(data)))


def raw(store, content):
    cid = Cid.of(RAW, content)
    store.put_many([(cid, content)])
    return cid


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# --- importing ---


def test_the_empty_file_and_the_empty_directory_have_their_well_known_cids(store):
    assert import_bytes(store, b"") == EMPTY_FILE
    assert import_listing(store, {}, LIMITS) == EMPTY_DIRECTORY


def test_a_file_is_imported_from_its_path_or_from_a_descriptor(store, tmp_path):
    path = tmp_path / "file"
    content = os.urandom(MIB + 5)
    path.write_bytes(content)
    with path.open("rb") as opened:
        opened.seek(99)
        cids = {import_file(store, opened.fileno(), MIB + 5), import_file(store, path, MIB + 5)}

    assert cids == {import_bytes(MemoryBlocks(), content)}
    assert b"".join(read_file(store, cids.pop(), MIB + 5)) == content


def test_import_keeps_one_chunk_in_memory(tmp_path):
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(40 * MIB)

    class Counting(MemoryBlocks):
        def put_many(self, stream):
            return sum(1 for _ in stream)

    assert str(import_file(Counting(), path, 40 * MIB)) == str(only_hash(file_blocks([bytes(MIB)] * 40)).cid)


def test_hidden_files_are_imported(store, tmp_path):
    (tmp_path / ".hidden").write_bytes(b"x")

    assert list_dir(store, import_tree(store, tmp_path, LIMITS)) == [Entry(".hidden", Cid.of(RAW, b"x"))]


def test_times_and_modes_do_not_matter(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    before = only_hash(tree_blocks(tmp_path, LIMITS))
    (tmp_path / "file").chmod(0o711)
    os.utime(tmp_path / "file", (5, 5))

    assert only_hash(tree_blocks(tmp_path, LIMITS)) == before


def make_fifo(path):
    os.mkfifo(path)


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.fspath(path))


SPECIAL = {
    "a link to a file outside": (lambda path: path.symlink_to("/etc/passwd"), "a symbolic link"),
    "a link to a folder outside": (lambda path: path.symlink_to("/etc"), "a symbolic link"),
    "a relative link inside": (lambda path: path.symlink_to("."), "a symbolic link"),
    "a link to nothing": (lambda path: path.symlink_to("nothing"), "a symbolic link"),
    "a named pipe": (make_fifo, "a named pipe"),
    "a socket": (make_socket, "a socket"),
}


@pytest.mark.parametrize(("make", "kind"), SPECIAL.values(), ids=SPECIAL)
def test_what_is_no_file_and_no_directory_is_refused_by_its_path(store, tmp_path, monkeypatch, make, kind):
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    (tmp_path / "d").mkdir()
    make((tmp_path / "d" / "x").relative_to(tmp_path))

    with pytest.raises(UnsafeName, match=f"'d/x': {kind} is refused"):
        import_tree(store, tmp_path, LIMITS)
    with pytest.raises(UnsafeName, match=f"{kind} is refused"):
        import_file(store, tmp_path / "d" / "x", 10**9)


def test_a_device_is_not_opened(store):
    with pytest.raises(UnsafeName, match="a device is refused"):
        import_file(store, Path("/dev/zero"), 10)


def test_a_descriptor_of_something_else_is_refused(store):
    descriptor = os.open("/", os.O_RDONLY)
    try:
        with pytest.raises(UnsafeName, match="a directory is refused"):
            import_file(store, descriptor, 10)
    finally:
        os.close(descriptor)


def test_a_folder_is_no_file_and_a_file_no_folder(store, tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(UnsafeName, match="a directory is refused"):
        import_file(store, tmp_path, 10)
    with pytest.raises(UnsafeName, match="'file': a file is refused"):
        import_tree(store, tmp_path / "file", LIMITS)


def test_what_is_not_there_cannot_be_imported(store, tmp_path):
    with pytest.raises(UnsafeName, match="cannot be read: No such file"):
        import_tree(store, tmp_path / "nothing", LIMITS)


def test_a_name_that_is_not_utf_8_is_refused(store, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / os.fsdecode(b"bad-\xff")).touch()

    with pytest.raises(UnsafeName, match="UTF-8"):
        import_tree(store, tmp_path, LIMITS)


OVER = {
    "bytes": (TreeLimits(max_bytes=9), "bytes of all files: more than the limit of 9"),
    "files": (TreeLimits(max_bytes=100, max_files=3), "files and directories: more than the limit of 3"),
    "files in one folder": (TreeLimits(max_bytes=100, max_files=1), "files and directories"),
    "depth": (TreeLimits(max_bytes=100, max_depth=1), "levels of directories: more than the limit of 1"),
}
WITHIN = TreeLimits(max_bytes=10, max_files=4, max_depth=2)
TREE = {"a": b"12345", "d/e/f": b"12345"}


@pytest.mark.parametrize(("limits", "problem"), OVER.values(), ids=OVER)
def test_a_tree_over_a_limit_is_refused_on_its_way_in_and_out(store, tmp_path, limits, problem):
    root = import_listing(store, TREE, WITHIN)
    export_tree(store, root, tmp_path / "in", WITHIN)
    assert import_tree(store, tmp_path / "in", WITHIN) == root
    assert len(manifest(store, root, WITHIN).entries) == 4

    for refused in (
        lambda: import_tree(store, tmp_path / "in", limits),
        lambda: import_listing(store, TREE, limits),
        lambda: export_tree(store, root, tmp_path / "out", limits),
        lambda: manifest(store, root, limits),
    ):
        with pytest.raises(ContentTooLarge, match=problem):
            refused()


def test_a_sparse_file_of_a_terabyte_is_refused_at_once(store, tmp_path):
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(10**12)

    with pytest.raises(ContentTooLarge):
        import_tree(store, tmp_path, LIMITS)


@pytest.mark.parametrize(
    "limits", [{"max_bytes": -1}, {"max_bytes": 1, "max_files": -1}, {"max_bytes": 1, "max_depth": 999}]
)
def test_senseless_limits_are_refused(limits):
    with pytest.raises(InvalidInput):
        TreeLimits(**limits)


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(3 * MIB))
    for change in (lambda: path.write_bytes(b"short"), lambda: path.open("ab").close() or os.utime(path, (1, 1))):
        stream = tree_blocks(tmp_path, LIMITS)
        next(stream)
        change()
        with pytest.raises(SourceChanged, match="file"):
            list(stream)


LISTINGS = {
    "an absolute path": ({"/etc/passwd": b""}, UnsafeName),
    "a path upwards": ({"a/../../b": b""}, UnsafeName),
    "the folder itself": ({"./a": b""}, UnsafeName),
    "an empty name inside": ({"a//b": b""}, UnsafeName),
    "an empty name": ({"": b""}, UnsafeName),
    "NUL": ({"a\0b": b""}, UnsafeName),
    "a file as a folder": ({"a": b"", "a/b": b""}, InvalidInput),
    "a folder as a file": ({"a/b": b"", "a": b""}, InvalidInput),
    "a folder as a file and empty": ({"a": b"", "a/": b""}, InvalidInput),
}


@pytest.mark.parametrize(("files", "error"), LISTINGS.values(), ids=LISTINGS)
def test_a_listing_with_a_bad_path_is_refused(store, files, error):
    with pytest.raises(error):
        import_listing(store, files, LIMITS)


def test_a_directory_is_made_of_things_imported_before(store):
    one = Imported(raw(store, b"one"), 3, 3)

    made = import_directory(store, [("b", one), ("a", one)])

    assert made.cid == import_listing(MemoryBlocks(), {"a": b"one", "b": b"one"}, LIMITS)
    assert made.size == 6
    with pytest.raises(UnsafeName, match="'a': a name occurs twice"):
        import_directory(store, [("b", one), ("a", one), ("a", one)])


BAD_NAMES = {
    "empty": "",
    "here": ".",
    "above": "..",
    "a slash": "a/b",
    "only a slash": "/",
    "NUL": "a\0",
    "256 bytes": "ä" * 128,
    "half a surrogate pair": "\ud800",
}


@pytest.mark.parametrize("name", BAD_NAMES.values(), ids=BAD_NAMES)
def test_a_bad_name_is_refused_wherever_it_comes_from(store, tmp_path, name):
    with pytest.raises(UnsafeName):
        check_name(name)
    if name != "\ud800":  # which no block can hold
        root = directory(store, Link(name, EMPTY_FILE, 0))
        raw(store, b"")
        for refused in (
            lambda: list_dir(store, root),
            lambda: manifest(store, root, LIMITS),
            lambda: export_tree(store, root, tmp_path / "out", LIMITS),
        ):
            with pytest.raises(UnsafeName):
                refused()
        assert contents(tmp_path) == {}


@pytest.mark.parametrize("name", ["a", "...", "..a", "-rf", "a\\b", "a\nb", "x" * 255, "日本", " "])
def test_a_good_name_is_taken_as_it_is(store, tmp_path, name):
    root = import_listing(store, {name: b"x"}, LIMITS)
    export_tree(store, root, tmp_path / "out", LIMITS)

    assert [entry.name for entry in list_dir(store, root)] == [p.name for p in (tmp_path / "out").iterdir()] == [name]


# --- reading ---


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
    links = (Link("", leaf, 0), Link("", EMPTY_FILE, 0), Link("", raw(store, b"raw"), 0))

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


# --- sharded directories that lie ---


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
        list(hamt.build([Link("a", EMPTY_FILE, 0), Link("a", EMPTY_FILE, 0)]))


# --- walking ---


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


def test_a_damaged_block_counts_as_missing(tmp_path):
    store = BlockStore(tmp_path)
    root = import_listing(store, {"a": b"1"}, LIMITS)
    [path] = tmp_path.rglob(str(root))
    path.chmod(0o600)
    path.write_bytes(b"damaged")

    assert missing(store, root) == [root]


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


# --- exporting ---


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
