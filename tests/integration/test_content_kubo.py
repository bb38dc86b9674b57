"""Kubo's daemon as store and source: what holds against a real, current one, and against one that fails or lies."""

import gzip
import hashlib
import json
import os
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from executor.content.blocks import MemoryBlocks
from executor.content.blockstore import BlockStore
from executor.content.car import export_car
from executor.content.importer import import_bytes, import_file, import_listing, import_tree
from executor.content.kubo import Kubo, KuboFacts, Providers
from executor.content.limits import TreeLimits
from executor.content.patience import Patience
from executor.content.profiles import V0_2015
from executor.content.reader import list_dir, resolve
from executor.content.transfer import fetch_dag
from executor.content.walk import missing
from executor.errors import CarError, InvalidInput, PeerRefused, PeerUnavailable
from executor.protocol.cid import DAG_PB, RAW, Cid
from tests.chain_nodes import wait_for
from tests.kubo_daemon import program, start
from tests.raw_server import RawServer, drip, flood, head, send, silent

MIB = 2**20
LIMITS = TreeLimits(10**9)
ROOT = Cid.of(RAW, b"content")
WHOLE = {"report.txt": b"ok\n", "data/0.bin": bytes(range(256)) * 12_000, "data/1.bin": b""}


@pytest.fixture
def daemon(kubo):
    with Kubo(kubo.api) as client:
        yield client


class Offline:
    """A daemon that asks no peers, as a source."""

    def __init__(self, client):
        self._client = client

    def get_car(self, cid):
        return self._client.get_car(cid, offline=True)


def patience(seconds=20.0):
    return Patience(time.time() + seconds, pause=lambda wanted: time.sleep(min(wanted, 0.01)))


def made(files):
    store = MemoryBlocks()
    return store, import_listing(store, files, LIMITS)


def random_files(size):
    return {"noise.bin": os.urandom(size)}


def test_a_current_daemon_is_fit_and_says_who_it_is(daemon):
    facts = daemon.facts()

    assert facts.problem == ""
    assert facts.peer_id.startswith("12D3Koo")
    assert facts.addresses[0].startswith("/ip4/127.0.0.1/tcp/")


@pytest.mark.parametrize("version", ["0.29.0", "0.8.0-rc1", "", "none"])
def test_a_daemon_that_is_too_old_is_named_with_what_to_do(version):
    assert "install 0.30.0 or newer" in KuboFacts(version, "", ()).problem


def test_what_is_published_is_kept_and_comes_back_whole(daemon):
    store, root = made(WHOLE)

    daemon.publish(store, root)
    again = MemoryBlocks()
    moved = fetch_dag(Offline(daemon), again, root, max_bytes=10 * MIB, patience=patience())

    assert daemon.is_pinned(root)
    assert missing(again, root) == []
    assert moved.blocks == len(store)


def test_publishing_again_changes_nothing_and_unpinning_twice_neither(daemon):
    store, root = made({"a": b"published twice"})
    daemon.publish(store, root)
    daemon.publish(store, root)
    assert daemon.is_pinned(root)

    daemon.unpin(root)
    daemon.unpin(root)

    assert not daemon.is_pinned(root)


def test_what_kubo_added_itself_comes_here(kubo, daemon, tmp_path):
    (tmp_path / "file").write_bytes(os.urandom(3 * MIB))
    root = Cid.parse(kubo.run("add", "-Q", str(tmp_path / "file")))
    store = MemoryBlocks()

    fetch_dag(Offline(daemon), store, root, max_bytes=10 * MIB, patience=patience())

    assert daemon.has(root)
    assert missing(store, root) == []


def test_a_large_dag_is_published_in_constant_memory_and_comes_back(daemon, tmp_path):
    store, root = made(random_files(64 * MIB))
    again = BlockStore(tmp_path)
    tracemalloc.start()
    try:
        daemon.publish(store, root)
        given = tracemalloc.get_traced_memory()[1]
        fetch_dag(Offline(daemon), again, root, max_bytes=70 * MIB, patience=patience(120))
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert missing(again, root, verify=True) == []
    assert given < 8 * MIB
    assert taken < 32 * MIB  # a batch that is stored, and the next one


def test_a_daemon_that_lacks_a_block_is_noticed_by_what_does_not_come(kubo, daemon):
    """It says 200 and ends the stream between two blocks; why stands in a trailer, which the client does not show."""
    store, root = made({name: os.urandom(40_000) for name in ("a", "b", "c")})
    lost = resolve(store, root, "b")
    for cid in store:
        if cid != lost:
            kubo.run("block", "put", f"--cid-codec={'raw' if cid.codec == RAW else 'dag-pb'}", data=store.get(cid))
    again = MemoryBlocks()

    with pytest.raises((PeerUnavailable, PeerRefused)):
        fetch_dag(Offline(daemon), again, root, max_bytes=MIB, patience=patience(3))

    assert root in set(again)
    assert lost in missing(again, root)


def test_absent_content_is_refused_where_nobody_is_asked_and_given_up_where_nobody_answers(kubo):
    absent = Cid.of(RAW, os.urandom(32))
    with Kubo(kubo.api, silence_seconds=0.5) as client:
        assert not client.has(absent)
        with pytest.raises(PeerRefused) as refused:
            fetch_dag(Offline(client), MemoryBlocks(), absent, max_bytes=MIB, patience=patience())
        with pytest.raises(PeerUnavailable):
            fetch_dag(client, MemoryBlocks(), absent, max_bytes=MIB, patience=patience(2))

    assert refused.value.status == 404


def test_a_setting_is_read_and_one_that_there_is_not_is_none(daemon):
    assert daemon.setting("Addresses.Gateway").startswith("/ip4/127.0.0.1/")
    assert daemon.setting("No.Such.Setting") is None


def test_a_daemon_without_routing_says_that_it_asks_nobody_for_providers(daemon):
    with pytest.raises(PeerRefused, match=r"asks nobody: its Routing\.Type is none"):
        daemon.providers(ROOT, 20)


def test_two_daemons_that_are_peers_exchange_what_one_of_them_has(kubo, second_kubo):
    store, root = made(random_files(3 * MIB))
    with Kubo(kubo.api) as first, Kubo(second_kubo.api) as second:
        first.publish(store, root)
        address = next(item for item in first.facts().addresses if "/p2p/" in item)
        second.peer_with(address)
        wait_for(lambda: first.facts().peer_id in second.peers(), 20, "they are peers")
        again = MemoryBlocks()

        fetch_dag(second, again, root, max_bytes=10 * MIB, patience=patience())

        assert missing(again, root) == []
        assert not second.is_pinned(root)


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def publish(client):
    store = MemoryBlocks()
    import_bytes(store, b"content")
    client.publish(store, ROOT)


def export(client):
    fetch_dag(client, MemoryBlocks(), ROOT, max_bytes=MIB, patience=patience(3))


def answer(*rows, status="200 OK"):
    return send(head(status, Content_Type="application/json"), *(json.dumps(row).encode() + b"\n" for row in rows))


def car_of(content):
    blocks = MemoryBlocks()
    return b"".join(export_car(blocks, import_bytes(blocks, content)))


def provider(name):
    return {"Type": 4, "Responses": [{"ID": name, "Addrs": []}]}


def imported(root=ROOT, problem=""):
    return {"Root": {"Cid": {"/": str(root)}, "PinErrorMsg": problem}}


def chunked(row):
    """A row as Kubo sends it, at once."""
    line = json.dumps(row).encode() + b"\n"
    return b"%x\r\n%s\r\n" % (len(line), line)


#: what a search for providers answers with -> what is found of it, and whether the time ran out
SEARCHES = {
    "three, and the end": ([answer(*map(provider, "abc"))], Providers(("a", "b", "c"))),
    "rows of another kind": ([answer({"Type": 1, "ID": "x", "Responses": None}, provider("a"))], Providers(("a",))),
    "one again and again": ([answer(*map(provider, "aaab"))], Providers(("a", "b"))),
    "two, and silence": (
        [send(head(Transfer_Encoding="chunked"), *map(chunked, map(provider, "ab"))), silent],
        Providers(("a", "b"), is_cut=True),
    ),
    "silence": ([silent], Providers((), is_cut=True)),
    "2500 of them": (
        [answer(*(provider(f"{number}") for number in range(2500)))],
        Providers(tuple(map(str, range(20)))),
    ),
}


@pytest.mark.parametrize("row", SEARCHES)
def test_a_search_for_providers_is_bounded_in_number_and_time(row):
    steps, found = SEARCHES[row]

    def script(connection, stopping):
        for step in steps:
            step(connection, stopping)

    with RawServer(script) as server, Kubo(server.url) as client:
        assert client.providers(ROOT, 20, seconds=1) == found
    assert "num-providers=20" in server.calls[-1]


OTHER = Cid.of(RAW, b"other")
KEPT = {"Keys": {str(ROOT): {"Type": "recursive"}}}
FAULTS = {
    "an error inside an import that began well": (
        publish,
        [answer({"Stats": {"BlockCount": 1}}, {"Message": "disk\nis full", "Code": 0, "Type": "error"})],
        PeerRefused,
        "disk is full",
    ),
    "a pin that fails within 200": (publish, [answer(imported(problem="no space"))], PeerRefused, "does not pin"),
    "another root": (publish, [answer(imported(OTHER))], PeerRefused, "took another root"),
    "no root at all": (publish, [answer({"Stats": {"BlockCount": 1}})], PeerRefused, "took another root"),
    "a root that is no CID": (publish, [answer({"Root": {"Cid": {"/": "x"}}})], PeerRefused, "another root"),
    "taken and not kept": (publish, [answer(imported()), answer({"Keys": {}})], PeerRefused, "does not keep it"),
    "an error of the daemon": (
        publish,
        [answer({"Message": "repo is locked", "Code": 0, "Type": "error"}, status="500 Internal Server Error")],
        PeerRefused,
        "repo is locked",
    ),
    "pins that are a number": (lambda client: client.is_pinned(ROOT), [answer({"Keys": 5})], PeerRefused, "as Kubo"),
    "pins that are a text": (
        lambda client: client.is_pinned(ROOT),
        [answer({"Keys": f"{ROOT}"})],
        PeerRefused,
        "as Kubo",
    ),
    "addresses that are an object": (lambda client: client.facts(), [answer({"Addresses": {"a": 1}})], PeerRefused, ""),
    "peers that are a number": (lambda client: client.peers(), [answer({"Peers": 7})], PeerRefused, "as Kubo"),
    "providers that are a number": (
        lambda client: client.providers(ROOT, 20),
        [answer({"Type": 4, "Responses": 7})],
        PeerRefused,
        "as Kubo",
    ),
    "providers that are numbers": (
        lambda client: client.providers(ROOT, 20),
        [answer({"Type": 4, "Responses": [7]})],
        PeerRefused,
        "as Kubo",
    ),
    "an answer that is no JSON": (publish, [send(head(), b"<html>")], PeerRefused, "RPC API of Kubo"),
    "an answer that is a list": (publish, [send(head(), b"[1]\n")], PeerRefused, "answer as Kubo does"),
    "deep JSON": (publish, [send(head(), b"[" * 100_000)], PeerRefused, "JSON"),
    "an error text that is deep JSON": (publish, [send(head("500 Error"), b"[" * 100_000)], PeerUnavailable, "500"),
    "a chunk of a negative size": (
        export,
        [send(head(Transfer_Encoding="chunked"), b"-5\r\nabcde\r\n")],
        PeerRefused,
        "HTTP",
    ),
    "an error text in a chunk of a negative size": (
        publish,
        [send(head("500 Error", Transfer_Encoding="chunked"), b"-5\r\nabcde\r\n")],
        PeerRefused,
        "HTTP",
    ),
    "an answer without end": (publish, [flood(head(), b" " * 65536)], PeerRefused, "more than 1048576 bytes"),
    "rows without end": (publish, [flood(head(), b"{}\n" * 1000)], PeerRefused, "more than 10000 rows"),
    "an error text without end": (
        publish,
        [flood(head("500 Internal Server Error"), b" " * 65536)],
        PeerUnavailable,
        "",
    ),
    "a gateway's refusal": (publish, [send(head("403 Forbidden"), b"no")], PeerRefused, "RPC API of Kubo"),
    "bad gateway": (publish, [send(head("502 Bad Gateway"), b"")], PeerUnavailable, "502"),
    "a redirect": (
        publish,
        [send(head("307 Temporary Redirect", Location="http://192.0.2.1/"))],
        PeerRefused,
        "redirects",
    ),
    "compression": (
        publish,
        [send(head(Content_Encoding="gzip"), gzip.compress(b"{}"))],
        PeerRefused,
        "compresses",
    ),
    "silence": (publish, [silent], PeerUnavailable, "Timeout"),
    "silence after the head": (export, [lambda c, s: (c.sendall(head()), s.wait(60))], PeerUnavailable, ""),
    "a head that drips": (export, [drip(b"H")], PeerUnavailable, ""),
    "headers without end": (export, [flood(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 1000)], PeerUnavailable, ""),
    "closed at once": (export, [send()], PeerUnavailable, ""),
    "an empty export": (export, [send(head())], PeerUnavailable, ""),
    "a CAR that is cut": (export, [send(head(), car_of(b"content")[:-3])], PeerUnavailable, ""),
    "a CAR of something else": (export, [send(head(), car_of(b"other"))], CarError, "asked for"),
    "a CAR with a wrong block": (export, [send(head(), car_of(b"content")[:-1] + b"!")], CarError, "hash"),
    "not here": (
        export,
        [answer({"Message": "ipld: could not find it", "Code": 0, "Type": "error"}, status="500 Error")],
        PeerRefused,
        "could not find",
    ),
}


@pytest.mark.parametrize(("act", "scripts", "error", "words"), FAULTS.values(), ids=FAULTS)
def test_a_daemon_that_fails_or_lies_is_a_clear_error_within_its_budget(act, scripts, error, words):
    before = descriptors()
    began = time.monotonic()
    with RawServer(*scripts) as server:
        client = Kubo(server.url, silence_seconds=0.3, head_seconds=1)
        with pytest.raises(error) as caught:
            act(client)
        client.close()

    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert time.monotonic() - began < 15
    wait_for(lambda: descriptors() <= before, 10, "the descriptors are closed")


def test_a_daemon_that_is_not_there_is_unavailable():
    with Kubo("http://127.0.0.1:1") as client, pytest.raises(PeerUnavailable, match="does not answer"):
        client.facts()


@pytest.mark.parametrize(
    "address",
    [
        "",
        "127.0.0.1:5001",
        "http://127.0.0.1",
        "https://127.0.0.1:5001",
        "http://127.0.0.1:99999",
        "ftp://h:1",
        "http://h:1/api",
        "http://[::1:5001",
        "http://[::1%25lo]:5001",
        "http://my_kubo:5001",
        "http://a..b:5001",
        "http://-:5001",
        f"http://{'a' * 64}:5001",
        f"http://{'a.' * 126}aa:5001",
        "http://127.1:5001",
        "http://999.1.1.1:5001",
    ],
)
def test_an_address_that_is_none_is_named(address):
    with pytest.raises(InvalidInput, match="RPC API"):
        Kubo(address)


@pytest.mark.parametrize(
    "address", ["http://localhost:5001/", "http://127.0.0.1:5001", "http://[::1]:5001", "http://a-1.b:5001"]
)
def test_usual_addresses_are_taken(address):
    Kubo(address).close()


NAMES = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/\0"), min_size=1, max_size=20
).filter(lambda name: name not in (".", "..") and len(name.encode()) < 200)
SIZES = st.one_of(st.integers(0, 300), st.sampled_from([MIB - 1, MIB, MIB + 1, 2 * MIB]))
TREES = st.recursive(SIZES, lambda inner: st.dictionaries(NAMES, inner, max_size=6), max_leaves=12)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(tree=st.dictionaries(NAMES, TREES, min_size=1, max_size=6), seed=st.integers(0, 2**32))
def test_the_cid_of_any_tree_is_kubos(kubo, tmp_path_factory, tree, seed):
    folder = tmp_path_factory.mktemp("tree")
    _write(folder, tree, seed)
    arguments = ("--hidden", "--only-hash", "-rQ", str(folder))

    assert str(import_tree(MemoryBlocks(), folder, LIMITS)) == kubo.run("add", *arguments)


@settings(max_examples=8, suppress_health_check=list(HealthCheck))
@given(count=st.integers(900, 1200), length=st.integers(150, 220), seed=st.integers(0, 2**32))
@example(count=6000, length=20, seed=0)
def test_the_cid_of_any_directory_around_the_size_where_it_is_sharded_is_kubos(
    kubo, tmp_path_factory, count, length, seed
):
    folder = tmp_path_factory.mktemp("large")
    for number in range(count):
        name = hashlib.shake_256(f"{seed} {number}".encode()).hexdigest(length // 2)
        (folder / name).write_bytes(name[: number % 3].encode())

    assert str(import_tree(MemoryBlocks(), folder, LIMITS)) == kubo.run("add", "--only-hash", "-rQ", str(folder))


OLD_SIZES = st.one_of(st.integers(0, 300), st.sampled_from([2**18 - 1, 2**18, 2**18 + 1, 3 * 2**18]))
OLD_TREES = st.recursive(OLD_SIZES, lambda inner: st.dictionaries(NAMES, inner, max_size=6), max_leaves=12)


@pytest.fixture(scope="session")
def old_kubo(tmp_path_factory):
    """A daemon that imports by the older profile; how that sizes directories is no option of `ipfs add`."""
    daemon = start(program(), tmp_path_factory.mktemp("oldkubo"), profile="unixfs-v0-2015")
    yield daemon
    daemon.stop()


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(tree=st.dictionaries(NAMES, OLD_TREES, min_size=1, max_size=6), seed=st.integers(0, 2**32))
def test_the_older_cid_of_any_tree_is_kubos(old_kubo, tmp_path_factory, tree, seed):
    folder = tmp_path_factory.mktemp("tree")
    _write(folder, tree, seed)
    store = MemoryBlocks()

    root = import_tree(store, folder, LIMITS, V0_2015)

    assert root.old_text == old_kubo.run("add", "--hidden", "--only-hash", "-rQ", str(folder))
    assert all(cid.codec == DAG_PB for cid in store)


@pytest.mark.parametrize("size", [0, 174 * 2**18, 174 * 2**18 + 1], ids=["empty", "widest node", "one byte more"])
def test_the_older_cid_of_a_file_is_kubos(old_kubo, tmp_path, size):
    (tmp_path / "file").write_bytes(bytes(size))

    made = import_file(MemoryBlocks(), tmp_path / "file", size, V0_2015)

    assert made.old_text == old_kubo.run("add", "--only-hash", "-Q", str(tmp_path / "file"))


#: name -> (entries, length of a name): 256 KiB of names and CIDs, and beside
DIRECTORIES = {
    "empty": (0, 1),
    "at the threshold": (4096, 30),
    "one entry above": (4097, 30),
    "short names, a block of more than 256 KiB": (6000, 8),
    "shards of shards": (20_000, 8),
}


@pytest.mark.parametrize("name", DIRECTORIES)
def test_the_older_cid_of_a_large_directory_is_kubos_and_so_are_its_blocks(old_kubo, tmp_path, name):
    count, length = DIRECTORIES[name]
    names = [f"{i:0{length}}" for i in range(count)]
    (tmp_path / "folder" / "below").mkdir(parents=True)
    for entry in names:
        (tmp_path / "folder" / "below" / entry).touch()
    store = MemoryBlocks()
    root = import_tree(store, tmp_path / "folder", LIMITS, V0_2015)

    assert root.old_text == old_kubo.run("add", "--pin=false", "-rQ", str(tmp_path / "folder"))

    theirs = MemoryBlocks()
    with Kubo(old_kubo.api) as client:
        fetch_dag(Offline(client), theirs, Cid.parse_any(root.old_text), max_bytes=2**26, patience=patience())
    assert set(theirs) == set(store)
    assert [entry.name for entry in list_dir(theirs, resolve(theirs, root, "below"))] == names


def test_content_of_the_older_profile_goes_to_a_daemon_and_comes_back(daemon, tmp_path):
    (tmp_path / "a").write_bytes(os.urandom(3 * 2**18))
    store, theirs = MemoryBlocks(), MemoryBlocks()
    root = import_tree(store, tmp_path, LIMITS, V0_2015)

    daemon.publish(store, root)
    fetch_dag(Offline(daemon), theirs, root, max_bytes=MIB * 4, patience=patience())

    assert set(theirs) == set(store)


def _write(folder, tree, seed):
    for name, value in tree.items():
        if isinstance(value, dict):
            (folder / name).mkdir()
            _write(folder / name, value, seed + 1)
        else:
            (folder / name).write_bytes((seed.to_bytes(8, "big") * (value // 8 + 1))[:value])
