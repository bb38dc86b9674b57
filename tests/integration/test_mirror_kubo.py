"""Public results have a copy at the operator's Kubo for as long as they are public."""

import json
import os

import pytest
from sqlalchemy import select

from bridge.cli.kubo_checks import check_kubo
from bridge.config import ContentConfig
from bridge.mirror import AGAIN_SECONDS, OWED_AGAIN_SECONDS, PEERS_AGAIN_SECONDS, Mirror
from bridge.store.engine import reading, transaction
from bridge.store.mirror import KEPT_PEERS, Mirrored, keep_mirrored, mirrored, note_peer
from bridge.store.schema import mirror_peers, mirrored_roots
from executor.content.importer import import_listing
from executor.content.kubo import Kubo
from executor.content.limits import TreeLimits
from executor.errors import PeerRefused, PeerUnavailable
from tests.bridge_kit import Bridge
from tests.chain_nodes import wait_for
from tests.kubo_daemon import program, start
from tests.raw_server import RawServer, head, send

LIMITS = TreeLimits(10**9)


@pytest.fixture
def bridge(tmp_path):
    bridge = Bridge(tmp_path, content=ContentConfig())
    yield bridge
    bridge.close()


@pytest.fixture
def daemon(kubo):
    with Kubo(kubo.api) as client:
        yield client


class Unreliable:
    """A daemon of which the next acts fail as `failures` says, None for one that goes through."""

    def __init__(self, daemon, *failures):
        self._daemon = daemon
        self._failures = list(failures)

    def _act(self, name, *args):
        failure = self._failures.pop(0) if self._failures else None
        if failure:
            raise failure
        return getattr(self._daemon, name)(*args)

    def peer_id(self):
        return self._daemon.peer_id()

    def publish(self, store, root):
        self._act("publish", store, root)

    def is_pinned(self, root):
        return self._act("is_pinned", root)

    def unpin(self, root):
        self._act("unpin", root)

    def peer_with(self, *addresses):
        self._act("peer_with", *addresses)


class Clock:
    def __init__(self):
        self.now = 1_800_000_000.0

    def __call__(self):
        return self.now


def stored(bridge, *, public=True, until=None, label="job:0x12"):
    """A fresh tree that the bridge keeps."""
    root = import_listing(bridge.store, {"a": os.urandom(100), "b/c": os.urandom(300_000)}, LIMITS)
    (bridge.dispatcher.roots.publish if public else bridge.dispatcher.roots.keep)(root, label, until)
    return root


def mirror_of(bridge, daemon, clock):
    return Mirror(bridge.engine, bridge.store, bridge.dispatcher.roots, daemon, clock)


def rest(mirror):
    steps = 0
    while mirror.step():
        steps += 1
    return steps


def known(bridge, daemon):
    with reading(bridge.engine) as connection:
        return {one.root: (one.ours, one.done) for one in mirrored(connection, daemon.peer_id())}


def test_a_public_root_is_copied_once_and_a_private_one_never(bridge, daemon):
    public, private = stored(bridge), stored(bridge, public=False)

    assert rest(mirror_of(bridge, daemon, Clock())) == 1
    assert rest(mirror_of(bridge, daemon, Clock())) == 0

    assert daemon.is_pinned(public)
    assert not daemon.has(private)


def test_abuse_what_somebody_uploads_for_all_to_see_does_not_fill_the_operators_daemon(bridge, daemon):
    uploaded = stored(bridge, label="upload:0x" + "12" * 20)

    assert rest(mirror_of(bridge, daemon, Clock())) == 0

    assert not daemon.has(uploaded)


def test_a_root_that_is_not_given_back_waits_and_keeps_no_other_one(bridge, daemon):
    clock = Clock()
    first, second = sorted((stored(bridge, until=clock.now + 10), stored(bridge, until=clock.now + 10)), key=str)
    rest(mirror_of(bridge, daemon, clock))
    third = stored(bridge)
    clock.now += 11
    mirror = mirror_of(bridge, Unreliable(daemon, PeerRefused(500, "locked")), clock)

    rest(mirror)
    assert [daemon.is_pinned(root) for root in (first, second, third)] == [True, False, True]

    clock.now += AGAIN_SECONDS + 1
    rest(mirror)
    assert not daemon.is_pinned(first)
    assert set(known(bridge, daemon)) == {third}


def test_a_root_that_the_daemon_hangs_over_when_it_is_to_be_given_back_keeps_no_other_one_waiting(bridge, daemon):
    clock = Clock()
    old = stored(bridge, until=clock.now + 100)
    flaky = Unreliable(daemon)
    mirror = mirror_of(bridge, flaky, clock)
    rest(mirror)
    new = stored(bridge)
    clock.now += 100
    flaky._failures = [PeerUnavailable("timed out")]
    with pytest.raises(PeerUnavailable):
        mirror.step()
    assert mirror.step()
    assert [daemon.is_pinned(root) for root in (old, new)] == [True, True]

    clock.now += OWED_AGAIN_SECONDS
    rest(mirror)
    assert not daemon.is_pinned(old)


def test_what_is_public_no_longer_is_taken_back(bridge, daemon):
    clock = Clock()
    root = stored(bridge, until=clock.now + 10)
    rest(mirror_of(bridge, daemon, clock))
    assert daemon.is_pinned(root)

    clock.now += 11
    rest(mirror_of(bridge, daemon, clock))

    assert not daemon.is_pinned(root)
    assert known(bridge, daemon) == {}


def test_what_the_daemons_owner_kept_before_stays_his(bridge, daemon):
    clock = Clock()
    root = stored(bridge, until=clock.now + 10)
    daemon.publish(bridge.store, root)
    rest(mirror_of(bridge, daemon, clock))

    clock.now += 11
    rest(mirror_of(bridge, daemon, clock))

    assert daemon.is_pinned(root)
    assert known(bridge, daemon) == {}


@pytest.mark.parametrize("act", [1, 2])
def test_a_daemon_that_goes_away_is_tried_again_and_nothing_is_lost(bridge, daemon, act):
    root = stored(bridge)
    failing = Unreliable(daemon, *[None] * (act - 1), PeerUnavailable("away"))
    mirror = mirror_of(bridge, failing, Clock())

    with pytest.raises(PeerUnavailable):
        mirror.step()
    rest(mirror_of(bridge, daemon, Clock()))

    assert daemon.is_pinned(root)
    assert known(bridge, daemon) == {root: (True, True)}


def test_what_was_given_and_not_noted_at_a_kill_9_is_still_ours_to_take_back(bridge, daemon):
    clock = Clock()
    root = stored(bridge, until=clock.now + 10)
    with pytest.raises(PeerUnavailable):
        mirror_of(bridge, Unreliable(daemon, None, PeerUnavailable("killed")), clock).step()
    daemon.publish(bridge.store, root)

    clock.now += 11
    rest(mirror_of(bridge, daemon, clock))

    assert not daemon.is_pinned(root)


def test_another_daemon_at_the_same_address_gets_everything_anew_and_loses_nothing_of_its_own(
    bridge, daemon, second_kubo
):
    clock = Clock()
    root = stored(bridge, until=clock.now + 10)
    rest(mirror_of(bridge, daemon, clock))

    with Kubo(second_kubo.api) as other:
        rest(mirror_of(bridge, other, clock))
        assert other.is_pinned(root)
        clock.now += 11
        rest(mirror_of(bridge, other, clock))
        assert not other.is_pinned(root)

    assert daemon.is_pinned(root)
    assert known(bridge, daemon) == {root: (True, True)}


class Nameless:
    """A daemon that calls itself something else at each call."""

    def __init__(self, daemon):
        self._daemon = daemon
        self.names = 0

    def peer_id(self):
        self.names += 1
        return f"12D3 {self.names}"

    def __getattr__(self, name):
        return getattr(self._daemon, name)


def test_abuse_a_daemon_with_a_new_name_at_each_call_leaves_a_bounded_number_of_rows(bridge, daemon):
    stored(bridge)
    nameless = Nameless(daemon)
    for _ in range(3 * KEPT_PEERS):  # a mirror each: what is remembered outlives the process
        mirror_of(bridge, nameless, Clock()).step()

    with reading(bridge.engine) as connection:
        given = connection.execute(select(mirrored_roots.c.peer)).scalars().all()
        names = connection.execute(select(mirror_peers.c.peer)).scalars().all()
    assert len(given) == len(names) == KEPT_PEERS
    assert f"12D3 {nameless.names}" in given


def test_a_daemon_that_is_at_another_address_too_is_remembered_when_it_leaves_one(bridge):
    root = stored(bridge)
    with transaction(bridge.engine) as connection:
        for address in ("one", "other"):
            note_peer(connection, address, "shared", 1.0)
        for peer in ("shared", "gone"):
            keep_mirrored(connection, peer, Mirrored(root, ours=True, done=True))
        note_peer(connection, "one", "gone", 0.0)
        said = [note_peer(connection, "one", f"peer {number}", 2.0 + number) for number in range(KEPT_PEERS)]

        assert said == ["shared", "peer 0", "peer 1", "peer 2"]
        assert mirrored(connection, "shared") == [Mirrored(root, ours=True, done=True)]
        assert mirrored(connection, "gone") == []


@pytest.mark.parametrize("before", [[], [None]], ids=["when it is asked for", "when it is given"])
def test_a_root_that_is_refused_waits_and_keeps_no_other_one(bridge, daemon, before):
    clock = Clock()
    first, second = sorted((stored(bridge), stored(bridge)), key=str)
    mirror = mirror_of(bridge, Unreliable(daemon, *before, PeerRefused(500, "no space")), clock)

    rest(mirror)
    assert not daemon.is_pinned(first)
    assert daemon.is_pinned(second)

    clock.now += AGAIN_SECONDS + 1
    rest(mirror)
    assert daemon.is_pinned(first)


@pytest.mark.parametrize("before", [[], [None]], ids=["when it is asked for", "when it is given"])
def test_a_root_that_the_daemon_hangs_over_keeps_no_other_one_waiting(bridge, daemon, before):
    first, second = sorted((stored(bridge), stored(bridge)), key=str)
    mirror = mirror_of(bridge, Unreliable(daemon, *before, PeerUnavailable("timed out")), Clock())

    with pytest.raises(PeerUnavailable):
        mirror.step()
    assert mirror.step()
    assert [daemon.is_pinned(root) for root in (first, second)] == [False, True]

    rest(mirror)
    assert daemon.is_pinned(first)


def test_a_root_whose_blocks_went_before_it_was_copied_does_no_harm(bridge, daemon):
    root = stored(bridge)
    bridge.store.delete(root)

    rest(mirror_of(bridge, daemon, Clock()))

    assert known(bridge, daemon) == {root: (True, False)}


def peered(bridge, daemon, *peers, clock=None):
    return Mirror(bridge.engine, bridge.store, bridge.dispatcher.roots, daemon, clock or Clock(), peers=peers)


def told(kubo):
    """The peers that a daemon keeps connected to, each with its addresses."""
    listed = json.loads(kubo.run("swarm", "peering", "ls", "--enc=json"))["Peers"] or ()
    return {peer["ID"]: peer["Addrs"] for peer in listed}


@pytest.fixture
def another(second_kubo):
    """What the second daemon is among peers: its id, its address."""
    with Kubo(second_kubo.api) as second:
        facts = second.facts()
    return facts.peer_id, next(item for item in facts.addresses if "/p2p/" in item)


def test_a_daemon_is_kept_connected_to_the_peers_that_the_operator_names(bridge, daemon, another):
    peer, address = another

    peered(bridge, daemon, address).step()

    wait_for(lambda: peer in daemon.peers(), 20, "they are peers")


def test_all_addresses_of_one_peer_count_not_only_its_last(bridge, daemon, kubo, another):
    peer, address = another

    peered(bridge, daemon, address, f"/ip6/::1/tcp/9/p2p/{peer}").step()

    assert set(told(kubo)[peer]) == {address.partition("/p2p/")[0], "/ip6/::1/tcp/9"}


def test_one_list_may_name_every_daemon_and_none_is_told_to_dial_itself(bridge, daemon, kubo, another):
    peer, address = another
    own = daemon.facts()

    peered(bridge, daemon, address, next(item for item in own.addresses if "/p2p/" in item)).step()

    assert peer in told(kubo)
    assert own.peer_id not in told(kubo)


def test_a_daemon_that_was_started_anew_unseen_is_told_its_peers_again(bridge, tmp_path, another):
    peer, address = another
    clock = Clock()
    before = start(program(), tmp_path / "kubo")
    try:
        config = json.loads((before.repo / "config").read_text())
        config["Addresses"]["API"] = f"/ip4/127.0.0.1/tcp/{before.api.rpartition(':')[2]}"
        (before.repo / "config").write_text(json.dumps(config))
        with Kubo(before.api) as daemon:
            mirror = peered(bridge, daemon, address, clock=clock)
            mirror.step()
            before.stop()
            after = start(program(), tmp_path / "kubo")
            try:
                assert after.api == before.api
                clock.now += PEERS_AGAIN_SECONDS
                mirror.step()
                assert peer in told(after)
            finally:
                after.stop()
    finally:
        before.stop()


class Told:
    """A daemon that only has its peers told. away: it does not answer; bad: what it says to some addresses."""

    def __init__(self, **bad):
        self.told = []
        self.away = False
        self.bad = bad

    def peer_id(self):
        if self.away:
            raise PeerUnavailable("it is away")
        return "12D3"

    def peer_with(self, *addresses):
        self.told.append(addresses)
        if addresses[0] in self.bad:
            raise self.bad[addresses[0]]


def test_peers_are_told_once_a_minute_and_at_once_after_the_daemon_was_away(bridge):
    daemon, clock = Told(bad=PeerRefused(500, "no such thing")), Clock()
    mirror = peered(bridge, daemon, "bad", "good", clock=clock)
    rest(mirror)
    rest(mirror)
    assert daemon.told == [("bad",), ("good",)]

    daemon.away = True
    with pytest.raises(PeerUnavailable):
        mirror.step()
    daemon.away = False
    rest(mirror)
    assert daemon.told == [("bad",), ("good",)] * 2

    clock.now += PEERS_AGAIN_SECONDS
    rest(mirror)
    assert daemon.told == [("bad",), ("good",)] * 3


def test_a_daemon_that_hangs_over_a_peer_gets_its_copies_all_the_same(bridge, daemon):
    root = stored(bridge)
    failing = Unreliable(daemon, PeerUnavailable("timed out"))

    rest(peered(bridge, failing, "/ip4/203.0.113.7/tcp/4001/p2p/" + "1" * 46))

    assert daemon.is_pinned(root)


def test_the_doctor_looks_at_a_real_daemon(kubo):
    found = list(check_kubo(kubo.api))

    assert {finding.level for finding in found} <= {"ok", "note"}
    assert "0.43.0" in found[0].detail


#: name -> (a setting and its value, what the doctor says)
SETTINGS = {
    "nothing is provided": ("Provide.Enabled", "false", "nobody is told of results"),
    "results are not provided": ("Provide.Strategy", '"mfs"', "results may not be found by others"),
    "a limit of its store": ("Datastore.StorageMax", '"7GB"', "Datastore.StorageMax 7GB"),
}


@pytest.mark.parametrize("what", SETTINGS)
def test_the_doctor_reads_the_configuration_of_a_real_daemon(kubo, what):
    name, value, words = SETTINGS[what]
    config = kubo.repo / "config"
    before = config.read_bytes()
    try:
        kubo.run("config", "--json", name, value)
        found = list(check_kubo(kubo.api))
    finally:
        config.write_bytes(before)

    assert any(words in finding.detail for finding in found), found


def test_the_doctor_names_a_daemon_that_is_too_old():
    answers = [b'{"ID": "12D3KooW", "Addresses": []}', b'{"Version": "0.8.0"}']
    with RawServer(*(send(head(), answer) for answer in answers)) as server:
        (found,) = check_kubo(server.url)

    assert (found.level, "Kubo 0.8.0 is too old" in found.detail) == ("problem", True)


def test_the_doctor_names_a_daemon_that_is_away_and_what_is_no_kubo():
    (away,) = check_kubo("http://127.0.0.1:1")
    with RawServer(send(head(), b"<html>")) as server:
        (other,) = check_kubo(server.url)

    assert away.level == other.level == "problem"
    assert "ipfs daemon" in away.remedy
    assert "RPC API of Kubo" in other.detail
