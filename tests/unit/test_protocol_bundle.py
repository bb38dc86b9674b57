"""A bundle is read in its one form, and whatever it is not names the field."""

import json

import pytest

from executor.errors import InvalidInput
from executor.protocol.bundle import parse_bundle
from executor.protocol.receipt import receipt_hash
from tests.bundles import settled


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return settled(tmp_path_factory.mktemp("store")).bundle


def test_it_is_read_back_as_it_was(bundle):
    assert parse_bundle(bundle.model_dump_json().encode()) == bundle


def test_an_attestation_is_as_the_contract_took_it(bundle):
    (word,) = bundle.attestations

    made = word.attestation(receipt_hash(word.receipt))

    assert (made.signature, made.log_root, made.log_size) == (word.signature, word.log_root, word.log_size)


def test_a_bundle_of_format_1_is_read_and_has_no_digests(bundle):
    value = json.loads(bundle.model_dump_json())
    value["format"] = "insula-bundle/1"
    del value["digests"], value["attestations"][0]["dsse_signature"], value["attestations"][0]["log_proof"]

    assert parse_bundle(json.dumps(value).encode()).attestations[0].log_proof is None


#: what is done to the JSON -> the field that is named
FORMS = {
    "digits in capitals": (
        lambda v: v["attestations"][0].update(signature="0x" + v["attestations"][0]["signature"][2:].upper()),
        "bundle: attestations.0.signature",
    ),
    "an address without its checksum": (
        lambda v: v["request"].update(requester=v["request"]["requester"].lower()), "bundle: request.requester"
    ),
    "a number as text": (lambda v: v.update(settled_block_number="20"), "bundle: settled_block_number"),
    "true for one": (lambda v: v["attestations"][0].update(slot=True), "bundle: attestations.0.slot"),
    "white space in digits": (lambda v: v.update(spec=v["spec"][:4] + " " + v["spec"][4:]), "bundle: spec"),
    "another field": (lambda v: v.update(note=1), "bundle: note"),
    "no digests": (lambda v: v.pop("digests"), "bundle: digests"),
    "digests in format 1": (lambda v: v.update(format="insula-bundle/1"), "bundle: digests"),
    "another format": (lambda v: v.update(format="insula-bundle/3"), "bundle: format"),
    "a number beyond JSON's": (lambda v: v.update(settled_block_number=2**60), "bundle: settled_block_number"),
}  # fmt: skip


@pytest.mark.parametrize("how", FORMS)
def test_another_form_of_a_value_names_the_field(bundle, how):
    change, field = FORMS[how]
    value = json.loads(bundle.model_dump_json())
    change(value)

    with pytest.raises(InvalidInput) as caught:
        parse_bundle(json.dumps(value).encode())

    assert caught.value.field == field


NONE = {"an array": b"[]", "text": b"hello", "no Unicode": b"\xff", "nothing": b"", "nested": b"[" * 99 + b"]" * 99}


@pytest.mark.parametrize("what", NONE)
def test_what_is_no_bundle_at_all_says_so(what):
    with pytest.raises(InvalidInput, match="is no bundle"):
        parse_bundle(NONE[what])


def test_a_key_that_is_there_twice_is_named(bundle):
    raw = bundle.model_dump_json().encode()

    with pytest.raises(InvalidInput, match="'spec' is there twice"):
        parse_bundle(raw[:-1] + b',"spec":"0x"}')
