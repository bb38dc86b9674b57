"""Public results have a copy at the operator's Kubo for as long as they are public."""

import os

import pytest
from sqlalchemy import select

from bridge.cli.kubo_checks import check_kubo
from bridge.config import ContentConfig
from bridge.mirror import AGAIN_SECONDS, Mirror
from bridge.store.engine import reading, transaction
from bridge.store.mirror import KEPT_PEERS, Mirrored, keep_mirrored, mirrored, note_peer
from bridge.store.schema import mirror_peers, mirrored_roots
from executor.content.importer import import_listing
from executor.content.kubo import Kubo
from executor.content.limits import TreeLimits
from executor.errors import PeerRefused, PeerUnavailable
from tests.bridge_kit import Bridge
from tests.chain_nodes import wait_for
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

    def peer_with(self, address):
        self._act("peer_with", address)


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


def test_a_root_that_is_refused_waits_and_keeps_no_other_one(bridge, daemon):
    clock = Clock()
    first, second = sorted((stored(bridge), stored(bridge)), key=str)
    mirror = mirror_of(bridge, Unreliable(daemon, None, PeerRefused(500, "no space")), clock)

    rest(mirror)
    assert not daemon.is_pinned(first)
    assert daemon.is_pinned(second)

    clock.now += AGAIN_SECONDS + 1
    rest(mirror)
    assert daemon.is_pinned(first)


def test_a_root_that_the_daemon_hangs_over_keeps_no_other_one_waiting(bridge, daemon):
    first, second = sorted((stored(bridge), stored(bridge)), key=str)
    mirror = mirror_of(bridge, Unreliable(daemon, None, PeerUnavailable("timed out")), Clock())

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


def test_a_daemon_is_kept_connected_to_the_peers_that_the_operator_names(bridge, daemon, second_kubo):
    with Kubo(second_kubo.api) as second:
        facts = second.facts()
    address = next(item for item in facts.addresses if "/p2p/" in item)

    Mirror(bridge.engine, bridge.store, bridge.dispatcher.roots, daemon, Clock(), peers=(address,)).step()

    wait_for(lambda: facts.peer_id in daemon.peers(), 20, "they are peers")


class Told:
    """A daemon that only has its peers told, and refuses one of them; away: it does not answer."""

    def __init__(self):
        self.peers = []
        self.away = False

    def peer_id(self):
        if self.away:
            raise PeerUnavailable("it is away")
        return "12D3"

    def peer_with(self, address):
        self.peers.append(address)
        if address == "bad":
            raise PeerRefused(500, "no such thing")


def test_peers_are_told_once_and_again_after_the_daemon_was_away(bridge):
    daemon = Told()
    mirror = Mirror(bridge.engine, bridge.store, bridge.dispatcher.roots, daemon, Clock(), peers=("bad", "good"))
    rest(mirror)
    rest(mirror)
    assert daemon.peers == ["bad", "good"]

    daemon.away = True
    with pytest.raises(PeerUnavailable):
        mirror.step()
    daemon.away = False
    rest(mirror)

    assert daemon.peers == ["bad", "good"] * 2


def test_the_doctor_looks_at_a_real_daemon(kubo):
    found = list(check_kubo(kubo.api))

    assert {finding.level for finding in found} <= {"ok", "note"}
    assert "0.43.0" in found[0].detail


def test_the_doctor_names_a_daemon_that_is_away_and_what_is_no_kubo():
    (away,) = check_kubo("http://127.0.0.1:1")
    with RawServer(send(head(), b"<html>")) as server:
        (other,) = check_kubo(server.url)

    assert away.level == other.level == "problem"
    assert "ipfs daemon" in away.remedy
    assert "RPC API of Kubo" in other.detail
