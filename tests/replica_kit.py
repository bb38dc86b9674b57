"""A bridge whose results must be at several places, with real daemons or others as these places."""

import os
from contextlib import ExitStack

import pytest

from bridge.config import ContentConfig
from bridge.dispatcher import Dispatcher
from bridge.jobs import JobState
from bridge.mirror import Mirror
from bridge.replicas import Replicas
from bridge.store.content import slot_owner
from executor.content.blocks import MemoryBlocks
from executor.content.importer import import_listing
from executor.content.kubo import Kubo
from executor.content.limits import TreeLimits
from executor.protocol.reasons import Reason
from tests.bridge_kit import GIB, RELAYER, Bridge, attested, order_of, success

ADDRESSES = tuple(f"http://127.0.0.1:{port}" for port in range(1, 9))


class Places:
    """A bridge whose results must be at `wanted` places, and its Kubos."""

    def __init__(self, folder, wanted, *daemons):
        self.bridge = Bridge(folder, content=ContentConfig(kubo=ADDRESSES, replicas=wanted))
        self.bridge.chain_at(110)
        self.replicas = Replicas(wanted, self.bridge.watch)
        self.bridge.dispatcher = self.dispatcher(self.bridge.outbox.enqueue)
        self.mirrors = [self.mirror(daemon, f"kubo {number}") for number, daemon in enumerate(daemons, 1)]

    def dispatcher(self, enqueue):
        bridge = self.bridge
        return Dispatcher(
            bridge.engine, bridge.registry, bridge.store, bridge.config, bridge.clock,
            relayer=RELAYER, enqueue=enqueue, replicas=self.replicas,
        )  # fmt: skip

    def mirror(self, daemon, name="kubo"):
        bridge = self.bridge
        return Mirror(
            bridge.engine, bridge.store, bridge.dispatcher.roots, daemon, bridge.clock,
            replicas=self.replicas, name=name, address=name,
        )  # fmt: skip

    def answered(self, content=None):
        """A job that a quorum has answered, and the root of its output."""
        bridge = self.bridge
        job = bridge.request(order_of())
        node = bridge.node(f"node {job.request.id}")
        lease = bridge.lease(node)
        blocks = MemoryBlocks()
        files = {"a": content or os.urandom(100), "b/c": content or os.urandom(2_500_000)}
        root = import_listing(blocks, files, TreeLimits(10**9))
        allowance = bridge.dispatcher.holdings.allowance(slot_owner(lease.request_hash, node.key.address), GIB)
        bridge.dispatcher.holdings.take(allowance, [(cid, blocks.get(cid)) for cid in blocks])
        bridge.answer(node, lease, attested(node.key, lease, success(root)))
        self.settle()
        return job, root

    def settle(self):
        while self.bridge.dispatcher.step():
            pass

    def copy(self, *mirrors):
        """Let these mirrors do all they can, and the bridge see it."""
        for mirror in mirrors or self.mirrors:
            while mirror.step():
                pass
        self.settle()

    def of(self, job):
        found = self.bridge.job(job.request_hash)
        return found.state, Reason(found.reason)


WAITING = (JobState.STORED, Reason.COPIES_MISSING)
HANDED_OVER = (JobState.POSTING, Reason.NONE)


@pytest.fixture
def places(tmp_path):
    with ExitStack() as stack:

        def made(wanted, *daemons):
            found = Places(tmp_path, wanted, *daemons)
            stack.callback(found.bridge.close)
            return found

        yield made


@pytest.fixture
def first(kubo):
    with Kubo(kubo.api) as client:
        yield client
