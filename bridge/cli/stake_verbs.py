"""`insula node stake|unstake|withdraw`: an operator's native tokens that answer for what his node signs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from bridge.cli.node_call import NodeCall, NodeOnChain, NotNow, Told, node_verb
from bridge.cli.texts import amount as wei_text
from bridge.cli.texts import moment
from executor.errors import InvalidInput
from executor.protocol.wire import checksum_address

AmountArgument = Annotated[int, typer.Argument(metavar="WEI", min=1, help="In wei of the chain's own token.")]


@node_verb
def stake(call: NodeCall, amount: AmountArgument) -> Told:
    """Put native tokens at stake for a node of yours: lost if its key ever signs two outcomes of one request."""
    from bridge.chain.operate import add_stake

    with call.own_node() as (node, operator):
        receipt = add_stake(node.client, operator, node.registry.address, node.id, amount)
        return _told(node, receipt.tx_hash)


@node_verb
def unstake(call: NodeCall, amount: AmountArgument) -> Told:
    """Begin to take stake out; all that unbonds waits from now on, and can be slashed until it is withdrawn."""
    from bridge.chain.operate import unstake as send_unstake

    with call.own_node() as (node, operator):
        bonded = node.registry.stake_of(node.id).bonded
        if amount > bonded:
            raise InvalidInput("WEI", f"is more than the {bonded} wei that node {node.id} has at stake")
        receipt = send_unstake(node.client, operator, node.registry.address, node.id, amount)
        return _told(node, receipt.tx_hash)


@node_verb
def withdraw(
    call: NodeCall, to: Annotated[str, typer.Option(help="Who gets it; the operator unless given.")] = ""
) -> Told:
    """Draw the stake that has unbonded. What a node earns is drawn with `insula job withdraw`."""
    from bridge.chain.operate import withdraw_stake

    receiver = checksum_address(to, "--to") if to else ""
    with call.own_node() as (node, operator):
        seen = node.registry.stake_of(node.id)
        if not seen.unbonding:
            raise NotNow(f"nothing of node {node.id} unbonds; first: insula node unstake {node.id} WEI")
        if node.client.head().timestamp < seen.released_at:
            raise NotNow(f"too early: it is released from {moment(seen.released_at)} on")
        receipt = withdraw_stake(node.client, operator, node.registry.address, node.id, receiver or operator.address)
        return _told(node, receipt.tx_hash, drawn=seen.unbonding)


def _told(node: NodeOnChain, tx_hash: bytes, drawn: int = 0) -> Told:
    seen = node.registry.stake_of(node.id)
    fields: dict[str, Any] = {
        "bonded": str(seen.bonded),
        "unbonding": str(seen.unbonding),
        "releasedAt": seen.released_at,
        "transaction": tx_hash,
    }
    text = f"node {node.id} has {wei_text(seen.bonded)} at stake"
    if drawn:
        fields["drawn"] = str(drawn)
        text = f"{wei_text(drawn)} withdrawn; {text}"
    if seen.unbonding:
        text += f"; {wei_text(seen.unbonding)} unbonds until {moment(seen.released_at)}: "
        text += f"then insula node withdraw {node.id}"
    return Told(fields, f"{text}\ntransaction 0x{tx_hash.hex()}")
