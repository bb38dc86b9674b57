"""A chain that misbehaves on purpose, as a client sees it over real HTTP: dialects, tipsets, reorgs, logs."""

from itertools import pairwise

import pytest

from bridge.chain.contracts import request_job_calldata
from bridge.devnet.chaos.looks import FULL_BLOOM
from bridge.errors import NullRound, RpcRefused, RpcUnavailable
from tests.chain_nodes import funded
from tests.chaos_kit import LOTUS, ORDER, chaos, kinds, order_tx, ordered, post, refused, transaction

pytestmark = pytest.mark.chain

# -- dialects -------------------------------------------------------------------------------------------------------


def gap_above(chain):
    """Two null epochs above the head; the real number of the block before them."""
    head = chain.client.head().number
    return head, (head + 1, head + 2)


@pytest.mark.parametrize("dialect", ["lotus-1.30", "lotus-null", "lotus-1.31", "lotus-1.36", "forest", "node"])
def test_a_null_round_is_one_in_every_dialect(anvil_chain, dialect):
    head, gap = gap_above(anvil_chain)
    with chaos(anvil_chain, dialect=dialect, null_epochs=gap) as client:
        assert client.head().number == head
        anvil_chain.mine(2)

        assert client.head().number == head + 4
        assert kinds(client) == ["null_rounds"]
        for epoch in gap:
            with pytest.raises(NullRound):
                client.block_by_number(epoch)
        after = client.block_by_number(head + 3)
        assert after.parent_hash == client.block_by_number(head).hash
        assert client.nonce(funded(1).address, gap[0]) == client.nonce(funded(1).address, head)
        assert client.logs_by_range(*gap, anvil_chain.deployment.bridge) == []


WORDS = {"lotus-1.30": (1, None), "lotus-1.31": (12, "the epoch"), "lotus-1.36": (12, "the epoch")}


@pytest.mark.parametrize("dialect", WORDS)
def test_a_null_round_has_the_code_and_data_of_its_dialect(anvil_chain, dialect):
    _, gap = gap_above(anvil_chain)
    with chaos(anvil_chain, dialect=dialect, null_epochs=gap) as client:
        anvil_chain.mine(2)
        error = post(client, "eth_getBlockByNumber", hex(gap[1]), False).json()["error"]

        code, data = WORDS[dialect]
        assert error["code"] == code
        assert "requested epoch was a null round" in error["message"]
        assert error.get("data") == (gap[1] if data else None)
        counted = post(client, "eth_getBlockTransactionCountByNumber", hex(gap[1])).json()
        assert counted["error"]["code"] == code


def test_block_receipts_are_strict_since_1_36(anvil_chain):
    head, gap = gap_above(anvil_chain)
    with chaos(anvil_chain, dialect="lotus-1.31", null_epochs=gap) as client:
        anvil_chain.mine()
        assert client.ask("eth_getBlockReceipts", hex(gap[0])) == client.ask("eth_getBlockReceipts", hex(head))
    with chaos(anvil_chain, dialect="lotus-1.36", null_epochs=gap) as client:
        with pytest.raises(RpcUnavailable, match="null round"):
            client.ask("eth_getBlockReceipts", hex(gap[0]))
        by_hash = client.ask("eth_getBlockReceipts", client.ask("eth_getBlockByNumber", hex(head), False)["hash"])
        assert by_hash == client.ask("eth_getBlockReceipts", hex(head))


def test_the_future_and_earliest_are_refused(any_chain):
    with chaos(any_chain, **LOTUS) as client:
        for number in (client.head().number + 1, 10**9):
            with pytest.raises(RpcUnavailable, match="requested a future epoch"):
                client.block_by_number(number)
        refused(lambda: client.balance(funded(1).address, "earliest"), 1, "is not supported")


def test_ranges_have_limits(anvil_chain):
    receipts = [ordered(anvil_chain) for _ in range(3)]
    anvil_chain.mine()
    first, last = receipts[0].block_number, receipts[-1].block_number
    bridge = anvil_chain.deployment.bridge
    with chaos(anvil_chain, **LOTUS, max_range=2, max_logs=2) as client:
        refused(lambda: client.logs_by_range(first - 1, last, bridge), -32005, "exceeds maximum of 2 (got 3)")
        refused(lambda: client.logs_by_range(first, last, bridge), 1, "filter matches too many events")
        refused(lambda: client.logs_by_range(last, first, bridge), 1, "must be after from block")
        refused(lambda: client.ask("eth_getLogs", {"fromBlock": "safe", "toBlock": "latest"}), 1, "is not a hex")
        assert len(client.logs_by_range(last, last, bridge)) == 1
    with chaos(anvil_chain, dialect="lotus-1.31", max_range=1) as client:
        refused(lambda: client.logs_by_range(first, last, bridge), 1, "too large (maximum: 1)")
    with chaos(anvil_chain, dialect="lotus-1.36", max_logs=1) as client:  # by hash all events of one tipset come
        assert len(client.logs_by_hash(client.block_by_number(last).hash, bridge)) == 1


def test_old_blocks_are_out_of_reach_of_a_gateway(anvil_chain):
    anvil_chain.mine(6)
    with chaos(anvil_chain, **LOTUS, lookback=3) as client:
        old = client.head().number - 5
        refused(lambda: client.block_by_number(old), 1, "lookbacks of more than 24h0m0s are disallowed")


def test_a_revert_has_code_3_and_its_bytes(any_chain):
    bad = request_job_calldata(ORDER)  # without paying
    with chaos(any_chain, **LOTUS) as client:
        with pytest.raises(RpcRefused) as caught:
            client.call(any_chain.deployment.bridge, bad, sender=funded(1).address)
        assert (caught.value.code, "vm error=" in caught.value.message) == (3, True)
        assert len(caught.value.data) > 2
        refused(lambda: client.estimate_gas(funded(1).address, any_chain.deployment.bridge, bad), 3, "exit=[33]")


def test_filters_want_a_websocket(anvil_chain):
    with chaos(anvil_chain, **LOTUS) as client:
        refused(lambda: client.ask("eth_newBlockFilter"), 1, "only available on websockets")


# -- tipsets and deferred execution ---------------------------------------------------------------------------------


def test_hashes_are_masked_in_both_directions_everywhere(any_chain):
    receipt = ordered(any_chain)
    any_chain.mine()
    with chaos(any_chain, **LOTUS, null_rounds=0.3) as client:
        epoch = client.chaos.epochs.epoch_of(receipt.block_number)
        block = client.block_by_number(epoch)
        shown = client.receipt(receipt.tx_hash)
        bridge = any_chain.deployment.bridge

        assert block.hash != receipt.block_hash
        assert client.block_by_hash(block.hash) == block
        assert client.block_by_hash(receipt.block_hash) is None
        assert (shown.block_number, shown.block_hash) == (epoch, block.hash)
        by_hash, by_range = client.logs_by_hash(block.hash, bridge), client.logs_by_range(epoch, epoch, bridge)
        assert by_hash == by_range
        assert {log.block_hash for log in by_hash} == {block.hash}
        assert client.block_by_hash(block.parent_hash).number < epoch
        tx = client.ask("eth_getTransactionByHash", "0x" + receipt.tx_hash.hex())
        assert (int(tx["blockNumber"], 16), tx["blockHash"]) == (epoch, "0x" + block.hash.hex())
        named = {"blockHash": "0x" + block.hash.hex()}
        assert int(client.ask("eth_getTransactionCount", funded(1).address, named), 16) > 0
        assert int(client.ask("eth_feeHistory", "0x1", hex(epoch), [])["oldestBlock"], 16) <= epoch


def test_headers_look_like_tipsets(anvil_chain):
    with chaos(anvil_chain, **LOTUS | {"dialect": "lotus-1.31"}) as client:
        header = client.ask("eth_getBlockByNumber", "latest", False)

        assert (int(header["difficulty"], 16), int(header["miner"], 16)) == (0, 0)
        assert header["logsBloom"] == FULL_BLOOM
        assert int(header["gasLimit"], 16) % 10**10 == 0


def test_the_newest_block_is_held_back_until_it_is_executed(any_chain):
    receipt = ordered(any_chain)
    count = any_chain.client.nonce(funded(1).address)
    with chaos(any_chain, **LOTUS) as client:
        bridge = any_chain.deployment.bridge
        head = client.head()
        assert head.number == receipt.block_number - 1 == int(client.ask("eth_blockNumber"), 16)
        assert client.receipt(receipt.tx_hash) is None
        assert client.ask("eth_getTransactionByHash", "0x" + receipt.tx_hash.hex())["blockNumber"] is None
        assert client.nonce(funded(1).address) == count - 1
        pending = client.ask("eth_getBlockByNumber", "pending", False)
        assert int(pending["number"], 16) == receipt.block_number
        with pytest.raises(RpcUnavailable, match="not yet available"):
            client.logs_by_hash(bytes.fromhex(pending["hash"][2:]), bridge)
        with pytest.raises(RpcUnavailable, match="not yet available"):
            client.logs_by_range(head.number, receipt.block_number, bridge)

        any_chain.mine()

        assert client.receipt(receipt.tx_hash).block_number == receipt.block_number
        assert client.nonce(funded(1).address) == count
        assert len(client.logs_by_range(head.number, receipt.block_number, bridge)) == 1


def test_safe_and_finalized_lag_and_fail_as_told(anvil_chain):
    anvil_chain.mine(30)
    with chaos(anvil_chain, **LOTUS, safe_lag=2, finalized_lag=5) as client:
        head = client.head().number
        tags = [int(client.ask("eth_getBlockByNumber", tag, False)["number"], 16) for tag in ("safe", "finalized")]
        assert tags == [head - 2, head - 5]
    with chaos(anvil_chain, **LOTUS, finalized_lag=5, tags_regress=1) as client:
        assert int(client.ask("eth_getBlockByNumber", "finalized", False)["number"], 16) == head - 25
    with chaos(anvil_chain, **LOTUS, tags_latest=1) as client:
        assert int(client.ask("eth_getBlockByNumber", "finalized", False)["number"], 16) == head
    with chaos(anvil_chain, **LOTUS, tags_unsupported=1) as client:
        refused(lambda: client.ask("eth_getBlockByNumber", "finalized", False), 1, "cannot parse block number")


# -- reorgs and heads -----------------------------------------------------------------------------------------------


def test_a_reorg_changes_hashes_and_moves_transactions(any_chain):
    with chaos(any_chain, **LOTUS, reorg=1.0, reorg_depth=4, removed_logs=1.0) as client:
        for _ in range(4):
            client.head()
            any_chain.mine()
        nonce = any_chain.client.nonce(funded(1).address)
        data = request_job_calldata(ORDER)
        orders = [transaction(any_chain, funded(1), nonce + n, data=data, value=ORDER.price) for n in range(16)]
        numbers, places = set(), {}
        for sent in orders:
            client.send_raw(sent.raw)
            any_chain.mine()
            numbers.add(client.head().number)
            for order in orders:
                receipt = client.receipt(order.hash)
                if receipt is not None:
                    places.setdefault(order.hash, set()).add(receipt.block_hash)
                    assert client.block_by_hash(receipt.block_hash).number == receipt.block_number

        any_chain.mine()
        assert len(numbers) == len(orders)
        assert kinds(client).count("reorg") >= len(orders)
        assert any_chain.bridge.request_count() == len(orders)
        moved = next(tx_hash for tx_hash, blocks in places.items() if len(blocks) > 1)
        (dead, *_) = places[moved] - {client.receipt(moved).block_hash}
        logs = client.ask("eth_getLogs", {"blockHash": "0x" + dead.hex(), "address": any_chain.deployment.bridge})
        assert {log["removed"] for log in logs} == {True}
        assert client.logs_by_hash(dead, any_chain.deployment.bridge) == []
        assert client.block_by_hash(dead).hash == dead


def test_a_reorg_can_lose_transactions(any_chain):
    with chaos(any_chain, **LOTUS, reorg=1.0, reorg_depth=2, reorg_drops=1.0) as client:
        for _ in range(4):
            client.head()
            any_chain.mine()
        client.head()
        signed = order_tx(any_chain)
        client.send_raw(signed.raw)
        for _ in range(5):
            any_chain.mine()
            client.head()

        assert client.receipt(signed.hash) is None
        assert any_chain.bridge.request_count() == 0
        assert client.send_raw(signed.raw) == signed.hash


def test_a_reorg_can_make_the_chain_shorter(any_chain):
    with chaos(any_chain, dialect="lotus-1.36", reorg=1.0, reorg_depth=3, reorg_shorter=1.0) as client:
        heads = [client.head().number]
        for _ in range(12):
            any_chain.mine()
            heads.append(client.head().number)

        assert any(b < a + 1 for a, b in pairwise(heads))


def test_no_reorg_goes_below_where_it_began(anvil_chain):
    with chaos(anvil_chain, dialect="lotus-1.36", reorg=1.0, reorg_depth=5) as client:
        first = client.head()
        for _ in range(6):
            anvil_chain.mine()
            client.head()
        assert client.block_by_hash(first.hash) == first


def test_a_stale_node_is_behind_in_everything(anvil_chain):
    receipt = ordered(anvil_chain)
    with chaos(anvil_chain, dialect="lotus-1.36", tipsets=True, stale_heads=1.0, stale_lag=3) as client:
        assert client.head().number == receipt.block_number - 3
        assert client.receipt(receipt.tx_hash) is None
        with pytest.raises(RpcUnavailable, match="future epoch"):
            client.block_by_number(receipt.block_number)
    with chaos(anvil_chain, dialect="lotus-1.36", stale_heads=0.5) as client:
        assert {client.head().number - receipt.block_number for _ in range(20)} == {0, -3}


def test_a_forked_node_has_other_hashes_above_the_fork(anvil_chain):
    anvil_chain.mine(4)
    with chaos(anvil_chain, **LOTUS) as straight, chaos(anvil_chain, **LOTUS, forked_heads=1.0) as forked:
        head = straight.head()
        other = forked.head()
        assert (other.number, other.hash != head.hash) == (head.number, True)
        assert forked.block_by_hash(other.hash) == other
        assert forked.block_by_hash(head.hash) is None
        assert straight.block_by_hash(other.hash) is None
        assert forked.block_by_number(head.number - 1) == straight.block_by_number(head.number - 1)
        assert other.parent_hash == head.parent_hash
    with chaos(anvil_chain, dialect="lotus-1.36", forked_heads=1.0, fork_depth=3) as client:
        assert client.block_by_hash(client.head().parent_hash).number == client.head().number - 1


def test_a_head_stands_still_and_goes_on(anvil_chain):
    with chaos(anvil_chain, seed=3, dialect="lotus-1.36", frozen_heads=0.2, frozen_epochs=4) as client:
        heads = []
        for _ in range(30):
            anvil_chain.mine()
            heads.append(client.head().number)

        assert heads == sorted(heads)
        assert len(set(heads)) < 30
        assert max(b - a for a, b in pairwise(heads)) > 1
        assert "frozen_heads" in kinds(client)


# -- logs -----------------------------------------------------------------------------------------------------------

SPOILED = {
    "drop_logs": lambda logs: logs == [],
    "truncate_logs": lambda logs: len(logs) == 1,
    "duplicate_logs": lambda logs: len(logs) == 3 and logs[0] == logs[2],
    "log_index": lambda logs: {log["logIndex"] for log in logs} == {"0x0"},
}


@pytest.mark.parametrize("kind", SPOILED)
def test_logs_are_spoiled_for_a_while(anvil_chain, kind):
    receipts = [ordered(anvil_chain) for _ in range(2)]
    anvil_chain.mine()
    query = {
        "fromBlock": hex(receipts[0].block_number),
        "toBlock": hex(receipts[1].block_number),
        "address": anvil_chain.deployment.bridge,
    }
    with chaos(anvil_chain, **LOTUS, **{kind: 0.5}) as client:
        answers = [client.ask("eth_getLogs", query) for _ in range(12)]

        assert sum(SPOILED[kind](logs) for logs in answers) >= kinds(client).count(kind) > 0
        assert kinds(client).count(kind) < 12
        assert len({log["transactionHash"] for logs in answers for log in logs}) == 2


def test_events_come_late(anvil_chain):
    receipt = ordered(anvil_chain)
    with chaos(anvil_chain, dialect="lotus-1.36", late_events=1.0) as client:
        with pytest.raises(RpcUnavailable, match="not yet available"):
            client.logs_by_range(receipt.block_number, receipt.block_number, anvil_chain.deployment.bridge)
        assert kinds(client) == ["late_events"]
