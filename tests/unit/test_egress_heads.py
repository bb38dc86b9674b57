"""The head of a request to the proxy: carried on, or refused where two readers could read it differently."""

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.egress.heads import BadRequest, asked, carried, check_head


def head(line, *headers):
    return "\r\n".join([line, *headers, "", ""]).encode("latin-1")


def read(raw):
    check_head(raw)
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(raw)
    return asked(connection.next_event())


@pytest.mark.parametrize(
    ("line", "host", "expected"),
    [
        ("GET http://a.example.org/x?y=1 HTTP/1.1", "a.example.org", ("a.example.org", 80, "/x?y=1")),
        ("GET http://a.example.org HTTP/1.1", "a.example.org", ("a.example.org", 80, "/")),
        ("GET http://a.example.org?y=1 HTTP/1.1", "a.example.org", ("a.example.org", 80, "/?y=1")),
        ("GET HTTP://A.Example.org:80/ HTTP/1.1", "A.example.ORG:80", ("a.example.org", 80, "/")),
        ("GET http://a.example.org:8080/ HTTP/1.1", "a.example.org:8080", ("a.example.org", 8080, "/")),
        ("CONNECT a.example.org:443 HTTP/1.1", "a.example.org", ("a.example.org", 443, "")),
        ("CONNECT a.example.org:443 HTTP/1.1", "a.example.org:443", ("a.example.org", 443, "")),
    ],
)
def test_what_is_asked_is_read(line, host, expected):
    what = read(head(line, f"Host: {host}"))

    assert (what.host, what.port, what.path) == expected
    assert what.is_tunnel == line.startswith("CONNECT")


def test_the_server_gets_a_request_of_the_proxys_own_making():
    what = read(
        head("GET http://a.example.org:8080/x HTTP/1.1", "host: a.example.org:8080", "Accept: a", "TE: trailers")
    )
    request = what.upstream()

    assert (request.method, request.target) == (b"GET", b"/x")
    assert list(request.headers) == [(b"host", b"a.example.org:8080"), (b"accept", b"a"), (b"connection", b"close")]
    assert read(head("GET http://a.example.org/ HTTP/1.1", "Host: a.example.org")).authority == "a.example.org"


def test_headers_about_one_connection_are_dropped_with_those_that_they_name():
    given = [
        (b"connection", b"close, X-One"), (b"x-one", b"1"), (b"keep-alive", b"1"), (b"upgrade", b"h2c"),
        (b"proxy-authorization", b"x"), (b"via", b"x"), (b"x-forwarded-for", b"x"), (b"x-two", b"2"),
        (b"content-length", b"3"),
    ]  # fmt: skip

    assert carried(given) == [(b"x-two", b"2"), (b"content-length", b"3")]


def test_connection_cannot_drop_where_the_body_ends():
    assert carried([(b"connection", b"content-length"), (b"content-length", b"3")]) == [(b"content-length", b"3")]
    chunked = [(b"connection", b"transfer-encoding"), (b"transfer-encoding", b"chunked"), (b"content-length", b"3")]
    assert carried(chunked) == [(b"transfer-encoding", b"chunked")]


@given(st.binary(max_size=300))
def test_whatever_comes_it_is_read_or_refused(data):
    end = data + b"\r\n\r\n"
    for raw in (end, head("GET http://a.example.org/ HTTP/1.1", "Host: a.example.org")[:-2] + end):
        try:
            read(raw)
        except (BadRequest, h11.RemoteProtocolError):
            continue


@given(st.text("0123456789abcdefxX.:[]@%/?#-_", max_size=30))
def test_no_spelling_of_an_address_is_asked_for(text):
    try:
        what = read(head(f"CONNECT {text}:443 HTTP/1.1", f"Host: {text}:443"))
    except BadRequest:
        return
    assert what.host.rpartition(".")[2][0].isalpha()


PLAIN = "GET http://a.example.org/ HTTP/1.1"
HOST = "Host: a.example.org"
REFUSED = {
    "a NUL": (head(PLAIN, HOST, "X: \0"), 400),
    "a bare CR": (head(PLAIN, HOST, "X: 1\r2"), 400),
    "a bare LF": (head(PLAIN, HOST, "X: 1\n2"), 400),
    "another version": (head("GET http://a.example.org/ HTTP/1.0", HOST), 400),
    "a folded header": (head(PLAIN, HOST, "X: 1", " 2"), 400),
    "a header without a colon": (head(PLAIN, HOST, "X"), 400),
    "two lengths": (head(PLAIN, HOST, "Content-Length: 1", "Content-Length: 1"), 400),
    "a length and a coding": (head(PLAIN, HOST, "Content-Length: 1", "Transfer-Encoding: chunked"), 400),
    "a length that is none": (head(PLAIN, HOST, "Content-Length: 0x1"), 400),
    "another coding": (head(PLAIN, HOST, "Transfer-Encoding: gzip"), 501),
    "another method": (head("TRACE http://a.example.org/ HTTP/1.1", HOST), 501),
    "a CONNECT with a body": (head("CONNECT a.example.org:443 HTTP/1.1", HOST, "Content-Length: 1"), 400),
    "a path": (head("GET / HTTP/1.1", HOST), 400),
    "an address": (head("GET http://192.0.2.1/ HTTP/1.1", "Host: 192.0.2.1"), 403),
    "no port": (head("CONNECT a.example.org HTTP/1.1", HOST), 400),
    "port 0": (head("CONNECT a.example.org:0 HTTP/1.1", HOST), 400),
    "another Host": (head(PLAIN, "Host: b.example.org"), 400),
    "a Host with another port": (head(PLAIN, "Host: a.example.org:81"), 400),
}


@pytest.mark.parametrize("name", REFUSED, ids=[f"abuse {name}" for name in REFUSED])
def test_a_head_that_is_ambiguous_or_for_no_host_is_refused_with_a_status(name):
    raw, status = REFUSED[name]
    with pytest.raises(BadRequest) as caught:
        read(raw)

    assert caught.value.status == status
    assert caught.value.problem


def test_lengths_of_none_and_of_a_coding_pass():
    assert read(head(PLAIN, HOST, "Content-Length: 0")).headers == [(b"content-length", b"0")]
    assert read(head(PLAIN, HOST, "Transfer-Encoding: chunked")).headers == [(b"transfer-encoding", b"chunked")]
