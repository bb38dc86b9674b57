"""Signed calls: what is signed, what is checked, and which header an error names."""

import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.errors import InvalidInput
from executor.protocol.canonical import sha256
from executor.protocol.nodeauth import (
    BODY,
    KEY,
    MAX_SKEW_SECONDS,
    NONCE,
    SIGNATURE,
    TIME,
    Audience,
    SignedCall,
    check_call,
    declared_body,
    sign_call,
)
from executor.protocol.signing import Key, Scope
from tests.bridge_kit import CONTRACT, CURATOR, key_of

NODE = key_of("node a")
AUDIENCE = Audience(Scope(31415926, CONTRACT), "https://bridge.example")
NOW = 1_800_000_000
CALL = {"method": "POST", "path": "/v1/leases?x=1", "body_hash": sha256(b"body")}


def headers(**changes):
    fields = {**CALL, "time": NOW, "nonce": b"n" * 32, **changes}
    return sign_call(changes.pop("key", NODE), fields.pop("audience", AUDIENCE), **fields)


def check(given, now=NOW, audience=AUDIENCE, **changes):
    return check_call(given, audience, now=now, **{**CALL, **changes})


def test_a_signed_call_says_who_called_when_and_with_which_nonce():
    assert check(headers()) == SignedCall(key=NODE.address, time=NOW, nonce=b"n" * 32)


def test_a_signed_call_declares_its_body():
    assert declared_body(headers()) == sha256(b"body")


@pytest.mark.parametrize("given", [{}, {BODY: "0x12"}, {BODY: "x" * 66}])
def test_a_call_that_does_not_declare_its_body_is_told_so(given):
    with pytest.raises(InvalidInput) as caught:
        declared_body(given)
    assert caught.value.field == BODY


#: name -> how the call that is checked differs from the one that was signed
OTHERS = {
    "method": {"method": "PUT"},
    "path": {"path": "/v1/leases"},
    "query": {"path": "/v1/leases?x=2"},
    "body": {"body_hash": sha256(b"another body")},
    "URL": {"audience": Audience(AUDIENCE.scope, "https://other.example")},
    "chain": {"audience": Audience(Scope(1, CONTRACT), AUDIENCE.url)},
    "contract": {"audience": Audience(Scope(31415926, CURATOR), AUDIENCE.url)},
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_signature_is_for_one_call_only(name):
    with pytest.raises(InvalidInput) as caught:
        check(headers(), **OTHERS[name])
    assert caught.value.field == SIGNATURE


@given(st.integers(-3600, 3600))
def test_a_time_is_good_within_the_allowed_skew(skew):
    try:
        check(headers(time=NOW + skew))
    except InvalidInput as exc:
        refused = exc.field
    else:
        refused = None
    assert refused == (TIME if abs(skew) > MAX_SKEW_SECONDS else None)


#: name -> (headers that take the place of good ones, header that the error names)
MALFORMED = {
    "no key": ({KEY: None}, KEY),
    "no time": ({TIME: None}, TIME),
    "no nonce": ({NONCE: None}, NONCE),
    "no signature": ({SIGNATURE: None}, SIGNATURE),
    "a key that is no address": ({KEY: "0x1"}, KEY),
    "another's key": ({KEY: CURATOR}, SIGNATURE),
    "a time with a fraction": ({TIME: f"{NOW}.5"}, TIME),
    "a time with digits of another script": ({TIME: "\uff11800000000"}, TIME),
    "a time of a thousand digits": ({TIME: "1" * 1000}, TIME),
    "another nonce": ({NONCE: "0x" + "00" * 32}, SIGNATURE),
    "a nonce that is too short": ({NONCE: "0x00"}, NONCE),
    "a nonce without 0x": ({NONCE: "00" * 33}, NONCE),
    "a nonce with a newline": ({NONCE: "0x" + "00" * 32 + "\n"}, NONCE),
    "a signature of zeros": ({SIGNATURE: "0x" + "00" * 65}, "signature"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_an_error_names_the_header(name):
    changes, field = MALFORMED[name]
    given_headers = {k: v for k, v in {**headers(), **changes}.items() if v is not None}

    with pytest.raises(InvalidInput) as caught:
        check(given_headers)
    assert caught.value.field == field


def test_two_calls_differ_by_their_nonce():
    one, other = (headers(nonce=secrets.token_bytes(32)) for _ in range(2))

    assert one[SIGNATURE] != other[SIGNATURE]


def test_a_key_is_created_once_readable_by_its_owner_only_and_loaded_again(tmp_path):
    key = Key.create(tmp_path / "key")

    assert Key.load(f"file:{tmp_path / 'key'}").address == key.address
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        Key.create(tmp_path / "key")
    assert repr(key) == f"Key({key.address})"


def test_a_key_that_others_can_read_is_refused(tmp_path):
    Key.create(tmp_path / "key")
    (tmp_path / "key").chmod(0o640)

    with pytest.raises(InvalidInput, match="chmod 600"):
        Key.load(f"file:{tmp_path / 'key'}")


def test_a_key_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("INSULA_TEST_KEY", "46" * 32)

    assert Key.load("env:INSULA_TEST_KEY").address == "0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F"


SECRET = "46" * 32
#: name -> reference to a key that cannot be
BAD_KEYS = {
    "the key itself": SECRET,
    "a variable that is not set": "env:INSULA_NO_SUCH_KEY",
    "a file that is not there": "file:/nonexistent/key",
    "an unknown kind": f"hex:{SECRET}",
}


@pytest.mark.parametrize("name", BAD_KEYS)
def test_a_bad_reference_to_a_key_never_shows_a_secret(name):
    with pytest.raises(InvalidInput) as caught:
        Key.load(BAD_KEYS[name])
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("secret", ["", "46" * 31, "46" * 33, "zz" * 32, "00" * 32, "ff" * 32])
def test_a_secret_that_is_none_is_refused_and_not_repeated(secret):
    with pytest.raises(InvalidInput) as caught:
        Key.from_hex(secret)
    assert not secret or secret not in str(caught.value)
