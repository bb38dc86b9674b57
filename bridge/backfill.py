"""Reads ranges of final blocks: whole, checked and decoded; the next ones while one is being stored."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import structlog

from bridge.chain.bulk import Found, Harvest, harvest
from bridge.chain.client import Block, ChainClient, Log
from bridge.chain.events import Kind
from bridge.chain.reading import Check, LogReader
from bridge.errors import NullRound, RpcUnavailable

log = structlog.get_logger("bridge.backfill")

MAX_NULL_ROUNDS = 500  # in a row; longer than any that Filecoin had
AHEAD_BLOCKS = 500  # nearer to the target nothing is read ahead
AHEAD_RANGES = 2  # while the endpoint works on one, another is decoded
AHEAD_SECONDS = 600.0  # for a whole range; each call of it has the endpoint's own deadline


@dataclass(frozen=True)
class FinalRange:
    """The events of a range of final blocks; `last` is its end."""

    last: Block
    found: list[Found]


class _Ahead:
    """Ranges that are being read ahead, each behind the one before. Shared by the threads that read them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ranges: dict[Block, Future[FinalRange]] = {}  # by the block before
        self._end: tuple[Block, int] | None = None  # the last range's last block, and the target

    def ends_at(self, last: Block, target: int) -> None:
        """The newest range's last block is known: the next one can begin."""
        with self._lock:
            self._end = last, target

    def begin(self) -> tuple[Block, int, Future[FinalRange]] | None:
        """What is to be read next, if there is room for it: the block before, the target, and where it goes."""
        with self._lock:
            if self._end is None or len(self._ranges) >= AHEAD_RANGES:
                return None
            tip, target = self._end
            self._end = None
            if target - tip.number < AHEAD_BLOCKS:
                return None
            future = self._ranges[tip] = Future()
            return tip, target, future

    def take(self, tip: Block) -> Future[FinalRange] | None:
        """The range behind `tip`, if it is the next one."""
        with self._lock:
            return self._ranges.pop(tip, None)


class FinalReader:
    """Reads through `client` and its `reader`. What is read ahead is lost with the process, and read again."""

    def __init__(self, client: ChainClient, reader: LogReader, chain_id: int, refuse: Callable[[int], None]) -> None:
        """`refuse` is told of each number of logs that were refused, by any thread."""
        self._client = client
        self._reader = reader
        self._chain_id = chain_id
        self._refuse = refuse
        self._ahead = _Ahead()

    def after(self, tip: Block, target: int) -> FinalRange:
        """The range after the final block `tip`, up to the final number `target` at most.

        RpcUnavailable, RpcRefused: nothing can be said now.
        """
        future = self._ahead.take(tip)
        if future is None:
            self._ahead = _Ahead()  # what is being read for the old one goes nowhere
            return self._read(self._ahead, tip, target)
        self._read_ahead(self._ahead)
        try:
            return future.result(AHEAD_SECONDS)
        except TimeoutError as exc:
            raise RpcUnavailable(f"the range after block {tip.number} was not read in {AHEAD_SECONDS:g} s") from exc

    def events(self, before: int, last: Block, check: Check) -> Harvest:
        """The events of blocks before+1..last, which are passed over for good afterwards.

        The contract counts its requests: as many must have been found. Where it cannot be asked, or nothing was found,
        another endpoint is asked for the same; in any case it is asked for the last block.
        """
        entries, counted = self._reader.final(before, last.number)
        check(entries)
        found = self._harvest(entries)
        if not entries or counted is None or _requests(found) < counted:
            more = self._harvest(self._reader.left_out(before + 1, last, entries, check))
            found = Harvest(found.events + more.events, found.refused + more.refused)
        else:
            self._reader.confirm(last)
        if counted is not None and _requests(found) < counted:
            where, requests = f"blocks {before + 1}..{last.number}", _requests(found) - len(found.refused)
            raise RpcUnavailable(f"the contract took {counted} requests in {where}, the endpoint shows {requests}")
        return found

    def _read_ahead(self, ahead: _Ahead) -> None:
        found = ahead.begin()
        if found is not None:
            threading.Thread(target=self._fill, args=(ahead, *found), name="read-ahead", daemon=True).start()

    def _fill(self, ahead: _Ahead, tip: Block, target: int, future: Future[FinalRange]) -> None:
        try:
            future.set_result(self._read(ahead, tip, target))
        except BaseException as exc:  # noqa: BLE001 - raised again for whoever takes the range
            future.set_exception(exc)

    def _read(self, ahead: _Ahead, tip: Block, target: int) -> FinalRange:
        last = block_near(self._client, min(tip.number + self._reader.size.size, target), tip.number + 1, target)
        ahead.ends_at(last, target)
        self._read_ahead(ahead)
        found = self.events(tip.number, last, lambda entries: self._check_headers(entries, last))
        return FinalRange(last, found.events)

    def _check_headers(self, entries: Sequence[Log], last: Block) -> None:
        """Every log's block must be the canonical one of its number, and the range's last block still the same."""
        named = {(entry.block_number, entry.block_hash) for entry in entries} | {(last.number, last.hash)}
        hashes = self._client.hashes_at(sorted({number for number, _ in named}))
        for number, block_hash in sorted(named):
            if hashes[number] != block_hash:
                raise RpcUnavailable(f"the endpoint contradicts itself about block {number}")

    def _harvest(self, entries: Sequence[Log]) -> Harvest:
        found = harvest(entries, self._chain_id)
        for entry, reason in found.refused:
            log.warning("log refused", error=str(reason), block=entry.block_number, tx="0x" + entry.tx_hash.hex())
        if found.refused:
            self._refuse(len(found.refused))
        return found


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
