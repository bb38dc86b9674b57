"""The wire, byte for byte as Solidity and ethers make it."""

import json
from pathlib import Path

import pytest
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from executor.errors import InvalidInput
from executor.protocol.signing import Key, Scope, attestation_message, digest, node_key_message, recover
from executor.protocol.wire import (
    ZERO_ADDRESS,
    Attestation,
    Order,
    Outcome,
    Request,
    checksum_address,
    keccak,
    request_hash,
    result_digest,
)

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "wire.json").read_text())
CASES = {case["name"]: case for case in VECTORS["cases"]}
SCOPE = Scope(VECTORS["chainId"], VECTORS["computeBridge"])
KEY = Key(Account.from_key(VECTORS["privateKey"]))


def data(text):
    return bytes.fromhex(text.removeprefix("0x"))


def order_of(case):
    fields = case["order"]
    return Order(
        version=fields["version"],
        dialect=fields["dialect"],
        spec_is_cid=fields["specIsCid"],
        spec=data(fields["spec"]),
        result_kind=fields["resultKind"],
        nodes=fields["nodes"],
        quorum=fields["quorum"],
        ttl=fields["ttl"],
        callback=fields["callback"],
        callback_gas=int(fields["callbackGas"]),
        curator=fields["curator"],
        labels=tuple(map(data, fields["labels"])),
        token=fields["token"],
        unit_price=int(fields["unitPrice"]),
        fail_price=int(fields["failPrice"]),
        delivery_fee=int(fields["deliveryFee"]),
    )


def outcome_of(case):
    fields = case["outcome"]
    return Outcome(
        status=fields["status"],
        reason=fields["reason"],
        exit_code=fields["exitCode"],
        output_cid=data(fields["outputCid"]),
        payload=data(fields["payload"]),
    )


def request_of(case):
    return Request(
        chain_id=VECTORS["chainId"],
        contract=VECTORS["computeBridge"],
        id=int(case["id"]),
        requester=case["requester"],
        order=order_of(case),
        deadline=0,
    )


def message_of(case):
    fields = case["attestation"]
    return attestation_message(
        SCOPE,
        request_hash=data(case["requestHash"]),
        outcome_hash=data(case["outcomeHash"]),
        receipt_hash=data(fields["receiptHash"]),
        log_root=data(fields["logRoot"]),
        log_size=int(fields["logSize"]),
        relayer=fields["relayer"],
    )


@pytest.mark.parametrize("name", CASES)
def test_an_order_is_encoded_and_read_as_solidity_does(name):
    order = order_of(CASES[name])

    assert keccak(order.encode()) == data(CASES[name]["encodedOrderHash"])
    assert Order.decode(order.encode()) == order


@pytest.mark.parametrize("name", CASES)
def test_a_request_has_the_hash_that_the_contract_gives_it(name):
    assert request_of(CASES[name]).hash == data(CASES[name]["requestHash"])


@pytest.mark.parametrize("name", CASES)
def test_an_outcome_is_encoded_and_hashed_as_solidity_does(name):
    outcome = outcome_of(CASES[name])

    assert outcome.hash == data(CASES[name]["outcomeHash"])
    assert Outcome.decode(outcome.encode()) == outcome
    digest_there = data(CASES[name]["resultDigest"])
    assert result_digest(data(CASES[name]["requestHash"]), outcome.hash) == digest_there


@pytest.mark.parametrize("name", CASES)
def test_an_attestation_is_signed_and_recovered_as_ethers_and_the_contract_do(name):
    message = message_of(CASES[name])
    signature = data(CASES[name]["attestation"]["signature"])

    assert digest(message) == data(CASES[name]["attestationDigest"])
    assert KEY.sign(message) == signature
    assert recover(message, signature) == VECTORS["signer"] == KEY.address


@pytest.mark.parametrize("vector", VECTORS["nodeKeys"], ids=lambda vector: f"nonce {vector['nonce']}")
def test_a_key_joins_a_node_with_the_signature_that_the_registry_accepts(vector):
    scope = Scope(VECTORS["chainId"], VECTORS["nodeRegistry"])
    message = node_key_message(
        scope, operator=vector["operator"], node_id=int(vector["nodeId"]), nonce=int(vector["nonce"])
    )

    assert digest(message) == data(vector["digest"])
    assert KEY.sign(message) == data(vector["signature"])


ADDRESSES = st.binary(min_size=20, max_size=20).map(lambda b: checksum_address(f"0x{b.hex()}", "a"))
ORDERS = st.builds(
    Order,
    version=st.integers(0, 255),
    dialect=st.integers(0, 255),
    spec_is_cid=st.booleans(),
    spec=st.binary(max_size=100),
    result_kind=st.integers(0, 255),
    nodes=st.integers(0, 255),
    quorum=st.integers(0, 255),
    ttl=st.integers(0, 2**32 - 1),
    callback=ADDRESSES,
    callback_gas=st.integers(0, 2**64 - 1),
    curator=ADDRESSES,
    labels=st.lists(st.binary(min_size=32, max_size=32), max_size=8).map(tuple),
    token=ADDRESSES,
    unit_price=st.integers(0, 2**128 - 1),
    fail_price=st.integers(0, 2**128 - 1),
    delivery_fee=st.integers(0, 2**128 - 1),
)


@given(ORDERS)
def test_every_order_is_read_back_as_it_was(order):
    assert Order.decode(order.encode()) == order


@given(ORDERS, ORDERS)
def test_orders_that_differ_have_requests_that_differ(one, other):
    hashes = {request_hash(1, ZERO_ADDRESS, 1, ZERO_ADDRESS, order) for order in (one, other)}

    assert len(hashes) == len({one, other})


@given(st.binary(max_size=300))
def test_bytes_that_are_no_order_are_refused_by_name(junk):
    for kind, field in ((Order, "order"), (Outcome, "outcome")):
        try:
            kind.decode(junk)
        except InvalidInput as exc:
            named = exc.field
        else:
            named = field
        assert named == field


#: name -> a change that does not fit its ABI type
UNFIT = {
    "a negative price": {"unit_price": -1},
    "a price of 2^128": {"unit_price": 2**128},
    "a label of 33 bytes": {"labels": (bytes(33),)},
    "a callback that is no address": {"callback": "0x12"},
    "nodes over 255": {"nodes": 256},
    "a spec that is text": {"spec": "text"},
}


@pytest.mark.parametrize("name", UNFIT)
def test_an_order_that_does_not_fit_is_refused(name):
    with pytest.raises(InvalidInput, match="order"):
        Order(**{"spec": b"", "ttl": 1, **UNFIT[name]}).encode()


def test_a_price_is_for_every_node_and_the_delivery():
    assert Order(spec=b"", ttl=1, nodes=3, unit_price=10, delivery_fee=5).price == 35


def test_an_attestation_has_the_contracts_order_of_fields():
    attestation = Attestation(receipt_hash=b"r", log_root=b"l", log_size=7, relayer=ZERO_ADDRESS, signature=b"s")

    assert attestation.as_tuple() == (b"r", b"l", 7, ZERO_ADDRESS, b"s")


@pytest.mark.parametrize("value", [None, 1, "", "0x", "0x12", "0x" + "g" * 40, ZERO_ADDRESS + "00", b"a" * 20])
def test_what_is_no_address_is_refused_with_the_name_of_its_field(value):
    with pytest.raises(InvalidInput) as caught:
        checksum_address(value, "order.callback")
    assert caught.value.field == "order.callback"


N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def high_s(signature):
    s = N - int.from_bytes(signature[32:64], "big")
    return signature[:32] + s.to_bytes(32, "big") + bytes([55 - signature[64]])


#: name -> what is done to a good signature
FORGED = {
    "a byte short": lambda s: s[:-1],
    "a byte long": lambda s: s + b"\0",
    "v of 0": lambda s: s[:64] + b"\0",
    "v of 29": lambda s: s[:64] + b"\x1d",
    "the high s": high_s,
    "zeros": lambda s: bytes(64) + s[64:],
    "r over the order": lambda s: b"\xff" * 32 + s[32:],
}


@pytest.mark.parametrize("name", FORGED)
def test_a_signature_that_is_not_in_its_one_form_is_refused(name):
    message = message_of(next(iter(CASES.values())))

    with pytest.raises(InvalidInput, match="signature"):
        recover(message, FORGED[name](KEY.sign(message)))


def test_an_outcome_that_does_not_fit_its_abi_type_is_refused():
    with pytest.raises(InvalidInput, match="outcome"):
        Outcome(status=256).encode()


def test_a_request_id_that_does_not_fit_its_abi_type_is_refused():
    with pytest.raises(InvalidInput, match="request"):
        request_hash(314, ZERO_ADDRESS, -1, ZERO_ADDRESS, Order(spec=b"x", ttl=60))
