"""Bridge and nodes are killed again and again while fifty jobs run: fifty results, each exactly once, nothing left."""

import os
import random
import sqlite3
import time
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path

import pytest

from bridge.chain.client import ChainClient
from bridge.chain.contracts import book_order_calldata, compute_bridge
from bridge.chain.signer import Transaction
from bridge.chain.views import BridgeViews
from bridge.demo.content import prepare
from bridge.demo.scenarios import container, failing, wasm
from bridge.devnet import net as devnet_net
from bridge.devnet.processes import ProcessGroup
from executor.agent.config import init_node
from executor.protocol.wire import OnChainState, Order, label_hash
from tests.chain_nodes import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.chain, pytest.mark.docker, pytest.mark.timeout(600)]

JOBS = 50
SEED = int(os.environ.get("INSULA_TEST_SEED", "20230210"))  # printed, so that a failing run can be replayed
TTL = 1800
EXTRA_SECONDS = 120  # for the points that two rounds missed, as on a machine that is busy

#: Where a kill hits: the victim, and what must be true in its own records at that moment.
POINTS = {
    "the bridge, a job is ready": ("bridge", "SELECT 1 FROM jobs WHERE state = 'ready'"),
    "the bridge, a lease is active": ("bridge", "SELECT 1 FROM leases WHERE state = 'active'"),
    "the bridge, an output is on its way": (
        "bridge",
        "SELECT 1 FROM leases WHERE state = 'active' AND uploaded_bytes > 0",
    ),
    "the bridge, a slot has answered": ("bridge", "SELECT 1 FROM slots WHERE state = 'answered'"),
    "the bridge, a quorum agrees": ("bridge", "SELECT 1 FROM jobs WHERE state IN ('attested', 'stored')"),
    "the bridge, a delivery waits": ("bridge", "SELECT 1 FROM outbox WHERE state = 'new'"),
    "the bridge, a transaction is signed": ("bridge", "SELECT 1 FROM outbox WHERE state IN ('signed', 'sent')"),
    "the bridge, a delivery is mined": ("bridge", "SELECT 1 FROM outbox WHERE state IN ('mined', 'done')"),
    "a node, it has begun": ("node", "SELECT 1 FROM intents WHERE closed_at IS NULL"),
    "a node, it has signed": ("node", "SELECT 1 FROM signed"),
}


def query(path, sql):
    """Rows of a database that another process writes; none while it is not there yet."""
    with (
        suppress(sqlite3.OperationalError),
        closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as db,
    ):
        return db.execute(sql).fetchall()
    return []


def order_all(net, client, prepared):
    """Fifty orders by the dApp contract, sent at once; a third fails with exit code 3, some run in containers."""
    kinds = [wasm(prepared.logstat, prepared.log), failing(prepared.exit3)]
    kinds.append(container(prepared.image.id, prepared.image.archive, prepared.log))
    signer = net.signer("requester")
    nonce = client.nonce(signer.address)
    base, tip = client.fees()
    for n in range(JOBS):
        scenario = kinds[n % 3]
        labels = tuple(sorted(label_hash(word) for word in scenario.labels))
        order = Order(
            spec=scenario.spec, result_kind=int(scenario.result_kind), ttl=TTL, curator=net.curator, labels=labels,
            unit_price=1000, fail_price=100, delivery_fee=10,
        )  # fmt: skip
        raw = signer.sign_transaction(
            Transaction(
                chain_id=net.chain_id, nonce=nonce + n, to=net.result_book, data=book_order_calldata(order),
                gas=3_000_000, max_fee=4 * base + tip, tip=tip, value=order.price,
            )
        ).raw  # fmt: skip
        client.send_raw(raw)
    wait_for(lambda: client.nonce(signer.address) == nonce + JOBS, 60, "the orders in a block")


class Victims:
    """Kills and restarts processes of one devnet."""

    def __init__(self, group, net, rng):
        self.group, self.net, self.rng = group, net, rng
        self.kills = Counter()

    def hit(self, point):
        """Wait for the point, kill -9, start again. Skips a point that does not come (any more)."""
        kind, sql = POINTS[point]
        node = self.rng.choice(self.net.nodes)
        database = (
            Path(self.net.folder) / "bridge" / "bridge.db" if kind == "bridge" else Path(node.folder) / "ledger.db"
        )
        end = time.monotonic() + 4.0
        while not query(database, sql):
            if time.monotonic() > end:
                return
        child = next(
            c for c in self.group.children if c.name == ("bridge" if kind == "bridge" else f"node-{node.name}")
        )
        child.process.kill()
        child.process.wait(20)
        self.group.children.remove(child)
        self.kills[point] += 1
        if kind == "bridge":
            devnet_net.start_bridge(self.group, self.net)
        else:
            devnet_net.start_node(self.group, node)

    def missed(self):
        """The points at which nobody was killed yet."""
        return [point for point in POINTS if point not in self.kills]


def group_lives(group):
    """Fails with the log of a process that ended by itself: waiting for it is in vain."""
    for child in group.children:
        if child.process.poll() is not None:
            pytest.fail(f"{child.name} ended with status {child.process.returncode}:\n{child.tail(40)}")
    return True


def open_requests(client, net):
    views = BridgeViews(client, net.contract)
    return [n for n in range(1, JOBS + 1) if views.result_of(n).state == OnChainState.REQUESTED]


def test_fifty_jobs_survive_kills_at_every_point(tmp_path, docker_engine, monkeypatch, docker_containers):
    monkeypatch.setenv("DOCKER_HOST", docker_engine)
    rng = random.Random(SEED)
    print(f"seed {SEED}")
    with ProcessGroup(tmp_path / "net") as group, pytest.MonkeyPatch.context():
        (tmp_path / "net").mkdir()
        net = devnet_net.start(group, init_node, print)
        with ChainClient(net.rpc_url) as client:
            prepared = prepare(net, tmp_path / "net", with_image=True, clock=time.time())
            order_all(net, client, prepared)
            victims = Victims(group, net, rng)
            points = list(POINTS)
            for _ in range(2):
                rng.shuffle(points)
                for point in points:
                    victims.hit(point)
            end = time.monotonic() + EXTRA_SECONDS
            while victims.missed() and open_requests(client, net) and time.monotonic() < end:
                victims.hit(rng.choice(victims.missed()))
            wait_for(lambda: group_lives(group) and not open_requests(client, net), 240, "all results")
            settled = settlements(client, net)
    print(f"kills: {dict(victims.kills)}")

    assert len(victims.missed()) <= 2, "all jobs were done before enough points were hit"
    assert settled == dict.fromkeys(range(1, JOBS + 1), 1)
    assert never_signed_twice(net)
    assert left_behind(tmp_path) == []
    assert docker_containers() == []


def settlements(client, net):
    """How many JobSettled events each request has, from the contract's first block on."""
    topic = compute_bridge().event_topic("JobSettled")
    logs = client.logs_by_range(net.deploy_block, client.head().number, net.contract)
    return Counter(int.from_bytes(log.topics[1], "big") for log in logs if log.topics[0] == topic)


def never_signed_twice(net):
    """Every answer that the bridge holds is, byte for byte, the one and only record in its node's ledger."""
    answers = query(
        Path(net.folder) / "bridge" / "bridge.db",
        "SELECT request_hash, key, signature FROM slots WHERE signature IS NOT NULL",
    )
    ledgers = {
        node.key: dict(query(Path(node.folder) / "ledger.db", "SELECT request_hash, signature FROM signed"))
        for node in net.nodes
    }
    return len(answers) == JOBS and all(ledgers[key][request] == signature for request, key, signature in answers)


def left_behind(folder):
    """Processes whose command line or working folder lies in the devnet's folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
                if str(folder) in command or str((entry / "cwd").readlink()).startswith(str(folder)):
                    found.append(command)
    return found
