"""The block store: verified in, verified out, safe beside other processes and under kill -9."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from executor.content.blocks import MemoryBlocks
from executor.content.blockstore import BATCH_BLOCKS, BlockStore
from executor.errors import BlockMismatch, BlockMissing, ContentTooLarge, DiskFull
from executor.protocol.cid import DAG_PB, RAW, Cid

REPOSITORY = Path(__file__).parents[2]


def raw(content):
    return Cid.of(RAW, content), content


@pytest.fixture
def store(tmp_path):
    return BlockStore(tmp_path / "store")


def file_of(store, cid):
    [path] = store.root.rglob(str(cid))
    return path


def test_a_block_comes_back_as_it_was_put(store):
    cid, block = raw(b"hello")

    store.put(cid, block)

    assert store.get(cid) == block
    assert store.has(cid)
    assert store.stat(cid).size == 5
    assert list(store) == [cid]


def test_another_process_sees_the_block(store):
    cid, block = raw(b"hello")
    store.put(cid, block)

    assert BlockStore(store.root).get(cid) == block


def test_a_block_that_is_not_here_is_missing(store):
    cid, _ = raw(b"hello")

    assert not store.has(cid)
    assert not store.delete(cid)
    for ask in (store.get, store.stat):
        with pytest.raises(BlockMissing, match=str(cid)):
            ask(cid)


def test_the_codec_is_part_of_the_name(store):
    store.put(*raw(b""))

    assert not store.has(Cid.of(DAG_PB, b""))


def test_a_block_under_a_wrong_name_is_refused_and_not_stored(store):
    cid, _ = raw(b"hello")

    with pytest.raises(BlockMismatch, match=str(cid)):
        store.put(cid, b"jello")

    assert list(store) == []


def test_a_block_over_the_limit_is_refused(tmp_path):
    store = BlockStore(tmp_path, max_block_bytes=10)
    store.put(*raw(bytes(10)))

    with pytest.raises(ContentTooLarge):
        store.put(*raw(bytes(11)))


def damage(store, cid):
    path = file_of(store, cid)
    path.chmod(0o600)
    path.write_bytes(b"jello")


def test_damage_on_disk_is_noticed_when_it_is_read_and_the_block_counts_as_absent_then(store):
    cid, block = raw(b"hello")
    store.put(cid, block)
    damage(store, cid)

    with capture_logs() as lines, pytest.raises(BlockMismatch, match=str(cid)):
        store.get(cid)

    assert not store.has(cid)
    with pytest.raises(BlockMissing):
        store.get(cid)
    [line] = lines
    assert (line["log_level"], line["block"]) == ("error", str(cid))
    assert Path(line["moved_to"]).read_bytes() == b"jello"


def test_every_damaged_block_of_a_store_can_be_named(store):
    cid, block = raw(b"hello")
    store.put_many([(cid, block), raw(b"unharmed")])
    damage(store, cid)

    assert list(store.damaged()) == [cid]


def test_a_damaged_block_that_was_moved_away_is_removed_as_any_leftover(store):
    cid, block = raw(b"hello")
    store.put(cid, block)
    damage(store, cid)
    assert list(store.damaged()) == [cid]

    assert store.remove_old_tmp(time.time() + 1) == 1


def test_a_damaged_block_that_cannot_be_moved_is_not_handed_out(store):
    cid, block = raw(b"hello")
    store.put(cid, block)
    damage(store, cid)
    shutil.rmtree(store.root / "tmp")
    (store.root / "tmp").write_bytes(b"no folder")

    with capture_logs() as lines, pytest.raises(BlockMismatch):
        store.get(cid)
    assert "cannot be moved" in lines[0]["problem"]


def test_a_damaged_file_of_any_size_is_not_read_whole(store):
    cid, block = raw(b"hello")
    store.put(cid, block)
    path = file_of(store, cid)
    path.chmod(0o600)
    os.truncate(path, 10**12)

    with pytest.raises(BlockMismatch):
        store.get(cid)


def test_putting_a_damaged_block_again_repairs_it(store):
    cid, block = raw(b"hello")
    store.put(cid, block)
    path = file_of(store, cid)
    path.chmod(0o600)
    path.write_bytes(b"jello")

    store.put(cid, block)

    assert store.get(cid) == block


def test_putting_a_block_again_makes_it_new(store):
    cid, block = raw(b"hello")
    store.put(cid, block)
    os.utime(file_of(store, cid), (1000, 1000))

    store.put(cid, block)

    assert store.stat(cid).written_at > 1000


def test_many_blocks_are_put_as_they_come(store):
    contents = [raw(b"%d" % (i % 150)) for i in range(3 * BATCH_BLOCKS)]

    assert store.put_many(iter(contents)) == len(contents)

    assert sorted(store) == sorted({cid for cid, _ in contents})
    assert list(store.damaged()) == []
    assert list((store.root / "tmp").iterdir()) == []


def test_an_error_among_many_leaves_only_whole_groups(store):
    good = [raw(b"%d" % i) for i in range(BATCH_BLOCKS + 5)]
    wrong = (good[0][0], b"wrong")

    with pytest.raises(BlockMismatch):
        store.put_many([*good, wrong])

    assert len(list(store)) == BATCH_BLOCKS
    assert list((store.root / "tmp").iterdir()) == []


def test_a_deleted_block_is_gone(store):
    cid, block = raw(b"hello")
    store.put(cid, block)

    assert store.delete(cid)
    assert not store.has(cid)


def test_files_that_are_no_blocks_are_passed_over(store):
    cid, block = raw(b"hello")
    store.put(cid, block)
    (file_of(store, cid).parent / "notes.txt").write_text("x")

    assert list(store) == [cid]


def test_the_store_is_closed_to_other_users(store):
    assert store.root.stat().st_mode & 0o777 == 0o700


def test_only_old_leftovers_in_tmp_are_removed(store):
    for name, when in (("old", 1000), ("new", 3000)):
        path = store.root / "tmp" / name
        path.touch()
        os.utime(path, (when, when))

    assert store.remove_old_tmp(before=2000) == 1
    assert [path.name for path in (store.root / "tmp").iterdir()] == ["new"]


def test_no_file_stays_open(store):
    before = set(Path("/proc/self/fd").iterdir())
    store.put_many(raw(b"%d" % i) for i in range(100))
    with pytest.raises(BlockMismatch):
        store.put(raw(b"a")[0], b"b")

    assert set(Path("/proc/self/fd").iterdir()) == before


def test_blocks_are_on_disk_before_they_have_names_and_the_names_before_put_returns(store, monkeypatch):
    """What a power cut leaves cannot be tried; the order of what makes it safe can be seen."""
    steps = []
    sync, rename = os.fsync, os.replace

    def synced(descriptor):
        sync(descriptor)
        steps.append(("sync", Path(f"/proc/self/fd/{descriptor}").readlink()))

    def renamed(source, target, **options):
        rename(source, target, **options)
        steps.append(("name", Path(source), Path(target)))

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    blocks = [raw(b"one"), raw(b"two"), raw(b"three")]

    store.put_many(blocks)

    files, names, folders = steps[:3], steps[3:6], steps[6:]
    assert {("sync", step[1]) for step in names} == set(files)
    assert {step[2] for step in names} == {file_of(store, cid) for cid, _ in blocks}
    assert {step[1] for step in folders} == {step[2].parent for step in names} | {store.root / "blocks"}
    assert {step[0] for step in folders} == {"sync"}


WRITER = """
import sys
import time
from pathlib import Path
from executor.content.blockstore import BlockStore
from executor.protocol.cid import RAW, Cid
store = BlockStore(Path(sys.argv[1]))
number = 0
while True:
    blocks = [b"%d-" % (number + i) * 20_000 for i in range(20)]
    store.put_many((Cid.of(RAW, block), block) for block in blocks)
    print(number + 20, flush=True)
    number += 20
"""


def test_kill_minus_9_leaves_only_whole_blocks_and_loses_none_that_was_put(store):
    for _ in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(store.root)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
        )
        with writer:
            for _ in range(3):
                confirmed = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)

        assert list(store.damaged()) == []
        for number in range(confirmed):
            assert store.has(Cid.of(RAW, b"%d-" % number * 20_000))


SMALL_DISK = """
import sys
import time
from pathlib import Path
from executor.content.blockstore import BlockStore
from executor.errors import DiskFull
from executor.protocol.cid import RAW, Cid
store = BlockStore(Path(sys.argv[1]))
good = [b"%d" % i for i in range(5)]
store.put_many((Cid.of(RAW, block), block) for block in good)
try:
    store.put_many((Cid.of(RAW, block), block) for block in (b"%d" % i * 300_000 for i in range(10)))
except DiskFull as exc:
    assert "no space left in the block store" in str(exc), exc
else:
    raise SystemExit("not full")
assert sorted(store) == sorted(Cid.of(RAW, block) for block in good)
assert not list((store.root / "tmp").iterdir())
"""


UNSHARE = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-Urm"]
MOUNT = [*UNSHARE, "mount", "-t", "tmpfs", "none", "/mnt"]
CAN_MOUNT = subprocess.run(MOUNT, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not CAN_MOUNT, reason="no small disk can be mounted here (mount namespaces are closed)")
def test_a_full_disk_is_said_and_leaves_nothing_behind(tmp_path):
    script = 'mount -t tmpfs -o size=1m none "$1" && exec "$2" -c "$3" "$1/store"'
    command = [*UNSHARE, "sh", "-c", script, "sh", str(tmp_path), sys.executable, SMALL_DISK]

    subprocess.run(command, cwd=REPOSITORY, check=True, timeout=60)


def test_disk_full_is_a_content_error():
    assert str(DiskFull()).startswith("No space left")


def test_blocks_in_memory_follow_the_same_rules():
    cid, block = raw(b"hello")
    memory = MemoryBlocks([(cid, block)])

    assert memory.get(cid) == block
    assert memory.has(cid)
    assert list(memory) == [cid]
    assert len(memory) == 1
    with pytest.raises(BlockMissing):
        memory.get(Cid.of(RAW, b"other"))
    with pytest.raises(BlockMismatch):
        memory.put_many([(cid, b"jello")])
