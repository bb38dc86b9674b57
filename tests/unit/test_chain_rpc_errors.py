"""What endpoints' errors mean, by code and text; and the revert bytes in them."""

import pytest

from bridge.chain.rpc_errors import (
    MAX_MESSAGE,
    Meaning,
    error_of,
    http_error_of,
    meaning_of,
    retry_after_of,
    revert_data,
)
from bridge.errors import HistoryPruned, RateLimited, RpcRefused, RpcUnavailable, TooMuch

MEANINGS = {
    (12, "requested epoch was a null round (77)"): Meaning.NULL_ROUND,
    (1, "failed: requested epoch was a null round"): Meaning.NULL_ROUND,
    (12, "Can't route your request"): Meaning.UNAVAILABLE,
    (1, "requested a future epoch (beyond 'latest')"): Meaning.UNAVAILABLE,
    (1, "events for the requested block are not yet available"): Meaning.UNAVAILABLE,
    (-32000, "request timed out"): Meaning.UNAVAILABLE,
    (-32002, "required historical state unavailable"): Meaning.UNAVAILABLE,
    (-32000, "unknown block"): Meaning.UNAVAILABLE,
    (-32602, "blockHash cannot be found"): Meaning.UNAVAILABLE,
    (1, "server busy. Timeout while waiting for rate limit"): Meaning.THROTTLED,
    (1, "connection limited. too many connections"): Meaning.THROTTLED,
    (-32005, "daily request count exceeded, request rate limited"): Meaning.THROTTLED,
    (-32005, "Too Many Requests"): Meaning.THROTTLED,
    (429, "slow down"): Meaning.THROTTLED,
    (429, "Your app has exceeded its compute units per second capacity"): Meaning.THROTTLED,
    (-32007, "50/second request limit reached: requests per second"): Meaning.THROTTLED,
    (1, "lookbacks of more than 24h0m0s are disallowed"): Meaning.PRUNED,
    (-32000, "missing trie node 77"): Meaning.PRUNED,
    (4444, "pruned history unavailable"): Meaning.PRUNED,
    (-32000, "this request needs an archive node"): Meaning.PRUNED,
    (3, "execution reverted"): Meaning.REFUSED,
    (3, "execution reverted: rate limit, query returned more than 10000 results"): Meaning.REFUSED,
    (-32000, "VM Exception: reverted with reason 'pruned'"): Meaning.REFUSED,
    (-32601, "Method not found"): Meaning.REFUSED,
    (-32602, "invalid argument 0: hex string without 0x prefix"): Meaning.REFUSED,
    (1, "invalid epoch range: to block (4) must be after from block (5)"): Meaning.REFUSED,
    (0, ""): Meaning.REFUSED,
}

#: code, text, and the blocks per range that it names
TOO_MUCH = {
    "lotus since 1.36": (-32005, "block range exceeds maximum of 2880 (got 5000)", 2880),
    "lotus before": (
        1,
        "invalid epoch range: range between to and from blocks is too large (maximum: 2880)",
        2880,
    ),
    "lotus, past": (1, "invalid epoch range: from block is too far in the past (maximum: 2880)", 2880),
    "lotus, future": (1, "invalid epoch range: to block is too far in the future (maximum: 2880)", 2880),
    "lotus, results": (1, "filter matches too many events, try a more restricted filter", None),
    "Infura": (-32005, "query returned more than 10000 results. Try with this block range [0x10, 0x1F].", 16),
    "Alchemy, size": (
        -32602,
        "Log response size exceeded. ... up to a 2K block range ... this block range should work: [0x0, 0x1f3]",
        500,
    ),
    "Alchemy, free": (
        -32600, "Under the Free tier plan, you can make eth_getLogs requests with up to a 10 block range.", 10,
    ),
    "Alchemy, slow": (-32000, "query timeout exceeded. Consider reducing your block range.", None),
    "Ankr": (-32600, "block range is too wide", None),
    "Ankr, results": (-32600, "query exceeds max results 20000, retry with the range 100-199", 100),
    "QuickNode": (-32614, "eth_getLogs is limited to a 10,000 range", 10_000),
    "QuickNode, results": (-32000, "logs matched by query exceeds limit of 10000", None),
    "others: large": (-32000, "block range too large", None),
    "others: thousands": (-32000, "range is too large, max is 1k blocks", 1000),
    "others: exceed": (-32000, "exceed maximum block range: 5000", 5000),
    "others: distance": (-32000, "exceeded maximum [from, to] blocks distance: 2000", 2000),
    "others: too many": (-32602, "requested too many blocks from 0 to 99999, maximum is set to 2048", 2048),
    "others: bytes": (-32000, "response size should not greater than 10000000 bytes", None),
    "others: backend": (-32020, "backend response too large", None),
    "EIP-1474": (-32005, "limit exceeded", None),
    "a range backwards": (-32005, "query returned more than 10000 results. Try with [0x9, 0x1].", None),
    "none at all": (-32000, "block range too large, maximum is 0", None),
}  # fmt: skip


@pytest.mark.parametrize("name", TOO_MUCH)
def test_a_range_that_is_too_much_is_told_from_other_refusals_and_names_what_would_do(name):
    code, text, blocks = TOO_MUCH[name]
    assert meaning_of(code, text) is Meaning.TOO_MUCH
    refusal = error_of({"code": code, "message": text})
    assert isinstance(refusal, TooMuch)
    assert refusal.suggested == blocks


RETRY_AFTER = {
    "seconds": ("7", None, 7.0),
    "with spaces": (" 7 ", None, 7.0),
    "a time": ("Wed, 21 Oct 2026 07:28:30 GMT", "Wed, 21 Oct 2026 07:28:00 GMT", 30.0),
    "a time that is over": ("Wed, 21 Oct 2026 07:28:00 GMT", "Wed, 21 Oct 2026 07:28:30 GMT", 0.0),
    "a time without a date to count from": ("Wed, 21 Oct 2026 07:28:00 GMT", None, None),
    "none": (None, None, None),
    "words": ("soon", None, None),
    "a negative number": ("-5", None, None),
    "digits without end": ("9" * 400, None, None),
}


@pytest.mark.parametrize("name", RETRY_AFTER)
def test_a_time_to_wait_is_read_from_its_header(name):
    value, date, expected = RETRY_AFTER[name]
    assert retry_after_of(value, date) == expected


KINDS = {
    "server busy": RateLimited,
    "lookbacks of more than 24h0m0s are disallowed": HistoryPruned,
    "too many events": TooMuch,
    "no": RpcRefused,
    "not yet available": RpcUnavailable,
}


@pytest.mark.parametrize("text", KINDS)
def test_a_meaning_has_its_exception(text):
    assert type(error_of({"code": 1, "message": text})) is KINDS[text]


STATUSES = {429: RateLimited, 408: RpcUnavailable, 503: RpcUnavailable, 413: TooMuch, 403: RpcRefused}


@pytest.mark.parametrize("status", STATUSES)
def test_an_http_status_has_its_exception(status):
    assert type(http_error_of(status, None)) is STATUSES[status]


@pytest.mark.parametrize(("code", "text"), MEANINGS)
def test_an_error_has_its_meaning(code, text):
    assert meaning_of(code, text) is MEANINGS[code, text]


def test_a_null_round_that_nobody_asked_for_is_unavailable():
    assert isinstance(error_of({"code": 12, "message": "requested epoch was a null round (5)"}), RpcUnavailable)


@pytest.mark.parametrize("error", [None, "no", {}, {"code": "x", "message": 7}, {"code": 2**40, "message": None}])
def test_an_error_of_another_shape_is_a_refusal(error):
    refusal = error_of(error)
    assert isinstance(refusal, RpcRefused)
    assert refusal.code == 0


def test_an_endpoints_words_are_short_and_printable():
    refusal = error_of({"code": 1, "message": "a\x1b[31m\n" + "x" * 10_000})
    assert len(refusal.message) == MAX_MESSAGE
    assert refusal.message.isprintable()


REVERTS = {
    "lotus, geth, anvil": (RpcRefused(3, "execution reverted", "0x1234"), b"\x12\x34"),
    "hardhat": (RpcRefused(3, "reverted", {"message": "reverted", "data": "0x1234"}), b"\x12\x34"),
    "without data": (RpcRefused(3, "execution reverted"), b""),
    "by its words alone": (RpcRefused(-32000, "Transaction reverted without a reason"), b""),
    "with data that is none": (RpcRefused(3, "execution reverted", "zz"), b""),
    "no revert": (RpcRefused(-32000, "insufficient funds"), None),
    "no revert, with words as data": (RpcRefused(-32000, "oops", "words"), None),
}


@pytest.mark.parametrize("name", REVERTS)
def test_revert_bytes_are_found(name):
    error, expected = REVERTS[name]
    assert revert_data(error) == expected
