"""What is found in a stream of bytes, however it is cut into chunks."""

import base64
import json
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.audit.needles import CONTEXT, Needles, Search, Seed, base64_forms
from executor.audit.outputrules import OutputRules

VALUE = b"s3cr3t/Value+0123456789\xfe"
SEED = Seed("api", VALUE + b"\n")
PEM = b"-----BEGIN RSA PRIVATE KEY-----\nMIIE"
AWS = b"AKIAIOSFODNN7EXAMPLE"
KEYSTORE = b'{"crypto":{"cipher":"aes-128-ctr","cipherparams":{"iv":"00"},"ciphertext":"11","kdf":"scrypt"}}'


def found(data, size=2**20, seeds=(SEED,), **rules):
    search = Search(Needles.of(OutputRules(**rules), seeds))
    hits = [hit for at in range(0, len(data), size) for hit in search.feed(data[at : at + size])]
    return [*hits, *search.close()]


FORMS = {
    "as it is": VALUE,
    "reversed": VALUE[::-1],
    "hex": VALUE.hex().encode(),
    "hex in capitals": VALUE.hex().upper().encode(),
    "hex with colons": VALUE.hex(":").encode(),
    "hex on lines": VALUE.hex("\n", 4).encode(),
    "base64, first place": base64.b64encode(VALUE),
    "base64, second place": base64.b64encode(b"x" + VALUE + b"yz"),
    "base64, third place": base64.b64encode(b"xy" + VALUE + b"z"),
    "base64 for URLs": base64.urlsafe_b64encode(b"x" + VALUE),
    "percent signs": quote(VALUE, safe="").encode(),
    "base64 on lines": base64.encodebytes(b"q" * 50 + VALUE),
}


@pytest.mark.parametrize("size", [1, 7, 2**20])
@pytest.mark.parametrize("form", FORMS)
def test_abuse_a_secret_is_found_in_every_form_and_over_every_border(form, size):
    (hit, *_) = found(b"before " + FORMS[form] + b" after", size)

    assert hit.rule == "secrets"
    assert "api" in hit.text


KEY = '-----BEGIN KEY-----\nab "cd" é\\\n-----END KEY-----'
WRITTEN = {
    "JSON": json.dumps({"key": KEY}).encode(),
    "JSON in UTF-8": json.dumps({"key": KEY}, ensure_ascii=False).encode(),
    "lines of Windows": KEY.replace("\n", "\r\n").encode(),
    "UTF-16": KEY.encode("utf-16"),
    "UTF-16, big end first": KEY.encode("utf-16-be"),
    "UTF-32": KEY.encode("utf-32"),
    "a path": quote(KEY).encode(),
    "a form": urlencode({"key": KEY}).encode(),
}


@pytest.mark.parametrize("size", [1, 2**20])
@pytest.mark.parametrize("form", WRITTEN)
def test_abuse_a_secret_of_several_lines_is_found_as_programs_write_it(form, size):
    (hit, *_) = found(b"before " + WRITTEN[form] + b" after", size, [Seed("key", KEY.encode())])

    assert hit.rule == "secrets"


@given(st.binary(min_size=8, max_size=40), st.binary(max_size=7), st.binary(max_size=7))
def test_what_stands_for_a_secret_in_base64_is_in_the_encoding_of_whatever_holds_it(value, before, after):
    text = base64.b64encode(before + value + after)

    assert any(form in text for form in base64_forms(value))


def test_what_is_no_secret_is_not_found():
    assert found(b"s3cr3t/Value+012345678" * 1000) == []


def test_each_thing_is_told_once():
    assert len(found((VALUE + b" ") * 1000, 100)) == 1


def test_neither_a_hit_nor_a_seed_shows_a_byte_of_the_secret():
    shown = repr([found(VALUE), SEED, Needles.of(OutputRules(), [SEED]).plain[0][1]])

    assert "Value" not in shown


@pytest.mark.parametrize("size", [1, 10, 2**20])
@pytest.mark.parametrize(
    ("data", "form"),
    [
        (PEM, "private-key"),
        (b"-----BEGIN PRIVATE KEY-----", "private-key"),
        (b"-----BEGIN OPENSSH PRIVATE KEY-----", "private-key"),
        (AWS, "aws-key"),
        (b"id=ASIAIOSFODNN7EXAMPLE\n", "aws-key"),
        (KEYSTORE, "ethereum-keystore"),
        (b" " * (CONTEXT - 10) + AWS + b" ", "aws-key"),
    ],
)
def test_a_well_known_form_is_found(data, form, size):
    (hit,) = found(data, size, seeds=())

    assert (hit.rule, hit.text) == ("secret_forms", f"holds what looks like: {form}")


@pytest.mark.parametrize("size", [3, 2**20])
@pytest.mark.parametrize(
    "data",
    [
        b"-----BEGIN PUBLIC KEY-----",
        b"a PRIVATE KEY----- without a beginning",
        b"M" + AWS,
        AWS + b"Q",
        b"x" * CONTEXT + b"M" + AWS,
        b'{"ciphertext": 1, "cipherparams": 2}',
    ],
    ids=["public", "no beginning", "within a sequence", "a sequence goes on", "far from the start", "no kdf"],
)
def test_what_only_resembles_a_form_is_not_found(data, size):
    assert found(data, size, seeds=()) == []


def test_forms_and_patterns_are_the_operators_choice():
    data = PEM + b" 123-45-6789"

    hits = found(data, 5, seeds=(), secret_forms=(), denied_patterns=("x{8}", r"\d{3}-\d{2}-\d{4}"))

    assert [(hit.rule, hit.text) for hit in hits] == [("denied_patterns", "matches pattern 2")]
