"""What a job, a resolver or a server may try against the proxy: none of it passes, and each leaves its cause."""

from dataclasses import dataclass

import pytest

from executor.egress.heads import MAX_HEAD_BYTES
from tests.egress_kit import (
    HOST,
    LOOPBACK,
    WebServer,
    allowance,
    connect_to,
    get,
    hello,
    proxied,
    rows,
    say,
    serving,
    world_of,
)


@pytest.fixture
def web():
    with WebServer().running() as server:
        yield server


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
