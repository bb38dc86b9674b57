"""What a long past costs: one more job, and a start, with 1 000 ended jobs in the database and with 1 000 000."""

import os
import tempfile
import time
from pathlib import Path

from bridge.chain.client import ChainClient
from bridge.dispatcher import Dispatcher
from bridge.listener import Listener
from bridge.relayer import Relayer
from bridge.store.engine import kept_open, open_engine
from bridge.store.migrations import migrate
from executor.content.blockstore import BlockStore
from tests.bench.parts import config_for, no_enqueue
from tests.chain_nodes import _prepared, anvil_node, funded
from tests.history import ORDER, add_history
from tests.registry_twin import RegistryTwin

SHORT, LONG = 1_000, int(os.environ.get("INSULA_BENCH_JOBS", "1000000"))
PER_ROUND = 20  # jobs


class Loops:
    """The three loops on one database with a past, on one chain."""

    def __init__(self, stack, folder, chain, ended):
        folder.mkdir()
        self.config = config_for(chain.client.transport.endpoint_uri, chain.deployment.bridge, folder)
        self.engine = open_engine(self.config.database)
        migrate(self.engine)
        stack.enter_context(kept_open(self.engine))
        client = stack.enter_context(ChainClient(chain.client.transport.endpoint_uri, 20.0))
        self.listener = Listener(self.engine, client, self.config, time.time)
        self.run(self.listener)
        add_history(self.engine, ended, self.config.chain.chain_id, chain.deployment.bridge)
        store = BlockStore(folder / "blocks")
        address = funded(2).address
        self.dispatcher = Dispatcher(
            self.engine, RegistryTwin(), store, self.config, time.time, relayer=address, enqueue=no_enqueue
        )
        self.relayer = Relayer(self.engine, client, funded(2), self.config, time.time)

    def run(self, loop):
        while loop.step():
            pass

    def step(self):
        """Take in what is new, and look at everything once."""
        self.run(self.listener)
        self.dispatcher.step()
        self.relayer.step()


def one_more_job(stack):
    """A request mined on an anvil goes through listener, dispatcher and relayer; 20 of them one by one."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="insula-bench-")))
    chain = _prepared(stack.enter_context(anvil_node(folder)), "anvil")
    long, short = (Loops(stack, folder / str(ended), chain, ended) for ended in (LONG, SHORT))

    def with_past(loops):
        def act():
            for _ in range(PER_ROUND):
                chain.request(funded(1), ORDER)
                loops.step()

        return act

    def first(loops, others):
        act = with_past(loops)

        def caught_up():
            others.step()
            loops.step()
            return act()

        return caught_up

    return first(long, short), first(short, long)
