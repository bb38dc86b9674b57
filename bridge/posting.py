"""Signing and sending what is ready: several results in one transaction where that works, each alone where not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import structlog

from bridge.chain.budget import Estimate, believable, weight
from bridge.chain.client import ChainClient
from bridge.chain.contracts import delivered_flags, fulfil_many_calldata, fulfilled_outcome
from bridge.chain.sendstate import SendAnswer, classify_send_error
from bridge.chain.simulate import Verdict, WouldRevert, estimated_gas, needed_gas, with_margin
from bridge.config import BridgeConfig
from bridge.errors import BridgeError, RpcError, RpcRefused, RpcUnavailable, StaleTransition
from bridge.sender import NotNow, OverBudget, Sender
from bridge.store import outbox, senders
from bridge.store.engine import Engine, reading, transaction
from bridge.store.outbox import Attempt, Delivery, Item, Move, SendState
from bridge.survey import Case, Survey
from bridge.watch import Alarm, Watch
from executor.errors import InvalidInput
from executor.protocol.cid import Cid

log = structlog.get_logger("bridge.relayer")

MAX_CALLDATA_BYTES = 65_000  # of a batch: Filecoin takes no message above 64 KiB, and its other fields need some 250
MAX_CID_BYTES = 64  # WireRules.MAX_CID_BYTES

#: what was signed, what to try again together, what to try alone
_Split = tuple[Attempt | None, list[Case], list[Case]]


class _TooMuchGas(BridgeError):
    """A batch needs more than a transaction may have: try with fewer."""


class Poster:
    """Moves outbox rows, signs and sends them. `clock` gives seconds since 1970."""

    def __init__(
        self,
        engine: Engine,
        client: ChainClient,
        sender: Sender,
        config: BridgeConfig,
        clock: Callable[[], float],
        watch: Watch,
    ) -> None:
        self._engine = engine
        self._client = client
        self._sender = sender
        self._contract = config.chain.bridge_contract
        self._config = config.relayer
        self._clock = clock
        self._watch = watch
        self._postponed_at: dict[int, float] = {}
        self._estimates: dict[int, Estimate] = {}  # the last one for so many deliveries; may be lost at any time

    def post(self, cases: Sequence[Case], chain: Survey) -> bool:
        """Sign and send deliveries that are NEW, as many as may be under way."""
        ready = [case for case in cases if not self._is_postponed(case.item)]
        if ready and self._sender.is_paused:
            self._watch.count("signing_refused", reason="no funds")
            return False
        if any(_has_failed_batch(case) for case in ready):
            self._estimates.clear()
        alone = [case for case in ready if not self._may_share(case)]
        together = [case for case in ready if self._may_share(case)]
        moved, size = False, self._config.max_batch
        while len(together) > 1 and self._may_sign():
            group = self._group(together, size)
            rest = together[len(group) :]
            if len(group) == 1:
                alone, together = [*alone, *group], rest
                continue
            try:
                attempt, again, singly = self._sign_batch(group, chain)
            except _TooMuchGas:
                size = len(group) // 2
                continue
            together, alone = [*again, *rest], [*alone, *singly]
            moved |= attempt is not None and self._send_new(group, attempt)
        for case in sorted([*alone, *together], key=lambda case: case.item.id):
            if not self._may_sign():
                break
            attempt = self._sign_one(case, chain)
            moved |= attempt is not None and self._send_new([case], attempt)
        return moved

    def _may_sign(self) -> bool:
        return not self._sender.is_paused and self._sender.has_room

    def _may_share(self, case: Case) -> bool:
        """Whether a delivery may go in a batch: one that was in a batch that failed or left it out goes alone."""
        if case.item.kind is not Delivery.FULFIL or self._config.max_batch == 1:
            return False
        return not any(
            attempt.is_batch
            and (attempt.mined_ok is not None or classify_send_error(attempt.error) is SendAnswer.INVALID)
            for attempt in case.attempts
        )

    def _group(self, cases: Sequence[Case], size: int) -> list[Case]:
        group: list[Case] = []
        length = 0
        for case in cases[:size]:
            length += len(case.item.calldata) + 32
            if group and length > MAX_CALLDATA_BYTES:
                break
            group.append(case)
        return group

    # -- several in one -------------------------------------------------------------------------------------------

    def _sign_batch(self, group: list[Case], chain: Survey) -> _Split:
        """One transaction for all of them. What a simulation leaves out, and all when it fails, is judged alone."""
        try:
            return self._try_batch(group, chain)
        except OverBudget as exc:
            poor = [case for case in group if case.item.id in exc.items]
            return None, [case for case in group if case not in poor], poor
        except NotNow as exc:
            self._refuse(group, exc)
        except StaleTransition:
            self._sender.lose_lease()
        except (RpcUnavailable, RpcRefused, WouldRevert, InvalidInput) as exc:
            log.warning("batch not signed: each goes alone", reason=str(exc), deliveries=len(group))
            return None, [], group
        return None, [], []

    def _try_batch(self, group: list[Case], chain: Survey) -> _Split:
        gas = self._known_gas(group)
        if gas is None:
            keep, alone = self._simulated(group)
            if alone or len(keep) < 2:
                return (None, keep, alone) if len(keep) > 1 else (None, [], group)
        calldata = fulfil_many_calldata([case.item.calldata for case in group])
        if gas is None:
            gas = self._batch_gas(group, calldata)
        if gas > min(self._config.max_batch_gas, chain.gas_limit):
            raise _TooMuchGas(f"{len(group)} deliveries need {gas} gas")
        self._check_gas(group, gas, chain)
        weights = {case.item.id: _weight(case) for case in group}
        return self._sender.first([case.item for case in group], weights, calldata, gas, chain), [], []

    def _known_gas(self, group: list[Case]) -> int | None:
        """A limit by an earlier estimate, for a batch like that one which with so much gas delivers all of them.

        An endpoint that searches for the least gas that is enough executes the batch some twenty times.
        """
        known = self._estimates.get(len(group))
        if known is None or any(_callback_gas(case) for case in group):
            return None
        estimate = known.for_batch([len(case.item.calldata) for case in group], self._clock())
        if estimate is None:
            return None
        try:
            if not self._simulated(group, estimate)[1]:
                return with_margin(estimate)
        except RpcRefused as exc:
            log.info("an earlier estimate is not enough", gas=estimate, reason=str(exc))
        del self._estimates[len(group)]
        return None

    def _batch_gas(self, group: list[Case], calldata: bytes) -> int:
        callbacks = sum(_callback_gas(case) for case in group)
        if callbacks:
            return needed_gas(self._client, self._sender.address, self._contract, calldata, callbacks)
        gas = estimated_gas(self._client, self._sender.address, self._contract, calldata)
        size = sum(len(case.item.calldata) for case in group)
        self._estimates[len(group)] = Estimate(gas, len(group), size, self._clock())
        return with_margin(gas)

    def _simulated(self, group: list[Case], gas: int | None = None) -> tuple[list[Case], list[Case]]:
        """Which of them a batch would deliver now, with so much gas at most, and which not."""
        fit = [case for case in group if _fault(case) is None]
        if not fit:
            return [], group
        calldata = fulfil_many_calldata([case.item.calldata for case in fit])
        flags = delivered_flags(self._client.call(self._contract, calldata, sender=self._sender.address, gas=gas))
        if len(flags) != len(fit):
            raise InvalidInput("fulfilMany", "returned another number of entries; is this another contract?")
        keep = [case for case, delivered in zip(fit, flags, strict=True) if delivered]
        return keep, [case for case in group if case not in keep]

    # -- one alone ------------------------------------------------------------------------------------------------

    def _sign_one(self, case: Case, chain: Survey) -> Attempt | None:
        item = case.item
        try:
            return self._try_one(case, chain)
        except RpcUnavailable as exc:  # an estimate that takes too long must not keep the other deliveries waiting
            self._tried(self.postpone, item, f"its cost cannot be estimated: {exc}")
        except WouldRevert as exc:
            self._tried(self.kill if exc.verdict is Verdict.NEVER else self.postpone, item, str(exc))
        except NotNow as exc:
            self._refuse([case], exc)
        except (RpcRefused, InvalidInput) as exc:
            self._tried(self.postpone, item, str(exc))
        except StaleTransition:
            self._sender.lose_lease()
        return None

    def _try_one(self, case: Case, chain: Survey) -> Attempt | None:
        item = case.item
        fault = _fault(case)
        if fault is not None:
            raise WouldRevert(fault, Verdict.NEVER)
        try:
            gas = self._needed(self._client, case)
        except WouldRevert as exc:
            if exc.verdict is Verdict.NEVER and self._is_taken_elsewhere(case):
                error = RpcUnavailable(f"one endpoint says that it can never be accepted ({exc}), another one does not")
                self._watch.alarm(Alarm.ENDPOINTS_DISAGREE, str(error), self._clock())
                self._client.blame(error)
                raise error from exc
            raise
        self._check_gas([case], gas, chain)
        return self._sender.first([item], {item.id: _weight(case)}, item.calldata, gas, chain)

    def _needed(self, client: ChainClient, case: Case) -> int:
        return needed_gas(client, self._sender.address, self._contract, case.item.calldata, _callback_gas(case))

    def _is_taken_elsewhere(self, case: Case) -> bool:
        """Whether another endpoint does not rule out this delivery for good: its end is not one endpoint's to say."""
        for other in self._client.others(case.job.block_number):
            try:
                self._needed(other, case)
            except WouldRevert as exc:
                return exc.verdict is not Verdict.NEVER
            except RpcError as exc:
                log.info("no second opinion", request_hash="0x" + case.item.request_hash.hex(), reason=str(exc))
                continue
            return True
        return False

    def _tried(self, act: Callable[[Item, str], bool], item: Item, reason: str) -> None:
        try:
            act(item, reason)
        except StaleTransition:  # somebody else moved it first
            self._sender.lose_lease()

    def _check_gas(self, cases: Sequence[Case], gas: int, chain: Survey) -> None:
        """NotNow for an estimate that cannot be right: beyond a block, or far beyond what such deliveries needed."""
        with reading(self._engine) as connection:
            samples = senders.samples(connection, self._sender.address, cases[0].item.kind)
        sizes = [len(case.item.calldata) for case in cases]
        callbacks = sum(_callback_gas(case) for case in cases)
        if gas <= chain.gas_limit and believable(gas, sizes, callbacks, samples):
            return
        reason = f"an estimate of {gas} gas is not believed: a block takes {chain.gas_limit}, the last ones needed less"
        self._watch.alarm(Alarm.GAS_JUMP, reason, self._clock())
        raise NotNow(reason, "gas jump")

    def _send_new(self, cases: Sequence[Case], attempt: Attempt) -> bool:
        try:
            return self.send([replace(case.item, state=SendState.SIGNED) for case in cases], attempt)
        except StaleTransition:  # moved between signing and sending: by the listener, say
            return False

    # -- the acts -------------------------------------------------------------------------------------------------

    def send(self, items: Sequence[Item], attempt: Attempt) -> bool:
        """Hand stored bytes in. Only a clear "never" ends a delivery; anything else is looked at again."""
        answer, error = self._sender.hand_in(attempt)
        if answer is SendAnswer.INVALID and self._sender.is_taken_elsewhere(attempt):
            answer = SendAnswer.UNKNOWN
        if answer is SendAnswer.INVALID and not attempt.is_batch:
            self._sender.note_alone(attempt, error)
            return self.kill(items[0], error)
        after = SendState.NEW if answer is SendAnswer.INVALID else SendState.SENT
        try:
            with transaction(self._engine) as connection:
                self._sender.note(connection, attempt, error)
                outbox.move_items(connection, [(item, after, error) for item in items], self._clock())
        except StaleTransition:  # a row was moved meanwhile; the bytes went out all the same
            self._sender.note_alone(attempt, error)
            raise
        return True

    def move(self, item: Item, after: SendState, detail: str = "") -> bool:
        """Move a row; its end is logged."""
        self.move_all([(item, after, detail)])
        return True

    def move_all(self, moves: Sequence[Move]) -> None:
        """Move rows, all or none: the commit costs more than the rows. StaleTransition if one is not as it was."""
        if not moves:
            return
        with transaction(self._engine) as connection:
            outbox.move_items(connection, moves, self._clock())
        for item, after, detail in moves:
            if after in (SendState.SUPERSEDED, SendState.DEAD):
                request = "0x" + item.request_hash.hex()
                log.error("delivery ended", request_hash=request, state=after.value, reason=detail)

    def kill(self, item: Item, reason: str) -> bool:
        """The delivery can never be accepted."""
        self._watch.alarm(Alarm.DELIVERY_DEAD, f"request 0x{item.request_hash.hex()}: {reason}", self._clock())
        return self.move(item, SendState.DEAD, reason)

    def postpone(self, item: Item, reason: str) -> bool:
        """Look at it again later; the reason is kept for whoever asks."""
        self._postponed_at[item.id] = self._clock()
        if item.detail != reason[:4000]:
            log.warning("delivery postponed", request_hash="0x" + item.request_hash.hex(), reason=reason)
            self.move(item, item.state, reason)
        return False

    def _refuse(self, cases: Sequence[Case], refusal: NotNow) -> None:
        self._watch.count("signing_refused", reason=refusal.cause)
        for case in cases:
            self._tried(self.postpone, case.item, str(refusal))

    def _is_postponed(self, item: Item) -> bool:
        """A clock that went back ends the waiting."""
        at = self._postponed_at.get(item.id)
        return at is not None and 0 <= self._clock() - at < self._config.resend_after_seconds


def _has_failed_batch(case: Case) -> bool:
    return any(attempt.is_batch and attempt.mined_ok is False for attempt in case.attempts)


def _callback_gas(case: Case) -> int:
    return case.job.request.order.callback_gas if case.item.kind is Delivery.FULFIL else 0


def _weight(case: Case) -> int:
    return weight(case.item.calldata, _callback_gas(case))


def _fault(case: Case) -> str | None:
    """Why an outcome must not be signed for, whatever the contract would say: a CID that is none."""
    if case.item.kind is not Delivery.FULFIL:
        return None
    try:
        cid = fulfilled_outcome(case.item.calldata).output_cid
        if len(cid) > MAX_CID_BYTES:
            return f"the outcome's CID has {len(cid)} bytes, and {MAX_CID_BYTES} at most are taken"
        if cid:
            Cid.from_binary(cid, "outputCid")
    except InvalidInput as exc:
        return str(exc)
    return None
