"""Every error of our contracts is told in words."""

from string import Formatter

import pytest
from eth_utils.address import to_checksum_address

from bridge.chain.contracts import Revert, contract_abi
from bridge.chain.refusals import SENTENCES, refusal_in_words, sentence_of
from bridge.errors import RpcRefused

CONTRACTS = ("ComputeBridge", "NodeRegistry", "ResultBook")
ERRORS = {entry.name: entry for name in CONTRACTS for entry in contract_abi(name).errors.values()}
SAMPLES = {"string": "a.b", "address": "0x" + "ab" * 20, "bytes32": b"\x01" * 32, "uint8": 2}


def refused(name, *arguments):
    entry = ERRORS[name]
    return Revert(name, tuple(zip(entry.input_names, arguments, strict=True)))


def test_each_error_of_the_contracts_has_a_sentence_and_no_other_has():
    assert set(SENTENCES) == set(ERRORS)


@pytest.mark.parametrize("name", sorted(ERRORS))
def test_a_sentence_names_arguments_of_its_error_only_and_never_the_error(name):
    entry = ERRORS[name]
    fields = {field for _, field, _, _ in Formatter().parse(SENTENCES[name]) if field}

    said = sentence_of(refused(name, *(SAMPLES.get(kind, 7) for kind in entry.inputs)))

    assert fields <= set(entry.input_names)
    assert said
    assert name not in said
    assert "{" not in said


@pytest.mark.parametrize(
    ("revert", "said"),
    [
        (("NodeRegistryStillUnbonding", 3, 1_800_000_000), "2027-01-15T08:00:00Z"),
        (("NodeRegistryStillUnbonding", 3, 2**64 - 1), str(2**64 - 1)),
        (("ComputeBridgeUnexpectedState", 3, 7), "EXPIRED"),
        (("ComputeBridgeUnexpectedState", 3, 99), "request 3 is 99"),
        (("NodeRegistryNotVouched", "0xA", 3, b"\x0f" * 32), "0x" + "0f" * 32),
        (("NodeRegistryUnknownKey", "0x" + "ab" * 20), to_checksum_address("0x" + "ab" * 20)),
        (("ComputeBridgeInvalidOrder", "a\x1b[2Jb"), "a [2Jb"),
    ],
    ids=[
        "a time",
        "a time beyond all dates",
        "a state",
        "a state that is none",
        "a hash",
        "an address",
        "hostile text",
    ],
)
def test_arguments_are_shown_as_people_read_them(revert, said):
    assert said in sentence_of(refused(*revert))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RpcRefused(-32601, "no such method"), "no such method (code -32601)"),
        (RpcRefused(3, "execution reverted", "0x"), "reverted without a reason"),
        (RpcRefused(3, "execution reverted", "0x12345678"), "unknown error(data=0x12345678)"),
    ],
    ids=["no revert", "a revert without data", "an error of another contract"],
)
def test_what_is_no_error_of_ours_is_shown_as_it_came(error, said):
    assert refusal_in_words(error) == said
