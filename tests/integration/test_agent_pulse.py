"""Heartbeats: they keep a lease, and they bring the word to stop."""

import threading

import pytest
import structlog

from executor.agent.client import BridgeClient
from executor.agent.errors import GiveBack, LeaseLost
from executor.agent.pulse import STOPPING, Pulse
from executor.content.web import Http, Signer
from executor.protocol.leases import Phase
from executor.protocol.reasons import Reason
from executor.protocol.signing import Key
from tests.agent_twin import Fault, order

BEAT, EXPIRY = 10.0, 30.0


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def stopping():
    return threading.Event()


@pytest.fixture
def pulse(twin, clock, stopping):
    lease = twin.offer(order(b"{}"), heartbeat_seconds=BEAT, expires_in_seconds=EXPIRY)
    with Http(twin.url, Signer(Key.from_hex("11" * 32), twin.audience())) as http:
        yield Pulse(BridgeClient(http), lease, stopping, clock, structlog.get_logger())


def test_a_heartbeat_is_sent_when_it_is_due_and_not_before(twin, clock, pulse):
    assert not pulse.step()
    clock.now += BEAT

    assert pulse.step()
    assert not pulse.step()
    assert [beat.phase for beat in twin.heartbeats] == [Phase.RUNNING]
    assert pulse.why_stop() is None


def test_a_heartbeat_says_the_phase(twin, clock, pulse):
    pulse.phase = Phase.HELD
    clock.now += BEAT
    pulse.step()

    assert [beat.phase for beat in twin.heartbeats] == [Phase.HELD]


def test_a_held_lease_outlives_a_silent_bridge_until_that_says_otherwise(twin, clock, pulse):
    pulse.phase = Phase.HELD
    twin.faults["/heartbeat"] = Fault(status=503, times=1)
    clock.now += 10 * EXPIRY
    pulse.step()
    assert pulse.why_stop() is None

    twin.gone = True
    clock.now += EXPIRY
    pulse.step()
    assert pulse.why_stop() is not None


def test_an_answer_that_says_stop_loses_the_lease(twin, clock, pulse):
    twin.go_on = False
    clock.now += BEAT
    pulse.step()

    assert pulse.why_stop() == "orphaned"
    with pytest.raises(LeaseLost, match="orphaned"):
        pulse.check()


def test_a_lease_that_is_gone_is_lost(twin, clock, pulse):
    twin.gone = True
    clock.now += BEAT
    pulse.step()

    assert "stale fencing token" in pulse.why_stop()


def test_a_bridge_that_is_away_for_a_moment_costs_nothing(twin, clock, pulse):
    twin.faults["heartbeat"] = Fault(status=503)
    clock.now += BEAT
    assert pulse.step()
    assert pulse.why_stop() is None

    clock.now += 2.0
    assert pulse.step()
    assert len(twin.heartbeats) == 1


def test_a_lease_runs_out_when_no_heartbeat_gets_through(twin, clock, pulse):
    twin.faults["heartbeat"] = Fault(status=503, times=99)
    while clock.now < 1000.0 + EXPIRY:
        pulse.step()
        clock.now += 1.0
    pulse.step()

    assert "in time" in pulse.why_stop()


def test_a_heartbeat_that_gets_through_moves_the_end(clock, pulse):
    for _ in range(20):
        clock.now += BEAT
        pulse.step()

    assert pulse.why_stop() is None


def test_a_stopping_node_gives_back(pulse, stopping):
    stopping.set()

    assert pulse.why_stop() == STOPPING
    with pytest.raises(GiveBack) as caught:
        pulse.pause(60)
    assert caught.value.reason == Reason.NODE_STOPPING
