"""S65, S66, S69, S70: counts of other nodes, other processes with our key, clocks that jump, many results at once."""

import json
import subprocess
import sys
from contextlib import contextmanager

import pytest

from bridge.devnet.chaos.script import Answer
from bridge.relayer import Relayer
from bridge.watch import Alarm
from tests.chain_nodes import FUNDED_SECRETS, ROOT, funded
from tests.chaos_kit import LOTUS
from tests.integration.bridge_parts import run
from tests.scenarios.holds_writer import settled
from tests.scenarios.writer_parts import RAISE_SECONDS, RESEND_SECONDS, writing

pytestmark = pytest.mark.chain

# -- counts of other nodes ----------------------------------------------------------------------------------------


def counting(tag, count):
    """A node with another opinion of how many transactions we have sent."""

    def rule(request, forward):
        answer = forward(request)
        return answer | {"result": hex(count(int(answer["result"], 16)))} if request["params"][1] == tag else answer

    return Answer(rule)


COUNTS = {
    "more are pending": ("pending", lambda count: count + 50),
    "none are pending": ("pending", lambda _: 0),
    "fewer are mined": ("latest", lambda count: count - 1),
}


@pytest.mark.parametrize("opinion", COUNTS)
def test_S65_another_nodes_count_changes_no_nonce(both_chains, tmp_path, opinion):
    with writing(both_chains, tmp_path, max_batch=1) as parts:
        first = parts.posting(1)
        parts.finish(first)
        parts.script.on("eth_getTransactionCount", counting(*COUNTS[opinion]))
        requests = parts.posting(3)
        parts.later(RAISE_SECONDS)
        nonces = [sent.nonce for sent in parts.sent([*first, *requests])]
        assert nonces == [parts.first_nonce + n for n in range(4)]
        parts.script.clear()
        parts.finish(requests)

        assert parts.value("nonces_filled") == 0
        assert [sent.nonce for sent in parts.sent([*first, *requests])] == nonces
        settled(parts, [*first, *requests])


# -- other processes ----------------------------------------------------------------------------------------------


def test_S66_of_two_relayers_on_one_database_the_one_with_the_lease_sends(both_chains, tmp_path):
    with writing(both_chains, tmp_path) as parts:
        first, second = parts.another("one"), parts.another("two")
        run(parts.listener)
        first.step()
        requests = parts.posting(3)
        run(second)
        assert parts.sent(requests) == []
        assert Alarm.SENDER_ELSEWHERE in parts.raised()
        run(first)
        run(second)
        assert len(parts.script.raws()) == 1
        parts.relayer = first
        parts.finish(requests)

        settled(parts, requests)


def test_S66_a_relayer_that_lost_the_lease_while_it_decided_stores_and_sends_nothing(both_chains, tmp_path):
    with writing(both_chains, tmp_path) as parts:
        signer = funded(parts.account)
        first = parts.another("one")
        second = Relayer(parts.engine, both_chains.client, signer, parts.config, parts.clock, owner="two")
        run(parts.listener)
        first.step()
        requests = parts.posting(3)

        def overtaken(request, forward):
            parts.clock.now += RESEND_SECONDS
            second.step()
            return forward(request)

        parts.script.on("eth_estimateGas", Answer(overtaken), times=1)
        first.step()
        assert len(parts.sent(requests)) == 1
        assert parts.script.raws() == []
        parts.relayer = second
        parts.finish(requests)

        assert len(parts.sent(requests)) == 1
        settled(parts, requests)


@contextmanager
def second_process(parts):
    """Steps a relayer in another process; gives what it did."""
    argv = [sys.executable, "-m", "tests.scenarios.second_writer"]
    with subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def ask(**fields):
            process.stdin.write(json.dumps(fields) + "\n")
            process.stdin.flush()

        def steps():
            ask(now=parts.clock.now)
            answers = (line for line in process.stdout if line.startswith("answer "))
            return json.loads(next(answers).removeprefix("answer "))

        ask(
            config=parts.config.model_dump(mode="json"),
            url=parts.client.url,
            secret=FUNDED_SECRETS[parts.account],
            owner="the other process",
        )
        yield steps
        process.stdin.close()
        process.wait(20)


def test_S66_a_second_process_sends_nothing_until_the_first_is_gone(both_chains, tmp_path):
    with writing(both_chains, tmp_path) as parts, second_process(parts) as other:
        run(parts.listener)
        parts.relayer.step()
        requests = parts.posting(2)
        waited = other()
        assert (waited["moved"], waited["alarms"]) == (0, [Alarm.SENDER_ELSEWHERE.value])
        assert parts.script.raws() == []

        parts.clock.now += RESEND_SECONDS
        took_over = other()
        assert (took_over["moved"] > 0, took_over["alarms"]) == (True, [])
        assert len(parts.script.raws()) == 1
        run(parts.relayer)
        assert len(parts.script.raws()) == 1
        parts.clock.now += RESEND_SECONDS
        parts.finish(requests)

        assert len(parts.sent(requests)) == 1
        settled(parts, requests)


# -- clocks -------------------------------------------------------------------------------------------------------

JUMPS = {"an hour back": -3600, "an hour on": 3600}


@pytest.mark.parametrize("jump", JUMPS)
@pytest.mark.parametrize("when", ["before it is signed", "in flight", "mined"])
def test_S69_a_clock_that_jumps_posts_nothing_twice(both_chains, tmp_path, jump, when):
    with writing(both_chains, tmp_path, max_batch=1) as parts:
        parts.clock.now = 10_000.0
        requests = parts.posting(2)
        if when != "before it is signed":
            run(parts.relayer)
        if when == "mined":
            parts.chain.mine()
        parts.clock.now += JUMPS[jump]
        run(parts.relayer)
        parts.finish(requests)

        assert len({sent.nonce for sent in parts.sent(requests)}) == 2
        settled(parts, requests)


# -- a burst ------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(600)  # many blocks and calls
@pytest.mark.parametrize("max_batch", [1, 20])
def test_S70_a_hundred_results_at_once_are_all_posted_once(both_chains, tmp_path, max_batch):
    settings = LOTUS | {"max_pending": 3}  # fewer than may be in flight: "too many pending messages"
    with writing(both_chains, tmp_path, settings, max_batch=max_batch, max_in_flight=4) as parts:
        requests = parts.posting(100)
        for _ in range(2 * 100 // (4 * max_batch) + 4):
            parts.relayer.step()
            if not parts.waiting():
                break
            assert len(parts.open_nonces()) <= 4
            parts.chain.mine(2)
            run(parts.listener)
            parts.clock.now += RESEND_SECONDS
        parts.finish(requests)

        answers = [exchange.reply.body for exchange in parts.script.exchanges]
        assert any(b"too many pending messages" in answer for answer in answers)
        assert len(parts.sent(requests)) == 100 // max_batch
        settled(parts, requests)
