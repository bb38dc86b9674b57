"""Downloads and uploads over real HTTP against a peer that cuts, stalls, drips, lies and comes back."""

import itertools
import time
from contextlib import contextmanager

import pytest

from executor.content.blocks import MemoryBlocks
from executor.content.blockstore import BlockStore
from executor.content.car import write_car
from executor.content.importer import import_bytes, import_listing
from executor.content.limits import TreeLimits
from executor.content.patience import Patience
from executor.content.transfer import fetch_dag, upload_dag
from executor.content.walk import missing, walk
from executor.content.web import Http, Signer, gateway_peer, lease_peer, upload_peer
from executor.errors import BlockMismatch, CarError, ContentTooLarge, PeerRefused, PeerUnavailable
from executor.protocol.cid import DAG_PB, RAW, Cid
from executor.protocol.signing import Key
from tests.agent_twin import Fault
from tests.clocks import PausedClock

MIB = 2**20
CAR = "/car/"


@pytest.fixture
def http(twin):
    with Http(twin.url, Signer(Key.from_hex("11" * 32), twin.audience()), silence_seconds=0.3) as client:
        yield client


@pytest.fixture
def peer(http):
    return lease_peer(http, "lease-1", 1)


def patience(seconds=30.0):
    """Real time, short pauses."""
    return Patience(time.time() + seconds, pause=lambda wanted: time.sleep(min(wanted, 0.01)))


def tree(blocks, size=3 * MIB + 5):
    noise = bytes(range(256)) * (size // 256 + 1)
    files = {f"f{n}": bytes([n]) + noise[: size // 3] for n in range(3)}
    return import_listing(blocks, files, TreeLimits(10**9))


def test_a_dag_arrives_whole(twin, peer):
    root = tree(twin.blocks)
    store = MemoryBlocks()

    moved = fetch_dag(peer, store, root, max_bytes=10 * MIB, patience=patience())

    assert missing(store, root) == []
    assert moved.blocks == len(twin.blocks)
    assert fetch_dag(peer, store, root, max_bytes=10 * MIB, patience=patience()).blocks == 0


@pytest.mark.parametrize(
    "fault",
    [
        Fault(cut_after=2 * MIB),
        Fault(cut_after=10),
        Fault(cut_after=0),
        Fault(stall_after=MIB + 100),
        Fault(stall_after=0),
        Fault(status=503),
        Fault(status=429),
        Fault(status=500, times=3),
        Fault(drip_seconds=0.5),
    ],
    ids=["cut", "cut in the header", "cut at once", "stall", "silence", "503", "429", "500 three times", "drip"],
)
def test_a_download_outlives_a_fault_and_asks_only_for_what_is_not_here(twin, peer, fault):
    root = tree(twin.blocks)
    twin.faults[CAR] = fault
    store = MemoryBlocks()

    moved = fetch_dag(peer, store, root, max_bytes=10 * MIB, patience=patience())

    assert missing(store, root) == []
    assert moved.blocks == len(twin.blocks)
    assert moved.bytes == sum(len(twin.blocks.get(cid)) for cid in twin.blocks)


def test_a_wrong_block_ends_a_download_at_once_and_is_not_stored(twin, peer):
    root = import_bytes(twin.blocks, b"content")
    twin.faults[CAR] = Fault(garble=True, times=99)
    store = MemoryBlocks()

    with pytest.raises(CarError, match="hash"):
        fetch_dag(peer, store, root, max_bytes=MIB, patience=patience())

    assert len(store) == 0
    assert len(twin.calls) == 1


def test_a_block_that_nobody_asked_for_ends_a_download(twin, peer):
    other = MemoryBlocks()
    from executor.content.car import export_car

    unasked = b"".join(export_car(other, import_bytes(other, b"something else")))
    root = import_bytes(twin.blocks, b"content")
    twin.faults[CAR] = Fault(body=unasked, times=99)
    store = MemoryBlocks()

    with pytest.raises(CarError, match="asked for"):
        fetch_dag(peer, store, root, max_bytes=MIB, patience=patience())

    assert len(store) == 0


def test_content_that_the_peer_has_not_is_refused_at_once(twin, peer):
    with pytest.raises(PeerRefused) as caught:
        fetch_dag(peer, MemoryBlocks(), Cid.of(RAW, b"absent"), max_bytes=MIB, patience=patience())

    assert caught.value.status == 404
    assert len(twin.calls) == 1


def test_a_dag_over_the_limit_is_too_large_whether_it_comes_or_is_here(twin, peer):
    root = tree(twin.blocks)
    with pytest.raises(ContentTooLarge):
        fetch_dag(peer, MemoryBlocks(), root, max_bytes=2 * MIB, patience=patience())
    with pytest.raises(ContentTooLarge):
        fetch_dag(peer, twin.blocks, root, max_bytes=2 * MIB, patience=patience())


def test_a_peer_that_brings_nothing_new_is_given_up(twin, peer):
    root = import_bytes(twin.blocks, b"content")
    twin.faults[CAR] = Fault(cut_after=0, times=99)

    with pytest.raises(PeerUnavailable):
        fetch_dag(peer, MemoryBlocks(), root, max_bytes=MIB, patience=patience())

    assert len(twin.calls) == 8


def test_a_deadline_ends_a_download_from_a_peer_that_always_fails(twin, peer):
    root = import_bytes(twin.blocks, b"content")
    twin.faults[CAR] = Fault(status=503, times=99)
    clock = iter(range(100))

    with pytest.raises(PeerUnavailable):
        fetch_dag(
            peer, MemoryBlocks(), root, max_bytes=MIB,
            patience=Patience(6, clock=lambda: next(clock), pause=lambda _: None),
        )  # fmt: skip
    assert len(twin.calls) < 8


def test_a_peer_that_drips_its_head_is_dropped_at_the_calls_deadline(twin, http):
    twin.faults["/v1/x"] = Fault(drip_head_seconds=0.05)
    started = time.monotonic()

    with pytest.raises(PeerUnavailable):
        http.call("GET", "/v1/x?root=" + str(Cid.of(RAW, b"")), seconds=0.5)

    assert time.monotonic() - started < 3


def test_an_answer_over_its_byte_limit_is_refused(twin, http):
    twin.faults["missing"] = Fault(body=b"x" * 2000)

    with pytest.raises(PeerRefused, match="more than 1000 bytes"):
        http.call("GET", f"/v1/content/missing?root={Cid.of(RAW, b'')}", max_bytes=1000)


def test_a_peers_words_are_cut_and_kept_on_one_line(twin, http):
    twin.faults["missing"] = Fault(
        status=418, body=b'{"type": "urn:insula:problem:tea", "title": "a\\u001b[31m\\nb' + b"x" * 9000 + b'"}'
    )

    with pytest.raises(PeerRefused) as caught:
        http.call("GET", "/v1/content/missing")

    assert (caught.value.status, caught.value.name) == (418, "tea")
    assert len(caught.value.problem) <= 500
    assert caught.value.problem.isprintable()


def test_nobody_there_is_unavailable():
    with Http("http://127.0.0.1:9") as client, pytest.raises(PeerUnavailable):
        client.call("GET", "/", seconds=2)


def damage(store, cid):
    [path] = store.root.rglob(str(cid))
    path.chmod(0o600)
    path.write_bytes(b"damaged")


def test_damaged_blocks_of_a_dag_that_is_here_are_fetched_anew(twin, peer, tmp_path):
    root = tree(twin.blocks)
    store = BlockStore(tmp_path)
    fetch_dag(peer, store, root, max_bytes=10 * MIB, patience=patience())
    leaves = [cid for cid in walk(store, root) if cid.codec == RAW][:3]
    for cid in leaves:
        damage(store, cid)

    moved = fetch_dag(peer, store, root, max_bytes=10 * MIB, patience=patience())

    assert moved.blocks == len(leaves)
    assert missing(store, root, verify=True) == []


def test_a_store_that_damages_what_leads_to_other_blocks_is_given_up(twin, peer):
    class Rotten(MemoryBlocks):
        def get(self, cid):
            if cid.codec == DAG_PB:
                raise BlockMismatch(cid, "a rotten disk")
            return super().get(cid)

    with pytest.raises(PeerUnavailable):
        fetch_dag(peer, Rotten(), tree(twin.blocks), max_bytes=10 * MIB, patience=patience())


def test_an_upload_arrives_whole_in_segments(twin, peer):
    store = MemoryBlocks()
    root = tree(store)

    moved = upload_dag(peer, store, root, patience=patience(), segment_bytes=MIB)

    assert missing(twin.received, root) == []
    assert moved.blocks == len(store)
    assert sum(method == "PUT" for method, _ in twin.calls) >= 3


def test_an_upload_sends_only_what_is_missing(twin, peer):
    store = MemoryBlocks()
    root = tree(store)
    upload_dag(peer, store, root, patience=patience())
    twin.calls.clear()

    assert upload_dag(peer, store, root, patience=patience()).blocks == 0
    assert [method for method, _ in twin.calls] == ["GET"]


@pytest.mark.parametrize(
    "fault",
    [Fault(status=503), Fault(status=507), Fault(cut_after=3), Fault(stall_after=0)],
    ids=["503", "disk full", "cut answer", "no answer"],
)
@pytest.mark.parametrize("call", ["/content", "/missing"])
def test_an_upload_outlives_a_fault(twin, http, fault, call):
    store = MemoryBlocks()
    root = import_bytes(store, b"content")
    twin.faults[call] = Fault(**{**vars(fault), "times": 2})

    upload_dag(lease_peer(http, "lease-1", 1, upload_seconds=1.0), store, root, patience=patience())

    assert missing(twin.received, root) == []


def test_a_peer_that_never_keeps_a_block_is_given_up(twin, peer):
    store = MemoryBlocks()
    root = import_bytes(store, b"content")
    lie = b'{"missing": ["%s"]}' % str(root).encode()
    twin.faults["/content"] = Fault(body=lie, times=99)

    with pytest.raises(PeerRefused, match="again and again"):
        upload_dag(peer, store, root, patience=patience())


@pytest.mark.parametrize("call", ["/missing", "/content"])
def test_abuse_a_bridge_that_asks_for_what_it_was_not_promised_gets_no_block_of_it(twin, peer, call):
    store = MemoryBlocks()
    private = import_bytes(store, b"the operator's own")
    root = import_bytes(store, b"content")
    twin.faults[call] = Fault(body=b'{"missing": ["%s"]}' % str(private).encode(), times=99)

    with pytest.raises(PeerRefused, match=f"{private}, which is nothing of {root}"):
        upload_dag(peer, store, root, patience=patience())

    assert not twin.received.has(private)


class Forgetful:
    """A peer that lacks another block each time."""

    def __init__(self, cids):
        self._next = itertools.cycle(cids)

    def missing(self, _):
        return (next(self._next),)

    def put_car(self, root, _):
        return self.missing(root)


def test_abuse_an_upload_to_a_peer_that_always_lacks_another_block_ends_in_time():
    store = MemoryBlocks()
    root = tree(store)
    ticks = itertools.count()

    with pytest.raises(PeerUnavailable, match="time for this transfer"):
        upload_dag(
            Forgetful(walk(store, root)), store, root, patience=Patience(10, lambda: next(ticks), lambda _: None)
        )


class Dripping:
    """A source whose answer takes a minute to fail; of the first `good` answers something comes."""

    def __init__(self, clock, blocks, root, good=0):
        self.clock, self.blocks, self.root, self.good, self.calls = clock, blocks, root, good, 0

    @contextmanager
    def get_car(self, cid):
        self.calls += 1
        yield self._pieces(cid)

    def _pieces(self, cid):
        if self.calls <= self.good:
            yield b"".join(write_car([cid], [(cid, self.blocks.get(cid))]))
        self.clock.now += 60.0
        raise PeerUnavailable("its head drips")


def test_a_download_that_brings_nothing_for_long_is_given_up_after_one_try(twin):
    clock, root = PausedClock(), tree(twin.blocks)
    for good in (0, 3):
        source, store = Dripping(clock, twin.blocks, root, good), MemoryBlocks()
        with pytest.raises(PeerUnavailable, match="drips"):
            fetch_dag(
                source, store, root, max_bytes=10 * MIB,
                patience=Patience(clock.now + 3600, clock, clock.pause, stubborn=60),
            )  # fmt: skip

        assert (source.calls, len(store)) == (good + 1, good)


def test_an_upload_that_a_bridge_takes_nothing_of_is_given_up_with_what_it_did(twin, peer):
    store, clock = MemoryBlocks(), PausedClock()
    root = tree(store)
    twin.faults["/content"] = Fault(status=503, times=1000)

    with pytest.raises(PeerUnavailable, match="503"):
        upload_dag(peer, store, root, patience=Patience(3600, clock, clock.pause, stubborn=300))

    assert 300 <= clock.now < 320


class Slow:
    """A peer that is away for 250 s before each segment that it takes."""

    def __init__(self, clock, lacks):
        self.clock, self.lacks, self.ready = clock, lacks, 250.0

    def missing(self, _):
        return tuple(self.lacks[:1])

    def put_car(self, root, _):
        if self.clock.now < self.ready:
            raise PeerUnavailable("it is away")
        self.ready = self.clock.now + 250.0
        self.lacks.pop(0)
        return self.missing(root)


def test_an_upload_goes_on_for_as_long_as_each_segment_arrives_in_time():
    store, clock = MemoryBlocks(), PausedClock()
    lacks = list(walk(store, tree(store)))[:4]

    upload_dag(Slow(clock, lacks), store, lacks[0], patience=Patience(3600, clock, clock.pause, stubborn=300))

    assert lacks == []
    assert clock.now > 900


def test_whoever_waits_can_end_an_upload_between_two_segments():
    class Enough(Exception):
        pass

    def pause(_):
        raise Enough

    store = MemoryBlocks()
    root = tree(store)
    with pytest.raises(Enough):
        upload_dag(Forgetful(walk(store, root)), store, root, patience=Patience(time.time() + 60, pause=pause))


def test_an_answer_that_is_no_list_of_cids_is_refused(twin, peer):
    twin.faults["/missing"] = Fault(body=b'{"missing": ["no cid"]}')

    with pytest.raises(PeerRefused, match="not understood"):
        upload_dag(peer, MemoryBlocks(), Cid.of(RAW, b""), patience=patience())


def test_a_requester_uploads_and_anybody_reads_from_the_gateway(twin, http):
    store = MemoryBlocks()
    root = tree(store)
    upload_dag(upload_peer(http, public=True), store, root, patience=patience())
    twin.blocks = twin.received

    copy = MemoryBlocks()
    fetch_dag(gateway_peer(http), copy, root, max_bytes=10 * MIB, patience=patience())

    assert missing(copy, root) == []
    assert any("public=1" in path for _, path in twin.calls)
