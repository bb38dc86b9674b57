"""Calls, return values and reverts by the exported ABIs."""

import json
from pathlib import Path

import pytest
from eth_abi import abi
from eth_utils.crypto import keccak

from bridge.chain.contracts import (
    compute_bridge,
    contract_abi,
    declare_labels_calldata,
    decode_revert,
    delivered_flags,
    describe_revert,
    fulfil_calldata,
    fulfil_many_calldata,
    fulfilled_outcome,
    node_registry,
    register_calldata,
    request_job_calldata,
    withdraw_vouch_calldata,
)
from bridge.chain.signer import Transaction, TxSigner
from executor.errors import InvalidInput
from executor.protocol.wire import ATTESTATION_TYPE, ORDER_TYPE, OUTCOME_TYPE, Attestation, Order, Outcome

ORDER = Order(spec=b"{}", ttl=60)
OUTCOME = Outcome(status=1, output_cid=b"\x01\x55", payload=b"")
ATTESTATION = Attestation(
    receipt_hash=b"\x01" * 32, log_root=b"\x02" * 32, log_size=1, relayer="0x" + "11" * 20, signature=b"\x03" * 65
)


@pytest.mark.parametrize(
    ("function", "types"),
    [
        ("requestJob", (ORDER_TYPE,)),
        ("fulfil", ("uint256", ORDER_TYPE, OUTCOME_TYPE, f"{ATTESTATION_TYPE}[]")),
        ("expire", ("uint256", ORDER_TYPE)),
        ("retryCallback", ("uint256", ORDER_TYPE, OUTCOME_TYPE)),
    ],
)
def test_the_contracts_shapes_are_those_of_the_wire(function, types):
    selector = keccak(text=f"{function}({','.join(types)})")[:4]
    assert compute_bridge()._functions[function].selector == selector


def test_the_outcome_is_read_back_from_fulfils_calldata():
    assert fulfilled_outcome(fulfil_calldata(7, ORDER, OUTCOME, [ATTESTATION])) == OUTCOME


def test_a_batch_is_made_of_the_calldata_of_single_calls():
    other = Order(spec=b"{" + b" " * 100 + b"}", ttl=60, labels=(b"\x01" * 32,))
    singles = [(7, ORDER, OUTCOME, [ATTESTATION]), (8, other, OUTCOME, [ATTESTATION, ATTESTATION])]
    entries = [(n, o.as_tuple(), out.as_tuple(), [a.as_tuple() for a in given]) for n, o, out, given in singles]

    made = fulfil_many_calldata([fulfil_calldata(*single) for single in singles])
    assert made == compute_bridge().encode("fulfilMany", entries)
    assert fulfil_many_calldata([]) == compute_bridge().encode("fulfilMany", [])


def test_a_batch_takes_nothing_but_results():
    with pytest.raises(InvalidInput, match="no call of fulfil"):
        fulfil_many_calldata([request_job_calldata(ORDER)])


def test_the_flags_of_a_batch_are_read():
    assert delivered_flags(abi.encode(["bool[]"], [[True, False]])) == (True, False)
    with pytest.raises(InvalidInput):
        delivered_flags(b"")


def test_calldata_of_another_function_is_no_fulfil():
    with pytest.raises(InvalidInput, match="another function"):
        fulfilled_outcome(request_job_calldata(ORDER))


def test_calldata_of_fulfil_that_ends_too_soon_holds_no_outcome():
    with pytest.raises(InvalidInput, match="holds no outcome"):
        fulfilled_outcome(fulfil_calldata(7, ORDER, OUTCOME, [ATTESTATION])[:100])


def test_labels_go_as_key_and_value():
    assert node_registry().decode_input("register", register_calldata(["a=b=c", "tier="], "me")) == (
        (("a", "b=c"), ("tier", "")),
        "me",
    )
    assert declare_labels_calldata(1, ["a=b"]) != declare_labels_calldata(1, ["a=c"])
    assert withdraw_vouch_calldata(1, [b"\x01" * 32])[:4] == node_registry()._functions["withdrawVouch"].selector


def test_a_label_without_an_equals_sign_is_refused():
    with pytest.raises(InvalidInput, match="key=value"):
        register_calldata(["tier"])


def test_a_value_that_does_not_fit_is_refused():
    with pytest.raises(InvalidInput, match="expire"):
        compute_bridge().encode("expire", -1, ORDER.as_tuple())


@pytest.mark.parametrize("data", [b"", b"\x01", b"\xff" * 64])
def test_bytes_that_are_no_answer_are_refused(data):
    with pytest.raises(InvalidInput, match="another contract"):
        compute_bridge().decode("resultOf", data)


def test_a_contract_without_a_constructor_is_created_by_its_bytecode(tmp_path):
    book = contract_abi("ResultBook")
    assert book.creation("0x" + "11" * 20).startswith(book.bytecode)
    exported = json.loads((Path(__file__).parents[2] / "bridge/chain/abi/ResultBook.json").read_text())
    assert book.bytecode.hex() == exported["bytecode"][2:]


def custom(name, types, *values):
    return keccak(text=f"{name}({','.join(types)})")[:4] + abi.encode(types, values)


REVERTS = {
    "reverted without a reason": b"",
    "reverted: no such thing": custom("Error", ("string",), "no such thing"),
    "panicked: division by zero": custom("Panic", ("uint256",), 0x12),
    "panicked: code 0x99": custom("Panic", ("uint256",), 0x99),
    "ComputeBridgeDeadlinePassed(id=7, deadline=99)": custom(
        "ComputeBridgeDeadlinePassed", ("uint256", "uint64"), 7, 99
    ),
    "ComputeBridgeOrderMismatch(id=7, expected=0x" + "01" * 32 + ", actual=0x" + "02" * 32 + ")": custom(
        "ComputeBridgeOrderMismatch", ("uint256", "bytes32", "bytes32"), 7, b"\x01" * 32, b"\x02" * 32
    ),
    "NodeRegistryNotActive(nodeId=3)": custom("NodeRegistryNotActive", ("uint256",), 3),
    "EnforcedPause()": custom("EnforcedPause", ()),
    "unknown error(data=0x01020304)": b"\x01\x02\x03\x04",
}


@pytest.mark.parametrize("expected", REVERTS)
def test_a_revert_is_described(expected):
    assert describe_revert(REVERTS[expected]) == expected


def test_a_reverts_hostile_text_is_printable_and_short():
    text = describe_revert(custom("Error", ("string",), "\x1b[2J" + "x" * 10_000))
    assert text.isprintable()
    assert len(text) < 250


def test_a_known_error_with_other_arguments_is_unknown():
    cut = custom("ComputeBridgeDeadlinePassed", ("uint256", "uint64"), 7, 99)[:20]
    assert decode_revert(cut).name == "unknown error"


def test_the_same_transaction_is_signed_to_the_same_bytes_and_their_hash():
    signer = TxSigner.from_hex("46" * 32)
    unsigned = Transaction(chain_id=314, nonce=3, to="0x" + "11" * 20, data=b"\x01", gas=21_000, max_fee=9, tip=1)
    first, second = signer.sign_transaction(unsigned), signer.sign_transaction(unsigned)

    assert first == second
    assert first.hash == keccak(first.raw)
    assert first.raw[0] == 2


def test_a_signer_never_shows_its_secret(monkeypatch):
    monkeypatch.setenv("SOME_KEY", "46" * 32)
    signer = TxSigner.load("env:SOME_KEY")
    assert isinstance(signer, TxSigner)
    assert "4646" not in repr(signer) + str(signer)
