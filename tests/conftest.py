"""Fixtures for all tests."""

from tests.chain_nodes import _anvil, _hardhat, anvil_chain, any_chain, devnet, hardhat_chain
from tests.docker_engine import docker_engine

__all__ = ["_anvil", "_hardhat", "anvil_chain", "any_chain", "devnet", "docker_engine", "hardhat_chain"]
