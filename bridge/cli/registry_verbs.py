"""`insula node labels|metadata|vouch|withdraw-vouch|deactivate|reactivate|rotate-key`: a node in the registry."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer

from bridge.chain.client import TxReceipt
from bridge.cli.node_call import NodeCall, NodeOnChain, NotNow, Told, label_words, node_verb
from bridge.cli.texts import moment
from executor.errors import InvalidInput
from executor.protocol.wire import ZERO_ADDRESS, checksum_address, label_hash

MAX_METADATA_BYTES = 1024  # NodeRegistry.MAX_METADATA_BYTES

LabelOption = Annotated[list[str], typer.Option("--label", help="key=value; may be given several times.")]


@node_verb
def labels(
    call: NodeCall,
    add: Annotated[list[str], typer.Option("--add", help="key=value to declare; several times for several.")] = [],  # noqa: B006
    remove: Annotated[list[str], typer.Option("--remove", help="key=value to take off; likewise.")] = [],  # noqa: B006
    label: Annotated[list[str], typer.Option("--label", help="key=value to look at; likewise.")] = [],  # noqa: B006
    curator: Annotated[str, typer.Option(help="Say too whether they count by this curator's word.")] = "",
) -> Told:
    """Put labels on a node of yours, take some off, or look at some of any node. Orders count a curator's word."""
    added, removed = label_words(add, "--add"), label_words(remove, "--remove")
    both = [word for word in added if word in removed]
    if both:
        raise InvalidInput("--remove", f"{both[0]} is to be added too; give it once")
    words = list(dict.fromkeys([*added, *removed, *label_words(label, "--label")]))
    if not words:
        raise InvalidInput("--add", "is missing: name labels with --add and --remove, or with --label to look at them")
    by = checksum_address(curator, "--curator") if curator else ""
    sent = _change_labels(call, added, removed) if added or removed else []
    with call.node() as node:
        rows = _label_rows(node, words, by)
        until = _effect(node, sent[-1], "LabelRemoved") if removed else None
    lines = [_removed_line(row, until) if row["label"] in removed else _label_line(row, by) for row in rows]
    if sent:
        lines.append("the node offers what its node.toml names: change `labels` there too")
    lines += [f"transaction 0x{receipt.tx_hash.hex()}" for receipt in sent]
    fields = {
        "labels": rows,
        "added": added,
        "removed": removed,
        "effectiveAt": until,
        "transactions": [receipt.tx_hash for receipt in sent],
    }
    return Told(fields, "\n".join(lines))


@node_verb
def metadata(
    call: NodeCall,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="Free text, at most 1024 bytes, on-chain for ever.")],
) -> Told:
    """Say something else of a node of yours: where it is, whom to ask."""
    from bridge.chain.operate import set_metadata

    try:
        size = len(text.encode())
    except UnicodeEncodeError as exc:
        raise InvalidInput("TEXT", "is not UTF-8") from exc
    if size > MAX_METADATA_BYTES:
        raise InvalidInput("TEXT", f"has {size} bytes; at most {MAX_METADATA_BYTES} are accepted")
    with call.own_node() as (node, operator):
        receipt = set_metadata(node.client, operator, node.registry.address, node.id, text)
    said = f"node {call.node_id} says of itself: {text}\ntransaction 0x{receipt.tx_hash.hex()}"
    return Told({"metadata": text, "transaction": receipt.tx_hash}, said)


@node_verb
def deactivate(call: NodeCall) -> Told:
    """Take a node of yours out: it gets no more jobs, and what it signs counts until the registry's notice is over."""
    from bridge.chain.operate import deactivate as send_deactivate

    with call.own_node() as (node, operator):
        receipt = send_deactivate(node.client, operator, node.registry.address, node.id)
        until = _effect(node, receipt, "NodeDeactivated")
    text = f"node {call.node_id} counts until {_when(until)}; its stake stays: insula node unstake {call.node_id} WEI"
    return Told(
        {"effectiveAt": until, "transaction": receipt.tx_hash}, f"{text}\ntransaction 0x{receipt.tx_hash.hex()}"
    )


@node_verb
def reactivate(call: NodeCall) -> Told:
    """Bring a deactivated node of yours back, at once."""
    from bridge.chain.operate import reactivate as send_reactivate

    with call.own_node() as (node, operator):
        receipt = send_reactivate(node.client, operator, node.registry.address, node.id)
        has_key = node.view.key != ZERO_ADDRESS
    text = f"node {call.node_id} counts again" + ("" if has_key else "; it has no key yet: insula node rotate-key")
    return Told({"transaction": receipt.tx_hash}, f"{text}\ntransaction 0x{receipt.tx_hash.hex()}")


@node_verb
def rotate_key(
    call: NodeCall,
    folder: Annotated[Path, typer.Option("--dir", help="The work folder of the new key, made by insula node init.")],
) -> Told:
    """Make another key the current one of a node of yours; the old one stops counting at once.

    The new key has a folder and a ledger of its own: nobody knows what a key has signed but its ledger.
    """
    from bridge.chain.operate import join_key
    from executor.agent.config import NodeConfig

    config = NodeConfig.load(folder)
    key = config.load_key(folder)
    call = replace(call, rpc=call.rpc or config.rpc_url, contract=call.contract or config.bridge_contract)
    with call.own_node() as (node, operator):
        if node.client.chain_id() != config.chain_id:
            raise InvalidInput("--rpc", f"is of another chain than {config.chain_id}, which --dir's node.toml names")
        if node.registry.address != config.registry:
            raise InvalidInput(
                "--contract", f"has the registry {node.registry.address}; node.toml has {config.registry}"
            )
        _check_new(node, key.address)
        receipt = join_key(node.client, operator, node.registry.address, node.id, key)
    previous = node.view.key if node.view.key != ZERO_ADDRESS else None
    next_step = f"insula node run --dir {quote(str(folder))}"
    text = f"node {node.id} signs with {key.address} from now on"
    if previous:
        text += f"; {previous} counts no more: stop its process, and never use that key and its ledger again"
    text += f"\ntransaction 0x{receipt.tx_hash.hex()}\nnext         {next_step}"
    fields = {"key": key.address, "previous": previous, "transaction": receipt.tx_hash, "next": next_step}
    return Told(fields, text)


@node_verb
def vouch(call: NodeCall, label: LabelOption) -> Told:
    """As a curator, vouch for labels of a node; "node=admitted" admits it to orders without labels."""
    return _curate(call, label, is_vouched=True)


@node_verb
def withdraw_vouch(call: NodeCall, label: LabelOption) -> Told:
    """As a curator, take your word for labels of a node back, at once."""
    return _curate(call, label, is_vouched=False)


def _change_labels(call: NodeCall, added: list[str], removed: list[str]) -> list[TxReceipt]:
    """Two transactions where both are asked for. TransactionFailed of the second one names the first, which stands."""
    from bridge.chain.operate import TransactionFailed, declare_labels, remove_labels

    sent = []
    with call.own_node() as (node, operator), _in_words([*added, *removed]):
        _check_carried(node, removed)
        where = (node.client, operator, node.registry.address, node.id)
        if added:
            sent.append(declare_labels(*where, added))
        try:
            if removed:
                sent.append(remove_labels(*where, removed))
        except TransactionFailed as exc:
            done = f"; {', '.join(added)}: added in transaction 0x{sent[0].tx_hash.hex()}" if sent else ""
            raise TransactionFailed(f"{exc}{done}") from exc
    return sent


def _curate(call: NodeCall, label: list[str], *, is_vouched: bool) -> Told:
    from bridge.chain.operate import vouch as send_vouch
    from bridge.chain.operate import withdraw_vouch as send_withdraw

    words, curator = label_words(label, "--label"), call.signer()
    send = send_vouch if is_vouched else send_withdraw
    with call.node() as node, _in_words(words):
        receipt = send(node.client, curator, node.registry.address, node.id, words)
    how = "vouches" if is_vouched else "no longer vouches"
    text = f"{curator.address} {how} for node {node.id}: {', '.join(words)}"
    fields = {"curator": curator.address, "labels": words, "transaction": receipt.tx_hash}
    return Told(fields, f"{text}\ntransaction 0x{receipt.tx_hash.hex()}")


def _check_carried(node: NodeOnChain, words: Sequence[str]) -> None:
    counts = node.registry.labels_count(node.id, ZERO_ADDRESS, [label_hash(word) for word in words])
    for word, carried in zip(words, counts, strict=True):
        if not carried:
            raise InvalidInput("--remove", f"node {node.id} does not carry {word}")


def _check_new(node: NodeOnChain, key: str) -> None:
    if node.view.key == key:
        raise NotNow(f"{key} is the current key of node {node.id} already")
    taken = node.registry.node_of_key(key)
    if taken is not None:
        problem = f"holds the key {key}, which has joined node {taken} before; a key joins one node, once"
        raise InvalidInput("--dir", f"{problem}: make a new folder with insula node init")


def _label_rows(node: NodeOnChain, words: Sequence[str], curator: str) -> list[dict[str, Any]]:
    hashes = [label_hash(word) for word in words]
    own = node.registry.labels_count(node.id, ZERO_ADDRESS, hashes)
    vouched = node.registry.labels_count(node.id, curator, hashes) if curator else [None] * len(words)
    return [
        {"label": word, "hash": digest, "declared": is_own, "vouched": is_vouched}
        for word, digest, is_own, is_vouched in zip(words, hashes, own, vouched, strict=True)
    ]


def _label_line(row: dict[str, Any], curator: str) -> str:
    own = "carried" if row["declared"] else "not carried"
    if not curator:
        return f"{row['label']}: {own}"
    return f"{row['label']}: {own}; {'counts' if row['vouched'] else 'does not count'} by the word of {curator}"


def _removed_line(row: dict[str, Any], until: int | None) -> str:
    return (
        f"{row['label']}: taken off; it counts by the node's own word until {_when(until)}, "
        "by a curator's until he takes that back"
    )


def _effect(node: NodeOnChain, receipt: TxReceipt, event: str) -> int | None:
    """From when on it holds, as the event says (seconds since 1970); None where an endpoint shows no log yet."""
    from bridge.chain.operate import registry_log

    log = registry_log(node.client, node.registry.address, receipt, event)
    return None if log is None else int.from_bytes(log.data[:32], "big")


def _when(effect: int | None) -> str:
    return "the registry's notice is over" if effect is None else moment(effect)


@contextmanager
def _in_words(words: Sequence[str]) -> Iterator[None]:
    """The contract knows labels by hash; whoever gave them knows them as words."""
    from bridge.chain.operate import TransactionFailed

    try:
        yield
    except TransactionFailed as exc:
        text = str(exc)
        for word in words:
            text = text.replace(f"0x{label_hash(word).hex()}", word)
        raise TransactionFailed(text) from exc
