"""A real HTTP server between our client and a node: it drops, delays, rewrites and invents answers as a test says.

`Proxy.rules[method]` is a function (request, forward) -> answer body. `forward(request)` asks the real node. An answer
is a JSON-RPC envelope (dict), raw bytes, an (HTTP status, bytes) pair, or DROP: the connection is closed unanswered.
"""

import json
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DROP = object()


def ok(request, result):
    """An envelope with a result."""
    return {"jsonrpc": "2.0", "id": request["id"], "result": result}


def error(request, code, message, data=None):
    """An envelope with an error."""
    fields = {"code": code, "message": message}
    if data is not None:
        fields["data"] = data
    return {"jsonrpc": "2.0", "id": request["id"], "error": fields}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        proxy = self.server.proxy
        proxy.seen.append(request)
        answer = self._batch(proxy, request) if isinstance(request, list) else self._single(proxy, request)
        if answer is DROP:
            self.close_connection = True
            return
        status, body = answer if isinstance(answer, tuple) else (200, answer)
        if isinstance(body, dict):
            body = json.dumps(body).encode()
        self.send_response(status)
        for name, value in proxy.headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(proxy.announced(len(body))))
        self.end_headers()
        for start in range(0, len(body), proxy.piece):
            self.wfile.write(body[start : start + proxy.piece])
            self.wfile.flush()
            proxy.drip.wait(proxy.drip_seconds)
        if proxy.announced(len(body)) != len(body):
            self.close_connection = True

    def _batch(self, proxy, requests):
        """Each call by its method's rule; a fault of the transport in one of them is the whole batch's."""
        if proxy.batch_rule:
            return proxy.batch_rule(requests, proxy.forward)
        answers = [self._single(proxy, request) for request in requests]
        faulty = [answer for answer in answers if not isinstance(answer, dict)]
        return faulty[0] if faulty else json.dumps(answers).encode()

    def _single(self, proxy, request):
        rule = proxy.rules.get(request["method"]) or proxy.rules.get("*")
        return rule(request, proxy.forward) if rule else proxy.forward(request)

    def log_message(self, *_):
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        pass  # the client hung up, as some tests want


class Proxy:
    """Use as a context manager; `url` is where our client connects. Without an upstream every method needs a rule."""

    def __init__(self, upstream=None):
        self.upstream = upstream
        self.rules = {}
        self.batch_rule = None
        self.seen = []
        self.headers = {"content-type": "application/json"}
        self.piece = 65536
        self.drip_seconds = 0
        self.drip = threading.Event()
        self.announced = lambda size: size

    def __enter__(self):
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.proxy = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(self, *_):
        self.drip.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def forward(self, request):
        """The real node's answer."""
        data = json.dumps(request).encode()
        headers = {"content-type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(self.upstream, data, headers), timeout=20) as answer:
            return json.load(answer)

    def methods(self):
        """The methods that were called, in order."""
        return [call["method"] for call in self.calls()]

    def calls(self):
        """Every call, those of batches one by one."""
        return [call for seen in self.seen for call in (seen if isinstance(seen, list) else [seen])]
