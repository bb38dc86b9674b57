"""The proxy between a job and the network: what passes, what is written down of it, and the limits.

The job is a socket of the test; the servers are the suite's own, on loopback, under names that only a table knows.
"""

import socket
import ssl
import threading
import time
from dataclasses import replace

import pytest

from executor.egress import gate, lines, proxy, world
from executor.egress.addresses import is_public
from tests.egress_kit import (
    HOST,
    LOOPBACK,
    WebServer,
    allowance,
    connect_to,
    get,
    hello,
    proxied,
    rest_of,
    rows,
    say,
    serving,
    sha,
    tls,
    until,
    world_of,
)


@pytest.fixture
def web():
    with WebServer().running() as server:
        yield server


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


# -- limits


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


def test_abuse_name_servers_that_keep_quiet_do_not_hold_up_the_record():
    asked, answer, reached = threading.Semaphore(0), threading.Event(), world_of({})

    def resolve(host, port, seconds):
        asked.release()
        answer.wait(60)
        return []

    clients = []
    with proxied(allowance(443), replace(reached, resolve=resolve)) as (used, address):
        for _ in range(4):
            clients.append(socket.create_connection(address, timeout=20))
            clients[-1].sendall(get(443))
            assert asked.acquire(timeout=20)
        began = time.monotonic()
    took = time.monotonic() - began
    answer.set()
    for client in clients:
        client.close()

    assert took < 2 * proxy.END_SECONDS < gate.END_SECONDS
    assert len(rows(used)) == 4


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
