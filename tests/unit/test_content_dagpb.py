"""The decoders of varints, protobuf, dag-pb and UnixFS: what they read, and an attack table of what they refuse."""

import mmh3
import pytest

from executor.content import dagpb, unixfs_node, varint
from executor.content.dagpb import Link, Node
from executor.content.murmur3 import murmur3_x64_64
from executor.content.protobuf import bytes_field, varint_field
from executor.content.unixfs_node import (
    MURMUR3_X64_64,
    TYPE_DIRECTORY,
    TYPE_FILE,
    TYPE_RAW,
    TYPE_SHARD,
    Data,
    DirectoryNode,
    FileNode,
    ShardNode,
)
from executor.errors import MalformedBlock
from executor.protocol.cid import DAG_CBOR, DAG_PB, RAW, Cid

LEAF = Cid.of(RAW, b"leaf")
HASH = bytes_field(1, LEAF.binary)
NAME = bytes_field(2, b"name")
TSIZE = varint_field(3, 4)
LINK = bytes_field(2, HASH + NAME + TSIZE)
DATA = bytes_field(1, b"data")


@pytest.mark.parametrize(
    ("number", "encoded"),
    [(0, "00"), (1, "01"), (127, "7f"), (128, "8001"), (300, "ac02"), (2**63, "80808080808080808001")],
)
def test_a_varint_has_its_published_form(number, encoded):
    assert varint.encode(number).hex() == encoded
    assert varint.decode(b"x" + bytes.fromhex(encoded) + b"rest", 1) == (number, 1 + len(encoded) // 2)


@pytest.mark.parametrize("number", [-1, 2**64])
def test_a_number_that_is_no_varint_is_refused(number):
    with pytest.raises(varint.VarintError):
        varint.encode(number)


@pytest.mark.parametrize(
    ("encoded", "problem"),
    [("8000", "shortest"), ("ff" * 9 + "7f", "64 bits"), ("80" * 10 + "01", "10 bytes"), ("ff" * 5000, "10 bytes")],
)
def test_a_varint_bomb_is_refused(encoded, problem):
    with pytest.raises(varint.VarintError, match=problem):
        varint.decode(bytes.fromhex(encoded))


def test_a_varint_that_is_not_all_here_yet_is_no_error():
    assert varint.decode(b"") is None
    assert varint.decode(b"\x80" * 9) is None


def test_a_node_is_read_as_it_was_written():
    node = Node((Link("a", LEAF, 4), Link("", LEAF, 2**40)), b"data")

    assert dagpb.decode(dagpb.encode(node)) == node
    assert dagpb.decode(b"") == Node((), None)
    assert dagpb.encode(Node((), b"")) == b"\x0a\x00"


def test_a_link_may_lack_name_and_size():
    assert dagpb.decode(bytes_field(2, HASH)).links == (Link("", LEAF, 0),)


def test_a_link_by_cidv0_is_read_as_cidv1():
    old = Cid.of(DAG_PB, b"old")

    assert dagpb.decode(bytes_field(2, bytes_field(1, old.binary[2:]))).links[0].cid == old


WRITTEN = {
    "nothing": Node((), None),
    "no links": Node((), b"data"),
    "one target under many names": Node(tuple(Link(f"{number}", LEAF, number) for number in range(300)), b"data"),
    "names and sizes of every length": Node(
        tuple(Link("\u00e9" * length, Cid.of(RAW, b"%d" % length), 2**length) for length in (0, 1, 40, 60, 63)), None
    ),
}


@pytest.mark.parametrize("node", WRITTEN.values(), ids=WRITTEN)
def test_the_targets_of_a_node_are_those_of_its_links(node):
    for old_cids in (False, True):
        if old_cids:
            node = Node(tuple(Link(link.name, Cid(DAG_PB, link.cid.digest), link.tsize) for link in node.links), b"")
        block = dagpb.encode(node, old_cids=old_cids)

        assert dagpb.decode(block) == node
        assert dagpb.targets(block) == [link.cid for link in node.links]
        assert dagpb.targets(block, each_once=True) == list(dict.fromkeys(link.cid for link in node.links))


def test_of_a_node_of_more_links_than_can_be_none_is_read():
    block = dagpb.encode(Node((Link("a", LEAF, 4),) * 3, b"data"))

    assert len(dagpb.decode(block, LEAF, 3).links) == 3
    with pytest.raises(MalformedBlock, match="3 links, where at most 2"):
        dagpb.decode(block, LEAF, 2)


#: name -> how often it stands in the directory below
NAMES = {"a": 1, "": 1, "twice": 2, "\u00e9": 1, "not there": 0, "\x12\x01b": 1, "b": 0, "x" * 200: 1}


@pytest.mark.parametrize("name", NAMES)
def test_one_name_is_found_without_reading_the_others(name):
    names = [name for name, times in NAMES.items() for _ in range(times)]
    made = [Link(name, Cid.of(DAG_PB, b"%d" % number), 4) for number, name in enumerate(names)]
    there = [link.cid for link in made if link.name == name]

    for old_cids in (False, True):
        assert dagpb.find(dagpb.encode(Node(tuple(made), b"data"), old_cids=old_cids), name) == (there, b"data")


def test_a_name_is_not_found_in_a_hash_or_in_the_data():
    cid = Cid(RAW, bytes_field(2, b"a" * 30))
    block = dagpb.encode(Node((Link("b", cid, 0), Link("c", LEAF, 0)), bytes_field(2, b"a" * 30)))

    assert dagpb.find(block, "a" * 30)[0] == []


def test_links_need_not_be_sorted_to_be_read():
    node = Node((Link("b", LEAF, 4), Link("a", LEAF, 4)), unixfs_node.encode_data(Data(TYPE_DIRECTORY)))
    block = dagpb.encode(node)

    assert [link.name for link in unixfs_node.parse(Cid.of(DAG_PB, block), block).links] == ["b", "a"]


REFUSED_NODES = {
    "random bytes": b"\xde\xad\xbe\xef",
    "data before links": DATA + LINK,
    "data twice": DATA + DATA,
    "a link between data": LINK + DATA + LINK,
    "an unknown field": bytes_field(3, b"x"),
    "data as a number": varint_field(1, 5),
    "a fixed-width field": b"\x0d\x00\x00\x00\x00",
    "a group": b"\x0b\x0c",
    "a field longer than the node": b"\x0a\x05data",
    "a length of 2**63": b"\x0a" + varint.encode(2**63) + b"x",
    "a link longer than the node": b"\x12\x7f" + HASH,
    "a name longer than its link": bytes_field(2, HASH + b"\x12\x09name") + LINK,
    "a size that is cut": bytes_field(2, HASH + NAME + b"\x18\x80") + LINK,
    "a hash that is cut": bytes_field(2, HASH[:20]) + LINK,
    "a hash of version 0 that is cut": bytes_field(2, b"\x0a\x22\x12\x20" + bytes(31)) + LINK,
    "something behind a link's size": bytes_field(2, HASH + NAME + TSIZE + TSIZE),
    "a length bomb": b"\x0a" + b"\xff" * 20,
    "a length that is not the shortest": b"\x0a\x84\x00data",
    "cut inside a tag": b"\x80",
    "cut behind a tag": b"\x0a",
    "a link without a hash": bytes_field(2, NAME + TSIZE),
    "a link with two hashes": bytes_field(2, HASH + HASH),
    "a link out of order": bytes_field(2, HASH + TSIZE + NAME),
    "a link with an unknown field": bytes_field(2, HASH + bytes_field(4, b"x")),
    "a hash that is a number": bytes_field(2, varint_field(1, 4)),
    "a name that is a number": bytes_field(2, HASH + varint_field(2, 4)),
    "a size that is bytes": bytes_field(2, HASH + bytes_field(3, b"4")),
    "a hash that is not a CID": bytes_field(2, bytes_field(1, b"hash")),
    "an identity CID": bytes_field(2, bytes_field(1, b"\x01\x55\x00\x04abcd")),
    "a name that is not UTF-8": bytes_field(2, HASH + bytes_field(2, b"\xff\xfe")),
    "a name of half a surrogate pair": bytes_field(2, HASH + bytes_field(2, b"\xed\xa0\x80")),
    "more than 2 MiB": bytes_field(1, bytes(dagpb.MAX_BLOCK_BYTES)),
}


@pytest.mark.parametrize("block", REFUSED_NODES.values(), ids=REFUSED_NODES)
def test_what_is_not_dag_pb_is_refused_by_the_name_of_its_block(block):
    cid = Cid.of(DAG_PB, block)

    with pytest.raises(MalformedBlock) as caught:
        unixfs_node.parse(cid, block)

    assert caught.value.cid == cid
    with pytest.raises(MalformedBlock):
        dagpb.targets(block, cid)


def unixfs(message, *links):
    return dagpb.encode(Node(links, message))


def data(*args, **fields):
    return unixfs_node.encode_data(Data(*args, **fields))


def chunk(name=""):
    return Link(name, LEAF, 4)


def shard(names, bits=None, **fields):
    links = [Link(name, LEAF, 4) for name in names]
    numbers = [int(name[:2], 16) for name in names] if bits is None else bits
    given = {"hash_type": MURMUR3_X64_64, "fanout": 256, **fields}
    return unixfs(data(TYPE_SHARD, data=unixfs_node.bitfield(numbers), **given), *links)


REFUSED_UNIXFS = {
    "no data": (dagpb.encode(Node((), None)), "data is missing"),
    "an empty message": (unixfs(b""), "the type is missing"),
    "garbage": (unixfs(b"\xff\xff"), "not UnixFS"),
    "a symbolic link": (unixfs(data(4, data=b"/etc/passwd")), "symbolic links are not accepted"),
    "metadata": (unixfs(data(3)), "type 3 is not accepted"),
    "a type of tomorrow": (unixfs(data(9)), "type 9 is not accepted"),
    "two types": (unixfs(varint_field(1, 1) + varint_field(1, 2)), "repeated"),
    "an unknown field": (unixfs(data(TYPE_FILE) + varint_field(9, 1)), "unexpected field 9"),
    "a type that is bytes": (unixfs(bytes_field(1, b"\x02")), "unexpected field 1"),
    "packed chunk sizes": (unixfs(data(TYPE_FILE) + bytes_field(4, b"\x04"), chunk()), "unexpected field 4"),
    "a chunk without a size": (unixfs(data(TYPE_FILE), chunk()), "1 chunks, but 0"),
    "a size without a chunk": (unixfs(data(TYPE_FILE, file_size=4, block_sizes=(4,))), "0 chunks, but 1"),
    "a chunk with a name": (unixfs(data(TYPE_FILE, file_size=4, block_sizes=(4,)), chunk("x")), "has a name"),
    "a wrong file size": (unixfs(data(TYPE_FILE, file_size=5, block_sizes=(4,)), chunk()), "says 5, .* add up to 4"),
    "content without a file size": (unixfs(data(TYPE_FILE, data=b"abc")), "says 0, .* add up to 3"),
    "a name twice": (unixfs(data(TYPE_DIRECTORY), chunk("a"), chunk("b"), chunk("a")), "a name occurs twice"),
    "a fanout of zero": (shard(["00a"], fanout=0), "fanout of 0"),
    "no fanout": (shard(["00a"], fanout=None), "fanout of 0"),
    "a fanout of 4": (shard(["00a"], fanout=4), "fanout of 4"),
    "a fanout of 100": (shard(["00a"], fanout=100), "fanout of 100"),
    "a fanout that eats memory": (shard(["00a"], fanout=2**40), "fanout of"),
    "another hash function": (shard(["00a"], hash_type=0x12), "murmur3"),
    "a short name in a shard": (shard(["0"], bits=[0]), "bucket number"),
    "a lower case bucket": (shard(["0aname"]), "bucket number"),
    "a bucket twice": (shard(["0Aone", "0Atwo"], bits=[10]), "bit field"),
    "a bit too many": (shard(["0Aone"], bits=[10, 11]), "bit field"),
    "a bit too few": (shard(["0Aone"], bits=[]), "bit field"),
}


@pytest.mark.parametrize(("block", "problem"), REFUSED_UNIXFS.values(), ids=REFUSED_UNIXFS)
def test_what_is_not_a_sound_file_or_directory_is_refused(block, problem):
    with pytest.raises(MalformedBlock, match=problem):
        unixfs_node.parse(Cid.of(DAG_PB, block), block)


def test_a_bucket_number_over_the_fanout_is_refused():
    block = unixfs(data(TYPE_SHARD, data=b"\x01", hash_type=MURMUR3_X64_64, fanout=8), Link("8name", LEAF, 4))

    with pytest.raises(MalformedBlock, match="bucket number"):
        unixfs_node.parse(Cid.of(DAG_PB, block), block)


def test_dag_cbor_is_no_file():
    with pytest.raises(MalformedBlock, match="dag-cbor"):
        unixfs_node.parse(Cid.of(DAG_CBOR, b"\xa0"), b"\xa0")


def test_what_blocks_say_is_read():
    leaf = Cid.of(RAW, b"abc")
    wrapped = unixfs(data(TYPE_FILE, data=b"ab", file_size=6, block_sizes=(4,)), chunk())
    old = unixfs(data(TYPE_RAW, data=b"ab", file_size=2))
    dated = unixfs(data(TYPE_DIRECTORY) + varint_field(7, 0o755) + bytes_field(8, varint_field(1, 5)), chunk("a"))
    sharded = shard(["00", "0Bname"])

    def parse(block):
        return unixfs_node.parse(Cid.of(DAG_PB, block), block)

    assert unixfs_node.parse(leaf, b"abc") == FileNode(b"abc", (), 3)
    assert parse(wrapped) == FileNode(b"ab", ((LEAF, 4),), 6)
    assert parse(old) == FileNode(b"ab", (), 2)
    assert parse(dated) == DirectoryNode((chunk("a"),))
    assert parse(sharded) == ShardNode(256, ((0, "", Link("00", LEAF, 4)), (11, "name", Link("0Bname", LEAF, 4))))


@pytest.mark.parametrize(
    ("bucket", "field"), [(0x00, "01"), (0x08, "0100"), (0x10, "010000"), (0xFF, "80" + "00" * 31)]
)
def test_the_bit_field_is_big_endian_without_leading_zeros(bucket, field):
    assert unixfs_node.bitfield([bucket]).hex() == field


@pytest.mark.parametrize("length", [*range(34), 255])
def test_murmur3_is_that_of_the_reference(length):
    sample = bytes(range(255, 255 - length, -1))

    assert murmur3_x64_64(sample) == mmh3.hash64(sample, signed=False)[0]
