"""What a long past costs: one more job, and a start, after 1 000 ended jobs and after 1 000 000."""

import os
import subprocess
import sys

from bridge.dispatcher import Dispatcher
from bridge.store.engine import open_engine
from bridge.store.migrations import migrate
from executor.content.blockstore import BlockStore
from tests.bench.chains import chain_of, folder_of, relaying
from tests.chain_nodes import FUNDED_SECRETS, free_port, funded
from tests.history import ORDER
from tests.integration.bridge_parts import run
from tests.registry_twin import RegistryTwin

SHORT, LONG = 1_000, int(os.environ.get("INSULA_BENCH_JOBS", "1000000"))
JOBS = 10  # in one round, one by one


def one_more_job(stack):
    """A request mined on an anvil goes through listener, dispatcher and relayer; several of them one by one."""
    folder = folder_of(stack)
    chain = chain_of(stack, folder)

    def side(ended):
        place = folder / str(ended)
        parts = stack.enter_context(relaying(chain, place, 2, past=ended))
        store = BlockStore(place / "content")
        address = funded(2).address
        dispatcher = Dispatcher(
            parts.engine, RegistryTwin(), store, parts.config, parts.clock, relayer=address, enqueue=_no_enqueue
        )

        def act():
            run(parts.listener)
            for _ in range(JOBS):
                chain.request(funded(1), ORDER)
                run(parts.listener)
                parts.clock.now += 10  # so that all that is done now and then is done
                dispatcher.step()
                parts.relayer.step()

        return act

    return side(LONG), side(SHORT)


def _no_enqueue(*_arguments):
    """Nothing is agreed on here."""


STARTER = """
import sys, time
from pathlib import Path
from bridge.compose import Bridge
from bridge.config import BridgeConfig
bridge = Bridge(BridgeConfig.load(Path(sys.argv[1])))
for loop in bridge._threads.loops:
    loop.body.step()
print("stepped", flush=True)
import os
os._exit(0)
"""


def start(stack):
    """A bridge's process from its start until each of its loops has done a step; then it is killed."""
    folder = folder_of(stack)
    chain = chain_of(stack, folder)

    def side(ended):
        place = folder / str(ended)
        place.mkdir()
        engine = open_engine(f"sqlite:///{place / 'bridge.db'}")
        migrate(engine)
        engine.dispose()
        with relaying(chain, place, 2, past=ended):
            pass
        config = folder / f"{ended}.toml"
        config.write_text(_toml(chain, place))
        environment = os.environ | {"INSULA_BENCH_KEY": FUNDED_SECRETS[2]}

        def act():
            done = subprocess.run(
                [sys.executable, "-c", STARTER, str(config)],
                env=environment, capture_output=True, text=True, timeout=120, check=False,
            )  # fmt: skip
            assert "stepped" in done.stdout, done.stderr

        return act

    return side(LONG), side(SHORT)


def _toml(chain, place):
    return f"""
data_dir = "{place}"
public_url = "http://127.0.0.1:8040"
listen_port = {free_port()}
[chain]
rpc_urls = ["{chain.client.transport.endpoint_uri}"]
chain_id = 31415926
bridge_contract = "{chain.deployment.bridge}"
deploy_block = {chain.deployment.deploy_block}
confirmation_depth = 1
posting_depth = 1
finality_depth = 3
[relayer]
key = "env:INSULA_BENCH_KEY"
"""
