"""CIDs as others write them."""

import pytest

from executor.content.cidtext import old_binary, parse_any, text_of
from executor.errors import InvalidInput
from executor.protocol.cid import DAG_PB, RAW, Cid

EMPTY_RAW = Cid.parse("bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku")


def base36(binary):
    number, text = int.from_bytes(binary, "big"), ""
    while number:
        number, digit = divmod(number, 36)
        text = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + text
    return "k" + text


SPELLINGS = {
    "base32": str(EMPTY_RAW),
    "base32 in capitals": str(EMPTY_RAW).upper(),
    "base16": "f" + EMPTY_RAW.binary.hex(),
    "base16 in capitals": "F" + EMPTY_RAW.binary.hex().upper(),
    "base36": base36(EMPTY_RAW.binary),
    "base36 in capitals": base36(EMPTY_RAW.binary).upper(),
}


@pytest.mark.parametrize("text", SPELLINGS.values(), ids=SPELLINGS)
def test_a_cid_is_read_in_every_base(text):
    assert parse_any(text).cid == EMPTY_RAW


def test_a_cid_in_base58_is_read():
    binary = Cid.of(DAG_PB, b"x").binary
    text = text_of(Cid.of(DAG_PB, b"x"), is_old=True)

    assert parse_any(text).binary == old_binary(Cid.of(DAG_PB, b"x"))
    assert parse_any("z" + _base58(binary)).cid == Cid.of(DAG_PB, b"x")


def _base58(binary):
    alphabet, number, text = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz", int.from_bytes(binary), ""
    while number:
        number, digit = divmod(number, 58)
        text = alphabet[digit] + text
    return text


def test_an_old_cid_names_the_dag_pb_block_of_its_hash_and_is_written_back_as_it_was():
    named = parse_any("QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn")

    assert named.is_old
    assert str(named.cid) == "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"
    assert text_of(named.cid, is_old=True) == named.text
    assert text_of(named.cid, is_old=False) == str(named.cid)


def test_an_identity_cid_holds_its_content():
    assert parse_any("bafkqaaa").inline == b""
    assert parse_any("bafkqaf3imvwgy3zaneqgc3janfxgy2lomvscay3jmqfa").inline == b"hello i am inlined cid\n"


#: CIDs that are well formed, and of which no block of ours can be
FOREIGN = {
    "codec dag-json": bytes([1, 0xA9, 2, 0x12, 32]) + bytes(32),
    "hash sha2-512": bytes([1, RAW, 0x13, 64]) + bytes(64),
    "a cut sha2-256": bytes([1, RAW, 0x12, 20]) + bytes(20),
    "an identity of dag-pb": bytes([1, DAG_PB, 0, 3]) + b"abc",
}


@pytest.mark.parametrize("binary", FOREIGN.values(), ids=FOREIGN)
def test_a_cid_of_another_world_is_a_cid_that_names_nothing_here(binary):
    named = parse_any("f" + binary.hex())

    assert (named.cid, named.inline) == (None, None)


NONE = {
    "nothing": "",
    "a word": "hello",
    "a path": "..",
    "too long": "b" * 513,
    "not ASCII": "bafy\u00e9",
    "both cases": "B" + str(EMPTY_RAW)[1:],
    "a last character that says too much": str(EMPTY_RAW)[:-1] + "v",
    "a character that is none of base32": "b" + "1" * 58,
    "a character that is none of base58": "z0000",
    "half a byte": "fabc",
    "cut before the hash": "f0155",
    "cut inside a number": "f01d5",
    "a hash that is shorter than it says": "f01551220ff",
    "version 2": "f0255" + "1220" + "00" * 32,
    "an old CID of another hash": "Qm" + "1" * 44,
    "an old CID that is longer": "Qm" + "z" * 44,
}


@pytest.mark.parametrize("text", NONE.values(), ids=NONE)
def test_what_is_no_cid_is_refused(text):
    with pytest.raises(InvalidInput, match="cid:"):
        parse_any(text)
