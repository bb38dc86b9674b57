"""Content by hash: what holds for every file, tree, block and archive."""

import random
import tempfile
from pathlib import Path

import dag_cbor
import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st
from multiformats import CID

from executor.content import dagpb, unixfs_node, varint
from executor.content.blocks import MemoryBlocks
from executor.content.blockstore import BlockStore
from executor.content.car import CarLimits, CarParser, encode_header, read_car, write_car
from executor.content.dagpb import Link, Node
from executor.content.importer import file_blocks, only_hash
from executor.content.roots import RootSet
from executor.content.unixfs import (
    TreeLimits,
    export_tree,
    import_listing,
    import_tree,
    list_dir,
    manifest,
    missing,
    read_file,
    resolve,
    walk,
)
from executor.content.unixfs_node import Data
from executor.errors import BlockMismatch, CarError, ContentTooLarge, InvalidInput, MalformedBlock
from executor.protocol.cid import CODECS, RAW, Cid

LIMITS = TreeLimits(max_bytes=10**7)
cids = st.builds(Cid, st.sampled_from(sorted(CODECS)), st.binary(min_size=32, max_size=32))
uint64 = st.integers(0, 2**64 - 1)
names = (
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20)
    .filter(lambda name: name not in {".", ".."})
    .filter(lambda name: len(name.encode()) <= 255)
)
trees = st.recursive(
    st.binary(max_size=300),
    lambda below: st.dictionaries(names, below, max_size=5),
    max_leaves=20,
).filter(lambda tree: isinstance(tree, dict))
raw_blocks = st.binary(max_size=200).map(lambda content: (Cid.of(RAW, content), content))


def flat(tree, prefix=""):
    """{"a/b": bytes, "empty/": b""} of nested dictionaries."""
    listing = {}
    for name, entry in tree.items():
        path = prefix + name
        if isinstance(entry, bytes):
            listing[path] = entry
        elif entry:
            listing.update(flat(entry, path + "/"))
        else:
            listing[path + "/"] = b""
    return listing


def write(tree, folder):
    folder.mkdir()
    for name, entry in tree.items():
        if isinstance(entry, bytes):
            (folder / name).write_bytes(entry)
        else:
            write(entry, folder / name)


def read(folder):
    return {p.name: p.read_bytes() if p.is_file() else read(p) for p in folder.iterdir()}


@given(cids)
def test_a_cid_and_its_text_and_bytes_are_one(cid):
    assert Cid.parse(str(cid)) == cid
    assert Cid.from_binary(cid.binary) == cid
    assert bytes(CID.decode(str(cid))) == cid.binary


@given(st.text(max_size=80) | st.from_regex(r"b[a-z2-7]{58}", fullmatch=True))
def test_a_text_is_refused_or_comes_back_unchanged(text):
    try:
        assert str(Cid.parse(text)) == text
    except InvalidInput:
        event("refused")


@given(uint64, st.binary(max_size=5))
def test_a_varint_comes_back(number, rest):
    encoded = varint.encode(number)

    assert varint.decode(encoded + rest) == (number, len(encoded))
    assert all(varint.decode(encoded[:cut]) is None for cut in range(len(encoded)))


@given(st.binary(max_size=12))
def test_whatever_is_read_as_a_varint_is_its_only_spelling(encoded):
    try:
        found = varint.decode(encoded)
    except varint.VarintError:
        return
    if found is not None:
        assert varint.encode(found[0]) == encoded[: found[1]]


links = st.builds(Link, st.text(st.characters(exclude_categories=["Cs"])), cids, uint64)
nodes = st.builds(Node, st.lists(links, max_size=5).map(tuple), st.none() | st.binary(max_size=50))


@given(nodes)
def test_a_dag_pb_node_comes_back(node):
    assert dagpb.decode(dagpb.encode(node)) == node


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_cleanly(block):
    for codec in CODECS:
        try:
            unixfs_node.parse(Cid.of(codec, block), block)
        except MalformedBlock:
            continue


@given(nodes, st.data())
def test_a_changed_node_is_read_or_refused_cleanly(node, data):
    block = bytearray(dagpb.encode(node) or b"\0")
    block[data.draw(st.integers(0, len(block) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        dagpb.decode(bytes(block))
    except MalformedBlock:
        event("refused")


optional = st.none() | uint64


messages = st.builds(
    Data,
    type=uint64,
    data=st.none() | st.binary(max_size=50),
    file_size=optional,
    block_sizes=st.lists(uint64).map(tuple),
    hash_type=optional,
    fanout=optional,
)


@given(messages)
def test_a_unixfs_message_comes_back(data):
    assert unixfs_node.decode_data(unixfs_node.encode_data(data)) == data


@given(st.lists(st.binary(min_size=1, max_size=3), max_size=30))
def test_a_file_of_any_chunks_is_read_as_it_was_written(chunks):
    store = MemoryBlocks()
    whole = only_hash(file_blocks(chunks))
    store.put_many(file_blocks(chunks))

    assert b"".join(read_file(store, whole.cid, whole.size)) == b"".join(chunks)
    assert missing(store, whole.cid) == []
    assert set(walk(store, whole.cid)) == set(store)


@settings(max_examples=50)
@given(trees)
@example({"a": {}, "b": {"c": b"", "d": {"e": b"x"}}})
def test_a_tree_that_is_imported_and_exported_is_the_same_tree(tree):
    with tempfile.TemporaryDirectory() as name:
        write(tree, Path(name) / "in")
        store = MemoryBlocks()
        root = import_tree(store, Path(name) / "in", LIMITS)
        export_tree(store, root, Path(name) / "out", LIMITS)

        assert read(Path(name) / "out") == tree
        assert import_tree(MemoryBlocks(), Path(name) / "out", LIMITS) == root
        assert import_listing(MemoryBlocks(), flat(tree), LIMITS) == root


@given(trees)
def test_every_path_of_a_manifest_resolves_to_its_row(tree):
    store = MemoryBlocks()
    root = import_listing(store, flat(tree), LIMITS)
    rows = manifest(store, root, LIMITS).entries

    assert [row.path for row in rows] == sorted((row.path for row in rows), key=str.encode)
    assert all(resolve(store, root, row.path) == row.cid for row in rows)
    files = {row.path: b"".join(read_file(store, row.cid, row.size)) for row in rows if row.kind == "file"}
    assert files == {path: content for path, content in flat(tree).items() if not path.endswith("/")}


@pytest.mark.parametrize("filler", [0, 2000])
@settings(max_examples=4, deadline=None)
@given(some=st.sets(names, max_size=20), seed=st.integers(0, 100))
def test_a_directory_does_not_depend_on_the_order_of_its_names(filler, some, seed):
    """Below and above the size where it is sharded."""
    listing = sorted(some | {f"{i:0180}" for i in range(filler)}, key=str.encode)
    store = MemoryBlocks()
    root = import_listing(store, dict.fromkeys(listing, b"x"), LIMITS)
    assert [entry.name for entry in list_dir(store, root)] == listing

    random.Random(seed).shuffle(listing)

    assert import_listing(MemoryBlocks(), dict.fromkeys(listing, b"x"), LIMITS) == root


@given(trees, st.data())
def test_what_is_missing_of_a_tree_is_what_was_taken_away(tree, data):
    whole = MemoryBlocks()
    root = import_listing(whole, flat(tree), LIMITS)
    gone = data.draw(st.sets(st.sampled_from(sorted(whole))))
    store = MemoryBlocks((cid, whole.get(cid)) for cid in whole if cid not in gone)

    while absent := missing(store, root):
        assert set(absent) <= gone
        gone -= set(absent)
        store.put_many((cid, whole.get(cid)) for cid in absent)

    assert list(walk(store, root)) == list(walk(whole, root))


car_limits = CarLimits(total_bytes=10**6)


def feed(stream, sizes):
    """Every block that a parser yields of a stream in pieces of these sizes, then the rest; and the error, if any."""
    parser = CarParser(car_limits)
    found = []
    offset = 0
    try:
        for size in sizes:
            found += parser.feed(stream[offset : offset + size])
            offset += size
        found += parser.feed(stream[offset:])
        parser.finish()
    except (CarError, ContentTooLarge) as exc:
        return found, exc
    return found, None


@given(st.lists(cids, max_size=5), st.lists(raw_blocks, max_size=10), st.lists(st.integers(0, 100), max_size=20))
def test_a_car_comes_back_however_it_is_cut_up(roots, blocks, sizes):
    stream = b"".join(write_car(roots, blocks))

    assert feed(stream, sizes) == (blocks, None)
    parser = CarParser(car_limits)
    list(read_car([stream], parser))
    assert parser.roots == tuple(roots)
    assert dag_cbor.decode(encode_header(roots)) == {"roots": [CID.decode(cid.binary) for cid in roots], "version": 1}


@given(st.lists(raw_blocks, min_size=1, max_size=5), st.data())
def test_a_cut_car_yields_its_whole_blocks_and_says_that_it_was_cut(blocks, data):
    pieces = list(write_car([], blocks))
    stream = b"".join(pieces)
    ends = [len(b"".join(pieces[: 1 + 2 * i])) for i in range(len(blocks) + 1)]
    cut = data.draw(st.integers(0, len(stream) - 1))

    found, error = feed(stream[:cut], [])

    assert found == blocks[: max(0, sum(end <= cut for end in ends) - 1)]
    assert (error is None) == (cut in ends)
    if error:
        assert "cut" in str(error)


@given(st.lists(raw_blocks, min_size=1, max_size=5), st.data())
def test_a_changed_byte_in_a_car_never_yields_a_wrong_block(blocks, data):
    stream = bytearray(b"".join(write_car([blocks[0][0]], blocks)))
    stream[data.draw(st.integers(0, len(stream) - 1))] ^= data.draw(st.integers(1, 255))

    found, _ = feed(bytes(stream), data.draw(st.lists(st.integers(0, 50), max_size=5)))

    assert all(cid.matches(block) for cid, block in found)


@given(st.binary(max_size=300), st.lists(st.integers(0, 50), max_size=5))
def test_any_bytes_are_a_car_or_refused_cleanly(stream, sizes):
    found, error = feed(stream, sizes)

    assert all(cid.matches(block) for cid, block in found)
    assert found or error or encode_header([])[:3] in stream


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    return BlockStore(tmp_path_factory.mktemp("store"))


@settings(max_examples=50)
@given(content=st.binary(min_size=1, max_size=200), data=st.data())
def test_a_changed_byte_on_disk_is_always_noticed(disk, content, data):
    cid = Cid.of(RAW, content)
    disk.put(cid, content)
    damaged = bytearray(content)
    damaged[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    [path] = disk.root.rglob(str(cid))
    path.chmod(0o600)
    path.write_bytes(damaged)

    with pytest.raises(BlockMismatch):
        disk.get(cid)

    disk.put(cid, content)
    assert disk.get(cid) == content


@settings(max_examples=30, deadline=None)
@given(trees=st.lists(trees, min_size=1, max_size=4), data=st.data())
def test_public_is_exactly_what_a_live_public_root_reaches(trees, data):
    with tempfile.TemporaryDirectory() as name:
        store = BlockStore(Path(name))
        roots = RootSet(store)
        dags = [import_listing(store, flat(tree), LIMITS) for tree in trees]
        held = {}
        for root, label in data.draw(st.lists(st.tuples(st.sampled_from(dags), st.sampled_from("xy")), max_size=8)):
            act = data.draw(st.sampled_from([roots.keep, roots.publish, roots.drop]))
            act(root, label)
            held[root, label] = act == roots.publish
        public = {cid for (root, _), is_public in held.items() if is_public for cid in walk(store, root)}

        assert {cid for cid in store if roots.is_public(cid, 0.0)} == public
