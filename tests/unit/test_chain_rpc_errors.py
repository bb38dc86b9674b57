"""What endpoints' errors mean, by code and text; and the revert bytes in them."""

import pytest

from bridge.chain.rpc_errors import MAX_MESSAGE, Meaning, error_of, meaning_of, revert_data
from bridge.errors import RpcRefused, RpcUnavailable

MEANINGS = {
    (12, "requested epoch was a null round (77)"): Meaning.NULL_ROUND,
    (1, "failed: requested epoch was a null round"): Meaning.NULL_ROUND,
    (12, "Can't route your request"): Meaning.UNAVAILABLE,
    (1, "requested a future epoch (beyond 'latest')"): Meaning.UNAVAILABLE,
    (1, "events for the requested block are not yet available"): Meaning.UNAVAILABLE,
    (1, "server busy. Timeout while waiting for rate limit"): Meaning.UNAVAILABLE,
    (-32005, "daily request count exceeded, request rate limited"): Meaning.UNAVAILABLE,
    (-32005, "block range exceeds maximum of 2880 (got 5000)"): Meaning.REFUSED,
    (-32002, "required historical state unavailable"): Meaning.UNAVAILABLE,
    (-32000, "unknown block"): Meaning.UNAVAILABLE,
    (-32602, "blockHash cannot be found"): Meaning.UNAVAILABLE,
    (429, "slow down"): Meaning.UNAVAILABLE,
    (3, "execution reverted"): Meaning.REFUSED,
    (-32601, "Method not found"): Meaning.REFUSED,
    (0, ""): Meaning.REFUSED,
}


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
