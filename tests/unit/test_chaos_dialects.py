"""What each dialect says, word for word, and which blocks it means."""

import pytest

from bridge.chain.rpc_errors import Meaning, error_of, meaning_of, revert_data
from bridge.chain.sendstate import SendAnswer, classify_send_error
from bridge.devnet.chaos.dialects import (
    DIALECTS,
    STATEFUL_METHODS,
    RpcFault,
    lookback_too_long,
    not_supported,
    null_round,
    stateful_only,
    too_many_events,
    translated,
    unknown_tipset,
)
from bridge.devnet.chaos.epochs import EpochMap
from bridge.devnet.chaos.looks import Look, masked
from bridge.devnet.chaos.settings import Settings
from bridge.devnet.chaos.view import NoBlock, View

NEW, OLD, FOREST, NODE = (DIALECTS[name] for name in ("lotus-1.36", "lotus-1.30", "forest", "node"))
EPOCHS = EpochMap(0, also=(3, 4))  # blocks 0 1 2 3 4 5 ... in epochs 0 1 2 5 6 7 ...
H = "0x" + "11" * 32


def view(head=10, look=None, **settings):
    chosen = {"dialect": "lotus-1.36", "deferred": True, "tags": True, "safe_lag": 2, "finalized_lag": 6} | settings
    return View(Settings(**chosen), head, look or Look(7, EPOCHS))


def refusal(call):
    with pytest.raises(RpcFault) as caught:
        call()
    return caught.value.code, caught.value.message


# -- null rounds and future epochs ----------------------------------------------------------------------------------

NULL = {
    "lotus-1.30": (1, "failed to get tipset: requested epoch was a null round"),
    "lotus-1.31": (12, "requested epoch was a null round (3)"),
    "lotus-1.36": (12, "requested epoch was a null round (3)"),
}


@pytest.mark.parametrize("dialect", NULL)
def test_a_null_round_is_an_error(dialect):
    assert refusal(lambda: view(dialect=dialect).block_at("0x3")) == NULL[dialect]
    assert meaning_of(*NULL[dialect]) is Meaning.NULL_ROUND


def test_code_12_has_the_epoch_as_data():
    assert null_round(NEW, 3).fields()["data"] == 3
    assert "data" not in null_round(OLD, 3).fields()


@pytest.mark.parametrize("dialect", ["lotus-null", "node"])
def test_a_null_round_is_no_block(dialect):
    with pytest.raises(NoBlock):
        view(dialect=dialect).block_at("0x3")


def test_forest_gives_the_block_before_a_null_round():
    assert view(dialect="forest").block_at("0x4") == "0x2"


def test_state_calls_take_the_block_before_a_null_round_in_every_dialect():
    for dialect in DIALECTS:
        assert view(dialect=dialect).state_at("0x4") == "0x2"
    assert view().block_at("0x4", strict=False) == "0x2"


FUTURE = {
    "lotus-1.36": (1, "requested a future epoch (beyond 'latest')"),
    "forest": (-32603, 'requested a future epoch (beyond "latest")'),
}


@pytest.mark.parametrize("dialect", FUTURE)
@pytest.mark.parametrize("epoch", ["0xc", "0xffff"])
def test_numbers_above_latest_are_a_future_epoch(dialect, epoch):
    assert refusal(lambda: view(dialect=dialect).block_at(epoch)) == FUTURE[dialect]
    assert refusal(lambda: view(dialect=dialect).state_at(epoch)) == FUTURE[dialect]
    assert meaning_of(*FUTURE[dialect]) is Meaning.UNAVAILABLE


def test_a_node_of_its_own_words_has_no_block_in_the_future():
    with pytest.raises(NoBlock):
        view(dialect="node").block_at("0xffff")
    assert refusal(lambda: view(dialect="node").state_at("0xffff")) == (-32000, "header not found")


# -- tags -----------------------------------------------------------------------------------------------------------


def test_tags_mean_blocks_that_are_executed():
    here = view()  # latest: block 9 in epoch 11

    assert (here.latest, here.latest_epoch) == (9, 11)
    assert here.block_at("latest") == here.state_at(None) == "0x9"
    assert here.block_at("safe") == "0x7"
    assert here.block_at("finalized") == "0x3"
    assert view(finalized_lag=8).block_at("finalized") == "0x2"  # epoch 3 is null
    assert view(finalized_lag=999).block_at("finalized") == "0x0"
    assert here.block_at("pending") == "0xa"
    assert here.state_at("pending") == "pending"


def test_without_deferred_execution_latest_is_the_head():
    assert view(deferred=False).latest == 10
    assert view(head=0).latest == 0


def test_tags_that_are_off_are_the_nodes_own():
    assert view(tags=False).block_at("safe") == "safe"


def test_earliest_is_not_supported_but_by_a_node_of_its_own_words():
    assert refusal(lambda: view().block_at("earliest")) == (1, 'block param "earliest" is not supported')
    assert view(dialect="node").block_at("earliest") == "earliest"


@pytest.mark.parametrize("param", ["0xzz", "0x" + "f" * 17, 7, "newest"])
def test_what_is_no_number_is_left_to_the_node(param):
    assert view().block_at(param) == str(param)


def test_block_parameters_may_be_objects():
    look = Look(7, EPOCHS, tipsets=True)

    assert view().block_at({"blockNumber": "0x4"}) == view().state_at({"blockNumber": "0x4"}) == {"blockNumber": "0x2"}
    assert view(look=look).state_at({"blockHash": masked(7, H)}) == {"blockHash": H}


def test_a_gateway_looks_back_so_far_and_no_farther():
    assert view(lookback=6).state_at("0x5") == "0x3"
    code, text = refusal(lambda: view(lookback=5).state_at("0x5"))
    assert (code, text) == (1, "lookbacks of more than 24h0m0s are disallowed")
    assert lookback_too_long(NEW).message == text
    refusal(lambda: view(lookback=5).range_of({"fromBlock": "0x5"}))


# -- ranges ---------------------------------------------------------------------------------------------------------


def span(first, last, **settings):
    return view(**settings).range_of({"fromBlock": first, "toBlock": last})


def test_a_range_of_epochs_is_one_of_blocks():
    assert span("0x1", "0x6") == (1, 4)
    assert span("0x3", "0x4") is None
    assert span("0x4", "0x5") == (3, 3)
    assert span("earliest", "latest") == (0, 9)
    assert view().range_of({}) == (9, 9)


def test_events_of_what_is_not_executed_are_not_available():
    text = (1, "events for the requested block are not yet available")

    assert refusal(lambda: span("0x1", "0xc")) == refusal(lambda: span("0x1", "0x99")) == text
    assert refusal(lambda: span("0x1", "0xd", deferred=False)) == text
    assert span("0x1", "0xc", deferred=False) == (1, 10)


OLD_RANGE = (
    "failed to get events for filter: failed to parse eth filter spec: invalid epoch range: "
    "range between to and from blocks is too large (maximum: 2880)"
)
RANGES = {
    "lotus-1.36": (-32005, "block range exceeds maximum of 2880 (got 9999)"),
    "lotus-1.31": (1, OLD_RANGE),
}


@pytest.mark.parametrize("dialect", RANGES)
def test_a_range_has_a_limit(dialect):
    assert refusal(lambda: span("0x1", hex(10_000), dialect=dialect)) == RANGES[dialect]
    assert refusal(lambda: span("0x1", "0x6", max_range=4))[1] == "block range exceeds maximum of 4 (got 5)"
    assert span("0x1", "0x5", max_range=4) == (1, 3)


def test_the_ends_of_a_range_are_in_order():
    assert refusal(lambda: span("0x5", "0x2"))[1] == "invalid epoch range: to block (2) must be after from block (5)"
    assert span("0x5", "0x2", dialect="node") is None


@pytest.mark.parametrize(("first", "last", "end"), [("safe", "0x2", "FromBlock"), ("0x1", "finalized", "ToBlock")])
def test_ranges_take_no_tags(first, last, end):
    assert f"{end} is not a hex" in refusal(lambda: span(first, last))[1]
    assert span(first, last, dialect="node") is not None or first == "safe"


# -- a node's own errors --------------------------------------------------------------------------------------------

SENDING = {
    "already known to anvil": ("transaction already imported", SendAnswer.KNOWN),
    "already known to Hardhat": ("Known transaction: 0x12", SendAnswer.KNOWN),
    "a used nonce": ("Transaction nonce too low. Expected nonce to be at least 2 but got 1.", SendAnswer.NONCE_LOW),
    "no money": ("Insufficient funds for gas * price + value", SendAnswer.NO_FUNDS),
    "no money at Hardhat": ("Sender doesn't have enough funds to send tx", SendAnswer.NO_FUNDS),
    "too much gas": ("Transaction gas limit is 1 and exceeds block gas limit of 1", SendAnswer.INVALID),
    "too little gas": ("intrinsic gas too low", SendAnswer.INVALID),
    "a bad signature": ("invalid signature", SendAnswer.INVALID),
    "too large": ("oversized data", SendAnswer.INVALID),
}


@pytest.mark.parametrize("case", SENDING)
def test_a_refusal_to_send_keeps_its_meaning_in_other_words(case):
    text, meaning = SENDING[case]

    fields = translated(NEW, {"code": -32000, "message": text}, sending=True)

    assert fields["code"] == 1
    assert fields["message"].startswith("mpool push: ")
    assert classify_send_error(fields["message"]) is meaning


@pytest.mark.parametrize("data", ["0x1234", {"data": "0x1234", "message": "reverted"}])
def test_a_revert_has_code_3_and_its_bytes(data):
    fields = translated(NEW, {"code": -32603, "message": "execution reverted", "data": data}, sending=False)

    assert (fields["code"], fields["data"]) == (3, "0x1234")
    assert revert_data(error_of(fields)) == b"\x12\x34"
    old = translated(OLD, {"code": 3, "message": "execution reverted", "data": data}, sending=False)
    assert (old["code"], "0x1234" in old["message"], "data" in old) == (1, True, False)


def test_a_revert_without_bytes_has_none():
    assert translated(NEW, {"code": 3, "message": "x"}, sending=False)["data"] == "0x"


def test_other_errors_are_the_nodes_own():
    error = {"code": -32000, "message": "revert? no: out of memory"}

    assert translated(NODE, error, sending=False) == error
    assert translated(NEW, {"code": -1, "message": "strange"}, sending=True) == {"code": -1, "message": "strange"}
    assert translated(NEW, {"code": -1, "message": "strange"}, sending=False) == {"code": -1, "message": "strange"}


def test_the_rest_of_the_table_is_text():
    assert too_many_events(NEW).message == "filter matches too many events, try a more restricted filter"
    assert meaning_of(1, unknown_tipset(NEW).message) is Meaning.UNAVAILABLE
    assert all("websockets" in stateful_only(NEW, method).message for method in STATEFUL_METHODS)
    assert FOREST.generic == -32603
    assert not_supported(NEW, "safe").message.startswith("cannot parse block number")
