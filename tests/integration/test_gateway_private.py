"""What a gateway must not show: to whoever asks, it looks exactly like what is not here."""

import os
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from executor.content.blockstore import BlockStore
from executor.content.gateway import Gateway
from executor.content.roots import RootSet
from executor.content.unixfs import import_bytes
from executor.protocol.cid import RAW, Cid
from tests.chain_nodes import wait_for
from tests.content_kit import flip
from tests.gateway_kit import CAR_TYPE, PLACES, RAW_TYPE, cids_of, directory, file_of, leaf, served, sharded

ABSENT = Cid.of(RAW, b"nobody has this")


@pytest.fixture(scope="module", params=PLACES)
def place(request, tmp_path_factory):
    with PLACES[request.param](tmp_path_factory.mktemp("gateway") / request.param) as made, made.http:
        yield made


@pytest.fixture(scope="module")
def quarantine(tmp_path_factory):
    return BlockStore(tmp_path_factory.mktemp("quarantine"))


def private_input(place, _):
    root = directory(place.store, a=leaf(place.store, b"private input"))
    place.roots.keep(root, "upload:0xabc:private", None)
    return root


def below_a_private_input(place, quarantine):
    return leaf(place.store, b"private input") if private_input(place, quarantine) else None


def input_of_a_job(place, _):
    root = file_of(place.store, b"input ", b"of a job")[0]
    place.roots.keep(root, f"job:0x{'ab' * 32}", place.now() + 3600)
    return root


def released_and_not_on_chain(place, _):
    root = directory(place.store, stdout=leaf(place.store, b"a result"))
    place.roots.keep(root, f"job:0x{'cd' * 32}", place.now() + 14 * 86400)
    return root


def arriving(place, _):
    root = directory(place.store, a=leaf(place.store, b"on its way"))
    place.roots.keep(root, "arriving", place.now() + 3600)
    return root


def kept_by_nobody(place, _):
    return leaf(place.store, b"a stray block")


def in_quarantine(_, quarantine):
    return directory(quarantine, a=leaf(quarantine, b"held"))


def a_file_of_the_node_itself(place, _):
    return Cid.of(RAW, (place.store.root / "roots.sqlite3").read_bytes())


def no_longer_published(place, _):
    root = directory(place.store, a=leaf(place.store, b"was public"))
    place.roots.publish(root, "test")
    place.roots.drop(root, "test")
    return root


def past_its_time(place, _):
    root = directory(place.store, a=leaf(place.store, b"old"))
    place.roots.publish(root, "test", place.now() - 1)
    return root


def published_without_all_its_blocks(place, quarantine):
    """The publishing failed."""
    root = directory(place.store, a=leaf(quarantine, b"elsewhere"))
    with pytest.raises(Exception, match="is not here"):
        place.roots.publish(root, "test")
    return root


def public_and_damaged(place, _):
    root = leaf(place.store, b"damaged " * 100)
    place.roots.publish(root, "test")
    flip(place.store, root)
    return root


def the_parent_of_what_is_public(place, _):
    child = leaf(place.store, b"a public child")
    place.roots.publish(child, "test")
    return directory(place.store, a=child)


PRIVATE = [
    private_input,
    below_a_private_input,
    input_of_a_job,
    released_and_not_on_chain,
    arriving,
    kept_by_nobody,
    in_quarantine,
    a_file_of_the_node_itself,
    no_longer_published,
    past_its_time,
    published_without_all_its_blocks,
    public_and_damaged,
    the_parent_of_what_is_public,
]

#: what is asked -> (path and query behind the CID, headers)
ASKED = {
    "a block": ("?format=raw", {}),
    "a block by Accept": ("", {"Accept": RAW_TYPE}),
    "a CAR": ("?format=car", {}),
    "a CAR with repeats": ("", {"Accept": f"{CAR_TYPE};dups=y"}),
    "one block as CAR": ("?format=car&dag-scope=block", {}),
    "some bytes": ("?format=car&entity-bytes=0:5", {}),
    "bytes behind the end": ("?format=car&entity-bytes=9999:*", {}),
    "a range": ("?format=raw", {"Range": "bytes=0-1"}),
    "below it": ("/a?format=car", {}),
    "far below it": ("/a/b/c?format=car", {}),
    "whether it is new": ("?format=raw", {"If_None_Match": "*"}),
    "only what is here": ("?format=raw", {"Cache_Control": "only-if-cached"}),
}


def answer(place, cid, rest, headers, method):
    response = place.get(f"/ipfs/{cid}{rest}", method, **headers)
    return response.status_code, {k: v for k, v in response.headers.items() if k != "date"}, response.content


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("make", PRIVATE)
def test_what_is_private_answers_exactly_as_what_is_absent(place, quarantine, make, method):
    for what, (rest, headers) in ASKED.items():
        private = answer(place, make(place, quarantine), rest, headers, method)
        absent = answer(place, ABSENT, rest, headers, method)

        assert private == absent, what
        assert private[0] == (412 if what == "only what is here" else 404)


#: paths below a public root that have no answer: nothing there, below a file, gone from the set of what is public
def gone(place, root, child):
    with closing(sqlite3.connect(place.store.root / "roots.sqlite3")) as db, db:
        db.execute("DELETE FROM public_blocks WHERE cid = ? AND root = ?", (child.binary, root.binary))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("is_sharded", [False, True], ids=["a directory", "a sharded directory"])
def test_a_path_that_leaves_what_is_public_answers_exactly_as_what_is_absent(place, method, is_sharded):
    file = leaf(place.store, b"leaves")
    inner = directory(place.store, file=file)
    entries = {"inner": inner, **{f"n{number}": file for number in range(40)}}
    root = sharded(place.store, entries) if is_sharded else directory(place.store, **entries)
    place.roots.publish(root, "test")
    assert place.get(f"/ipfs/{root}/inner/file?format=car", method).status_code == 200

    gone(place, root, inner)

    absent = answer(place, ABSENT, "/inner/file?format=car", {}, method)
    for path in ("inner/file", "inner", "nothing", "n1/below"):
        assert answer(place, root, f"/{path}?format=car", {}, method) == absent
    assert answer(place, inner, "?format=raw", {}, method) == answer(place, ABSENT, "?format=raw", {}, method)


def test_a_download_that_comes_upon_what_is_not_public_is_cut_before_it(place):
    first, second = leaf(place.store, b"first"), leaf(place.store, b"second")
    root = directory(place.store, a=first, b=second)
    place.roots.publish(root, "test")
    gone(place, root, second)

    pieces = []
    with (
        pytest.raises(httpx.RemoteProtocolError),
        place.http.stream("GET", f"/ipfs/{root}?format=car") as response,
    ):
        pieces.extend(response.iter_raw())

    assert cids_of(b"".join(pieces)) == [root, first]


class WatchedStore(BlockStore):
    """A store that notes what is read."""

    def __init__(self, root):
        super().__init__(root)
        self.read = []

    def get(self, cid):
        self.read.append(cid)
        return super().get(cid)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_is_private_takes_the_same_steps_as_what_is_absent(tmp_path, method):
    store = WatchedStore(tmp_path)
    roots, looked = RootSet(store), []
    private = directory(store, a=leaf(store, b"private"))
    roots.keep(private, "upload", None)
    gateway = Gateway(store, roots, lambda: 0.0, lambda: looked.append(1))
    with served(gateway) as client:
        for cid in (private, ABSENT):
            for rest in ("?format=raw", "?format=car", "/a?format=car"):
                assert client.request(method, f"/ipfs/{cid}{rest}").status_code == 404
                assert looked == [1]
                assert store.read == []
                looked.clear()


def test_what_was_public_is_served_to_the_second_that_it_is_kept(place):
    root = directory(place.store, a=leaf(place.store, f"for a while at the {place.name}".encode()))
    place.roots.publish(root, "test", place.now() + 30 * 86400)
    place.move_on(30 * 86400 - 60)
    assert place.get(f"/ipfs/{root}?format=raw").status_code == 200

    place.move_on(61)

    assert place.get(f"/ipfs/{root}?format=raw").status_code == 404


class Now:
    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        self.seconds += 1.0
        return self.seconds


@pytest.fixture
def chain_of_directories(tmp_path):
    store = BlockStore(tmp_path)
    roots = RootSet(store)
    root = leaf(store, b"end")
    for _ in range(60):
        root = directory(store, a=root)
    roots.publish(root, "test")
    return store, roots, root


def test_a_path_that_takes_too_long_is_given_up(chain_of_directories):
    store, roots, root = chain_of_directories
    with served(Gateway(store, roots, lambda: 0.0, monotonic=Now())) as client:
        response = client.get(f"/ipfs/{root}{'/a' * 60}?format=car")

        assert (response.status_code, response.headers["retry-after"]) == (504, "5")
        assert client.get(f"/ipfs/{root}/a/a?format=car&dag-scope=block").status_code == 200


class Slow(BlockStore):
    """Gives no block of `held` until `go` is set."""

    def __init__(self, root, held):
        super().__init__(root)
        self.held, self.go, self.waiting = held, threading.Event(), threading.Event()

    def get(self, cid):
        if cid == self.held:
            self.waiting.set()
            assert self.go.wait(30)
        return super().get(cid)


def test_a_path_that_takes_long_keeps_other_paths_waiting_for_so_long_and_blocks_not_at_all(chain_of_directories):
    store, roots, root = chain_of_directories
    other = directory(store, b=leaf(store, b"x"))
    roots.publish(other, "test")
    slow = Slow(store.root, root)
    gateway = Gateway(slow, roots, lambda: 0.0, paths=1, head_seconds=0.3)
    with served(gateway) as client, ThreadPoolExecutor(1) as pool:
        try:
            first = pool.submit(client.get, f"/ipfs/{root}/a?format=car&dag-scope=block", timeout=30)
            assert slow.waiting.wait(10)

            assert client.get(f"/ipfs/{other}?format=raw").status_code == 200
            assert client.get(f"/ipfs/{other}?format=car").status_code == 200
            assert client.get(f"/ipfs/{other}/b?format=car", timeout=20).status_code == 504
        finally:
            slow.go.set()
        assert first.result(20).status_code == 504
        assert client.get(f"/ipfs/{other}/b?format=car").status_code == 200


def test_a_path_of_more_names_than_anybody_needs_is_refused(chain_of_directories):
    store, roots, root = chain_of_directories
    with served(Gateway(store, roots, lambda: 0.0)) as client:
        assert client.get(f"/ipfs/{root}{'/a' * 65}?format=car").status_code == 400


def test_more_downloads_than_a_gateway_holds_are_told_to_come_again(tmp_path):
    store = BlockStore(tmp_path)
    roots = RootSet(store)
    root = leaf(store, b"x")
    roots.publish(root, "test")
    with served(Gateway(store, roots, lambda: 0.0, streams=0)) as client:
        response = client.get(f"/ipfs/{root}?format=car")

        assert (response.status_code, response.headers["retry-after"]) == (429, "5")
        assert client.get(f"/ipfs/{root}?format=raw").status_code == 200


def test_a_download_gives_its_place_back(tmp_path):
    store = BlockStore(tmp_path)
    roots = RootSet(store)
    root, lost = leaf(store, b"x"), leaf(store, b"lost")
    broken = directory(store, a=lost)
    for cid in (root, broken):
        roots.publish(cid, "test")
    store.delete(lost)
    with served(Gateway(store, roots, lambda: 0.0, streams=1)) as client:
        for _ in range(3):
            assert client.get(f"/ipfs/{root}?format=car").status_code == 200
            with pytest.raises(httpx.RemoteProtocolError):
                client.get(f"/ipfs/{broken}?format=car")


def test_a_store_that_fails_is_said_without_its_reasons(tmp_path):
    store = BlockStore(tmp_path)
    roots = RootSet(store)
    root = leaf(store, b"x")
    roots.publish(root, "test")
    with served(Gateway(store, roots, lambda: 0.0)) as client:
        (tmp_path / "roots.sqlite3").write_bytes(b"this is no database" * 100)

        response = client.get(f"/ipfs/{root}?format=raw")

        assert response.status_code == 500
        assert str(tmp_path) not in response.text


def open_files():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_clients_that_go_away_leave_nothing_open_and_no_place_taken(tmp_path):
    store = BlockStore(tmp_path)
    roots = RootSet(store)
    root = import_bytes(store, os.urandom(2**20) * 40)
    roots.publish(root, "test")
    with served(Gateway(store, roots, lambda: 0.0, streams=2)) as client:
        client.get(f"/ipfs/{root}?format=car&dag-scope=block")
        before = open_files()
        for _ in range(30):
            wait_for(lambda: status_of_download(client, root) == 200, 20, "a place")
        wait_for(lambda: open_files() <= before, 20, "closed files")


def status_of_download(client, root):
    """Begin a download and go away."""
    with client.stream("GET", f"/ipfs/{root}?format=car", headers={"Connection": "close"}) as response:
        if response.status_code == 200:
            next(response.iter_raw())
        return response.status_code
