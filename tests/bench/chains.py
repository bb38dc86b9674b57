"""An anvil with the contracts on it, and a bridge's loops beside it."""

import tempfile
from contextlib import contextmanager
from pathlib import Path

from bridge.chain.client import ChainClient
from bridge.store.engine import kept_open
from tests.chain_nodes import DevChain, anvil_node, prepared
from tests.history import add_history
from tests.integration.bridge_parts import run
from tests.integration.relayer_parts import Relaying


def folder_of(stack):
    """A folder that is gone afterwards."""
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="insula-bench-")))


def chain_of(stack, folder) -> DevChain:
    """An anvil that mines when told, with two nodes."""
    return prepared(stack.enter_context(anvil_node(folder)), "anvil")


@contextmanager
def relaying(chain, folder, account, *, past=0, **options):
    """A listener and a relayer, straight at the chain; with so many jobs that ended before."""
    with ChainClient(chain.client.transport.endpoint_uri, 20.0) as client:
        made = Relaying(chain, folder, None, client, account, **options)
        if past:
            run(made.listener)
            add_history(made.engine, past, made.config.chain.chain_id, chain.deployment.bridge)
        with kept_open(made.engine):
            yield made
