"""Scenarios 29 to 39: what goes wrong on the way to an endpoint. Nothing is half stored, and the bridge goes on."""

import pytest

from bridge.devnet.chaos.dialects import STATEFUL_METHODS
from bridge.devnet.chaos.script import DropAfter, DropBefore, Error, Status
from bridge.errors import RpcUnavailable
from tests.scenarios.rig import STEPS, seconds

pytestmark = pytest.mark.chain

METHODS = ("eth_chainId", "eth_getBlockByNumber", "eth_getBlockByHash", "eth_getLogs", "eth_call")


def goes_on_through(scenario, kind, share=0.4, timeout=5.0, requests=3, **settings):
    """Each exchange meets the fault with this probability while requests come; a result is posted at the end."""
    rig = scenario(timeout=timeout, **settings)
    rig.settle()
    rig.endpoints[0].start(**{kind: share})
    made = []
    for _ in range(requests):
        made.append(rig.request())
        rig.polls(4)
    assert rig.met(kind) >= 4
    assert rig.raised
    assert all(isinstance(error, RpcUnavailable) for error in rig.raised)  # typed: try again later
    rig.endpoints[0].calm()
    rig.settle()
    rig.decide(made[0])
    rig.rests(*made)
    return rig


@pytest.mark.parametrize("kind", ["rate_limits", "rate_limits_bare"])
def test_S29_three_calls_in_ten_answered_with_429_slow_the_bridge_down_and_do_not_stop_it(scenario, kind):
    rig = scenario(**{kind: 0.3})
    requests = [rig.request() for _ in range(4)]
    rig.chain.mine(6)
    rig.settle()
    assert len(rig.jobs()) == 4
    assert rig.met(kind) > 3
    assert set(rig.waits) <= ({1.0} if kind == "rate_limits" else {0.25, 0.5, 1.0})  # as it said, or ever longer
    assert rig.waits
    rig.rests(*requests)


def test_S29_an_endpoint_that_names_a_long_time_is_not_asked_before_it_is_over(scenario):
    rig = scenario()
    rig.settle()
    request = rig.request()
    slow_down = Status(429, b"slow down", (("retry-after", "60"),))
    rig.script.on("*", slow_down, times=1)
    rig.polls(1)
    asked = len(rig.script.exchanges)
    assert all("no endpoint can be asked now" in str(error) for error in rig.polls(5))
    assert len(rig.script.exchanges) == asked  # a bounded rate: none at all
    assert rig.waits == []
    rig.rests(request)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_S30_a_page_with_an_http_error_in_place_of_any_answer_stores_nothing_and_is_asked_for_again(scenario, status):
    rig = scenario()
    requests = []
    for method in METHODS:
        rig.polls(2)
        requests.append(rig.request())
        rig.chain.mine(2)
        before = rig.cursor(), rig.jobs()
        rig.script.on(method, Status(status, b"<html><h1>%d</h1></html>" % status), times=2)
        raised = rig.polls(1)
        if raised and method != "eth_call":  # the count comes with the second reading, after what is new
            assert (rig.cursor(), rig.jobs()) == before
        rig.settle()
    assert len(rig.raised) >= len(METHODS)
    assert all(isinstance(error, RpcUnavailable) for error in rig.raised)
    rig.rests(*requests)


def test_S31_connections_that_are_reset_half_the_time_lose_nothing(scenario):
    goes_on_through(scenario, "resets", 0.5)


@pytest.mark.parametrize("action", [DropBefore(), DropAfter()], ids=["before", "after"])
def test_S31_a_connection_that_closes_before_or_after_the_call_was_carried_out_loses_nothing(scenario, action):
    rig = scenario()
    rig.settle()
    requests = []
    for method in ("eth_chainId", "eth_getLogs"):
        requests.append(rig.request())
        rig.script.on(method, action, times=1)
        before = rig.cursor()
        assert [type(error) for error in rig.polls(1)] == [RpcUnavailable]
        assert rig.cursor() == before
        rig.settle()
    rig.rests(*requests)


def test_S32_an_answer_that_does_not_come_is_given_up_at_the_deadline(scenario):
    rig = goes_on_through(scenario, "hangs", 0.3, timeout=0.3)
    rig.endpoints[0].start(hangs=1.0)
    assert seconds(lambda: rig.polls(1)) < 5
    rig.rests(*[rig.chain.request_of(n, job.request.order) for n, job in by_id(rig)])


def by_id(rig):
    return sorted((job.request.id, job) for job in rig.jobs().values())


def test_S33_json_that_is_cut_short_stores_nothing_of_it(scenario):
    goes_on_through(scenario, "truncated_bodies")


@pytest.mark.parametrize("kind", ["wrong_ids", "mixed_errors"])
def test_S34_an_answer_with_another_id_or_with_both_result_and_error_is_none(scenario, kind):
    goes_on_through(scenario, kind)


def test_S35_gzip_that_is_none_is_no_answer(scenario):
    goes_on_through(scenario, "garbage_gzip")


def test_S36_a_body_that_drips_is_given_up_at_the_deadline(scenario):
    rig = goes_on_through(scenario, "slow_bodies", 0.3, timeout=0.4)
    rig.endpoints[0].start(slow_bodies=1.0)
    assert seconds(lambda: rig.polls(1)) < 5
    rig.rests(*[rig.chain.request_of(n, job.request.order) for n, job in by_id(rig)])


# -- no connection, or none that is remembered --------------------------------------------------------------------


def test_S37_twenty_blocks_missed_while_the_connection_was_down_are_read_by_the_next_poll(scenario):
    """There is no WebSocket to drop: this listener polls, by decision, and a push could only wake it."""
    rig = scenario()
    rig.settle()
    first = rig.request()
    rig.endpoints[0].stop()
    assert len(rig.polls(3)) == 3
    requests = [first]
    for _ in range(10):
        requests.append(rig.request())
        rig.chain.mine()
    rig.endpoints[0].start()
    steps = 0
    while len(rig.jobs()) < len(requests):
        rig.step()
        steps += 1
        assert steps < 5
    rig.rests(*requests)


def test_S38_filters_that_are_forgotten_by_a_restart_are_missed_by_nobody(scenario):
    """No filter is ever made; what would tell of a lost one is scripted, and is never asked for."""
    rig = scenario()
    for method in STATEFUL_METHODS:
        rig.script.on(method, Error(-32000, "filter not found"))
    rig.settle()
    first = rig.request()
    rig.settle()
    rig.endpoints[0].start()
    second = rig.request()
    rig.settle()
    assert set(rig.script.methods()) <= set(METHODS) | {"eth_getCode"}
    rig.rests(first, second)


def test_S39_an_endpoint_that_is_down_for_a_minute_is_waited_for(scenario):
    rig = scenario()
    rig.settle()
    before = rig.cursor()
    rig.endpoints[0].stop()
    request = rig.request()
    raised = rig.polls(6)  # ten seconds each, by the bridge's clock
    assert [type(error) for error in raised] == [RpcUnavailable] * 6
    assert rig.cursor() == before

    rig.endpoints[0].start()
    rig.polls(2)
    assert rig.cursor().scanned_number == rig.head()
    rig.rests(request)


def test_S39_with_a_second_endpoint_a_minute_without_the_first_is_hardly_noticed(scenario):
    rig = scenario(endpoints=2)
    rig.settle()
    rig.endpoints[0].stop()
    request = rig.request()
    assert len(rig.settle(STEPS)) <= 2
    assert rig.job(request) is not None
    rig.decide(request)
    rig.rests(request)
