"""A whole node's gateway: its results once they are on-chain, what its operator adds, and data from node to node."""

import json
import socket
import time

import httpx
import pytest

from bridge.jobs import JobState
from executor.agent.client import BridgeClient
from executor.agent.config import NodeConfig
from executor.agent.gatewayserver import MOST_CONNECTIONS
from executor.agent.service import node_status, run_node
from executor.content.blockstore import BlockStore
from executor.content.importer import import_listing
from executor.content.limits import TreeLimits
from executor.content.patience import Patience
from executor.content.retrieval import Retriever
from executor.content.roots import RootSet
from executor.content.sources import gateway_source
from executor.content.walk import missing, walk
from executor.content.web import Http
from executor.errors import InvalidInput, PeerRefused, PeerUnavailable
from tests.agent_twin import BridgeTwin, Fault
from tests.api_kit import serving
from tests.bridge_kit import Bridge, order_of, success
from tests.gateway_kit import free_port, leaf, node_folder, running_node

DAY = 86400.0
TREE = {"a/b.bin": b"x" * 2_500_000, "c": b"c"}


@pytest.fixture
def folder(tmp_path):
    """A node without a bridge."""
    return node_folder(tmp_path / "node", f"http://127.0.0.1:{free_port()}")


@pytest.fixture
def answer(insula):
    """As in conftest, beside the log lines of a node in this process."""

    def call(*words):
        code, out, _ = insula("content", *map(str, words), "--json")
        return code, json.loads(out[out.index("{\n") : out.rindex("\n}") + 2])

    return call


def test_a_node_serves_nobody_unless_it_is_told_where(tmp_path):
    node_folder(tmp_path, "http://127.0.0.1:1", gateway_port=0)

    assert NodeConfig.load(tmp_path).gateway_url == ""
    assert node_status(tmp_path)["gateway"] is None


@pytest.mark.parametrize(("host", "url"), [("127.0.0.1", "http://127.0.0.1:7"), ("::1", "http://[::1]:7")])
def test_a_node_says_where_its_gateway_is(tmp_path, host, url):
    node_folder(tmp_path, "http://127.0.0.1:1", gateway_host=host, gateway_port=7)

    assert node_status(tmp_path)["gateway"] == url


def test_a_port_or_address_that_cannot_be_had_is_said_before_anything_begins(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        node_folder(tmp_path / "a", "http://127.0.0.1:1", gateway_port=taken.getsockname()[1])
        node_folder(tmp_path / "b", "http://127.0.0.1:1", gateway_host="no such host")
        for name, problem in (("a", "cannot be had"), ("b", "no address")):
            with pytest.raises(InvalidInput, match=f"gateway_port: .*{problem}"):
                run_node(tmp_path / name, None, [])


def test_what_the_operator_adds_as_public_is_served_and_shown_with_its_end(folder, tmp_path, answer):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_bytes(b"public data")
    store = folder / "content"
    with running_node(folder) as url:
        code, private = answer("add", tmp_path / "data", "--store", store)
        assert code == 0
        assert httpx.get(f"{url}/ipfs/{private['cid']}?format=car").status_code == 404

        words = ("add", tmp_path / "data", "--store", store, "--public", "--keep", 7 * DAY)
        code, public = answer(*words)
        assert code == 0
        assert httpx.get(f"{url}/ipfs/{public['cid']}/file?format=car").status_code == 200

        [pin] = answer("ls", "--store", store)[1]["pins"]
        assert (pin["public"], pin["label"]) == (True, "added")
        assert pin["until"] == pytest.approx(time.time() + 7 * DAY, abs=60)
        found = answer("stat", public["cid"], "--store", store)[1]
        assert (found["public"], found["publicUntil"]) == (True, pin["until"])

        assert answer("unpin", public["cid"], "--store", store)[0] == 0
        assert httpx.get(f"{url}/ipfs/{public['cid']}/file?format=car").status_code == 404


def test_how_long_to_keep_is_said_of_a_store_only(tmp_path, answer):
    (tmp_path / "file").write_bytes(b"x")

    code, found = answer("add", tmp_path / "file", "--keep", 5)

    assert code != 0
    assert "--store" in found["error"]


def test_two_nodes_exchange_data_without_a_bridge_and_without_ipfs(folder, tmp_path):
    store = BlockStore(folder / "content")
    root = import_listing(store, TREE, TreeLimits(10**8))
    RootSet(store).publish(root, "test")
    private = leaf(store, b"private")
    other = BlockStore(tmp_path / "other" / "content")
    with running_node(folder) as url, Retriever([gateway_source(url)], other) as retriever:
        found = retriever.fetch(root, max_bytes=10**8, patience=Patience(time.time() + 30))
        with pytest.raises(PeerRefused):
            retriever.fetch(private, max_bytes=10**8, patience=Patience(time.time() + 30))

    assert missing(other, root) == []
    assert found.bytes == sum(other.stat(cid).size for cid in walk(other, root))
    assert not other.has(private)


def test_content_get_fetches_from_a_node(folder, tmp_path, answer):
    store = BlockStore(folder / "content")
    root = import_listing(store, TREE, TreeLimits(10**8))
    RootSet(store).publish(root, "test")
    with running_node(folder) as url:
        code, found = answer("get", root, "--gateway", url, "-o", tmp_path / "out")

    assert (code, [share["source"] for share in found["sources"]]) == (0, [url])
    assert (tmp_path / "out" / "a" / "b.bin").read_bytes() == TREE["a/b.bin"]


def test_a_crowd_of_silent_connections_leaves_room_for_who_asks(folder):
    with running_node(folder) as url:
        port = int(url.rpartition(":")[2])
        crowd = [socket.create_connection(("127.0.0.1", port)) for _ in range(2 * MOST_CONNECTIONS)]
        try:
            assert httpx.get(f"{url}/ipfs/bafkqaaa?format=raw", timeout=20).status_code == 200
        finally:
            for connection in crowd:
                connection.close()


@pytest.fixture
def bridge(tmp_path):
    (tmp_path / "bridge").mkdir()
    made = Bridge(tmp_path / "bridge")
    made.clock.now = time.time()
    made.chain_at(110)
    yield made
    made.close()


def settle(bridge, request_hash, state, outcome=None):
    """What the listener does when it sees an outcome on-chain."""
    fields = {} if outcome is None else {"outcome": outcome.encode()}
    bridge.set_job(request_hash, state=state.value, **fields)


def test_a_bridge_tells_an_outcome_only_while_it_stands_on_chain(bridge):
    job = bridge.request(order_of())
    outcome = success(leaf(bridge.store, b"output"))
    with serving(bridge) as api, Http(api.base) as http:
        client = BridgeClient(http)
        assert client.settled_outcome(b"\x01" * 32) is None
        for state in (JobState.READY, JobState.ATTESTED, JobState.STORED, JobState.POSTING):
            settle(bridge, job.request_hash, state, outcome)
            assert client.settled_outcome(job.request_hash) is None
        for state in (JobState.POSTED, JobState.FINAL):
            settle(bridge, job.request_hash, state)
            assert client.settled_outcome(job.request_hash) == outcome.hash
        settle(bridge, job.request_hash, JobState.POSTING)
        assert client.settled_outcome(job.request_hash) is None


#: what a bridge says about a job -> what the node makes of it
ANSWERS = {
    "unknown there": (404, b"{}", None),
    "no outcome": (200, b'{"state": "posted", "outcome": null}', None),
    "not on-chain": (200, b'{"state": "posting", "outcome": {"outcome_hash": "0x%s"}}' % (b"11" * 32), None),
    "on-chain": (200, b'{"state": "final", "outcome": {"outcome_hash": "0x%s"}}' % (b"11" * 32), b"\x11" * 32),
    "a hash that is none": (200, b'{"state": "posted", "outcome": {"outcome_hash": "0x11"}}', PeerRefused),
    "no job": (200, b"[]", PeerRefused),
    "no JSON": (200, b"<html>", PeerRefused),
    "forbidden": (403, b"{}", PeerRefused),
    "later": (503, b"{}", PeerUnavailable),
}


@pytest.mark.parametrize(("status", "body", "found"), ANSWERS.values(), ids=ANSWERS)
def test_a_bridge_is_believed_only_what_it_says_plainly(status, body, found):
    twin = BridgeTwin(faults={"/v1/jobs/": Fault(status=status, body=body)})
    with twin.running(), Http(twin.url) as http:
        client = BridgeClient(http)
        if found is None or isinstance(found, bytes):
            assert client.settled_outcome(b"\x22" * 32) == found
        else:
            with pytest.raises(found):
                client.settled_outcome(b"\x22" * 32)
