"""A listener on a pool of proxies in front of one anvil, and what the proxies may do."""

from contextlib import ExitStack, contextmanager

from bridge.chain.endpoints import EndpointPool
from bridge.errors import RpcError
from bridge.listener import Listener
from bridge.store.chain import Scope, load_cursor
from bridge.store.engine import reading
from bridge.watch import Watch
from executor.protocol.wire import Order
from tests.chain_proxy import DROP, Proxy, error, ok
from tests.integration.bridge_parts import Clock, config_for, new_engine

ORDER = Order(spec=b'{"version":"insula/v1"}', ttl=3600, unit_price=1000, delivery_fee=7)


class Setup:
    """A listener on a pool of proxies in front of one anvil."""

    def __init__(self, chain, folder, proxies):
        self.chain, self.proxies = chain, proxies
        self.config = config_for(chain, folder, finality=4)
        self.engine = new_engine(folder)
        self.clock = Clock(float(chain.client.head().timestamp))
        self.watch = Watch()
        self.waits = []
        self.pool = self.new_pool()
        self.listener = self.new_listener()

    def new_pool(self, **known):
        urls = [proxy.url for proxy in self.proxies]
        return EndpointPool(urls, self.config.chain, self.clock, self.watch, sleep=self.waits.append, **known)

    def new_listener(self, **changes):
        chain = self.config.chain.model_copy(update=changes)
        config = self.config.model_copy(update={"chain": chain})
        return Listener(self.engine, self.pool.client(), config, self.clock, watch=self.watch)

    def settle(self, steps=60):
        """Step as the loop does, failures and all, until two polls in a row find nothing; what was raised."""
        raised, quiet = [], 0
        for _ in range(steps):
            self.clock.now += 10
            try:
                quiet = 0 if self.listener.step() else quiet + 1
            except RpcError as exc:
                raised.append(exc)
            if quiet == 2:
                break
        return raised

    def cursor(self):
        with reading(self.engine) as connection:
            return load_cursor(connection, Scope(31415926, self.chain.deployment.bridge))

    def alarms(self):
        return {raised.alarm for raised in self.watch.alarms()}

    def calls(self):
        return [len(proxy.seen) for proxy in self.proxies]


@contextmanager
def setups(chain, folder):
    """Makes a setup with so many endpoints."""
    with ExitStack() as stack:

        def make(count):
            uri = chain.client.transport.endpoint_uri
            setup = Setup(chain, folder, [stack.enter_context(Proxy(uri)) for _ in range(count)])
            stack.callback(setup.pool.close)
            return setup

        yield make


def lagging(blocks_behind):
    """A rule for eth_getBlockByNumber: the newest block is an older one."""

    def rule(request, forward):
        if request["params"][0] != "latest":
            return forward(request)
        head = int(forward(request)["result"]["number"], 16)
        return forward({**request, "params": [hex(head - blocks_behind), False]})

    return rule


def changed_block(tag, **fields):
    """A rule for eth_getBlockByNumber: the block of this tag, where it is one, has other fields."""

    def rule(request, forward):
        answer = forward(request)
        if request["params"][0] == tag:
            answer["result"] |= fields
        return answer

    return rule


FAULTS = {
    "connections are closed": lambda request, forward: DROP,
    "HTTP 502 with a page": lambda request, forward: (502, b"<html>bad gateway</html>"),
    "HTTP 403": lambda request, forward: (403, b"no"),
    "429 without end": lambda request, forward: (429, b"slow down"),
    "busy without end": lambda request, forward: error(request, 1, "server busy"),
    "null without end": lambda request, forward: ok(request, None),
    "cut JSON": lambda request, forward: b'{"jsonrpc"',
}
