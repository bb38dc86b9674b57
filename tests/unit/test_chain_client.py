"""The client against a real HTTP server that answers well, badly, too much, too slowly or not at all."""

import gzip
import json

import pytest

from bridge.chain.client import Block, ChainClient
from bridge.chain.rpc_errors import RESPONSE_TOO_LARGE
from bridge.errors import NullRound, RateLimited, RpcError, RpcRefused, RpcUnavailable
from executor.errors import InvalidInput
from tests.chain_proxy import DROP, Proxy, error, ok

ADDRESS = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
HASH = b"\xaa" * 32


def block(number=5, block_hash=HASH, **more):
    fields = {"number": hex(number), "hash": "0x" + block_hash.hex(), "parentHash": "0x" + "bb" * 32}
    return {**fields, "timestamp": "0x10", "baseFeePerGas": "0x7", **more}


def entry(number=5, **more):
    fields = {"address": ADDRESS.lower(), "topics": ["0x" + "01" * 32], "data": "0x", "blockNumber": hex(number)}
    return {**fields, "blockHash": "0x" + "aa" * 32, "transactionHash": "0x" + "cc" * 32, "removed": False, **more}


def receipt(**more):
    fields = {"transactionHash": "0x" + "cc" * 32, "blockNumber": "0x5", "blockHash": "0x" + "aa" * 32}
    return {**fields, "status": "0x1", "gasUsed": "0x5208", "contractAddress": None, **more}


@pytest.fixture
def proxy():
    with Proxy() as proxy:
        yield proxy


@pytest.fixture
def client(proxy):
    with ChainClient(proxy.url, 2.0, max_response_bytes=100_000) as client:
        yield client


def answer(proxy, result):
    proxy.rules["*"] = lambda request, forward: ok(request, result)


def refuse(proxy, *fields):
    proxy.rules["*"] = lambda request, forward: error(request, *fields)


def test_an_address_that_is_no_url_is_refused():
    with pytest.raises(InvalidInput, match="http"):
        ChainClient("ws://127.0.0.1:1")


def test_the_environments_proxy_is_used(proxy, monkeypatch):
    answer(proxy, "0x7")
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ChainClient("http://endpoint.invalid", 2.0) as client:
        assert client.chain_id() == 7
    with ChainClient("http://127.0.0.1:1", 2.0) as client, pytest.raises(RpcUnavailable):
        client.chain_id()


def test_nobody_listening_is_unavailable():
    with ChainClient("http://127.0.0.1:1", 2.0) as client, pytest.raises(RpcUnavailable):
        client.chain_id()


def test_a_call_is_made_once_and_never_retried_by_itself(proxy, client):
    proxy.rules["*"] = lambda request, forward: (503, b"")
    with pytest.raises(RpcUnavailable):
        client.send_raw(b"\x02")
    assert proxy.methods() == ["eth_sendRawTransaction"]


def test_a_block_is_what_was_asked_for(proxy, client):
    answer(proxy, block())
    expected = Block(5, HASH, b"\xbb" * 32, 16)
    assert client.head() == client.block_by_number(5) == client.block_by_hash(HASH) == expected


def test_another_block_than_the_hash_asked_for_is_malformed(proxy, client):
    answer(proxy, block())
    with pytest.raises(RpcUnavailable, match=r"block\.hash"):
        client.block_by_hash(b"\x01" * 32)


def test_an_unknown_hash_is_none(proxy, client):
    answer(proxy, None)
    assert client.block_by_hash(HASH) is None
    assert client.receipt(HASH) is None


NULL_ROUNDS = {
    "lotus since 1.31": (12, "requested epoch was a null round (5)", 5),
    "lotus before": (1, "requested epoch was a null round"),
    "lotus, wrapped": (1, "bad block parameter 0x5: requested epoch was a null round"),
}


@pytest.mark.parametrize("dialect", NULL_ROUNDS)
def test_a_null_round_in_an_errors_words(proxy, client, dialect):
    refuse(proxy, *NULL_ROUNDS[dialect])
    with pytest.raises(NullRound) as caught:
        client.block_by_number(5)
    assert caught.value.number == 5


@pytest.mark.parametrize("result", [None, block(4), block(3)])
def test_a_null_round_as_nothing_or_as_another_block(proxy, client, result):
    answer(proxy, result)
    with pytest.raises(NullRound):
        client.block_by_number(5)


def test_code_12_of_a_provider_that_means_something_else_is_no_null_round(proxy, client):
    refuse(proxy, 12, "Can't route your request to suitable provider")
    with pytest.raises(RpcUnavailable, match="route"):
        client.block_by_number(5)


def test_the_first_block_is_none_where_the_endpoint_does_not_look_back_so_far(proxy, client):
    refuse(proxy, 1, "lookbacks of more than 24h0m0s are disallowed")
    assert client.genesis_hash() is None


MALFORMED = {
    "not JSON": b"<html>",
    "not UTF-8": b"\xff\xfe",
    "empty": b"",
    "a list": b"[]",
    "nested too deep": b"[" * 50_000 + b"]" * 50_000,
    "no result": b'{"jsonrpc":"2.0","id":1}',
    "another id": b'{"jsonrpc":"2.0","id":77,"result":"0x1"}',
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_answer_is_unavailable(proxy, client, name):
    proxy.rules["*"] = lambda request, forward: MALFORMED[name]
    with pytest.raises(RpcUnavailable):
        client.chain_id()


def test_an_answer_with_both_error_and_result_is_malformed(proxy, client):
    proxy.rules["*"] = lambda request, forward: error(request, 5, "no") | {"result": "0x1"}
    with pytest.raises(RpcUnavailable, match="malformed"):
        client.chain_id()


def test_an_error_beside_an_empty_result_is_an_error(proxy, client):
    proxy.rules["*"] = lambda request, forward: error(request, 5, "no") | {"result": None}
    with pytest.raises(RpcRefused, match="no"):
        client.chain_id()


BAD_NUMBERS = [None, 1, 1.5, "1", "0x", "0xg", "-0x1", "0x" + "f" * 65, "0x8000000000000000", ["0x1"], True]


@pytest.mark.parametrize("value", BAD_NUMBERS)
def test_a_number_that_is_none_or_too_large_is_malformed(proxy, client, value):
    answer(proxy, value)
    with pytest.raises(RpcUnavailable, match="malformed"):
        client.nonce(ADDRESS)


BAD_BLOCKS = {
    "no object": "0x1",
    "no hash": block(hash=None),
    "a short hash": block(hash="0xaa"),
    "no parent": block(parentHash=None),
    "a number out of range": block(number=2**63),
    "a time that is none": block(timestamp="now"),
}


@pytest.mark.parametrize("name", BAD_BLOCKS)
def test_a_block_of_another_shape_is_malformed(proxy, client, name):
    answer(proxy, BAD_BLOCKS[name])
    with pytest.raises(RpcUnavailable, match="malformed"):
        client.head()


def test_logs_are_read_and_removed_ones_left_out(proxy, client):
    answer(proxy, [entry(), entry(removed=True)])
    (log,) = client.logs_by_range(5, 5, ADDRESS)
    assert (log.address, log.block_number, log.block_hash) == (ADDRESS, 5, HASH)
    assert client.logs_by_hash(HASH, ADDRESS) == [log]


BAD_LOGS = {
    "no list": {},
    "of another contract": [entry(address="0x" + "11" * 20)],
    "outside the range": [entry(6)],
    "five topics": [entry(topics=["0x" + "01" * 32] * 5)],
    "a short topic": [entry(topics=["0x01"])],
    "a topic with another beginning": [entry(topics=["00" + "01" * 32])],
    "a topic that is no hexadecimal number": [entry(topics=["0x" + "zz" * 32])],
    "a topic with letters of another script": [entry(topics=["0x" + "\u0661" * 64])],
    "a topic that is a number": [entry(topics=[7])],
    "a topic that is a list": [entry(topics=[["0x"] * 66])],
    "topics of uneven length, together right": [entry(topics=["0x" + "01" * 31, "0x" + "01" * 33])],
    "topics that are no list": [entry(topics="0x01")],
    "odd data": [entry(data="0x1")],
    "spaces in the data": [entry(data="0x01 02")],
    "no hexadecimal data": [entry(data="0xzz")],
    "a hash that is no text": [entry(blockHash=7)],
    "a hash that is a list": [entry(blockHash=[])],
    "a short hash": [entry(transactionHash="0x01")],
    "no object": ["log"],
}


def test_each_log_has_its_own_place(proxy, client):
    places = [("aa", "cc"), ("aa", "cc"), ("aa", "dd"), ("bb", "dd"), ("aa", "cc")]
    answer(proxy, [entry(blockHash="0x" + b * 32, transactionHash="0x" + t * 32) for b, t in places])

    logs = client.logs_by_range(5, 5, ADDRESS)
    assert [(log.block_hash, log.tx_hash) for log in logs] == [
        (bytes.fromhex(b * 32), bytes.fromhex(t * 32)) for b, t in places
    ]


@pytest.mark.parametrize("name", BAD_LOGS)
def test_logs_of_another_shape_are_malformed_as_a_whole(proxy, client, name):
    answer(proxy, BAD_LOGS[name])
    with pytest.raises(RpcUnavailable, match="malformed"):
        client.logs_by_range(5, 5, ADDRESS)


def test_logs_of_another_block_than_the_hash_asked_for_are_malformed(proxy, client):
    answer(proxy, [entry(blockHash="0x" + "ab" * 32)])
    with pytest.raises(RpcUnavailable, match="blockHash"):
        client.logs_by_hash(HASH, ADDRESS)


def test_a_receipt_is_of_the_transaction_asked_for_or_none(proxy, client):
    answer(proxy, receipt())
    assert client.receipt(b"\xcc" * 32).ok
    assert client.receipt(b"\xcd" * 32) is None
    answer(proxy, receipt(status="0x0", contractAddress=ADDRESS))
    assert not client.receipt(b"\xcc" * 32).ok
    assert client.receipt(b"\xcc" * 32).contract_address == ADDRESS


def test_a_transactions_hash_must_be_that_of_its_bytes(proxy, client):
    answer(proxy, "0x" + "11" * 32)
    with pytest.raises(RpcUnavailable, match="transaction hash"):
        client.send_raw(b"\x02\x01")


def test_fees_are_the_newest_blocks_base_fee_and_the_endpoints_tip(proxy, client):
    proxy.rules["eth_getBlockByNumber"] = lambda request, forward: ok(request, block())
    proxy.rules["eth_maxPriorityFeePerGas"] = lambda request, forward: ok(request, "0x2")
    assert client.fees() == (7, 2)


def test_an_answer_beyond_the_byte_limit_is_refused(proxy, client):
    answer(proxy, "0x" + "00" * 60_000)
    with pytest.raises(RpcRefused) as caught:
        client.call(ADDRESS, b"")
    assert caught.value.code == RESPONSE_TOO_LARGE


def test_a_compressed_answer_is_limited_by_what_it_unpacks_to(proxy, client):
    proxy.headers["content-encoding"] = "gzip"
    proxy.rules["*"] = lambda request, forward: gzip.compress(b" " * 50_000_000)
    with pytest.raises(RpcRefused) as caught:
        client.chain_id()
    assert caught.value.code == RESPONSE_TOO_LARGE


def test_a_compressed_answer_is_read(proxy, client):
    proxy.headers["content-encoding"] = "gzip"
    proxy.rules["*"] = lambda request, forward: gzip.compress(json.dumps(ok(request, "0x7")).encode())
    assert client.chain_id() == 7


def test_a_compressed_answer_that_is_none_is_unavailable(proxy, client):
    proxy.headers["content-encoding"] = "gzip"
    answer(proxy, "0x1")
    with pytest.raises(RpcUnavailable):
        client.chain_id()


def test_an_answer_that_drips_is_given_up_at_the_deadline(proxy):
    answer(proxy, "0x" + "00" * 100)
    proxy.piece, proxy.drip_seconds = 1, 0.05
    with ChainClient(proxy.url, 0.5) as client, pytest.raises(RpcUnavailable):
        client.call(ADDRESS, b"")
    proxy.drip.set()


def test_an_answer_that_is_cut_is_unavailable(proxy, client):
    answer(proxy, "0x1")
    proxy.announced = lambda size: size + 10
    with pytest.raises(RpcUnavailable):
        client.chain_id()


def test_a_connection_that_is_closed_unanswered_is_unavailable(proxy, client):
    proxy.rules["*"] = lambda request, forward: DROP
    with pytest.raises(RpcUnavailable):
        client.chain_id()


STATUSES = {
    408: RpcUnavailable,
    429: RpcUnavailable,
    500: RpcUnavailable,
    503: RpcUnavailable,
    403: RpcRefused,
    413: RpcRefused,
}


@pytest.mark.parametrize(("status", "expected"), STATUSES.items())
def test_an_http_status_has_its_meaning(proxy, client, status, expected):
    proxy.rules["*"] = lambda request, forward: (status, b"<html>")
    with pytest.raises(expected):
        client.chain_id()


def test_an_error_in_the_body_of_an_http_error_counts(proxy, client):
    proxy.rules["*"] = lambda request, forward: (500, error(request, -32601, "method not found"))
    with pytest.raises(RpcRefused, match="method not found"):
        client.chain_id()


def test_a_redirect_is_not_followed(proxy, client):
    proxy.headers["location"] = proxy.url
    proxy.rules["*"] = lambda request, forward: (307, b"")
    with pytest.raises(RpcError):
        client.chain_id()
    assert len(proxy.seen) == 1


# -- batches ----------------------------------------------------------------------------------------------------------

HEAD = ("eth_getBlockByNumber", ("latest", False))
CHAIN = ("eth_chainId", ())


def each(answer_of):
    """A rule that answers each call of a batch."""
    return lambda requests, forward: json.dumps([answer_of(request) for request in requests]).encode()


def test_a_batch_is_one_request_and_answers_come_in_the_order_of_the_calls(proxy, client):
    results = {"eth_chainId": "0x1", "eth_getBlockByNumber": block()}
    proxy.batch_rule = lambda requests, forward: json.dumps(
        [ok(request, results[request["method"]]) for request in reversed(requests)]
    ).encode()

    assert client.batch([CHAIN, HEAD, CHAIN]) == ["0x1", block(), "0x1"]
    assert len(proxy.seen) == 1


def test_a_call_of_a_batch_that_fails_leaves_the_others_alone(proxy, client):
    proxy.batch_rule = each(
        lambda request: ok(request, "0x1") if request["method"] == "eth_chainId" else error(request, -32000, "no")
    )
    first, second = client.batch([CHAIN, HEAD])

    assert first == "0x1"
    assert isinstance(second, RpcRefused)


MISSING = {
    "left out": [],
    "another id": [{"jsonrpc": "2.0", "id": 10**9, "result": "0x1"}],
    "not an object": [7],
    "a list as its id": [{"jsonrpc": "2.0", "id": [], "result": "0x1"}],
    "an object as its id": [{"jsonrpc": "2.0", "id": {}, "result": "0x1"}],
    "no id": [{"jsonrpc": "2.0", "result": "0x1"}],
}


@pytest.mark.parametrize("missing", MISSING)
def test_a_call_that_a_batch_does_not_answer_is_unavailable(proxy, client, missing):
    proxy.batch_rule = lambda requests, forward: json.dumps([ok(requests[0], "0x1"), *MISSING[missing]]).encode()
    first, second = client.batch([CHAIN, CHAIN])

    assert first == "0x1"
    assert isinstance(second, RpcUnavailable)


@pytest.mark.parametrize("refusal", ["one error", "a status"])
def test_an_endpoint_that_takes_no_batches_is_asked_call_by_call(proxy, client, refusal):
    refused = {"one error": b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"batch"}}', "a status": b""}
    proxy.batch_rule = lambda requests, forward: (400 if refusal == "a status" else 200, refused[refusal])
    answer(proxy, "0x1")

    assert client.batch([CHAIN, CHAIN]) == ["0x1", "0x1"]
    assert client.batch([CHAIN, CHAIN]) == ["0x1", "0x1"]
    assert [isinstance(seen, list) for seen in proxy.seen] == [True, False, False, False, False]


def test_a_batch_whose_answer_is_too_large_is_asked_call_by_call(proxy, client):
    proxy.batch_rule = lambda requests, forward: b" " * 200_000
    answer(proxy, "0x1")

    assert client.batch([CHAIN, CHAIN]) == ["0x1", "0x1"]


WHOLE_BATCH_FAULTS = {
    "null": b"null",
    "a number": b"7",
    "busy": b'{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"server busy"}}',
}


@pytest.mark.parametrize("name", WHOLE_BATCH_FAULTS)
def test_a_batch_that_gets_no_answer_is_unavailable_and_not_asked_call_by_call(proxy, client, name):
    proxy.batch_rule = lambda requests, forward: WHOLE_BATCH_FAULTS[name]
    with pytest.raises(RpcUnavailable):
        client.batch([CHAIN, CHAIN])
    assert len(proxy.seen) == 1


# -- polls ------------------------------------------------------------------------------------------------------------


def chain_with(proxy, **tags):
    proxy.rules["eth_chainId"] = lambda request, forward: ok(request, "0x7")
    proxy.rules["eth_getBlockByNumber"] = lambda request, forward: (
        ok(request, tags[request["params"][0]])
        if request["params"][0] in tags
        else error(request, -32602, "unsupported tag")
    )


def test_a_poll_is_one_request(proxy, client):
    chain_with(proxy, latest=block(9), safe=block(7), finalized=block(5))
    poll = client.poll("safe", "finalized")

    assert (poll.chain_id, poll.head.number) == (7, 9)
    assert {tag: found.number for tag, found in poll.tagged.items()} == {"safe": 7, "finalized": 5}
    assert len(proxy.seen) == 1


@pytest.mark.parametrize("odd", [None, "0x1", block(hash=None)])
def test_a_tag_that_the_endpoint_does_not_give_is_left_out(proxy, client, odd):
    chain_with(proxy, latest=block(9), safe=odd)

    assert client.poll("safe", "finalized").tagged == {}


def test_hashes_of_many_blocks_are_one_request_and_null_rounds_have_none(proxy, client):
    answers = {"0x5": lambda r: ok(r, block(5)), "0x6": lambda r: ok(r, block(5)), "0x7": lambda r: ok(r, None)}
    answers["0x8"] = lambda r: error(r, 12, "requested epoch was a null round (8)")
    proxy.rules["eth_getBlockByNumber"] = lambda request, forward: answers[request["params"][0]](request)

    assert client.hashes_at([5, 6, 7, 8]) == {5: HASH, 6: None, 7: None, 8: None}
    assert len(proxy.seen) == 1
    proxy.batch_rule = lambda requests, forward: (400, b"")
    assert client.hashes_at([5, 8]) == {5: HASH, 8: None}
    with pytest.raises(RpcRefused):
        refuse(proxy, -32601, "no")
        proxy.rules.pop("eth_getBlockByNumber")
        client.hashes_at([5, 6])


def test_a_poll_without_a_head_fails(proxy, client):
    chain_with(proxy)
    with pytest.raises(RpcRefused, match="tag"):
        client.poll()


def test_a_look_shows_the_first_block_where_the_endpoint_does(proxy, client):
    chain_with(proxy, latest=block(9))
    assert client.look(genesis=True).genesis is None
    chain_with(proxy, **{"latest": block(9), "0x0": block(0)})
    assert client.look(genesis=True).genesis == HASH
    chain_with(proxy, **{"latest": block(9), "0x0": block(1)})
    assert client.look(genesis=True).genesis is None


@pytest.mark.parametrize(("status", "header", "expected"), [(429, "9", 9.0), (429, None, None), (503, "9", 9.0)])
def test_an_endpoint_that_is_asked_too_often_may_say_when_to_come_back(proxy, client, status, header, expected):
    if header:
        proxy.headers["retry-after"] = header
    proxy.rules["*"] = lambda request, forward: (status, b"slow down")
    with pytest.raises(RateLimited) as caught:
        client.chain_id()
    assert caught.value.retry_after == expected


def test_one_client_has_nobody_else_to_ask(client):
    client.blame(RpcUnavailable("no"))
    assert list(client.others(5)) == []


def test_more_calls_than_fit_one_request_are_split(proxy, client):
    proxy.batch_rule = each(lambda request: ok(request, "0x1"))

    assert client.batch([CHAIN] * 250) == ["0x1"] * 250
    assert [len(batch) for batch in proxy.seen] == [100, 100, 50]
