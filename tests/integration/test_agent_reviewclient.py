"""What a reviewer's program does with a server that is no node, or a node that lies."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from executor.agent.reviewclient import open_remote
from executor.errors import PeerError
from executor.protocol.release import Held, Subject, release_digest
from executor.protocol.signing import Key, Scope
from tests.agent_twin import CHAIN_ID, CONTRACT, REQUESTER

REVIEWER = Key.from_hex(f"{11:064x}")
HELD = Held(outcome_hash=b"\1" * 32, manifest_hash=b"\2" * 32, salt=b"\3" * 32)
NODE = {"key": REQUESTER, "chainId": CHAIN_ID, "contract": CONTRACT, "session": "0" * 32}
ROW = {
    "id": "a.1", "requestId": 1, "requestHash": "0x" + "44" * 32, "exitCode": 0, "heldAt": 1.0, "until": 2.0,
    "secondsLeft": 1, "mode": "person", "threshold": 1, "ruling": "", "brokenRules": 0, "votes": [],
}  # fmt: skip


def digest(held=HELD):
    fields = {"scope": Scope(CHAIN_ID, CONTRACT), "request_hash": b"\x44" * 32, "policy_hash": b"\5" * 32}
    return f"0x{release_digest(Subject(**fields, node=REQUESTER, held=held.hash), True, 0).hex()}"


def shown(**changes):
    hashes = {"outcomeHash": "01", "manifestHash": "02", "salt": "03", "policyHash": "05"}
    files = [{"path": "stdout", "kind": "file", "size": 4, "type": "text"}]
    more = {"outputCid": "b", "totalBytes": 4, "files": files, "findings": [], "held": f"0x{HELD.hash.hex()}"}
    return ROW | {name: f"0x{two * 32}" for name, two in hashes.items()} | more | {"approveDigest": digest()} | changes


@contextmanager
def server(**answers):
    """Answers by the last word of the path; what was posted."""
    given = {"node": NODE, "holds": {"holds": [ROW]}, "a.1": shown(), "file": b"text"} | answers
    posted = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_POST(self):
            posted.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.do_GET()

        def do_GET(self):
            value = given.get(self.path.split("?")[0].rsplit("/", 1)[1], b"")
            body = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.server_port}", posted
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()


def approve(remote, _):
    remote.decide(remote.find_shown("a.1"), True, 0, REVIEWER)


def save(remote, target):
    remote.save(remote.find("a.1"), "stdout", target)


LIES = {
    "no node": (approve, {"node": b"<html>"}),
    "a node of no address": (approve, {"node": NODE | {"key": "0x1"}}),
    "no list": (approve, {"holds": []}),
    "a row without a hash": (approve, {"holds": {"holds": [ROW | {"requestHash": "0x44"}]}}),
    "a number for a hash": (approve, {"a.1": shown(salt=3)}),
    "no hexadecimal": (approve, {"a.1": shown(salt="0x" + "zz" * 32)}),
    "another output than was asked for": (approve, {"a.1": shown(id="b.1")}),
    "the output of another request": (approve, {"a.1": shown(requestHash="0x" + "55" * 32)}),
    "other hashes than are to be signed": (approve, {"a.1": shown(outcomeHash="0x" + "66" * 32)}),
    "endless nesting": (approve, {"a.1": b"[" * 10**5}),
    "a file that is too short": (save, {"file": b"tex"}),
    "a file that is too long": (save, {"file": b"text" * 10**5}),
}


@pytest.mark.parametrize("lie", LIES, ids=[f"abuse-{name.replace(' ', '-')}" for name in LIES])
def test_abuse_a_lying_node_gets_no_signature_and_no_file(tmp_path, lie):
    act, answers = LIES[lie]
    target = tmp_path / "saved"

    with server(**answers) as (url, posted):
        with pytest.raises(PeerError), open_remote(url, REVIEWER) as remote:
            act(remote, target)
        assert posted == []
    assert not target.exists()


def test_a_file_is_saved_as_it_came(tmp_path):
    with server() as (url, _), open_remote(url, REVIEWER) as remote:
        save(remote, tmp_path / "saved")

    assert (tmp_path / "saved").read_bytes() == b"text"
