"""The transport against a peer that keeps to no rule of HTTP: nothing takes longer, or more, than it may."""

import logging
import socket
import threading
import time
from contextlib import contextmanager

import pytest

from bridge.chain.client import ChainClient
from bridge.errors import RpcError

SECONDS = 0.5
LIMIT = 100_000
SECRET = "f00dfeedc0ffee"
OK = b"HTTP/1.1 200 OK\r\n"
ANSWER = b'{"jsonrpc":"2.0","id":1,"result":"0x1"}'


@contextmanager
def peer(write):
    """The URL of a server that calls `write(send)` for each request, until the client hangs up."""
    stop = threading.Event()
    listening = socket.create_server(("127.0.0.1", 0))

    def serve(connection):
        with connection:
            try:
                while connection.recv(65536):
                    write(connection.sendall, stop)
            except OSError:
                pass

    def accept():
        while not stop.is_set():
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v3/{SECRET}"
    finally:
        stop.set()
        listening.close()


def drip(start, piece, pause=0.02):
    """Send a beginning, and then the same piece again and again."""

    def write(send, stop):
        send(start)
        while not stop.wait(pause):
            send(piece)

    return write


def once(answer):
    return lambda send, _: send(answer)


ENDLESS = {
    "a header that never ends": drip(OK + b"X: ", b"a"),
    "headers without end": drip(OK, b"X: y\r\n", 0.05),
    "interim answers without end": drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "the size of a chunk that never ends": drip(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
    "trailers without end": drip(OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n", b"X: y\r\n"),
    "a redirect whose body drips": drip(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n", b"a"),
    "a redirect whose body is endless": drip(
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n", b"a" * 2**16, 0.0001
    ),
}

ODD = {
    "a redirect to bytes": b"HTTP/1.1 302 Found\r\nLocation: \xff\xfe\r\nContent-Length: 0\r\n\r\n",
    "a redirect to half an address": b"HTTP/1.1 302 Found\r\nLocation: http://[\r\nContent-Length: 0\r\n\r\n",
    "no HTTP at all": b"hello\r\n",
    "two lengths": OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "a chunk of a negative size": OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nabc\r\n0\r\n\r\n",
    "a status that is none": b"HTTP/1.1 999 \xff\xfe\r\nContent-Length: 2\r\n\r\n{}",
    "a line that is no header": OK + b"no header\r\n X\r\nContent-Length: 2\r\n\r\n{}",
}


@pytest.mark.parametrize("write", ENDLESS.values(), ids=ENDLESS)
def test_an_answer_without_end_is_given_up(write):
    with peer(write) as url, ChainClient(url, SECONDS, max_response_bytes=LIMIT) as client:
        began = time.monotonic()
        with pytest.raises(RpcError):
            client.chain_id()
        assert time.monotonic() - began < 10 * SECONDS


@pytest.mark.parametrize("answer", ODD.values(), ids=ODD)
def test_an_answer_against_the_rules_is_no_fault_of_ours(answer):
    with (
        peer(once(answer)) as url,
        ChainClient(url, SECONDS, max_response_bytes=LIMIT) as client,
        pytest.raises(RpcError),
    ):
        client.chain_id()


def test_odd_headers_put_no_url_into_the_log(caplog):
    answer = OK + b"no header\r\n X\r\nContent-Length: 2\r\n\r\n{}"
    with caplog.at_level(logging.WARNING), peer(once(answer)) as url, ChainClient(url, SECONDS) as client:
        with pytest.raises(RpcError):
            client.chain_id()
        assert SECRET not in caplog.text


def test_cookies_are_not_kept():
    asked = []

    def write(send, _):
        cookie = b"Set-Cookie: c%d=%s\r\n" % (len(asked), b"a" * 3000)
        asked.append(cookie)
        send(OK + cookie + b"Content-Length: %d\r\n\r\n" % len(ANSWER) + ANSWER)

    with peer(write) as url, ChainClient(url, SECONDS) as client:
        client.chain_id()
        assert asked
        assert not list(client.transport._session.cookies)


def test_what_is_small_on_the_wire_and_large_in_memory_is_not_parsed():
    body = b'{"id":1,"result":[' + b"[]," * 5_000_000 + b"[]]}"
    answer = OK + b"Content-Length: %d\r\n\r\n" % len(body) + body
    with peer(once(answer)) as url, ChainClient(url, 10.0) as client, pytest.raises(RpcError, match="values"):
        client.chain_id()
