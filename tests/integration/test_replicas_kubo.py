"""A result goes on-chain once it is at as many places as the operator wants: real Kubos, lying ones, and kill -9."""

import json
import multiprocessing
import os
import signal
from contextlib import ExitStack

import pytest
from sqlalchemy import func, select

from bridge.cli.kubo_checks import check_kubos
from bridge.compose import enqueue_fulfil
from bridge.config import BridgeConfig, ContentConfig
from bridge.dispatcher import Dispatcher
from bridge.explaining import explain
from bridge.jobs import JobState
from bridge.mirror import OWED_AGAIN_SECONDS, Mirror
from bridge.replicas import LATE_SECONDS, Replicas
from bridge.settlement import PAGE
from bridge.store.content import slot_owner
from bridge.store.engine import reading
from bridge.store.mirror import mirrored
from bridge.store.schema import copies, outbox
from bridge.watch import Alarm
from executor.content.blocks import MemoryBlocks
from executor.content.car import export_car, write_car
from executor.content.importer import import_listing
from executor.content.kubo import Kubo
from executor.content.limits import TreeLimits
from executor.content.walk import walk
from executor.errors import InvalidInput, PeerUnavailable
from executor.protocol.cid import RAW, Cid
from executor.protocol.reasons import Reason
from executor.protocol.wire import OnChainState, Outcome, Status
from tests.bridge_kit import CHAIN_ID, CONTRACT, GIB, RELAYER, Bridge, attested, order_of, success
from tests.kubo_daemon import program, start
from tests.raw_server import RawServer, head, silent

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
            replicas=self.replicas, name=name,
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


@pytest.fixture
def second(second_kubo):
    with Kubo(second_kubo.api) as client:
        yield client


@pytest.fixture
def own_daemon(tmp_path):
    """Starts a daemon of this test's own, again and again on one repository."""
    daemons = []

    def begun():
        daemons.append(start(program(), tmp_path / "own kubo"))
        return daemons[-1]

    yield begun
    for daemon in daemons:
        daemon.stop()


# -- how many places --------------------------------------------------------------------------------------------------


def test_by_default_the_bridges_own_store_is_enough(places):
    one = places(1)

    job, _ = one.answered()

    assert one.of(job) == HANDED_OVER


def test_with_two_places_a_result_waits_for_its_copy_and_says_so(places, first):
    two = places(2, first)

    job, root = two.answered()
    assert two.of(job) == WAITING
    assert two.bridge.outbox.deliveries == []
    assert "1 of 2 places" in two.bridge.job(job.request_hash).detail

    two.copy()
    assert two.of(job) == HANDED_OVER
    assert two.bridge.job(job.request_hash).detail == ""
    assert first.is_pinned(root)
    assert len(two.bridge.outbox.deliveries) == 1


def test_with_three_places_both_daemons_must_have_it(places, first, second):
    three = places(3, first, second)

    job, root = three.answered()
    three.copy(three.mirrors[0])
    assert three.of(job) == WAITING
    assert "2 of 3 places" in three.bridge.job(job.request_hash).detail

    three.copy(three.mirrors[1])
    assert three.of(job) == HANDED_OVER
    assert first.is_pinned(root)
    assert second.is_pinned(root)


def test_of_two_daemons_either_is_enough_for_two_places(places, first, second):
    two = places(2, first, second)

    job, _ = two.answered()
    two.copy(two.mirrors[1])

    assert two.of(job) == HANDED_OVER


def test_two_addresses_of_one_daemon_are_one_place(places, first, kubo):
    with Kubo(kubo.api) as again:
        three = places(3, first, again)
        job, _ = three.answered()
        three.copy()

        assert three.of(job) == WAITING


def test_an_answer_without_an_output_waits_for_nothing(places):
    two = places(2)
    job = two.bridge.request(order_of(spec=b"{"))
    node = two.bridge.node("a")
    lease = two.bridge.lease(node)
    refused = Outcome(status=Status.REFUSED, reason=Reason.SPEC_NOT_JSON)
    two.bridge.answer(node, lease, attested(node.key, lease, refused))
    two.settle()

    assert two.of(job) == HANDED_OVER


def test_the_same_output_of_another_job_is_read_back_for_that_one_too(places, first):
    two = places(2, first)
    _, root = two.answered(b"the same")
    two.copy()
    first.unpin(root)

    other, same = two.answered(b"the same")
    assert same == root
    assert two.of(other) == WAITING
    two.copy()

    assert two.of(other) == HANDED_OVER
    assert first.is_pinned(root)


def test_until_more_than_one_place_is_wanted_nothing_leaves_before_it_is_public(places, first):
    one = places(1, first)
    one.bridge.chain_at(100)  # not deep enough to be handed over
    job, root = one.answered()

    one.copy()

    assert one.of(job) == (JobState.STORED, Reason.NONE)
    assert not first.has(root)


def test_a_result_that_became_public_stays_where_it_was_copied(places, first):
    two = places(2, first)
    job, root = two.answered()
    two.copy()
    two.bridge.set_job(job.request_hash, state=JobState.POSTED.value, chain_state=int(OnChainState.FULFILLED))

    two.copy()  # on-chain, and not published yet
    assert first.is_pinned(root)
    two.bridge.dispatcher.publish()
    two.copy()

    assert first.is_pinned(root)


# -- daemons that go, and come again ----------------------------------------------------------------------------------


def test_a_daemon_that_is_dead_before_keeps_the_result_waiting_and_is_named(places, own_daemon):
    daemon = own_daemon()
    daemon.stop()
    with Kubo(daemon.api) as client:
        two = places(2, client)
        job, _ = two.answered()
        with pytest.raises(PeerUnavailable):
            two.mirrors[0].step()
        two.settle()

    assert two.of(job) == WAITING
    found = explain(two.bridge.dispatcher, two.bridge.job(job.request_hash), two.bridge.clock.now)
    assert (found.reason, found.awaiting) == (
        Reason.COPIES_MISSING,
        "copies of its output at other places (content.replicas)",
    )
    assert found.detail == "its output is at 1 of 2 places: kubo 1 does not answer"
    assert daemon.api not in found.detail


class Dying:
    """A daemon that is ended right before one of its acts."""

    def __init__(self, client, act, end):
        self._client, self._acts, self._end = client, [act], end

    def __getattr__(self, name):
        if name in self._acts:
            self._acts = []
            self._end()
        return getattr(self._client, name)


@pytest.mark.parametrize("act", ["is_pinned", "publish", "get_car"])
def test_a_daemon_that_dies_in_the_middle_finishes_when_it_is_back(places, own_daemon, act):
    daemon = own_daemon()
    with Kubo(daemon.api) as client:
        two = places(2, Dying(client, act, daemon.stop))
        job, root = two.answered()
        with pytest.raises(PeerUnavailable):
            two.copy()
        two.settle()
        assert two.of(job) == WAITING

    two.bridge.clock.now += OWED_AGAIN_SECONDS + 1
    with Kubo(own_daemon().api) as client:
        two.copy(two.mirror(client))
        assert client.is_pinned(root)
        peer = client.peer_id()

    assert two.of(job) == HANDED_OVER
    with reading(two.bridge.engine) as connection:
        assert [(one.root, one.ours, one.done) for one in mirrored(connection, peer)] == [(root, True, True)]


def test_a_daemon_that_dies_after_its_copy_was_read_back_holds_nothing_up(places, own_daemon):
    daemon = own_daemon()
    with Kubo(daemon.api) as client:
        two = places(2, client)
        two.bridge.chain_at(100)
        job, _ = two.answered()
        two.copy()
        daemon.stop()

        two.bridge.chain_at(110)
        two.settle()

    assert two.of(job) == HANDED_OVER


def test_a_second_daemon_takes_the_place_of_one_that_is_away(places, first, own_daemon):
    daemon = own_daemon()
    daemon.stop()
    with Kubo(daemon.api) as away:
        two = places(2, away, first)
        job, _ = two.answered()
        with pytest.raises(PeerUnavailable):
            two.mirrors[0].step()
        two.copy(two.mirrors[1])

    assert two.of(job) == HANDED_OVER


def test_a_result_that_waits_for_long_raises_an_alarm_that_ends_with_its_cause(places, first):
    two = places(2, first)
    two.answered()
    samples = two.bridge.watch.samples()
    assert samples["results_without_copies", ()] == 1
    assert two.bridge.watch.alarms() == []

    two.bridge.clock.now += LATE_SECONDS
    two.settle()
    (raised,) = two.bridge.watch.alarms()
    assert (raised.alarm, raised.over_at) == (Alarm.COPIES_MISSING, None)

    two.copy()
    (raised,) = two.bridge.watch.alarms()
    assert raised.over_at is not None
    assert two.bridge.watch.samples()["results_without_copies", ()] == 0


# -- results that never come to be public -----------------------------------------------------------------------------


@pytest.mark.parametrize("end", [JobState.EXPIRED, JobState.CANCELLED, JobState.ORPHANED])
def test_a_result_that_is_never_posted_is_taken_back(places, first, end):
    two = places(2, first)
    two.bridge.chain_at(100)
    job, root = two.answered()
    two.copy()
    assert first.is_pinned(root)

    two.bridge.set_job(job.request_hash, state=end.value)
    two.copy()

    assert not first.is_pinned(root)
    with reading(two.bridge.engine) as connection:
        assert connection.execute(select(copies)).all() == []
        assert mirrored(connection, first.peer_id()) == []


def test_a_result_that_is_never_posted_stays_with_a_daemon_whose_owner_had_it_before(places, first):
    two = places(2, first)
    two.bridge.chain_at(100)
    job, root = two.answered()
    first.publish(two.bridge.store, root)
    two.copy()

    two.bridge.set_job(job.request_hash, state=JobState.EXPIRED.value)
    two.copy()

    assert first.is_pinned(root)


def test_a_deadline_that_passes_while_a_result_waits_leaves_the_cause_with_the_job(places):
    two = places(2)
    job, _ = two.answered()

    two.bridge.clock.now += 3600
    two.settle()

    assert two.of(job) == WAITING
    assert two.bridge.outbox.deliveries == []


def test_a_request_that_comes_back_into_the_chain_has_its_result_copied_anew(places, first):
    two = places(2, first)
    two.bridge.chain_at(100)
    job, root = two.answered()
    two.copy()
    two.bridge.set_job(job.request_hash, state=JobState.ORPHANED.value)
    two.copy()

    two.bridge.set_job(job.request_hash, state=JobState.STORED.value)
    two.bridge.chain_at(110)
    two.settle()
    assert two.of(job) == WAITING
    two.copy()

    assert two.of(job) == HANDED_OVER
    assert first.is_pinned(root)


# -- daemons that lie -------------------------------------------------------------------------------------------------


class Liar(RawServer):
    """A daemon that says what it should, but for one thing."""

    def __init__(self, lie, blocks, root):
        super().__init__(self._script)
        self.lie, self.root = lie, str(root)
        self.car = b"".join(export_car(blocks, root))
        leaf = [cid for cid in walk(blocks, root) if cid.codec == RAW][-1]
        self.cut = b"".join(write_car([root], [(cid, blocks.get(cid)) for cid in walk(blocks, root) if cid != leaf]))

    def _script(self, connection, stopping):
        call = self.calls[-1].split("?")[0].rsplit("/api/v0", 1)[1]
        if self.lie == "falls silent" and call == "/dag/export":
            silent(connection, stopping)
        elif call == "/dag/export":
            self._export(connection)
        else:
            connection.sendall(head() + json.dumps(self._row(call)).encode() + b"\n")

    def _row(self, call):
        other = str(Cid.of(RAW, b"other"))
        problem = "no space" if self.lie == "does not pin" else ""
        return {
            "/id": {"ID": "" if self.lie == "has no name" else "12D3liar", "Addresses": []},
            "/version": {"Version": "0.43.0"},
            "/dag/import": {
                "Root": {"Cid": {"/": other if self.lie == "names another root" else self.root}, "PinErrorMsg": problem}
            },
            "/pin/ls": {"Keys": {} if self.lie == "keeps no pin" else {self.root: {"Type": "recursive"}}},
        }[call]

    def _export(self, connection):
        if self.lie == "keeps no block":
            message = json.dumps({"Message": "block was not found locally (offline)", "Code": 0, "Type": "error"})
            connection.sendall(head("500 Internal Server Error", Content_Type="application/json") + message.encode())
        elif self.lie == "gives back other bytes":
            connection.sendall(head() + self.car[:-1] + bytes([self.car[-1] ^ 1]))
        elif self.lie == "gives back a part":
            connection.sendall(head() + self.cut)
        elif self.lie == "gives back a stream that is cut":
            connection.sendall(head() + self.car[:-5])
        else:
            connection.sendall(head() + self.car)


#: what it does -> what the job says of it
LIES = {
    "has no name": "does not say which peer it is",
    "names another root": "took another root",
    "does not pin": "does not pin",
    "keeps no pin": "does not keep it",
    "keeps no block": "not found locally",
    "gives back other bytes": "hash",
    "gives back a part": "does not come back",
    "gives back a stream that is cut": "does not answer",
    "falls silent": "does not answer",
}


def lied_to(places, lie):
    """A job that waits for a copy at a daemon that lies, after a look at that."""
    two = places(2)
    job, root = two.answered()
    with Liar(lie, two.bridge.store, root) as server, Kubo(server.url, silence_seconds=0.5) as client:
        try:
            two.copy(two.mirror(client, "kubo 1"))
        except PeerUnavailable:
            two.settle()
        assert server.url not in two.bridge.job(job.request_hash).detail
    return two, job


@pytest.mark.parametrize("lie", LIES)
def test_a_daemon_that_lies_is_no_place_and_the_job_says_why(places, lie):
    two, job = lied_to(places, lie)

    assert two.of(job) == WAITING
    assert LIES[lie] in two.bridge.job(job.request_hash).detail
    assert two.bridge.outbox.deliveries == []


def test_a_daemon_that_does_not_lie_is_a_place(places):
    two, job = lied_to(places, "nothing")

    assert two.of(job) == HANDED_OVER


def test_a_result_that_one_daemon_refuses_keeps_no_other_result_waiting(places, first):
    two = places(2)
    one, refused = two.answered()
    other, _ = two.answered()

    class Choosy:
        def __getattr__(self, name):
            return getattr(first, name)

        def publish(self, store, root):
            if root == refused:
                raise PeerUnavailable("stalls at this one")
            first.publish(store, root)

    mirror = two.mirror(Choosy())
    with pytest.raises(PeerUnavailable):
        two.copy(mirror)
    two.copy(mirror)

    assert (two.of(one), two.of(other)) == (WAITING, HANDED_OVER)


def test_results_that_wait_hide_no_result_that_need_not_however_many_they_are(places):
    two = places(2)
    known = {"reason": Reason.COPIES_MISSING.value, "detail": "its output is at 1 of 2 places"}
    for number in range(PAGE):
        output = success(Cid.of(RAW, b"%d" % number))
        two.bridge.request(order_of(), state=JobState.STORED, outcome=output.encode(), **known)
    refused = Outcome(status=Status.REFUSED, reason=Reason.SPEC_NOT_JSON)
    job = two.bridge.request(order_of(), state=JobState.STORED, outcome=refused.encode())

    for _ in range(3):
        two.bridge.dispatcher.step()

    assert two.of(job) == HANDED_OVER
    assert len(two.bridge.outbox.deliveries) == 1


# -- kill -9 ----------------------------------------------------------------------------------------------------------


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def bridge_that_dies(folder, api, place):
    """A process that works on what waits in a folder and is killed at a place."""
    with Kubo(api) as client:
        two = Places(folder, 2)

        class Killed:
            def __getattr__(self, name):
                if place == f"before {name}":
                    die()
                return getattr(client, name)

            def publish(self, store, root):
                if place == "before publish":
                    die()
                client.publish(store, root)
                if place == "after publish":
                    die()

        def enqueue(connection, job, outcome, attestations, now):
            enqueue_fulfil(connection, job, outcome, attestations, now)
            if place == "while handing over":
                die()

        two.bridge.dispatcher = two.dispatcher(enqueue)
        mirror = two.mirror(Killed())
        while mirror.step():
            pass
        if place == "after the copy was noted":
            die()
        two.settle()
        die()


@pytest.mark.parametrize(
    "place",
    [
        "before is_pinned", "before publish", "after publish", "before get_car", "after the copy was noted",
        "while handing over", "after handing over",
    ],
)  # fmt: skip
def test_kill_9_between_copy_and_outbox_has_no_second_effect(places, first, kubo, tmp_path, place):
    two = places(2)
    job, root = two.answered()

    process = multiprocessing.get_context("spawn").Process(target=bridge_that_dies, args=(tmp_path, kubo.api, place))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    two.bridge.dispatcher = two.dispatcher(enqueue_fulfil)
    two.copy(two.mirror(first))

    assert two.of(job) == HANDED_OVER
    assert first.is_pinned(root)
    with reading(two.bridge.engine) as connection:
        assert connection.execute(select(func.count()).select_from(outbox)).scalar_one() == 1
        assert [(one.root, one.ours, one.done) for one in mirrored(connection, first.peer_id())] == [(root, True, True)]


# -- configuration ----------------------------------------------------------------------------------------------------

CONFIG = """
data_dir = "data"
public_url = "http://bridge.test"
[chain]
rpc_urls = ["http://127.0.0.1:1"]
chain_id = {chain}
bridge_contract = "{contract}"
deploy_block = 0
confirmation_depth = 1
posting_depth = 1
finality_depth = 2
[relayer]
key = "env:NONE"
[content]
"""


def loaded(tmp_path, *lines):
    path = tmp_path / "bridge.toml"
    path.write_text(CONFIG.format(chain=CHAIN_ID, contract=CONTRACT) + "\n".join(lines))
    return BridgeConfig.load(path).content


def test_a_kubo_may_be_none_one_or_several_and_older_files_still_load(tmp_path):
    assert loaded(tmp_path).kubo == loaded(tmp_path, 'kubo = ""').kubo == ()
    assert loaded(tmp_path, 'kubo = "http://127.0.0.1:5001/"').kubo == ("http://127.0.0.1:5001",)
    both = loaded(tmp_path, 'kubo = ["http://127.0.0.1:5001", "http://127.0.0.1:5002"]', "replicas = 3")
    assert (both.kubo, both.replicas) == (("http://127.0.0.1:5001", "http://127.0.0.1:5002"), 3)


WRONG = {
    "more places than there are": (('kubo = "http://127.0.0.1:5001"', "replicas = 3"), "replicas is 3"),
    "two places and no Kubo": (("replicas = 2",), "its own store and 0 of content.kubo"),
    "no place": (("replicas = 0",), "replicas"),
    "a Kubo twice": (('kubo = ["http://127.0.0.1:5001", "http://127.0.0.1:5001/"]',), "named twice"),
    "no address": (('kubo = ["5001"]',), "RPC API"),
    "a number": (("kubo = 5001",), "kubo"),
}


@pytest.mark.parametrize("row", WRONG)
def test_a_configuration_that_cannot_hold_is_refused_at_the_start_with_what_to_do(tmp_path, row):
    lines, words = WRONG[row]
    with pytest.raises(InvalidInput, match="content") as caught:
        loaded(tmp_path, *lines)

    assert words in str(caught.value)


def test_the_doctor_counts_the_places(kubo, second_kubo):
    def looked(*addresses, replicas):
        return {finding.name: finding.level for finding in check_kubos(addresses, replicas)}

    good = looked(kubo.api, second_kubo.api, replicas=3)
    same = looked(kubo.api, kubo.api.replace("127.0.0.1", "localhost"), replicas=3)
    away = looked(kubo.api, "http://127.0.0.1:1", replicas=3)

    assert good["replicas"] == "ok"
    assert (same["kubo 2"], same["replicas"]) == ("problem", "problem")
    assert (away["kubo 2"], away["replicas"]) == ("problem", "problem")
    assert looked(replicas=1) == {}
