"""A flood of requests for paths through huge directories, from one address, and what others get meanwhile."""

import contextlib
import socket
import threading

import httpx
import pytest

from executor.agent.gatewayserver import LIMITS, gateway_door
from executor.content import dagpb, unixfs_node
from executor.content.blockstore import BlockStore
from executor.content.dagpb import Link, Node
from executor.content.gateway import Gateway, create_app
from executor.content.roots import RootSet
from executor.content.unixfs_node import TYPE_DIRECTORY, Data
from executor.httpserver import ThreadServer
from executor.protocol.cid import RAW, Cid
from tests.chain_nodes import wait_for
from tests.gateway_kit import directory, free_port, leaf, put_block

FLOODER = "127.0.0.2"
FLOOD = 60
LEVELS = 3
DIRECTORY_BYTES = 1_900_000


class WatchedStore(BlockStore):
    """Notes what is read, and gives no block of `held` until `go` is set."""

    def __init__(self, root):
        super().__init__(root)
        self.read = []
        self.held = None
        self.go, self.waiting = threading.Event(), threading.Event()

    def get(self, cid):
        self.read.append(cid)
        if cid == self.held:
            self.waiting.set()
            assert self.go.wait(60)
        return super().get(cid)


def huge(store, child):
    """A directory of very many names, the last of which leads to `child`."""
    one = dagpb.encode(Node((Link("00000", Cid.of(RAW, b"x"), 1),), None))
    names = b"".join(one.replace(b"00000", b"%05d" % number) for number in range(DIRECTORY_BYTES // len(one)))
    end = dagpb.encode(Node((Link("z", child, 1),), unixfs_node.encode_data(Data(TYPE_DIRECTORY))))
    return put_block(store, names + end)


@pytest.fixture
def gateway(tmp_path):
    """Its store, the port, a path that costs much and one that costs little."""
    store = WatchedStore(tmp_path)
    roots = RootSet(store)
    end = root = leaf(store, b"x")
    for _ in range(LEVELS):
        root = huge(store, root)
    honest = directory(store, a=directory(store, b=end))
    for cid in (root, honest):
        roots.publish(cid, "test")
    store.read.clear()
    port = free_port()
    app = create_app(Gateway(store, roots, lambda: 0.0, paths=1, streams=8, head_seconds=120.0))
    server = ThreadServer("gateway", app, gateway_door("127.0.0.1", port), 2 * FLOOD, LIMITS)
    server.start()
    yield store, port, (root, f"/ipfs/{root}{'/z' * LEVELS}"), (honest, f"/ipfs/{honest}/a/b")
    store.go.set()
    server.stop()


def flooding(port, path, query):
    """A connection that has asked and does not read."""
    opened = socket.socket()
    opened.settimeout(30)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    opened.bind((FLOODER, 0))
    opened.connect(("127.0.0.1", port))
    opened.sendall(f"GET {path}?{query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return opened


def has_answer(connection):
    connection.setblocking(False)
    try:
        return connection.recv(12) != b""
    except BlockingIOError:
        return False


def test_a_flood_of_long_paths_from_one_address_does_not_come_before_the_path_of_another(gateway):
    store, port, (root, path), (honest, honest_path) = gateway
    store.held = root
    with contextlib.ExitStack() as stack:
        flood = [stack.enter_context(flooding(port, path, "format=car&dag-scope=block")) for _ in range(FLOOD)]
        assert store.waiting.wait(30)
        client = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120))
        answers = []
        asking = threading.Thread(target=lambda: answers.append(client.get(f"{honest_path}?format=car")))
        asking.start()
        wait_for(lambda: client.get(f"/ipfs/{honest}?format=raw").status_code == 200, 30, "a block")
        store.go.set()
        asking.join(120)

        assert answers[0].status_code == 200
        assert sum(map(has_answer, flood)) < FLOOD // 2


def test_downloads_that_one_address_does_not_read_leave_room_for_another(gateway):
    _, port, (root, _), (honest, honest_path) = gateway
    base = f"http://127.0.0.1:{port}"
    with contextlib.ExitStack() as stack:
        for _ in range(FLOOD):
            stack.enter_context(flooding(port, f"/ipfs/{root}", "format=car"))
        flooder = stack.enter_context(httpx.Client(transport=httpx.HTTPTransport(local_address=FLOODER), timeout=120))
        wait_for(lambda: flooder.get(f"{base}/ipfs/{honest}?format=car").status_code == 429, 60, "the flood")

        assert httpx.get(f"{base}{honest_path}?format=car", timeout=120).status_code == 200


def test_one_name_in_a_huge_directory_is_found_by_reading_each_block_on_the_way_once(gateway):
    store, port, (root, path), _ = gateway

    assert httpx.head(f"http://127.0.0.1:{port}{path}?format=car", timeout=120).status_code == 200
    assert len(store.read) == LEVELS + 1
    for _ in range(3):  # the end alone is read again
        assert httpx.head(f"http://127.0.0.1:{port}{path}?format=car", timeout=120).status_code == 200
    assert len(store.read) == LEVELS + 4
    assert httpx.head(f"http://127.0.0.1:{port}/ipfs/{root}/nothing?format=car", timeout=120).status_code == 404
