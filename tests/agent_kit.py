"""A node in the hands of a test: its work folder, the node in a thread or a process, an endpoint that it may ask."""

import json
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from executor.agent.config import init_node
from executor.agent.service import run_node
from tests.agent_twin import CHAIN_ID, CONTRACT

ROOT = Path(__file__).resolve().parents[1]


def new_node(twin, folder, **fields):
    """A work folder of a node of the twin's; `fields` are those of `init_node`."""
    place = {"bridge_url": twin.url, "chain_id": CHAIN_ID, "bridge_contract": CONTRACT, "registry": CONTRACT}
    init_node(folder, **{**place, "poll_seconds": 0.1, **fields})
    return folder


@contextmanager
def node_running(folder, *sandboxes, clock=time.time):
    """The node runs until the end; its thread."""
    stop = threading.Event()
    thread = threading.Thread(target=run_node, args=(folder, stop, sandboxes, clock))
    thread.start()
    try:
        yield thread
    finally:
        stop.set()
        thread.join(60)
        assert not thread.is_alive()


@contextmanager
def killed_at_the_end(program, *args):
    """Python runs `program` in a process of its own; that process."""
    command = [sys.executable, "-c", program, *map(str, args)]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield child
    finally:
        child.kill()
        child.wait(10)


@contextmanager
def endpoint_of(answer):
    """A JSON-RPC endpoint over HTTP that says to each call what `answer` makes of it, in bytes; its URL."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_POST(self):
            body = answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
