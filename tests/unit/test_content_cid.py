"""CIDs: one text per CID, and nothing but CIDv1 with sha2-256."""

import pickle

import pytest
from multiformats import CID

from executor.errors import InvalidInput
from executor.protocol.cid import DAG_CBOR, DAG_PB, RAW, Cid

EMPTY_DIRECTORY = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"
EMPTY_RAW = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"
EMPTY_DIRECTORY_V0 = "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn"
PUBLISHED = [
    (RAW, b"", EMPTY_RAW),
    (DAG_PB, bytes.fromhex("0a020801"), EMPTY_DIRECTORY),
    (DAG_PB, bytes.fromhex("0a0408021800"), "bafybeif7ztnhq65lumvvtr4ekcwd2ifwgm3awq4zfr3srh462rwyinlb4y"),
    (RAW, b"hello world", "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"),
    (DAG_CBOR, b"\xa0", "bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua"),
]


@pytest.mark.parametrize(("codec", "block", "text"), PUBLISHED)
def test_a_block_has_its_published_cid(codec, block, text):
    assert str(Cid.of(codec, block)) == text
    assert Cid.parse(text) == Cid.of(codec, block)


@pytest.mark.parametrize(("codec", "block", "text"), PUBLISHED)
def test_multiformats_reads_the_same_cid(codec, block, text):
    theirs = CID.decode(text)

    assert bytes(theirs) == Cid.parse(text).binary
    assert theirs.codec.code == codec
    assert theirs.raw_digest == Cid.parse(text).digest


def with_head(hexadecimal):
    return bytes.fromhex(hexadecimal) + bytes(32)


def text_of(binary):
    return str(CID.decode("f" + binary.hex()).set(base="base32"))


REFUSED_TEXTS = {
    "nothing": ("", "starts with 'b'"),
    "CIDv0": (EMPTY_DIRECTORY_V0, f"ipfs cid base32 {EMPTY_DIRECTORY_V0}"),
    "upper case": (EMPTY_RAW.upper(), "starts with 'b'"),
    "mixed case": ("b" + EMPTY_RAW[1:].upper(), "only the letters"),
    "base58": ("zdj7WhuEjrB52m1BisYCtmjH1hSKa7yZ3jEZ9JcXaFRD51wVz", "starts with 'b'"),
    "base16": ("f0155122000", "starts with 'b'"),
    "a path": ("/ipfs/" + EMPTY_RAW, "starts with 'b'"),
    "a space before": (" " + EMPTY_RAW, "starts with 'b'"),
    "a newline behind": (EMPTY_RAW + "\n", "59 characters"),
    "one character too few": (EMPTY_RAW[:-1], "59 characters"),
    "one too many": (EMPTY_RAW + "a", "59 characters"),
    "padding": (EMPTY_RAW + "======", "59 characters"),
    "a digit that base32 lacks": (EMPTY_RAW[:-1] + "1", "only the letters"),
    "bits behind the digest": (EMPTY_RAW[:-1] + "v", "not the canonical text"),
    "letters that look alike": (EMPTY_RAW[:-1] + "\N{CYRILLIC SMALL LETTER A}", "only the letters"),
    "codec json": (text_of(Cid.parse(EMPTY_RAW).binary.replace(b"\x01\x55", b"\x01\x30", 1)), "codec 0x30"),
}


@pytest.mark.parametrize(("text", "problem"), REFUSED_TEXTS.values(), ids=REFUSED_TEXTS)
def test_a_text_that_is_not_the_canonical_one_is_refused(text, problem):
    with pytest.raises(InvalidInput) as caught:
        Cid.parse(text, "inputs[0].cid")

    assert caught.value.field == "inputs[0].cid"
    assert problem in caught.value.problem


REFUSED_BINARIES = {
    "nothing": (b"", "36 bytes"),
    "cut": (Cid.parse(EMPTY_RAW).binary[:-1], "36 bytes"),
    "too long": (Cid.parse(EMPTY_RAW).binary + b"\0", "36 bytes"),
    "CIDv0": (Cid.parse(EMPTY_DIRECTORY).binary[2:], "CIDv0"),
    "version 0": (with_head("00551220"), "CID version 0"),
    "version 2": (with_head("02551220"), "CID version 2"),
    "codec car": (with_head("01021220"), "codec 0x02"),
    "identity hash": (with_head("01550020"), "hash function 0x00"),
    "sha3-256": (with_head("01551620"), "hash function 0x16"),
    "a shortened digest": (with_head("0155121f"), "hash function 0x12"),
}


@pytest.mark.parametrize(("binary", "problem"), REFUSED_BINARIES.values(), ids=REFUSED_BINARIES)
def test_bytes_that_are_not_such_a_cid_are_refused(binary, problem):
    with pytest.raises(InvalidInput, match=problem):
        Cid.from_binary(binary)


def test_a_cid_cannot_be_made_of_the_wrong_parts():
    with pytest.raises(InvalidInput, match="codec 0x200"):
        Cid(0x0200, bytes(32))
    with pytest.raises(InvalidInput, match="32 bytes, not 31"):
        Cid(RAW, bytes(31))


def test_a_cidv0_inside_a_block_is_the_cidv1_of_the_same_block():
    cid = Cid.parse(EMPTY_DIRECTORY)

    assert Cid.from_link(CID.decode(EMPTY_DIRECTORY_V0).__bytes__()) == cid
    assert Cid.from_link(cid.binary) == cid
    with pytest.raises(InvalidInput, match="CIDv0"):
        Cid.from_link(cid.binary[2:-1])


def test_a_cid_says_whether_bytes_are_its_own():
    cid = Cid.of(RAW, b"mine")

    assert cid.matches(b"mine")
    assert cid.matches(memoryview(b"mine"))
    assert not cid.matches(b"Mine")


def test_a_cid_can_be_sorted_shown_and_pickled():
    one, two = Cid(RAW, bytes(32)), Cid(DAG_PB, bytes(32))

    assert sorted([two, one]) == [one, two]
    assert repr(one) == f"Cid.parse('{one}')"
    assert pickle.loads(pickle.dumps(one)) == one


def test_a_cidv0_is_read_where_people_write_one_and_written_where_that_is_asked_for():
    cid = Cid.parse_any(EMPTY_DIRECTORY_V0)

    assert cid == Cid.parse(EMPTY_DIRECTORY) == Cid.parse_any(EMPTY_DIRECTORY)
    assert cid.old_text == EMPTY_DIRECTORY_V0
    assert cid.old_binary == cid.binary[2:]


@pytest.mark.parametrize("text", ["Qm" + "1" * 44, "Qm" + "z" * 44, "Qm0" + "1" * 43, "QmUNLLs", ""])
def test_a_text_that_is_no_cidv0_is_refused(text):
    with pytest.raises(InvalidInput):
        Cid.parse_any(text)


def test_only_dag_pb_has_cidv0():
    with pytest.raises(InvalidInput, match="only dag-pb has CIDv0, not raw"):
        _ = Cid.of(RAW, b"").old_text
