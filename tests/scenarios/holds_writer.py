"""What must hold at the end of every scenario of the writer, whatever happened on the way."""

from collections import defaultdict

from sqlalchemy import select

from bridge.chain.events import JobSettled, decode_log
from bridge.store.engine import reading
from bridge.store.outbox import ENDED, Delivery
from bridge.store.schema import outbox, transaction_items, transactions
from tests.chain_nodes import CHAIN_ID
from tests.integration.bridge_parts import item, job
from tests.integration.relayer_parts import OUTCOME


def settled(parts, requests, *, ended=(), outcome=OUTCOME, foreign=0):
    """All of them have their one result; `ended`: deliveries without effect. `foreign`: nonces that others used."""
    one_result_each(parts, requests, outcome)
    nothing_settled(parts, ended)
    states_are_terminal(parts, [*requests, *ended])
    stored_before_sent(parts)
    one_calldata_a_nonce(parts)
    nonces_are_contiguous(parts, foreign)
    within_the_caps(parts)
    at_rest(parts)


def settlements(parts):
    """request id -> the JobSettled events on the chain, asked of the node itself."""
    chain, found = parts.chain, defaultdict(list)
    for log in chain.client.logs_by_range(
        chain.deployment.deploy_block, chain.client.head().number, chain.deployment.bridge
    ):
        event = decode_log(log, CHAIN_ID)
        if isinstance(event, JobSettled):
            found[event.request_id].append(event)
    return found


def one_result_each(parts, requests, outcome=OUTCOME):
    """I1: one JobSettled for each request, with the outcome that was decided."""
    found = settlements(parts)
    for request in requests:
        events = [(event.request_hash, event.outcome.hash) for event in found[request.id]]
        assert events == [(request.hash, outcome.hash)]
        assert parts.chain.bridge.check_result(request.id, request.hash, outcome)


def nothing_settled(parts, requests):
    """No result of ours stands for these."""
    for request in requests:
        assert not parts.chain.bridge.check_result(request.id, request.hash, OUTCOME)


def states_are_terminal(parts, requests):
    """No delivery is under way."""
    assert {item(parts.engine, request.hash).state for request in requests} <= set(ENDED)
    assert all(job(parts.engine, request.hash) is not None for request in requests)


def _rows(parts):
    with reading(parts.engine) as connection:
        mine = transactions.c.sender == parts.relayer.address
        rows = connection.execute(select(transactions).where(mine).order_by(transactions.c.nonce)).all()
    by_nonce = defaultdict(list)
    for row in rows:
        by_nonce[row.nonce].append(row)
    return by_nonce


def stored_before_sent(parts):
    """I6: whatever arrived at the endpoint was in the database by then, and as it arrived."""
    assert parts.script.unstored == []
    stored = {row.raw for rows in _rows(parts).values() for row in rows}
    assert set(parts.script.raws()) <= stored


def one_calldata_a_nonce(parts):
    """I5: all transactions of a nonce carry the same calldata, or nothing to ourselves."""
    for rows in _rows(parts).values():
        carrying = {(row.destination, row.calldata) for row in rows if row.calldata}
        assert len(carrying) <= 1
        assert all(row.destination == parts.relayer.address for row in rows if not row.calldata)


def nonces_are_contiguous(parts, foreign=0):
    """Every nonce that was taken is used on the chain, and none was left out."""
    taken, used = set(_rows(parts)), parts.chain.client.nonce(parts.relayer.address)
    between = set(range(parts.first_nonce, used))
    assert taken <= between
    assert len(between - taken) <= foreign


def within_the_caps(parts):
    """I10: by the node's receipts, no delivery and no day cost more than allowed; no gas price was above its cap."""
    config, total, by_item = parts.config.relayer, 0, defaultdict(int)
    for rows in _rows(parts).values():
        for row in rows:
            assert int(row.max_fee_wei) <= config.max_fee_per_gas_wei
            cost = _cost(parts, row)
            total += cost
            for item_id, share in _shares(parts, row, cost).items():
                by_item[item_id] += share
    assert total <= config.max_spend_per_day_wei
    assert parts.value("spent_wei") <= config.max_spend_per_day_wei
    for request_hash, item_id in _item_ids(parts).items():
        fee = job(parts.engine, request_hash).request.order.delivery_fee
        assert by_item[item_id] <= fee + config.max_subsidy_wei


def _cost(parts, row):
    receipt = parts.chain.client.ask("eth_getTransactionReceipt", "0x" + row.tx_hash.hex())
    return int(receipt["gasUsed"], 16) * int(receipt["effectiveGasPrice"], 16) if receipt else 0


def _shares(parts, row, cost):
    carried = transaction_items.c.tx_hash == row.tx_hash
    with reading(parts.engine) as connection:
        weights = {r.outbox_id: r.weight for r in connection.execute(select(transaction_items).where(carried))}
    return {item_id: -(-cost * weight // sum(weights.values())) for item_id, weight in weights.items()}


def _item_ids(parts):
    with reading(parts.engine) as connection:
        rows = connection.execute(select(outbox).where(outbox.c.kind == Delivery.FULFIL.value)).all()
    return {row.request_hash: row.id for row in rows}


def at_rest(parts):
    """Nothing is left to do: a day later neither loop moves, and nothing is sent."""
    sent = len(parts.script.raws())
    assert not parts.listener.step()
    for seconds in (61, 181, 3600):
        parts.clock.now += seconds
        assert not parts.relayer.step()
    assert len(parts.script.raws()) == sent
