"""`insula node evidence|slash|withdraw-reward`: for anybody who can prove that a node signed two outcomes."""

from __future__ import annotations

import re
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from bridge.chain.client import ChainClient
from bridge.cli.context import (
    BridgeOption,
    ContractOption,
    KeyOption,
    RpcOption,
    bridge_at,
    chain_at,
    contract_of,
    get_json,
    signer_of,
)
from bridge.cli.node_call import NodeArgument, NotNow, registry_of
from bridge.cli.output import Exit, JsonFlag, emit
from bridge.cli.spec_verbs import read_limited
from bridge.cli.texts import amount, moment
from executor.errors import InvalidInput
from executor.protocol.evidence import MAX_EVIDENCE_BYTES, Evidence, check_evidence
from executor.protocol.wire import checksum_address

if TYPE_CHECKING:
    from bridge.chain.views import RegistryViews

REWARD_DIVISOR = 10  # NodeRegistry.REWARD_DIVISOR


def evidence(
    node_id: NodeArgument,
    bridge: BridgeOption = "",
    request: Annotated[str, typer.Option(help="0x and request hash: of several proofs, the one about this.")] = "",
    save: Annotated[Path | None, typer.Option("--save", help="Write the proof for `insula node slash`.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """What a bridge holds against a node: proofs that its key signed two outcomes of one request. Exit 1: nothing."""
    wanted = request.lower()
    if wanted and not re.fullmatch("0x[0-9a-f]{64}", wanted):
        raise InvalidInput("--request", f"{request!r:.80} is not 0x and a request hash of 64 hexadecimal digits")
    with bridge_at(bridge) as http:
        answer = get_json(http, f"/v1/nodes/{node_id}/evidence")
    proofs = _proofs(answer)
    chosen = [one for one in proofs if not wanted or f"0x{one[1].request_hash.hex()}" == wanted]
    if save and chosen:
        if len(chosen) > 1:
            raise InvalidInput("--request", f"is needed: there are {len(chosen)} proofs, and a file holds one")
        save.write_text(chosen[0][1].model_dump_json(indent=2) + "\n")
    held = answer.get("held")
    result: dict[str, Any] = {
        "ok": bool(chosen),
        "nodeId": node_id,
        "held": held,
        "evidence": [_shown(found_at, one) for found_at, one in chosen],
        "saved": str(save) if save and chosen else None,
    }
    emit(result, as_json=as_json, text=_evidence_text(node_id, chosen, len(proofs) - len(chosen), held, save))
    if not chosen:
        raise typer.Exit(int(Exit.NOT_SO))


def slash(
    proof: Annotated[Path, typer.Option("--proof", help="What `insula node evidence --save` wrote.")],
    rpc: RpcOption = "",
    contract: ContractOption = "",
    key: KeyOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Prove that a node signed two outcomes of one request: its stake is gone, a tenth is yours. Anybody may."""
    from bridge.chain.operate import slash as send_slash

    found = Evidence.read(read_limited(proof, MAX_EVIDENCE_BYTES, "--proof"), "--proof")
    try:
        check_evidence(found)
    except InvalidInput as exc:
        raise InvalidInput(f"--proof: {exc.field}", exc.problem) from exc
    prover, address = signer_of(key), contract_of(contract)
    with chain_at(rpc) as client:
        registry = _registry_for(client, address, found)
        node_id, at_stake = _slashable(registry, found)
        receipt = send_slash(client, prover, registry.address, found)
        lost, reward = _amounts(client, registry, receipt, at_stake)
    result = {
        "ok": True,
        "nodeId": node_id,
        "key": found.key,
        "requestHash": found.request_hash,
        "slashed": str(lost),
        "reward": str(reward),
        "burned": str(lost - reward),
        "prover": prover.address,
        "transaction": receipt.tx_hash,
        "next": "insula node withdraw-reward",
    }
    text = (
        f"node {node_id} has lost its stake of {amount(lost)}: it signed two outcomes of request "
        f"0x{found.request_hash.hex()}\n{amount(reward)} for {prover.address}: insula node withdraw-reward\n"
        f"{amount(lost - reward)} burned\ntransaction 0x{receipt.tx_hash.hex()}"
    )
    emit(result, as_json=as_json, text=text)


def withdraw_reward(
    to: Annotated[str, typer.Option(help="Who gets it; the prover unless given.")] = "",
    rpc: RpcOption = "",
    contract: ContractOption = "",
    key: KeyOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Draw what you earned by proofs."""
    from bridge.chain.operate import withdraw_reward as send_withdraw

    prover, address = signer_of(key), contract_of(contract)
    receiver = checksum_address(to, "--to") if to else prover.address
    with chain_at(rpc) as client:
        registry = registry_of(client, address)
        reward = registry.reward_of(prover.address)
        if not reward:
            raise NotNow(f"{prover.address} has no reward to draw; one comes with: insula node slash --proof FILE")
        receipt = send_withdraw(client, prover, registry.address, receiver)
    text = f"{amount(reward)} drawn to {receiver}\ntransaction 0x{receipt.tx_hash.hex()}"
    emit({"ok": True, "drawn": str(reward), "to": receiver, "transaction": receipt.tx_hash}, as_json=as_json, text=text)


def _proofs(answer: dict[str, Any]) -> list[tuple[float, Evidence]]:
    """When each was found, and what it is; each proves what it says, whatever the bridge is."""
    rows = answer.get("found")
    if not isinstance(rows, list) or not isinstance(answer.get("held"), int):
        raise InvalidInput("bridge", "its answer holds no evidence; is it of an older version?")
    proofs = []
    for row in rows:
        if not isinstance(row, dict) or not isinstance(row.get("found_at"), (int, float)):
            raise InvalidInput("bridge", "its answer is not understood; is this a bridge?")
        one = Evidence.read(orjson.dumps(row.get("evidence")), "bridge: evidence")
        try:
            check_evidence(one)
        except InvalidInput as exc:
            raise InvalidInput(f"bridge: evidence: {exc.field}", exc.problem) from exc
        proofs.append((float(row["found_at"]), one))
    return proofs


def _shown(found_at: float, one: Evidence) -> dict[str, Any]:
    """What a proof says; the proof itself is a file's (--save)."""
    return {
        "requestHash": one.request_hash,
        "key": one.key,
        "outcomeHashes": [one.first.outcome_hash, one.second.outcome_hash],
        "foundAt": found_at,
    }


def _evidence_text(
    node_id: int, proofs: list[tuple[float, Evidence]], others: int, held: object, save: Path | None
) -> str:
    lines = []
    for found_at, one in proofs:
        lines.append(f"request 0x{one.request_hash.hex()}, found {moment(found_at)}: the key {one.key} signed")
        lines += [f"    outcome 0x{said.outcome_hash.hex()}" for said in (one.first, one.second)]
    if not lines:
        lines.append(f"no proof against node {node_id}" + (" about this request" if others else ""))
    if others:
        lines.append(f"{others} about other requests")
    if held:
        lines.append(f"{held} more will be shown once the requests are over")
    if proofs:
        file = quote(str(save)) if save else "FILE"
        lines.append(f"next: insula node {'' if save else f'evidence {node_id} --save FILE, then insula node '}"
                     f"slash --proof {file}")  # fmt: skip
    return "\n".join(lines)


def _registry_for(client: ChainClient, contract: str, found: Evidence) -> RegistryViews:
    """The registry of --contract, which the proof's contract must name too."""
    chain_id = client.chain_id()
    if found.chain_id != chain_id:
        raise InvalidInput("--proof: chain_id", f"is {found.chain_id}; --rpc is of chain {chain_id}")
    registry = registry_of(client, contract)
    try:
        named = registry.address if found.contract == contract else registry_of(client, found.contract).address
    except InvalidInput as exc:
        raise InvalidInput("--proof: contract", exc.problem) from exc
    if named != registry.address:
        raise InvalidInput("--proof: contract", f"{found.contract} has another registry than {contract}")
    return registry


def _slashable(registry: RegistryViews, found: Evidence) -> tuple[int, int]:
    """The node, and all that it has at stake."""
    node_id = registry.node_of_key(found.key)
    if node_id is None:
        raise InvalidInput("--proof: key", f"{found.key} was never a node's key in the registry {registry.address}")
    if registry.is_proven(found.key):
        raise NotNow(f"a contradiction of {found.key}, of node {node_id}, was proven before; a key is slashed once")
    stake = registry.stake_of(node_id)
    at_stake = stake.bonded + stake.unbonding
    if not at_stake:
        raise NotNow(f"node {node_id} has nothing at stake; the proof stays good for when it has")
    return node_id, at_stake


def _amounts(client: ChainClient, registry: RegistryViews, receipt: Any, at_stake: int) -> tuple[int, int]:
    """What was lost and what of it is the prover's, as the event says; where it does not show yet, as it follows."""
    from bridge.chain.operate import registry_log

    log = registry_log(client, registry.address, receipt, "NodeSlashed")
    if log is None or len(log.data) < 6 * 32:
        return at_stake, at_stake // REWARD_DIVISOR
    return int.from_bytes(log.data[4 * 32 : 5 * 32], "big"), int.from_bytes(log.data[5 * 32 : 6 * 32], "big")
