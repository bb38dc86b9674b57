"""Alarms that outlive the process, and what to do about each."""

from __future__ import annotations

from typing import Any

import structlog

from bridge.errors import BridgeError
from bridge.store.alarms import add_raised, raised_alarms
from bridge.store.engine import Engine, StoreError, reading, transaction
from bridge.watch import Alarm, Raised, Watch

log = structlog.get_logger("bridge.alarms")

#: what a person does about an alarm, before he acknowledges it
REMEDIES: dict[Alarm, str] = {
    Alarm.REORG_BELOW_FINALITY: "Find out with another endpoint which branch is the chain's. If the endpoint lied, "
    "replace it; if the chain did go back, raise chain.finality_depth and run: insula bridge rebuild",
    Alarm.CHAIN_RESET: "On a devnet that was started anew: insula bridge rebuild. On a real chain the endpoint serves "
    "another chain: replace it.",
    Alarm.STALE_HEAD: "Compare with a block explorer: either the endpoint hangs (replace it, or add a second one) or "
    "the chain does (wait). A wrong clock on this machine looks the same; insula doctor checks it.",
    Alarm.FINALITY_REGRESSED: "Nothing was undone: the bridge kept its own. Once may be another node behind the same "
    "address; again and again means that finality is halted or the endpoint is not to be trusted.",
    Alarm.LATE_LOGS: "Nothing was lost: the second reading found them. If it repeats, the endpoint drops events; "
    "replace it.",
    Alarm.HISTORY_PRUNED: "Add an endpoint that keeps older blocks until the bridge has caught up; public ones keep "
    "about 2000 epochs.",
    Alarm.ENDPOINT_REFUSED: "The endpoint is on another chain than chain.chain_id, or has another first block: correct "
    "or remove its URL.",
    Alarm.ENDPOINTS_DISAGREE: "Ask a third endpoint for the block that is named. Remove the one that is alone; the "
    "bridge waits as long as they differ.",
    Alarm.LOW_BALANCE: "Send funds to the relayer's account now: deliveries go on until they are used up.",
    Alarm.NO_FUNDS: "Send funds to the relayer's account. Deliveries wait and go on by themselves.",
    Alarm.FEES_AT_CAP: "Wait for lower fees, or raise relayer.max_fee_per_gas_wei. A transaction that is out is sent "
    "again as it is.",
    Alarm.DAY_CAP: "Deliveries go on by themselves as the 24 hours move on. Look at what was spent "
    "(insula_spent_today_wei) before you raise relayer.max_spend_per_day_wei.",
    Alarm.GAS_JUMP: "Look at the delivery that is named: a callback that wants far more gas than before, or an upgrade "
    "of the chain. It is not sent at that price.",
    Alarm.OUTCOME_CONFLICT: "The contract holds another outcome than the nodes gave this bridge. Compare both with: "
    "insula job verify ID. A node that signed both can be slashed.",
    Alarm.NODE_CONTRADICTION: "Take the curators' word from the node: insula node withdraw-vouch. Anybody can have its "
    "stake slashed: insula node evidence NODE --save FILE, then insula node slash --proof FILE",
    Alarm.DELIVERY_DEAD: "Read the reason with: insula job explain ID. The request expires at its deadline and is "
    "refunded.",
    Alarm.SENDER_ELSEWHERE: "Two processes must not send with one key. Stop the other one, or give this bridge a key "
    "of its own.",
    Alarm.COPIES_MISSING: "`insula job explain` of a waiting job names the Kubo and what it did: start it, make room, "
    "or lower content.replicas. Past their deadlines the requests are refunded.",
    Alarm.HALTED: "Read the reason, remove its cause, start the bridge again. It goes on where it stopped.",
}


def alarm_view(raised: Raised) -> dict[str, Any]:
    """An alarm with its remedy. Times in seconds since 1970."""
    return {**vars(raised), "alarm": raised.alarm.value, "remedy": REMEDIES[raised.alarm]}


class AlarmKeeper:
    """Writes what was raised to the store, and learns from there what was acknowledged. A loop's body."""

    def __init__(self, engine: Engine, watch: Watch) -> None:
        self._engine = engine
        self._watch = watch

    def step(self) -> bool:
        """Bring watch and store together; never busy."""
        pending = self._watch.pending()
        if pending:
            with transaction(self._engine) as connection:
                add_raised(connection, pending.values())
        with reading(self._engine) as connection:
            stored = raised_alarms(connection)
        self._watch.kept(pending, stored)
        return False

    def last_step(self) -> None:
        """The same at the process's end, where a database that fails must not hide what ended it."""
        try:
            self.step()
        except (StoreError, BridgeError) as exc:
            log.error("alarms are not kept", error=type(exc).__name__)  # noqa: TRY400 - no traceback at the end
