"""The messages between node and bridge: what goes out comes in, and nothing else does."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from executor.errors import InvalidInput
from executor.protocol.leases import (
    Advert,
    Attested,
    Capacity,
    Heartbeat,
    HeartbeatAnswer,
    Lease,
    LeaseReturn,
    Missing,
    Phase,
    RequestMessage,
)
from executor.protocol.receipt import receipt_hash
from executor.protocol.wire import Request
from tests.bridge_kit import CHAIN_ID, CONTRACT, RELAYER, REQUESTER, advert, attested, key_of, order_of, success
from tests.unit.test_protocol_receipt import OUTPUT

REQUEST = Request(
    chain_id=CHAIN_ID, contract=CONTRACT, id=7, requester=REQUESTER, order=order_of("site=camera"), deadline=2**40
)
LEASE = Lease(
    lease_id="a" * 32,
    token=2**62,
    request_hash=REQUEST.hash,
    slot=16,
    attempt=1,
    request=RequestMessage.of(REQUEST),
    relayer=RELAYER,
    heartbeat_seconds=15,
    expires_in_seconds=60,
)
MESSAGES = [
    LEASE,
    advert("site=camera", min_unit_price=2**200),
    Heartbeat(token=1, phase=Phase.HELD),
    HeartbeatAnswer(go_on=False, reason="stop"),
    LeaseReturn(token=1, reason=400, detail="x"),
    Missing(missing=("a", "b")),
    attested(key_of("a"), LEASE, success(OUTPUT)),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_a_message_is_read_back_as_it_was_sent(message):
    text = message.model_dump_json()

    assert type(message).model_validate_json(text) == message
    assert type(message).model_validate(json.loads(text)) == message


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_an_unknown_field_is_refused(message):
    value = json.loads(message.model_dump_json())

    with pytest.raises(ValidationError, match="Extra inputs"):
        type(message).model_validate({**value, "admin": True})


def test_bytes_travel_as_hex_and_large_amounts_as_strings():
    value = json.loads(LEASE.model_dump_json())
    assert value["request_hash"] == f"0x{REQUEST.hash.hex()}"
    assert json.loads(advert(min_unit_price=2**200).model_dump_json())["min_unit_price"] == str(2**200)


def test_a_request_that_travels_keeps_its_hash():
    assert LEASE.request.request() == REQUEST
    assert RequestMessage.model_validate_json(LEASE.request.model_dump_json()).request().hash == REQUEST.hash


def test_a_request_whose_order_does_not_decode_is_refused_by_name():
    with pytest.raises(InvalidInput, match="order"):
        LEASE.request.model_copy(update={"order": b"junk"}).request()


def test_an_answer_gives_the_attestation_that_the_contract_takes():
    answer = attested(key_of("a"), LEASE, success(OUTPUT))
    hashed = receipt_hash(answer.receipt)

    assert answer.decoded() == success(OUTPUT)
    assert answer.attestation(hashed).as_tuple() == (
        hashed,
        answer.log_root,
        answer.log_size,
        RELAYER,
        answer.signature,
    )


def changed(message, **changes):
    return {**json.loads(message.model_dump_json()), **changes}


ANSWER = attested(key_of("a"), LEASE, success(OUTPUT))
#: name -> (model, value)
WRONG = {
    "a hash of 31 bytes": (Lease, changed(LEASE, request_hash="0x" + "00" * 31)),
    "a hash without 0x": (Lease, changed(LEASE, request_hash="00" * 32)),
    "a hash that is no hex": (Lease, changed(LEASE, request_hash="0x" + "zz" * 32)),
    "a hash that is a number": (Lease, changed(LEASE, request_hash=1)),
    "slot 0": (Lease, changed(LEASE, slot=0)),
    "slot 17": (Lease, changed(LEASE, slot=17)),
    "token 0": (Lease, changed(LEASE, token=0)),
    "an endless lease": (Lease, changed(LEASE, expires_in_seconds=1e9)),
    "a lease of no time": (Lease, changed(LEASE, heartbeat_seconds=0)),
    "a relayer that is no address": (Lease, changed(LEASE, relayer="0x12")),
    "a return for a reason that is the job's": (LeaseReturn, {"token": 1, "reason": 200}),
    "a return for a reason that is the bridge's": (LeaseReturn, {"token": 1, "reason": 500}),
    "a return with a novel": (LeaseReturn, {"token": 1, "reason": 400, "detail": "x" * 1001}),
    "a phase that does not exist": (Heartbeat, {"token": 1, "phase": "sleeping"}),
    "a signature of 64 bytes": (Attested, changed(ANSWER, signature="0x" + "00" * 64)),
    "an outcome that is too large": (Attested, changed(ANSWER, outcome="0x" + "00" * (32 * 1024 + 1))),
    "a receipt that is too large": (Attested, changed(ANSWER, receipt="0x" + "00" * (256 * 1024 + 1))),
    "an empty log": (Attested, changed(ANSWER, log_size=0)),
    "a price that is negative": (Advert, changed(advert(), min_unit_price="-1")),
    "a price in hex": (Advert, changed(advert(), min_unit_price="0x10")),
    "a price that is true": (Advert, changed(advert(), min_unit_price=True)),
    "a price of 2^256": (Advert, changed(advert(), min_unit_price=str(2**256))),
    "prices in tokens that are a list": (Advert, changed(advert(), tokens=[])),
    "a price in what is no token": (Advert, changed(advert(), tokens={"0x12": {"min_unit_price": "1"}})),
    "a price in the zero address": (Advert, changed(advert(), tokens={"0x" + 40 * "0": {"min_unit_price": "1"}})),
    "two prices in one token": (
        Advert,
        changed(advert(), tokens={"0x" + 40 * "a": {"min_unit_price": "1"}, "0x" + 40 * "A": {"min_unit_price": "2"}}),
    ),
    "prices in 17 tokens": (
        Advert,
        changed(advert(), tokens={f"0x{n:040x}": {"min_unit_price": "1"} for n in range(1, 18)}),
    ),
    "65 labels": (Advert, changed(advert(), labels=["a=b"] * 65)),
    "a label of a kilobyte": (Advert, changed(advert(), labels=["x" * 1000])),
    "a wait of a minute": (Advert, changed(advert(), wait_seconds=60)),
    "slots that are negative": (Capacity, {"slots": -1, "cpu_millis": 0, "memory_bytes": 0, "disk_bytes": 0}),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_message_out_of_bounds_is_refused(name):
    model, value = WRONG[name]

    with pytest.raises(ValidationError):
        model.model_validate(value)


@given(st.integers(0, 2**256 - 1))
def test_an_amount_is_exact_whatever_its_size(amount):
    message = advert(min_fail_price=amount)

    assert Advert.model_validate_json(message.model_dump_json()).min_fail_price == amount
