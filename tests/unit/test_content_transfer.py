"""When a peer that says "later" is asked for content again."""

from contextlib import contextmanager, nullcontext

import pytest

from executor.content.blocks import MemoryBlocks
from executor.content.car import export_car
from executor.content.importer import import_bytes
from executor.content.patience import Patience
from executor.content.retrieval import Retriever
from executor.content.sources import Source
from executor.content.transfer import fetch_dag
from executor.errors import PeerUnavailable

BLOCKS = MemoryBlocks()
ROOT = import_bytes(BLOCKS, b"content")


class Busy:
    """Asks to be left alone for 40 s, once; time goes by only while somebody pauses."""

    def __init__(self):
        self.now = 0.0
        self.calls = []

    @contextmanager
    def get_car(self, cid):
        self.calls.append(self.now)
        if len(self.calls) == 1:
            raise PeerUnavailable("busy", 40.0)
        yield export_car(BLOCKS, cid)

    def pause(self, seconds):
        self.now += seconds

    def patience(self, seconds):
        return Patience(seconds, lambda: self.now, self.pause)


def alone(busy, seconds):
    fetch_dag(busy, MemoryBlocks(), ROOT, max_bytes=100, patience=busy.patience(seconds))


def first_of_several(busy, seconds):
    first = Source("bridge", lambda: nullcontext(busy), is_lent=True)
    with Retriever([], MemoryBlocks()) as retriever:
        retriever.fetch(ROOT, max_bytes=100, patience=busy.patience(seconds), first=first)


WAYS = {"alone": alone, "first of several": first_of_several}


@pytest.mark.parametrize("way", WAYS)
def test_a_peer_that_says_when_to_come_again_is_asked_then(way):
    busy = Busy()

    WAYS[way](busy, 100.0)

    assert busy.calls == [0.0, 40.0]


@pytest.mark.parametrize("way", WAYS)
def test_a_peer_that_says_later_than_there_is_time_for_is_given_up_at_once(way):
    busy = Busy()

    with pytest.raises(PeerUnavailable, match="busy"):
        WAYS[way](busy, 30.0)
    assert (busy.calls, busy.now) == ([0.0], 0.0)


def test_what_another_source_wants_is_no_reason_to_wait():
    busy = Busy()
    with Retriever([Source("gateway", lambda: nullcontext(busy), is_lent=True)], MemoryBlocks()) as retriever:
        retriever.fetch(ROOT, max_bytes=100, patience=busy.patience(100.0))

    assert len(busy.calls) == 2
    assert busy.calls[1] < 40.0
