"""How long a source that brings its blocks slowly is waited for, over real HTTP."""

import os
import time

import pytest

from executor.content.blocks import MemoryBlocks
from executor.content.patience import Patience
from executor.content.retrieval import Pace, Retriever
from tests.faulty_sources import Content, Gateway, patient_source
from tests.raw_server import RawServer, head

MIB = 2**20
PACE = Pace(hedge=0.15, progress=30)


def fetch(content, *urls):
    """What was retrieved, and in how many seconds."""
    with Retriever([patient_source(url) for url in urls], MemoryBlocks(), pace=PACE) as retriever:
        started = time.monotonic()
        retrieved = retriever.fetch(content.root, max_bytes=100 * MIB, patience=Patience(time.time() + 30))
        return retrieved, time.monotonic() - started


def _paced(car, waits):
    """One block after each wait, the last of which counts for all the rest."""

    def script(connection, stopping):
        connection.sendall(head() + car[:MIB])
        for index, offset in enumerate(range(MIB, len(car), MIB)):
            if stopping.wait(waits[min(index, len(waits) - 1)]):
                return
            connection.sendall(car[offset : offset + MIB])

    return script


def test_a_source_that_lets_each_wait_grow_does_not_keep_the_others_from_being_asked():
    long = Content.of(os.urandom(12 * MIB))
    growing = [0.09 * 1.4**step for step in range(12)]  # each wait below 1.5 times the one before; the last is 3.6 s
    with RawServer(_paced(long.car, growing)) as hostile, Gateway(long) as good:
        retrieved, seconds = fetch(long, hostile.url, good.url)

    assert seconds < 5  # of 12
    assert [share.source for share in retrieved.shares] == [hostile.url, good.url]


@pytest.mark.parametrize("wait", [0.2, 0.4], ids=["somewhat slow", "slower than is ever waited for"])
def test_of_two_sources_that_are_equally_slow_the_first_loses_no_time_to_the_second(wait):
    long = Content.of(os.urandom(8 * MIB))
    with RawServer(_paced(long.car, [wait])) as one, RawServer(_paced(long.car, [wait])) as two:
        _, seconds = fetch(long, one.url, two.url)

    assert seconds < 2 * 8 * wait + 1
