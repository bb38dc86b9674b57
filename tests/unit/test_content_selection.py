"""Which blocks an answer of a gateway holds, in which order, and how a path is followed."""

import pytest

from executor.content import dagpb, unixfs_node
from executor.content.blocks import MemoryBlocks
from executor.content.cidtext import old_binary
from executor.content.dagpb import Link, Node
from executor.content.gateway_query import Scope, Span
from executor.content.selection import (
    MAX_DIRECTORY_DATA,
    MAX_PATH_BLOCKS,
    MAX_PATH_BYTES,
    Known,
    Located,
    file_size,
    locate,
    sections,
    select,
)
from executor.content.unixfs import TreeLimits, import_bytes, import_listing, resolve, walk
from executor.content.unixfs_node import MAX_FANOUT, MURMUR3_X64_64, TYPE_DIRECTORY, TYPE_SHARD, Data
from executor.errors import BlockMissing, ContentTooLarge, MalformedBlock, PathNotFound
from executor.protocol.cid import DAG_PB
from tests.gateway_kit import directory, file_of, leaf, old_link, put, put_block, symlink
from tests.hostile_dags import Counted

LIMITS = TreeLimits(max_bytes=50_000_000)
MANY = {f"file-{number}": b"%d" % (number // 2) for number in range(6000)}
"""So many that their directory is sharded; every two have the same content."""

DIRECTORY = unixfs_node.encode_data(Data(TYPE_DIRECTORY))


@pytest.fixture
def store():
    return MemoryBlocks()


def chosen(store, root, path="", scope=Scope.ALL, span=None, *, dups=False, **limits):
    found = locate(store, root, tuple(path.split("/")) if path else ())
    picked = list(select(store, found, scope, span, dups=dups, **limits))
    assert all(cid.matches(block) for cid, block in picked)
    return [cid for cid, _ in picked]


@pytest.fixture
def tree(store):
    return import_listing(store, {"a/b/x": b"x", "a/y": b"y", "z": b"z" * 3_000_000}, LIMITS)


def at(store, root, path):
    return resolve(store, root, path)


def test_all_of_a_path_is_the_way_there_and_everything_below_its_end(store, tree):
    assert chosen(store, tree, "a") == [tree, *walk(store, at(store, tree, "a"))]
    assert chosen(store, tree, "a/b/x") == [tree, *(at(store, tree, path) for path in ("a", "a/b", "a/b/x"))]
    assert chosen(store, tree) == list(walk(store, tree))


def test_a_block_is_the_end_of_the_path_alone(store, tree):
    assert chosen(store, tree, "a", Scope.BLOCK) == [tree, at(store, tree, "a")]
    assert chosen(store, tree, "z", Scope.BLOCK) == [tree, at(store, tree, "z")]


def test_an_entity_is_a_listing_or_a_whole_file(store, tree):
    assert chosen(store, tree, "", Scope.ENTITY) == [tree]
    assert chosen(store, tree, "z", Scope.ENTITY) == [tree, *walk(store, at(store, tree, "z"))]


def test_through_a_sharded_directory_only_the_shards_on_the_way_come(store):
    root = import_listing(store, MANY, LIMITS)
    picked = chosen(store, root, "file-4711", Scope.BLOCK)

    assert picked[0] == root
    assert picked[-1] == at(store, root, "file-4711")
    assert 2 <= len(picked) <= 5
    only_these = MemoryBlocks((cid, store.get(cid)) for cid in picked)
    assert at(only_these, root, "file-4711") == picked[-1]


def test_the_entity_of_a_sharded_directory_is_all_of_its_shards_and_no_file(store):
    root = import_listing(store, MANY, LIMITS)
    picked = chosen(store, root, "", Scope.ENTITY)

    assert picked == [cid for cid in walk(store, root) if cid.codec == DAG_PB]
    assert len(picked) > 100


CHUNKS = [bytes([number]) * 256 for number in range(4)] + [b"!!"]

#: entity-bytes -> which chunks of 256, 256, 256, 256 and 2 bytes
PARTS = {
    "from the start to the end": (Span(0, None), [0, 1, 2, 3, 4]),
    "from the middle": (Span(512, None), [2, 3, 4]),
    "in the middle": (Span(512, 1023), [2, 3]),
    "in the middle, the end counted from the end": (Span(512, -256), [2, 3]),
    "the last five": (Span(-5, None), [3, 4]),
    "more than all, from the end": (Span(-9999, None), [0, 1, 2, 3, 4]),
    "more than all, but not the last": (Span(-9999, -3), [0, 1, 2, 3]),
    "the first byte": (Span(0, 0), [0]),
    "the last byte of a chunk": (Span(255, 255), [0]),
    "the first byte of the next": (Span(256, 256), [1]),
    "beyond the end": (Span(1025, 5000), [4]),
    "nothing": (Span(512, -900), []),
}


@pytest.mark.parametrize(("span", "chunks"), PARTS.values(), ids=PARTS)
def test_bytes_of_a_file_are_the_fewest_blocks_that_hold_them(store, span, chunks):
    root, _ = file_of(store, *CHUNKS)

    assert chosen(store, root, "", Scope.ENTITY, span) == [root, *(leaf(store, CHUNKS[number]) for number in chunks)]


def test_bytes_of_a_deep_file_leave_the_branches_beside_them_alone(store):
    left, middle, right = (file_of(store, *CHUNKS[start : start + 2]) for start in (0, 1, 2))
    root, _ = file_of(store, left, middle, right, data=b"head")
    want = [root, left[0], leaf(store, CHUNKS[1]), middle[0], leaf(store, CHUNKS[1])]

    assert chosen(store, root, "", Scope.ENTITY, Span(4 + 300, 4 + 512), dups=True) == want
    assert chosen(store, root, "", Scope.ENTITY, Span(0, 3)) == [root]


def test_bytes_of_a_file_do_not_need_the_blocks_beside_them(store):
    root, _ = file_of(store, *CHUNKS)
    left = MemoryBlocks((cid, store.get(cid)) for cid in (root, leaf(store, CHUNKS[0])))

    assert len(chosen(left, root, "", Scope.ENTITY, Span(0, 10))) == 2
    with pytest.raises(BlockMissing):
        chosen(left, root, "", Scope.ENTITY, Span(0, 256))


def test_the_same_branch_in_part_and_then_in_full_is_sent_in_full(store):
    branch = file_of(store, *CHUNKS[:3])
    root, _ = file_of(store, branch, branch)
    picked = chosen(store, root, "", Scope.ENTITY, Span(600, None))

    assert set(picked) == {root, branch[0], *(leaf(store, chunk) for chunk in CHUNKS[:3])}
    assert len(picked) == len(set(picked))


def test_bytes_of_what_is_no_file_are_its_entity(store, tree):
    assert chosen(store, tree, "a", Scope.ENTITY, Span(0, 0)) == [tree, at(store, tree, "a")]


def test_a_file_of_one_raw_block_has_bytes_too(store):
    root = import_bytes(store, b"short")

    assert chosen(store, root, "", Scope.ENTITY, Span(1, 2)) == [root]
    assert file_size(root, b"short") == 5


def test_repeats_are_sent_as_often_as_they_occur_or_once(store):
    same, other = leaf(store, b"same"), leaf(store, b"other")
    root = directory(store, a=same, b=other, c=same)

    assert chosen(store, root, dups=True) == [root, same, other, same]
    assert chosen(store, root) == [root, same, other]


def test_a_small_dag_that_unfolds_without_end_ends_at_the_limit(store):
    root = leaf(store, b"seed")
    for _ in range(60):
        root = directory(store, a=root, b=root)

    assert len(chosen(store, root, most=61 * 2)) == 61
    with pytest.raises(ContentTooLarge):
        chosen(store, root, dups=True, most=10_000)


def test_a_symbolic_link_is_a_block_that_is_not_followed(store):
    file = leaf(store, b"target")
    link = symlink(store, b"file")
    root = directory(store, file=file, link=link)

    for scope in Scope:
        assert chosen(store, root, "link", scope) == [root, link]
    with pytest.raises(PathNotFound):
        locate(store, root, ("link", "x"))


def test_a_dag_pb_block_that_is_not_unixfs_is_a_block_and_its_links(store):
    child = leaf(store, b"child")
    root = put(store, [Link("child", child, 5)])

    assert chosen(store, root, "", Scope.ENTITY) == [root]
    assert chosen(store, root, "", Scope.ALL) == [root, child]
    with pytest.raises(PathNotFound):
        locate(store, root, ("child",))


#: paths that lead nowhere
NOWHERE = ["nothing", "a/nothing", "z/below a file", "a/y/below a raw block"]


@pytest.mark.parametrize("path", NOWHERE)
def test_a_path_that_leads_nowhere_is_not_found(store, tree, path):
    with pytest.raises(PathNotFound):
        locate(store, tree, tuple(path.split("/")))


def test_a_name_that_a_sharded_directory_has_not_is_not_found(store):
    with pytest.raises(PathNotFound):
        locate(store, import_listing(store, MANY, LIMITS), ("nothing",))


def test_a_missing_block_on_the_way_is_named(store, tree):
    left = MemoryBlocks([(tree, store.get(tree))])

    with pytest.raises(BlockMissing):
        locate(left, tree, ("a", "y"))


def test_a_path_of_too_many_blocks_is_given_up(store):
    root = leaf(store, b"end")
    for _ in range(MAX_PATH_BLOCKS + 1):
        root = directory(store, a=root)

    with pytest.raises(ContentTooLarge):
        locate(store, root, ("a",) * (MAX_PATH_BLOCKS + 1))


def test_a_path_through_more_bytes_of_directories_than_anybody_writes_is_given_up(store):
    root = leaf(store, b"end")
    for _ in range(5):
        root = put(store, [Link("a", root, 0), Link("b" * (MAX_PATH_BYTES // 5), root, 0)], DIRECTORY)

    assert locate(store, root, ("a",) * 4)
    with pytest.raises(ContentTooLarge, match="bytes of the directories"):
        locate(store, root, ("a",) * 5)


def test_a_way_that_is_known_is_gone_again_without_reading():
    whole = MemoryBlocks()
    root = import_listing(whole, {"a/b/x": b"x", **{f"m/{name}": value for name, value in MANY.items()}}, LIMITS)
    store, known = Counted((cid, whole.get(cid)) for cid in whole), Known()
    for path in (("a", "b", "x"), ("m", "file-4711")):
        first = locate(store, root, path, known)
        reads = store.reads

        assert locate(store, root, path, known) == first == locate(whole, root, path)
        assert store.reads == reads


def test_a_way_that_is_known_ends_where_a_block_of_it_is_gone(store, tree):
    known = Known()
    locate(store, tree, ("a", "y"), known)
    left = MemoryBlocks([(tree, store.get(tree))])

    with pytest.raises(BlockMissing):
        locate(left, tree, ("a", "y"), known)


def test_known_ways_are_few_and_their_names_short(store):
    known, long = Known(most=2), "x" * 256
    links = [Link(name, leaf(store, name.encode()), 0) for name in ("a", "b", "c", long)]
    root = put(store, links, DIRECTORY)
    for link in links:
        locate(store, root, (link.name,), known)

    assert [known.get(root, name) is not None for name in ("a", "b", "c", long)] == [False, False, True, False]


def test_a_path_that_is_too_long_is_so_however_much_of_it_is_known(store):
    known = Known()
    root = leaf(store, b"end")
    for _ in range(5):
        root = put(store, [Link("a", root, 0), Link("b" * (MAX_PATH_BYTES // 5), root, 0)], DIRECTORY)
    locate(store, root, ("a",) * 4, known)
    below = locate(store, root, ("a",)).end
    locate(store, below, ("a",) * 4, known)

    with pytest.raises(ContentTooLarge):
        locate(store, root, ("a",) * 5, known)


#: what a path does not lead through
NO_DIRECTORY = {
    "a name that stands there twice": lambda store, to: put(store, [Link("a", to, 0)] * 2, DIRECTORY),
    "a directory that says more than directories do": lambda store, to: put(
        store, [Link("a", to, 0)], unixfs_node.encode_data(Data(TYPE_DIRECTORY, data=bytes(MAX_DIRECTORY_DATA)))
    ),
    "a shard of more links than can be": lambda store, to: put(
        store,
        [Link(f"{number:04}", to, 0) for number in range(MAX_FANOUT + 1)],
        unixfs_node.encode_data(Data(TYPE_SHARD, data=b"", hash_type=MURMUR3_X64_64, fanout=MAX_FANOUT)),
    ),
    "no UnixFS": lambda store, to: put(store, [Link("a", to, 0)], b"\xff"),
    "no dag-pb": lambda store, to: put_block(store, b"\xff"),
    "a file": lambda store, to: file_of(store, b"chunk")[0],
    "a symbolic link": lambda store, to: symlink(store, b"a"),
}


@pytest.mark.parametrize("name", NO_DIRECTORY)
def test_what_is_no_sound_directory_leads_nowhere(store, name):
    root = directory(store, x=NO_DIRECTORY[name](store, leaf(store, b"end")))

    with pytest.raises(PathNotFound):
        locate(store, root, ("x", "a"))


def test_a_damaged_directory_ends_a_download_of_all(store):
    broken = put_block(store, b"\xff")
    root = directory(store, a=leaf(store, b"a"), b=broken)
    found = Located((), (root,), root)
    picked = select(store, found, Scope.ALL, None, dups=False)

    assert [next(picked)[0] for _ in range(2)] == [root, leaf(store, b"a")]
    with pytest.raises(MalformedBlock):
        list(picked)


def test_blocks_are_named_as_those_who_link_to_them_name_them(store):
    new, old = directory(store), directory(store, x=leaf(store, b"x"))
    data = unixfs_node.encode_data(Data(TYPE_DIRECTORY))
    root = put_block(store, old_link(b"a", old) + dagpb.encode(Node((Link("b", new, 0),), data)))
    picked = list(select(store, locate(store, root, ()), Scope.ALL, None, dups=False))

    as_new = [binary for binary, _ in sections(picked, is_old=False)]
    as_old = [binary for binary, _ in sections(picked, is_old=True)]

    assert as_new == [root.binary, old_binary(old), leaf(store, b"x").binary, new.binary]
    assert as_old == [old_binary(root), *as_new[1:]]
