"""Deliberate faults: each takes away one rule of listener, relayer or store. The simulation must notice every one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from sqlalchemy import delete, func, select, update

from bridge.chain.bulk import Harvest
from bridge.chain.events import Kind
from bridge.chain.sendstate import Standing
from bridge.errors import RpcUnavailable
from bridge.jobs import JobState
from bridge.listener import Listener
from bridge.relayer import Relayer
from bridge.store.chain import finalise, load_cursor
from bridge.store.engine import transaction
from bridge.store.jobs import Job
from bridge.store.outbox import SendState
from bridge.store.schema import blocks, jobs, senders
from executor.protocol.wire import OnChainState
from tests.simulation.contract import Contract, event
from tests.simulation.rules import Rule
from tests.simulation.world import Parts


class NoSecondReading(Listener):
    """What became final is taken as read."""

    def _make_final(self, look: Any, kept: Any, final: Any) -> None:
        events = self._final.events
        try:
            self._final.events = lambda *_: Harvest([], [])
            super()._make_final(look, kept, final)
        finally:
            self._final.events = events


class NoCount(Listener):
    """The contract's counter is not looked at."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        final = self._reader.final
        self._reader.final = lambda before, last, take: (final(before, last, take), None)[1]


class ForgetsOrphaning(Listener):
    """Jobs whose log left the chain stay as they are."""

    def _store_new(self, connection: Any, before: Any, after: Any, touched: Any, found: Any) -> None:
        super()._store_new(connection, before, after, set(), found)

    def _store(self, connection: Any, before: Any, after: Any, touched: Any, found: Any) -> int:
        return super()._store(connection, before, after, set(), found)


class LinksByNumber(Listener):
    """A head above ours is taken as our child, whatever its parents are."""

    def _decide(self, window: Any, head: Any) -> Any:
        decision = super()._decide(window, head)
        if getattr(decision, "orphaned", ()) and head.number > window[-1].number:
            return replace(decision, orphaned=(), new=tuple(b for b in decision.new if b.number > window[-1].number))
        return decision


class CursorFirst(Listener):
    """The cursor moves in a transaction of its own, before the events are stored."""

    def _store(self, connection: Any, before: Any, after: Any, touched: Any, found: Any) -> int:
        self._kept = (super()._store, touched, found)
        return super()._store(connection, before, after, touched, [])

    def _store_new(self, connection: Any, before: Any, after: Any, touched: Any, found: Any) -> None:
        self._kept = (super()._store_new, touched, found)
        super()._store_new(connection, before, after, touched, [])

    def step(self) -> bool:
        moved = super().step()
        store, touched, found = self.__dict__.pop("_kept", (None, set(), ()))
        if found or touched:
            with transaction(self._engine) as connection:
                cursor = load_cursor(connection, self._scope)
                store(connection, cursor, cursor, touched, found)
        return moved


class FinalAtOnce(Listener):
    """What stands in the newest block is taken as final."""

    def _store(self, connection: Any, before: Any, after: Any, touched: Any, found: Any) -> int:
        late = super()._store(connection, before, after, touched, found)
        finalise(connection, after.scanned_number, self._clock())
        return late


class NewNonceAfterALostAnswer(Relayer):
    """A transaction whose answer was lost is signed again under another nonce, and the old one forgotten."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        poster, send = self._poster, self._poster.send

        def forgetful(items: Any, attempt: Any) -> bool:
            try:
                return send(items, attempt)
            except RpcUnavailable:
                poster.move_all([(item, SendState.NEW, "") for item in items])
                return True

        poster.send = forgetful


class TrustsReceipts(Relayer):
    """A receipt is success, and the contract is not asked."""

    def _advance(self, case: Any, seen: Any) -> bool:
        is_under_way = case.item.state in (SendState.SENT, SendState.MINED)
        if is_under_way and any(attempt.mined_ok is not None for attempt in case.attempts):
            return self._poster.move(case.item, SendState.DEAD)
        return super()._advance(case, seen)


class SendsBeforeStoring(Relayer):
    """The signed bytes leave first and are stored afterwards."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        sender, client = self._sender, self._client
        store = sender._store

        def send_first(connection: Any, weights: Any, unsigned: Any, now: float) -> Any:
            client.send_raw(sender._signer.sign_transaction(unsigned).raw)
            return store(connection, weights, unsigned, now)

        sender._store = send_first


class NeverAgain(Relayer):
    """What was sent is not sent again, nor raised."""

    def _resend(self, items: Any, newest: Any, chain: Any) -> bool:
        return super()._resend(items, newest, chain) if newest.sent_at is None else False

    def _raise_fees(self, items: Any, newest: Any, chain: Any) -> bool:
        return False


class NoFilling(Relayer):
    """Nonces that no delivery needs any more stay open."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._sender.fill_nonces = lambda _chain: False


class OneLookIsEnough(Relayer):
    """A delivery that ended is not looked at again."""

    def _recheck(self, *_: Any) -> bool:
        return False


class NoDepth(Relayer):
    """A request is answered as soon as it is seen."""

    def _is_wanted(self, case: Any, chain: Any) -> bool:
        return super()._is_wanted(case, replace(chain, tip=chain.tip + 1000))


def _first_of_its_id() -> Any:
    """Answers by id: what was made for the first request of an id is sent for every later one."""
    kept: dict[int, bytes] = {}

    def calldata(job: Job, made: bytes) -> bytes:
        return kept.setdefault(job.request.id, made)

    return calldata


class OneOutcomeForAll(Listener):
    """Jobs that are final share an outcome."""

    def _store(self, connection: Any, before: Any, after: Any, touched: Any, found: Any) -> int:
        late = super()._store(connection, before, after, touched, found)
        some = select(func.min(jobs.c.outcome)).scalar_subquery()
        connection.execute(update(jobs).where(jobs.c.state == JobState.FINAL.value).values(outcome=some))
        return late


class EveryEndIsASuccess(Listener):
    """A job that is final is noted as fulfilled."""

    def _store(self, connection: Any, before: Any, after: Any, touched: Any, found: Any) -> int:
        late = super()._store(connection, before, after, touched, found)
        good = int(OnChainState.FULFILLED)
        connection.execute(update(jobs).where(jobs.c.state == JobState.FINAL.value).values(chain_state=good))
        return late


class HasHoles(Listener):
    """Of several new blocks only the last one is kept."""

    def _store_new(self, connection: Any, before: Any, after: Any, touched: Any, found: Any) -> None:
        super()._store_new(connection, before, after, touched, found)
        number = blocks.c.number
        connection.execute(delete(blocks).where(number > before.scanned_number, number < after.scanned_number))


class KeepsPlaces(Listener):
    """A job whose request or end moved to another block stays where it was seen first."""

    def _store_new(self, connection: Any, before: Any, after: Any, touched: Any, found: Any) -> None:
        query = select(jobs.c.request_hash, jobs.c.block_hash).where(jobs.c.state != JobState.ORPHANED.value)
        places = connection.execute(query).all()
        super()._store_new(connection, before, after, touched, found)
        for request_hash, block_hash in places:
            connection.execute(update(jobs).where(jobs.c.request_hash == request_hash).values(block_hash=block_hash))


class NoncesOfTheChain(Relayer):
    """The endpoint's count is the next nonce, whatever was signed before."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        sign = self._sender.first

        def first(items: Any, weights: Any, calldata: Any, gas: Any, chain: Any) -> Any:
            with transaction(self._engine) as connection:
                connection.execute(update(senders).values(next_nonce=chain.count))
            return sign(items, weights, calldata, gas, chain)

        self._sender.first = first


class DoesNotAsk(Relayer):
    """A request is open as long as our own books say so."""

    def _look_at(self, case: Any, seen: Any) -> bool:
        if case.item.state is SendState.NEW:
            seen.chain.seen[case.item.id] = replace(seen.chain.seen[case.item.id], standing=Standing.OPEN)
        return super()._look_at(case, seen)


class PassesOverCancellations(Listener):
    """A range is read without the marks for cancelling."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        read = self._final.events

        def events(*given: Any) -> Any:
            found = read(*given)
            kept = [event for event in found.events if event.kind is not Kind.CANCEL_REQUESTED]
            return replace(found, events=kept)

        self._final.events = events


class SettlesAgain(Contract):
    """The same outcome again is no no-op."""

    def fulfil(self, state: Any, call: Any, id_: int, order: Any, outcome: Any, attestations: Any) -> Any:
        logs = super().fulfil(state, call, id_, order, outcome, attestations)
        named, _, _, relayer = attestations[0][:4]  # see people.delivery
        made = state.slots[id_].state, outcome.hash, relayer, outcome.as_tuple()
        return logs or [event(Kind.SETTLED, id_, named, *made)]


class PaysAgain(Contract):
    """The same outcome again is paid for again."""

    def fulfil(self, state: Any, call: Any, id_: int, order: Any, outcome: Any, attestations: Any) -> Any:
        logs = super().fulfil(state, call, id_, order, outcome, attestations)
        return logs or self._credit(state, attestations[0][3], order.delivery_fee)


def _without_checks() -> Parts:
    return Parts(calldata=_first_of_its_id(), attests=lambda *_: True)


class Mutant(NamedTuple):
    """A deliberate fault, and the rules that it breaks, each with a seed that shows it as the code is now."""

    parts: Callable[[], Parts]
    breaks: dict[Rule, int]


MUTANTS = {
    "listener: no second reading": Mutant(lambda: Parts(listener=NoSecondReading), {Rule.AT_REST: 5}),
    "listener: requests are not counted": Mutant(lambda: Parts(listener=NoCount), {Rule.AT_REST: 115}),
    "listener: orphaning is forgotten": Mutant(lambda: Parts(listener=ForgetsOrphaning), {Rule.ORPHANED: 13}),
    "listener: blocks are linked by number": Mutant(lambda: Parts(listener=LinksByNumber), {Rule.RUNS_ON: 66}),
    "listener: the window has holes": Mutant(lambda: Parts(listener=HasHoles), {Rule.WINDOW: 13}),
    "listener: the cursor moves first": Mutant(lambda: Parts(listener=CursorFirst), {Rule.AT_REST: 86}),
    "listener: ranges without cancellations": Mutant(
        lambda: Parts(listener=PassesOverCancellations), {Rule.EVENTS: 25, Rule.REBUILT: 40}
    ),
    "store: jobs are final at once": Mutant(lambda: Parts(listener=FinalAtOnce), {Rule.PLACE: 2}),
    "store: jobs keep their places": Mutant(lambda: Parts(listener=KeepsPlaces), {Rule.PLACE: 2}),
    "store: one outcome for all": Mutant(lambda: Parts(listener=OneOutcomeForAll), {Rule.OUTCOME: 1}),
    "store: every end is a success": Mutant(lambda: Parts(listener=EveryEndIsASuccess), {Rule.MIRRORED: 1}),
    "relayer: a new nonce after silence": Mutant(lambda: Parts(relayer=NewNonceAfterALostAnswer), {Rule.PAID_ONCE: 15}),
    "relayer: a receipt is success": Mutant(lambda: Parts(relayer=TrustsReceipts), {Rule.AT_REST: 60}),
    "relayer: sends before it stores": Mutant(lambda: Parts(relayer=SendsBeforeStoring), {Rule.STORED_FIRST: 2}),
    "relayer: never sends again": Mutant(lambda: Parts(relayer=NeverAgain), {Rule.AT_REST: 2}),
    "relayer: nonces stay open": Mutant(lambda: Parts(relayer=NoFilling), {Rule.AT_REST: 46}),
    "relayer: nonces are the chain's": Mutant(lambda: Parts(relayer=NoncesOfTheChain), {Rule.NONCES: 4}),
    "relayer: an end is not looked at again": Mutant(lambda: Parts(relayer=OneLookIsEnough), {Rule.AT_REST: 27}),
    "relayer: does not ask": Mutant(lambda: Parts(relayer=DoesNotAsk), {Rule.REBUILT_QUIET: 6}),
    "posting depth is not waited for": Mutant(lambda: Parts(relayer=NoDepth, posting_depth=False), {Rule.DEPTH: 35}),
    "dispatcher: answers by id": Mutant(lambda: Parts(calldata=_first_of_its_id()), {Rule.AT_REST: 19}),
    "dispatcher: answers by id, unchecked": Mutant(_without_checks, {Rule.RESULT: 66}),
    "contract: settles again": Mutant(lambda: Parts(contract=SettlesAgain), {Rule.ONE_END: 26}),
    "contract: pays again": Mutant(lambda: Parts(contract=PaysAgain), {Rule.FEES: 326}),
}
