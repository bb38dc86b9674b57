"""Sends what the outbox holds, once in effect however often on the wire.

Signed bytes are in the store before they first leave. Whether a delivery succeeded is asked of the contract; receipts
and nonces only tell what to try next (`bridge.chain.sendstate`). Killed between any two commits, the next step goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog
from structlog.contextvars import bound_contextvars

from bridge.chain.client import Block, ChainClient
from bridge.chain.contracts import expire_calldata, fulfilled_outcome
from bridge.chain.sendstate import Mined, SendAnswer, Sending, Standing, Step, classify_send_error, next_step
from bridge.chain.signer import TxSigner
from bridge.chain.simulate import Verdict, WouldRevert, needed_gas
from bridge.chain.views import BridgeViews
from bridge.config import BridgeConfig
from bridge.errors import BridgeError, FatalError, NullRound, RpcRefused, RpcUnavailable, StaleTransition
from bridge.jobs import OPEN_STATES, JobState
from bridge.sender import NotNow, Sender
from bridge.store import outbox
from bridge.store.chain import scanned_time
from bridge.store.engine import Connection, Engine, reading, transaction
from bridge.store.jobs import Job, get_job, overdue_jobs, scanned_number
from bridge.store.outbox import Attempt, Delivery, Item, SendState
from executor.errors import InvalidInput
from executor.protocol.wire import OnChainState, result_digest

log = structlog.get_logger("bridge.relayer")

#: the steps that only move the row
_MOVES = {
    Step.FINISH: (SendState.DONE, "the contract says so"),
    Step.SUPERSEDE: (SendState.SUPERSEDED, "the contract holds something else"),
    Step.KILL: (SendState.DEAD, "it was mined and failed too often"),
    Step.GIVE_UP_NONCE: (SendState.NEW, "its nonce was used without effect"),
    Step.KEEP_RECEIPT: (SendState.MINED, ""),
}
_SETTLED = (OnChainState.FULFILLED, OnChainState.FAILED, OnChainState.REFUSED, OnChainState.WITHHELD)


@dataclass(frozen=True)
class _Chain:
    """The chain as one step sees it."""

    head: Block
    count: int  # transactions that our account has on-chain
    tip: int  # the listener's newest block


class Relayer:
    """One step looks at every delivery once. `clock` gives seconds since 1970; one Relayer per (chain, key)."""

    def __init__(
        self,
        engine: Engine,
        client: ChainClient,
        signer: TxSigner,
        config: BridgeConfig,
        clock: Callable[[], float],
    ) -> None:
        self._engine = engine
        self._client = client
        self._sender = Sender(engine, client, signer, config, clock)
        self._chain = config.chain
        self._config = config.relayer
        self._clock = clock
        self._views = BridgeViews(client, config.chain.bridge_contract)
        self._not_before: dict[int, float] = {}
        self._chain_checked = False
        self._count_seen = 0  # nonces below it are used up

    @property
    def address(self) -> str:
        """Who sends; what attestations should name as their relayer."""
        return self._sender.address

    @property
    def is_paused(self) -> bool:
        """Whether new transactions wait for funds."""
        return self._sender.is_paused

    def step(self) -> bool:
        """Look at all deliveries once; True when something moved. RpcUnavailable: try again later."""
        self._check_chain()
        with reading(self._engine) as connection:
            tip = scanned_number(connection, self._chain.chain_id, self._chain.bridge_contract)
            if tip is None or not self._has_work(connection):
                return False
        chain = _Chain(self._client.poll(at_least=tip).head, self._client.nonce(self.address), tip)
        self._count_seen = chain.count
        moved = self._config.expire_requests and self._enqueue_refunds(chain)
        with reading(self._engine) as connection:
            items = outbox.work(connection)
        for item in items:
            moved |= self._look_at(item, chain)
        return self._sender.fill_nonces(chain.count) or moved

    def _has_work(self, connection: Connection) -> bool:
        """Whether the chain need be asked at all: a bridge at rest makes no calls here."""
        known = outbox.next_nonce(connection, self._chain.chain_id, self.address) or 0
        if known > self._count_seen or outbox.work(connection, limit=1):
            return True
        return self._config.expire_requests and bool(overdue_jobs(connection, scanned_time(connection), limit=1))

    def _check_chain(self) -> None:
        if not self._chain_checked and self._client.chain_id() != self._chain.chain_id:
            raise FatalError(f"the endpoint is not on chain {self._chain.chain_id}; check chain.rpc_urls")
        self._chain_checked = True

    def _enqueue_refunds(self, chain: _Chain) -> bool:
        now = self._clock()
        with transaction(self._engine) as connection:
            due = overdue_jobs(connection, chain.head.timestamp)
            for job in due:
                calldata = expire_calldata(job.request.id, job.request.order)
                outbox.enqueue(connection, job.request_hash, Delivery.EXPIRE, calldata, now)
        return bool(due)

    # -- one delivery ---------------------------------------------------------------------------------------------

    def _look_at(self, item: Item, chain: _Chain) -> bool:
        """Look at one delivery; what is wrong with it keeps no other one waiting."""
        try:
            with reading(self._engine) as connection:
                job, attempts = _existing(connection, item.request_hash), outbox.attempts_of(connection, item.id)
            with bound_contextvars(**job.trace, delivery=item.kind.value):
                return self._advance(item, job, attempts, chain)
        except RpcUnavailable:
            raise
        except (StaleTransition, NullRound):
            return False
        except (RpcRefused, InvalidInput) as exc:
            return self._postpone(item, str(exc))

    def _advance(self, item: Item, job: Job, attempts: list[Attempt], chain: _Chain) -> bool:
        standing = self._standing(item, job)
        if item.state in outbox.ENDED:
            return self._recheck(item, job, standing, chain)
        attempts = [self._with_receipt(attempt) for attempt in attempts]
        sending = self._sending(item, job, attempts, standing, chain)
        step = next_step(sending, self._config.resend_after_seconds, self._config.bump_after_seconds)
        return self._do(step, item, job, attempts, chain)

    def _do(self, step: Step, item: Item, job: Job, attempts: list[Attempt], chain: _Chain) -> bool:
        if step in _MOVES:
            return self._move(item, *_MOVES[step])
        if step is Step.SIGN:
            return self._sign(item, job, chain)
        if step is Step.RESEND:
            return self._send(item, _live(attempts)[-1])
        if step is Step.RAISE:
            return self._raise_fees(item, _live(attempts))
        if step is Step.FORGET_RECEIPT:
            self._revive(item)
            return True
        return False

    def _standing(self, item: Item, job: Job) -> Standing:
        result = self._views.result_of(job.request.id)
        if result.state is OnChainState.UNKNOWN:
            return Standing.ELSEWHERE
        if result.state is OnChainState.REQUESTED:
            same = self._views.request_hash(job.request.id) == item.request_hash
            return Standing.OPEN if same else Standing.ELSEWHERE
        if item.kind is Delivery.EXPIRE:
            ours = result.state is OnChainState.EXPIRED
        elif item.kind is Delivery.DRAW:
            ours = result.state is OnChainState.CANCELLED
        else:
            digest = result_digest(item.request_hash, fulfilled_outcome(item.calldata).hash)
            ours = result.state in _SETTLED and result.digest == digest
        return Standing.OURS if ours else Standing.OTHER

    def _recheck(self, item: Item, job: Job, standing: Standing, chain: _Chain) -> bool:
        """A delivery that had ended, while its job still waits: the end may have left the chain unseen."""
        if standing is not Standing.OPEN or not self._is_wanted(item, job, chain):
            return False
        self._revive(item)
        return True

    def _is_wanted(self, item: Item, job: Job, chain: _Chain) -> bool:
        """Whether the job waits for this delivery, and its request is deep enough to be answered."""
        if chain.tip - job.block_number < self._chain.posting_depth:
            return False
        if item.kind is Delivery.FULFIL:
            return job.state is JobState.POSTING
        is_due = chain.head.timestamp > job.request.deadline if item.kind is Delivery.EXPIRE else job.cancel_marked
        return is_due and job.state in OPEN_STATES

    def _sending(self, item: Item, job: Job, attempts: list[Attempt], standing: Standing, chain: _Chain) -> Sending:
        signed = item.state is not SendState.NEW and bool(attempts)
        live = _live(attempts) if signed else []
        now = self._clock()
        mined = self._mined(live, attempts)
        nonce_gone = mined is Mined.NO and signed and self._is_gone(live[-1].nonce, chain)
        refused_low = signed and classify_send_error(live[-1].error) is SendAnswer.UNDERPRICED
        sent_at = live[-1].sent_at if signed else None
        age = now - live[-1].signed_at if signed else 0.0
        return Sending(
            signed=signed,
            wanted=self._is_wanted(item, job, chain),
            standing=standing,
            mined=mined,
            kept_receipt=item.state is SendState.MINED,
            nonce_gone=nonce_gone,
            failures=len({attempt.nonce for attempt in attempts if attempt.mined_ok is False}),
            since_sent=None if sent_at is None else now - sent_at,
            since_signed=self._config.bump_after_seconds if refused_low else age,
        )

    def _with_receipt(self, attempt: Attempt) -> Attempt:
        """The attempt with its receipt, stored when first seen: endpoints forget them."""
        if attempt.mined_block_hash is not None:
            return attempt
        receipt = self._client.receipt(attempt.tx_hash)
        if receipt is None:
            return attempt
        with transaction(self._engine) as connection:
            outbox.note_mined(connection, attempt.tx_hash, receipt.block_hash, receipt.block_number, receipt.ok)
        log.info("transaction mined", tx="0x" + attempt.tx_hash.hex(), block=receipt.block_number, ok=receipt.ok)
        return replace(
            attempt, mined_block_hash=receipt.block_hash, mined_block_number=receipt.block_number, mined_ok=receipt.ok
        )

    def _mined(self, live: list[Attempt], attempts: list[Attempt]) -> Mined:
        relevant = live + [attempt for attempt in attempts if attempt.mined_ok and attempt not in live]
        known = [attempt for attempt in relevant if attempt.mined_block_number is not None]
        if not live or not known:
            return Mined.NO
        for attempt in known:
            if not self._is_canonical(attempt):
                return Mined.REORGED
        return Mined.OK if any(attempt.mined_ok for attempt in known) else Mined.FAILED

    def _is_canonical(self, attempt: Attempt) -> bool:
        number = attempt.mined_block_number
        try:
            return number is not None and self._client.block_by_number(number).hash == attempt.mined_block_hash
        except NullRound:
            return False

    def _is_gone(self, nonce: int, chain: _Chain) -> bool:
        """Whether a final block's state has this nonce used. Asked only when the newest state says so."""
        if chain.count <= nonce:
            return False
        final = max(0, chain.head.number - self._chain.finality_depth)
        return self._client.nonce(self.address, final) > nonce

    # -- signing and sending --------------------------------------------------------------------------------------

    def _sign(self, item: Item, job: Job, chain: _Chain) -> bool:
        if self._sender.is_paused or self._clock() < self._not_before.get(item.id, 0.0):
            return False
        delivers = item.kind is Delivery.FULFIL
        callback_gas = job.request.order.callback_gas if delivers else 0
        budget = self._config.max_subsidy_wei + (job.request.order.delivery_fee if delivers else 0)
        try:
            gas = needed_gas(self._client, self.address, self._chain.bridge_contract, item.calldata, callback_gas)
            attempt = self._sender.first(item, gas, chain.count, budget)
        except RpcUnavailable as exc:  # an estimate that takes too long must not keep the other deliveries waiting
            return self._postpone(item, f"its cost cannot be estimated: {exc}")
        except WouldRevert as exc:
            return self._kill(item, str(exc)) if exc.verdict is Verdict.NEVER else self._postpone(item, str(exc))
        except NotNow as exc:
            return self._postpone(item, str(exc))
        return attempt is not None and self._send(replace(item, state=SendState.SIGNED), attempt)

    def _raise_fees(self, item: Item, live: list[Attempt]) -> bool:
        attempt = self._sender.raised(item, live[-1])
        if attempt is not None:
            return self._send(item, attempt)
        sent_at = live[-1].sent_at
        is_due = sent_at is None or self._clock() - sent_at >= self._config.resend_after_seconds
        return is_due and self._send(item, live[-1])

    def _send(self, item: Item, attempt: Attempt) -> bool:
        """Hand stored bytes in. Only a clear "never" ends the delivery; anything else is looked at again."""
        answer, error = self._sender.hand_in(attempt)
        if answer is SendAnswer.INVALID:
            return self._kill(item, error)
        return self._move(item, SendState.SENT, error)

    # -- small moves ----------------------------------------------------------------------------------------------

    def _revive(self, item: Item) -> None:
        with transaction(self._engine) as connection:
            outbox.revive(connection, item.request_hash, item.kind, self._clock())

    def _move(self, item: Item, after: SendState, detail: str = "") -> bool:
        with transaction(self._engine) as connection:
            outbox.move_item(connection, item, after, self._clock(), detail)
        if after in (SendState.SUPERSEDED, SendState.DEAD):
            log.error("delivery ended", state=after.value, reason=detail)
        return True

    def _kill(self, item: Item, reason: str) -> bool:
        return self._move(item, SendState.DEAD, reason)

    def _postpone(self, item: Item, reason: str) -> bool:
        """Look at it again later; the reason is kept for whoever asks."""
        self._not_before[item.id] = self._clock() + self._config.resend_after_seconds
        if item.detail != reason[:4000]:
            log.warning("delivery postponed", request_hash="0x" + item.request_hash.hex(), reason=reason)
            self._move(item, item.state, reason)
        return False


def _existing(connection: Connection, request_hash: bytes) -> Job:
    job = get_job(connection, request_hash)
    if job is None:
        raise BridgeError(f"the outbox names request 0x{request_hash.hex()}, which has no job")
    return job


def _live(attempts: list[Attempt]) -> list[Attempt]:
    """The attempts under the newest nonce, newest last."""
    return [attempt for attempt in attempts if attempt.nonce == attempts[-1].nonce]
