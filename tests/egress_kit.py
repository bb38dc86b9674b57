"""What the tests of egress share: a world of names on loopback, a server in it, and the proxy before it."""

import hashlib
import socket
import ssl
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from executor.egress.addresses import is_public
from executor.egress.proxy import BACKLOG, Allowance, Proxy
from executor.egress.world import World, connect
from executor.protocol.network import Destination

HOST = "api.example.org"
#: encrypts without certificates, which no test has to keep: anonymous Diffie-Hellman
_ANONYMOUS = "AECDH-AES256-SHA:@SECLEVEL=0"


def world_of(names, resolved=None, reachable=("127.0.0.1",)):
    """A world whose names are a table; the real rule on addresses, but for loopback, where the tests' servers are."""

    def resolve(host, port, seconds):
        if resolved is not None:
            resolved.append(host)
        answer = names.get(host, [])
        return answer.pop(0) if answer and isinstance(answer[0], list) else answer

    return World(resolve, lambda address: str(address) in reachable or is_public(address), connect)


def allowance(*ports, host=HOST, **changes):
    fields = {
        "destinations": [Destination(host, tuple(sorted(ports)))],
        "bytes_out": 2**20,
        "bytes_in": 2**22,
        "exchanges": 32,
        "exchange_seconds": 20.0,
        "connections": 4,
    }
    return Allowance(**{**fields, **changes})


@contextmanager
def proxied(granted, world):
    """The proxy, in threads of this process; its address."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    proxy = Proxy(listener, granted, world, time.time)
    address = listener.getsockname()
    thread = threading.Thread(target=proxy.serve)
    thread.start()
    try:
        yield proxy, address
    finally:
        proxy.stop()
        thread.join(10)
        assert not thread.is_alive()


def say(address, data, *, end=False, seconds=20):
    """Send bytes to the proxy; all that comes back until it closes."""
    with socket.create_connection(address, timeout=seconds) as client:
        client.sendall(data)
        if end:
            client.shutdown(socket.SHUT_WR)
        return rest_of(client)


def rest_of(client):
    said = b""
    while True:
        try:
            data = client.recv(2**16)
        except ConnectionResetError:
            return said
        if not data:
            return said
        said += data


def until(client, mark):
    said = b""
    while mark not in said:
        data = client.recv(1)
        assert data, said
        said += data
    return said


def hello(name):
    """The first message of a TLS client, as OpenSSL writes it."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    out = ssl.MemoryBIO()
    try:
        context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name).do_handshake()
    except ssl.SSLWantReadError:
        return out.read()
    raise AssertionError


def tls(side):
    context = ssl.SSLContext(side)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_ANONYMOUS)
    if side is ssl.PROTOCOL_TLS_CLIENT:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


@dataclass
class WebServer:
    """HTTP on loopback. answers: path -> (status, headers, body); all else is 404."""

    answers: dict = field(default_factory=dict)
    requests: list = field(default_factory=list)
    port: int = 0

    @contextmanager
    def running(self):
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"web": self}))
        server.daemon_threads = True
        self.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


class _Handler(BaseHTTPRequestHandler):
    web = None
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def _serve(self):
        body = self._body()
        self.web.requests.append((self.command, self.path, list(self.headers.items()), body))
        status, headers, answer = self.web.answers.get(self.path, (404, {}, b"not here"))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Transfer-Encoding" not in headers and "X-Until-Close" not in headers:
            self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)
        self.close_connection = True

    def do_GET(self):
        self._serve()

    def do_POST(self):
        self._serve()

    def do_HEAD(self):
        self._serve()

    def _body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body


@contextmanager
def serving(attend):
    """A server on loopback that gives each connection to `attend`; its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def one(connection):
        with connection:
            try:
                attend(connection)
            except OSError:
                return

    def accept():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=one, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


LOOPBACK = {HOST: ["127.0.0.1"]}


def rows(used):
    return used.journal.record()["exchanges"]


def get(port, path="/", host=HOST, more=""):
    return f"GET http://{host}:{port}{path} HTTP/1.1\r\nHost: {host}:{port}\r\n{more}\r\n".encode()


def connect_to(port, host=HOST):
    return f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()


def sha(data):
    return hashlib.sha256(data).hexdigest()
