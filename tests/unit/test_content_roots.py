"""Kept and public roots, and garbage collection."""

import os
import sqlite3
import threading

import pytest
import structlog
from structlog.testing import capture_logs

from executor.content.blocks import MemoryBlocks
from executor.content.blockstore import BlockStore
from executor.content.gc import Collected, collect_garbage, collectable, tell_holes
from executor.content.roots import Root, RootSet
from executor.content.unixfs import TreeLimits, import_bytes, import_listing, resolve, walk
from executor.errors import BlockMissing, ContentError, DiskFull
from executor.protocol.cid import RAW, Cid

NOW = 1_000_000.0
GRACE = 100.0
LIMITS = TreeLimits(1_000_000)


@pytest.fixture
def store(tmp_path):
    return BlockStore(tmp_path / "store")


@pytest.fixture
def roots(store):
    return RootSet(store)


def tree(store, **files):
    return import_listing(store, {name: text.encode() for name, text in files.items()}, LIMITS)


def set_age(store, seconds, cids=None):
    for cid in store if cids is None else cids:
        [path] = store.root.rglob(str(cid))
        os.utime(path, (NOW - seconds, NOW - seconds))


def test_nothing_is_public_by_itself(store, roots):
    root = tree(store, a="1")
    roots.keep(root, "job")

    assert not any(roots.is_public(cid, NOW) for cid in store)


def test_a_published_dag_is_public_to_its_last_block_and_nothing_else_is(store, roots):
    root = tree(store, a="1", b="2")
    other = tree(store, c="3")

    assert roots.publish(root, "job") == 3

    assert all(roots.is_public(cid, NOW) for cid in walk(store, root))
    assert not any(roots.is_public(cid, NOW) for cid in walk(store, other))


def test_publishing_a_part_does_not_publish_the_whole(store, roots):
    whole = tree(store, a="1", secret="2")

    roots.publish(Cid.of(RAW, b"1"), "job")

    assert roots.is_public(Cid.of(RAW, b"1"), NOW)
    assert not roots.is_public(whole, NOW)
    assert not roots.is_public(Cid.of(RAW, b"2"), NOW)


def test_a_dag_that_is_not_complete_cannot_be_published(store, roots):
    root = tree(store, a="1", b="2")
    store.delete(Cid.of(RAW, b"2"))

    with pytest.raises(BlockMissing, match=str(Cid.of(RAW, b"2"))):
        roots.publish(root, "job")

    assert not roots.is_public(root, NOW)
    assert roots.live(NOW) == []


def test_a_dag_is_public_until_it_expires(store, roots):
    root = tree(store, a="1")
    roots.publish(root, "job", expires_at=NOW + 1)

    assert roots.is_public(root, NOW)
    assert not roots.is_public(root, NOW + 1)
    assert roots.live(NOW) == [Root(root, "job", public=True, expires_at=NOW + 1)]
    assert roots.live(NOW + 1) == []


def test_a_block_that_two_public_dags_share_stays_public_with_either(store, roots):
    one, two = tree(store, a="shared", b="1"), tree(store, a="shared", c="2")
    roots.publish(one, "job")
    roots.publish(two, "job")

    assert roots.drop(one, "job")

    assert roots.is_public(Cid.of(RAW, b"shared"), NOW)
    assert not roots.is_public(Cid.of(RAW, b"1"), NOW)


def test_a_dag_that_is_public_under_two_labels_stays_public_with_either(store, roots):
    root = tree(store, a="1")
    roots.publish(root, "one")
    roots.publish(root, "two")

    assert roots.drop(root, "one")
    assert roots.is_public(root, NOW)
    assert roots.drop(root, "two")
    assert not roots.is_public(root, NOW)
    assert not roots.drop(root, "two")


def test_keeping_privately_under_another_label_does_not_hide_a_public_dag(store, roots):
    root = tree(store, a="1")
    roots.publish(root, "one")
    roots.keep(root, "two")

    assert roots.is_public(root, NOW)


def test_keeping_privately_under_the_same_label_ends_its_publication(store, roots):
    root = tree(store, a="1")
    roots.publish(root, "one")
    roots.keep(root, "one")

    assert not roots.is_public(root, NOW)


def test_a_private_label_does_not_prolong_a_publication_that_expired(store, roots):
    root = tree(store, a="1")
    roots.publish(root, "one", expires_at=NOW)
    roots.keep(root, "two")

    assert not roots.is_public(root, NOW)


def test_keeping_again_changes_the_expiry(store, roots):
    root = tree(store, a="1")
    roots.keep(root, "one", expires_at=NOW)
    roots.keep(root, "one", expires_at=NOW + 5)

    assert [kept.expires_at for kept in roots.live(NOW)] == [NOW + 5]


def test_a_damaged_file_of_roots_is_said_with_what_to_do(store, roots):
    (store.root / "roots.sqlite3").write_bytes(b"not a database" * 100)

    with pytest.raises(ContentError, match=r"roots\.sqlite3.* is damaged\. Stop the program, move this file"):
        roots.live(NOW)

    for path in store.root.glob("roots.sqlite3*"):
        path.rename(path.with_name(f"away-{path.name}"))
    assert RootSet(BlockStore(store.root)).live(NOW) == []


def test_a_file_of_roots_without_room_is_a_full_disk(store, roots, monkeypatch):
    class Full(sqlite3.Connection):
        """SQLite's own limit of pages: the error is that of a full disk."""

        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            self.execute("PRAGMA max_page_count=1")

    real = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda path, **options: real(path, factory=Full, **options))

    with pytest.raises(DiskFull, match=r"roots\.sqlite3"):
        for number in range(10_000):
            roots.keep(Cid.of(RAW, b"%d" % number), "x" * 1000)


def test_other_processes_and_threads_see_the_same_roots(store, roots):
    root = tree(store, a="1")
    roots.publish(root, "one")

    assert RootSet(BlockStore(store.root)).is_public(root, NOW)
    with sqlite3.connect(store.root / "roots.sqlite3") as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    db.close()


def test_what_no_root_reaches_is_collected(store, roots):
    kept = tree(store, a="1", b="2")
    garbage = tree(store, a="1", c="33")
    roots.keep(kept, "job")
    set_age(store, 2 * GRACE)
    expected = {Cid.of(RAW, b"33"), garbage}
    size = sum(store.stat(cid).size for cid in expected)

    assert collect_garbage(store, roots, NOW, GRACE) == Collected(blocks=2, bytes=size, roots=0, tmp_files=0)

    assert set(store) == set(walk(store, kept))


def test_new_blocks_are_not_collected(store, roots):
    tree(store, a="1")
    set_age(store, GRACE - 1)

    assert collect_garbage(store, roots, NOW, GRACE).blocks == 0


def test_an_expired_root_protects_nothing_and_is_forgotten(store, roots):
    roots.publish(tree(store, a="1"), "job", expires_at=NOW)
    set_age(store, 2 * GRACE)

    collected = collect_garbage(store, roots, NOW, GRACE)

    assert (collected.blocks, collected.roots) == (2, 1)
    assert list(store) == []


def test_the_part_of_a_dag_that_is_here_is_kept_while_the_rest_is_on_its_way(store, roots):
    whole = MemoryBlocks()
    root = import_listing(whole, {"a": b"1", "d/b": b"2", "d/c": b"3"}, LIMITS)
    store.put_many((cid, whole.get(cid)) for cid in whole if cid != Cid.of(RAW, b"3"))
    roots.keep(root, "upload")
    set_age(store, 2 * GRACE)

    assert collect_garbage(store, roots, NOW, GRACE).blocks == 0


def test_blocks_below_a_damaged_one_are_not_known_to_be_needed(store, roots):
    root = tree(store, a="1")
    [path] = store.root.rglob(str(root))
    path.chmod(0o600)
    path.write_bytes(b"damaged")
    roots.keep(root, "job")
    set_age(store, 2 * GRACE)

    assert collect_garbage(store, roots, NOW, GRACE).blocks == 1
    assert list(store) == []  # the damaged one was moved away when it was read


def lose(store, cid):
    """Damage a block on the disk."""
    [path] = (store.root / "blocks").rglob(str(cid))
    path.chmod(0o600)
    path.write_bytes(b"damaged")


def kept_whole(store, roots, label="job"):
    """A kept DAG that garbage collection has seen whole, and an old block that nothing keeps."""
    root = import_listing(store, {"d/a": b"1", "d/b": b"2", "c": b"3"}, LIMITS)
    roots.keep(root, label)
    collect_garbage(store, roots, NOW, GRACE)
    store.put(Cid.of(RAW, b"nobody's"), b"nobody's")
    set_age(store, 2 * GRACE)
    return root


@pytest.mark.parametrize("path", ["", "d"], ids=["its root", "a directory below"])
def test_nothing_is_removed_while_a_dag_that_was_whole_has_lost_an_inner_block(store, roots, path):
    root = kept_whole(store, roots)
    lost = resolve(store, root, path)
    others = set(store) - {lost}
    lose(store, lost)

    found = collect_garbage(store, roots, NOW, GRACE)

    assert (found.blocks, found.holes) == (0, (lost,))
    assert set(store) == others
    assert collectable(store, roots, NOW, GRACE).holes == (lost,)
    assert collect_garbage(store, roots, NOW, GRACE).holes == (lost,), "also when it is long gone"


def test_collection_goes_on_when_the_loss_is_mended_or_the_dag_is_dropped(store, roots):
    root = kept_whole(store, roots)
    block = store.get(root)
    lose(store, root)
    assert collect_garbage(store, roots, NOW, GRACE).holes

    store.put(root, block)
    assert collect_garbage(store, roots, NOW, GRACE).blocks == 1
    assert store.has(resolve(store, root, "d/a"))

    lose(store, root)
    roots.drop(root, "job")
    set_age(store, 2 * GRACE)
    assert collect_garbage(store, roots, NOW, GRACE).holes == ()
    assert list(store) == []


def test_what_a_public_dag_has_lost_hides_nothing_of_it_and_stops_nothing(store, roots):
    root = kept_whole(store, roots)
    roots.publish(root, "job")
    lose(store, root)

    found = collect_garbage(store, roots, NOW, GRACE)

    assert (found.blocks, found.holes) == (1, ())
    assert len(list(store)) == 4


def test_a_lost_file_hides_nothing(store, roots):
    root = kept_whole(store, roots)
    lose(store, Cid.of(RAW, b"3"))

    assert collect_garbage(store, roots, NOW, GRACE).holes == ()
    assert store.has(resolve(store, root, "d/a"))


def test_a_block_that_the_disk_does_not_give_is_a_loss_and_ends_no_collection(store, roots):
    root = kept_whole(store, roots)
    [path] = (store.root / "blocks").rglob(str(root))
    path.unlink()
    path.mkdir()

    assert collect_garbage(store, roots, NOW, GRACE).holes == (root,)


def test_abuse_an_upload_that_never_comes_whole_stops_no_collection(store, roots):
    root = kept_whole(store, roots)
    whole = MemoryBlocks()
    other = import_listing(whole, {"x/y": b"never sent"}, LIMITS)
    store.put(other, whole.get(other))
    roots.keep(other, "upload")
    set_age(store, 2 * GRACE)

    found = collect_garbage(store, roots, NOW, GRACE)

    assert (found.blocks, found.holes) == (1, ())
    assert store.has(other)
    assert roots.whole(NOW) == {root}


def test_a_loss_is_said_once(store, roots):
    holes = (Cid.of(RAW, b"1"),)
    with capture_logs() as said:
        known = tell_holes(structlog.get_logger(), holes, ())
        known = tell_holes(structlog.get_logger(), holes, known)
        known = tell_holes(structlog.get_logger(), (), known)
        tell_holes(structlog.get_logger(), holes, known)

    assert [entry["first"] for entry in said] == [str(holes[0])] * 2


class StoreWithEvent(BlockStore):
    """A block store in which something happens just before garbage collection shuts writers out."""

    event = None

    def locked(self, *, exclusive=False):
        if exclusive and self.event:
            event, self.event = self.event, None
            event()
        return super().locked(exclusive=exclusive)


def test_a_root_that_is_kept_while_collecting_is_seen(tmp_path):
    store = StoreWithEvent(tmp_path)
    roots = RootSet(store)
    root = tree(store, a="1")
    set_age(store, 2 * GRACE)
    store.event = lambda: roots.keep(root, "late")

    assert collect_garbage(store, roots, NOW, GRACE).blocks == 0
    assert store.event is None


#: what makes a block needed -> how; each time it is there already, and old
NEEDS = {
    "it is put again": lambda store, roots, cid: store.put(cid, b"needed"),
    "it is put in a group": lambda store, roots, cid: store.put_many([(cid, b"needed"), (Cid.of(RAW, b"2"), b"2")]),
    "it is kept": lambda store, roots, cid: roots.keep(cid, "job"),
    "it is published": lambda store, roots, cid: roots.publish(cid, "job"),
}


@pytest.mark.parametrize("what", NEEDS)
def test_whoever_needs_a_block_waits_while_collection_decides_on_it(store, roots, what):
    cid = import_bytes(store, b"needed")
    done = []

    def need():
        try:
            NEEDS[what](store, roots, cid)
        except BlockMissing:
            done.append("told that it is gone")
        else:
            done.append("needed")

    thread = threading.Thread(target=need)
    with store.locked(exclusive=True):  # as collection does, between its last look at the roots and its deletes
        thread.start()
        thread.join(0.2)
        assert done == []
        store.delete(cid)
    thread.join(30)

    if "put" in what:
        assert store.get(cid) == b"needed"
    assert done == ["told that it is gone" if what == "it is published" else "needed"]


def test_a_parent_that_arrives_while_collecting_protects_its_old_children(tmp_path):
    store = StoreWithEvent(tmp_path)
    roots = RootSet(store)
    root = tree(store, a="1", b="2")
    block = store.get(root)
    store.delete(root)
    roots.keep(root, "upload")
    set_age(store, 2 * GRACE)
    store.event = lambda: store.put(root, block)

    assert collect_garbage(store, roots, NOW, GRACE).blocks == 0


def test_a_block_that_others_remove_while_collecting_is_not_counted(tmp_path):
    store = StoreWithEvent(tmp_path)
    roots = RootSet(store)
    root = tree(store, a="1")
    set_age(store, 2 * GRACE)
    store.event = lambda: store.delete(root)

    assert collect_garbage(store, roots, NOW, GRACE).blocks == 1


def test_a_block_below_two_roots_is_followed_once(store, roots):
    one, two = tree(store, a="1"), import_listing(store, {"d/a": b"1"}, LIMITS)
    roots.keep(one, "job")
    roots.keep(two, "job")
    set_age(store, 2 * GRACE)

    assert collect_garbage(store, roots, NOW, GRACE).blocks == 0


def test_leftovers_of_killed_writers_are_collected(store, roots):
    leftover = store.root / "tmp" / "1-abc"
    leftover.touch()
    os.utime(leftover, (NOW - 2 * GRACE, NOW - 2 * GRACE))

    assert collect_garbage(store, roots, NOW, GRACE).tmp_files == 1


def test_until_when_a_root_is_public_is_the_latest_end_of_those_that_publish_it(store, roots):
    root, private = import_bytes(store, b"root"), import_bytes(store, b"private")
    roots.publish(root, "a", 100.0)
    roots.publish(root, "b", 200.0)
    roots.keep(root, "c", 300.0)
    roots.keep(private, "a", None)

    assert roots.public_until(root, 50.0) == 200.0
    assert roots.public_until(root, 250.0) is None
    assert roots.public_until(private, 50.0) is None
    roots.publish(root, "d", None)
    assert roots.public_until(root, 250.0) == float("inf")


def test_what_is_public_is_prolonged_without_a_walk_and_nothing_else_is(store, roots):
    root, private = import_bytes(store, b"root"), import_bytes(store, b"private")
    roots.publish(root, "a", 100.0)
    roots.keep(private, "a", None)
    store.delete(root)

    assert roots.prolong(root, "b", 200.0)
    assert roots.public_until(root, 50.0) == 200.0
    assert not roots.prolong(private, "b", 200.0)
    assert roots.live(50.0, private) == [Root(private, "a", public=False, expires_at=None)]


def test_one_look_at_what_is_public_sees_what_changes_meanwhile(store, roots):
    root, now = import_bytes(store, b"root"), 0.0
    with roots.public_view(lambda: now) as is_public:
        assert not is_public(root)
        roots.publish(root, "a", 100.0)
        assert is_public(root)
        now = 100.0
        assert not is_public(root)
        now = 0.0
        roots.drop(root, "a")
        assert not is_public(root)


def test_the_reasons_to_keep_one_root_can_be_asked_for_alone(store, roots):
    root, other = import_bytes(store, b"root"), import_bytes(store, b"other")
    roots.keep(root, "a", None)
    roots.keep(other, "b", None)

    assert [kept.label for kept in roots.live(0.0, root)] == ["a"]
    assert len(roots.live(0.0)) == 2


def test_what_is_private_under_a_label_is_shortened_and_nothing_else_is(store, roots):
    one, sooner, signed, public, other = (import_bytes(store, b"%d" % number) for number in range(5))
    roots.keep(one, "job")
    roots.keep(sooner, "job", 1500.0)
    roots.keep(signed, "job", 9000.0)
    roots.publish(public, "job", 9000.0)
    roots.keep(other, "another job", 9000.0)

    assert roots.shorten("job", 2000.0, but=signed) == 1
    assert roots.shorten("job", 2000.0, but=signed) == 0

    ends = {root.cid: root.expires_at for root in roots.live(1000.0)}
    assert ends == {one: 2000.0, sooner: 1500.0, signed: 9000.0, public: 9000.0, other: 9000.0}
    assert roots.shorten("job", 2000.0) == 1
