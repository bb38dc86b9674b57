"""What the relayer may spend, and when it says that money is short (see tests/scenarios for all else)."""

import pytest

from bridge.store.outbox import SendState
from bridge.watch import Alarm
from tests.integration.bridge_parts import item, run
from tests.integration.relayer_parts import relaying

pytestmark = pytest.mark.chain


def cost_of_one(parts):
    """The most that a delivery may cost, by one that is signed."""
    requests = parts.posting(1)
    run(parts.relayer)
    (sent,) = parts.sent(requests)
    parts.finish(requests)
    return sent.gas * sent.fees.max_fee


# -- per job ------------------------------------------------------------------------------------------------------


def test_a_delivery_beyond_its_budget_waits_and_says_so(any_chain, tmp_path):
    with relaying(any_chain, tmp_path, max_subsidy_wei=1) as parts:
        requests = parts.posting(1)
        run(parts.relayer)

        assert parts.sent(requests) == []
        assert "max_subsidy_wei" in item(parts.engine, requests[0].hash).detail
        assert parts.value("signing_refused", reason="budget") >= 1


def test_a_delivery_beyond_its_budget_does_not_keep_a_batch(any_chain, tmp_path):
    with relaying(any_chain, tmp_path, max_subsidy_wei=1) as parts:
        poor = parts.posting(1)
        paid = parts.posting(2, delivery_fee=10**16)
        run(parts.relayer)

        assert parts.states(poor) == [SendState.NEW]
        assert [len(sent.weights) for sent in parts.sent(paid)] == [2]


def test_replacements_stay_within_a_deliverys_budget(anvil_chain, tmp_path):
    with relaying(anvil_chain, tmp_path / "a") as parts:
        most = cost_of_one(parts)
    with relaying(anvil_chain, tmp_path / "b", account=3, max_subsidy_wei=most * 2) as parts:
        requests = parts.posting(1)
        for _ in range(8):
            run(parts.relayer)
            parts.clock.now += 181
        dearest = parts.sent(requests)[-1]

        assert len(parts.sent(requests)) > 1
        assert dearest.gas * dearest.fees.max_fee <= most * 2 + 7
        assert Alarm.FEES_AT_CAP in parts.raised()
        parts.finish(requests)


def day_of(gas):
    """Options with which a day's cap is so much gas: a first delivery takes some 125 000, one more 87 000.

    A tenth less by their receipts.
    """
    return {"max_batch": 1, "max_fee_per_gas_wei": 10**9, "max_spend_per_day_wei": gas * 10**9}


# -- per day ------------------------------------------------------------------------------------------------------


def test_at_the_days_cap_nothing_new_is_signed_until_the_day_is_over(anvil_chain, tmp_path):
    with relaying(anvil_chain, tmp_path, **day_of(200_000)) as parts:
        first, second = parts.posting(1), parts.posting(1)
        run(parts.relayer)
        assert parts.states([*first, *second]) == [SendState.SENT, SendState.NEW]
        assert Alarm.DAY_CAP in parts.raised()
        assert "max_spend_per_day_wei" in item(parts.engine, second[0].hash).detail

        parts.mine()
        parts.clock.now += 86_401
        run(parts.relayer)
        assert parts.states(second) == [SendState.SENT]
        assert Alarm.DAY_CAP not in parts.raised()


def test_the_days_cap_counts_what_receipts_say(anvil_chain, tmp_path):
    with relaying(anvil_chain, tmp_path, **day_of(206_000)) as parts:
        first, second = parts.posting(1), parts.posting(1)
        run(parts.relayer)
        assert parts.states(second) == [SendState.NEW]
        parts.mine()
        (sent,) = parts.sent(first)
        assert 0 < parts.value("spent_wei") == sent.cost < sent.gas * sent.fees.max_fee
        parts.clock.now += 61
        parts.finish([*first, *second])


# -- balance ------------------------------------------------------------------------------------------------------


def test_a_balance_for_few_deliveries_is_an_alarm(anvil_chain, tmp_path):
    with relaying(anvil_chain, tmp_path, low_balance_deliveries=10**15) as parts:
        parts.finish(parts.posting(1))
        parts.posting(1)
        run(parts.relayer)

        assert Alarm.LOW_BALANCE in parts.raised()
        assert 0 < parts.value("balance_deliveries") < 10**15
