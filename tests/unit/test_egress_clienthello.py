"""The host that a TLS client names, out of bytes that a job chose."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.egress.clienthello import MAX_HELLO_BYTES, NotTls, server_name
from tests.egress_kit import hello

REAL = hello("api.example.org")


def vector(width, data):
    return len(data).to_bytes(width) + data


def extension(kind, data):
    return kind.to_bytes(2) + vector(2, data)


SNI = extension(0, vector(2, b"\0" + vector(2, b"API.example.org")))


def message(extensions, *, more=b"", kind=1):
    body = (
        b"\3\3" + bytes(32) + vector(1, b"") + vector(2, b"\x13\x01") + vector(1, b"\0") + vector(2, extensions) + more
    )
    return bytes([kind]) + vector(3, body)


def records(data, size=2**14):
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(b"\x16\3\1" + vector(2, part) for part in parts)


def test_the_name_of_a_real_clients_message_is_read():
    assert server_name(REAL) == "api.example.org"


def test_a_name_is_read_in_lower_case():
    assert server_name(records(message(SNI))) == "api.example.org"


def test_a_message_in_many_records_is_put_together():
    assert server_name(records(message(extension(21, bytes(300)) + SNI), 7)) == "api.example.org"


@pytest.mark.parametrize("cut", [0, 1, 4, 5, 9, 100, len(REAL) - 1])
def test_more_bytes_are_asked_for_while_the_message_is_not_whole(cut):
    assert server_name(REAL[:cut]) is None


HOSTILE = {
    "plain text": b"GET / HTTP/1.1\r\n\r\n",
    "one wrong byte": b"G",
    "another content": b"\x17" + REAL[1:],
    "an SSL 2 message": b"\x80\x2e\x01\x03\x01",
    "an empty record": b"\x16\3\1\0\0" * 9,
    "a record that is too long": b"\x16\3\1\x40\x01" + b"\1" * 9,
    "another message": records(message(SNI, kind=2)),
    "a length that is too short": records(b"\1\0\0\5" + message(SNI)[4:]),
    "a length that never comes true": records(b"\1\xff\xff\xff" + bytes(2 * MAX_HELLO_BYTES)),
    "a second message": records(message(SNI)) + records(message(SNI)),
    "a second message in one record": records(message(SNI) + message(SNI)),
    "bytes after the extensions": records(message(SNI, more=b"x")),
    "extensions that are cut": records(message(SNI[:-1])),
    "an extension twice": records(message(SNI + SNI)),
    "an encrypted ClientHello": records(message(SNI + extension(0xFE0D, b"x"))),
    "no name": records(message(extension(21, b""))),
    "an empty list of names": records(message(extension(0, b"\0\0"))),
    "two names": records(message(extension(0, vector(2, (b"\0" + vector(2, b"a.b")) * 2)))),
    "a name of another kind": records(message(extension(0, vector(2, b"\1" + vector(2, b"a.b"))))),
    "a name that is not ASCII": records(message(extension(0, vector(2, b"\0" + vector(2, b"\xff.b"))))),
    "bytes after the list of names": records(message(extension(0, vector(2, b"\0" + vector(2, b"a.b")) + b"x"))),
}


@pytest.mark.parametrize("name", HOSTILE, ids=[f"abuse {name}" for name in HOSTILE])
def test_a_message_that_does_not_name_one_host_openly_is_refused(name):
    with pytest.raises(NotTls):
        server_name(HOSTILE[name])


@given(st.binary(max_size=400))
def test_whatever_comes_it_is_a_name_a_refusal_or_too_short(data):
    for start in (b"", b"\x16\3\1", REAL[:60]):
        try:
            name = server_name(start + data)
        except NotTls:
            continue
        assert name is None or name.isascii()


@given(st.integers(0, len(REAL) - 1), st.integers(1, 255))
def test_a_changed_byte_never_breaks_the_reader(at, change):
    data = REAL[:at] + bytes([REAL[at] ^ change]) + REAL[at + 1 :]
    try:
        server_name(data)
    except NotTls:
        return
