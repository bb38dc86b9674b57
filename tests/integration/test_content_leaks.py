"""What fetching from faulty sources leaves in a process: no open file, no thread, no memory.

The sources are in a process of their own, so that what they hold is not taken for ours.
"""

import ctypes
import gc
import resource
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from executor.content.blocks import MemoryBlocks
from executor.content.patience import Patience
from executor.content.retrieval import PARALLEL, Pace, Retriever
from executor.content.sources import MAX_OPEN
from executor.errors import PeerRefused, PeerUnavailable
from tests.faulty_sources import elsewhere, patient_source, seeded
from tests.raw_server import RawServer

MIB = 2**20
ROUNDS = 12
WARM_UP = 7
"""Until threads have the memory that the allocator gives each."""
ROOT = seeded().root
#: name -> the sources of each retrieval, of faulty URLs and a good one
MIXES = {
    "each faulty source alone": lambda urls, _: [[url] for url in urls],
    "each faulty source beside a good one": lambda urls, good: [[url, good] for url in urls],
    "all faulty sources before a good one": lambda urls, good: [[*urls, good]],
}


def held():
    """Open files, threads, and bytes of memory of this process."""
    files = sum(1 for _ in Path("/proc/self/fd").iterdir())  # first: what waits for a collector is not closed
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what is free in the allocator is nothing that we hold
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return files, threading.active_count(), pages * resource.getpagesize()


def retrieve(urls):
    """As far as these sources bring it, by a retriever of its own; whether all came."""
    sources = [patient_source(url) for url in urls]
    patience = Patience(time.time() + 20, pause=lambda wanted: time.sleep(min(wanted, 0.01)))
    pace = Pace(hedge=0.03, progress=0.1, rounds=1)
    with (
        suppress(PeerUnavailable, PeerRefused),
        Retriever(sources, MemoryBlocks(), pace=pace, max_tried=len(sources)) as retriever,
    ):
        retriever.fetch(ROOT, max_bytes=100 * MIB, patience=patience)
        return True
    return False


class Counting:
    """The script of a server that says nothing. most: connections at a time."""

    def __init__(self):
        self.most = self._now = 0
        self._lock = threading.Lock()

    def __call__(self, connection, _):
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        with suppress(ConnectionError):
            connection.recv(1)  # until it is hung up on
        with self._lock:
            self._now -= 1


def test_of_60_silent_sources_few_are_asked_at_a_time_and_few_clients_stay_open():
    counting = Counting()
    with RawServer(counting) as server:
        sources = [patient_source(f"{server.url}/{number}") for number in range(60)]
        pace = Pace(hedge=0.03, progress=0.1, rounds=0)
        with Retriever(sources, MemoryBlocks(), pace=pace, max_tried=60) as retriever:
            with pytest.raises(PeerUnavailable):
                retriever.fetch(ROOT, max_bytes=MIB, patience=Patience(time.time() + 60))
            threads = [thread for thread in threading.enumerate() if thread.name.startswith("retrieval")]

            assert len(server.calls) >= 60
            assert counting.most <= 2 * PARALLEL  # the server hears late that one hung up
            assert len(threads) <= PARALLEL
            assert len(retriever.clients._open) <= MAX_OPEN


@pytest.mark.parametrize("mix", MIXES)
def test_retrievals_from_faulty_sources_leave_no_open_file_no_thread_and_no_memory(mix):
    figures = []
    with elsewhere() as (urls, good):
        before = held()
        for _ in range(ROUNDS):
            came = [retrieve(some) for some in MIXES[mix](urls, good)]
            assert not any(came) if mix == "each faulty source alone" else all(came)
            figures.append(held())

    assert [(files, threads) for files, threads, _ in figures] == [before[:2]] * ROUNDS
    memory = [each[2] for each in figures]
    assert min(memory[-2:]) - max(memory[:WARM_UP]) < 12 * MIB, "a DAG a round would be 16"
