"""One transaction at a time, sent and waited for: what the command line and the devnet do with an operator's key.

The relayer does not use this: its transactions are stored before they are sent (`bridge.relayer`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from bridge.chain.client import ChainClient, Log, TxReceipt
from bridge.chain.contracts import (
    deactivate_calldata,
    declare_labels_calldata,
    join_key_calldata,
    node_registry,
    reactivate_calldata,
    register_calldata,
    remove_labels_calldata,
    request_job_calldata,
    set_metadata_calldata,
    slash_calldata,
    stake_calldata,
    unstake_calldata,
    vouch_calldata,
    withdraw_reward_calldata,
    withdraw_stake_calldata,
    withdraw_vouch_calldata,
)
from bridge.chain.erc20 import allowance, approve_calldata, balance_of
from bridge.chain.fees import first_fees
from bridge.chain.refusals import refusal_in_words
from bridge.chain.signer import SignedTransaction, Transaction, TxSigner
from bridge.chain.views import RegistryViews
from bridge.errors import BridgeError, RpcError, RpcRefused, RpcUnavailable
from executor.protocol.evidence import Evidence
from executor.protocol.signing import Key, Scope, node_key_message
from executor.protocol.wire import ZERO_ADDRESS, Order, label_hash

FIRST_POLL_SECONDS = 0.02  # doubled each time, up to the longest
LONGEST_POLL_SECONDS = 1.0
RESEND_SECONDS = 15.0
FEE_CAP_WEI = 10**13  # per gas; a person signs these, and a base fee beyond this is a broken endpoint


class TransactionFailed(BridgeError):
    """A transaction was refused, or ran and failed; the message says why."""


class OutOfFunds(TransactionFailed):
    """An account cannot pay; the message says what it holds and what it needs."""


class TransactionPending(BridgeError):
    """A transaction was sent and is not mined yet; it may still be."""


def send_and_wait(
    client: ChainClient,
    signer: TxSigner,
    to: str | None,
    data: bytes,
    value: int = 0,
    deadline_seconds: float = 180.0,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> TxReceipt:
    """Send one transaction (`to` None: create a contract) and wait until it is mined and succeeded.

    The same bytes are handed in again while no receipt comes. TransactionFailed with the revert's reason;
    TransactionPending when `deadline_seconds` are over.
    """
    end = clock() + deadline_seconds
    signed = _signed(client, signer, to, data, value)
    next_send = clock()
    pause = FIRST_POLL_SECONDS
    while True:
        if clock() >= next_send:
            _send(client, signed, signer.address, value)
            next_send = clock() + RESEND_SECONDS
        receipt = _receipt(client, signed.hash)
        if receipt is not None:
            if not receipt.ok:
                raise TransactionFailed(f"transaction 0x{signed.hash.hex()} was mined and failed")
            return receipt
        if clock() >= end:
            raise TransactionPending(f"transaction 0x{signed.hash.hex()} is not mined after {deadline_seconds:g} s")
        sleep(pause)
        pause = min(2 * pause, LONGEST_POLL_SECONDS)


def _signed(client: ChainClient, signer: TxSigner, to: str | None, data: bytes, value: int) -> SignedTransaction:
    try:
        gas = client.estimate_gas(signer.address, to, data, value)
    except RpcRefused as exc:
        raise _refused(client, signer.address, value, exc) from exc
    fees = first_fees(*client.fees(), FEE_CAP_WEI)
    if fees is None:
        raise TransactionFailed(f"the endpoint's base fee is above {FEE_CAP_WEI} wei per gas")
    transaction = Transaction(
        chain_id=client.chain_id(),
        nonce=client.nonce(signer.address, "pending"),
        to=to,
        data=data,
        gas=gas + gas // 10,
        max_fee=fees.max_fee,
        tip=fees.tip,
        value=value,
    )
    return signer.sign_transaction(transaction)


def _send(client: ChainClient, signed: SignedTransaction, sender: str, value: int) -> None:
    try:
        client.send_raw(signed.raw)
    except RpcUnavailable:
        return  # it may have arrived: the receipt tells, and the same bytes are sent again
    except RpcRefused as exc:
        if _receipt(client, signed.hash) is None and "already" not in exc.message and "Known" not in exc.message:
            raise _refused(client, sender, value, exc) from exc


def _refused(client: ChainClient, sender: str, value: int, error: RpcRefused) -> TransactionFailed:
    """The revert's reason in words; or that the account cannot pay, which endpoints say in many words."""
    try:
        balance = client.balance(sender)
    except RpcError:
        return TransactionFailed(refusal_in_words(error))
    if balance > value and "insufficient funds" not in error.message.lower():
        return TransactionFailed(refusal_in_words(error))
    need = f"it needs {value} wei and what the gas costs: send it funds first"
    return OutOfFunds(f"account {sender} holds {balance} wei; {need}")


def _receipt(client: ChainClient, tx_hash: bytes) -> TxReceipt | None:
    try:
        return client.receipt(tx_hash)
    except RpcUnavailable:
        return None


# -- nodes, curators, requesters ----------------------------------------------------------------------------------


def register_node(
    client: ChainClient, operator: TxSigner, registry: str, labels: Iterable[str] = (), metadata: str = ""
) -> int:
    """Register a node of this operator; its id. Labels are words "key=value"."""
    data = register_calldata(labels, metadata)
    receipt = send_and_wait(client, operator, registry, data)
    return _registered_id(client, registry, operator, receipt)


def join_key(client: ChainClient, operator: TxSigner, registry: str, node_id: int, key: Key) -> TxReceipt:
    """Make `key` the node's current key; the key signs for it."""
    nonce = RegistryViews(client, registry).key_nonce(node_id)
    scope = Scope(client.chain_id(), registry)
    signature = key.sign(node_key_message(scope, operator=operator.address, node_id=node_id, nonce=nonce))
    return send_and_wait(client, operator, registry, join_key_calldata(node_id, key.address, signature))


def declare_labels(
    client: ChainClient, operator: TxSigner, registry: str, node_id: int, labels: Iterable[str]
) -> TxReceipt:
    """Put more labels on a node, by its operator's own word."""
    return send_and_wait(client, operator, registry, declare_labels_calldata(node_id, labels))


def remove_labels(
    client: ChainClient, operator: TxSigner, registry: str, node_id: int, labels: Sequence[str]
) -> TxReceipt:
    """Take labels off a node; they count by its own word until the registry's notice is over."""
    data = remove_labels_calldata(node_id, [label_hash(word) for word in labels])
    return send_and_wait(client, operator, registry, data)


def set_metadata(client: ChainClient, operator: TxSigner, registry: str, node_id: int, metadata: str) -> TxReceipt:
    """Say something else of a node, on-chain."""
    return send_and_wait(client, operator, registry, set_metadata_calldata(node_id, metadata))


def deactivate(client: ChainClient, operator: TxSigner, registry: str, node_id: int) -> TxReceipt:
    """Take a node out; it counts until the registry's notice is over."""
    return send_and_wait(client, operator, registry, deactivate_calldata(node_id))


def reactivate(client: ChainClient, operator: TxSigner, registry: str, node_id: int) -> TxReceipt:
    """Bring a deactivated node back, at once."""
    return send_and_wait(client, operator, registry, reactivate_calldata(node_id))


def vouch(client: ChainClient, curator: TxSigner, registry: str, node_id: int, labels: Sequence[str]) -> TxReceipt:
    """Vouch as a curator for a node's labels (words "key=value"; "node=admitted" for orders without labels)."""
    return send_and_wait(client, curator, registry, vouch_calldata(node_id, [label_hash(word) for word in labels]))


def withdraw_vouch(
    client: ChainClient, curator: TxSigner, registry: str, node_id: int, labels: Sequence[str]
) -> TxReceipt:
    """Take a curator's word for labels of a node back, at once."""
    data = withdraw_vouch_calldata(node_id, [label_hash(word) for word in labels])
    return send_and_wait(client, curator, registry, data)


def add_stake(client: ChainClient, operator: TxSigner, registry: str, node_id: int, amount: int) -> TxReceipt:
    """Put `amount` wei at stake for a node of this operator."""
    return send_and_wait(client, operator, registry, stake_calldata(node_id), amount)


def unstake(client: ChainClient, operator: TxSigner, registry: str, node_id: int, amount: int) -> TxReceipt:
    """Begin to take `amount` wei of a node's stake out."""
    return send_and_wait(client, operator, registry, unstake_calldata(node_id, amount))


def withdraw_stake(client: ChainClient, operator: TxSigner, registry: str, node_id: int, to: str) -> TxReceipt:
    """Draw all of a node's stake that has unbonded."""
    return send_and_wait(client, operator, registry, withdraw_stake_calldata(node_id, to))


def slash(client: ChainClient, prover: TxSigner, registry: str, evidence: Evidence) -> TxReceipt:
    """Prove that a node's key signed two outcomes of one request; the prover need not be anybody."""
    return send_and_wait(client, prover, registry, slash_calldata(evidence))


def withdraw_reward(client: ChainClient, prover: TxSigner, registry: str, to: str) -> TxReceipt:
    """Draw all that this prover earned by proofs."""
    return send_and_wait(client, prover, registry, withdraw_reward_calldata(to))


def request_job(client: ChainClient, requester: TxSigner, bridge: str, order: Order) -> TxReceipt:
    """Order a job straight at the ComputeBridge and pay its price; the listener finds its id by the log.

    A price in a token is taken by the contract, which the requester has to let it (`let_take`).
    """
    value = order.price if order.token == ZERO_ADDRESS else 0
    return send_and_wait(client, requester, bridge, request_job_calldata(order), value)


def let_take(client: ChainClient, owner: TxSigner, spender: str, token: str, amount: int) -> None:
    """Let `spender` take `amount` of an ERC-20, unless it may take as much already.

    OutOfFunds where the owner does not hold that much.
    """
    held = balance_of(client, token, owner.address)
    if held < amount:
        raise OutOfFunds(f"account {owner.address} holds {held} of the token {token}; the price is {amount}")
    before = allowance(client, token, owner.address, spender)
    if before >= amount:
        return
    if before:  # some tokens change an allowance only from zero
        send_and_wait(client, owner, token, approve_calldata(spender, 0))
    send_and_wait(client, owner, token, approve_calldata(spender, amount))


def registry_log(client: ChainClient, registry: str, receipt: TxReceipt, event: str) -> Log | None:
    """The registry's first log of this event in a transaction; None too where an endpoint shows no log yet."""
    topic = node_registry().event_topic(event)
    for log in client.logs_by_hash(receipt.block_hash, registry):
        if log.tx_hash == receipt.tx_hash and log.topics[:1] == (topic,):
            return log
    return None


def _registered_id(client: ChainClient, registry: str, operator: TxSigner, receipt: TxReceipt) -> int:
    views = RegistryViews(client, registry)
    registered = registry_log(client, registry, receipt, "NodeRegistered")
    if registered is not None and len(registered.topics) > 1:
        return int.from_bytes(registered.topics[1], "big")
    for node_id in range(views.node_count(), 0, -1):  # an endpoint that shows no log yet (lotus#12078)
        node = views.node_of(node_id)
        if node is not None and node.operator == operator.address:
            return node_id
    raise TransactionFailed("the registration was mined, but the registry knows no node of this operator")
