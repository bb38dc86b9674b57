"""Why nothing is happening, in words: facts in, sentences out."""

import pytest

from bridge.jobs import JobState
from bridge.redaction import endpoint_name, redacted
from bridge.standing import DeliveriesFact, EndpointFact, Facts, JobsFact, LoopFact, endpoint_facts, span, standing_of
from bridge.watch import Alarm, Raised
from executor.protocol.reasons import Reason

NOW = 10_000.0


def facts(**changes):
    """A bridge that is at rest, with everything in order."""
    fields = {
        "now": NOW,
        "scanned": 100,
        "final": 90,
        "head": 100,
        "block_at": NOW - 30,
        "confirmation_depth": 5,
        "posting_depth": 7,
        "stale_seconds": 300.0,
        "nodes": 1,
    }
    return Facts(**{**fields, **changes})


def jobs(state, reason=Reason.NONE, count=1):
    return {"jobs": [JobsFact(JobState(state), reason, count)]}


def deliveries(state, detail="", count=1):
    return {"deliveries": [DeliveriesFact("fulfil", state, detail, count, NOW - 600)]}


def raised(alarm, over_at=None, times=1):
    return Raised(alarm, "said so", NOW - 7200, NOW - 60, times, over_at)


REST = "nothing is wrong: no request is open"
#: facts -> the last line
CONCLUSIONS = {
    "at rest": ({}, REST),
    "nothing read yet": ({"scanned": None, "final": None}, "waiting for: the first block from the chain"),
    "an old head": ({"block_at": NOW - 3600}, "waiting for: a newer block than 100"),
    "blocks that are left to read": (
        {"scanned": 0, "head": 554, "block_at": NOW - 3600},
        "waiting for: the bridge's own reading: 554 blocks are left",
    ),
    "a head of unknown age": ({"block_at": None}, REST),
    "young requests": (jobs("observed", count=2), "waiting for: 5 blocks on top of the request (2 jobs)"),
    "no node at all": ({**jobs("ready"), "nodes": 0}, "waiting for: a node: none is connected (1 job)"),
    "no job was asked for": (jobs("ready"), "waiting for: a node that asks for work (1 job)"),
    "no node that matches": (
        jobs("ready", Reason.NO_NODE_MATCHES, 3),
        "waiting for: a node with what the request asks for (labels, tier, capacity, price) (3 jobs)",
    ),
    "busy nodes": (jobs("ready", Reason.NODES_BUSY), "waiting for: a node that is free (1 job)"),
    "a reason of no meaning here": (
        jobs("ready", Reason.MEMORY_LIMIT),
        "waiting for: a node that asks for work (1 job)",
    ),
    "running": (jobs("running"), "waiting for: the nodes that run it (1 job)"),
    "no agreement": (
        jobs("running", Reason.NO_AGREEMENT),
        "waiting for: its deadline: the nodes' outcomes differ (1 job)",
    ),
    "held": (jobs("held"), "waiting for: a person's release at the node (1 job)"),
    "attested": (jobs("attested"), "waiting for: its output to be read back (1 job)"),
    "stored": (jobs("stored"), "waiting for: 7 blocks on top of the request (1 job)"),
    "without copies": (
        jobs("stored", Reason.COPIES_MISSING),
        "waiting for: copies of its output at other places (1 job)",
    ),
    "posting without a delivery": (jobs("posting"), "waiting for: its delivery (1 job)"),
    "posting with a delivery": (
        {**jobs("posting"), **deliveries("sent")},
        "waiting for: a block with the transaction (1 delivery)",
    ),
    "posted": (jobs("posted"), "waiting for: the result's block to be final (1 job)"),
    "a state that waits for nothing": (jobs("final"), "waiting for: nothing (1 job)"),
    "deliveries that were put off": (
        deliveries("new", "the base fee is above relayer.max_fee_per_gas_wei", 2),
        "waiting for: the base fee is above relayer.max_fee_per_gas_wei (2 deliveries)",
    ),
    "a delivery in an unknown state": (deliveries("dozing"), "waiting for: the relayer (1 delivery)"),
    "one failure of a loop": ({"loops": [LoopFact("listener", 1, NOW, "x")]}, REST),
    "a failure that lasts": (
        {"loops": [LoopFact("listener", 1, NOW - 20, "x")]},
        "waiting for: loop listener to succeed (x)",
    ),
    "a loop that fails": (
        {"loops": [LoopFact("listener", 3, NOW - 300, "x")]},
        "waiting for: loop listener to succeed (x)",
    ),
    "two loops that fail of one cause, and one of another": (
        {
            "loops": [
                LoopFact("listener", 3, NOW, "x"),
                LoopFact("relayer", 3, NOW, "x"),
                LoopFact("server", 3, NOW, "y"),
            ]
        },
        "waiting for: loops listener, relayer to succeed (x); loop server to succeed (y)",
    ),
    "no funds": ({"alarms": [raised(Alarm.NO_FUNDS)]}, "waiting for: funds for the relayer: it is paused"),
    "low balance": ({"alarms": [raised(Alarm.LOW_BALANCE)]}, "waiting for: funds for the relayer: its balance is low"),
    "halted": ({"alarms": [raised(Alarm.HALTED)]}, "waiting for: a person: the bridge has halted"),
    "another alarm": (
        {"alarms": [raised(Alarm.STALE_HEAD), raised(Alarm.DAY_CAP)]},
        "waiting for: a look at the alarms day_cap, stale_head",
    ),
    "an alarm that is over": ({"alarms": [raised(Alarm.STALE_HEAD, NOW)]}, f"{REST} (1 alarm to acknowledge)"),
    "one endpoint of two": ({"endpoints": [EndpointFact("a"), EndpointFact("b", "behind")]}, REST),
    "no endpoint": (
        {"endpoints": [EndpointFact("a", "429"), EndpointFact("b", "behind")]},
        "waiting for: an endpoint that can be used",
    ),
}


@pytest.mark.parametrize("case", CONCLUSIONS)
def test_the_last_line_says_what_is_waited_for(case):
    changes, expected = CONCLUSIONS[case]

    assert standing_of(facts(**changes)).conclusion == expected


AT_HEAD = "chain: read up to block 100, the endpoint's head"
#: facts -> a line among the others
LINES = {
    "at the head": (
        {},
        f"{AT_HEAD}; final up to 90, 10 blocks behind that; the newest block is 30 s old",
    ),
    "behind": (
        {"head": 130, "block_at": None},
        "chain: read up to block 100, 30 behind the endpoint's head; final up to 90, 10 blocks behind that",
    ),
    "of unknown head": (
        {"head": None, "block_at": None},
        "chain: read up to block 100; final up to 90, 10 blocks behind that",
    ),
    "a relayer's means": ({"affordable": 12}, "relayer: its balance pays for about 12 deliveries more"),
    "a relayer's last means": ({"affordable": 1}, "relayer: its balance pays for about 1 delivery more"),
    "nothing read": ({"final": None}, "chain: nothing read yet"),
    "an alarm whose cause stands": (
        {"alarms": [raised(Alarm.STALE_HEAD, times=3)]},
        "alarm stale_head (first 2 h ago, 3 times, its cause stands): said so",
    ),
    "an alarm that is over": (
        {"alarms": [raised(Alarm.STALE_HEAD, NOW - 40)]},
        "alarm stale_head (first 2 h ago, once, over 40 s ago): said so",
    ),
    "a failing loop": (
        {"loops": [LoopFact("relayer", 12, NOW - 600, "RpcUnavailable: no")]},
        "loop relayer: failing for 10 min, 12 times in a row: RpcUnavailable: no",
    ),
    "a loop that fails since nobody knows when": (
        {"loops": [LoopFact("relayer", 12, None, "no")]},
        "loop relayer: failing for 0 s, 12 times in a row: no",
    ),
    "an endpoint that may be used": (
        {"endpoints": [EndpointFact("http://a", "", 7)]},
        "endpoint http://a: last showed block 7",
    ),
    "an endpoint that is not": ({"endpoints": [EndpointFact("http://a", "behind")]}, "endpoint http://a: behind"),
    "jobs with a reason": (
        jobs("ready", Reason.NODES_BUSY, 2),
        "jobs: 2 jobs ready (NODES_BUSY): waiting for a node that is free",
    ),
    "jobs without one": (jobs("running"), "jobs: 1 job running: waiting for the nodes that run it"),
    "deliveries": (
        deliveries("new", "fees"),
        "deliveries: 1 fulfil new, the oldest for 10 min: fees",
    ),
}


@pytest.mark.parametrize("case", LINES)
def test_every_fact_has_its_line(case):
    changes, expected = LINES[case]

    assert expected in standing_of(facts(**changes)).lines


def test_an_endpoint_that_is_behind_the_others_is_of_no_use():
    found = endpoint_facts({"b": 100, "a": 94, "c": 95})

    assert [(fact.name, fact.problem) for fact in found] == [("a", "6 blocks behind the others"), ("b", ""), ("c", "")]
    assert endpoint_facts({}) == []


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-5, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (172_799, "48 h"), (864_000, "10 days")],
)
def test_spans_are_in_a_unit_that_people_use(seconds, words):
    assert span(seconds) == words


#: what must not be shown -> what is
SECRET = "https://user:hunter2hunter2@rpc.example:8545/v3/0123456789abcdef?token=feedfacefeedface#x"
TEXTS = {
    "a URL of ours": (f"POST {SECRET} failed", "POST https://rpc.example:8545 failed"),
    "a foreign URL": ("see https://else.where/path/abcdefgh.", "see https://else.where"),
    "the secret alone": ("key 0123456789abcdef is used up", "key *** is used up"),
    "a query alone": ("bad token feedfacefeedface", "bad token ***"),
    "a password alone": ("hunter2hunter2!", "***!"),
    "a websocket": ("wss://a.b/secretsecret", "wss://a.b"),
    "words of a path": ("v3 of the protocol", "v3 of the protocol"),
    "nothing secret": ("all is well", "all is well"),
}


@pytest.mark.parametrize("case", TEXTS)
def test_urls_and_their_secret_parts_are_not_shown(case):
    text, shown = TEXTS[case]

    assert redacted(text, [SECRET, "http://127.0.0.1:8545"]) == shown


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (SECRET, "https://rpc.example:8545"),
        ("http://127.0.0.1:8545", "http://127.0.0.1:8545"),
        ("http://h?k=1", "http://h"),
        ("nonsense", "endpoint"),
    ],
)
def test_an_endpoint_is_called_by_its_host(url, name):
    assert endpoint_name(url) == name
