"""A bridge's database and configuration for tests, and small readers of them."""

from bridge.config import BridgeConfig
from bridge.store.engine import open_engine, reading, transaction
from bridge.store.jobs import get_job
from bridge.store.schema import metadata

MAX_STEPS = 200


def new_engine(folder):
    """An empty database in a folder."""
    engine = open_engine(f"sqlite:///{folder / 'bridge.db'}")
    with transaction(engine) as connection:
        metadata.create_all(connection)
    return engine


def config_for(chain, folder, *, confirmation=1, posting=1, finality=3, **relayer):
    """The configuration of a bridge for a chain's newest deployment."""
    return BridgeConfig.model_validate(
        {
            "data_dir": str(folder),
            "public_url": "http://127.0.0.1:8040",
            "chain": {
                "rpc_url": "http://127.0.0.1:1",
                "chain_id": 31415926,
                "bridge_contract": chain.deployment.bridge,
                "deploy_block": chain.deployment.deploy_block,
                "confirmation_depth": confirmation,
                "posting_depth": posting,
                "finality_depth": finality,
            },
            "relayer": {"key": "env:UNUSED", **relayer},
        }
    )


def run(loop):
    """Step until there is nothing to do; how many steps did something."""
    for count in range(MAX_STEPS):
        if not loop.step():
            return count
    raise AssertionError("the loop does not come to rest")


def job(engine, request_hash):
    """The job of a request hash, or None."""
    with reading(engine) as connection:
        return get_job(connection, request_hash)
