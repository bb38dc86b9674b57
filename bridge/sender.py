"""One funded account: its lease, nonces, signatures, fees and caps. Used by the relayer alone, one per (chain, key).

A nonce is taken, the transaction signed and its bytes stored in one database transaction; only then are they sent. All
transactions under one nonce carry the same calldata, or are payments of nothing to ourselves that use the nonce up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import structlog

from bridge.chain.budget import Cost, beyond, earned, spent
from bridge.chain.client import ChainClient
from bridge.chain.fees import Fees, first_fees, raised_fees
from bridge.chain.sendstate import SendAnswer, classify_send_error
from bridge.chain.signer import Transaction, TxSigner
from bridge.config import BridgeConfig
from bridge.errors import BridgeError, NullRound, RpcError, RpcRefused, RpcUnavailable
from bridge.jobs import JobState
from bridge.store import outbox, senders
from bridge.store.engine import Connection, Engine, reading, transaction
from bridge.store.jobs import get_job, jobs_of
from bridge.store.outbox import Attempt, Delivery, Item, SendState
from bridge.survey import Survey
from bridge.watch import Alarm, Watch

log = structlog.get_logger("bridge.sender")

SELF_SEND_GAS = 21_000  # EVM; an endpoint's estimate is used where it is higher (Filecoin)
MAX_GAP = 64  # nonces looked at in one step; more than so many that others used at once are believed when final
MAX_PENDING = 128  # of the transactions that a predecessor may have left in the mempool
LEASE_SECONDS = 60.0
DAY_SECONDS = 86_400.0


class NotNow(BridgeError):
    """Nothing was signed; the message says why, and that may pass. `cause` is the metric's word for it."""

    def __init__(self, reason: str, cause: str) -> None:
        super().__init__(reason)
        self.cause = cause


class OverBudget(NotNow):
    """These rows may not cost their part of it."""

    def __init__(self, reason: str, items: Sequence[int]) -> None:
        super().__init__(reason, "budget")
        self.items = items


class Sender:
    """Signs and hands in. `clock` gives seconds since 1970, `owner` is this process among those on the database."""

    def __init__(
        self,
        engine: Engine,
        client: ChainClient,
        signer: TxSigner,
        config: BridgeConfig,
        clock: Callable[[], float],
        watch: Watch,
        owner: str,
    ) -> None:
        self._engine = engine
        self._client = client
        self._signer = signer
        self._chain_id = config.chain.chain_id
        self._contract = config.chain.bridge_contract
        self._config = config.relayer
        self._clock = clock
        self._watch = watch
        self._owner = owner
        self._paused_at: float | None = None
        self._lease_seen_until = 0.0
        self._settled_nonce = -1

    @property
    def address(self) -> str:
        """The account."""
        return self._signer.address

    @property
    def is_paused(self) -> bool:
        """Whether new transactions wait for funds."""
        return self._paused_at is not None and 0 <= self._clock() - self._paused_at < self._config.resend_after_seconds

    # -- one process a key ----------------------------------------------------------------------------------------

    def hold_lease(self) -> bool:
        """Take the lease, or renew it when half of it is over; False while another process has it."""
        now = self._clock()
        if 0 < self._lease_seen_until - now <= LEASE_SECONDS and self._lease_seen_until - now > LEASE_SECONDS / 2:
            return True
        with transaction(self._engine) as connection:
            holder = senders.take_lease(connection, self._chain_id, self.address, self._owner, now, now + LEASE_SECONDS)
        if holder is None:
            self._lease_seen_until = now + LEASE_SECONDS
            self._watch.over(Alarm.SENDER_ELSEWHERE, now)
            return True
        self._lease_seen_until = 0.0
        self._watch.alarm(Alarm.SENDER_ELSEWHERE, f"{holder.owner} sends with the key of {self.address}", now)
        return False

    def lose_lease(self) -> None:
        """Ask for the lease anew at the next step."""
        self._lease_seen_until = 0.0

    def _keep_lease(self, connection: Connection, now: float) -> None:
        senders.keep_lease(connection, self._chain_id, self.address, self._owner, now + LEASE_SECONDS)

    # -- signing --------------------------------------------------------------------------------------------------

    @property
    def has_room(self) -> bool:
        """Whether fewer transactions are under way than may be."""
        with reading(self._engine) as connection:
            return outbox.in_flight(connection) < self._config.max_in_flight

    def first(
        self, items: Sequence[Item], weights: Mapping[int, int], calldata: bytes, gas: int, chain: Survey
    ) -> Attempt | None:
        """A first transaction that carries `items` under a new nonce, stored, not sent; the rows are SIGNED.

        None while enough is in flight or the account has no funds. NotNow when the fees are beyond a cap; OverBudget
        when some rows' parts of the cost are above what they may cost.
        """
        fees = first_fees(chain.base_fee, chain.tip_fee, self._config.max_fee_per_gas_wei)
        if fees is None:
            self._watch.alarm(Alarm.FEES_AT_CAP, f"the base fee is {chain.base_fee} wei", self._clock())
            raise NotNow("the base fee is above relayer.max_fee_per_gas_wei", "base fee")
        at_most = gas * fees.max_fee
        with reading(self._engine) as connection:
            allowances, costs = self._allowances(connection, weights, None), self._costs_of_a_day(connection)
            known = senders.next_nonce(connection, self._chain_id, self.address)
        over = beyond(at_most, weights, allowances)
        if over:
            raise OverBudget(
                f"it may cost {at_most} wei; delivery fee, relayer.max_subsidy_wei and what was spent leave less", over
            )
        if not self._within_day(costs, None, at_most):
            raise NotNow("relayer.max_spend_per_day_wei is reached", "day cap")
        if chain.balance < at_most:
            self.pause("its balance does not cover the next delivery")
            return None
        at_least = self._lowest_nonce(chain, known)
        now = self._clock()
        with transaction(self._engine) as connection:
            if outbox.in_flight(connection) >= self._config.max_in_flight:
                return None
            self._keep_lease(connection, now)
            outbox.move_items(connection, [(item, SendState.SIGNED, "") for item in items], now)
            nonce = senders.take_nonce(connection, self._chain_id, self.address, at_least)
            unsigned = self._unsigned(nonce, self._contract, calldata, gas, fees)
            attempt = self._store(connection, weights, unsigned, now)
        self._watch.over(Alarm.NO_FUNDS, now)
        if attempt.is_batch:
            self._watch.count("batches")
            self._watch.count("batched_deliveries", len(items))
        return attempt

    def raised(self, items: Sequence[Item], newest: Attempt, chain: Survey) -> Attempt | None:
        """A replacement of `newest` with higher fees, stored, not sent; None at a cap or without funds."""
        fees = None if self.is_paused else self._raised_fees(newest, chain)
        if fees is None:
            return None
        now = self._clock()
        with transaction(self._engine) as connection:
            self._keep_lease(connection, now)
            outbox.move_items(connection, [(item, item.state, item.detail) for item in items], now)
            unsigned = self._unsigned(newest.nonce, newest.destination, newest.calldata, newest.gas, fees)
            attempt = self._store(connection, newest.weights, unsigned, now)
        self._watch.count("fee_raises")
        self._watch.over(Alarm.FEES_AT_CAP, now)
        return attempt

    def hand_in(self, attempt: Attempt) -> tuple[SendAnswer, str]:
        """Send stored bytes; what the endpoint thinks of them, and its words (empty: it has them).

        The caller notes the answer (`note`), in one transaction with what follows from it.
        """
        self._watch.count("transactions_sent" if attempt.sent_at is None else "transactions_resent")
        try:
            self._client.send_raw(attempt.raw)
        except RpcUnavailable as exc:  # they may have arrived: the same bytes go out again
            self.note_alone(attempt, str(exc))
            raise
        except RpcRefused as exc:
            return self._refused(attempt, exc.message)
        log.info("transaction sent", tx="0x" + attempt.tx_hash.hex(), nonce=attempt.nonce, carries=len(attempt.weights))
        return SendAnswer.KNOWN, ""

    def note(self, connection: Connection, attempt: Attempt, error: str) -> None:
        """Remember that these bytes were handed in, and what the endpoint said against it."""
        outbox.note_sending(connection, attempt.tx_hash, self._clock(), error)

    def note_alone(self, attempt: Attempt, error: str) -> None:
        """`note` in a transaction of its own."""
        with transaction(self._engine) as connection:
            self.note(connection, attempt, error)

    def is_taken_elsewhere(self, attempt: Attempt) -> bool:
        """Whether another endpoint takes stored bytes, or may later, that one would never take."""
        for other in self._client.others(0):
            try:
                other.send_raw(attempt.raw)
            except RpcUnavailable as exc:
                log.info("no second opinion", nonce=attempt.nonce, reason=str(exc))
                continue
            except RpcRefused as exc:
                return classify_send_error(exc.message) is not SendAnswer.INVALID
            return True
        return False

    def pause(self, reason: str) -> None:
        """Sign nothing new for a while: the account needs funds."""
        self._paused_at = self._clock()
        self._watch.alarm(Alarm.NO_FUNDS, f"{self.address}: {reason}", self._clock())
        log.error("relayer paused: send funds to its account", account=self.address, reason=reason)

    # -- money ----------------------------------------------------------------------------------------------------

    def spent_today(self, connection: Connection) -> int:
        """What the last 24 hours cost in wei: by receipts where they are known, else at most."""
        return spent(self._costs_of_a_day(connection))

    def _costs_of_a_day(self, connection: Connection) -> list[Cost]:
        return senders.costs_since(connection, self.address, self._clock() - DAY_SECONDS)

    def _within_day(self, costs: Sequence[Cost], nonce: int | None, at_most: int) -> bool:
        """Whether a transaction under a new nonce (None), or a replacement, stays within the cap of a day.

        `costs`: what the day cost until now.
        """
        before, after = spent(costs), spent([*costs, Cost(-1 if nonce is None else nonce, at_most)])
        cap, now = self._config.max_spend_per_day_wei, self._clock()
        if after <= cap:
            self._watch.over(Alarm.DAY_CAP, now)
            return True
        self._watch.alarm(Alarm.DAY_CAP, f"{before} wei of {cap} spent in 24 hours", now)
        return False

    def _allowances(self, connection: Connection, weights: Mapping[int, int], nonce: int | None) -> dict[int, int]:
        """What each row may still cost, apart from what is under `nonce` (which is about to be replaced)."""
        allowances = {}
        attempts, items = outbox.attempts_for(connection, weights), outbox.items_by_id(connection, weights)
        jobs = jobs_of(connection, [item.request_hash for item in items])
        for item in items:
            job = jobs.get(item.request_hash)
            fee = earned(job.request.order) if job and item.kind is Delivery.FULFIL else 0
            earlier = [a.cost_to(item.id) for a in attempts[item.id] if a.nonce != nonce]
            allowances[item.id] = fee + self._config.max_subsidy_wei - spent(earlier)
        return allowances

    # -- nonces ---------------------------------------------------------------------------------------------------

    def is_settled(self, connection: Connection) -> bool:
        """Whether a final block was seen to have used every nonce that was taken."""
        known = senders.next_nonce(connection, self._chain_id, self.address)
        return known is None or known <= self._settled_nonce

    def fill_nonces(self, chain: Survey) -> bool:
        """Use up the lowest nonce that no delivery needs any more, so that those after it are not kept waiting."""
        with reading(self._engine) as connection:
            known = senders.next_nonce(connection, self._chain_id, self.address) or 0
            upto = min(known, chain.count + MAX_GAP)
            under = [(n, outbox.attempts_at(connection, self.address, n)) for n in range(chain.count, upto)]
            free = next(((n, found) for n, found in under if not self._is_held(connection, found)), None)
        if free is None:
            if chain.final_count is not None and chain.count >= known > self._settled_nonce:
                self._settled_nonce = min(known, chain.final_count)
            return False
        return not self._is_used(free[1]) and self._fill(*free, chain)

    def _is_used(self, attempts: Sequence[Attempt]) -> bool:
        """Whether one of them is mined after all: the endpoint's count was that of a node that is behind."""
        for attempt in attempts:
            if attempt.mined_block_number is None:
                continue
            try:
                if self._client.block_by_number(attempt.mined_block_number).hash == attempt.mined_block_hash:
                    return True
            except NullRound:
                continue
        return False

    def _lowest_nonce(self, chain: Survey, known: int | None) -> int:
        """What the next nonce is at least; `known`: ours. NotNow while it is not sure that the chain is ahead of us."""
        if chain.count > (known or 0):
            self._check_count(chain, known)
        if known is not None:
            return chain.count
        # A database that was rebuilt does not know what its predecessor had sent: it starts behind that.
        return max(chain.count, min(self._client.nonce(self.address, "pending"), chain.count + MAX_PENDING))

    def _check_count(self, chain: Survey, known: int | None) -> None:
        """NotNow unless others used our key as often as the endpoint says: a nonce that is too high is never mined, and
        keeps all later ones waiting.
        """
        if known is not None and chain.count > known + MAX_GAP and (chain.final_count or 0) < chain.count - MAX_GAP:
            what = f"{chain.count} transactions of {self.address}, and {known} are known"
            raise NotNow(f"the endpoint shows {what}: believed when its final blocks show them too", "nonce")
        for other in self._client.others(chain.head.number):
            try:
                theirs = other.nonce(self.address)
            except RpcError as exc:
                log.info("no second opinion", account=self.address, reason=str(exc))
                continue
            if theirs >= chain.count:
                return
            detail = f"of {self.address}, one endpoint shows {chain.count} transactions and another one {theirs}"
            self._watch.alarm(Alarm.ENDPOINTS_DISAGREE, detail, self._clock())
            self._client.blame(RpcUnavailable(detail))
            raise NotNow(detail, "nonce")

    def _is_held(self, connection: Connection, attempts: Sequence[Attempt]) -> bool:
        """Whether a delivery works on this nonce, or did until lately."""
        if not attempts or not attempts[-1].weights:
            return False
        if 0 <= self._clock() - attempts[-1].signed_at < self._config.bump_after_seconds:
            return True
        for item in outbox.items_by_id(connection, attempts[-1].weights):
            if item.state not in (*outbox.IN_FLIGHT, SendState.MINED):
                continue
            newest = outbox.attempts_of(connection, item.id)[-1]
            job = get_job(connection, item.request_hash)
            if newest.nonce == attempts[-1].nonce and job is not None and job.state is not JobState.ORPHANED:
                return True
        return False

    def _fill(self, nonce: int, attempts: Sequence[Attempt], chain: Survey) -> bool:
        newest = attempts[-1] if attempts else None
        if newest is not None and not newest.weights and not self._needs_raise(newest):
            return self._resend_filler(newest)
        gas = max(SELF_SEND_GAS, self._client.estimate_gas(self.address, self.address, b""))
        fees = None if self.is_paused else self._filler_fees(newest, gas, chain)
        if fees is None:  # no higher ones are allowed: those of one that is signed may do
            return newest is not None and not newest.weights and self._resend_filler(newest)
        now = self._clock()
        with transaction(self._engine) as connection:
            self._keep_lease(connection, now)
            attempt = self._store(connection, {}, self._unsigned(nonce, self.address, b"", gas, fees), now)
        log.warning("filling an unused nonce", nonce=nonce)
        self._watch.count("nonces_filled")
        self._hand_in_filler(attempt)
        return True

    def _resend_filler(self, newest: Attempt) -> bool:
        is_due = newest.sent_at is None or not 0 <= self._clock() - newest.sent_at < self._config.resend_after_seconds
        if is_due:
            self._hand_in_filler(newest)
        return is_due

    def _hand_in_filler(self, attempt: Attempt) -> None:
        _, error = self.hand_in(attempt)
        self.note_alone(attempt, error)

    def _filler_fees(self, newest: Attempt | None, gas: int, chain: Survey) -> Fees | None:
        if newest is not None:
            return self._raised_fees(newest, chain, gas)
        return first_fees(chain.base_fee, chain.tip_fee, self._config.max_fee_per_gas_wei)

    def _needs_raise(self, attempt: Attempt) -> bool:
        refused_low = classify_send_error(attempt.error) is SendAnswer.UNDERPRICED
        return refused_low or self._clock() - attempt.signed_at >= self._config.bump_after_seconds

    # -- transactions ---------------------------------------------------------------------------------------------

    def _raised_fees(self, previous: Attempt, chain: Survey, filler_gas: int | None = None) -> Fees | None:
        """Fees of a replacement, of the same gas or of a filler's; None, and an alarm, when they are beyond a cap."""
        cap = self._config.max_fee_per_gas_wei
        fees = raised_fees(previous.fees, chain.base_fee, chain.tip_fee, cap)
        why = "relayer.max_fee_per_gas_wei"
        with reading(self._engine) as connection:
            costs = self._costs_of_a_day(connection)
            allowances = self._allowances(connection, previous.weights, previous.nonce) if filler_gas is None else {}
        if fees is not None and allowances and beyond(previous.gas * fees.max_fee, previous.weights, allowances):
            fees, why = None, "its delivery fee and relayer.max_subsidy_wei"
        at_most = (filler_gas or previous.gas) * (0 if fees is None else fees.max_fee)
        if fees is not None and not self._within_day(costs, previous.nonce, at_most):
            fees, why = None, "relayer.max_spend_per_day_wei"
        if fees is None:
            detail = f"nonce {previous.nonce} stays at {previous.fees.max_fee} wei per gas: {why}"
            self._watch.alarm(Alarm.FEES_AT_CAP, detail, self._clock())
            log.warning("fees are at their cap", nonce=previous.nonce, max_fee=str(previous.fees.max_fee), cap=why)
        return fees

    def _unsigned(self, nonce: int, to: str, data: bytes, gas: int, fees: Fees) -> Transaction:
        return Transaction(
            chain_id=self._chain_id, nonce=nonce, to=to, data=data, gas=gas, max_fee=fees.max_fee, tip=fees.tip
        )

    def _store(self, connection: Connection, weights: Mapping[int, int], unsigned: Transaction, now: float) -> Attempt:
        signed = self._signer.sign_transaction(unsigned)
        return outbox.store_attempt(connection, weights, self.address, unsigned, signed, now)

    def _refused(self, attempt: Attempt, message: str) -> tuple[SendAnswer, str]:
        answer = classify_send_error(message)
        error = "" if answer is SendAnswer.KNOWN else message
        if answer is SendAnswer.NO_FUNDS:
            self.pause(message)
        if error:
            log.warning("transaction refused", nonce=attempt.nonce, meaning=answer.value, error=error)
        return answer, error
