"""A bridge at rest: what it asks of its endpoint."""

from bridge.chain.client import ChainClient
from tests.bench.chains import chain_of, folder_of
from tests.bench.runs import Counted
from tests.chain_proxy import Proxy
from tests.integration.relayer_parts import Relaying

POLLS = 20


def polls(stack):
    """HTTP requests of listener and relayer together while no block comes and nothing is to be sent, for each poll."""
    folder = folder_of(stack)
    chain = chain_of(stack, folder)
    proxy = stack.enter_context(Proxy(chain.client.transport.endpoint_uri))
    client = stack.enter_context(ChainClient(proxy.url, 20.0))
    parts = Relaying(chain, folder / "bridge", proxy, client)
    parts.mine()

    def count():
        before = len(proxy.seen)
        for _ in range(POLLS):
            parts.listener.step()
            parts.relayer.step()
            parts.clock.now += parts.config.chain.poll_seconds
        return (len(proxy.seen) - before) / POLLS

    return Counted(count), Counted(lambda: 1.0)
