"""A result goes on-chain once it is at as many places as the operator wants: real Kubos, lying ones, and kill -9."""

import pytest
from sqlalchemy import select

from bridge.cli.kubo_checks import check_kubos
from bridge.config import BridgeConfig
from bridge.explaining import explain
from bridge.jobs import JobState
from bridge.mirror import OWED_AGAIN_SECONDS
from bridge.replicas import LATE_SECONDS, Replicas
from bridge.store.engine import reading
from bridge.store.mirror import mirrored
from bridge.store.schema import copies
from bridge.watch import Alarm
from executor.content.kubo import Kubo
from executor.errors import InvalidInput, PeerRefused, PeerUnavailable
from executor.protocol.reasons import Reason
from executor.protocol.wire import OnChainState, Outcome, Status
from tests.bridge_kit import CHAIN_ID, CONTRACT, attested, order_of
from tests.kubo_daemon import program, start
from tests.replica_kit import HANDED_OVER, WAITING, first, places

__all__ = ["first", "places"]


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


def test_a_daemon_that_is_back_is_not_said_to_be_away(places, own_daemon, first):
    daemon = own_daemon()
    daemon.stop()
    with Kubo(daemon.api) as client:
        three = places(3, first, client)
        job, root = three.answered()
        three.copy(three.mirrors[0])
        with pytest.raises(PeerUnavailable):
            three.mirrors[1].step()
        three.settle()
        assert three.bridge.job(job.request_hash).detail.endswith("kubo 2 does not answer")

    three.copy(three.mirror(Full(), "kubo 2"))
    assert three.bridge.job(job.request_hash).detail == f"its output is at 2 of 3 places: kubo 2 {Full.words(root)}"


class Full:
    """A daemon that answers, and refuses all that it is asked about a result."""

    def peer_id(self):
        return "12D3 back"

    def is_pinned(self, root):
        raise PeerRefused(500, "its disk is full")

    @staticmethod
    def words(root):
        return f"does not keep {root}: {PeerRefused(500, 'its disk is full')}"


def test_a_result_of_which_a_daemon_cannot_even_say_whether_it_keeps_it_keeps_no_other_waiting(places):
    asked = []

    class One(Full):
        def is_pinned(self, root):
            asked.append(root)
            return super().is_pinned(root)

    two = places(2, One())
    roots = [two.answered()[1] for _ in range(3)]
    two.copy()

    assert sorted(asked, key=str) == sorted(roots, key=str)


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


def restarted(two, wanted=2):
    """As after a start of the bridge: no daemon has been spoken to."""
    two.replicas = Replicas(wanted, two.bridge.watch)
    two.bridge.dispatcher = two.dispatcher(two.bridge.outbox.enqueue)
    two.bridge.chain_at(110)
    two.settle()


def copied_before(places, *daemons):
    """A job whose output was copied while it could not be handed over yet."""
    two = places(2, *daemons)
    two.bridge.chain_at(100)
    job, _ = two.answered()
    two.copy()
    return two, job


def test_a_copy_at_a_daemon_that_is_not_configured_any_longer_is_none(places, first, second):
    two, job = copied_before(places, first)

    restarted(two)
    mirror = two.mirror(second, "kubo 1")
    assert two.of(job) == WAITING
    two.copy(mirror)

    assert two.of(job) == HANDED_OVER
    assert "2 places" not in two.bridge.job(job.request_hash).detail


def test_after_a_start_a_copy_counts_once_its_daemon_has_answered_and_is_not_made_anew(places, first):
    two, job = copied_before(places, first)
    acts = []

    class Watched:
        def __getattr__(self, name):
            acts.append(name)
            return getattr(first, name)

    restarted(two)
    assert two.of(job) == WAITING
    assert "1 of 2 places" in two.bridge.job(job.request_hash).detail
    two.copy(two.mirror(Watched(), "kubo 1"))

    assert two.of(job) == HANDED_OVER
    assert set(acts) == {"peer_id"}


def test_two_daemons_that_take_turns_at_one_address_are_one_place(places, first, second):
    three = places(3, first)
    job, _ = three.answered()
    three.copy()
    three.copy(three.mirror(second, "kubo 1"))

    assert three.of(job) == WAITING
    assert "2 of 3 places" in three.bridge.job(job.request_hash).detail


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
    found = explain(two.bridge.dispatcher, two.bridge.job(job.request_hash), two.bridge.clock.now)
    assert (found.reason, found.awaiting.split(":")[0]) == (Reason.COPIES_MISSING, "its refund")


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
    "peers of no Kubo": (('kubo_peers = ["/dns4/a.example/tcp/4001/p2p/' + "1" * 46 + '"]',), "names none"),
    "a peer without an id": (
        ('kubo = "http://127.0.0.1:5001"', 'kubo_peers = ["/ip4/127.0.0.1/tcp/4001"]'),
        "no address of a peer",
    ),
    "a peer that is an option": (
        ('kubo = "http://127.0.0.1:5001"', 'kubo_peers = ["/ip4/1?arg=/p2p/' + "1" * 46 + '"]'),
        "no address of a peer",
    ),
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
