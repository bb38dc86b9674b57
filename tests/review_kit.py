"""A node that holds outputs and serves their reviewers, and calls to it exactly as a test wants them."""

import hashlib
import http.client
import json
import secrets
import socket
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from executor.agent.config import NodeConfig
from executor.agent.review import open_review
from executor.content.blockstore import BlockStore
from executor.content.importer import import_bytes
from executor.protocol.nodeauth import review_audience, sign_call
from executor.protocol.release import Subject
from executor.protocol.signing import Scope
from tests.agent_kit import new_node
from tests.agent_twin import CHAIN_ID, CONTRACT, REQUESTER, BridgeTwin, order
from tests.integration.test_agent_release import KEYS, policy, running
from tests.integration.test_agent_secrets import Chain

ANNE, BEN, _ = KEYS  # Anne decides on what is nobody's data, Ben on the class `scans`
SCOPE = Scope(CHAIN_ID, CONTRACT)
MODULE = b"\0asm private module"


@dataclass
class House:
    """A node that holds two outputs: `plain`, and `scan`, which is of a data class with a reviewer of its own."""

    folder: Path
    twin: BridgeTwin
    port: int
    plain: str = ""
    scan: str = ""

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def address(self):
        return NodeConfig.load(self.folder).load_key(self.folder).address

    def send(self, method, path, body=b"", headers=None):
        """Status, headers and body of one call, exactly as given."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, {name.lower(): text for name, text in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def audience(self):
        return review_audience(SCOPE, self.address, json.loads(self.send("GET", "/v1/node")[2])["session"])

    def headers(self, key, method, path, body=b"", *, audience=None, off=0, nonce=None):
        return sign_call(
            key, audience or self.audience(), method=method, path=path, body_hash=hashlib.sha256(body).digest(),
            time=int(time.time()) + off, nonce=nonce or secrets.token_bytes(32),
        )  # fmt: skip

    def call(self, key, method, path, body=b"", **signed):
        return self.send(method, path, body, self.headers(key, method, path, body, **signed))

    def get(self, key, path, **signed):
        return self.call(key, "GET", path, **signed)

    def decide(self, key, hold, vote, **changes):
        value = {"approve": vote.approve, "reason": vote.reason, "signature": f"0x{vote.signature.hex()}", **changes}
        return self.call(key, "POST", f"/v1/holds/{hold}/decision", json.dumps(value).encode())

    def subject(self, hold, **changes):
        with open_review(self.folder) as review:
            found = review.show(review.find(hold))
        fields = {
            "scope": SCOPE, "request_hash": found["requestHash"], "policy_hash": found["policyHash"],
            "node": self.address, "held": found["held"],
        }  # fmt: skip
        return Subject(**{**fields, **changes})

    def votes(self):
        with open_review(self.folder) as review:
            return [vote for row in review.listing() for vote in row["votes"]]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def house(folder, sandbox=None):
    """A node that serves its reviewers, once it holds both outputs."""
    chain = Chain()
    with BridgeTwin().running() as twin, chain.running() as rpc:
        made = House(folder, twin, free_port())
        new_node(twin, folder, rpc_url=rpc, slots=1, disk_bytes=2**30, memory_bytes=2**29, review_port=made.port)
        private = import_bytes(BlockStore(folder / "content"), MODULE)
        import_bytes(twin.blocks, MODULE)
        scans = {"cids": [str(private)], "programs": [str(private)], "requesters": [REQUESTER]}
        lines = [f"{name} = {json.dumps(value)}" for name, value in scans.items()]
        rules = f'[data.scans.release]\nmode = "person"\nsigners = ["{BEN.address}"]'
        policy(folder, "\n".join(["[data.scans]", *lines, rules]), mode="person", signers=[ANNE.address])
        for number, module in enumerate((import_bytes(twin.blocks, b"\0asm module"), private), 1):
            spec = {"version": "insula/v1", "engine": {"type": "wasm", "module": str(module)}}
            lease = twin.offer(order(spec), request_id=number, token=number)
            chain.hashes[number] = lease.request_hash
        with running(folder, sandbox):
            made.plain, made.scan = twin.wait_for(lambda: both_held(folder))
            yield made


def both_held(folder):
    with open_review(folder) as review:
        found = {row["requestId"]: row["id"] for row in review.listing()}
    return len(found) == 2 and (found[1], found[2])
