"""Follows one contract on one chain: what the chain says goes into the store, in one transaction per step.

Near the head blocks are walked by their parents' hashes and their logs read by block hash. Far behind, logs are read by
ranges of final blocks. Whatever becomes final is read a second time by range and counted against the contract's own
counter, because endpoints leave logs out (lotus#12078). What is remembered outside the store may be lost at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import structlog

from bridge.chain.client import Block, ChainClient, Log
from bridge.chain.cursor import Advance, CatchUp, Fetch, Stay, Window, advanced, final_block, passed_by, plan
from bridge.chain.events import Event, JobRequested, UndecodableLog, decode_log
from bridge.chain.views import BridgeViews
from bridge.config import BridgeConfig
from bridge.errors import FatalError, NullRound, RpcRefused, RpcUnavailable
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
from executor.errors import InvalidInput

log = structlog.get_logger("bridge.listener")

FIRST_RANGE = 500  # epochs in one eth_getLogs; halved when refused, grown when not
LARGEST_RANGE = 2000  # Lotus takes 2880, others less
NEAR_HEAD = 16  # so many new blocks are read by hash, one by one; more by range, checked against their hashes
LOWER_POLLS = 2  # a lower head on another branch is believed when it is seen so often in a row
MAX_NULL_ROUNDS = 500  # in a row; longer than any that Filecoin had
NO_HASH = bytes(32)


class Listener:
    """One step looks at the head once. `clock` gives seconds since 1970."""

    def __init__(self, engine: Engine, client: ChainClient, config: BridgeConfig, clock: Callable[[], float]) -> None:
        self._engine = engine
        self._client = client
        self._chain = config.chain
        self._clock = clock
        self._scope = Scope(config.chain.chain_id, config.chain.bridge_contract)
        self._views = BridgeViews(client, config.chain.bridge_contract)
        self._range = FIRST_RANGE
        self._lower_seen = 0
        self._genesis_checked = False
        self.undecodable = 0  # logs that were refused since the start
        self.late = 0  # events that only the second reading found

    def step(self) -> bool:
        """Look at the chain once; True when something was stored.

        RpcUnavailable, RpcRefused: try again later, nothing was stored. FatalError: another chain, or a reorg below
        what was final.
        """
        if self._client.chain_id() != self._chain.chain_id:
            raise FatalError(f"the endpoint is not on chain {self._chain.chain_id}; check chain.rpc_url")
        with reading(self._engine) as connection:
            cursor, window = load_cursor(connection, self._scope), load_window(connection)
        head = self._client.head()
        if cursor is None and not window:
            self._start(head)
            return True
        if cursor is None or not window or window[-1].hash != cursor.scanned_hash:
            raise FatalError("this database follows another contract; use another data_dir, or: insula bridge rebuild")
        if not self._genesis_checked:
            self._check_genesis(cursor)
        if self._follow(cursor, window, head):
            return True
        return self._pass_final(cursor, window)

    # -- start ----------------------------------------------------------------------------------------------------

    def _start(self, head: Block) -> None:
        if not self._client.code(self._chain.bridge_contract):
            raise FatalError(f"there is no contract at {self._chain.bridge_contract}; check chain.bridge_contract")
        oldest = max(0, min(self._chain.deploy_block - 1, head.number - self._chain.finality_depth))
        anchor = self._block_near(oldest, 0, head.number)
        genesis = self._client.genesis_hash() or NO_HASH
        cursor = Cursor(genesis, anchor.number, anchor.hash, anchor.number, anchor.hash)
        with transaction(self._engine) as connection:
            create_cursor(connection, self._scope, cursor, anchor, self._clock())
        self._genesis_checked = True
        log.info("following the chain", contract=self._scope.contract, from_block=anchor.number, head=head.number)

    def _check_genesis(self, cursor: Cursor) -> None:
        genesis = self._client.genesis_hash()
        if genesis is not None and cursor.genesis_hash not in (NO_HASH, genesis):
            raise FatalError("the endpoint's chain has another first block: it was reset, or is another one")
        self._genesis_checked = True

    # -- near the head --------------------------------------------------------------------------------------------

    def _follow(self, cursor: Cursor, window: Window, head: Block) -> bool:
        decision = self._decide(window, head)
        if isinstance(decision, Stay):
            if decision is not Stay.SAME:
                self._genesis_checked = False  # a lower head may be a chain that was reset
                log.info("not moving", reason=decision.value, head=head.number, ours=window[-1].number)
            return False
        if isinstance(decision, CatchUp):
            self._catch_up(cursor, window, decision.target)
            return True
        found, _ = self._events(self._logs_of(decision.new))
        after = advanced(window, decision)
        with transaction(self._engine) as connection:
            touched = delete_blocks(connection, decision.orphaned)
            insert_blocks(connection, decision.new)
            moved = replace(cursor, scanned_number=after[-1].number, scanned_hash=after[-1].hash)
            self._store(connection, cursor, moved, touched, found)
            promote(connection, moved.scanned_number, self._chain.confirmation_depth, self._clock())
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

    def _logs_of(self, new: Window) -> list[Log]:
        """The logs of blocks that are about to join the window, and of no others."""
        if len(new) <= NEAR_HEAD:
            return [entry for block in new for entry in self._client.logs_by_hash(block.hash, self._scope.contract)]
        return self._logs_between(new[0].number, new[-1].number, {block.number: block.hash for block in new})

    # -- far behind -----------------------------------------------------------------------------------------------

    def _catch_up(self, cursor: Cursor, window: Window, target: int) -> None:
        """Read one range of final blocks. The window shrinks to the range's last block, which is final.

        The range begins behind the last final block: what the window has of it was read only once so far.
        """
        kept = self._still_canonical(window)
        tip, first = kept[-1], cursor.final_number + 1
        last = self._block_near(min(tip.number + self._range, target), tip.number + 1, target)
        entries = self._client_logs(first, last.number)
        self._check_headers(entries, last)
        found, refused = self._events(entries)
        self._check_count(cursor.final_number, last.number, found, refused)
        with transaction(self._engine) as connection:
            touched = delete_blocks(connection, window[len(kept) :])
            insert_blocks(connection, (last,))
            prune_blocks(connection, last.number)
            moved = Cursor(cursor.genesis_hash, last.number, last.hash, last.number, last.hash)
            self._store(connection, cursor, moved, touched, found)
        log.info("caught up", to_block=last.number, target=target, events=len(found))

    def _still_canonical(self, window: Window) -> Window:
        for place in range(len(window) - 1, -1, -1):
            if self._hash_at(window[place].number) == window[place].hash:
                return window[: place + 1]
        if self._hash_at(window[0].number) is None:
            raise RpcUnavailable(f"the endpoint does not show block {window[0].number}")
        raise passed_by(window[0])

    def _check_headers(self, entries: Sequence[Log], last: Block) -> None:
        """Every log's block must be the canonical one of its number, and the range's last block still the same."""
        named = {(entry.block_number, entry.block_hash) for entry in entries} | {(last.number, last.hash)}
        for number, block_hash in sorted(named):
            if self._hash_at(number) != block_hash:
                raise RpcUnavailable(f"the endpoint contradicts itself about block {number}")

    def _hash_at(self, number: int) -> bytes | None:
        try:
            return self._client.block_by_number(number).hash
        except NullRound:
            return None

    def _block_near(self, number: int, lowest: int, highest: int) -> Block:
        """The newest block at or below `number`, down to `lowest`; else the oldest one above, up to `highest`."""
        down = range(number, max(lowest, number - MAX_NULL_ROUNDS) - 1, -1)
        up = range(number + 1, min(highest, number + MAX_NULL_ROUNDS) + 1)
        for candidate in (*down, *up):
            try:
                return self._client.block_by_number(candidate)
            except NullRound:
                continue
        raise RpcUnavailable(f"the endpoint has no block near {number}")

    # -- the second reading ---------------------------------------------------------------------------------------

    def _pass_final(self, cursor: Cursor, window: Window) -> bool:
        """Read what has become final once more, by range, and count it."""
        final = final_block(window, self._chain.finality_depth)
        if final.number <= cursor.final_number:
            return False
        first = cursor.final_number + 1
        entries = self._logs_between(first, final.number, {b.number: b.hash for b in window})
        found, refused = self._events(entries)
        self._check_count(cursor.final_number, final.number, found, refused)
        with transaction(self._engine) as connection:
            moved = replace(cursor, final_number=final.number, final_hash=final.hash)
            late = self._store(connection, cursor, moved, set(), found)
            prune_blocks(connection, final.number)
        if late:
            self.late += late
            log.warning("events were missing at first", requests=late, from_block=first, to_block=final.number)
        return True

    def _check_count(self, before: int, last: int, found: Sequence[Event], refused: int) -> None:
        """The contract counts its requests: as many must have been found. An endpoint without that state is let off."""
        try:
            counted = self._views.request_count(last) - self._views.request_count(before)
        except (RpcRefused, InvalidInput):
            return
        requests = len({event.request_hash for event in found if isinstance(event, JobRequested)})  # some come twice
        if requests + refused < counted:
            raise RpcUnavailable(
                f"the contract took {counted} requests in blocks {before + 1}..{last}, the endpoint shows {requests}"
            )

    # -- reading and storing --------------------------------------------------------------------------------------

    def _logs_between(self, first: int, last: int, hashes: dict[int, bytes]) -> list[Log]:
        entries: list[Log] = []
        while first <= last:
            end = min(first + self._range - 1, last)
            entries += self._client_logs(first, end, hashes)
            first = end + 1
        for entry in entries:
            if hashes.get(entry.block_number) != entry.block_hash:
                raise RpcUnavailable(f"the endpoint's log in block {entry.block_number} is of another block")
        return entries

    def _client_logs(self, first: int, last: int, hashes: dict[int, bytes] | None = None) -> list[Log]:
        """Logs of a range that is halved as often as the endpoint refuses it; a single block is read by its hash."""
        try:
            entries = self._client.logs_by_range(first, last, self._scope.contract)
        except RpcRefused as exc:
            if first == last:
                block_hash = (hashes or {}).get(first) or self._hash_at(first)
                return [] if block_hash is None else self._client.logs_by_hash(block_hash, self._scope.contract)
            middle = (first + last) // 2
            self._range = max(1, middle - first + 1)
            log.info("range refused, halving", first=first, last=last, reason=str(exc))
            return self._client_logs(first, middle, hashes) + self._client_logs(middle + 1, last, hashes)
        self._range = min(LARGEST_RANGE, self._range + self._range // 10 + 1)
        return entries

    def _events(self, entries: Sequence[Log]) -> tuple[list[Event], int]:
        """The events in logs, and how many logs were refused."""
        refused = 0
        found: list[Event] = []
        for entry in entries:
            try:
                event = decode_log(entry, self._chain.chain_id)
            except UndecodableLog as exc:
                refused += 1
                log.warning("log refused", error=str(exc), block=entry.block_number, tx="0x" + entry.tx_hash.hex())
                continue
            if event is not None:
                found.append(event)
        self.undecodable += refused
        return found, refused

    def _store(
        self, connection: Connection, before: Cursor, after: Cursor, touched: set[bytes], found: Sequence[Event]
    ) -> int:
        """Events, jobs and cursor together; how many requests had new events."""
        now = self._clock()
        save_cursor(connection, self._scope, before, after, now)
        added = add_events(connection, found)
        for request_hash in sorted(touched | added):
            mirror(connection, self._scope, request_hash, now)
        finalise(connection, after.final_number, now)
        return len(added)
