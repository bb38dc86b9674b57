"""The proxy between a job and the network: what passes, what is written down of it, and what does not pass.

The job is a socket of the test; the servers are the suite's own, on loopback, under names that only a table knows.
"""

import hashlib
import socket
import ssl
import threading
from dataclasses import dataclass

import pytest

from executor.egress import lines, proxy, world
from executor.egress.addresses import is_public
from executor.egress.heads import MAX_HEAD_BYTES
from tests.egress_kit import (
    HOST,
    WebServer,
    allowance,
    hello,
    proxied,
    rest_of,
    say,
    serving,
    tls,
    until,
    world_of,
)

LOOPBACK = {HOST: ["127.0.0.1"]}


@pytest.fixture
def web():
    with WebServer().running() as server:
        yield server


def rows(used):
    return used.journal.record()["exchanges"]


def get(port, path="/", host=HOST, more=""):
    return f"GET http://{host}:{port}{path} HTTP/1.1\r\nHost: {host}:{port}\r\n{more}\r\n".encode()


def connect_to(port, host=HOST):
    return f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()


def sha(data):
    return hashlib.sha256(data).hexdigest()


# -- what passes


def test_a_request_reaches_the_server_and_its_row_tells_sizes_and_hashes(web):
    web.answers["/data?key=secret"] = (
        200,
        {"X-Kept": "yes", "Keep-Alive": "9", "Connection": "x-gone", "X-Gone": "1"},
        b"answer",
    )
    with proxied(allowance(web.port), world_of(LOOPBACK)) as (used, address):
        said = say(address, get(web.port, "/data?key=secret", more="Accept: */*\r\nProxy-Authorization: x\r\n"))

    head, _, body = said.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert body == b"answer"
    assert b"x-kept: yes" in head
    assert b"gone" not in head.lower()
    assert b"keep-alive" not in head.lower()
    ((method, path, headers, _),) = web.requests
    assert (method, path) == ("GET", "/data?key=secret")
    assert dict(headers) == {"Host": f"{HOST}:{web.port}", "accept": "*/*", "Connection": "close"}
    (row,) = rows(used)
    target = f"http://{HOST}:{web.port}/data?key=secret".encode()
    assert row == {
        "at": row["at"], "method": "GET", "host": HOST, "port": web.port, "kind": "http", "status": 200,
        "address": "127.0.0.1", "targetSha256": sha(target), "bytesOut": 0, "bytesIn": 6,
        "requestSha256": sha(b""), "responseSha256": sha(b"answer"),
    }  # fmt: skip
    assert "secret" not in str(row)


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"hello", "Content-Length: 5\r\n"),
        (b"5\r\nhello\r\n0\r\n\r\n", "Transfer-Encoding: chunked\r\n"),
        (b"5\r\nhello\r\n0\r\nX-Trailer: 1\r\n\r\n", "Transfer-Encoding: chunked\r\n"),
        (b"hello", "Content-Length: 5\r\nExpect: 100-continue\r\n"),
    ],
    ids=["length", "chunked", "trailers", "expect"],
)
def test_a_body_is_passed_on_and_hashed_as_the_server_reads_it(web, body, headers):
    web.answers["/"] = (200, {}, b"ok")
    head = f"POST http://{HOST}:{web.port}/ HTTP/1.1\r\nHost: {HOST}:{web.port}\r\n{headers}\r\n".encode()
    with proxied(allowance(web.port), world_of(LOOPBACK)) as (used, address):
        said = say(address, head + body)

    assert said.endswith(b"ok")
    assert web.requests[0][3] == b"hello"
    (row,) = rows(used)
    assert (row["bytesOut"], row["requestSha256"]) == (5, sha(b"hello"))


@pytest.mark.parametrize(
    ("headers", "sent"),
    [({"Transfer-Encoding": "chunked"}, b"4\r\nbody\r\n0\r\n\r\n"), ({"X-Until-Close": "1"}, b"body")],
    ids=["chunked", "until it closes"],
)
def test_an_answer_without_a_length_arrives_whole(web, headers, sent):
    web.answers["/"] = (200, headers, sent)
    with proxied(allowance(web.port), world_of(LOOPBACK)) as (used, address):
        said = say(address, get(web.port))

    assert said.endswith(b"4\r\nbody\r\n0\r\n\r\n")
    assert rows(used)[0]["responseSha256"] == sha(b"body")


def test_a_redirect_is_the_clients_affair_and_is_not_followed(web):
    web.answers["/"] = (302, {"Location": "http://other.example.org/"}, b"")
    resolved = []
    with proxied(allowance(web.port), world_of(LOOPBACK, resolved)) as (used, address):
        said = say(address, get(web.port))

    assert said.startswith(b"HTTP/1.1 302 ")
    assert resolved == [HOST]
    assert len(rows(used)) == 1


def test_a_request_of_a_head_only_gets_no_body(web):
    web.answers["/"] = (200, {}, b"body")
    with proxied(allowance(web.port), world_of(LOOPBACK)) as (used, address):
        said = say(address, get(web.port).replace(b"GET", b"HEAD", 1))

    assert said.endswith(b"\r\n\r\n")
    assert rows(used)[0]["status"] == 200


def test_a_tunnel_carries_tls_and_its_row_tells_of_the_encrypted_streams():
    def attend(connection):
        with tls(ssl.PROTOCOL_TLS_SERVER).wrap_socket(connection, server_side=True) as server:
            assert server.recv(100) == b"question"
            server.sendall(b"answer" * 10_000)

    with (
        serving(attend) as port,
        proxied(allowance(port), world_of(LOOPBACK)) as (used, address),
        socket.create_connection(address, timeout=20) as client,
    ):
        client.sendall(connect_to(port))
        until(client, b"\r\n\r\n")
        with tls(ssl.PROTOCOL_TLS_CLIENT).wrap_socket(client, server_hostname=HOST) as inner:
            inner.sendall(b"question")
            said = rest_of(inner)

    assert said == b"answer" * 10_000
    (row,) = rows(used)
    assert (row["kind"], row["method"], row["status"]) == ("tunnel", "CONNECT", 200)
    assert row["bytesIn"] > 60_000
    assert row["bytesOut"] > 8
    assert row["requestSha256"] != sha(b"")
    assert "refused" not in row


def test_a_name_below_a_wildcard_is_reached(web):
    web.answers["/"] = (200, {}, b"ok")
    granted = allowance(web.port, host="*.example.org")
    with proxied(granted, world_of({"a.b.example.org": ["127.0.0.1"]})) as (_, address):
        assert say(address, get(web.port, host="a.b.example.org")).endswith(b"ok")


# -- what does not


@dataclass(frozen=True)
class Abuse:
    """send: what the job says, of the server's port. status: what it is told. why: in the row."""

    send: object
    status: int
    why: str
    end: bool = False
    rows: int = 1


def raw(text, **changes):
    return lambda port: text.replace("PORT", str(port)).encode("latin-1", **changes)


def smuggled(*headers):
    lines = "".join(f"{line}\r\n" for line in headers)
    return raw(
        f"POST http://{HOST}:PORT/ HTTP/1.1\r\nHost: {HOST}:PORT\r\n{lines}\r\n0\r\n\r\nGET /hidden HTTP/1.1\r\n"
    )


ADDRESSES = {
    "an IPv4 address": "127.0.0.1",
    "metadata": "169.254.169.254",
    "a decimal address": "2130706433",
    "a hexadecimal address": "0x7f.1",
    "an octal address": "0177.0.0.1",
    "a short address": "127.1",
    "an IPv6 address": "[::1]",
    "a mapped address": "[::ffff:127.0.0.1]",
    "an address with a zone": "[fe80::1%25lo]",
    "a single label": "localhost",
    "a trailing dot": f"{HOST}.",
    "an underscore": "api_1.example.org",
    "a name in Unicode": "api.ex\xe4mple.org",
    "a full-width dot": "127\u30020\u30020\u30021".encode().decode("latin-1"),
    "a user": f"user@{HOST}",
    "an encoded dot": "127%2e0%2e0%2e1",
}
ABUSES = {
    **{
        f"GET of {name}": Abuse(raw(f"GET http://{host}:PORT/ HTTP/1.1\r\nHost: {host}:PORT\r\n\r\n"), 4, "")
        for name, host in ADDRESSES.items()
    },
    **{
        f"CONNECT to {name}": Abuse(raw(f"CONNECT {host}:PORT HTTP/1.1\r\nHost: {host}:PORT\r\n\r\n"), 4, "")
        for name, host in ADDRESSES.items()
    },
    "a host that is not granted": Abuse(
        raw("GET http://evil.example.com/ HTTP/1.1\r\nHost: evil.example.com\r\n\r\n"), 403, "not granted"
    ),
    "the name above a granted one": Abuse(
        raw("GET http://example.org:PORT/ HTTP/1.1\r\nHost: example.org:PORT\r\n\r\n"), 403, "not granted"
    ),
    "a name that ends like a granted one": Abuse(
        raw(f"GET http://x{HOST}:PORT/ HTTP/1.1\r\nHost: x{HOST}:PORT\r\n\r\n"), 403, "not granted"
    ),
    "CONNECT to a port that is not granted": Abuse(lambda port: connect_to(22), 403, "not granted"),
    "a port of zero": Abuse(lambda port: connect_to(0), 400, "port"),
    "a port beyond all": Abuse(lambda port: connect_to(65536), 400, "port"),
    "a Host header of another": Abuse(
        raw(f"GET http://{HOST}:PORT/ HTTP/1.1\r\nHost: evil.example.com\r\n\r\n"), 400, "Host"
    ),
    "two Host headers": Abuse(
        raw(f"GET http://{HOST}:PORT/ HTTP/1.1\r\nHost: {HOST}:PORT\r\nHost: evil.example.com\r\n\r\n"), 400, ""
    ),
    "no Host header": Abuse(raw(f"GET http://{HOST}:PORT/ HTTP/1.1\r\n\r\n"), 400, ""),
    "a Host without the port": Abuse(raw(f"GET http://{HOST}:PORT/ HTTP/1.1\r\nHost: {HOST}\r\n\r\n"), 400, "Host"),
    "both lengths": Abuse(smuggled("Content-Length: 5", "Transfer-Encoding: chunked"), 400, "where the body ends"),
    "two lengths": Abuse(smuggled("Content-Length: 5", "Content-Length: 6"), 400, "where the body ends"),
    "two equal lengths": Abuse(smuggled("Content-Length: 5", "Content-Length: 5"), 400, "where the body ends"),
    "a list of lengths": Abuse(smuggled("Content-Length: 5, 5"), 400, "no number"),
    "a length with a sign": Abuse(smuggled("Content-Length: +5"), 400, "no number"),
    "two codings": Abuse(smuggled("Transfer-Encoding: chunked", "Transfer-Encoding: identity"), 400, "body ends"),
    "a hidden coding": Abuse(smuggled("Transfer-Encoding: \x0bchunked"), 400, "header"),
    "another coding": Abuse(smuggled("Transfer-Encoding: gzip, chunked"), 501, "coding"),
    "a space before the colon": Abuse(smuggled("Transfer-Encoding : chunked"), 400, "header"),
    "a folded header": Abuse(smuggled("X-A: 1", " Transfer-Encoding: chunked"), 400, "second line"),
    "a bare CR": Abuse(smuggled("X-A: 1\rTransfer-Encoding: chunked"), 400, "CR LF"),
    "a bare LF": Abuse(smuggled("X-A: 1\nTransfer-Encoding: chunked"), 400, "CR LF"),
    "a NUL": Abuse(smuggled("X-A: 1\0"), 400, "NUL"),
    "a header without a name": Abuse(smuggled(": 1"), 400, "header"),
    "HTTP/1.0": Abuse(raw(f"GET http://{HOST}:PORT/ HTTP/1.0\r\nHost: {HOST}:PORT\r\n\r\n"), 400, "request line"),
    "HTTP/2 by prior knowledge": Abuse(raw("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 400, "request line"),
    "a target that is a path": Abuse(raw(f"GET /x HTTP/1.1\r\nHost: {HOST}:PORT\r\n\r\n"), 400, "target"),
    "a target of another scheme": Abuse(
        raw(f"GET ftp://{HOST}:PORT/ HTTP/1.1\r\nHost: {HOST}:PORT\r\n\r\n"), 400, "target"
    ),
    "a fragment": Abuse(raw(f"GET http://{HOST}:PORT/#a HTTP/1.1\r\nHost: {HOST}:PORT\r\n\r\n"), 400, "target"),
    "TRACE": Abuse(raw(f"TRACE http://{HOST}:PORT/ HTTP/1.1\r\nHost: {HOST}:PORT\r\n\r\n"), 501, "method"),
    "a CONNECT with a body": Abuse(
        raw(f"CONNECT {HOST}:PORT HTTP/1.1\r\nHost: {HOST}:PORT\r\nContent-Length: 3\r\n\r\nabc"), 400, "body"
    ),
    "a head without an end": Abuse(lambda port: b"GET http://a/ HTTP/1.1\r\n" + b"X-A: b\r\n" * 9000, 431, "head"),
    "a line without an end": Abuse(lambda port: b"G" * (MAX_HEAD_BYTES + 5000), 431, "head"),
    "half a head": Abuse(lambda port: b"GET http://a", 400, "whole request", end=True),
    "TLS to the proxy itself": Abuse(lambda port: hello(HOST), 400, "whole request", end=True),
    "SOCKS": Abuse(lambda port: b"\x05\x01\x00", 400, "whole request", end=True),
}


@pytest.mark.parametrize("name", ABUSES, ids=[f"abuse {name}" for name in ABUSES])
def test_a_request_that_is_not_clear_or_not_granted_goes_nowhere(name, web):
    abuse = ABUSES[name]
    resolved = []
    with proxied(allowance(web.port), world_of(LOOPBACK, resolved)) as (used, address):
        said = say(address, abuse.send(web.port), end=abuse.end)

    status = int(said.split(b" ", 2)[1])
    assert abuse.status in (status, status // 100)
    assert resolved == []
    assert web.requests == []
    (row,) = rows(used)
    assert row["refused"]
    assert abuse.why in row["refused"]


NAMES = {
    "loopback": ["127.0.0.2"],
    "a private network": ["10.0.0.1"],
    "metadata": ["169.254.169.254"],
    "carrier-grade NAT": ["100.64.0.1"],
    "documentation": ["192.0.2.1"],
    "IPv6 loopback": ["::1"],
    "unique local": ["fd00:ec2::254"],
    "link-local with a zone": ["fe80::1%lo"],
    "a mapped address": ["::ffff:10.0.0.1"],
    "NAT64 of metadata": ["64:ff9b::a9fe:a9fe"],
    "6to4 of loopback": ["2002:7f00:1::"],
    "multicast": ["224.0.0.1"],
    "no address": ["localhost"],
    "one of many": ["127.0.0.1", "10.0.0.1"],
}


@pytest.mark.parametrize("name", NAMES, ids=[f"abuse {name}" for name in NAMES])
@pytest.mark.parametrize("tunnel", [False, True], ids=["http", "tunnel"])
def test_a_name_that_leads_to_an_address_that_is_not_public_leads_nowhere(name, tunnel, web):
    with proxied(allowance(web.port), world_of({HOST: NAMES[name]})) as (used, address):
        said = say(address, connect_to(web.port) if tunnel else get(web.port))

    assert said.startswith(b"HTTP/1.1 403 ")
    assert NAMES[name][0] not in said.decode()
    assert web.requests == []
    assert rows(used)[0]["refused"] == "the host's name leads to an address that is not public"


def test_abuse_a_name_that_changes_after_it_was_checked_is_not_looked_up_again(web):
    """DNS rebinding: the second answer would be an address that is closed."""
    web.answers["/"] = (200, {}, b"ok")
    resolved = []
    names = {HOST: [["127.0.0.1"], ["10.0.0.1"]]}
    with proxied(allowance(web.port), world_of(names, resolved)) as (used, address):
        first = say(address, get(web.port))
        second = say(address, get(web.port))

    assert first.endswith(b"ok")
    assert second.startswith(b"HTTP/1.1 403 ")
    assert resolved == [HOST, HOST]
    assert [row.get("address", "") for row in rows(used)] == ["127.0.0.1", ""]


def plain_server(connection):
    connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
    connection.recv(2**16)


TUNNELS = {
    "the SNI of another host": (lambda: hello("evil.example.com"), "another host"),
    "no SNI": (lambda: hello(None), "no host"),
    "plain HTTP": (lambda: b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "no TLS"),
    "SSH": (lambda: b"SSH-2.0-x\r\n", "no TLS"),
    "a ClientHello that is cut": (lambda: hello(HOST)[:40], "no whole ClientHello"),
    "an endless ClientHello": (lambda: b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + b"a" * 40_000, ""),
    "bytes after the ClientHello": (lambda: hello(HOST) + b"\x17\x03\x03\x00\x05hello", "more follows"),
}


@pytest.mark.parametrize("name", TUNNELS, ids=[f"abuse {name}" for name in TUNNELS])
def test_a_tunnel_that_does_not_begin_as_tls_to_its_host_carries_nothing(name):
    make, why = TUNNELS[name]
    got = []
    with (
        serving(lambda connection: got.append(connection.recv(2**16))) as port,
        proxied(allowance(port), world_of(LOOPBACK)) as (used, address),
    ):
        say(address, connect_to(port) + make(), end=True)

    assert [data for data in got if data] == []
    (row,) = rows(used)
    assert why in row["refused"]
    assert (row["kind"], row["bytesOut"], row["bytesIn"]) == ("tunnel", 0, 0)


def test_abuse_a_server_that_does_not_speak_tls_is_not_heard():
    with serving(plain_server) as port, proxied(allowance(port), world_of(LOOPBACK)) as (used, address):
        said = say(address, connect_to(port) + hello(HOST))

    assert b"SSH" not in said
    assert rows(used)[0]["refused"] == "not let through: the server does not answer with TLS"


def test_abuse_a_second_request_on_a_connection_is_not_read(web):
    web.answers["/"] = (200, {}, b"ok")
    with proxied(allowance(web.port), world_of(LOOPBACK)) as (used, address):
        said = say(address, get(web.port) + get(web.port, "/second"))

    assert said.count(b"HTTP/1.1") == 1
    assert [path for _, path, _, _ in web.requests] == ["/"]
    assert len(rows(used)) == 1


# -- limits


def answering(data):
    def attend(connection):
        connection.recv(2**16)
        connection.sendall(data)

    return attend


LIES = {
    "no HTTP": (b"hello there\r\n\r\n", "no HTTP"),
    "a head without an end": (b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 20_000, "no HTTP"),
    "fewer bytes than it says": (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "no HTTP"),
    "two lengths": (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "no HTTP"),
    "another protocol": (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", ""),
    "nothing": (b"", ""),
}


@pytest.mark.parametrize("name", LIES, ids=[f"abuse {name}" for name in LIES])
def test_a_server_that_does_not_answer_as_it_should_is_cut(name):
    data, why = LIES[name]
    with serving(answering(data)) as port, proxied(allowance(port), world_of(LOOPBACK)) as (used, address):
        say(address, get(port))

    assert why in rows(used)[0]["cut"]


def test_abuse_bytes_out_beyond_the_limit_do_not_leave(web):
    body = b"x" * 5000
    head = f"POST http://{HOST}:{web.port}/ HTTP/1.1\r\nHost: {HOST}:{web.port}\r\nContent-Length: 5000\r\n\r\n"
    with proxied(allowance(web.port, bytes_out=1000), world_of(LOOPBACK)) as (used, address):
        say(address, head.encode() + body)

    assert rows(used)[0]["cut"] == "the job's bytes out are used up"
    assert web.requests == [] or len(web.requests[0][3]) < 1000


def test_abuse_bytes_in_beyond_the_limit_end_the_exchange(web):
    web.answers["/"] = (200, {}, b"x" * 100_000)
    with proxied(allowance(web.port, bytes_in=50_000), world_of(LOOPBACK)) as (used, address):
        said = say(address, get(web.port))

    assert len(said) <= 51_000
    assert rows(used)[0]["cut"] == "the job's bytes in are used up"


def test_abuse_bytes_through_a_tunnel_count_too():
    def attend(connection):
        connection.recv(2**16)
        connection.sendall(b"\x16" * 100_000)
        connection.recv(1)

    granted = {"bytes_in": 50_000}
    with serving(attend) as port, proxied(allowance(port, **granted), world_of(LOOPBACK)) as (used, address):
        said = say(address, connect_to(port) + hello(HOST))

    assert len(said) <= 51_000
    assert rows(used)[0]["cut"] == "the job's bytes in are used up"


def test_abuse_requests_beyond_the_limit_are_refused_and_counted(web):
    web.answers["/"] = (200, {}, b"ok")
    with proxied(allowance(web.port, exchanges=2), world_of(LOOPBACK)) as (used, address):
        answers = [say(address, get(web.port))[9:12] for _ in range(4)]

    assert answers == [b"200", b"200", b"429", b"429"]
    assert len(web.requests) == 2
    record = used.journal.record()
    assert (len(record["exchanges"]), record["omitted"]) == (2, 2)


def test_abuse_connections_beyond_the_limit_are_turned_away(web):
    web.answers["/"] = (200, {}, b"ok")
    with proxied(allowance(web.port, connections=2), world_of(LOOPBACK)) as (used, address):
        first, second = (socket.create_connection(address, timeout=20) for _ in range(2))
        with first, second:
            assert say(address, b"").startswith(b"HTTP/1.1 503 ")

    assert rows(used)[0]["refused"] == "more than 2 connections at once"


def test_abuse_a_job_that_drips_its_request_is_cut_in_time(web):
    stop = threading.Event()
    with (
        proxied(allowance(web.port, exchange_seconds=1.0), world_of(LOOPBACK)) as (used, address),
        socket.create_connection(address, timeout=20) as client,
    ):

        def drip():
            while not stop.wait(0.1):
                try:
                    client.send(b"X")
                except OSError:
                    return

        thread = threading.Thread(target=drip)
        thread.start()
        said = rest_of(client)
        stop.set()
        thread.join()

    assert said.startswith(b"HTTP/1.1 502 ")
    assert rows(used)[0]["cut"] == "still open after 1 s"


def test_abuse_a_server_that_drips_its_answer_is_cut_in_time():
    ended = threading.Event()

    def attend(connection):
        connection.recv(2**16)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while not ended.wait(0.05):
            connection.send(b"x")

    with serving(attend) as port, proxied(allowance(port, exchange_seconds=1.0), world_of(LOOPBACK)) as (used, address):
        say(address, get(port))
        ended.set()

    assert rows(used)[0]["cut"] == "still open after 1 s"


def test_abuse_a_half_open_tunnel_is_cut_in_time():
    def attend(connection):
        connection.recv(2**16)
        connection.sendall(b"\x16answer")
        connection.recv(1)

    with serving(attend) as port, proxied(allowance(port, exchange_seconds=1.0), world_of(LOOPBACK)) as (used, address):
        say(address, connect_to(port) + hello(HOST))

    assert rows(used)[0]["cut"] == "still open after 1 s"


def test_a_connection_that_says_nothing_leaves_no_row():
    with proxied(allowance(443), world_of({})) as (used, address):
        assert say(address, b"", end=True) == b""

    assert used.journal.record() == {"exchanges": [], "omitted": 0}


def test_what_is_open_when_the_job_ends_is_cut_and_told():
    asked = threading.Event()

    def attend(connection):
        connection.recv(2**16)
        asked.set()
        connection.recv(1)

    with serving(attend) as port, proxied(allowance(port), world_of(LOOPBACK)) as (used, address):
        client = socket.create_connection(address, timeout=20)
        client.sendall(get(port))
        assert asked.wait(20)
    client.close()

    assert "cut" in rows(used)[0]


@pytest.mark.parametrize(
    ("names", "status"), [({}, b"502"), ({HOST: ["127.0.0.1"]}, b"502")], ids=["no such name", "nobody listens"]
)
def test_a_host_that_cannot_be_reached_is_told_of(names, status):
    closed = socket.create_server(("127.0.0.1", 0))
    port = closed.getsockname()[1]
    closed.close()
    with proxied(allowance(port), world_of(names)) as (used, address):
        assert say(address, get(port))[9:12] == status

    assert rows(used)[0]["status"] == 502


# -- the real world's edges, the twins of the table above


def test_the_systems_resolver_gives_addresses_of_a_name_and_nothing_for_one_that_is_none():
    assert set(world.resolve("localhost", 80, 10.0)) <= {"127.0.0.1", "::1"}
    assert world.resolve("localhost", 80, 10.0)
    assert world.resolve("a" * 70 + ".invalid", 80, 10.0) == []


def test_this_machines_own_addresses_are_no_destinations():
    own = world.parsed("127.0.0.1")

    assert world.is_own(own)
    assert not world.is_own(world.parsed("192.0.2.1"))
    assert not world.system().may_reach(own)
    assert is_public(world.parsed("8.8.8.8"))


def test_the_real_world_reaches_no_host_of_this_machine(web):
    """The whole of it, by a name that the system's resolver knows."""
    real = world.system()
    with pytest.raises(world.NoWay) as caught:
        real.open("localhost", web.port, lambda most: most)

    assert caught.value.status == 403


def test_a_deadline_leaves_no_wait_once_it_is_over():
    now = [0.0]
    deadline = lines.Deadline(5.0, lambda: now[0])

    assert deadline.left(2.0) == 2.0
    now[0] = 4.0
    assert deadline.left(2.0) == 1.0
    now[0] = 5.0
    with pytest.raises(lines.Cut):
        deadline.left()


def test_the_words_of_every_status_are_known():
    assert all(proxy._answer(status, "x").startswith(b"HTTP/1.1") for status in proxy._WORDS)
