"""Endpoints that lie to the relayer about its own account: what they say is not followed where it would be for good."""

from contextlib import suppress

import pytest
from eth_utils.crypto import keccak

from bridge.chain.endpoints import EndpointPool
from bridge.errors import RpcUnavailable
from bridge.sender import MAX_PENDING
from bridge.watch import Alarm
from tests.chain_proxy import Proxy, error, ok
from tests.integration.bridge_parts import run
from tests.integration.relayer_parts import relaying

pytestmark = pytest.mark.chain


@pytest.fixture
def parts(anvil_chain, tmp_path):
    with relaying(anvil_chain, tmp_path) as parts:
        yield parts


def used(count, blocks=None):
    """A rule for eth_getTransactionCount: so many transactions, in the states of these blocks, or of all."""

    def rule(request, forward):
        return ok(request, hex(count)) if blocks is None or request["params"][1] in blocks else forward(request)

    return rule


LEAPS = {"beyond what the database holds": 2**63 - 1, "beyond any account": 2**50, "a million": 10**6}


@pytest.mark.parametrize("leap", LEAPS)
def test_a_leap_of_the_nonce_that_no_final_block_shows_is_not_followed(parts, leap):
    parts.finish(parts.posting(1))
    requests = parts.posting(1)
    parts.proxy.rules["eth_getTransactionCount"] = used(LEAPS[leap], ["latest"])
    for _ in range(3):
        with suppress(RpcUnavailable):
            parts.relayer.step()
        parts.clock.now += 61
    assert parts.sent(requests) == []

    del parts.proxy.rules["eth_getTransactionCount"]
    parts.finish(requests)
    assert parts.value("nonces_filled") == 0


@pytest.fixture
def beside_an_honest_one(parts):
    """Gives the relayer a second endpoint, which tells the truth."""
    parts.finish(parts.posting(1))
    with Proxy(parts.chain.client.transport.endpoint_uri) as honest:
        urls = [parts.proxy.url, honest.url]
        pool = EndpointPool(urls, parts.config.chain, parts.clock, parts.watch, sleep=lambda _: None)
        parts.client = pool.client()
        parts.restart()
        yield parts
        pool.close()


def test_a_nonce_that_one_of_two_endpoints_does_not_show_as_used_is_not_skipped(beside_an_honest_one):
    parts = beside_an_honest_one
    requests = parts.posting(1)
    parts.proxy.rules["eth_getTransactionCount"] = used(10**6)
    parts.finish(requests)

    assert max(attempt.nonce for attempt in parts.sent(requests)) < 10**6
    assert Alarm.ENDPOINTS_DISAGREE in {raised.alarm for raised in parts.watch.alarms()}


def never(request, forward):
    """A revert that no waiting cures."""
    topic = keccak(text="ComputeBridgeDeadlinePassed(uint256,uint64)")[:4]
    return error(request, 3, "execution reverted", "0x" + (topic + bytes(64)).hex())


ENDS = {
    "the contract would never take it": ("eth_estimateGas", never),
    "its bytes are never taken": ("eth_sendRawTransaction", lambda r, _: error(r, -32000, "intrinsic gas too low")),
}


@pytest.mark.parametrize("lie", ENDS)
def test_no_delivery_ends_on_one_endpoints_word_while_another_one_takes_it(beside_an_honest_one, lie):
    parts = beside_an_honest_one
    requests = parts.posting(1)
    method, rule = ENDS[lie]
    parts.proxy.rules[method] = rule
    parts.finish(requests)

    assert Alarm.DELIVERY_DEAD not in {raised.alarm for raised in parts.watch.alarms()}


def test_a_new_database_begins_not_far_behind_what_an_endpoint_calls_pending(parts):
    before = parts.chain.client.nonce(parts.relayer.address)
    requests = parts.posting(1)
    parts.proxy.rules["eth_getTransactionCount"] = used(10**6, ["pending"])
    run(parts.relayer)
    assert [attempt.nonce for attempt in parts.sent(requests)] == [before + MAX_PENDING]
