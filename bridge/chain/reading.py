"""Reads one contract's logs: near the head by hash, by ranges of a learned size, and final ones so that none is lost.

An empty answer is no proof that there is nothing (lotus#12078, lotus#13749): what becomes final is counted against the
contract's own counter, and where that does not settle it another endpoint is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import structlog

from bridge.chain.client import Block, Call, ChainClient, Log
from bridge.chain.contracts import compute_bridge
from bridge.chain.ranges import RangeSize
from bridge.chain.shapes import data_of
from bridge.errors import EndpointsDisagree, NullRound, RpcError, RpcUnavailable, TooMuch
from bridge.watch import Alarm, Watch
from executor.errors import InvalidInput

log = structlog.get_logger("bridge.reading")

NEAR_HEAD = 16  # so many new blocks are read by hash; more by range, checked against their hashes
LOG_BYTES = 1000  # of a log's data; a larger one counts as several when the next range's size is chosen
NO_CONTRACT = "0x"  # what a call returns where there is no code
Check = Callable[[Sequence[Log]], None]  # raises RpcUnavailable when a log is not of our chain


class LogReader:
    """Reads through `client`. What it remembers (the size of ranges) may be lost at any time."""

    def __init__(self, client: ChainClient, contract: str, clock: Callable[[], float], watch: Watch) -> None:
        self._client = client
        self._contract = contract
        self._clock = clock
        self._watch = watch
        self.size = RangeSize()

    def of_blocks(self, blocks: Sequence[Block]) -> list[Log]:
        """The logs of blocks that are about to join the window, and of no others."""
        if len(blocks) <= NEAR_HEAD:
            return self._client.logs_of_blocks([block.hash for block in blocks], self._contract)
        entries = self.between(blocks[0].number, blocks[-1].number)
        within({block.number: block.hash for block in blocks})(entries)
        return entries

    def between(self, first: int, last: int) -> list[Log]:
        """The logs of blocks first..last, in ranges that the endpoint takes."""
        return [entry for piece in self._pieces(first, last) for entry in piece]

    def range(self, first: int, last: int) -> list[Log]:
        """The logs of one range, halved as often as it is too much; a single block is read by its hash."""
        return self._with_calls(first, last, ())[0]

    def final(self, before: int, last: int, take: Callable[[list[Log]], None]) -> int | None:
        """How many requests the contract took in blocks before+1..last; None where nobody says.

        `take` gets the logs, answer by answer: while they are still in the processor's cache.
        """
        count = compute_bridge().encode("requestCount")
        calls: list[Call] = [
            ("eth_call", ({"to": self._contract, "data": "0x" + count.hex()}, hex(number))) for number in (last, before)
        ]
        end = min(last, before + self.size.size)
        entries, counts = self._with_calls(before + 1, end, calls)
        take(entries)
        for entries in self._pieces(end + 1, last):
            take(entries)
        # Before its deployment the contract, which is not there yet, had taken none.
        after, earlier = _count_of(counts[0]), 0 if counts[1] == NO_CONTRACT else _count_of(counts[1])
        return None if after is None or earlier is None else after - earlier

    def left_out(self, first: int, last: Block, known: Sequence[Log], check: Check) -> list[Log]:
        """What another endpoint shows of blocks first..last and the one in use left out; nothing when nobody can say.

        Endpoints are asked until one agrees about the chain. EndpointsDisagree: one does not, and nobody else can say.
        """
        dissent: list[str] = []
        for other in self._client.others(last.number):
            try:
                entries, (header,) = other.logs_with(
                    first, last.number, self._contract, [("eth_getBlockByNumber", (hex(last.number), False))]
                )
                theirs = _hash_of(header, last.number)
            except RpcError as exc:
                log.info("no second opinion", first=first, last=last.number, reason=str(exc))
                continue
            if theirs is None:
                continue
            if theirs != last.hash:
                dissent.append(self._dissent(f"block {last.number}"))
                continue
            mine = set(known)
            more = [entry for entry in entries if entry not in mine]
            try:
                check(more)
            except RpcUnavailable:
                dissent.append(self._dissent(f"logs of blocks {first}..{last.number}"))
                continue
            if more:
                detail = f"an endpoint left out {len(more)} logs of blocks {first}..{last.number}"
                self._watch.alarm(Alarm.ENDPOINTS_DISAGREE, detail, self._clock())
                self._client.blame(RpcUnavailable(detail))
            return more
        _weigh(dissent)
        return []

    def confirm(self, last: Block) -> None:
        """Hear another endpoint about a block that is about to be final. EndpointsDisagree as in `left_out`."""
        dissent: list[str] = []
        for other in self._client.others(last.number):
            try:
                theirs = _hash_of(other.ask("eth_getBlockByNumber", hex(last.number), False), last.number)
            except RpcError as exc:
                log.info("no second opinion", block=last.number, reason=str(exc))
                continue
            if theirs == last.hash:
                return
            if theirs is not None:
                dissent.append(self._dissent(f"block {last.number}"))
        _weigh(dissent)

    def holds_elsewhere(self, number: int, holds: Callable[[ChainClient], bool]) -> bool:
        """Whether something holds at another endpoint that may have block `number`."""
        for other in self._client.others(number):
            try:
                if holds(other):
                    return True
            except RpcError as exc:
                log.info("no second opinion", block=number, reason=str(exc))
        return False

    def _dissent(self, what: str) -> str:
        text = f"two endpoints disagree about {what}: neither is believed now"
        self._watch.alarm(Alarm.ENDPOINTS_DISAGREE, text, self._clock())
        return text

    def _pieces(self, first: int, last: int) -> Iterator[list[Log]]:
        while first <= last:
            end = min(first + self.size.size - 1, last)
            yield self.range(first, end)
            first = end + 1

    def _with_calls(self, first: int, last: int, calls: Sequence[Call]) -> tuple[list[Log], list[object]]:
        blocks = last - first + 1
        try:
            entries, answers = self._client.logs_with(first, last, self._contract, calls)
        except TooMuch as exc:
            if blocks == 1:
                return self._single(first), self._client.batch(calls)
            self.size = self.size.refused(blocks, exc.suggested)
            log.info("range refused", first=first, last=last, next_size=self.size.size, reason=str(exc))
            return self.between(first, last), self._client.batch(calls)
        except RpcUnavailable:
            self.size = self.size.unanswered(blocks)
            raise
        if blocks >= self.size.size:
            self.size = self.size.passed(max(len(entries), sum([len(entry.data) for entry in entries]) // LOG_BYTES))
        return entries, answers

    def _single(self, number: int) -> list[Log]:
        try:
            block = self._client.block_by_number(number)
        except NullRound:
            return []
        return self._client.logs_by_hash(block.hash, self._contract)


def within(hashes: dict[int, bytes]) -> Check:
    """A check that every log is of one of these blocks, by number and hash."""

    def check(entries: Sequence[Log]) -> None:
        for entry in entries:
            if hashes.get(entry.block_number) != entry.block_hash:
                raise RpcUnavailable(f"the endpoint's log in block {entry.block_number} is of another block")

    return check


def _weigh(dissent: Sequence[str]) -> None:
    """With two against one the one in use is left, else all wait."""
    if dissent:
        raise RpcUnavailable(dissent[0]) if len(dissent) > 1 else EndpointsDisagree(dissent[0])


def _count_of(answer: object) -> int | None:
    """The contract's number of requests, from an eth_call's answer."""
    if isinstance(answer, RpcUnavailable):
        raise answer
    if isinstance(answer, RpcError):
        return None
    try:
        return int(compute_bridge().decode("requestCount", data_of(answer, "call"))[0])
    except InvalidInput:
        return None


def _hash_of(answer: object, number: int) -> bytes | None:
    """The hash in a header, if it is that of this number; None when the endpoint does not show it."""
    if isinstance(answer, RpcError) or not isinstance(answer, dict) or answer.get("number") != hex(number):
        return None
    return data_of(answer.get("hash"), "block.hash", 32)
