"""CARv1: what goes in comes out, verified; and an attack table of streams that are refused."""

import tracemalloc

import dag_cbor
import pytest
from multiformats import CID

from executor.content import varint
from executor.content.blocks import MemoryBlocks
from executor.content.car import CarLimits, CarParser, decode_header, encode_header, export_car, read_car, write_car
from executor.content.unixfs import TreeLimits, import_listing, walk
from executor.errors import BlockMissing, CarError, ContentTooLarge
from executor.protocol.cid import DAG_PB, RAW, Cid

BLOCKS = [(Cid.of(RAW, block), block) for block in (b"one", b"", b"three" * 100)]
ROOT = BLOCKS[0][0]
GOOD = b"".join(write_car([ROOT], BLOCKS))
LIMITS = CarLimits(total_bytes=100_000, header_bytes=1000, block_bytes=1000)


def section(content):
    return varint.encode(len(content)) + content


def header(*roots):
    return section(encode_header(roots))


def read(stream, limits=LIMITS):
    """Blocks and error of a stream, fed in one piece."""
    found = []
    try:
        found.extend(read_car([stream], CarParser(limits)))
    except (CarError, ContentTooLarge) as exc:
        return found, str(exc)
    return found, None


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, len(GOOD)])
def test_a_stream_is_read_however_it_is_cut_up(size):
    parser = CarParser(LIMITS)
    pieces = [GOOD[i : i + size] for i in range(0, len(GOOD), size)]

    assert list(read_car(pieces, parser)) == BLOCKS
    assert parser.roots == (ROOT,)
    assert (parser.blocks, parser.bytes) == (3, len(GOOD))


@pytest.mark.parametrize("count", [0, 1, 2, 23, 24, 300])
def test_the_header_is_dag_cbor(count):
    roots = [Cid.of(RAW, b"%d" % i) for i in range(count)]

    theirs = dag_cbor.decode(encode_header(roots))

    assert theirs == {"version": 1, "roots": [CID.decode(root.binary) for root in roots]}
    assert dag_cbor.encode(theirs) == encode_header(roots)
    assert decode_header(encode_header(roots)) == tuple(roots)


def test_old_archives_with_cidv0_are_read_as_cidv1():
    block = bytes.fromhex("0a020801")
    cid = Cid.of(DAG_PB, block)
    v0 = cid.binary[2:]
    old_header = b"\xa2\x65roots\x81\xd8\x2a\x58\x23\x00" + v0 + b"\x67version\x01"
    parser = CarParser(LIMITS)

    assert list(read_car([section(old_header) + section(v0 + block)], parser)) == [(cid, block)]
    assert parser.roots == (cid,)


ROOT_CID = b"\xd8\x2a\x58\x25\x00" + ROOT.binary
BAD_HEADERS = {
    "nothing": (b"", "cut: the stream ended inside its header"),
    "half a length": (b"\x80", "cut: the stream ended inside its header"),
    "half a header": (header(ROOT)[:20], "cut: the stream ended inside its header"),
    "an empty header": (b"\0", "header: an empty section"),
    "a length bomb": (varint.encode(2**62), "is this a CAR file"),
    "a varint bomb": (b"\xff" * 64, "header: a varint has more than"),
    "text": (b"GET / HTTP/1.1\r\n" + b"x" * 80, "not that of a CARv1"),
    "CARv2": (section(b"\xa1\x67version\x02"), "CARv2"),
    "version 3": (section(encode_header([ROOT])[:-1] + b"\x03"), "not that of a CARv1"),
    "no version": (section(encode_header([ROOT])[:-9]), "not that of a CARv1"),
    "something behind the version": (section(encode_header([ROOT]) + b"\0"), "not that of a CARv1"),
    "roots that are a text": (section(b"\xa2\x65roots\x63abc\x67version\x01"), "not that of a CARv1"),
    "roots that never end": (section(b"\xa2\x65roots\x99\xff\xff" + ROOT_CID), "not a CID"),
    "a count that is not the shortest": (section(b"\xa2\x65roots\x98\x01" + ROOT_CID + b"\x67version\x01"), "CARv1"),
    "a root that is a text": (section(b"\xa2\x65roots\x81\x63abc\x67version\x01"), "not a CID"),
    "a root without its zero": (section(b"\xa2\x65roots\x81\xd8\x2a\x43abc\x67version\x01"), "not a CID"),
    "a root of another kind": (section(b"\xa2\x65roots\x81\xd8\x2a\x43\0ab\x67version\x01"), "header: root"),
    "a header that ends inside a root": (section(b"\xa2\x65roots\x81\xd8\x2a\x58"), "not that of a CARv1"),
}


@pytest.mark.parametrize(("stream", "problem"), BAD_HEADERS.values(), ids=BAD_HEADERS)
def test_a_bad_header_is_refused(stream, problem):
    blocks, error = read(stream)

    assert blocks == []
    assert problem in error


def wrong_block():
    return section(ROOT.binary + b"two")


BAD_SECTIONS = {
    "a block of another CID": (wrong_block(), f"block 4: the bytes do not hash to {ROOT}"),
    "zeros as padding": (b"\0" * 100, "block 4: an empty section (padding or garbage"),
    "garbage": (b"\x05garbage", "block 4: cid:"),
    "a length bomb": (varint.encode(2**62) + b"x", "the limit for a block is 1000"),
    "a varint bomb": (b"\xff" * 64, "block 4: a varint has more than"),
    "a block over the limit": (section(Cid.of(RAW, bytes(1001)).binary + bytes(1001)), "the limit for a block is 1000"),
    "half a CID": (section(ROOT.binary[:20]), "block 4: cid:"),
    "an identity CID": (section(b"\x01\x55\x00\x04abcd" + bytes(32)), "hash function 0x00"),
    "another codec": (section(b"\x01\x71".replace(b"\x71", b"\x29") + ROOT.binary[2:] + b"one"), "codec 0x29"),
    "half a length": (b"\x80", "cut: the stream ended inside block 4"),
    "half a block": (section(ROOT.binary + b"one")[:-1], "cut: the stream ended inside block 4"),
}


@pytest.mark.parametrize(("tail", "problem"), BAD_SECTIONS.values(), ids=BAD_SECTIONS)
def test_a_bad_section_is_refused_after_the_good_blocks_before_it(tail, problem):
    blocks, error = read(GOOD + tail)

    assert blocks == BLOCKS
    assert problem in error


def test_nothing_behind_an_error_is_read():
    parser = CarParser(LIMITS)
    assert parser.feed(GOOD + wrong_block() + section(ROOT.binary + b"one")) == BLOCKS

    for _ in range(2):
        with pytest.raises(CarError, match="do not hash"):
            parser.feed(section(ROOT.binary + b"one"))
        with pytest.raises(CarError, match="do not hash"):
            parser.finish()


def test_an_error_comes_at_once_where_no_block_comes_with_it():
    parser = CarParser(LIMITS)
    parser.feed(GOOD)

    with pytest.raises(CarError, match="do not hash"):
        parser.feed(wrong_block())


def test_a_stream_over_the_total_limit_is_refused_after_its_blocks():
    assert read(GOOD, CarLimits(total_bytes=len(GOOD))) == (BLOCKS, None)

    blocks, error = read(GOOD, CarLimits(total_bytes=len(GOOD) - 1))

    assert blocks == BLOCKS[:2]
    assert error == f"bytes of the CAR stream: more than the limit of {len(GOOD) - 1}"


@pytest.mark.parametrize(("size", "step"), [(2 * 2**20, 65536), (2**16, 1)], ids=["large pieces", "single bytes"])
def test_the_parser_holds_one_section_whatever_the_pieces(size, step):
    parser = CarParser(CarLimits(total_bytes=10**9))
    parser.feed(header(ROOT))
    big = bytes(size)
    stream = section(Cid.of(RAW, big).binary + big)
    tracemalloc.start()
    try:
        for _ in range(3):
            for offset in range(0, len(stream), step):
                parser.feed(stream[offset : offset + step])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert parser.blocks == 3
    assert peak < 1.5 * size
    parser.finish()


def test_a_dag_is_exported_parents_first_and_each_block_once():
    store = MemoryBlocks()
    root = import_listing(store, {"a/one": b"same", "b": b"same", "a/two": b"2"}, TreeLimits(1000))

    parser = CarParser(LIMITS)
    blocks = list(read_car(export_car(store, root), parser))

    assert parser.roots == (root,)
    assert [cid for cid, _ in blocks] == list(walk(store, root))
    assert len({cid for cid, _ in blocks}) == len(blocks) == 4


def test_a_dag_that_is_not_complete_cannot_be_exported_as_if_it_were():
    store = MemoryBlocks()
    root = import_listing(store, {"a": b"1", "b": b"2"}, TreeLimits(1000))
    partial = MemoryBlocks((cid, store.get(cid)) for cid in store if cid != Cid.of(RAW, b"2"))

    with pytest.raises(BlockMissing):
        list(export_car(partial, root))


def test_an_export_over_its_limit_stops():
    store = MemoryBlocks()
    root = import_listing(store, {"a": bytes(1000)}, TreeLimits(1000))

    with pytest.raises(ContentTooLarge):
        list(export_car(store, root, max_bytes=1000))
