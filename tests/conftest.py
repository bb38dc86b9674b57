"""Fixtures for all tests."""

from tests.chain_nodes import _anvil, _hardhat, anvil_chain, any_chain, devnet, hardhat_chain

__all__ = ["_anvil", "_hardhat", "anvil_chain", "any_chain", "devnet", "hardhat_chain"]
