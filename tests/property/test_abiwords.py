"""Our few ABI shapes against eth_abi: the same bytes for the same values; any bytes read alike, or refused."""

import pytest
from eth_abi import abi
from eth_abi.exceptions import DecodingError
from hypothesis import given
from hypothesis import strategies as st

from executor.errors import InvalidInput
from executor.protocol import abiwords
from executor.protocol.abiwords import NotEncoded, Reader
from executor.protocol.wire import ORDER_TYPE, OUTCOME_TYPE, Order, Outcome

U8, U64, U128 = (st.integers(0, 2**bits - 1) for bits in (8, 64, 128))
ADDRESSES = st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex())
ORDERS = st.builds(
    Order, version=U8, dialect=U8, spec_is_cid=st.booleans(), spec=st.binary(max_size=200), result_kind=U8, nodes=U8,
    quorum=U8, ttl=st.integers(0, 2**32 - 1), callback=ADDRESSES, callback_gas=U64, curator=ADDRESSES,
    labels=st.lists(st.binary(min_size=32, max_size=32), max_size=4).map(tuple), token=ADDRESSES, unit_price=U128,
    fail_price=U128, delivery_fee=U128,
)  # fmt: skip
OUTCOMES = st.builds(
    Outcome, status=U8, reason=st.integers(0, 2**16 - 1), exit_code=st.integers(-(2**31), 2**31 - 1),
    output_cid=st.binary(max_size=100), payload=st.binary(max_size=100),
)  # fmt: skip
#: a place in the encoding and what is put there: most words of a head are small numbers, as offsets are
CHANGES = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 31), st.integers(0, 255)), min_size=1, max_size=3)


@given(ORDERS)
def test_an_order_is_encoded_as_eth_abi_does(order):
    assert order.encode() == abi.encode([ORDER_TYPE], [order.as_tuple()])


@given(OUTCOMES)
def test_an_outcome_is_encoded_as_eth_abi_does(outcome):
    assert outcome.encode() == abi.encode([OUTCOME_TYPE], [outcome.as_tuple()])


@given(ORDERS)
def test_an_order_comes_back_from_its_bytes(order):
    assert Order.decode(order.encode()).encode() == order.encode()


@given(OUTCOMES)
def test_an_outcome_comes_back_from_its_bytes(outcome):
    assert Outcome.decode(outcome.encode()) == outcome


def read_by(decode, data):
    try:
        return decode(data)
    except (InvalidInput, DecodingError, OverflowError, ValueError):
        return None


@pytest.mark.parametrize(
    ("kind", "values", "shape"),
    [("order", ORDERS, (ORDER_TYPE, Order)), ("outcome", OUTCOMES, (OUTCOME_TYPE, Outcome))],
)
def test_changed_bytes_are_read_as_eth_abi_reads_them_or_refused(kind, values, shape):
    abi_type, cls = shape

    @given(values, CHANGES, st.integers(0, 64))
    def check(value, changes, cut):
        data = bytearray(value.encode())
        for word, place, byte in changes:
            if word * 32 + place < len(data):
                data[word * 32 + place] = byte
        data = bytes(data[: len(data) - cut])
        ours = read_by(cls.decode, data)
        if ours is not None:
            assert ours == cls.from_tuple(abi.decode([abi_type], data)[0])

    check()


BAD_VALUES = {
    "a uint that is negative": lambda: abiwords.uint(-1, 8),
    "a uint that is too large": lambda: abiwords.uint(256, 8),
    "a uint that is none": lambda: abiwords.uint("1", 8),
    "an int that is too small": lambda: abiwords.sint(-129, 8),
    "an int that is none": lambda: abiwords.sint(None, 8),
    "a bool that is a number": lambda: abiwords.boolean(1),
    "an address that is too short": lambda: abiwords.address("0x11"),
    "an address that is no hex": lambda: abiwords.address("0x" + "zz" * 20),
    "an address that is none": lambda: abiwords.address(None),
    "bytes that are text": lambda: abiwords.blob("x"),
    "a bytes32 of 31": lambda: abiwords.words([bytes(31)]),
}


@pytest.mark.parametrize("what", BAD_VALUES)
def test_a_value_that_has_no_encoding_is_refused(what):
    with pytest.raises(NotEncoded):
        BAD_VALUES[what]()


WORD = (32).to_bytes(32, "big")
BAD_BYTES = {
    "nothing": (b"", lambda fields: fields.word(0)),
    "half a word": (bytes(31), lambda fields: fields.word(0)),
    "a uint8 of 256": ((256).to_bytes(32, "big"), lambda fields: fields.uint(0, 8)),
    "a bool of 2": ((2).to_bytes(32, "big"), lambda fields: fields.boolean(0)),
    "an int8 of 128": ((128).to_bytes(32, "big"), lambda fields: fields.sint(0, 8)),
    "an address of 21 bytes": (b"\0" * 11 + b"\1" * 21, lambda fields: fields.address(0)),
    "bytes without their length": (WORD, lambda fields: fields.blob(0)),
    "bytes that are cut": (WORD + WORD + bytes(31), lambda fields: fields.blob(0)),
    "bytes with a dirty end": (WORD + (1).to_bytes(32, "big") + b"\1\1" + bytes(30), lambda fields: fields.blob(0)),
    "bytes of an absurd length": (WORD + b"\xff" * 32, lambda fields: fields.blob(0)),
    "an array of an absurd length": (WORD + b"\xff" * 32, lambda fields: fields.words(0)),
    "an offset beyond the end": (b"\xff" * 32, lambda fields: fields.inner(0).word(0)),
}


@pytest.mark.parametrize("what", BAD_BYTES)
def test_bytes_that_are_no_encoding_are_refused(what):
    data, read = BAD_BYTES[what]
    with pytest.raises(NotEncoded):
        read(Reader(data, 0))
