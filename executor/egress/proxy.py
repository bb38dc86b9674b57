"""The proxy of one execution: HTTP and TLS to the destinations that the job was granted, every exchange written down.

One request for each connection: it is closed afterwards, so that no second request can hide in the first. Of TLS the
proxy sees the host that the client names, and nothing of what is within.
"""

from __future__ import annotations

import contextlib
import hashlib
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import h11

from executor.egress.clienthello import NotTls, server_name
from executor.egress.heads import HEAD_END, MAX_HEAD_BYTES, Asked, BadRequest, asked, carried, check_head
from executor.egress.journal import Journal
from executor.egress.lines import Budget, Cut, Deadline, Flow, Line, pump
from executor.egress.record import Exchange
from executor.egress.world import NoWay, World
from executor.protocol.canonical import sha256
from executor.protocol.network import Destination, admitted

HEAD_SECONDS: Final = 10.0
"""For a whole head, and for a whole ClientHello."""
FAREWELL_SECONDS: Final = 1.0
END_SECONDS: Final = 3.0
MAX_ANSWER_HEAD_BYTES: Final = 64 * 1024
BACKLOG: Final = 16
TURN_SECONDS: Final = 0.02
"""Between two connections that are turned away: a job that goes on trying costs this node no processor."""
_TLS_ANSWERS: Final = (0x15, 0x16)
_WORDS: Final = {
    400: "Bad Request", 403: "Forbidden", 429: "Too Many Requests", 431: "Request Header Fields Too Large",
    501: "Not Implemented", 502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout",
}  # fmt: skip


@dataclass(frozen=True)
class Allowance:
    """What one execution may do; see `executor.audit.egressrules`."""

    destinations: Sequence[Destination]
    bytes_out: int
    bytes_in: int
    exchanges: int
    exchange_seconds: float
    connections: int


class Proxy:
    """Serves a listening socket until `stop`. clock: seconds since 1970, for the rows."""

    def __init__(self, listener: socket.socket, allowance: Allowance, world: World, clock: Callable[[], float]) -> None:
        self._listener = listener
        self._allowance = allowance
        self._world = world
        self.journal = Journal(allowance.exchanges, clock)
        self._budget = Budget(allowance.bytes_out, allowance.bytes_in)
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._slots = threading.BoundedSemaphore(allowance.connections)
        self._is_deaf = threading.Event()
        self._wake, self._woken = socket.socketpair()

    def serve(self) -> None:
        """Take connections until `stop`; each has a thread of its own."""
        while True:
            ready, _, _ = select.select([self._listener, self._woken], [], [])
            if self._woken in ready:
                break
            try:
                connection, _ = self._listener.accept()
            except OSError:  # it went again before it was taken
                continue
            self._take(connection)
        self._listener.close()
        self._is_deaf.set()

    def stop(self) -> None:
        """Take no more, cut what is open, and stay until it has ended, or for END_SECONDS: a name server or a host that
        keeps quiet is waited for no longer. Call it after `serve` was begun, once.
        """
        self._wake.send(b"x")
        self._is_deaf.wait(END_SECONDS)
        with self._lock:
            for one in self._open:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
        over = time.monotonic() + END_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, over - time.monotonic()))
        for end in (self._wake, self._woken):
            end.close()

    def _take(self, connection: socket.socket) -> None:
        if not self._slots.acquire(blocking=False):
            self._turn_away(connection)
            return
        self._keep(connection)
        thread = threading.Thread(target=self._attend, args=(connection,), daemon=True)
        self._threads = [*(one for one in self._threads if one.is_alive()), thread]
        thread.start()

    def _turn_away(self, connection: socket.socket) -> None:
        """Without a thread, and without waiting for the job."""
        problem = f"more than {self._allowance.connections} connections at once"
        with contextlib.suppress(BadRequest):
            self.journal.begin().refused = problem
        with connection, contextlib.suppress(OSError):
            connection.setblocking(False)
            connection.send(_answer(503, problem))
        select.select([self._woken], [], [], TURN_SECONDS)

    def _attend(self, connection: socket.socket) -> None:
        try:
            _Attendance(self, connection).run()
        finally:
            self._drop(connection)
            self._slots.release()

    def _keep(self, one: socket.socket) -> None:
        with self._lock:
            self._open.add(one)

    def _drop(self, one: socket.socket) -> None:
        with self._lock:
            self._open.discard(one)
        one.close()

    # -- what an attendance needs

    def admits(self, what: Asked) -> bool:
        """Whether the job may ask this."""
        return admitted(self._allowance.destinations, what.host, what.port)

    @property
    def budget(self) -> Budget:
        """Of all connections together."""
        return self._budget

    def deadline(self, seconds: float | None = None) -> Deadline:
        """Of an exchange that begins now."""
        return Deadline(min(seconds or self._allowance.exchange_seconds, self._allowance.exchange_seconds))

    @contextlib.contextmanager
    def reached(self, what: Asked, deadline: Deadline, row: Exchange) -> Iterator[Line]:
        """A connection to the destination, which `stop` cuts. NoWay, Cut."""
        made, row.address = self._world.open(what.host, what.port, deadline.left)
        self._keep(made)
        try:
            yield Line(made, deadline)
        finally:
            self._drop(made)


class _Attendance:
    """One connection of the job's, from its first byte to its end."""

    def __init__(self, proxy: Proxy, connection: socket.socket) -> None:
        self._proxy = proxy
        self._deadline = proxy.deadline()
        self._job = Line(connection, self._deadline)
        self._is_answered = False

    def run(self) -> None:
        """Never raises: what went wrong stands in the row, and the job is told where it can be."""
        row = None
        try:
            first = Line(self._job.socket, self._proxy.deadline(HEAD_SECONDS)).receive()
            if not first:
                return
            row = self._proxy.journal.begin()
            self._exchange(first, row)
        except (BadRequest, NoWay) as exc:
            if row is not None:
                row.refused, row.status = exc.problem, exc.status
            if isinstance(exc, BadRequest) and row is not None and not row.host:
                row.host, row.port = exc.host, exc.port
            self._tell(exc.status, exc.problem)
        except NotTls as exc:
            if row is not None:
                row.refused = f"not let through: {exc}"
        except Cut as exc:
            if row is not None:
                row.cut = str(exc)
            self._tell(502, str(exc))
        except h11.ProtocolError:
            if row is not None:
                row.cut = "no HTTP is spoken"
            self._tell(502, "no HTTP is spoken")

    def _exchange(self, first: bytes, row: Exchange) -> None:
        head, rest = self._head(first)
        check_head(head)
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        request = _parsed(connection, head)
        row.method = request.method.decode("ascii")
        what = asked(request)
        row.host, row.port = what.host, what.port
        row.target_sha256 = sha256(request.target).hex()
        if not self._proxy.admits(what):
            raise BadRequest(403, "the destination is not granted to this job")
        with self._proxy.reached(what, self._deadline, row) as server:
            if what.is_tunnel:
                row.kind = "tunnel"
                self._tunnel(what, rest, server, row)
            else:
                self._request(connection, what, rest, server, row)

    def _head(self, data: bytes) -> tuple[bytes, bytes]:
        line = Line(self._job.socket, self._proxy.deadline(HEAD_SECONDS))
        while (end := data.find(HEAD_END)) < 0:
            if len(data) > MAX_HEAD_BYTES:
                raise BadRequest(431, f"the head has more than {MAX_HEAD_BYTES} bytes")
            more = line.receive(4096)
            if not more:
                raise BadRequest(400, "no whole request came")
            data += more
        end += len(HEAD_END)
        if end > MAX_HEAD_BYTES:
            raise BadRequest(431, f"the head has more than {MAX_HEAD_BYTES} bytes")
        return data[:end], data[end:]

    # -- plain HTTP

    def _request(self, job: h11.Connection, what: Asked, rest: bytes, server: Line, row: Exchange) -> None:
        up = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_ANSWER_HEAD_BYTES)
        self._send_up(server, up.send(what.upstream()))
        if job.they_are_waiting_for_100_continue:
            self._job.send(job.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
        digest = hashlib.sha256()
        try:
            if rest:
                job.receive_data(rest)
            while not isinstance(event := self._next(job, self._job, None), h11.EndOfMessage):
                if isinstance(event, h11.Data):
                    row.bytes_out += len(event.data)
                    digest.update(event.data)
                    self._send_up(server, up.send(h11.Data(data=event.data)))
        finally:
            row.request_sha256 = digest.hexdigest()
        self._send_up(server, up.send(h11.EndOfMessage()))
        self._respond(job, up, server, row)

    def _respond(self, job: h11.Connection, up: h11.Connection, server: Line, row: Exchange) -> None:
        digest = hashlib.sha256()
        try:
            while not isinstance(event := self._next(up, server, self._proxy.budget.spend_in), h11.EndOfMessage):
                if isinstance(event, h11.InformationalResponse) and event.status_code == 101:
                    raise Cut("the server speaks another protocol")
                if isinstance(event, h11.Response):
                    row.status = event.status_code
                    headers = [*carried(list(event.headers)), (b"Connection", b"close")]
                    self._is_answered = True
                    said = h11.Response(status_code=event.status_code, headers=headers, reason=event.reason)
                    self._job.send(job.send(said) or b"")
                elif isinstance(event, h11.Data):
                    row.bytes_in += len(event.data)
                    digest.update(event.data)
                    self._job.send(job.send(h11.Data(data=event.data)) or b"")
        finally:
            row.response_sha256 = digest.hexdigest()
        self._job.send(job.send(h11.EndOfMessage()) or b"")
        self._farewell()

    def _next(self, connection: h11.Connection, line: Line, spend: Callable[[int], None] | None) -> h11.Event:
        """The next event of a message that has begun. Cut where the connection ends within it."""
        while (event := connection.next_event()) is h11.NEED_DATA:
            data = line.receive()
            if spend is not None:
                spend(len(data))
            connection.receive_data(data)
        if event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
            raise Cut("the connection ended before the message did")
        return event  # type: ignore[return-value]

    def _send_up(self, server: Line, data: bytes | None) -> None:
        if data:
            self._proxy.budget.spend_out(len(data))
            server.send(data)

    # -- TLS

    def _tunnel(self, what: Asked, rest: bytes, server: Line, row: Exchange) -> None:
        self._is_answered = True
        row.status = 200
        self._job.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        hello = self._hello(what, rest)
        out = Flow(self._job.socket, server.socket, self._proxy.budget.spend_out)
        into = Flow(server.socket, self._job.socket, self._proxy.budget.spend_in)
        try:
            server.send(out.passed(hello))
            first = server.receive()
            if first and first[0] not in _TLS_ANSWERS:
                raise NotTls("the server does not answer with TLS")
            into.take(first)
            pump(out, into, self._deadline)
        finally:
            row.bytes_out, row.request_sha256 = out.count, out.digest.hexdigest()
            row.bytes_in, row.response_sha256 = into.count, into.digest.hexdigest()

    def _hello(self, what: Asked, data: bytes) -> bytes:
        """The bytes of the ClientHello, which names the host of the CONNECT. NotTls, Cut."""
        line = Line(self._job.socket, self._proxy.deadline(HEAD_SECONDS))
        while (name := server_name(data)) is None:
            more = line.receive(4096)
            if not more:
                raise NotTls("no whole ClientHello came")
            data += more
        if name != what.host:
            raise NotTls("it names another host (SNI) than the CONNECT")
        return data

    # -- the job's side

    def _tell(self, status: int, problem: str) -> None:
        """Say what is wrong, unless an answer was begun."""
        if self._is_answered:
            return
        with contextlib.suppress(Cut, OSError):
            Line(self._job.socket, Deadline(FAREWELL_SECONDS)).send(_answer(status, problem))
        self._farewell()

    def _farewell(self) -> None:
        """Close so that what was said arrives: a socket that is closed with unread bytes takes back what it sent."""
        with contextlib.suppress(OSError, Cut):
            self._job.socket.shutdown(socket.SHUT_WR)
            line = Line(self._job.socket, Deadline(FAREWELL_SECONDS))
            while line.receive():
                pass


def _parsed(connection: h11.Connection, head: bytes) -> h11.Request:
    try:
        connection.receive_data(head)
        request = connection.next_event()
    except h11.RemoteProtocolError as exc:
        raise BadRequest(400, "a head that HTTP does not allow") from exc
    assert isinstance(request, h11.Request)  # noqa: S101 - a whole head was given
    return request


def _answer(status: int, problem: str) -> bytes:
    body = f"insula: {problem}\n".encode("ascii", "backslashreplace")
    head = f"HTTP/1.1 {status} {_WORDS[status]}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + body
