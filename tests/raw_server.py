"""A server that answers each call with scripted bytes, for the answers that no honest server gives."""

import contextlib
import re
import socket
import threading


def head(status="200 OK", **headers):
    """The head of an answer whose body ends with the connection."""
    lines = [
        f"HTTP/1.1 {status}",
        "Connection: close",
        *(f"{key.replace('_', '-')}: {value}" for key, value in headers.items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def send(*parts):
    """A script that sends these and closes."""
    return lambda connection, _: [connection.sendall(part) for part in parts]


def drip(data, seconds=0.1, times=10**6):
    """A script that sends the same again and again, slowly."""

    def script(connection, stopping):
        for _ in range(times):
            connection.sendall(data)
            if stopping.wait(seconds):
                return

    return script


def flood(first, data, times=10**6):
    """A script that sends without end."""

    def script(connection, stopping):
        connection.sendall(first)
        for _ in range(times):
            if stopping.is_set():
                return
            connection.sendall(data)

    return script


def silent(connection, stopping):
    """A script that takes the call and says nothing."""
    stopping.wait(60)


class RawServer:
    """Listens on loopback; `scripts` are used in turn, the last one for all further calls. `calls`: paths asked for.

    heads: the calls' heads as they came.
    """

    def __init__(self, *scripts):
        self._scripts = list(scripts)
        self.calls = []
        self.heads = []
        self._stopping = threading.Event()
        self._threads = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"

    def __enter__(self):
        self._start(self._accept)
        return self

    def __exit__(self, *_):
        self._stopping.set()
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join(10)

    def _start(self, target, *args):
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self):
        while not self._stopping.is_set():
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self._start(self._answer, connection)

    def _answer(self, connection):
        with connection, contextlib.suppress(OSError):
            connection.settimeout(10)
            path, top = _read_call(connection)
            self.heads.append(top)
            self.calls.append(path)
            script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
            script(connection, self._stopping)
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_WR)


def _read_call(connection):
    """One call, body and all; its path and head."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return "", b""
        data += piece
    top, _, body = data.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" in top.lower():
        while not body.endswith(b"0\r\n\r\n"):
            body += connection.recv(65536)
    elif length := re.search(rb"content-length: (\d+)", top.lower()):
        while len(body) < int(length[1]):
            body += connection.recv(65536)
    return top.split(b" ")[1].decode(), top
