"""Reading a contract's history: listener, decoding and database, against the download of the same logs."""

import os
import tempfile
from pathlib import Path

import orjson
import requests
from sqlalchemy import func, select

from bridge.chain.client import ChainClient
from bridge.config import BridgeConfig
from bridge.listener import Listener
from bridge.store.engine import kept_open, open_engine, reading
from bridge.store.migrations import migrate
from bridge.store.schema import jobs
from tests.bench.crowds import CONTRACT, crowd
from tests.chain_nodes import CHAIN_ID, anvil_node

BLOCKS = int(os.environ.get("INSULA_BENCH_BLOCKS", "20000"))
JOBS = 5  # ordered in each block, and settled in the next
LOGS = 2 * BLOCKS * JOBS
RANGE = 500  # blocks of one download


def backfill(stack):
    """Requests and results of 20 000 blocks of an anvil: into a new database, against requests and orjson."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="insula-bench-")))
    client = stack.enter_context(anvil_node(folder, states=None))
    client.ask("evm_setAutomine", False)
    crowd(client, BLOCKS, JOBS)
    client.ask("anvil_mine", hex(64))
    url, head = client.transport.endpoint_uri, client.head().number
    count = iter(range(10**6))

    def ours():
        place = folder / f"bridge{next(count)}"
        place.mkdir()
        store_all(place, url)

    def download():
        session = requests.Session()
        seen = 0
        for first in range(1, head + 1, RANGE):
            query = {
                "fromBlock": hex(first),
                "toBlock": hex(min(first + RANGE - 1, head)),
                "address": CONTRACT,
            }
            call = {"jsonrpc": "2.0", "id": 1, "method": "eth_getLogs", "params": [query]}
            seen += len(orjson.loads(session.post(url, json=call, timeout=60).content)["result"])
        assert seen == LOGS

    return ours, download


def store_all(folder, url):
    """A new bridge's listener, until it has taken in all that is final."""
    config = BridgeConfig.model_validate(
        {
            "data_dir": str(folder),
            "public_url": "http://127.0.0.1:8040",
            "chain": {
                "rpc_urls": [url],
                "chain_id": CHAIN_ID,
                "bridge_contract": CONTRACT,
                "deploy_block": 1,
                "confirmation_depth": 1,
                "posting_depth": 1,
                "finality_depth": 30,
            },
            "relayer": {"key": "env:UNUSED"},
        }
    )
    engine = open_engine(config.database)
    migrate(engine)
    with kept_open(engine), ChainClient(url, 60.0) as client:
        listener = Listener(engine, client, config, lambda: 1000.0)
        while listener.step():
            pass
    with reading(engine) as connection:
        assert connection.execute(select(func.count()).select_from(jobs)).scalar_one() == BLOCKS * JOBS
    engine.dispose()
