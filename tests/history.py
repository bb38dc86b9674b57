"""A database with a long past, made by SQL alone: so many jobs that ended, each with all that it left behind."""

from executor.protocol.wire import OnChainState, Order, Outcome

ORDER = Order(spec=b'{"version":"insula/v1"}', ttl=3600, unit_price=1000, delivery_fee=7)
OUTCOME = Outcome(status=1, output_cid=bytes.fromhex("01551220") + b"\xab" * 32)
ADDRESS = "0x90F79bf6EB2c4f870365E785982E1f101E93b906"

_COUNT = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :count)"
_HASH = "CAST(printf('%032d', i) AS BLOB)"
_BLOCK = "CAST(printf('block%027d', i) AS BLOB)"
_TX = "CAST(printf('tx%030d', i) AS BLOB)"

_JOBS = f"""
INSERT INTO jobs (request_hash, chain_id, contract, request_id, requester, deadline, order_bytes, spec, state, reason,
    detail, block_number, block_hash, tx_hash, observed_at, changed_at, agreed_at, outcome, chain_state, settled_tx,
    settled_block_number, settled_block_hash, cancel_marked, callback_ok, published_at)
{_COUNT} SELECT {_HASH}, :chain_id, :contract, i, :address, 1000, :order_bytes, :spec, 'final', 0,
    '', i, {_BLOCK}, {_TX}, 900.0, 950.0, 940.0, :outcome, :fulfilled, {_TX},
    i + 1, {_BLOCK}, 0, NULL, 960.0 FROM n
"""
_EVENTS = f"""
INSERT INTO events (block_hash, tx_hash, kind, request_hash, block_number, request_id, data, topics)
{_COUNT} SELECT {_BLOCK}, {_TX}, :kind, {_HASH}, i, i, :data, '[]' FROM n
"""
_SLOTS = f"""
INSERT INTO slots (request_hash, slot, state, attempts, node_id, operator, key, answered_at)
{_COUNT} SELECT {_HASH}, 1, 'answered', 1, 1, :address, :address, 930.0 FROM n
"""
_LEASES = f"""
INSERT INTO leases (lease_id, request_hash, slot, attempt, node_id, operator, key, state, phase, granted_at, expires_at,
    reason, detail, cpu_millis, memory_bytes, disk_bytes, uploaded_bytes)
{_COUNT} SELECT printf('%032x', i), {_HASH}, 1, 1, 1, :address, :address, 'answered', 'running', 910.0, 970.0,
    0, '', 1000, 1, 1, 0 FROM n
"""
_OUTBOX = f"""
INSERT INTO outbox (request_hash, kind, state, calldata, detail, created_at, changed_at)
{_COUNT} SELECT {_HASH}, 'fulfil', 'done', x'00', '', 945.0, 950.0 FROM n
"""
_TRANSACTIONS = f"""
INSERT INTO transactions (tx_hash, sender, nonce, raw, gas, max_fee_wei, tip_wei, signed_at, sent_at, error,
    mined_block_hash, mined_block_number, mined_ok, destination, calldata, gas_used, gas_price_wei)
{_COUNT} SELECT {_TX}, :address, i, x'00', 100000, '1', '1', 945.0, 945.0, '', {_BLOCK}, i + 1, 1, :contract, x'00',
    90000, '1' FROM n
"""
_ITEMS = f"""
INSERT INTO transaction_items (tx_hash, outbox_id, weight)
{_COUNT} SELECT {_TX}, i, 100000 FROM n
"""


def add_history(engine, count, chain_id, contract):
    """`count` jobs that ended and are final, from request 1 on, in blocks from 1 on; into an empty SQLite database."""
    common = {"count": count, "chain_id": chain_id, "contract": contract, "address": ADDRESS}
    fields = {
        "order_bytes": ORDER.encode(),
        "spec": ORDER.spec,
        "outcome": OUTCOME.encode(),
        "fulfilled": int(OnChainState.FULFILLED),
    }
    requested, settled = ({"kind": kind, "data": bytes(200)} for kind in ("JobRequested", "JobSettled"))
    statements = (
        (_JOBS, fields),
        (_EVENTS, requested),
        (_EVENTS, settled),
        (_SLOTS, {}),
        (_LEASES, {}),
        (_OUTBOX, {}),
        (_TRANSACTIONS, {}),
        (_ITEMS, {}),
    )
    engine.dispose()  # leaving the write-ahead log takes the only connection
    connection = engine.raw_connection()
    try:
        cursor = connection.cursor()
        cursor.execute(
            "PRAGMA journal_mode=OFF"
        )  # nothing to go back to, nothing to keep: the next one to open it does
        cursor.execute("PRAGMA synchronous=OFF")
        cursor.execute("PRAGMA cache_size=-200000")
        cursor.execute("BEGIN")
        for statement, values in statements:
            cursor.execute(statement, {**common, **values})
        cursor.execute("UPDATE cursors SET final_jobs = final_jobs + :count", common)
        cursor.execute("COMMIT")
    finally:
        connection.invalidate()  # the next one has its own settings again
