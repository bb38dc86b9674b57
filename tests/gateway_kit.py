"""Trustless gateways under test: the bridge's and a node's, each a real server, and content that is built by hand."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import httpx

from executor.agent.config import NodeConfig, init_node
from executor.agent.gatewayserver import LIMITS, gateway_door
from executor.content import dagpb, hamt, unixfs_node
from executor.content.blocks import BlockSink
from executor.content.blockstore import BlockStore
from executor.content.car import CarLimits, CarParser, read_car
from executor.content.cidtext import old_binary
from executor.content.dagpb import Link, Node
from executor.content.gateway import Gateway, create_app
from executor.content.profiles import V1_2025
from executor.content.roots import RootSet
from executor.content.unixfs_node import TYPE_DIRECTORY, TYPE_FILE, TYPE_SYMLINK, Data
from executor.httpserver import ThreadServer
from executor.protocol.cid import DAG_PB, RAW, Cid
from executor.sandbox.types import Probe
from executor.sandbox.wasm import WasmSandbox
from tests.agent_kit import node_running
from tests.api_kit import serving
from tests.bridge_kit import CHAIN_ID, CONTRACT, Bridge
from tests.chain_nodes import wait_for

RAW_TYPE = "application/vnd.ipld.raw"
CAR_TYPE = "application/vnd.ipld.car"


class ProvedWasm(WasmSandbox):
    """The sandbox itself; its limits are proved in its own tests."""

    def probe(self, cancelled: object = None) -> Probe:
        return Probe("wasm", usable=True, version="", problem="")


@dataclass
class Place:
    """A gateway and the store behind it. move_on: lets so many seconds go by."""

    name: str
    base: str
    store: BlockStore
    roots: RootSet
    now: Callable[[], float]
    move_on: Callable[[float], None]

    @cached_property
    def http(self) -> httpx.Client:
        return httpx.Client(base_url=self.base, timeout=30, headers={"Accept": ""})

    def get(self, path: str, method: str = "GET", **headers: str) -> httpx.Response:
        """A call; header names with _ for -."""
        return self.http.request(method, path, headers={name.replace("_", "-"): v for name, v in headers.items()})


class MovedClock:
    """The real time, and what was added to it."""

    def __init__(self) -> None:
        self.added = 0.0

    def __call__(self) -> float:
        return time.time() + self.added

    def move_on(self, seconds: float) -> None:
        self.added += seconds


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def at_bridge(folder: Path) -> Iterator[Place]:
    """The bridge's gateway."""
    folder.mkdir(parents=True, exist_ok=True)
    bridge = Bridge(folder)

    def move_on(seconds: float) -> None:
        bridge.clock.now += seconds

    with serving(bridge) as api:
        yield Place("bridge", api.base, bridge.store, bridge.dispatcher.roots, bridge.clock, move_on)
    bridge.close()


@contextlib.contextmanager
def at_node(folder: Path) -> Iterator[Place]:
    """A whole node's gateway; its bridge does not answer."""
    clock = MovedClock()
    with running_node(node_folder(folder, f"http://127.0.0.1:{free_port()}"), clock) as base:
        store = BlockStore(folder / "content")
        yield Place("node", base, store, RootSet(store), clock, clock.move_on)


PLACES = {"bridge": at_bridge, "node": at_node}


def node_folder(folder: Path, bridge_url: str, **fields: object) -> Path:
    """The work folder of a new node that has a gateway."""
    init_node(
        folder,
        **{
            "bridge_url": bridge_url,
            "chain_id": CHAIN_ID,
            "bridge_contract": CONTRACT,
            "registry": CONTRACT,
            "labels": ("node=admitted", "site=camera"),
            "tiers": ("wasm",),
            "poll_seconds": 0.2,
            "gateway_port": free_port(),
            **fields,
        },
    )
    return folder


@contextlib.contextmanager
def running_node(folder: Path, clock: Callable[[], float] = time.time) -> Iterator[str]:
    """Run a node; the address of its gateway."""
    url = NodeConfig.load(folder).gateway_url
    with node_running(folder, ProvedWasm(), clock=clock) as thread:
        wait_for(lambda: _answers(url) or not thread.is_alive(), 30, "the node's gateway")
        yield url


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ipfs/bafkqaaa?format=raw").status_code == 200
    except httpx.TransportError:
        return False


def cids_of(car: bytes) -> list[Cid]:
    """The blocks of a complete CAR, in their order, each verified."""
    parser = CarParser(CarLimits(2**30))
    return [cid for cid, _ in read_car([car], parser)]


# -- content ---------------------------------------------------------------------------------------------------------


def put(store: BlockSink, links: Sequence[Link] = (), data: bytes | None = None) -> Cid:
    """A dag-pb block."""
    return put_block(store, dagpb.encode(Node(tuple(links), data)))


def put_block(store: BlockSink, block: bytes, codec: int = DAG_PB) -> Cid:
    cid = Cid.of(codec, block)
    store.put_many([(cid, block)])
    return cid


def leaf(store: BlockSink, content: bytes) -> Cid:
    """A raw block."""
    return put_block(store, content, RAW)


def file_of(store: BlockSink, *chunks: bytes | tuple[Cid, int], data: bytes | None = None) -> tuple[Cid, int]:
    """A file of chunks, each bytes or (CID, size); its CID and size."""
    parts = [(leaf(store, chunk), len(chunk)) if isinstance(chunk, bytes) else chunk for chunk in chunks]
    sizes = tuple(size for _, size in parts)
    total = sum(sizes) + len(data or b"")
    node = unixfs_node.encode_data(Data(TYPE_FILE, data=data, file_size=total, block_sizes=sizes))
    return put(store, [Link("", cid, size) for cid, size in parts], node), total


def directory(store: BlockSink, **entries: Cid) -> Cid:
    """A directory in one block; names are keywords, with _ for a full stop."""
    links = [Link(name.replace("_", "."), cid, 0) for name, cid in sorted(entries.items())]
    return put(store, links, unixfs_node.encode_data(Data(TYPE_DIRECTORY)))


def sharded(store: BlockSink, entries: dict[str, Cid]) -> Cid:
    """A sharded directory."""
    root = None
    for block, link in hamt.build([Link(name, cid, 0) for name, cid in entries.items()], V1_2025):
        store.put_many([block])
        root = link.cid
    assert root is not None
    return root


def symlink(store: BlockSink, target: bytes) -> Cid:
    return put(store, (), unixfs_node.encode_data(Data(TYPE_SYMLINK, data=target)))


def old_file(store: BlockSink, *chunks: bytes) -> tuple[Cid, list[Cid]]:
    """A file as Kubo wrote it before CIDv1: every block dag-pb, every link a CIDv0. Root and chunks."""
    made = [
        put(store, (), unixfs_node.encode_data(Data(TYPE_FILE, data=chunk, file_size=len(chunk)))) for chunk in chunks
    ]
    sizes = tuple(map(len, chunks))
    data = unixfs_node.encode_data(Data(TYPE_FILE, file_size=sum(sizes), block_sizes=sizes))
    block = b"".join(old_link(b"", cid) for cid in made) + dagpb.encode(Node((), data))
    return put_block(store, block), made


def old_link(name: bytes, cid: Cid) -> bytes:
    """A link of a dag-pb block by CIDv0."""
    binary = old_binary(cid)
    link = b"\x0a" + bytes([len(binary)]) + binary + b"\x12" + bytes([len(name)]) + name
    return b"\x12" + bytes([len(link)]) + link


@contextlib.contextmanager
def served(gateway: Gateway) -> Iterator[httpx.Client]:
    """One gateway on a server as nodes have it."""
    port = free_port()
    server = ThreadServer("gateway", create_app(gateway), gateway_door("127.0.0.1", port), 8, LIMITS)
    server.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            yield client
    finally:
        server.stop()
