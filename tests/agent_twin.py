"""A bridge for a node's tests: real HTTP, the wire's own models and signature checks, and faults on demand.

It holds the lease protocol in memory; what it knows it was told by the test. Faults are scripted by path, so that
tests can cut, stall, drip and lie in ways that the real bridge never would.
"""

import json
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from executor.content.blocks import MemoryBlocks
from executor.content.car import CarLimits, CarParser, export_car, read_car
from executor.content.walk import missing
from executor.errors import BlockMissing, CarError, InvalidInput
from executor.protocol.canonical import sha256
from executor.protocol.cid import Cid
from executor.protocol.leases import (
    MAX_MISSING,
    Advert,
    Attested,
    Heartbeat,
    HeartbeatAnswer,
    Lease,
    LeaseReturn,
    Missing,
    RequestMessage,
)
from executor.protocol.nodeauth import Audience, check_call
from executor.protocol.produced import Producers
from executor.protocol.signing import Scope
from executor.protocol.wire import Order, Request
from tests.chain_nodes import wait_for

CHAIN_ID = 31337
CONTRACT = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
RELAYER = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
REQUESTER = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"


@dataclass
class Fault:
    """What to do instead of answering. times: how often, then it answers."""

    status: int | None = None
    cut_after: int | None = None  # bytes of the body, then the connection closes
    garble: bool = False  # flip a bit of the body's last byte
    drip_seconds: float | None = None  # one byte of the body each
    drip_head_seconds: float | None = None
    stall_after: int | None = None  # bytes of the body, then silence until the twin stops
    body: bytes | None = None
    times: int = 1


@dataclass
class BridgeTwin:
    """The state of the twin; `running` serves it."""

    blocks: MemoryBlocks = field(default_factory=MemoryBlocks)  # what leases may read
    received: MemoryBlocks = field(default_factory=MemoryBlocks)  # what was uploaded
    leases: list = field(default_factory=list)
    adverts: list = field(default_factory=list)
    heartbeats: list = field(default_factory=list)
    returned: list = field(default_factory=list)
    attested: list = field(default_factory=list)
    calls: list = field(default_factory=list)
    produced: dict = field(default_factory=dict)  # CID -> what it says of who produced it
    faults: dict = field(default_factory=dict)  # part of a path -> Fault
    go_on: bool = True
    gone: bool = False  # every lease is gone
    holds_calls: bool = False  # one for work is held as long as it asks, as by a bridge
    url: str = ""
    nonces: set = field(default_factory=set)
    stopped: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def offer(self, order, *, request_id=1, slot=1, attempt=1, token=1, deadline=None, **changes):
        """Queue a lease for an order; the lease."""
        request = Request(
            chain_id=CHAIN_ID,
            contract=CONTRACT,
            id=request_id,
            requester=REQUESTER,
            order=order,
            deadline=int(deadline or time.time() + 600),
        )
        fields = {
            "lease_id": f"lease-{token}",
            "token": token,
            "request_hash": request.hash,
            "slot": slot,
            "attempt": attempt,
            "request": RequestMessage.of(request),
            "relayer": RELAYER,
            "heartbeat_seconds": 0.2,
            "expires_in_seconds": 30,
        }
        lease = Lease(**{**fields, **changes})
        self.leases.append(lease)
        return lease

    def audience(self):
        return Audience(Scope(CHAIN_ID, CONTRACT), self.url)

    def wait_for(self, condition, seconds=20.0):
        """Until the condition holds; what it gave."""
        return wait_for(condition, seconds, "what the node is to do")

    @contextmanager
    def running(self):
        server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"twin": self}))
        server.daemon_threads = True
        self.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield self
        finally:
            self.stopped.set()
            server.shutdown()
            thread.join()
            server.server_close()


def order(spec, **changes):
    """An order of a spec (bytes, or plain data)."""
    data = spec if isinstance(spec, bytes) else json.dumps(spec).encode()
    return Order(**{"spec": data, "ttl": 600, **changes})


class _Server(ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        """A caller that hangs up is what several tests are about."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    twin = None
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self._serve("GET")

    def do_POST(self):
        self._serve("POST")

    def do_PUT(self):
        self._serve("PUT")

    def _serve(self, method):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.twin.lock:
            self.twin.calls.append((method, self.path))
            fault = self._fault()
        if fault and fault.status:
            self._answer(fault.status, fault.body or b'{"title": "as the test wants"}', None)
            return
        try:
            call = check_call(
                self.headers,
                self.twin.audience(),
                method=method,
                path=self.path,
                body_hash=sha256(body),
                now=time.time(),
            )
            assert call.nonce not in self.twin.nonces
            self.twin.nonces.add(call.nonce)
        except InvalidInput as exc:
            self._answer(401, json.dumps({"title": str(exc)}).encode(), fault)
            return
        status, answer = _route(self.twin, method, self.path, body)
        self._answer(status, fault.body if fault and fault.body is not None else answer, fault)

    def _fault(self):
        for part, fault in self.twin.faults.items():
            if part in self.path and fault.times > 0:
                fault.times -= 1
                return fault
        return None

    def _answer(self, status, body, fault):
        if fault and fault.drip_head_seconds:
            for char in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 10_000:
                if self.twin.stopped.wait(fault.drip_head_seconds) or not self._write(bytes([char])):
                    break
            self.close_connection = True
            return
        if fault and fault.garble:
            body = body[:-1] + bytes([body[-1] ^ 1])
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if fault is None or fault.status:
            self.wfile.write(body)
            return
        self._faulty(body, fault)

    def _faulty(self, body, fault):
        if fault.drip_seconds:
            for byte in body:
                if self.twin.stopped.wait(fault.drip_seconds) or not self._write(bytes([byte])):
                    break
        elif fault.stall_after is not None:
            self._write(body[: fault.stall_after])
            self.twin.stopped.wait()
        elif fault.cut_after is not None:
            self._write(body[: fault.cut_after])
        else:
            self._write(body)
            return
        self.close_connection = True

    def _write(self, data):
        try:
            self.wfile.write(data)
        except OSError:
            return False
        return True


def _route(twin, method, path, body):
    parts = urlsplit(path)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    words = parts.path.strip("/").split("/")
    if words[:2] != ["v1", "leases"]:
        return _content(twin, method, words, query, body)
    if len(words) == 2:
        advert = Advert.model_validate_json(body)
        twin.adverts.append(advert)
        end = time.monotonic() + (advert.wait_seconds if twin.holds_calls else 0)
        while not twin.leases and time.monotonic() < end and not twin.stopped.wait(0.01):
            pass
        with twin.lock:
            lease = twin.leases.pop(0) if twin.leases else None
        return (200, lease.model_dump_json().encode()) if lease else (204, b"")
    if twin.gone:
        return 409, b'{"type": "urn:insula:problem:stale-lease", "title": "stale fencing token"}'
    return _lease_route(twin, method, words[3:], query, body)


def _lease_route(twin, method, words, query, body):
    match method, words[0]:
        case "POST", "heartbeat":
            twin.heartbeats.append(Heartbeat.model_validate_json(body))
            answer = HeartbeatAnswer(go_on=twin.go_on, reason="" if twin.go_on else "orphaned", expires_in_seconds=30)
            return 200, answer.model_dump_json().encode()
        case "POST", "return":
            twin.returned.append(LeaseReturn.model_validate_json(body))
            return 204, b""
        case "POST", "attestation":
            twin.attested.append(Attested.model_validate_json(body))
            return 204, b""
        case "GET", "car":
            return _car(twin, Cid.parse(words[1]))
    return _content(twin, method, ["v1", *words], query, body)


def _content(twin, method, words, query, body):
    if words[:2] == ["v1", "outputs"]:
        return 200, Producers(produced=twin.produced.get(words[2], ())).model_dump_json(by_alias=True).encode()
    if words[0] == "ipfs":
        return _car(twin, Cid.parse(words[1]))
    root = Cid.parse(query["root"])
    if method == "PUT":
        try:
            twin.received.put_many(read_car([body], CarParser(CarLimits(64 * 2**20))))
        except CarError as exc:
            return 400, json.dumps({"title": str(exc)}).encode()
    left = missing(twin.received, root, MAX_MISSING)
    return 200, Missing(missing=tuple(str(cid) for cid in left)).model_dump_json().encode()


def _car(twin, cid):
    try:
        return 200, b"".join(export_car(twin.blocks, cid))
    except BlockMissing:
        return 404, b'{"title": "not here"}'
