"""Deployments that are known: `bridge/chain/abi/deployments/CHAINID.json`, beside the ABIs.

`npx hardhat insula export-deployment` writes them from Ignition's records; Hardhat's tasks read the same files.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable

from executor.errors import InvalidInput
from executor.protocol.wire import checksum_address


@dataclass(frozen=True)
class KnownDeployment:
    """Addresses by contract name, and the block in which the bridge was created: nothing older need be read."""

    chain_id: int
    deploy_block: int
    contracts: dict[str, str]


def known_deployment(chain_id: int, folder: Traversable | None = None) -> KnownDeployment | None:
    """The deployment on this chain, None where none is known. InvalidInput names a file that is not one.

    folder: another one than that of this package.
    """
    where = folder or resources.files("bridge.chain").joinpath("abi", "deployments")
    path = where.joinpath(f"{chain_id}.json")
    if not path.is_file():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        named, block, contracts = value["chainId"], value["deployBlock"], dict(value["contracts"])
    except (ValueError, KeyError, TypeError) as exc:
        raise InvalidInput(
            str(path), f"is no deployment: {exc!r:.120}; write it with insula export-deployment"
        ) from exc
    if named != chain_id or not isinstance(block, int) or "ComputeBridge" not in contracts:
        raise InvalidInput(str(path), f"is no deployment of a ComputeBridge on chain {chain_id}")
    addresses = {name: checksum_address(address, f"{path}: {name}") for name, address in contracts.items()}
    return KnownDeployment(chain_id, block, addresses)
