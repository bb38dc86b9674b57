"""`insula node stake|unstake|withdraw-stake`: an operator's native tokens that answer for what his node signs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from bridge.cli.context import ContractOption, KeyOption, RpcOption, chain_at, contract_of, signer_of
from bridge.cli.output import Exit, JsonFlag, emit, fail
from bridge.cli.texts import amount as wei_text
from bridge.cli.texts import moment
from executor.errors import InvalidInput
from executor.protocol.wire import checksum_address

if TYPE_CHECKING:
    from bridge.chain.client import ChainClient
    from bridge.chain.signer import TxSigner
    from bridge.chain.views import RegistryViews, StakeView

NodeArgument = Annotated[int, typer.Argument(metavar="NODE", help="The node's id.")]
AmountArgument = Annotated[int, typer.Argument(metavar="WEI", min=1, help="In wei of the chain's own token.")]


def stake(
    node_id: NodeArgument,
    amount: AmountArgument,
    rpc: RpcOption = "",
    contract: ContractOption = "",
    key: KeyOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Put native tokens at stake for a node of yours: lost if its key ever signs two outcomes of one request."""
    from bridge.chain.operate import add_stake

    operator, address = signer_of(key), contract_of(contract)
    with chain_at(rpc) as client:
        registry = _own_registry(client, address, node_id, operator)
        receipt = add_stake(client, operator, registry.address, node_id, amount)
        _tell(registry.stake_of(node_id), node_id, receipt.tx_hash, as_json)


def unstake(
    node_id: NodeArgument,
    amount: AmountArgument,
    rpc: RpcOption = "",
    contract: ContractOption = "",
    key: KeyOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Begin to take stake out; all that unbonds waits from now on, and can be slashed until it is withdrawn."""
    from bridge.chain.operate import unstake as send_unstake

    operator, address = signer_of(key), contract_of(contract)
    with chain_at(rpc) as client:
        registry = _own_registry(client, address, node_id, operator)
        bonded = registry.stake_of(node_id).bonded
        if amount > bonded:
            raise InvalidInput("WEI", f"is more than the {bonded} wei that node {node_id} has at stake")
        receipt = send_unstake(client, operator, registry.address, node_id, amount)
        _tell(registry.stake_of(node_id), node_id, receipt.tx_hash, as_json)


def withdraw_stake(
    node_id: NodeArgument,
    to: Annotated[str, typer.Option(help="Who gets it; the operator unless given.")] = "",
    rpc: RpcOption = "",
    contract: ContractOption = "",
    key: KeyOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Draw the stake that has unbonded."""
    from bridge.chain.operate import withdraw_stake as send_withdraw

    operator, address = signer_of(key), contract_of(contract)
    receiver = checksum_address(to, "--to") if to else operator.address
    with chain_at(rpc) as client:
        registry = _own_registry(client, address, node_id, operator)
        seen = registry.stake_of(node_id)
        if not seen.unbonding:
            problem = f"nothing of node {node_id} unbonds; first: insula node unstake {node_id} WEI"
            raise fail(problem, code=Exit.NOT_SO, as_json=as_json)
        if client.head().timestamp < seen.released_at:
            problem = f"too early: it is released from {moment(seen.released_at)} on"
            raise fail(problem, code=Exit.NOT_SO, as_json=as_json)
        receipt = send_withdraw(client, operator, registry.address, node_id, receiver)
        _tell(registry.stake_of(node_id), node_id, receipt.tx_hash, as_json, drawn=seen.unbonding)


def _own_registry(client: ChainClient, contract: str, node_id: int, operator: TxSigner) -> RegistryViews:
    """The contract's registry, which must know the node as this operator's."""
    from bridge.chain.views import BridgeViews, RegistryViews

    registry = RegistryViews(client, BridgeViews(client, contract).registry())
    node = registry.node_of(node_id)
    if node is None:
        raise InvalidInput("NODE", f"the registry knows no node {node_id}")
    if node.operator != operator.address:
        raise InvalidInput("--key", f"is the key of {operator.address}; node {node_id} is {node.operator}'s")
    return registry


def _tell(seen: StakeView, node_id: int, tx_hash: bytes, as_json: bool, drawn: int = 0) -> None:
    told: dict[str, Any] = {
        "ok": True,
        "nodeId": node_id,
        "bonded": str(seen.bonded),
        "unbonding": str(seen.unbonding),
        "releasedAt": seen.released_at,
        "transaction": tx_hash,
    }
    text = f"node {node_id} has {wei_text(seen.bonded)} at stake"
    if drawn:
        told["drawn"] = str(drawn)
        text = f"{wei_text(drawn)} withdrawn; {text}"
    if seen.unbonding:
        text += f"; {wei_text(seen.unbonding)} unbonds until {moment(seen.released_at)}: "
        text += f"then insula node withdraw-stake {node_id}"
    emit(told, as_json=as_json, text=text)
