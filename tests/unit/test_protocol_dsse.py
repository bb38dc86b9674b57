"""A receipt's DSSE envelope: the specification's vector, and what other tools find in ours."""

import base64
import hashlib

import pytest

from executor.errors import InvalidInput
from executor.protocol.dsse import PAYLOAD_TYPE, envelope, envelope_digest, pae
from executor.protocol.signing import Key, is_enveloped, recover_digest

KEY = Key.from_hex("11" * 32)
RECEIPT = b'{"_type":"https://in-toto.io/Statement/v1"}'


def test_what_is_signed_is_the_specifications_encoding():
    assert pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_the_length_of_a_type_counts_its_bytes_and_not_its_letters():
    assert pae("é", b"") == b"DSSEv1 2 \xc3\xa9 0 "


def test_the_envelope_holds_the_receipts_exact_bytes_and_the_signature():
    signature = KEY.sign_digest(envelope_digest(RECEIPT))

    made = envelope(RECEIPT, KEY.address, signature)

    assert base64.b64decode(made["payload"]) == RECEIPT
    assert made["payloadType"] == "application/vnd.in-toto+json"
    assert [item["keyid"] for item in made["signatures"]] == [KEY.address]
    assert base64.b64decode(made["signatures"][0]["sig"]) == signature


def test_the_signature_is_plain_ecdsa_over_sha256_of_what_is_signed():
    from eth_keys.backends import NativeECCBackend
    from eth_keys.datatypes import PublicKey, Signature

    signed = hashlib.sha256(pae(PAYLOAD_TYPE, RECEIPT)).digest()
    signature = KEY.sign_digest(envelope_digest(RECEIPT))
    public = Signature(signature[:64] + bytes([signature[64] - 27])).recover_public_key_from_msg_hash(signed)

    assert public.to_checksum_address() == KEY.address
    assert NativeECCBackend().ecdsa_verify(
        signed, Signature(signature[:64] + b"\0"), PublicKey(public.to_bytes(), backend=NativeECCBackend())
    )


def test_the_same_receipt_is_signed_with_the_same_bytes():
    assert KEY.sign_digest(envelope_digest(RECEIPT)) == KEY.sign_digest(envelope_digest(RECEIPT))


SIGNATURE = KEY.sign_digest(envelope_digest(RECEIPT))
NOT_ENVELOPED = {
    "another receipt": (RECEIPT + b" ", SIGNATURE, KEY.address),
    "another key": (RECEIPT, SIGNATURE, Key.from_hex("22" * 32).address),
    "another r": (RECEIPT, bytes([SIGNATURE[0] ^ 1]) + SIGNATURE[1:], KEY.address),
    "a signature that is cut": (RECEIPT, SIGNATURE[:64], KEY.address),
    "a signature over the bare receipt": (RECEIPT, KEY.sign_digest(hashlib.sha256(RECEIPT).digest()), KEY.address),
}


@pytest.mark.parametrize("what", NOT_ENVELOPED)
def test_what_is_not_the_keys_word_on_the_receipt_is_not_taken_for_it(what):
    assert is_enveloped(RECEIPT, SIGNATURE, KEY.address)
    assert not is_enveloped(*NOT_ENVELOPED[what])


BAD = {
    "no bytes": (b"", "65 bytes"),
    "v of 0": (SIGNATURE[:64] + b"\0", "65 bytes"),
    "a high s": (SIGNATURE[:32] + b"\xff" * 32 + SIGNATURE[64:], "high s"),
    "r of 0": (bytes(32) + SIGNATURE[32:], "recovers to no key"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_signature_of_another_form_is_refused(what):
    signature, said = BAD[what]

    with pytest.raises(InvalidInput, match=said):
        recover_digest(envelope_digest(RECEIPT), signature)
