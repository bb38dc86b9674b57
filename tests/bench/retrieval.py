"""60 MB from one good source among 50 bad ones, against the good one alone."""

import os
import time

from executor.content.blocks import MemoryBlocks
from executor.content.patience import Patience
from executor.content.retrieval import Retriever
from executor.content.sources import gateway_source
from tests.bench.runs import Prepared
from tests.faulty_sources import ALL_FAULTS, Content, Gateway, faulty

BYTES = 60 * 10**6
BAD = 50
LINE_BYTES = 8 * 2**20
"""What the good source sends a second, where it is not as fast as it can."""


class Store(MemoryBlocks):
    """A store that can be emptied."""

    def clear(self):
        self._blocks.clear()


def _sources(stack, bytes_per_second):
    content = Content.of(os.urandom(BYTES))
    bad = [stack.enter_context(faulty(ALL_FAULTS[n % len(ALL_FAULTS)], content)) for n in range(BAD)]
    good = stack.enter_context(Gateway(content, bytes_per_second=bytes_per_second))
    return content, [gateway_source(url) for url in [*bad, good.url]]


def _fetch(retriever, content):
    retriever.fetch(content.root, max_bytes=2 * BYTES, patience=Patience(time.time() + 300))


def among_bad_ones(stack):
    """A retriever that has fetched once before, as in a program that runs for long."""
    content, sources = _sources(stack, None)

    def of(some):
        store = Store()
        retriever = stack.enter_context(Retriever(some, store, max_tried=len(sources)))
        return Prepared(store.clear, lambda _: _fetch(retriever, content))

    return of(sources), of(sources[-1:])


def among_unknown_bad_ones(stack):
    """One that knows nothing of its sources, of which the last is good, over a line of 67 Mbit/s."""
    content, sources = _sources(stack, LINE_BYTES)

    def of(some):
        def act():
            with Retriever(some, MemoryBlocks(), max_tried=len(sources)) as retriever:
                _fetch(retriever, content)

        return act

    return of(sources), of(sources[-1:])
