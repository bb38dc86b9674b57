"""A listener and a relayer over one database, behind a proxy, with a clock of their own."""

from contextlib import contextmanager, suppress
from dataclasses import replace

from sqlalchemy import event

from bridge.chain.client import ChainClient
from bridge.chain.contracts import request_job_calldata
from bridge.errors import RpcUnavailable
from bridge.jobs import JobState
from bridge.listener import Listener
from bridge.relayer import Relayer
from bridge.store.outbox import SendState
from bridge.watch import Watch
from executor.protocol.wire import Order, Outcome
from tests.chain_nodes import funded
from tests.chain_proxy import DROP, Proxy
from tests.integration.bridge_parts import Clock, attempts, config_for, item, job, new_engine, post, run

ORDER = Order(spec=b'{"version":"insula/v1"}', ttl=3600, unit_price=1000, delivery_fee=7)
OUTCOME = Outcome(status=1, output_cid=bytes.fromhex("01551220") + b"\xab" * 32)
OTHER = Outcome(status=2, reason=200, exit_code=1)


class Killed(BaseException):
    """The process is gone."""


class Relaying:
    """`account` is the funded account that relays."""

    def __init__(self, chain, folder, proxy, client, account=2, **relayer):
        folder.mkdir(exist_ok=True)
        self.chain, self.proxy, self.client = chain, proxy, client
        self.clock, self.watch, self.account = Clock(), Watch(), account
        self.engine = new_engine(folder)
        self.config = config_for(chain, folder, **relayer)
        self.restart()

    def restart(self):
        """New objects on the same database: what a new process would have."""
        self.listener = Listener(self.engine, self.client, self.config, self.clock)
        self.relayer = self.another("")

    def another(self, owner):
        """A relayer of another process on the same database."""
        signer = funded(self.account)
        return Relayer(self.engine, self.client, signer, self.config, self.clock, watch=self.watch, owner=owner)

    def requests(self, count, **change):
        """So many requests in one block, deep enough."""
        order = replace(ORDER, **change)
        before = self.chain.bridge.request_count()
        for _ in range(count):
            self.chain.send(funded(1), self.chain.deployment.bridge, request_job_calldata(order), order.price)
        self.chain.mine(2)
        return [self.chain.request_of(before + 1 + n, order) for n in range(count)]

    def posting(self, count, outcome=OUTCOME, **change):
        """So many requests, with their deliveries in the outbox."""
        requests = self.requests(count, **change)
        run(self.listener)
        for request in requests:
            post(self.engine, self.chain, request, outcome, self.relayer.address)
        return requests

    def mine(self, blocks=1):
        """Mine, and let both loops come to rest."""
        self.chain.mine(blocks)
        run(self.listener)
        run(self.relayer)

    def finish(self, requests, rounds=12):
        """Go on until all jobs are final; time passes, blocks come."""
        for _ in range(rounds):
            run(self.relayer)
            self.chain.mine()
            run(self.listener)
            self.clock.now += 61
        run(self.relayer)
        assert {job(self.engine, request.hash).state for request in requests} == {JobState.FINAL}
        assert {item(self.engine, request.hash).state for request in requests} == {SendState.DONE}

    def states(self, requests):
        """The outbox rows' states."""
        return [item(self.engine, request.hash).state for request in requests]

    def sent(self, requests):
        """All transactions of these requests, each once."""
        found = {a.tx_hash: a for request in requests for a in attempts(self.engine, request.hash)}
        return sorted(found.values(), key=lambda a: (a.nonce, a.fees.max_fee))

    def raised(self):
        """The alarms whose causes stand."""
        return {raised.alarm for raised in self.watch.alarms() if raised.over_at is None}

    def value(self, name, **labels):
        """A metric."""
        return self.watch.samples().get((name, tuple(labels.items())), 0)


@contextmanager
def relaying(chain, folder, **options):
    """A `Relaying` behind a proxy."""
    with Proxy(chain.client.transport.endpoint_uri) as proxy, ChainClient(proxy.url, 10.0) as client:
        yield Relaying(chain, folder, proxy, client, **options)


def die_at_commit(parts, number):
    """Four rounds of both loops, unless the process dies when it is about to commit for the `number`-th time."""
    commits = []

    def listener(_):
        commits.append(1)
        if len(commits) == number:
            raise Killed

    event.listen(parts.engine, "commit", listener)
    with suppress(Killed):
        _go_round(parts)
    event.remove(parts.engine, "commit", listener)


def die_at_call(parts, number):
    """Four rounds of both loops, unless the chain is gone at their `number`-th call of it."""
    parts.proxy.seen.clear()
    parts.proxy.rules["*"] = lambda request, forward: DROP if len(parts.proxy.seen) == number else forward(request)
    with suppress(RpcUnavailable):
        _go_round(parts)
    parts.proxy.rules.clear()


def _go_round(parts):
    for _ in range(4):
        run(parts.relayer)
        parts.chain.mine()
        run(parts.listener)
