"""CIDs that others computed: Kubo's own library for our cases, the published fixtures of IPIP-499 and of others."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from Crypto.Cipher import ChaCha20

from executor.content import hamt
from executor.content.blocks import MemoryBlocks
from executor.content.dagpb import Link, Node
from executor.content.importer import Imported, directory_blocks, file_blocks, listing_blocks, only_hash
from executor.content.murmur3 import murmur3_x64_64
from executor.content.profiles import PROFILES, V0_2015, V1_2025
from executor.content.unixfs import TreeLimits, import_bytes, import_tree, list_dir, read_file, resolve, stat
from executor.content.unixfs_node import MURMUR3_X64_64, TYPE_SHARD, Data, bitfield, encode_data
from executor.errors import MalformedBlock
from executor.protocol.cid import RAW, Cid

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "unixfs.json").read_text())
PUBLISHED = VECTORS["published"]
OLD = VECTORS["published_old"]
ELSEWHERE = VECTORS["elsewhere"]
LIMITS = TreeLimits(max_bytes=100_000_000)
MIB = 1024 * 1024


def key_stream(seed):
    return ChaCha20.new(key=hashlib.sha256(seed.encode()).digest(), nonce=bytes(12))


def content(seed, size):
    return key_stream(seed).encrypt(bytes(size))


def chunks(data, size):
    return [data[i : i + size] for i in range(0, len(data), size)]


def listing_of(tree):
    return {path + ("/" if of is None else ""): b"" if of is None else content(*of) for path, of in tree.items()}


@pytest.mark.parametrize("vector", VECTORS["files"], ids=lambda v: "{size} by {chunk} by {links}".format(**v))
def test_a_file_has_the_cid_that_kubo_gives_it(vector):
    pieces = chunks(content(vector["seed"], vector["size"]), vector["chunk"])

    imported = only_hash(file_blocks(pieces, replace(V1_2025, max_children=vector["links"])))

    assert (str(imported.cid), imported.total, imported.size) == (vector["cid"], vector["total"], vector["size"])


@pytest.mark.parametrize("vector", VECTORS["trees"], ids=lambda v: v["name"])
def test_a_tree_in_memory_has_the_cid_that_kubo_gives_it(vector):
    imported = only_hash(listing_blocks(listing_of(vector["files"]), LIMITS))

    assert (str(imported.cid), imported.total) == (vector["cid"], vector["total"])


@pytest.mark.parametrize("vector", VECTORS["trees"], ids=lambda v: v["name"])
def test_a_tree_on_disk_has_the_cid_that_kubo_gives_it(vector, tmp_path):
    for path, data in listing_of(vector["files"]).items():
        target = tmp_path / path
        if path.endswith("/"):
            target.mkdir(parents=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)

    assert str(import_tree(MemoryBlocks(), tmp_path, LIMITS)) == vector["cid"]


@pytest.mark.parametrize("vector", VECTORS["numbered"], ids=lambda v: v["name"])
def test_a_large_directory_has_the_cid_that_kubo_gives_it(vector):
    under = f"{vector['under']}/" if vector["under"] else ""
    files = {under + vector["pattern"] % i: b"%d" % i for i in range(vector["count"])}

    imported = only_hash(listing_blocks(files, LIMITS))

    assert (str(imported.cid), imported.total) == (vector["cid"], vector["total"])


def test_the_published_small_file():
    assert str(import_bytes(MemoryBlocks(), PUBLISHED["small"]["text"].encode())) == PUBLISHED["small"]["cid"]


@pytest.mark.parametrize("vector", PUBLISHED["files"], ids=lambda v: f"{v['size']} bytes")
def test_the_published_files_at_the_chunk_size_and_above(vector):
    assert str(import_bytes(MemoryBlocks(), content(vector["seed"], vector["size"]))) == vector["cid"]


def test_the_published_files_at_the_widest_node_and_above():
    """1024 MiB and one byte more; the larger file's first node is the whole smaller file."""
    vector = PUBLISHED["widest"]
    stream = key_stream(vector["seed"])
    zeros = bytes(MIB)

    def pieces():
        for _ in range(1024):
            yield stream.encrypt(zeros)
        yield stream.encrypt(b"\0")

    blocks = file_blocks(pieces())
    nodes = [str(cid) for cid, _ in blocks if cid.codec != RAW]

    assert [nodes[0], nodes[-1]] == [vector["cid"], vector["one_byte_more"]]


def names_of(vector):
    stream = key_stream(vector["seed"])
    alphabet = PUBLISHED["alphabet"]
    last = vector["count"] - 1
    lengths = [vector["last_name_length" if i == last else "name_length"] for i in range(vector["count"])]
    return ["".join(alphabet[b % len(alphabet)] for b in stream.encrypt(bytes(length))) for length in lengths]


def stored(store, stream):
    """Keep what a stream of blocks makes."""
    made = []

    def kept():
        made.append((yield from stream))

    store.put_many(kept())
    return made[0]


BOTH = {
    f"{threshold}, {profile.name}": (profile, vector)
    for profile, of in ((V1_2025, PUBLISHED), (V0_2015, OLD))
    for threshold, vector in zip(("at the threshold", "one byte above"), of["directories"], strict=True)
}


@pytest.mark.parametrize(("profile", "vector"), BOTH.values(), ids=BOTH)
def test_the_published_directories_at_the_sharding_threshold_and_above(profile, vector):
    names = names_of(vector)
    store = MemoryBlocks()
    x = stored(store, file_blocks([b"x"], profile))

    made = stored(store, directory_blocks(((name, x) for name in names), profile))

    assert profile.text_of(made.cid) == vector["cid"]
    assert [entry.name for entry in list_dir(store, Cid.parse_any(vector["cid"]))] == sorted(names)


def test_the_published_small_file_and_the_empty_directory_by_the_old_profile():
    file = only_hash(file_blocks([OLD["small"]["text"].encode()], V0_2015))
    directory = only_hash(directory_blocks([], V0_2015))

    assert file.cid.old_text == OLD["small"]["cid"]
    assert Cid.parse_any(OLD["small"]["cid"]) == file.cid
    assert directory.cid.old_text == OLD["empty_directory"]


@pytest.mark.parametrize("vector", OLD["files"], ids=lambda v: f"{v['size']} bytes")
def test_the_published_files_by_the_old_profile(vector):
    store = MemoryBlocks()
    data = content(vector["seed"], vector["size"])

    made = stored(store, file_blocks(chunks(data, V0_2015.chunk_bytes), V0_2015))

    assert made.cid.old_text == vector["cid"]
    assert made.size == stat(store, made.cid).size == len(data)
    assert b"".join(read_file(store, made.cid, len(data))) == data


def test_files_and_a_directory_that_others_published():
    chunked, directory, old = ELSEWHERE["chunked_file"], ELSEWHERE["directory"], ELSEWHERE["dag_pb_file"]
    pieces = chunks(chunked["byte"].encode() * chunked["size"], chunked["chunk"])
    files = {name: text.encode() for name, text in directory["files"].items()}

    assert str(only_hash(file_blocks([old["text"].encode()], V0_2015)).cid) == old["cid"]
    assert str(only_hash(file_blocks(pieces)).cid) == chunked["cid"]
    assert str(only_hash(listing_blocks(files, LIMITS)).cid) == directory["cid"]


def test_a_published_node_with_its_data_first_is_refused_by_that():
    block = bytes.fromhex(ELSEWHERE["data_first"]["block"])
    cid = Cid.parse(ELSEWHERE["data_first"]["cid"])

    assert cid.matches(block)
    with pytest.raises(MalformedBlock, match="after all links"):
        list_dir(MemoryBlocks([(cid, block)]), cid)


@pytest.mark.parametrize("vector", ELSEWHERE["shards"], ids=lambda v: v["name"])
def test_published_shards(vector):
    profile = PROFILES[vector["profile"]]
    store = MemoryBlocks()
    links = []
    for i in range(vector["count"]):
        pieces = vector["content"] and [(vector["content"] % i).encode()]
        made = stored(store, file_blocks(pieces, profile) if pieces else directory_blocks([], profile))
        links.append(Link(vector["pattern"] % i, made.cid, made.total))

    shards = list(hamt.build(links, profile))
    store.put_many(block for block, _ in shards)

    assert profile.text_of(shards[-1][1].cid) == vector["cid"]
    assert [entry.name for entry in list_dir(store, shards[-1][1].cid)] == sorted(link.name for link in links)


def test_published_shards_of_another_fanout_are_read():
    names = [chr(code) for code in range(ord(" "), ord("~") + 1) if chr(code) not in "/."]
    store = MemoryBlocks()
    root = shard_of_16(store, names, 0)

    assert str(root.cid) == ELSEWHERE["fanout_16"]["cid"]
    assert [entry.name for entry in list_dir(store, root.cid)] == names
    assert all(store.get(resolve(store, root.cid, name)) == name.encode() for name in names)


def shard_of_16(store, names, level):
    """Shards of fanout 16: content of others has them, ours never does."""
    buckets = {}
    for name in names:
        buckets.setdefault(murmur3_x64_64(name.encode()) >> (60 - 4 * level) & 15, []).append(name)
    links = []
    for number in sorted(buckets):
        name = buckets[number][0] if len(buckets[number]) == 1 else ""
        made = stored(store, file_blocks([name.encode()])) if name else shard_of_16(store, buckets[number], level + 1)
        links.append(Link(f"{number:X}{name}", made.cid, made.total))
    data = Data(TYPE_SHARD, data=bitfield(list(buckets)), hash_type=MURMUR3_X64_64, fanout=16)
    cid, block = V1_2025.block(Node(tuple(links), encode_data(data)))
    store.put_many([(cid, block)])
    return Imported(cid, 0, len(block) + sum(link.tsize for link in links))
