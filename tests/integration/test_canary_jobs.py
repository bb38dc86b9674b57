"""The canary's job against a real bridge's API, without a chain: what goes wrong is told, and whose fault it is."""

import secrets
from dataclasses import replace

import pytest

from bridge.canary.contents import Account
from bridge.canary.jobs import JobProbe
from bridge.canary.records import Blame
from bridge.canary.traces import Traces
from bridge.chain.operate import OutOfFunds, TransactionFailed, TransactionPending
from bridge.cli.texts import standing
from bridge.errors import RpcUnavailable
from bridge.jobs import JobState
from executor.content.web import Http, Signer
from executor.errors import InvalidInput
from executor.protocol.nodeauth import Audience
from executor.protocol.wire import OnChainState
from tests.bridge_kit import CHAIN_ID, CONTRACT, SCOPE, order_of
from tests.canary_kit import UPLOADER, serving
from tests.clocks import PausedClock
from tests.raw_server import RawServer, head, send

ORDER = order_of(ttl=30)
PRICE = ORDER.price


@pytest.fixture
def served(tmp_path):
    with serving(tmp_path / "bridge") as served:
        yield served


@pytest.fixture
def probe_of(served, tmp_path):
    """A probe, whose orders are placed by what is given; `look` runs it, its traces stay open until the end."""
    traces = Traces.open(tmp_path / "canary", "one")
    time = PausedClock()

    def make(place, max_spend=10 * PRICE):
        return JobProbe(
            order=ORDER, selector="", contract=CONTRACT, client=None, place=place, say_why=standing, traces=traces,
            locks=tmp_path / "canary", max_spend=max_spend, fresh=secrets.token_bytes, timer=time, pause=time.pause,
        )  # fmt: skip

    yield make
    traces.close()


def look(probe, served, url=None):
    """One job; its only trouble."""
    audience = Audience(SCOPE, served.url)
    with Http(url or served.url, Signer(UPLOADER, audience)) as http:
        probe.run(http, Account(served.url, CHAIN_ID, CONTRACT, UPLOADER.address))
    [trouble] = probe.troubles
    probe.troubles.clear()
    assert probe.jobs == []
    return trouble


def failing(error):
    def place(_):
        raise error

    return place


#: name -> (what ordering raises, whose trouble that is)
NOT_ORDERED = {
    "no funds": (OutOfFunds("account 0x1 holds 0 wei"), Blame.OWN),
    "a lock that is held for too long": (InvalidInput("lock", "another canary has held it"), Blame.OWN),
    "a paused contract": (TransactionFailed("the contract is paused"), Blame.NETWORK),
    "not mined in time": (TransactionPending("not mined after 180 s"), Blame.NETWORK),
    "no endpoint": (RpcUnavailable("no answer"), Blame.NETWORK),
}


@pytest.mark.parametrize("what", NOT_ORDERED)
def test_a_job_that_cannot_be_ordered_is_told_with_the_reason(probe_of, served, what):
    error, blame = NOT_ORDERED[what]

    trouble = look(probe_of(failing(error)), served)

    assert trouble.blame is blame
    assert trouble.text.startswith("no job was ordered: ")
    assert str(error) in trouble.text


def test_what_was_ordered_counts_as_spent_and_what_could_not_be_paid_does_not(probe_of, served):
    pending = probe_of(failing(TransactionPending("not mined")), max_spend=PRICE)
    look(pending, served)
    assert pending.spent == PRICE
    assert look(pending, served).text == f"no job was ordered: --max-spend is {PRICE}, {PRICE} of it is spent"

    poor = probe_of(failing(OutOfFunds("no")))
    look(poor, served)
    assert poor.spent == 0


def placed(served, **values):
    """A `place` after which the bridge has seen the request, and it is as given."""

    def place(order):
        job = served.bridge.request(replace(order, ttl=30))
        if values:
            served.bridge.set_job(job.request_hash, **values)
        return {"requestId": job.request.id, "requestHash": f"0x{job.request_hash.hex()}"}

    return place


def test_a_job_that_the_bridge_does_not_see_is_told(probe_of, served):
    unseen = {"requestId": 7, "requestHash": "0x" + "ab" * 32}

    trouble = look(probe_of(lambda _: unseen), served)

    assert trouble.text == "job 7 is not settled after 30 s: the bridge has not seen it, or does not answer"


def test_a_job_that_stays_open_is_told_with_what_it_awaits(probe_of, served):
    trouble = look(probe_of(placed(served)), served)

    assert trouble.text.startswith("job 1 is not settled after 30 s: ready: ")
    assert trouble.blame is Blame.NETWORK


def test_a_job_that_ended_otherwise_is_told_with_its_state(probe_of, served):
    place = placed(served, state=JobState.EXPIRED.value, chain_state=int(OnChainState.EXPIRED))

    assert look(probe_of(place), served).text.startswith("job 1 ended as EXPIRED: ")


def test_a_job_that_is_said_to_be_done_without_a_record_is_not_believed(probe_of, served):
    place = placed(served, state=JobState.POSTED.value, chain_state=int(OnChainState.FULFILLED))

    trouble = look(probe_of(place), served)

    assert trouble.text == "job 1 is settled, but its record does not hold: the bridge shows no record of it"


ENDED = b'{"state": "expired", "chain_state": "EXPIRED"}'
AT_NO_MOMENT = b'{"state": "x", "ended": {"nodes": [1], "at": 1%s, "block_number": 1, "how": "x"}}' % (b"0" * 400)
LONG = b'{"state": "x", "detail": "%s", "awaiting": "x"}' % (b"long " * 10_000)
#: name -> (what the bridge says of the job, one call after the other, and what is told)
MISCHIEF = {
    "a job nested too deeply": ([b"[" * 200_000], "job 7 is not settled after 30 s: the bridge has not seen it"),
    "an end at no moment": ([ENDED, AT_NO_MOMENT], "job 7 ended as EXPIRED: the bridge's explanation is not"),
    "an end by no list": ([ENDED, b'{"ended": {"nodes": 1}}'], "job 7 ended as EXPIRED: the bridge's explanation is"),
    "a long story": ([ENDED, LONG], "job 7 ended as EXPIRED: x: long long"),
}


@pytest.mark.parametrize("what", MISCHIEF)
def test_what_a_bridge_says_of_a_job_may_be_anything(probe_of, served, what):
    answers, said = MISCHIEF[what]
    takes_all = send(head(), b'{"missing": []}')
    placed_so = {"requestId": 7, "requestHash": "0x" + "ab" * 32}
    with RawServer(takes_all, takes_all, *(send(head(), answer) for answer in answers)) as server:
        trouble = look(probe_of(lambda _: placed_so), served, server.url)

    assert trouble.text.startswith(said)
    assert len(trouble.text) < 400


def test_a_bridge_that_does_not_take_the_program_is_told_and_nothing_is_paid(probe_of, tmp_path, served):
    with serving(tmp_path / "closed", accounts=()) as closed:
        probe = probe_of(failing(AssertionError("ordered")))
        trouble = look(probe, closed)

    assert trouble.blame is Blame.OWN
    assert trouble.text.startswith("no job was ordered, its program cannot be brought: the bridge ")
    assert (probe.spent, probe.traces.left()) == (0, [])


def test_the_uploads_of_a_job_are_written_down_and_private(probe_of, served):
    probe = probe_of(failing(OutOfFunds("no")))
    look(probe, served)

    assert [entry.account for entry in probe.traces.left()] == [UPLOADER.address] * 2
    assert served.roots() == [f"upload:{UPLOADER.address}:private"] * 2
