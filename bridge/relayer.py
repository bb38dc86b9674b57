"""Sends what the outbox holds, once in effect however often on the wire.

Signed bytes are in the store before they first leave. Whether a delivery succeeded is asked of the contract; receipts
and nonces only tell what to try next (`bridge.chain.sendstate`). Killed between any two commits, the next step goes on.
`bridge.survey` asks the chain, this module decides for each row, `bridge.posting` and `bridge.sender` act.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import structlog
from structlog.contextvars import bound_contextvars

from bridge.chain.budget import usual_cost
from bridge.chain.client import ChainClient
from bridge.chain.contracts import expire_calldata
from bridge.chain.sendstate import Mined, SendAnswer, Sending, Standing, Step, classify_send_error, next_step
from bridge.chain.signer import TxSigner
from bridge.config import BridgeConfig
from bridge.errors import BridgeError, RpcUnavailable, StaleTransition
from bridge.jobs import OPEN_STATES, JobState
from bridge.posting import Poster
from bridge.sender import DAY_SECONDS, Sender
from bridge.store import outbox, senders
from bridge.store.engine import Connection, Engine, reading, transaction
from bridge.store.jobs import Job, jobs_of, overdue_jobs, scanned_number, scanned_time
from bridge.store.outbox import Attempt, Delivery, Item, Move, SendState
from bridge.survey import Case, Survey, Surveyor
from bridge.watch import Alarm, Watch

log = structlog.get_logger("bridge.relayer")

LEFT_OUT_BLOCKS = 2  # above a batch, before what it left out goes alone

#: the steps that only move the row
_MOVES = {
    Step.FINISH: (SendState.DONE, "the contract says so"),
    Step.SUPERSEDE: (SendState.SUPERSEDED, "the contract holds something else"),
    Step.GIVE_UP_NONCE: (SendState.NEW, "its nonce was used without effect"),
    Step.SEND_SINGLY: (SendState.NEW, "its batch left it out; it goes alone"),
    Step.KEEP_RECEIPT: (SendState.MINED, ""),
}


@dataclass
class _Round:
    """What one step has seen and is about to do."""

    chain: Survey
    blocks: dict[int, bytes | None]  # canonical hashes of the blocks that receipts name
    cases: Sequence[Case]
    sign: list[Case] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    handled: set[int] = field(default_factory=set)  # nonces whose bytes went out


class Relayer:
    """One step looks at every delivery once. `clock` gives seconds since 1970; one Relayer per (chain, key).

    `owner` names this process among those on one database; empty: this machine and its data folder, so that a process
    that starts again takes up its own lease.
    """

    def __init__(
        self,
        engine: Engine,
        client: ChainClient,
        signer: TxSigner,
        config: BridgeConfig,
        clock: Callable[[], float],
        *,
        watch: Watch | None = None,
        owner: str = "",
    ) -> None:
        self._engine = engine
        self._client = client
        self._watch = Watch() if watch is None else watch
        name = owner or f"{platform.node()}:{config.data_dir.absolute()}"[:300]
        self._sender = Sender(engine, client, signer, config, clock, self._watch, name)
        self._poster = Poster(engine, client, self._sender, config, clock, self._watch)
        self._surveyor = Surveyor(client, config.chain.chain_id, config.chain.bridge_contract, signer.address)
        self._chain = config.chain
        self._config = config.relayer
        self._clock = clock
        self._page_after = 0  # an outbox row: those that were not signed yet are looked at in pages

    @property
    def address(self) -> str:
        """Who sends; what attestations should name as their relayer."""
        return self._sender.address

    @property
    def is_paused(self) -> bool:
        """Whether new transactions wait for funds."""
        return self._sender.is_paused

    def step(self) -> bool:
        """Look at all deliveries once; True when something moved. RpcUnavailable: try again later.

        With nothing in the outbox and no nonce open, nothing is asked of the endpoint.
        """
        if not self._sender.hold_lease():
            return False
        moved = self._config.expire_requests and self._enqueue_refunds()
        with reading(self._engine) as connection:
            tip = scanned_number(connection, self._chain.chain_id, self._chain.bridge_contract)
            cases = _cases(connection, self._page_after)
            self._page_after = _next_page(cases)
            if tip is None or (not cases and self._sender.is_settled(connection)):
                return moved
            unseen = senders.without_receipt(connection, self.address, self._clock() - DAY_SECONDS)
        final = max(0, tip - self._chain.finality_depth)
        chain = self._surveyor.look(tip, final, cases, unseen)
        self._note_receipts(chain)
        cases = [case.noted(chain.mined) for case in cases]
        self._watch_money(chain)
        numbers = {number for case in cases for number in case.blocks}
        seen = _Round(chain, self._surveyor.canonical(numbers, chain.headers), cases)
        for case in cases:
            moved |= self._look_at(case, seen)
        moved |= self._move_all(seen)
        moved |= self._poster.post(seen.sign, chain)
        return self._filled(chain) or moved

    def _enqueue_refunds(self) -> bool:
        now = self._clock()
        with reading(self._engine) as connection:  # first, so that no other writer waits when there is nothing to do
            if not overdue_jobs(connection, scanned_time(connection), 1):
                return False
        with transaction(self._engine) as connection:
            due = overdue_jobs(connection, scanned_time(connection))
            for job in due:
                calldata = expire_calldata(job.request.id, job.request.order)
                outbox.enqueue(connection, job.request_hash, Delivery.EXPIRE, calldata, now)
        return bool(due)

    def _note_receipts(self, chain: Survey) -> None:
        """Store receipts when they are first seen: endpoints forget them."""
        if not chain.mined:
            return
        with transaction(self._engine) as connection:
            for mining in chain.mined.values():
                outbox.note_mined(connection, mining.receipt, mining.gas_price)
        for tx_hash, mining in chain.mined.items():
            receipt = mining.receipt
            self._watch.count("spent_wei", receipt.gas_used * (mining.gas_price or 0))
            log.info("transaction mined", tx="0x" + tx_hash.hex(), block=receipt.block_number, ok=receipt.ok)

    def _watch_money(self, chain: Survey) -> None:
        now = self._clock()
        self._watch.set("balance_wei", chain.balance)
        with reading(self._engine) as connection:
            self._watch.set("spent_today_wei", self._sender.spent_today(connection))
            usual = usual_cost(senders.samples(connection, self.address, Delivery.FULFIL))
        if not usual:
            return
        left = chain.balance // usual
        self._watch.set("balance_deliveries", left)
        if left >= self._config.low_balance_deliveries:
            self._watch.over(Alarm.LOW_BALANCE, now)
            return
        self._watch.alarm(Alarm.LOW_BALANCE, f"{self.address} can pay for {left} more deliveries", now)

    def _filled(self, chain: Survey) -> bool:
        try:
            return self._sender.fill_nonces(chain)
        except StaleTransition:
            self._sender.lose_lease()
            return False

    # -- one delivery ---------------------------------------------------------------------------------------------

    def _look_at(self, case: Case, seen: _Round) -> bool:
        """Look at one delivery; what is wrong with it keeps no other one waiting."""
        with bound_contextvars(**case.job.trace, delivery=case.item.kind.value):
            trouble = seen.chain.seen[case.item.id].trouble
            try:
                if isinstance(trouble, RpcUnavailable):
                    return False
                return self._poster.postpone(case.item, str(trouble)) if trouble else self._advance(case, seen)
            except StaleTransition:
                self._sender.lose_lease()
                return False

    def _advance(self, case: Case, seen: _Round) -> bool:
        if case.item.state in outbox.ENDED:
            return self._recheck(case, seen.chain)
        sending = self._sending(case, seen)
        step = next_step(sending, self._config.resend_after_seconds, self._config.bump_after_seconds)
        return self._do(step, case, seen)

    def _do(self, step: Step, case: Case, seen: _Round) -> bool:
        if step in _MOVES:
            return self._move(step, case.item, seen)
        if step is Step.KILL:
            return self._poster.kill(case.item, "it was mined and failed too often")
        if step is Step.SIGN:
            seen.sign.append(case)
        if step is Step.RESEND:
            return self._once(case, seen, self._resend)
        if step is Step.RAISE:
            return self._once(case, seen, self._raise_fees)
        if step is Step.FORGET_RECEIPT:
            with transaction(self._engine) as connection:
                outbox.forget_receipts(connection, case.item, self._clock())
            return True
        return False

    def _move(self, step: Step, item: Item, seen: _Round) -> bool:
        if step is Step.SUPERSEDE and seen.chain.seen[item.id].is_conflict:
            detail = f"request 0x{item.request_hash.hex()} holds another outcome than ours"
            self._watch.alarm(Alarm.OUTCOME_CONFLICT, detail, self._clock())
        seen.moves.append((item, *_MOVES[step]))
        return False

    def _move_all(self, seen: _Round) -> bool:
        """Move the rows that only move in one transaction; each in its own when somebody moved one meanwhile."""
        try:
            self._poster.move_all(seen.moves)
        except StaleTransition:
            self._sender.lose_lease()
            for move in seen.moves:
                with suppress(StaleTransition):
                    self._poster.move_all([move])
        return bool(seen.moves)

    def _recheck(self, case: Case, chain: Survey) -> bool:
        """A delivery that had ended, while its job still waits: the end may have left the chain unseen."""
        if chain.seen[case.item.id].standing is not Standing.OPEN or not self._is_wanted(case, chain):
            return False
        self._revive(case.item)
        return True

    def _revive(self, item: Item) -> None:
        with transaction(self._engine) as connection:
            outbox.revive(connection, item.request_hash, item.kind, self._clock())

    def _is_wanted(self, case: Case, chain: Survey) -> bool:
        """Whether the job waits for this delivery, and its request is deep enough to be answered."""
        job = case.job
        if chain.tip - job.block_number < self._chain.posting_depth:
            return False
        if case.item.kind is Delivery.FULFIL:
            return job.state is JobState.POSTING
        is_due = chain.head.timestamp > job.request.deadline
        return (is_due if case.item.kind is Delivery.EXPIRE else job.cancel_marked) and job.state in OPEN_STATES

    def _sending(self, case: Case, seen: _Round) -> Sending:
        signed = case.item.state is not SendState.NEW and bool(case.attempts)
        live = case.live if signed else ()
        now = self._clock()
        mined = self._mined(live, case.attempts, seen)
        refused_low = signed and classify_send_error(live[-1].error) is SendAnswer.UNDERPRICED
        sent_at = live[-1].sent_at if signed else None
        age = now - live[-1].signed_at if signed else 0.0
        since_sent = None if sent_at is None or now < sent_at else now - sent_at  # a clock that went back: at once
        return Sending(
            signed=signed,
            wanted=self._is_wanted(case, seen.chain),
            standing=seen.chain.seen[case.item.id].standing,
            mined=mined,
            kept_receipt=case.item.state is SendState.MINED,
            left_out=mined is Mined.OK and _was_left_out(case.attempts, seen.chain),
            nonce_gone=mined is Mined.NO and signed and self._is_gone(live[-1].nonce, seen),
            failures=len({a.nonce for a in case.attempts if a.mined_ok is False and not a.is_batch}),
            since_sent=since_sent,
            since_signed=self._config.bump_after_seconds if refused_low else age,
        )

    def _mined(self, live: Sequence[Attempt], attempts: Sequence[Attempt], seen: _Round) -> Mined:
        # An earlier batch that succeeded has left this delivery out; an earlier transaction of its own has not.
        earlier = [a for a in attempts if a.mined_ok and not a.is_batch and a not in live]
        known = [attempt for attempt in [*live, *earlier] if attempt.mined_block_number is not None]
        if not live or not known:
            return Mined.NO
        if any(seen.blocks.get(a.mined_block_number or 0) != a.mined_block_hash for a in known):
            return Mined.REORGED
        return Mined.OK if any(attempt.mined_ok for attempt in known) else Mined.FAILED

    @staticmethod
    def _is_gone(nonce: int, seen: _Round) -> bool:
        """Whether a final block's state has this nonce used."""
        return seen.chain.final_count is not None and min(seen.chain.count, seen.chain.final_count) > nonce

    # -- one transaction ------------------------------------------------------------------------------------------

    def _once(self, case: Case, seen: _Round, act: Callable[[list[Item], Attempt, Survey], bool]) -> bool:
        """Do this once for a transaction, however many of the rows that it carries ask for it."""
        newest = case.live[-1]
        if newest.nonce in seen.handled:
            return False
        seen.handled.add(newest.nonce)
        carried = [
            other.item
            for other in seen.cases
            if other.item.state in outbox.IN_FLIGHT and other.attempts and other.attempts[-1].nonce == newest.nonce
        ]
        with reading(self._engine) as connection:
            now_so = {item.id: item for item in outbox.items_by_id(connection, [item.id for item in carried])}
        still = [now_so[item.id] for item in carried if now_so[item.id].state in outbox.IN_FLIGHT]
        return bool(still) and act(still, newest, seen.chain)

    def _resend(self, items: list[Item], newest: Attempt, _: Survey) -> bool:
        return self._poster.send(items, newest)

    def _raise_fees(self, items: list[Item], newest: Attempt, chain: Survey) -> bool:
        attempt = self._sender.raised(items, newest, chain)
        if attempt is not None:
            return self._poster.send(items, attempt)
        sent_at = newest.sent_at
        is_due = sent_at is None or self._clock() - sent_at >= self._config.resend_after_seconds
        return is_due and self._poster.send(items, newest)


def _cases(connection: Connection, after: int) -> list[Case]:
    items = outbox.work(connection, after)
    if not items:
        return []
    attempts = outbox.attempts_for(connection, [item.id for item in items])
    jobs = jobs_of(connection, [item.request_hash for item in items])
    return [Case(item, _existing(jobs, item.request_hash), attempts[item.id]) for item in items]


def _next_page(cases: Sequence[Case]) -> int:
    """The row behind which the next step looks for deliveries to sign: 0 after the last page."""
    unsigned = [case.item.id for case in cases if case.item.state is SendState.NEW]
    return unsigned[-1] if len(unsigned) >= outbox.PAGE else 0


def _existing(jobs: Mapping[bytes, Job], request_hash: bytes) -> Job:
    if request_hash not in jobs:
        raise BridgeError(f"the outbox names request 0x{request_hash.hex()}, which has no job")
    return jobs[request_hash]


def _was_left_out(attempts: Sequence[Attempt], chain: Survey) -> bool:
    """Whether the newest transaction is a batch that succeeded, some blocks below the head and the listener's tip.

    Not at once: an endpoint may show its newest head and receipts with the contract's state of a block before.
    """
    newest = [attempt for attempt in attempts if attempt.nonce == attempts[-1].nonce and attempt.mined_ok]
    seen = min(chain.head.number, chain.tip)
    return any(a.is_batch and seen >= (a.mined_block_number or 0) + LEFT_OUT_BLOCKS for a in newest)
