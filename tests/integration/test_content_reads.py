"""What bringing a DAG costs the store: each block of it is looked at a few times, however often its sources fail."""

import time

import pytest

from executor.content.blocks import MemoryBlocks
from executor.content.car import export_car, write_car
from executor.content.dagpb import Link
from executor.content.importer import import_listing
from executor.content.limits import TreeLimits
from executor.content.patience import Patience
from executor.content.retrieval import Pace, Retriever
from executor.protocol.cid import DAG_PB
from tests.dag_kit import directory
from tests.faulty_sources import Content, cid_in, patient_source
from tests.hostile_dags import Counted
from tests.raw_server import RawServer, head

COUNT = 150


def chain():
    """Directories, each in the one before."""
    blocks = MemoryBlocks()
    cid = import_listing(blocks, {"x": b"x"}, TreeLimits(10**6))
    for _ in range(COUNT):
        cid = directory(blocks, Link("d", cid, 0))
    return Content(blocks, cid)


def flat():
    """A directory of files of one block each."""
    blocks = MemoryBlocks()
    return Content(blocks, import_listing(blocks, {f"{n}": b"%d" % n for n in range(COUNT)}, TreeLimits(10**6)))


def one_block_each(content):
    """A script that answers with the block that is asked for and hangs up, as one does whose every stream is cut."""

    def script(connection, _):
        cid = cid_in(server.calls[-1])
        connection.sendall(head() + b"".join(write_car([cid], [(cid, content.blocks.get(cid))])))

    server = RawServer(script)
    return server


def cut_after_each_block(content):
    """The same, and the connection breaks inside the next block."""

    def script(connection, _):
        cid = cid_in(server.calls[-1])
        car = b"".join(export_car(content.blocks, cid))
        own = len(b"".join(write_car([cid], [(cid, content.blocks.get(cid))])))
        connection.sendall(head() + car[: own + 3])

    server = RawServer(script)
    return server


@pytest.mark.parametrize("source", [one_block_each, cut_after_each_block])
@pytest.mark.parametrize("shape", [chain, flat])
def test_a_source_that_fails_after_each_block_has_each_block_read_no_more_than_three_times(shape, source):
    content, store = shape(), Counted()
    with source(content) as server, Retriever([patient_source(server.url)], store, pace=Pace()) as retriever:
        found = retriever.fetch(content.root, max_bytes=10**6, patience=Patience(time.time() + 60))

    assert sum(share.blocks for share in found.shares) == len(content.blocks)
    assert store.reads <= 3 * sum(cid.codec == DAG_PB for cid in content.blocks) + 1
