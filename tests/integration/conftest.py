"""Fixtures of the integration tests."""

import json
import logging
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import structlog

from bridge.cli.main import _application, run
from bridge.cli.output import Exit
from executor.content.blockstore import BlockStore
from executor.protocol.cid import Cid
from tests.agent_twin import BridgeTwin
from tests.api_kit import serving
from tests.bridge_kit import Bridge
from tests.chain_nodes import FUNDED_SECRETS, anvil_node, prepared

OPERATOR = 5  # of node 1: tests.chain_nodes.add_node


@pytest.fixture
def insula(capsys, monkeypatch, tmp_path):
    """Call the program in this process; its exit code and what it printed."""
    for name in list(os.environ):
        if name.startswith("INSULA_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("INSULA_HOME", str(tmp_path / "home"))
    application = _application()

    def call(*words):
        capsys.readouterr()  # what a server in this process has said so far
        code = run(lambda: application(list(words)), as_json="--json" in words)
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    handlers = list(logging.root.handlers)
    umask = os.umask(0o022)
    yield call
    os.umask(umask)  # `bridge run` keeps what it writes to itself
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers


@pytest.fixture
def bridge(tmp_path):
    """All of a bridge but its loops, its chain at block 110; some files have one of their own."""
    bridge = Bridge(tmp_path)
    bridge.chain_at(110)
    yield bridge
    bridge.close()


@pytest.fixture
def api(bridge):
    """That bridge's API, over HTTP."""
    with serving(bridge) as served:
        yield served


@pytest.fixture
def twin():
    """A bridge for a node's tests."""
    with BridgeTwin().running() as running:
        yield running


@pytest.fixture
def own_store(tmp_path):
    """The command line's own store."""
    return BlockStore(tmp_path / "home" / "content")


@pytest.fixture
def content_folder(tmp_path):
    """A folder with a small file, and a larger one of several blocks below it."""
    path = tmp_path / "data"
    (path / "sub").mkdir(parents=True)
    (path / "a.txt").write_text("hello")
    (path / "sub" / "big.bin").write_bytes(os.urandom(2_500_000))
    return path


@pytest.fixture
def added(insula, content_folder):
    """The CID of that folder, added to the command line's own store."""
    code, out, _ = insula("content", "add", str(content_folder), "--local")
    assert code == Exit.OK
    return Cid.parse(out.strip())


@pytest.fixture
def answer(insula):
    """Call a verb of `insula content` with --json: its exit code and its answer."""

    def call(*words):
        code, out, _ = insula("content", *map(str, words), "--json")
        return code, json.loads(out)

    return call


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """A chain of one module's own, whose clock its tests may move by days; a block for each transaction."""
    with anvil_node(tmp_path_factory.mktemp("anvil")) as client:
        chain = prepared(client, "anvil")
        chain.automine()
        yield chain


@pytest.fixture
def key_file(tmp_path):
    """A key reference of the funded account of an index (tests.chain_nodes.funded)."""

    def reference(index):
        secret = tmp_path / f"key{index}"
        if not secret.exists():
            secret.write_text(FUNDED_SECRETS[index])
            secret.chmod(0o600)
        return f"file:{secret}"

    return reference


@pytest.fixture
def node(chain, key_file, insula):
    """Calls `insula node VERB 1 ...` on `chain` and gives back its exit code and what it said."""

    def call(verb, *words, who=OPERATOR, node_id=1):
        place = ("--rpc", str(chain.client.transport.endpoint_uri), "--contract", chain.deployment.bridge)
        ids = () if node_id is None else (str(node_id),)
        key = () if who is None else ("--key", key_file(who))
        code, out, err = insula("node", verb, *ids, *words, *place, *key, "--json")
        return code, json.loads(out) if out else {"error": err}

    return call


@pytest.fixture
def liar():
    """A server that answers every GET with what is put into its list."""
    answers = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(answers[0])))
            self.end_headers()
            self.wfile.write(answers[0])

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", answers
        server.shutdown()
        thread.join()
