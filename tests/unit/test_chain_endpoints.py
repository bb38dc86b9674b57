"""The pool of endpoints over transports in memory: which one a call goes to, and what is counted."""

import json

import pytest

from bridge.chain.endpoints import PROBE_SECONDS, EndpointPool
from bridge.config import ChainConfig
from bridge.errors import FatalError, RateLimited, RpcUnavailable
from bridge.watch import Alarm, Watch

CONFIG = ChainConfig(
    rpc_urls=("http://unused.test",),
    chain_id=7,
    bridge_contract="0x5FbDB2315678afecb367f032d93F642f64180aa3",
    deploy_block=0,
    confirmation_depth=1,
    posting_depth=1,
    finality_depth=3,
)


class Node:
    """An endpoint in memory."""

    def __init__(self, head=10, chain_id="0x7"):
        self.head, self.chain_id, self.error, self.asked = head, chain_id, None, 0
        self.takes_batches = True

    def post(self, body):
        self.asked += 1
        if self.error is not None:
            raise self.error
        document = json.loads(body)
        if isinstance(document, list) and not self.takes_batches:
            return 400, b""
        answers = [self._answer(call) for call in (document if isinstance(document, list) else [document])]
        return 200, json.dumps(answers if isinstance(document, list) else answers[0]).encode()

    def _answer(self, call):
        if call["method"] == "eth_chainId":
            return {"id": call["id"], "result": self.chain_id}
        number = self.head if call["params"][0] == "latest" else int(call["params"][0], 16)
        fields = {"number": hex(number), "timestamp": "0x1", "parentHash": "0x" + "00" * 32}
        return {"id": call["id"], "result": fields | {"hash": "0x" + f"{number + 1:064x}"}}

    def close(self):
        self.asked = -1


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def watch():
    return Watch()


@pytest.fixture
def pool_of(clock, watch):
    return lambda *nodes, **known: EndpointPool(nodes, CONFIG, clock, watch, sleep=lambda _: None, **known)


def test_a_call_that_stands_alone_passes_over_an_endpoint_that_is_down(pool_of):
    down, up = Node(), Node()
    down.error = RpcUnavailable("down")
    assert pool_of(down, up).client(each_call=True).head().number == 10
    assert down.asked == 1


def test_a_call_that_stands_alone_passes_over_an_endpoint_that_is_behind(pool_of):
    behind, ahead = Node(head=5), Node(head=10)
    pool = pool_of(behind, ahead)
    pool.step()
    assert pool.client().poll(at_least=10).head.number == 10
    assert pool.client(each_call=True).head().number == 10


def test_an_endpoint_that_turns_out_to_be_behind_is_left_before_its_head_is_believed(pool_of, clock):
    first, second = Node(head=10), Node(head=10)
    pool = pool_of(first, second)
    client = pool.client()
    pool.step()
    assert client.poll(at_least=10).head.number == 10
    clock.now += 20
    first.error, second.head = RpcUnavailable("down"), 8
    with pytest.raises(RpcUnavailable, match="down"):
        client.poll(at_least=10)
    with pytest.raises(RpcUnavailable, match="behind"):
        client.poll(at_least=10)
    second.head = 11
    clock.now += 20
    assert client.poll(at_least=10).head.number == 11


def test_a_client_leaves_an_endpoint_that_was_refused_in_the_middle_of_its_step(pool_of, clock, watch):
    first, second = Node(), Node()
    pool = pool_of(first, second)
    client = pool.client()
    client.poll()
    first.chain_id = "0x8"
    clock.now += PROBE_SECONDS
    pool.step()
    assert [raised.alarm for raised in watch.alarms()] == [Alarm.ENDPOINT_REFUSED]

    with pytest.raises(RpcUnavailable, match="refused"):
        client.head()
    assert client.head().number == 10


def test_the_last_endpoint_that_is_refused_halts(pool_of):
    pool = pool_of(Node(chain_id="0x8"))
    with pytest.raises(FatalError, match="not on chain 7"):
        pool.client().poll()
    with pytest.raises(FatalError, match="not on chain 7"):
        pool.client().head()


def test_an_endpoint_that_asked_to_be_left_alone_is_not_looked_at(pool_of, clock):
    first, second = Node(), Node()
    second.error = RateLimited("slow down", 60.0)
    pool = pool_of(first, second)
    pool.step()
    asked = second.asked
    clock.now += 59
    pool.step()
    assert second.asked == asked
    second.error = None
    clock.now += PROBE_SECONDS
    pool.step()
    assert second.asked == asked + 1


def test_an_endpoint_that_answers_nonsense_counts_as_failed(pool_of, watch):
    pool = pool_of(Node(chain_id="seven"), Node())
    pool.step()
    assert watch.samples()["rpc_errors", (("endpoint", "endpoint:80"), ("kind", "answer"))] == 1


def test_endpoints_that_fail_are_looked_at_less_and_less_often(pool_of, clock):
    first, second = Node(), Node()
    second.error = RpcUnavailable("down")
    pool = pool_of(first, second)
    looks = []
    for _ in range(120):
        before = second.asked
        pool.step()
        looks.append(second.asked - before)
        clock.now += 10
    times = [at * 10 for at, look in enumerate(looks) if look]
    assert times == [0, 60, 180, 420, 720, 1020]


def test_what_one_endpoint_says_of_batches_does_not_count_for_the_next(pool_of):
    first, second = Node(), Node()
    first.takes_batches = False
    client = pool_of(first, second).client()
    client.poll()
    asked = first.asked
    client.poll()
    assert first.asked == asked + 2
    first.error = RpcUnavailable("down")
    with pytest.raises(RpcUnavailable):
        client.poll()
    client.poll()
    assert second.asked == 1


def test_others_leave_out_the_one_in_use_those_that_failed_and_those_known_to_be_below(pool_of):
    nodes = [Node(), Node(), Node(head=3), Node()]
    nodes[3].error = RpcUnavailable("down")
    client = pool_of(*nodes).client()
    client.poll()
    assert [other.head().number for other in client.others(5)] == [10]
    assert nodes[0].asked == 1


def test_an_endpoint_whose_first_block_is_not_the_known_one_is_refused(pool_of, watch):
    pool = pool_of(Node(), genesis=b"\x09" * 32)
    with pytest.raises(FatalError, match="first block"):
        pool.client().poll()
    assert {raised.alarm for raised in watch.alarms()} == {Alarm.ENDPOINT_REFUSED, Alarm.CHAIN_RESET}


def test_closing_the_pool_closes_every_endpoint(pool_of):
    nodes = [Node(), Node()]
    pool_of(*nodes).close()
    assert [node.asked for node in nodes] == [-1, -1]
