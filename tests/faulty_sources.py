"""Sources of content that fail, each in its own way, and one that does not: real servers on loopback."""

import contextlib
import gzip
import random
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cached_property

from executor.content.blocks import MemoryBlocks
from executor.content.car import export_car, write_car
from executor.content.importer import import_bytes
from executor.content.sources import gateway_source
from executor.content.walk import blocks as dag_blocks
from executor.content.walk import walk
from executor.protocol.cid import RAW, Cid
from tests.raw_server import RawServer, drip, flood, head, silent


@dataclass
class Content:
    """A DAG and its blocks."""

    blocks: MemoryBlocks
    root: Cid
    car: bytes = field(init=False)

    def __post_init__(self):
        self.car = b"".join(export_car(self.blocks, self.root))

    @classmethod
    def of(cls, data):
        blocks = MemoryBlocks()
        return cls(blocks, import_bytes(blocks, data))

    @classmethod
    def of_store(cls, store, root):
        """All that another store has of a DAG."""
        return cls(MemoryBlocks(dag_blocks(store, root)), root)

    @property
    def half(self):
        """The first half of its CAR."""
        return memoryview(self.car)[: len(self.car) // 2]

    @cached_property
    def packed(self):
        """Its CAR as gzip."""
        return gzip.compress(self.car, 0)

    @property
    def leaves(self):
        """The raw blocks, in the order of the file."""
        return [cid for cid in walk(self.blocks, self.root) if cid.codec == RAW]

    def car_of(self, cid):
        """What an honest gateway answers; None where it has no such block."""
        if not self.blocks.has(cid):
            return None
        return self.car if cid == self.root else b"".join(export_car(self.blocks, cid))


def cid_in(path):
    return Cid.parse(path.split("?")[0].rsplit("/", 1)[1])


class Gateway(RawServer):
    """Answers what it holds, keeping to the blocks in `only` where that is given; 404 for the rest.

    delay: seconds before each answer.
    """

    def __init__(self, content, only=None, delay=0.0, bytes_per_second=None):
        super().__init__(self._script)
        self._content = content
        self._only = only
        self._delay = delay
        self._rate = bytes_per_second

    def _script(self, connection, stopping):
        stopping.wait(self._delay)
        if not (path := self.calls[-1]):
            return  # hung up before it asked
        cid = cid_in(path)
        car = self._content.car_of(cid)
        if car is None or (self._only is not None and cid not in self._only):
            connection.sendall(head("404 Not Found"))
            return
        connection.sendall(head())
        step = self._rate // 20 if self._rate else len(car)
        for offset in range(0, len(car), step):
            connection.sendall(memoryview(car)[offset : offset + step])
            if self._rate and stopping.wait(0.05):
                return


class Halting(RawServer):
    """Answers what is asked for, but of each answer only the first part; then it is silent, or hangs up."""

    def __init__(self, content, *, silent, share=0.6):
        super().__init__(self._script)
        self._content = content
        self._silent = silent
        self._share = share

    def _script(self, connection, stopping):
        if not (path := self.calls[-1]):
            return  # hung up before it asked
        car = self._content.car_of(cid_in(path))
        connection.sendall(head() + car[: int(len(car) * self._share)])
        if self._silent:
            stopping.wait(60)


class Pacing(RawServer):
    """Answers what is asked for, a block each so many seconds: never silent for long, and never done."""

    def __init__(self, content, seconds):
        super().__init__(self._script)
        self._content = content
        self._seconds = seconds

    def _script(self, connection, stopping):
        if not (path := self.calls[-1]):
            return  # hung up before it asked
        pieces = export_car(self._content.blocks, cid_in(path))
        connection.sendall(head() + next(pieces))
        for start in pieces:
            if stopping.wait(self._seconds):
                return
            connection.sendall(start + next(pieces))


def garbled_parts(car):
    """The CAR with a wrong bit in its last block, without a copy of all of it."""
    return memoryview(car)[:-1], bytes([car[-1] ^ 1])


def garbled(car):
    """The same in one."""
    return b"".join(garbled_parts(car))


def other_car(root):
    """A good block under its own name, in a CAR that says it is another DAG."""
    other = MemoryBlocks()
    cid = import_bytes(other, b"something else altogether")
    return b"".join(write_car([root], [(cid, other.get(cid))]))


def reset(*parts):
    """A script that sends these and breaks the connection."""

    def script(connection, _):
        for part in parts:
            connection.sendall(part)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    return script


def stall(*parts):
    """A script that sends these and then nothing."""

    def script(connection, stopping):
        for part in parts:
            connection.sendall(part)
        stopping.wait(60)

    return script


def drip_bytes(data, seconds=0.05):
    """A script that sends a byte at a time."""

    def script(connection, stopping):
        connection.sendall(head())
        for number in range(len(data)):
            connection.sendall(data[number : number + 1])
            if stopping.wait(seconds):
                return

    return script


def around(connection, _):
    connection.sendall(head("302 Found", Location="/ipfs/around"))


#: name -> the script of a server that has this content
FAULTS = {
    "stalls after the first block": lambda content: stall(head(), content.half),
    "stalls inside the header": lambda content: stall(head(), content.car[:5]),
    "drips a byte at a time": lambda content: drip_bytes(content.car),
    "wrong block": lambda content: _send(head(), *garbled_parts(content.car)),
    "right block of another CID": lambda content: _send(head(), other_car(content.root)),
    "cut CAR": lambda content: _send(head(), content.half),
    "empty CAR": lambda content: _send(head(), _header_of(content.root)),
    "200, then reset": lambda content: reset(head(), content.car[:40]),
    "endless redirects": lambda content: around,
    "head without end": lambda content: flood(b"HTTP/1.1 200 OK\r\n", b"X-More: " + b"x" * 8000 + b"\r\n"),
    "gzip": lambda content: _send(head(Content_Encoding="gzip"), content.packed),
    "head one byte at a time": lambda content: drip(b"H", seconds=0.05),
    "silent": lambda content: silent,
    "busy": lambda content: _send(head("503 Service Unavailable")),
    "a page of HTML": lambda content: _send(head(), b"<html>Welcome</html>" * 1000),
    "has it not": lambda content: _send(head("404 Not Found")),
}


def _send(*parts):
    return lambda connection, _: [connection.sendall(part) for part in parts]


def _header_of(root):
    return b"".join(write_car([root], []))


@contextlib.contextmanager
def faulty(name, content):
    """The URL of a source with this fault."""
    if name == "never answers TLS":
        with RawServer(silent) as server:
            yield server.url.replace("http://", "https://")
    elif name == "nobody listens":
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    else:
        with RawServer(FAULTS[name](content)) as server:
            yield server.url


ALL_FAULTS = [*FAULTS, "never answers TLS", "nobody listens"]


def patient_source(url):
    """A gateway as a source that never gives up: it is the retriever who ends what takes too long."""
    return gateway_source(url, silence_seconds=60.0, dial_seconds=60.0)


def part_of(content, share):
    """The first blocks of a DAG."""
    cids = list(walk(content.blocks, content.root))
    return set(cids[: int(len(cids) * share)])


def seeded():
    """Content that two processes agree on."""
    return Content.of(random.Random(0).randbytes(4 * 2**20 + 5))


@contextlib.contextmanager
def elsewhere():
    """Sources of `seeded()` in a process of their own, which hold nothing of ours: the faulty URLs, and a good one."""
    command = [sys.executable, "-m", "tests.faulty_sources"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        *urls, good = process.stdout.readline().split()
        yield urls, good
        process.stdin.close()


def main():
    """Serve until standard input ends."""
    content = seeded()
    with contextlib.ExitStack() as stack:
        urls = [stack.enter_context(faulty(fault, content)) for fault in ALL_FAULTS]
        print(*urls, stack.enter_context(Gateway(content)).url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
