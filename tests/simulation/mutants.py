"""Deliberate faults: each takes away one rule of listener, relayer or store. The simulation must notice every one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bridge.chain.bulk import Harvest
from bridge.errors import RpcUnavailable
from bridge.listener import Listener
from bridge.relayer import Relayer
from bridge.store.chain import finalise, load_cursor
from bridge.store.engine import reading, transaction
from bridge.store.jobs import Job
from bridge.store.outbox import SendState
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
        self._reader.final = lambda before, last: (final(before, last)[0], None)


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
        self._kept = (touched, found)
        return super()._store(connection, before, after, touched, [])

    def step(self) -> bool:
        moved = super().step()
        touched, found = self.__dict__.pop("_kept", (set(), ()))
        if found or touched:
            with reading(self._engine) as connection:
                cursor = load_cursor(connection, self._scope)
            with transaction(self._engine) as connection:
                super()._store(connection, cursor, cursor, touched, found)
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


MUTANTS: dict[str, Any] = {
    "listener: no second reading": lambda: Parts(listener=NoSecondReading),
    "listener: requests are not counted": lambda: Parts(listener=NoCount),
    "listener: orphaning is forgotten": lambda: Parts(listener=ForgetsOrphaning),
    "listener: blocks are linked by number": lambda: Parts(listener=LinksByNumber),
    "listener: the cursor moves before the events are stored": lambda: Parts(listener=CursorFirst),
    "store: jobs are final at once": lambda: Parts(listener=FinalAtOnce),
    "relayer: a new nonce after a lost answer": lambda: Parts(relayer=NewNonceAfterALostAnswer),
    "relayer: a receipt is success": lambda: Parts(relayer=TrustsReceipts),
    "relayer: sends before it stores": lambda: Parts(relayer=SendsBeforeStoring),
    "relayer: never sends again": lambda: Parts(relayer=NeverAgain),
    "relayer: nonces stay open": lambda: Parts(relayer=NoFilling),
    "relayer: an end is not looked at again": lambda: Parts(relayer=OneLookIsEnough),
    "posting depth is not waited for": lambda: Parts(relayer=NoDepth, posting_depth=False),
    "dispatcher: answers by id": lambda: Parts(calldata=_first_of_its_id()),
}
