"""How long a source that brings its blocks slowly is waited for, over real HTTP."""

import os
import time
from contextlib import ExitStack

import pytest

from executor.content.blocks import MemoryBlocks
from executor.content.patience import Patience
from executor.content.retrieval import Pace, Retriever
from executor.content.scoring import Score
from executor.content.unixfs import TreeLimits, import_listing
from tests.faulty_sources import Content, Gateway, Pacing, cid_in, faulty, patient_source
from tests.raw_server import RawServer, head, send

MIB = 2**20
PACE = Pace(hedge=0.15, progress=30)
UNHURRIED = Pace(hedge=2, progress=30, window=0.5)
"""Silence has nobody asked here, only a rate."""


def fetch(content, *urls, pace=PACE):
    """What was retrieved, and in how many seconds."""
    with Retriever([patient_source(url) for url in urls], MemoryBlocks(), pace=pace) as retriever:
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


def many_blocks(count, size=1000):
    """A directory of small files, each of one block."""
    blocks = MemoryBlocks()
    files = {f"{number}": os.urandom(size) for number in range(count)}
    return Content(blocks, import_listing(blocks, files, TreeLimits(10**7)))


def _late(gateway, seconds):
    """A script that waits, and then is the gateway's own."""

    def script(connection, stopping):
        stopping.wait(seconds)
        gateway._script(connection, stopping)

    return script


@pytest.mark.parametrize("delay", [0.0, 0.3], ids=["at once", "later than the next block of the first"])
def test_a_source_that_paces_below_the_wait_of_the_hedge_is_left_for_one_that_answers(delay):
    content = many_blocks(150)
    with Pacing(content, 0.2) as pacing, Gateway(content) as good:
        good._scripts.insert(0, _late(good, delay))
        retrieved, seconds = fetch(content, pacing.url, good.url, pace=UNHURRIED)

    assert seconds < 10  # of 30
    assert [share.source for share in retrieved.shares] == [pacing.url, good.url]
    assert [share.blocks for share in retrieved.shares][1] > 100


@pytest.mark.parametrize("other", ["has it not", "nobody listens", "silent"])
def test_a_slow_source_goes_on_where_no_other_brings_anything(other):
    content = many_blocks(20)
    with Pacing(content, 0.15) as slow, faulty(other, content) as url:
        retrieved, _ = fetch(content, slow.url, url, pace=UNHURRIED)

    assert [share.source for share in retrieved.shares] == [slow.url]
    assert len(slow.calls) == 1


def test_a_slow_source_that_is_the_only_one_goes_on():
    content = many_blocks(20)
    with Pacing(content, 0.1) as slow:
        retrieved, _ = fetch(content, slow.url, pace=UNHURRIED)

    assert [share.blocks for share in retrieved.shares] == [21]
    assert len(slow.calls) == 1


def test_of_two_sources_with_the_same_low_rate_the_first_loses_no_time_to_the_second():
    content = many_blocks(20)
    with Pacing(content, 0.15) as one, Pacing(content, 0.15) as two:
        _, seconds = fetch(content, one.url, two.url, pace=UNHURRIED)

    assert seconds < 2 * 20 * 0.15 + 1


def test_a_good_source_behind_others_that_pace_is_reached():
    content = many_blocks(150)
    with ExitStack() as stack:
        pacing = [stack.enter_context(Pacing(content, 0.2)) for _ in range(3)]
        good = stack.enter_context(Gateway(content))
        retrieved, seconds = fetch(content, *(one.url for one in pacing), good.url, pace=UNHURRIED)

    assert seconds < 15  # of 30
    assert good.url in [share.source for share in retrieved.shares]


def test_a_source_that_is_known_to_be_slow_does_not_keep_a_faster_one_behind_it_from_being_asked():
    """The fast one is busy at first. The next goes on, than which the third, known as slow, may be no faster."""
    content = many_blocks(150, 8000)
    with Pacing(content, 0.05) as first, Pacing(content, 0.2) as slow, Gateway(content) as good:
        good._scripts.insert(0, send(head("503 Service Unavailable")))
        known = {good.url: Score(rate=100.0 * MIB), first.url: Score(rate=2.0 * MIB), slow.url: Score(rate=1.0)}
        with Retriever(
            [patient_source(url) for url in known], MemoryBlocks(), pace=UNHURRIED, scores=known
        ) as retriever:
            found = retriever.fetch(content.root, max_bytes=100 * MIB, patience=Patience(time.time() + 30))

    assert {share.source for share in found.shares} == {first.url, good.url}
    assert (len(good.calls) > 1, slow.calls) == (True, [])


class Bursting(RawServer):
    """Answers the first call at once, and each later one late: a line that is fast for one block only."""

    def __init__(self, content, seconds):
        super().__init__(self._script)
        self._content, self._seconds = content, seconds

    def _script(self, connection, stopping):
        if path := self.calls[-1]:
            if len(self.calls) > 1:
                stopping.wait(self._seconds)
            connection.sendall(head() + self._content.car_of(cid_in(path)))


def test_one_block_at_once_wins_no_race_against_a_source_that_brings_one_after_the_other():
    content = many_blocks(60)
    with Pacing(content, 0.05) as steady, Bursting(content, 0.4) as bursting:
        _, seconds = fetch(content, steady.url, bursting.url, pace=UNHURRIED)

    assert len(steady.calls) == 1
    assert seconds < 2 * 60 * 0.05
