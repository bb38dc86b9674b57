"""Chains for scenarios: contracts that stay deployed, since deploying them takes longer than most scenarios."""

from dataclasses import replace

import pytest

from tests.chain_nodes import _prepared


@pytest.fixture(scope="session")
def _deployed():
    """kind -> a chain with contracts, made when first wanted."""
    return {}


@pytest.fixture(params=["hardhat", "anvil"])
def both_chains(request, _deployed):
    """Hardhat, then anvil, mining only when told; earlier scenarios' requests lie below `deploy_block`."""
    kind = request.param
    if kind not in _deployed:
        _deployed[kind] = _prepared(request.getfixturevalue(f"_{kind}"), kind)
    chain = _deployed[kind]
    chain.manual()
    chain.deployment = replace(chain.deployment, deploy_block=chain.mine().number)
    return chain
