"""Deployment of the contracts: what `insula devnet` and operators of a new network use."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.chain.client import ChainClient, TxReceipt
from bridge.chain.contracts import compute_bridge, compute_lens, node_registry, result_book
from bridge.chain.operate import TransactionFailed, send_and_wait
from bridge.chain.signer import TxSigner

PROOF_SECONDS = 7 * 86_400  # ComputeBridge.PROOF_TIME


@dataclass(frozen=True)
class Deployment:
    """Addresses of the contracts, and the block in which the bridge was created: nothing older need be read."""

    registry: str
    bridge: str
    result_book: str
    deploy_block: int
    lens: str


def deploy_all(
    client: ChainClient,
    signer: TxSigner,
    *,
    notice: int,
    min_ttl: int,
    max_ttl: int,
    cancel_delay: int,
    deadline_seconds: float = 180.0,
) -> Deployment:
    """Create NodeRegistry, ComputeBridge, ResultBook and ComputeLens, owned by the signer. Times in seconds, for ever.

    Stake unbonds as long as the bridge's longest ttl demands, and no longer.
    """
    creation = node_registry().creation(notice, max_ttl + PROOF_SECONDS)
    registry, _ = _create(client, signer, creation, deadline_seconds)
    arguments = (registry, min_ttl, max_ttl, cancel_delay, signer.address)
    bridge, created = _create(client, signer, compute_bridge().creation(*arguments), deadline_seconds)
    book, _ = _create(client, signer, result_book().creation(bridge), deadline_seconds)
    lens, _ = _create(client, signer, compute_lens().creation(), deadline_seconds)
    return Deployment(registry=registry, bridge=bridge, result_book=book, deploy_block=created.block_number, lens=lens)


def _create(client: ChainClient, signer: TxSigner, data: bytes, deadline_seconds: float) -> tuple[str, TxReceipt]:
    receipt = send_and_wait(client, signer, None, data, deadline_seconds=deadline_seconds)
    if receipt.contract_address is None:
        raise TransactionFailed(f"transaction 0x{receipt.tx_hash.hex()} was mined but created no contract")
    return receipt.contract_address, receipt
