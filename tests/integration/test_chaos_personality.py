"""A chain that misbehaves on purpose, as a client sees it over real HTTP."""

import json
import time
from itertools import pairwise

import pytest
import requests

from bridge.chain.client import ChainClient
from bridge.chain.contracts import request_job_calldata
from bridge.chain.signer import Transaction
from bridge.devnet.chaos import Personality, Script, Settings, serve
from bridge.devnet.chaos.looks import FULL_BLOOM
from bridge.devnet.chaos.run import ChaosRun
from bridge.devnet.chaos.script import (
    Answer,
    Delay,
    DropAfter,
    DropBefore,
    Error,
    Hang,
    Raw,
    Replace,
    Rewrite,
    Status,
)
from bridge.errors import NullRound, RpcRefused, RpcUnavailable
from executor.protocol.wire import Order
from tests.chain_nodes import CHAIN_ID, funded, wait_for
from tests.chaos_kit import LOTUS, chaos

pytestmark = pytest.mark.chain

ORDER = Order(spec=b'{"version":"insula/v1"}', ttl=3600, unit_price=1000, delivery_fee=7)


def transaction(chain, signer, nonce, tip=10**9, max_fee=10**11, data=None, value=0):
    fields = Transaction(
        chain_id=CHAIN_ID,
        nonce=nonce,
        to=chain.deployment.bridge if data else signer.address,
        data=data or b"",
        gas=2_000_000,
        max_fee=max_fee,
        tip=tip,
        value=value,
    )
    return signer.sign_transaction(fields)


def order_tx(chain, index=1, **fees):
    signer = funded(index)
    nonce = chain.client.nonce(signer.address, "pending")
    return transaction(chain, signer, nonce, data=request_job_calldata(ORDER), value=ORDER.price, **fees)


def ordered(chain):
    """An order in a block of its own, the block under it; their real receipts."""
    signed = order_tx(chain)
    chain.client.send_raw(signed.raw)
    chain.mine()
    return chain.mined(signed)


def kinds(client):
    return [act.kind for act in client.chaos.acts]


def refused(call, code, text):
    with pytest.raises(RpcRefused) as caught:
        call()
    assert (caught.value.code, text in caught.value.message) == (code, True), caught.value.message


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


def post(client, method, *params, timeout=10, **options):
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return requests.post(client.url, json=body, timeout=timeout, **options)


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


# -- receipts -------------------------------------------------------------------------------------------------------


def test_a_receipt_is_late_by_some_epochs(anvil_chain):
    with chaos(anvil_chain, **LOTUS, late_receipts=1.0) as client:
        receipt = ordered(anvil_chain)
        waited = 0
        while client.receipt(receipt.tx_hash) is None:
            anvil_chain.mine()
            waited += 1
        assert 2 <= waited <= 7
        assert kinds(client) == ["late_receipts"]


def test_a_receipt_comes_without_logs_at_first(anvil_chain):
    with chaos(anvil_chain, dialect="lotus-1.36", empty_receipts=1.0, late_receipt_epochs=2) as client:
        receipt = ordered(anvil_chain)
        counts = []
        for _ in range(4):
            counts.append(len(client.ask("eth_getTransactionReceipt", "0x" + receipt.tx_hash.hex())["logs"]))
            anvil_chain.mine()
        assert counts == [0, 0, 1, 1]


def test_a_receipt_is_forgotten_while_its_transaction_stays(anvil_chain):
    with chaos(anvil_chain, dialect="lotus-1.36", forget_receipts=1.0, receipt_lookback=3) as client:
        receipt = ordered(anvil_chain)
        assert client.receipt(receipt.tx_hash) is not None
        anvil_chain.mine(4)

        assert client.receipt(receipt.tx_hash) is None
        assert client.ask("eth_getTransactionByHash", "0x" + receipt.tx_hash.hex()) is None
        assert len(client.logs_by_hash(receipt.block_hash, anvil_chain.deployment.bridge)) == 1


def test_a_replaced_transaction_has_its_replacements_receipt(any_chain):
    with chaos(any_chain, dialect="lotus-1.31", replaced_receipts=1.0) as client:
        first = order_tx(any_chain)
        client.send_raw(first.raw)
        second = transaction(
            any_chain,
            funded(1),
            any_chain.client.nonce(funded(1).address),
            tip=2 * 10**9,
            max_fee=2 * 10**11,
            data=request_job_calldata(ORDER),
            value=ORDER.price,
        )
        client.send_raw(second.raw)
        any_chain.mine()
        any_chain.mined(second)

        wrong = client.ask("eth_getTransactionReceipt", "0x" + first.hash.hex())
        assert (wrong["transactionHash"], wrong["logs"]) == ("0x" + second.hash.hex(), [])
        assert client.receipt(first.hash) is None


# -- sending --------------------------------------------------------------------------------------------------------


def test_a_dropped_transaction_is_accepted_and_never_mined_until_it_is_sent_again(any_chain):
    with chaos(any_chain, **LOTUS, drop_tx=1.0) as client:
        signed = order_tx(any_chain)
        assert client.send_raw(signed.raw) == signed.hash
        any_chain.mine(2)
        assert client.receipt(signed.hash) is None
        assert client.ask("eth_getTransactionByHash", "0x" + signed.hash.hex()) is None

        client.send_raw(signed.raw)
        any_chain.mine(2)
        assert client.receipt(signed.hash).ok


def test_a_stuck_transaction_moves_when_its_premium_rises_by_a_tenth_and_one(any_chain):
    tip = 10**9
    with chaos(any_chain, **LOTUS, stuck_tx=1.0) as client:
        signed = order_tx(any_chain, tip=tip)
        client.send_raw(signed.raw)
        any_chain.mine(2)
        assert client.receipt(signed.hash) is None
        assert client.ask("eth_getTransactionByHash", "0x" + signed.hash.hex())["blockNumber"] is None
        nonce = any_chain.client.nonce(funded(1).address)
        assert client.nonce(funded(1).address, "pending") == nonce + 1
        refused(lambda: client.send_raw(signed.raw), 1, "message with nonce already exists")
        low = order_tx(any_chain, tip=tip * 110 // 100)
        refused(lambda: client.send_raw(low.raw), 1, "replace by fee has too low GasPremium")

        raised = order_tx(any_chain, tip=tip * 110 // 100 + 1)
        client.send_raw(raised.raw)
        any_chain.mine(2)
        assert client.receipt(raised.hash).ok


def test_a_replacement_by_lotuss_rule_is_taken_where_the_node_wants_more(any_chain):
    with chaos(any_chain, dialect="lotus-1.36") as client:
        nonce = any_chain.client.nonce(funded(3).address)
        first = transaction(any_chain, funded(3), nonce, tip=10**9)
        second = transaction(any_chain, funded(3), nonce, tip=11 * 10**8 + 1)
        client.send_raw(first.raw)
        client.send_raw(second.raw)
        any_chain.mine()

        assert any_chain.mined(second).ok
        refused(lambda: client.send_raw(first.raw), 1, "nonce too low")


def test_a_nonce_gap_is_taken_silently(any_chain):
    with chaos(any_chain, dialect="lotus-1.36") as client:
        nonce = any_chain.client.nonce(funded(3).address)
        later, missing = (transaction(any_chain, funded(3), nonce + n) for n in (1, 0))
        assert client.send_raw(later.raw) == later.hash
        any_chain.mine()
        assert client.receipt(later.hash) is None

        client.send_raw(missing.raw)
        any_chain.mine()
        assert any_chain.mined(later).ok


def test_a_cap_below_the_base_fee_is_waited_out(any_chain):
    with chaos(any_chain, dialect="lotus-1.36") as client:
        nonce = any_chain.client.nonce(funded(3).address)
        setter = "anvil_setNextBlockBaseFeePerGas" if any_chain.kind == "anvil" else "hardhat_setNextBlockBaseFeePerGas"
        any_chain.client.ask(setter, hex(10**12))
        any_chain.mine()
        client.head()
        signed = transaction(any_chain, funded(3), nonce, tip=10**9, max_fee=10**10)
        assert client.send_raw(signed.raw) == signed.hash
        any_chain.mine()
        assert client.receipt(signed.hash) is None

        any_chain.client.ask(setter, hex(10**9))
        any_chain.mine()
        client.head()
        any_chain.mine()
        assert any_chain.mined(signed).ok


def test_senders_errors_have_lotuss_words(any_chain):
    with chaos(any_chain, dialect="lotus-1.36", max_pending=1) as client:
        poor = funded(1).from_hex("0x" + "77" * 32)
        refused(lambda: client.send_raw(transaction(any_chain, poor, 0).raw), 1, "not enough funds")
        nonce = any_chain.client.nonce(funded(3).address)
        used = transaction(any_chain, funded(3), nonce - 1 if nonce else 0)
        if nonce:
            refused(lambda: client.send_raw(used.raw), 1, "message nonce too low")
        client.send_raw(transaction(any_chain, funded(3), nonce).raw)
        refused(
            lambda: client.send_raw(transaction(any_chain, funded(3), nonce + 1).raw), 1, "too many pending messages"
        )
        refused(lambda: client.ask("eth_sendRawTransaction", "0x01c0"), 1, "EIP-2930 transaction is not supported")
        with pytest.raises(RpcRefused):
            client.ask("eth_sendRawTransaction", "0x1234")
        any_chain.mine()


def test_gas_estimates_jump_and_prices_are_noisy(anvil_chain):
    address = funded(1).address
    calm = anvil_chain.client.estimate_gas(address, address, b"")
    with chaos(anvil_chain, dialect="lotus-1.36", gas_jumps=1.0, fee_noise=0.005) as client:
        assert client.estimate_gas(address, address, b"") == 5 * calm
        assert int(client.ask("eth_estimateGas", {"from": address, "to": address}, "latest"), 16) == 5 * calm
        assert len({client.ask("eth_maxPriorityFeePerGas") for _ in range(5)}) > 1
        assert len({client.ask("eth_gasPrice") for _ in range(5)}) > 1


# -- the way to the endpoint ----------------------------------------------------------------------------------------

UNUSABLE = (
    "lost_requests", "lost_responses", "rate_limits", "rate_limits_bare", "server_errors", "resets", "hangs",
    "truncated_bodies", "wrong_ids", "garbage_gzip", "slow_bodies",
)  # fmt: skip


@pytest.mark.parametrize("kind", UNUSABLE)
def test_a_fault_of_the_way_is_an_endpoint_that_cannot_be_used_now(anvil_chain, kind):
    with chaos(anvil_chain, timeout=1.0, **{kind: 1.0}) as client:
        started = time.monotonic()
        with pytest.raises(RpcUnavailable):
            client.head()
        assert time.monotonic() - started < 5
        assert kinds(client) == [kind]
        try:
            answers = client.batch([("eth_chainId", ()), ("eth_blockNumber", ())])
        except RpcUnavailable:
            return
        assert all(isinstance(answer, RpcUnavailable) for answer in answers)


def test_an_answer_with_result_and_error_is_an_error(anvil_chain):
    with chaos(anvil_chain, mixed_errors=1.0) as client:
        body = post(client, "eth_chainId").json()
        assert {"result", "error"} <= body.keys()
        with pytest.raises((RpcUnavailable, RpcRefused)):
            client.chain_id()


def test_a_rate_limit_says_when_to_come_back_or_does_not(anvil_chain):
    with chaos(anvil_chain, rate_limits=1.0) as client:
        answer = post(client, "eth_chainId")
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    with chaos(anvil_chain, rate_limits_bare=1.0) as client:
        answer = post(client, "eth_chainId")
        assert (answer.status_code, "retry-after" in answer.headers) == (429, False)


def test_a_lost_request_did_nothing_and_a_lost_response_acted(anvil_chain):
    for kind, happened in (("lost_requests", False), ("lost_responses", True)):
        signed = order_tx(anvil_chain)
        with chaos(anvil_chain, **{kind: 1.0}) as client, pytest.raises(RpcUnavailable):
            client.send_raw(signed.raw)
        found = anvil_chain.client.ask("eth_getTransactionByHash", "0x" + signed.hash.hex())
        assert (found is not None) is happened
    anvil_chain.mine()


def test_a_node_that_is_gone_is_a_bad_gateway():
    with serve(Personality("http://127.0.0.1:1", Settings(), 1)) as url:
        answer = requests.post(url, json={"id": 1, "method": "eth_chainId"}, timeout=5)
        assert answer.status_code == 502


BAD_REQUESTS = {
    "no JSON": (b"{", -32700),
    "a megabyte of brackets": (b"[" * 2**20, -32700),
    "an empty batch": (b"[]", -32600),
    "no object": (b"7", -32600),
    "no method": (b'{"id":1}', -32600),
    "params that are no list": (b'{"method":"eth_call","params":{"a":1}}', -32600),
    "params that are none": (b'{"id":1,"method":"eth_getBlockByNumber","params":[]}', -32602),
    "a filter that is none": (b'{"id":1,"method":"eth_getLogs","params":[7]}', -32602),
}


@pytest.mark.parametrize("case", BAD_REQUESTS)
def test_a_bad_request_gets_an_error(anvil_chain, case):
    body, code = BAD_REQUESTS[case]
    with chaos(anvil_chain, **LOTUS) as client:
        assert requests.post(client.url, data=body, timeout=5).json()["error"]["code"] == code


def test_a_request_has_a_size_limit(anvil_chain):
    with chaos(anvil_chain) as client:
        assert requests.post(client.url, data=b" " * (4 * 2**20 + 1), timeout=5).status_code == 413
        assert requests.post(client.url, data=iter([b"{}"]), timeout=5).status_code == 411


def test_a_page_in_a_browser_may_ask(anvil_chain):
    with chaos(anvil_chain) as client:
        assert requests.options(client.url, timeout=5).headers["access-control-allow-methods"] == "POST"
        assert post(client, "eth_chainId").headers["access-control-allow-origin"] == "*"


# -- scripts --------------------------------------------------------------------------------------------------------


def test_a_script_decides_call_by_call(anvil_chain):
    script = Script()
    with chaos(anvil_chain, script=script, timeout=2.0) as client:
        script.on("eth_chainId", Replace("0x9"), nth=2, times=1)
        assert [client.chain_id() for _ in range(3)] == [CHAIN_ID, 9, CHAIN_ID]
        script.on("eth_getLogs", Error(-32005, "block range exceeds maximum of 10 (got 11)", 11))
        refused(lambda: client.logs_by_range(0, 1, anvil_chain.deployment.bridge), -32005, "got 11")
        script.on("eth_blockNumber", Rewrite(lambda envelope: envelope | {"result": "0x5"}))
        assert client.ask("eth_blockNumber") == "0x5"
        script.on("eth_gasPrice", Answer(lambda request, forward: forward(request) | {"result": "0x6"}))
        assert client.ask("eth_gasPrice") == "0x6"
        script.on("eth_getCode", Status(503))
        script.on("eth_getBalance", Raw(b"\xff"))
        script.on("eth_call", Hang(30))
        for call in (client.code, client.balance):
            with pytest.raises(RpcUnavailable):
                call(funded(1).address)
        with pytest.raises(RpcUnavailable):
            client.call(funded(1).address, b"")
        script.on("eth_chainId", Delay(0.3))
        started = time.monotonic()
        client.chain_id()
        assert time.monotonic() - started >= 0.3
        assert script.methods()[:3] == ["eth_chainId"] * 3
        assert script.calls("eth_gasPrice")[0]["params"] == []
        assert json.loads(script.exchanges[1].reply.body)["result"] == "0x9"
        script.clear()


def test_a_script_loses_requests_and_responses(anvil_chain):
    script = Script()
    with chaos(anvil_chain, script=script) as client:
        signed = order_tx(anvil_chain)
        script.on("eth_sendRawTransaction", DropBefore(), times=1)
        script.on("eth_sendRawTransaction", DropAfter(), nth=2, where=lambda params: params[0].startswith("0x02"))
        for _ in range(2):
            with pytest.raises(RpcUnavailable):
                client.send_raw(signed.raw)
        anvil_chain.mine()
        assert anvil_chain.mined(signed).ok


def test_in_a_batch_each_call_has_its_rule_and_a_fault_of_the_way_is_the_whole_batchs(anvil_chain):
    script = Script()
    with chaos(anvil_chain, script=script) as client:
        calls = [("eth_chainId", ()), ("eth_blockNumber", ())]
        script.on("eth_blockNumber", Replace("0x7"))
        assert client.batch(calls) == [hex(CHAIN_ID), "0x7"]
        assert script.exchanges[-1].is_batch
        script.on("eth_blockNumber", DropBefore())
        with pytest.raises(RpcUnavailable):
            client.batch(calls)


# -- the whole ------------------------------------------------------------------------------------------------------


def test_a_client_in_the_same_process_needs_no_http(anvil_chain):
    personality = Personality(anvil_chain.client.transport, Settings(**LOTUS, lost_responses=0.5), 7)
    with ChainClient(personality.transport()) as client:
        outcomes = []
        for _ in range(20):
            try:
                outcomes.append(client.chain_id())
            except RpcUnavailable:
                outcomes.append(None)
        assert set(outcomes) == {CHAIN_ID, None}
        assert outcomes.count(None) == personality.counts["lost_responses"]


def acts_of(chain, seed):
    settings = Settings(
        **LOTUS, null_rounds=0.2, stale_heads=0.2, drop_logs=0.3, late_events=0.2, lost_responses=0.1, wrong_ids=0.1
    )
    personality = Personality(chain.client.transport, settings, seed)
    with ChainClient(personality.transport()) as client:
        for _ in range(40):
            for call in (client.head, lambda: client.logs_by_range(1, 2, chain.deployment.bridge), client.chain_id):
                try:
                    call()
                except (RpcUnavailable, RpcRefused, NullRound):
                    continue
    return list(personality.acts)


def test_the_same_seed_does_the_same_to_the_same_calls(anvil_chain):
    first = acts_of(anvil_chain, 7)

    assert len(first) > 10
    assert acts_of(anvil_chain, 7) == first
    assert acts_of(anvil_chain, 8) != first


def test_other_methods_pass_and_local_ones_too(anvil_chain):
    with chaos(anvil_chain, **LOTUS) as client:
        before = client.head().number
        client.ask("evm_mine")
        wait_for(lambda: client.head().number == before + 1, 5, "the block")
        assert client.ask("net_version") == str(CHAIN_ID)


def test_a_devnets_chaos_tells_and_logs_all_that_it_does(anvil_chain, tmp_path):
    said = []
    log = tmp_path / "logs" / "chaos.log"
    with ChaosRun(Settings(drop_logs=1.0, removed_logs=1.0), 7, log, said.append) as run:
        receipt = ordered(anvil_chain)
        with ChainClient(run.front(anvil_chain.client.transport.endpoint_uri)) as client:
            assert client.logs_by_hash(receipt.block_hash, anvil_chain.deployment.bridge) == []

    assert said[0].startswith("chaos: drop_logs eth_getLogs block 0x")
    assert said[1:] == ["chaos with seed 7, in all:", f"  {'drop_logs':<18} {1:>6}"]
    assert log.read_text().count("drop_logs eth_getLogs block 0x") == 1
