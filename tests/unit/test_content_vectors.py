"""CIDs that others computed: Kubo's own library for our cases, and the published fixtures of IPIP-499."""

import hashlib
import json
from pathlib import Path

import pytest
from Crypto.Cipher import ChaCha20

from executor.content.blocks import MemoryBlocks
from executor.content.importer import directory_blocks, file_blocks, listing_blocks, only_hash
from executor.content.unixfs import TreeLimits, import_bytes, import_tree, list_dir
from executor.protocol.cid import RAW, Cid

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "unixfs.json").read_text())
PUBLISHED = VECTORS["published"]
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

    imported = only_hash(file_blocks(pieces, vector["links"]))

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


@pytest.mark.parametrize("vector", PUBLISHED["directories"], ids=["at the threshold", "one byte above"])
def test_the_published_directories_at_the_sharding_threshold_and_above(vector):
    stream = key_stream(vector["seed"])
    alphabet = PUBLISHED["alphabet"]
    last = vector["count"] - 1
    lengths = [vector["last_name_length" if i == last else "name_length"] for i in range(vector["count"])]
    names = ["".join(alphabet[b % len(alphabet)] for b in stream.encrypt(bytes(length))) for length in lengths]
    x = only_hash(file_blocks([b"x"]))
    store = MemoryBlocks([(x.cid, b"x")])
    store.put_many(directory_blocks((name, x) for name in names))

    assert [entry.name for entry in list_dir(store, Cid.parse(vector["cid"]))] == sorted(names)
