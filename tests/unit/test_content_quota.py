"""Limits of a block store: counted before a block is written, cheaply, by any number of processes that may die."""

import os
import signal
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from executor.content.blockstore import BlockStore
from executor.content.gc import collect_garbage
from executor.content.quota import Meter, StoreLimits, Usage, on_disk
from executor.content.roots import RootSet
from executor.errors import BlockMismatch, DiskFull
from executor.protocol.cid import RAW, Cid
from tests.chain_nodes import wait_for

REPOSITORY = Path(__file__).parents[2]
PAGE = 4096
NOW = 2_000_000_000.0


@pytest.fixture
def store(tmp_path):
    return BlockStore(tmp_path / "store")


def block(number, size=10):
    content = b"%d-" % number * size
    return Cid.of(RAW, content), content


def used(store):
    return store.meter.usage().used


def test_a_store_without_limits_is_not_counted(store):
    store.put(*block(1))

    assert store.meter.usage() is None
    assert not (store.root / "usage").exists()


def test_a_block_over_the_limit_is_refused_with_what_to_do_and_the_others_stay(store):
    store.meter.set_limits(StoreLimits(3 * PAGE, 0))
    for number in range(3):
        store.put(*block(number))

    with pytest.raises(DiskFull, match=r"holds 12288 bytes, 4096 more are over its limit of 12288: unpin") as caught:
        store.put(*block(3))

    assert str(store.root) in str(caught.value)
    assert sorted(store) == sorted(block(number)[0] for number in range(3))
    assert used(store) == 3 * PAGE
    assert not list((store.root / "tmp").iterdir())


def test_the_group_of_a_refused_block_leaves_nothing_and_counts_nothing(store):
    store.meter.set_limits(StoreLimits(3 * PAGE, 0))

    with pytest.raises(DiskFull):
        store.put_many(block(number) for number in range(4))

    assert list(store) == []
    assert used(store) == 0


def test_a_block_whose_file_cannot_be_made_counts_nothing(store):
    store.meter.set_limits(StoreLimits(min_free_bytes=0))
    folder = store.root / "tmp"
    folder.rename(store.root / "away")
    with pytest.raises(FileNotFoundError):
        store.put_many([block(1)])
    (store.root / "away").rename(folder)

    assert used(store) == 0


def test_a_million_tiny_blocks_are_not_nothing(store):
    store.meter.set_limits(StoreLimits(10**9, 0))
    store.put_many((Cid.of(RAW, b"%d" % i), b"%d" % i) for i in range(100))

    assert used(store) == 100 * PAGE
    assert (on_disk(0), on_disk(1), on_disk(PAGE), on_disk(PAGE + 1)) == (PAGE, PAGE, PAGE, 2 * PAGE)


def test_some_of_the_disk_is_kept_free_whatever_fills_it(store):
    store.meter.set_limits(StoreLimits(0, 2**62))

    with pytest.raises(DiskFull, match="bytes left, of which 4611686018427387904 are kept free: make room there"):
        store.put(*block(1))

    assert list(store) == []


def test_what_is_here_already_costs_nothing(store):
    store.meter.set_limits(StoreLimits(PAGE, 0))
    store.put(*block(1))
    store.put(*block(1))

    assert used(store) == PAGE


def test_what_goes_gives_its_room_back(store):
    store.meter.set_limits(StoreLimits(2 * PAGE, 0))
    store.put_many([block(1), block(2)])
    path = store._path(block(2)[0])
    path.chmod(0o600)
    path.write_bytes(b"damaged")

    assert store.delete(block(1)[0])
    with pytest.raises(BlockMismatch):
        store.get(block(2)[0])

    assert used(store) == 0
    assert not store.delete(block(1)[0])


def test_limits_are_those_of_all_processes_and_can_be_changed(store):
    store.meter.set_limits(StoreLimits(PAGE, 0))
    other = BlockStore(store.root)
    other.put(*block(1))

    with pytest.raises(DiskFull):
        store.put(*block(2))
    other.meter.set_limits(StoreLimits(2 * PAGE, 0))
    store.put(*block(2))

    assert used(other) == 2 * PAGE


def test_blocks_that_were_there_before_are_counted_once_and_never_again(tmp_path):
    scans = []

    def scan():
        scans.append(1)
        return 5 * PAGE

    meter = Meter(tmp_path, scan)
    meter.set_limits(StoreLimits(10 * PAGE, 0))
    for _ in range(5):
        meter.reserve(1)
    meter.set_limits(StoreLimits(11 * PAGE, 0))

    assert meter.usage().used == 10 * PAGE
    assert len(scans) == 1


def test_a_file_that_a_crash_of_the_system_emptied_is_counted_anew(store):
    store.meter.set_limits(StoreLimits(2 * PAGE, 0))
    store.put(*block(1))
    (store.root / "usage").write_bytes(b"")

    store.put(*block(2))

    assert used(store) == 2 * PAGE


def test_garbage_collection_mends_a_count_and_takes_no_pin(store):
    store.meter.set_limits(StoreLimits(4 * PAGE, 0))
    store.put_many([block(1), block(2)])
    for number in (1, 2):
        os.utime(store._path(block(number)[0]), (1, 1))
    store.meter.reserve(1)  # of a writer that was killed
    roots = RootSet(store)
    roots.keep(block(1)[0], "kept")

    collect_garbage(store, roots, NOW)

    assert list(store) == [block(1)[0]]
    assert used(store) == PAGE


def counted(tmp_path, beside):
    """What is counted of a store of 7 pages where `beside(meter)` happens while the new count looks at the disk."""
    meter = Meter(tmp_path, lambda: 7 * PAGE)
    meter.set_limits(StoreLimits(0, 0))

    def scan():
        beside(meter)
        return 7 * PAGE

    new = Meter(tmp_path, scan)
    new.recount(new.begin())
    return meter.usage().used


def test_what_is_written_while_it_is_counted_anew_counts(tmp_path):
    assert counted(tmp_path, lambda meter: meter.reserve(1)) == 8 * PAGE


def test_what_is_removed_while_it_is_counted_anew_hides_nothing_that_is_written_then(tmp_path):
    def removed_before_it_was_seen_and_another_one_written(meter):
        meter.release(1, meter.era())
        meter.reserve(1)

    assert counted(tmp_path, removed_before_it_was_seen_and_another_one_written) == 8 * PAGE


def test_a_removal_that_ends_after_the_new_count_is_not_taken_off_twice(tmp_path):
    meter = Meter(tmp_path, lambda: 7 * PAGE)  # what is on disk once the block is gone
    meter.set_limits(StoreLimits(0, 0))
    before = meter.era()
    meter.recount(meter.begin())
    meter.release(1, before)

    assert meter.usage().used == 7 * PAGE
    meter.release(1, meter.era())
    assert meter.usage().used == 6 * PAGE


def test_a_write_that_fails_after_the_new_count_is_not_taken_off_it(tmp_path):
    meter = Meter(tmp_path, lambda: 7 * PAGE)
    meter.set_limits(StoreLimits(0, 0))
    era = meter.reserve(1)
    meter.recount(meter.begin())
    meter.release(1, era)

    assert meter.usage().used == 7 * PAGE


def test_a_block_that_is_on_its_way_while_a_new_count_begins_is_waited_for(store):
    store.meter.set_limits(StoreLimits(0, 0))
    inode = f":{(store.root / 'lock').stat().st_ino} "

    def waits():
        return any("->" in line and inode in line for line in Path("/proc/locks").read_text().splitlines())

    with store.locked():
        counting = threading.Thread(target=store.recount)
        counting.start()
        wait_for(waits, 10, "the count waits for the writer")
        store.meter.reserve(1)
        (store.root / "blocks" / "aa").mkdir()
        (store.root / "blocks" / "aa" / "block").write_bytes(b"1")
    counting.join(10)

    assert used(store) == PAGE


def test_a_block_that_comes_before_any_limits_is_not_taken_off_what_is_counted_then(store):
    era = store.meter.reserve(1)
    store.meter.set_limits(StoreLimits(0, 0))
    store.meter.reserve(1)
    store.meter.release(1, era)

    assert (era, used(store)) == (None, PAGE)


def test_the_file_of_an_earlier_version_is_understood(store):
    (store.root / "usage").write_bytes(struct.pack("<QQQ", 5 * PAGE, 6 * PAGE, 0))

    store.put(*block(1))
    assert used(store) == 6 * PAGE
    with pytest.raises(DiskFull):
        store.put(*block(2))
    store.recount()

    assert used(store) == PAGE


WRITER = """
import sys
from pathlib import Path
from executor.content.blockstore import BlockStore
from executor.errors import DiskFull
from executor.protocol.cid import RAW, Cid
store = BlockStore(Path(sys.argv[1]))
try:
    for number in range(10_000):
        block = b"%s %d" % (sys.argv[2].encode(), number)
        store.put(Cid.of(RAW, block), block)
        print(number, flush=True)
except DiskFull:
    print("full", flush=True)
"""


def writer(store, name):
    command = [sys.executable, "-c", WRITER, str(store.root), name]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)


def test_several_processes_fill_a_store_to_its_limit_and_not_over_it(store):
    store.meter.set_limits(StoreLimits(60 * PAGE, 0))

    writers = [writer(store, name) for name in "abc"]
    said = [process.communicate(timeout=60)[0] for process in writers]

    assert all(text.endswith("full\n") for text in said)
    assert len(list(store)) == 60
    assert used(store) == 60 * PAGE


def test_kill_minus_9_never_leaves_a_count_that_is_too_low(store):
    store.meter.set_limits(StoreLimits(0, 0))
    for name in "abc":
        with writer(store, name) as process:
            for _ in range(5):
                process.stdout.readline()
            process.send_signal(signal.SIGKILL)

        assert used(store) >= len(list(store)) * PAGE
        assert used(store) <= (len(list(store)) + 3) * PAGE


@pytest.mark.parametrize(
    ("usage", "tight"),
    [
        (Usage(89, StoreLimits(100, 0), 10**6), False),
        (Usage(91, StoreLimits(100, 0), 10**6), True),
        (Usage(10**9, StoreLimits(0, 0), 0), False),
        (Usage(0, StoreLimits(0, 1000), 2000), False),
        (Usage(0, StoreLimits(0, 1000), 1050), True),
    ],
)
def test_a_store_says_when_there_is_little_room(usage, tight):
    assert usage.is_tight == tight
