"""The token of the contract tests (contracts/mocks/HostileToken.sol): a plain ERC-20 until it is told otherwise."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from eth_abi import abi
from eth_utils.crypto import keccak

from bridge.chain.client import ChainClient
from bridge.chain.erc20 import balance_of
from bridge.chain.operate import send_and_wait
from bridge.chain.signer import TxSigner
from bridge.devnet.net import hardhat_project, node_program

ROOT = Path(__file__).resolve().parents[1]


@cache
def creation_code() -> bytes:
    """Compiled as it is now, by the compiler of hardhat/."""
    compiler = hardhat_project() / "node_modules" / "solc" / "solc.js"
    with TemporaryDirectory() as folder:
        command = [
            node_program(),
            str(compiler),
            "--optimize",
            "--bin",
            "-o",
            folder,
            "contracts/mocks/HostileToken.sol",
        ]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
        (compiled,) = Path(folder).glob("*.bin")
        return bytes.fromhex(compiled.read_text())


class Token:
    """One on a chain."""

    def __init__(self, client: ChainClient, deployer: TxSigner) -> None:
        self._client, self._deployer = client, deployer
        created = send_and_wait(client, deployer, None, creation_code()).contract_address
        assert created is not None
        self.address = created

    def mint(self, to: str, amount: int) -> None:
        data = keccak(text="mint(address,uint256)")[:4] + abi.encode(["address", "uint256"], [to, amount])
        send_and_wait(self._client, self._deployer, self.address, data)

    def balance_of(self, owner: str) -> int:
        return balance_of(self._client, self.address, owner)
