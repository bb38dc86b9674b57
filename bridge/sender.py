"""One funded account: its nonces, signatures and fees. Used by the relayer alone, one per (chain, key).

A nonce is taken, the transaction signed and its bytes stored in one database transaction; only then are they sent. All
transactions under one nonce carry the same calldata, or are payments of nothing to ourselves that use the nonce up.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from bridge.chain.client import ChainClient
from bridge.chain.fees import Fees, first_fees, raised_fees
from bridge.chain.sendstate import SendAnswer, classify_send_error
from bridge.chain.signer import Transaction, TxSigner
from bridge.config import BridgeConfig
from bridge.errors import BridgeError, RpcRefused, RpcUnavailable
from bridge.jobs import JobState
from bridge.store import outbox
from bridge.store.engine import Connection, Engine, reading, transaction
from bridge.store.jobs import get_job
from bridge.store.outbox import Attempt, Item, SendState

log = structlog.get_logger("bridge.sender")

SELF_SEND_GAS = 21_000  # EVM; an endpoint's estimate is used where it is higher (Filecoin)
MAX_GAP = 64  # nonces looked at in one step


class NotNow(BridgeError):
    """Nothing was signed; the message says why, and that may pass."""


class Sender:
    """Signs and hands in. `clock` gives seconds since 1970."""

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
        self._signer = signer
        self._chain_id = config.chain.chain_id
        self._contract = config.chain.bridge_contract
        self._config = config.relayer
        self._clock = clock
        self._paused_until = 0.0

    @property
    def address(self) -> str:
        """The account."""
        return self._signer.address

    @property
    def is_paused(self) -> bool:
        """Whether new transactions wait for funds."""
        return self._clock() < self._paused_until

    def first(self, item: Item, gas: int, chain_count: int, budget_wei: int) -> Attempt | None:
        """A first transaction for `item` under a new nonce, stored, not sent; the row is SIGNED.

        None while enough is in flight or the account has no funds. NotNow when the fees are beyond the cap,
        or the whole may cost more than `budget_wei`.
        """
        fees = first_fees(*self._client.fees(), self._config.max_fee_per_gas_wei)
        if fees is None:
            raise NotNow("the base fee is above relayer.max_fee_per_gas_wei")
        if gas * fees.max_fee > budget_wei:
            raise NotNow(
                f"it may cost {gas * fees.max_fee} wei, and delivery fee and relayer.max_subsidy_wei are {budget_wei}"
            )
        if self._client.balance(self.address) < gas * fees.max_fee:
            self.pause("its balance does not cover the next delivery")
            return None
        at_least = self._lowest_nonce(chain_count)
        now = self._clock()
        with transaction(self._engine) as connection:
            if outbox.in_flight(connection) >= self._config.max_in_flight:
                return None
            outbox.move_item(connection, item, SendState.SIGNED, now)
            nonce = outbox.take_nonce(connection, self._chain_id, self.address, at_least)
            return self._store(connection, item.id, self._call(nonce, item.calldata, gas, fees), now)

    def raised(self, item: Item, newest: Attempt) -> Attempt | None:
        """A replacement of `newest` with higher fees, stored, not sent; None at the cap or without funds."""
        fees = None if self.is_paused else self._raised_fees(newest)
        if fees is None:
            return None
        now = self._clock()
        with transaction(self._engine) as connection:
            outbox.move_item(connection, item, item.state, now, item.detail)
            return self._store(connection, item.id, self._call(newest.nonce, item.calldata, newest.gas, fees), now)

    def hand_in(self, attempt: Attempt) -> tuple[SendAnswer, str]:
        """Send stored bytes; what the endpoint thinks of them, and its words (empty: it has them)."""
        try:
            self._client.send_raw(attempt.raw)
        except RpcUnavailable as exc:  # they may have arrived: the same bytes go out again
            self._note(attempt, str(exc))
            raise
        except RpcRefused as exc:
            return self._refused(attempt, exc.message)
        self._note(attempt, "")
        log.info("transaction sent", tx="0x" + attempt.tx_hash.hex(), nonce=attempt.nonce)
        return SendAnswer.KNOWN, ""

    def pause(self, reason: str) -> None:
        """Sign nothing new for a while: the account needs funds."""
        self._paused_until = self._clock() + self._config.resend_after_seconds
        log.error("relayer paused: send funds to its account", account=self.address, reason=reason)

    def fill_nonces(self, chain_count: int) -> bool:
        """Use up the lowest nonce that no delivery needs any more, so that those after it are not kept waiting."""
        with reading(self._engine) as connection:
            known = outbox.next_nonce(connection, self._chain_id, self.address) or 0
            for nonce in range(chain_count, min(known, chain_count + MAX_GAP)):
                attempts = outbox.attempts_at(connection, self.address, nonce)
                if not self._is_held(connection, attempts):
                    break
            else:
                return False
        return self._fill(nonce, attempts)

    # -- nonces ---------------------------------------------------------------------------------------------------

    def _lowest_nonce(self, chain_count: int) -> int:
        with reading(self._engine) as connection:
            known = outbox.next_nonce(connection, self._chain_id, self.address)
        if known is not None:
            return chain_count
        # A database that was rebuilt does not know what its predecessor had sent: it starts behind that.
        return max(chain_count, self._client.nonce(self.address, "pending"))

    def _is_held(self, connection: Connection, attempts: list[Attempt]) -> bool:
        """Whether a delivery works on this nonce, or did until lately."""
        if not attempts or attempts[-1].item_id is None:
            return False
        if self._clock() - attempts[-1].signed_at < self._config.bump_after_seconds:
            return True
        owner = attempts[-1].item_id
        item = next((item for item in outbox.work(connection) if item.id == owner), None)
        if item is None or item.state not in (*outbox.IN_FLIGHT, SendState.MINED):
            return False
        newest = outbox.attempts_of(connection, owner)[-1]
        job = get_job(connection, item.request_hash)
        return newest.nonce == attempts[-1].nonce and job is not None and job.state is not JobState.ORPHANED

    def _fill(self, nonce: int, attempts: list[Attempt]) -> bool:
        newest = attempts[-1] if attempts else None
        if newest is not None and newest.item_id is None and not self._needs_raise(newest):
            is_due = newest.sent_at is None or self._clock() - newest.sent_at >= self._config.resend_after_seconds
            if is_due:
                self.hand_in(newest)
            return is_due
        fees = None if self.is_paused else self._filler_fees(newest)
        if fees is None:
            return False
        gas = max(SELF_SEND_GAS, self._client.estimate_gas(self.address, self.address, b""))
        unsigned = Transaction(
            chain_id=self._chain_id,
            nonce=nonce,
            to=self.address,
            data=b"",
            gas=gas,
            max_fee=fees.max_fee,
            tip=fees.tip,
        )
        with transaction(self._engine) as connection:
            attempt = self._store(connection, None, unsigned, self._clock())
        log.warning("filling an unused nonce", nonce=nonce)
        self.hand_in(attempt)
        return True

    def _filler_fees(self, newest: Attempt | None) -> Fees | None:
        if newest is not None:
            return self._raised_fees(newest)
        return first_fees(*self._client.fees(), self._config.max_fee_per_gas_wei)

    def _needs_raise(self, attempt: Attempt) -> bool:
        refused_low = classify_send_error(attempt.error) is SendAnswer.UNDERPRICED
        return refused_low or self._clock() - attempt.signed_at >= self._config.bump_after_seconds

    # -- transactions ---------------------------------------------------------------------------------------------

    def _raised_fees(self, previous: Attempt) -> Fees | None:
        cap = self._config.max_fee_per_gas_wei
        fees = raised_fees(previous.fees, *self._client.fees(), cap)
        if fees is None:
            log.warning("fees are at their cap", nonce=previous.nonce, max_fee=str(previous.fees.max_fee), cap=str(cap))
        return fees

    def _call(self, nonce: int, calldata: bytes, gas: int, fees: Fees) -> Transaction:
        return Transaction(
            chain_id=self._chain_id,
            nonce=nonce,
            to=self._contract,
            data=calldata,
            gas=gas,
            max_fee=fees.max_fee,
            tip=fees.tip,
        )

    def _store(self, connection: Connection, item_id: int | None, unsigned: Transaction, now: float) -> Attempt:
        signed = self._signer.sign_transaction(unsigned)
        return outbox.store_attempt(connection, item_id, self.address, unsigned, signed, now)

    def _refused(self, attempt: Attempt, message: str) -> tuple[SendAnswer, str]:
        answer = classify_send_error(message)
        error = "" if answer is SendAnswer.KNOWN else message
        self._note(attempt, error)
        if answer is SendAnswer.NO_FUNDS:
            self.pause(message)
        if error:
            log.warning("transaction refused", nonce=attempt.nonce, meaning=answer.value, error=error)
        return answer, error

    def _note(self, attempt: Attempt, error: str) -> None:
        with transaction(self._engine) as connection:
            outbox.note_sending(connection, attempt.tx_hash, self._clock(), error)
