"""Follows one contract on one chain: what the chain says goes into the store, in one transaction per step.

Near the head blocks are walked by their parents' hashes and their logs read by block hash. Far behind, logs are read by
ranges of final blocks. Whatever becomes final is read a second time by range, counted against the contract's own
counter, and compared with another endpoint where that leaves a doubt, because endpoints leave logs out (lotus#12078).
What is remembered outside the store may be lost at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import structlog

from bridge.backfill import FinalReader, block_near, hash_at
from bridge.chain.bulk import Found
from bridge.chain.client import Block, ChainClient, Log, Poll
from bridge.chain.cursor import (
    Advance,
    CatchUp,
    DeepReorg,
    Fetch,
    Stay,
    Window,
    advanced,
    final_block,
    plan,
)
from bridge.chain.events import Event, UndecodableLog, decode_log
from bridge.chain.reading import LogReader, within
from bridge.config import BridgeConfig
from bridge.errors import EndpointsDisagree, FatalError, HistoryPruned, RpcRefused, RpcUnavailable
from bridge.headwatch import HeadWatch
from bridge.store.backfill import add_final
from bridge.store.chain import (
    Cursor,
    Scope,
    add_events,
    create_cursor,
    delete_blocks,
    finalise,
    insert_blocks,
    load_cursor,
    load_window,
    mirror,
    promote,
    prune_blocks,
    save_cursor,
)
from bridge.store.engine import Connection, Engine, reading, transaction
from bridge.watch import Alarm, Watch

log = structlog.get_logger("bridge.listener")

LOWER_POLLS = 2  # a lower head on another branch is believed when it is seen so often in a row
NO_HASH = bytes(32)


@dataclass(frozen=True)
class _Look:
    """What a step decides on: the store as it is, and one look at the chain."""

    cursor: Cursor
    window: Window
    poll: Poll


class Listener:
    """One step does one thing about one look at the chain. `clock` gives seconds since 1970."""

    def __init__(
        self,
        engine: Engine,
        client: ChainClient,
        config: BridgeConfig,
        clock: Callable[[], float],
        *,
        watch: Watch | None = None,
    ) -> None:
        self._engine = engine
        self._client = client
        self._chain = config.chain
        self._clock = clock
        self._watch = Watch() if watch is None else watch
        self._scope = Scope(config.chain.chain_id, config.chain.bridge_contract)
        self._reader = LogReader(client, config.chain.bridge_contract, clock, self._watch)
        self._final = FinalReader(client, self._reader, config.chain.chain_id, self._refuse)
        self._heads = HeadWatch(config.chain, clock, self._watch)
        self._lower_seen = 0
        self._genesis_checked = False
        self._last_look: tuple[float, Poll] | None = None
        self.undecodable = 0  # logs that were refused since the start
        self.late = 0  # events that only the second reading found

    def step(self) -> bool:
        """Do one thing that the chain asks for; True when something was stored.

        A step after one that stored something goes on from the same look at the chain. RpcUnavailable, RpcRefused: try
        again later, nothing was stored. HistoryPruned: no endpoint shows what is still to be read; nothing is passed
        over. FatalError: another chain, or a reorg below what was final.
        """
        try:
            stored = self._step()
        except (RpcUnavailable, RpcRefused) as exc:
            self._failed(exc)
            raise
        except DeepReorg as exc:
            block = exc.block
            if not self._elsewhere(block.number, lambda other: other.block_by_number(block.number).hash == block.hash):
                self._watch.alarm(Alarm.REORG_BELOW_FINALITY, str(exc), self._clock())
                raise
            error = self._contradicted(f"final block {block.number} left one endpoint's chain and stands at another")
            self._failed(error)
            raise error from exc
        if stored:
            self._watch.over(Alarm.HISTORY_PRUNED, self._clock())
        else:
            self._last_look = None
        return stored

    def _failed(self, error: RpcUnavailable | RpcRefused) -> None:
        self._last_look = None
        if not isinstance(error, EndpointsDisagree):
            self._client.blame(error)
        if isinstance(error, HistoryPruned):
            detail = f"blocks that are still to be read are no longer shown: {error}; add an archive endpoint"
            self._watch.alarm(Alarm.HISTORY_PRUNED, detail, self._clock())

    def _step(self) -> bool:
        with reading(self._engine) as connection:
            cursor, window = load_cursor(connection, self._scope), load_window(connection)
        poll = self._poll(0 if cursor is None else cursor.scanned_number)
        if poll.chain_id != self._chain.chain_id:
            raise FatalError(f"the endpoint is not on chain {self._chain.chain_id}; check chain.rpc_urls")
        if cursor is None and not window:
            self._start(poll.head)
            return True
        if cursor is None or not window or window[-1].hash != cursor.scanned_hash:
            raise FatalError("this database follows another contract; use another data_dir, or: insula bridge rebuild")
        self._heads.look(poll, window)
        if not self._genesis_checked:
            self._check_genesis(cursor)
        look = _Look(cursor, window, poll)
        return self._follow(look) or self._pass_final(look)

    def _poll(self, at_least: int) -> Poll:
        """The look that the step before was made on, if it stored something just now; else a new one."""
        now, last = self._clock(), self._last_look
        self._last_look = None
        if last is None or not 0 <= now - last[0] < self._chain.poll_seconds:
            tags = {self._chain.finality_tag, self._chain.confirmation_tag} - {""}
            last = now, self._client.poll(*sorted(tags), at_least=at_least)
        self._last_look = last
        return last[1]

    # -- start ----------------------------------------------------------------------------------------------------

    def _start(self, head: Block) -> None:
        if not self._client.code(self._chain.bridge_contract):
            raise FatalError(f"there is no contract at {self._chain.bridge_contract}; check chain.bridge_contract")
        oldest = max(0, min(self._chain.deploy_block - 1, head.number - self._chain.finality_depth))
        anchor = block_near(self._client, oldest, 0, head.number)
        genesis = self._client.genesis_hash() or NO_HASH
        cursor = Cursor(genesis, anchor.number, anchor.hash, anchor.number, anchor.hash)
        with transaction(self._engine) as connection:
            create_cursor(connection, self._scope, cursor, anchor, self._clock())
        self._genesis_checked = True
        log.info("following the chain", contract=self._scope.contract, from_block=anchor.number, head=head.number)

    def _check_genesis(self, cursor: Cursor) -> None:
        genesis, contract = self._client.genesis_hash(), self._chain.bridge_contract
        if genesis is not None and cursor.genesis_hash not in (NO_HASH, genesis):
            if self._elsewhere(0, lambda other: other.genesis_hash() == cursor.genesis_hash):
                raise self._contradicted("the first block is another one at one endpoint, and ours at another")
            raise self._heads.reset("the endpoint's chain has another first block: it was reset, or is another one")
        if not self._client.code(contract):
            if self._elsewhere(cursor.scanned_number, lambda other: bool(other.code(contract))):
                raise self._contradicted("the contract is not there at one endpoint, and there at another")
            raise self._heads.reset(
                "the contract is no longer on the endpoint's chain: it was reset, or is another one"
            )
        self._genesis_checked = True

    def _elsewhere(self, number: int, holds: Callable[[ChainClient], bool]) -> bool:
        return self._reader.holds_elsewhere(number, holds)

    def _contradicted(self, detail: str) -> RpcUnavailable:
        """The error for what one endpoint alone says: nothing halts for it."""
        self._watch.alarm(Alarm.ENDPOINTS_DISAGREE, detail, self._clock())
        return RpcUnavailable(detail)

    # -- near the head --------------------------------------------------------------------------------------------

    def _follow(self, look: _Look) -> bool:
        window, head = look.window, look.poll.head
        decision = self._decide(window, head)
        if isinstance(decision, Stay):
            if decision is not Stay.SAME:
                self._genesis_checked = False  # a lower head may be a chain that was reset
                log.info("not moving", reason=decision.value, head=head.number, ours=window[-1].number)
            return False
        if isinstance(decision, CatchUp):
            self._catch_up(look, decision.target)
            return True
        found = self._events(self._reader.of_blocks(decision.new))
        after = advanced(window, decision)
        limit = self._heads.confirmed(look.poll, after)
        with transaction(self._engine) as connection:
            touched = delete_blocks(connection, decision.orphaned)
            insert_blocks(connection, decision.new)
            moved = replace(look.cursor, scanned_number=after[-1].number, scanned_hash=after[-1].hash)
            self._store_new(connection, look.cursor, moved, touched, found)
            promote(connection, limit, 0, self._clock())
        self._heads.moved(after, decision)
        if decision.orphaned:
            log.warning("reorg", depth=len(decision.orphaned), from_block=decision.orphaned[0].number)
        return True

    def _decide(self, window: Window, head: Block) -> Stay | CatchUp | Advance:
        fetched: dict[bytes, Block] = {}
        depth = self._chain.finality_depth
        lower_is_real = self._lower_seen + 1 >= LOWER_POLLS
        while True:
            decision = plan(window, head, fetched, depth, lower_is_real=lower_is_real)
            if not isinstance(decision, Fetch):
                self._lower_seen = self._lower_seen + 1 if decision is Stay.LOWER else 0
                return decision
            block = self._client.block_by_hash(decision.block_hash)
            if block is None:
                raise RpcUnavailable(
                    f"the endpoint does not know block 0x{decision.block_hash.hex()}, a parent of its own"
                )
            fetched[block.hash] = block

    # -- far behind -----------------------------------------------------------------------------------------------

    def _catch_up(self, look: _Look, target: int) -> None:
        """Take in one range of final blocks. The window shrinks to the range's last block, which is final.

        What the window has beyond the final block was read only once so far: it is read again first.
        """
        kept = self._still_canonical(look.window)
        if kept[-1].number > look.cursor.final_number:
            self._make_final(look, kept, kept[-1])
            return
        read = self._final.after(kept[-1], target)
        last = read.last
        self._final.read_ahead(last, target)
        with transaction(self._engine) as connection:
            touched = delete_blocks(connection, look.window[len(kept) :])
            insert_blocks(connection, (last,))
            prune_blocks(connection, last.number)
            moved = Cursor(look.cursor.genesis_hash, last.number, last.hash, last.number, last.hash)
            self._store(connection, look.cursor, moved, touched, read.found)
        self._heads.caught_up(last)
        log.info("caught up", to_block=last.number, target=target, events=len(read.found))

    def _still_canonical(self, window: Window) -> Window:
        for place in range(len(window) - 1, -1, -1):
            if hash_at(self._client, window[place].number) == window[place].hash:
                return window[: place + 1]
        if hash_at(self._client, window[0].number) is None:
            raise RpcUnavailable(f"the endpoint does not show block {window[0].number}")
        raise DeepReorg(window[0])

    # -- the second reading ---------------------------------------------------------------------------------------

    def _pass_final(self, look: _Look) -> bool:
        """Read what has become final once more, by range, and count it."""
        window = look.window
        final = final_block(window, self._chain.finality_depth, self._heads.tagged_final(look.poll, window))
        if final.number <= look.cursor.final_number:
            return False
        self._make_final(look, window, final)
        return True

    def _make_final(self, look: _Look, kept: Window, final: Block) -> None:
        """Take in `final` as such. `kept` is what of the window is canonical; the rest left the chain."""
        cursor, tip = look.cursor, kept[-1]
        found = self._final.events(cursor.final_number, final, within({b.number: b.hash for b in kept}))
        moved = Cursor(cursor.genesis_hash, tip.number, tip.hash, final.number, final.hash)
        with transaction(self._engine) as connection:
            touched = delete_blocks(connection, look.window[len(kept) :])
            late = self._store(connection, cursor, moved, touched, found.events)
            prune_blocks(connection, final.number)
        self._watch.set("finalized", final.number)
        if late:
            self.late += late
            self._watch.count("late_logs", late)
            detail = (
                f"{late} requests had events in blocks {cursor.final_number + 1}..{final.number} not shown at first"
            )
            self._watch.alarm(Alarm.LATE_LOGS, detail, self._clock())
            log.warning("events were missing at first", requests=late, to_block=final.number)

    # -- storing --------------------------------------------------------------------------------------------------

    def _events(self, entries: Sequence[Log]) -> list[Event]:
        """The events in logs; those that are refused are counted and passed over."""
        found: list[Event] = []
        for entry in entries:
            try:
                event = decode_log(entry, self._chain.chain_id)
            except UndecodableLog as exc:
                self._refuse(1)
                log.warning("log refused", error=str(exc), block=entry.block_number, tx="0x" + entry.tx_hash.hex())
                continue
            if event is not None:
                found.append(event)
        return found

    def _refuse(self, count: int) -> None:
        self.undecodable += count
        self._watch.count("undecodable_logs", count)

    def _store_new(
        self, connection: Connection, before: Cursor, after: Cursor, touched: set[bytes], found: Sequence[Event]
    ) -> None:
        """Events that may still leave the chain, jobs and cursor together."""
        now = self._clock()
        save_cursor(connection, self._scope, before, after, now)
        for request_hash in sorted(touched | add_events(connection, found)):
            mirror(connection, self._scope, request_hash, now)
        finalise(connection, after.final_number, now)

    def _store(
        self, connection: Connection, before: Cursor, after: Cursor, touched: set[bytes], found: Sequence[Found]
    ) -> int:
        """Final events, jobs and cursor together; how many requests had new events."""
        now = self._clock()
        save_cursor(connection, self._scope, before, after, now)
        return add_final(connection, self._scope, found, after.final_number, now, touched)
