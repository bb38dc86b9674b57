"""The tables. Times are seconds since 1970 (float), hashes raw bytes, addresses checksummed text, amounts decimal text.

Rows are keyed by request hash: the request id is an attribute, which a reorg may give to another request.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    BindParameter,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    and_,
    bindparam,
)

from bridge.jobs import JobState

metadata = MetaData()


def literally(value: str | Sequence[str]) -> BindParameter[Any]:
    """A value, or several for `in_`, written into the statement itself: through a parameter, SQLite would not find the
    partial index that is about it.
    """
    return bindparam(None, value, expanding=not isinstance(value, str), literal_execute=True)


#: What partial indexes are about. A query finds such an index when it names these states as literals (`literally`).
STANDING = (JobState.POSTED.value, JobState.FINAL.value)  # an outcome or a refund stands on-chain

_RowId = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up only on INTEGER PRIMARY KEY

#: One row per request that was ever seen in the contract's log. `state` moves by `bridge.jobs.TRANSITIONS` alone.
jobs = Table(
    "jobs",
    metadata,
    Column("request_hash", LargeBinary(32), primary_key=True),
    Column("chain_id", BigInteger, nullable=False),
    Column("contract", String(42), nullable=False),
    Column("request_id", BigInteger, nullable=False),
    Column("requester", String(42), nullable=False),
    Column("deadline", BigInteger, nullable=False),
    Column("order_bytes", LargeBinary, nullable=False),  # abi.encode(order)
    Column("spec", LargeBinary),  # the job spec's bytes; null while a spec by CID is not here
    Column("state", String(16), nullable=False),
    Column("reason", Integer, nullable=False, default=0),  # a code from 500: why it is where it is
    Column("detail", Text, nullable=False, default=""),
    Column("block_number", BigInteger, nullable=False),  # of its JobRequested log, on the canonical chain
    Column("block_hash", LargeBinary(32), nullable=False),
    Column("tx_hash", LargeBinary(32), nullable=False),
    Column("observed_at", Float, nullable=False),
    Column("changed_at", Float, nullable=False),
    Column("agreed_at", Float),  # when a quorum agreed first
    Column("outcome", LargeBinary),  # abi.encode(outcome): the agreed one, or the one that stands on-chain
    Column("chain_state", Integer, nullable=False, default=1),  # IComputeBridge.State as last seen in the log
    Column("settled_tx", LargeBinary(32)),
    Column("settled_block_number", BigInteger),
    Column("settled_block_hash", LargeBinary(32)),
    Column("cancel_marked", Boolean, nullable=False, default=False),
    Column("callback_ok", Boolean),
    Column("wanted_block", LargeBinary),  # of the agreed output: could not be read back, its nodes upload it again
    Column("published_at", Float),  # when the output became public
    # Who relayed the result, for a final job whose request and result were read together: their logs follow from this
    # row and stand nowhere else. Null: they stand in `events`.
    Column("settled_relayer", LargeBinary(20)),
)
Index("jobs_by_state", jobs.c.state, jobs.c.block_number, jobs.c.request_id)
Index("jobs_by_id", jobs.c.request_id)
Index("jobs_by_block", jobs.c.block_number, jobs.c.request_id)
_UNPUBLISHED = and_(jobs.c.state.in_(STANDING), jobs.c.published_at.is_(None))
Index("jobs_unpublished", jobs.c.published_at, sqlite_where=_UNPUBLISHED, postgresql_where=_UNPUBLISHED)
_TAKEN_BACK = and_(jobs.c.state.not_in(STANDING), jobs.c.published_at.is_not(None))
Index("jobs_taken_back", jobs.c.state, sqlite_where=_TAKEN_BACK, postgresql_where=_TAKEN_BACK)

#: One row per (request, slot): what a node answered. A node, and an operator, never has two slots of one request.
slots = Table(
    "slots",
    metadata,
    Column("request_hash", LargeBinary(32), primary_key=True),
    Column("slot", Integer, primary_key=True),
    Column("state", String(16), nullable=False),  # open, leased, answered
    Column("attempts", Integer, nullable=False, default=0),
    Column("node_id", BigInteger),  # of the current lease, or of the answer
    Column("operator", String(42)),
    Column("key", String(42)),
    Column("outcome", LargeBinary),
    Column("outcome_hash", LargeBinary(32)),
    Column("receipt", LargeBinary),
    Column("receipt_hash", LargeBinary(32)),
    Column("log_root", LargeBinary(32)),
    Column("log_size", BigInteger),
    Column("relayer", String(42)),
    Column("signature", LargeBinary(65)),
    Column("answered_at", Float),
    Column("dsse_signature", LargeBinary(65)),
    Column("log_proof", LargeBinary),  # hashes of 32 bytes in a row; null where the node gave none
    UniqueConstraint("request_hash", "node_id", name="slots_one_per_node"),
    UniqueConstraint("request_hash", "operator", name="slots_one_per_operator"),
)

#: Every lease that was ever given. `token` is the fencing token: it only grows.
leases = Table(
    "leases",
    metadata,
    Column("token", _RowId, primary_key=True, autoincrement=True),
    Column("lease_id", String(32), nullable=False, unique=True),
    Column("request_hash", LargeBinary(32), nullable=False),
    Column("slot", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("node_id", BigInteger, nullable=False),
    Column("operator", String(42), nullable=False),
    Column("key", String(42), nullable=False),
    Column("state", String(16), nullable=False),  # active, answered, returned, expired, revoked
    Column("phase", String(16), nullable=False),  # running, held
    Column("granted_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("ended_at", Float),
    Column("reason", Integer, nullable=False, default=0),  # a code from 400 when returned
    Column("detail", Text, nullable=False, default=""),
    Column("cpu_millis", BigInteger, nullable=False),
    Column("memory_bytes", BigInteger, nullable=False),
    Column("disk_bytes", BigInteger, nullable=False),
    Column("uploaded_bytes", BigInteger, nullable=False, default=0),
    Column("output_root", LargeBinary),  # the root that the node uploads for this lease
)
Index(
    "leases_one_active",
    leases.c.request_hash,
    leases.c.slot,
    unique=True,
    sqlite_where=leases.c.state == "active",
    postgresql_where=leases.c.state == "active",
)
Index("leases_by_request", leases.c.request_hash, leases.c.slot)
Index("leases_by_state", leases.c.state, leases.c.expires_at)

#: Two signatures of one key over different outcomes of one request: `executor.protocol.evidence.Evidence` as JSON.
contradictions = Table(
    "contradictions",
    metadata,
    Column("request_hash", LargeBinary(32), primary_key=True),
    Column("key", String(42), primary_key=True),
    Column("node_id", BigInteger, nullable=False),
    Column("evidence", Text, nullable=False),
    Column("found_at", Float, nullable=False),
)
Index("contradictions_by_node", contradictions.c.node_id, contradictions.c.found_at)

#: What each node said of itself when it last asked for work.
nodes = Table(
    "nodes",
    metadata,
    Column("node_id", BigInteger, primary_key=True),
    Column("key", String(42), nullable=False),
    Column("operator", String(42), nullable=False),
    Column("advert", JSON, nullable=False),
    Column("seen_at", Float, nullable=False),
)

#: Nonces of signed calls, kept for twice the allowed clock skew.
api_nonces = Table(
    "api_nonces",
    metadata,
    Column("key", String(42), primary_key=True),
    Column("nonce", LargeBinary(32), primary_key=True),
    Column("seen_at", Float, nullable=False),
)

#: What requesters' accounts have uploaded.
uploads = Table(
    "uploads",
    metadata,
    Column("account", String(42), primary_key=True),
    Column("root", LargeBinary, primary_key=True),
    Column("stored_bytes", BigInteger, nullable=False, default=0),
    Column("public", Boolean, nullable=False, default=False),
    Column("requester", String(42), nullable=False),  # whose jobs may read it while it is private
    Column("complete", Boolean, nullable=False, default=False),
    Column("changed_at", Float, nullable=False),
)
Index("uploads_by_root", uploads.c.root)

#: Which blocks each uploader brought, so that nobody learns from the bridge what others have stored.
held_blocks = Table(
    "held_blocks",
    metadata,
    Column("owner", String(120), primary_key=True),
    Column("cid", LargeBinary(36), primary_key=True),
    Column("size", BigInteger, nullable=False),
)

#: Where the listener stands: one row per (chain, contract).
cursors = Table(
    "cursors",
    metadata,
    Column("chain_id", BigInteger, primary_key=True),
    Column("contract", String(42), primary_key=True),
    Column("genesis_hash", LargeBinary(32), nullable=False),
    Column("scanned_number", BigInteger, nullable=False),
    Column("scanned_hash", LargeBinary(32), nullable=False),
    Column("final_number", BigInteger, nullable=False),
    Column("final_hash", LargeBinary(32), nullable=False),
    Column("changed_at", Float, nullable=False),
    Column("final_jobs", BigInteger, nullable=False, server_default="0"),  # how many jobs are FINAL: too many to count
)

#: The canonical blocks since the last final one, linked by hash: parent_hash of each is the hash of the one before.
blocks = Table(
    "blocks",
    metadata,
    Column("hash", LargeBinary(32), primary_key=True),
    Column("number", BigInteger, nullable=False, unique=True),
    Column("parent_hash", LargeBinary(32), nullable=False),
    Column("timestamp", BigInteger, nullable=False),
)

#: The contract's events on the canonical chain, but for those that a job's row holds (`jobs.settled_relayer`). Never
#: keyed by log index, which is not stable on FEVM.
events = Table(
    "events",
    metadata,
    Column("block_hash", LargeBinary(32), primary_key=True),
    Column("tx_hash", LargeBinary(32), primary_key=True),
    Column("kind", String(24), primary_key=True),
    Column("request_hash", LargeBinary(32), primary_key=True),
    Column("block_number", BigInteger, nullable=False),
    Column("request_id", BigInteger, nullable=False),
    Column("data", LargeBinary, nullable=False),  # the log's data, as the chain gave it
    Column("topics", JSON, nullable=False),
)
Index("events_by_request", events.c.request_hash)
_REQUESTED = events.c.kind == "JobRequested"
Index("events_by_id", events.c.request_id, sqlite_where=_REQUESTED, postgresql_where=_REQUESTED)

#: What has to be sent. Written in the transaction that moves the job.
outbox = Table(
    "outbox",
    metadata,
    Column("id", _RowId, primary_key=True, autoincrement=True),
    Column("request_hash", LargeBinary(32), nullable=False),
    Column("kind", String(16), nullable=False),  # fulfil, expire, draw
    Column("state", String(16), nullable=False),  # new, signed, sent, mined, done, superseded, dead
    Column("calldata", LargeBinary, nullable=False),
    Column("detail", Text, nullable=False, default=""),
    Column("created_at", Float, nullable=False),
    Column("changed_at", Float, nullable=False),
    UniqueConstraint("request_hash", "kind"),
)
Index("outbox_by_state", outbox.c.state)

#: Signed transactions, stored before they are first sent. Several share a nonce when fees were raised.
transactions = Table(
    "transactions",
    metadata,
    Column("tx_hash", LargeBinary(32), primary_key=True),
    Column("sender", String(42), nullable=False),
    Column("nonce", BigInteger, nullable=False),
    Column("raw", LargeBinary, nullable=False),
    Column("gas", BigInteger, nullable=False),
    Column("max_fee_wei", String(78), nullable=False),
    Column("tip_wei", String(78), nullable=False),
    Column("signed_at", Float, nullable=False),
    Column("sent_at", Float),
    Column("error", Text, nullable=False, default=""),
    Column("mined_block_hash", LargeBinary(32)),
    Column("mined_block_number", BigInteger),
    Column("mined_ok", Boolean),
    Column("destination", String(42), nullable=False),
    Column("calldata", LargeBinary, nullable=False),  # the same for all transactions of a nonce, or the filler's none
    Column("gas_used", BigInteger),  # with the next one: of the receipt, when it was first seen
    Column("gas_price_wei", String(78)),  # effective
)
Index("transactions_by_nonce", transactions.c.sender, transactions.c.nonce)
Index("transactions_by_fate", transactions.c.mined_ok)  # whoever asks for metrics reads no row
Index("transactions_by_time", transactions.c.sender, transactions.c.signed_at)

#: Which deliveries a transaction carries: none of them for one that only fills a nonce.
transaction_items = Table(
    "transaction_items",
    metadata,
    Column("tx_hash", LargeBinary(32), primary_key=True),
    Column("outbox_id", BigInteger, primary_key=True),
    Column("weight", BigInteger, nullable=False),  # its part of the transaction's cost, against the others' weights
)
Index("transaction_items_by_outbox", transaction_items.c.outbox_id)

#: The next nonce of each sender: ours, not the endpoint's guess (0: none was taken yet). One process sends at a time.
senders = Table(
    "senders",
    metadata,
    Column("chain_id", BigInteger, primary_key=True),
    Column("address", String(42), primary_key=True),
    Column("next_nonce", BigInteger, nullable=False),
    Column("lease_owner", String(300)),
    Column("lease_until", Float),
)

#: Alarms that were raised and that nobody has acknowledged. `over_at` null: the cause still stands.
alarms = Table(
    "alarms",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("detail", Text, nullable=False),
    Column("first_at", Float, nullable=False),
    Column("last_at", Float, nullable=False),
    Column("times", BigInteger, nullable=False),
    Column("over_at", Float),
)

#: Roots that are copied to an operator's Kubo, by its peer id. `ours`: it had not before; `done`: it does now.
mirrored_roots = Table(
    "mirrored_roots",
    metadata,
    Column("root", LargeBinary(64), primary_key=True),
    Column("peer", String(128), primary_key=True),
    Column("ours", Boolean, nullable=False),
    Column("done", Boolean, nullable=False),
)

#: Which daemons answered at an address of content.kubo, the newest few of each, by peer id.
mirror_peers = Table(
    "mirror_peers",
    metadata,
    Column("address", String(300), primary_key=True),
    Column("peer", String(128), primary_key=True),
    Column("seen_at", Float, nullable=False),
)

#: Copies of results that were read back from an operator's Kubo, by its peer id, for the job that waits for them.
copies = Table(
    "copies",
    metadata,
    Column("request_hash", LargeBinary(32), primary_key=True),
    Column("peer", String(128), primary_key=True),
    Column("root", LargeBinary(64), nullable=False),
    Column("confirmed_at", Float, nullable=False),
)
