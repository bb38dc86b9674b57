"""A chain that misbehaves on purpose: what becomes of transactions and their receipts."""

import pytest

from bridge.chain.contracts import request_job_calldata
from bridge.errors import RpcRefused
from tests.chain_nodes import funded
from tests.chaos_kit import LOTUS, ORDER, chaos, kinds, order_tx, ordered, refused, transaction

pytestmark = pytest.mark.chain

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
