"""Reads ranges of final blocks: whole, checked and decoded; the next one while the last one is being stored."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import structlog

from bridge.chain.bulk import Found, Harvest, harvest
from bridge.chain.client import Block, ChainClient, Log
from bridge.chain.events import Kind
from bridge.chain.reading import Check, LogReader
from bridge.errors import NullRound, RpcUnavailable

log = structlog.get_logger("bridge.backfill")

MAX_NULL_ROUNDS = 500  # in a row; longer than any that Filecoin had
AHEAD_BLOCKS = 500  # nearer to the target nothing is read ahead
AHEAD_RANGES = 2  # while the endpoint works on one, another one is decoded
AHEAD_SECONDS = 600.0  # for a whole range; each call of it has the endpoint's own deadline
DENSE_ANSWERS = 8  # where answers are kept small because they hold many logs, so many make a range
DENSE_BLOCKS = 1000  # no such range has more


@dataclass(frozen=True)
class FinalRange:
    """The events of a range of final blocks; `last` is its end."""

    last: Block
    found: list[Found]


@dataclass(eq=False)
class _Reading:
    """A range after `tip` that is being read; `last`, its end, is known first."""

    tip: Block
    target: int
    last: Block | None = None
    future: Future[FinalRange] = field(default_factory=Future)


class FinalReader:
    """Reads through `client` and its `reader`. What is read ahead is lost with the process, and read again."""

    def __init__(self, client: ChainClient, reader: LogReader, chain_id: int, refuse: Callable[[int], None]) -> None:
        """`refuse` is told of each number of logs that were refused, by any thread."""
        self._client = client
        self._reader = reader
        self._chain_id = chain_id
        self._refuse = refuse
        self._lock = threading.Lock()
        self._ahead: deque[_Reading] = deque()  # each begins where the one before ends
        self._waited_for: _Reading | None = None  # the one before them

    def after(self, tip: Block, target: int) -> FinalRange:
        """The range after the final block `tip`, up to the final number `target` at most.

        RpcUnavailable, RpcRefused: nothing can be said now.
        """
        ahead = self._taken(tip)
        if ahead is None:
            self.read_ahead(tip, target)
            ahead = self._taken(tip)
        if ahead is None:
            return self._read(tip, self._end_after(tip, target))
        try:
            return ahead.future.result(AHEAD_SECONDS)
        except TimeoutError as exc:
            raise RpcUnavailable(f"the range after block {tip.number} was not read in {AHEAD_SECONDS:g} s") from exc

    def _taken(self, tip: Block) -> _Reading | None:
        """The first range that is being read, if it is the one after `tip`; otherwise none of them is of use."""
        with self._lock:
            if self._ahead and self._ahead[0].tip == tip:
                self._waited_for = self._ahead.popleft()
                return self._waited_for
            self._ahead.clear()
            self._waited_for = None
            return None

    def read_ahead(self, tip: Block, target: int) -> None:
        """Begin to read the ranges after `tip`, as long as they are far from the target."""
        with self._lock:
            newest = self._ahead[-1] if self._ahead else None
            start = tip if newest is None else newest.last
            if start is None or len(self._ahead) >= AHEAD_RANGES or target - start.number < AHEAD_BLOCKS:
                return
            reading = _Reading(start, target)
            self._ahead.append(reading)
        threading.Thread(target=self._fill, args=(reading,), name="read-ahead", daemon=True).start()

    def events(self, before: int, last: Block, check: Check) -> Harvest:
        """The events of blocks before+1..last, which are passed over for good afterwards.

        The contract counts its requests: as many must have been found. Where it cannot be asked, or nothing was found,
        another endpoint is asked for the same; in any case it is asked for the last block.
        """
        entries: list[Log] = []
        found = Harvest([], [])

        def take(some: list[Log]) -> None:
            read = harvest(some, self._chain_id)
            entries.extend(some)
            found.events.extend(read.events)
            found.refused.extend(read.refused)

        counted = self._reader.final(before, last.number, take)
        check(entries)
        self._report(found)
        if not entries or counted is None or _requests(found) < counted:
            more = harvest(self._reader.left_out(before + 1, last, entries, check), self._chain_id)
            self._report(more)
            found = Harvest(found.events + more.events, found.refused + more.refused)
        else:
            self._reader.confirm(last)
        if counted is not None and _requests(found) < counted:
            where, requests = f"blocks {before + 1}..{last.number}", _requests(found) - len(found.refused)
            raise RpcUnavailable(f"the contract took {counted} requests in {where}, the endpoint shows {requests}")
        return found

    def _fill(self, reading: _Reading) -> None:
        try:
            last = self._end_after(reading.tip, reading.target)
            with self._lock:
                reading.last = last
                wanted = reading is self._waited_for or reading in self._ahead
            if wanted:
                self.read_ahead(last, reading.target)
            reading.future.set_result(self._read(reading.tip, last))
        except BaseException as exc:  # noqa: BLE001 - raised again for whoever takes the range
            reading.future.set_exception(exc)

    def _end_after(self, tip: Block, target: int) -> Block:
        """The last block of the range after `tip`."""
        size = self._reader.size
        blocks = max(size.size, min(DENSE_ANSWERS * size.size, DENSE_BLOCKS)) if size.full else size.size
        return block_near(self._client, min(tip.number + blocks, target), tip.number + 1, target)

    def _read(self, tip: Block, last: Block) -> FinalRange:
        found = self.events(tip.number, last, lambda entries: self._check_headers(entries, last))
        return FinalRange(last, found.events)

    def _check_headers(self, entries: Sequence[Log], last: Block) -> None:
        """Every log's block must be the canonical one of its number, and the range's last block still the same."""
        named = {(entry.block_number, entry.block_hash) for entry in entries} | {(last.number, last.hash)}
        hashes = self._client.hashes_at(sorted({number for number, _ in named}))
        for number, block_hash in sorted(named):
            if hashes[number] != block_hash:
                raise RpcUnavailable(f"the endpoint contradicts itself about block {number}")

    def _report(self, found: Harvest) -> None:
        for entry, reason in found.refused:
            log.warning("log refused", error=str(reason), block=entry.block_number, tx="0x" + entry.tx_hash.hex())
        if found.refused:
            self._refuse(len(found.refused))


def hash_at(client: ChainClient, number: int) -> bytes | None:
    """The canonical block's hash at a number; None for a null round."""
    try:
        return client.block_by_number(number).hash
    except NullRound:
        return None


def block_near(client: ChainClient, number: int, lowest: int, highest: int) -> Block:
    """The newest block at or below `number`, down to `lowest`; else the oldest one above, up to `highest`."""
    down = range(number, max(lowest, number - MAX_NULL_ROUNDS) - 1, -1)
    up = range(number + 1, min(highest, number + MAX_NULL_ROUNDS) + 1)
    for candidate in (*down, *up):
        try:
            return client.block_by_number(candidate)
        except NullRound:
            continue
    raise RpcUnavailable(f"the endpoint has no block near {number}")


def _requests(found: Harvest) -> int:
    """Requests that were found, each once however often it was shown; a log that was refused may be one."""
    named = {event.request_hash for event in found.events if event.kind is Kind.REQUESTED}
    return len(named) + len(found.refused)
