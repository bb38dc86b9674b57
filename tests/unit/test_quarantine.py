"""Quarantined blocks on the disk: not to be read without their key, not to be recognised, not to be changed unseen."""

import errno
import multiprocessing
import os
import signal
import stat
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from executor.agent.retention import shred_left_over
from executor.content.dagpb import MAX_BLOCK_BYTES
from executor.content.importer import import_listing
from executor.content.limits import TreeLimits
from executor.content.reader import manifest
from executor.errors import BlockMismatch, ContentTooLarge, DiskFull, InvalidInput
from executor.protocol.cid import RAW, Cid
from executor.quarantine import Quarantine, QuarantineDamaged, QuarantineKeys
from executor.sealing import SealBroken, derive, seal, unseal

WHOLE = TreeLimits(2**30)
SECRET = b"the answer is 42"
CID = Cid.of(RAW, SECRET)


@pytest.fixture
def keys(tmp_path):
    return QuarantineKeys(tmp_path / "keys")


@pytest.fixture
def quarantine(tmp_path, keys):
    made = Quarantine(tmp_path / "quarantine", keys.create("one"))
    made.put_many([(CID, SECRET)])
    return made


def on_disk(quarantine):
    (path,) = quarantine.root.iterdir()
    return path


def test_what_was_put_is_read_with_the_same_key_from_another_process(quarantine, keys):
    again = Quarantine(quarantine.root, keys.get("one"))

    assert again.get(CID) == SECRET
    assert again.has(CID)


def test_a_tree_is_read_as_it_was_written(tmp_path):
    made = Quarantine(tmp_path / "quarantine", bytes(32))
    files = {f"f{number}": SECRET * number for number in range(300)}
    root = import_listing(made, files, WHOLE)

    assert {row.path: row.size for row in manifest(made, root, WHOLE).entries} == {
        name: len(content) for name, content in files.items()
    }


def test_neither_the_bytes_nor_the_cid_are_on_the_disk(quarantine):
    path = on_disk(quarantine)

    assert not [word for word in (SECRET, CID.binary, CID.binary[4:]) if word in path.read_bytes()]
    assert not [word for word in (str(CID), CID.binary[4:].hex(), Cid.of(RAW, b"").binary.hex()) if word in path.name]
    assert stat.S_IMODE(path.stat().st_mode) == 0o400


def test_the_same_block_has_another_name_and_other_bytes_with_another_key(tmp_path, quarantine):
    other = Quarantine(tmp_path / "other", bytes(32))
    other.put_many([(CID, SECRET)])

    assert on_disk(other).name != on_disk(quarantine).name
    assert on_disk(other).read_bytes() != on_disk(quarantine).read_bytes()


def test_the_same_block_is_stored_once(quarantine):
    before = on_disk(quarantine).read_bytes()

    assert quarantine.put_many([(CID, SECRET), (CID, SECRET)]) == 2
    assert on_disk(quarantine).read_bytes() == before


def test_writers_of_the_same_blocks_at_the_same_time_do_not_meet(quarantine, keys):
    contents = [b"%d" % number * 100_000 for number in range(20)]
    met = threading.Barrier(2)

    def write():
        other = Quarantine(quarantine.root, keys.get("one"))
        for content in contents:
            met.wait(30)
            other.put_many([(Cid.of(RAW, content), content)])

    with ThreadPoolExecutor(2) as pool:
        for written in [pool.submit(write), pool.submit(write)]:
            written.result()

    assert [quarantine.get(Cid.of(RAW, content)) for content in contents] == contents
    assert len(list(quarantine.root.iterdir())) == 1 + len(contents)


def test_what_is_put_after_the_end_of_its_execution_is_refused(tmp_path, keys):
    ended = Quarantine(tmp_path / "gone" / "quarantine", keys.create("one"))

    with pytest.raises(QuarantineDamaged, match="its execution has just ended"):
        ended.put_many([(CID, SECRET)])


def test_every_seal_has_a_nonce_of_its_own():
    assert len({seal(bytes(32), SECRET, b"")[:12] for _ in range(1000)}) == 1000


def flipped(at):
    def change(sealed):
        return bytes([*sealed[:at], sealed[at] ^ 1, *sealed[at + 1 :]])

    return change


CHANGES = {
    "the nonce": flipped(0),
    "the ciphertext": flipped(12),
    "the tag": flipped(-17 + 16),
    "a byte more": lambda sealed: sealed + b"x",
    "a byte less": lambda sealed: sealed[:-1],
    "cut": lambda sealed: sealed[:20],
    "empty": lambda _: b"",
    "in the clear": lambda _: SECRET,
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_block_that_was_changed_on_the_disk_is_refused_with_the_reason(quarantine, what):
    path = on_disk(quarantine)
    changed = CHANGES[what](path.read_bytes())
    path.unlink()
    path.write_bytes(changed)

    with pytest.raises(QuarantineDamaged, match="changed on the disk, or is not of its key"):
        quarantine.get(CID)


def test_a_block_in_the_place_of_another_is_refused(quarantine):
    first, other = on_disk(quarantine), Cid.of(RAW, b"other")
    quarantine.put_many([(other, b"other")])
    (second,) = set(quarantine.root.iterdir()) - {first}
    second.unlink()
    first.rename(second)

    with pytest.raises(QuarantineDamaged, match="changed on the disk"):
        quarantine.get(other)
    with pytest.raises(QuarantineDamaged, match="not in quarantine any more"):
        quarantine.get(CID)
    assert not quarantine.has(CID)


def test_a_sealed_block_that_is_not_of_its_cid_is_refused(quarantine):
    path = on_disk(quarantine)
    path.unlink()
    path.write_bytes(seal(quarantine._block_key, b"other", CID.binary))  # by who has the key

    with pytest.raises(QuarantineDamaged, match="not what its name says"):
        quarantine.get(CID)


def test_what_is_no_block_is_not_taken(quarantine):
    with pytest.raises(BlockMismatch):
        quarantine.put_many([(CID, b"other")])
    large = bytes(MAX_BLOCK_BYTES + 1)
    with pytest.raises(ContentTooLarge):
        quarantine.put_many([(Cid.of(RAW, large), large)])


def test_a_full_disk_is_told_as_one(quarantine):
    def blocks():
        yield Cid.of(RAW, b"next"), b"next"
        raise OSError(errno.ENOSPC, "no space")

    with pytest.raises(DiskFull, match="no space left in quarantine"):
        quarantine.put_many(blocks())


def test_without_its_key_a_copy_of_the_disk_is_noise(tmp_path, quarantine, keys):
    sealed, was = on_disk(quarantine).read_bytes(), keys.folder / "one.key"
    assert keys.shred("one")

    assert (keys.get("one"), was.exists(), keys.shred("one")) == (None, False, False)
    for key in (bytes(32), derive(bytes(32), "quarantined blocks")):
        with pytest.raises(SealBroken):
            unseal(key, sealed, CID.binary)


def test_a_key_is_overwritten_on_the_disk_before_it_is_removed(keys):
    key = keys.create("one")
    os.link(keys.folder / "one.key", keys.folder / "copy")  # the same bytes on the disk under a name that stays

    keys.shred("one")

    left = (keys.folder / "copy").read_bytes()
    assert (len(left), key in left) == (32, False)


def test_a_key_is_a_private_file_and_made_once(keys):
    keys.create("one")

    assert stat.S_IMODE((keys.folder / "one.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(keys.folder.stat().st_mode) == 0o700
    with pytest.raises(FileExistsError):
        keys.create("one")


@pytest.mark.parametrize("content", [b"", bytes(31), bytes(33)], ids=["empty", "too short", "too long"])
def test_a_key_that_a_kill_left_unfinished_is_none(keys, content):
    keys.create("one")
    (keys.folder / "one.key").write_bytes(content)

    assert keys.get("one") is None


def test_a_key_that_cannot_be_read_is_not_taken_for_shredded(keys):
    keys.folder.mkdir()
    (keys.folder / "one.key").symlink_to("elsewhere")

    with pytest.raises(InvalidInput, match=r"one\.key: cannot be read"):
        keys.get("one")


def test_what_no_hold_names_is_shredded(keys):
    shred_left_over(keys, set())  # no folder yet
    for name in ("one", "two", "three"):
        keys.create(name)
    (keys.folder / "notes.txt").touch()

    shred_left_over(keys, {"two"})

    assert sorted(path.name for path in keys.folder.iterdir()) == ["notes.txt", "two.key"]


def test_a_key_that_cannot_be_shredded_does_not_keep_the_others(keys):
    keys.create("two")
    (keys.folder / "one.key").symlink_to("elsewhere")

    shred_left_over(keys, set())

    assert keys.names() == ["one"]


def test_a_place_where_no_keys_can_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    keys = QuarantineKeys(tmp_path / "file" / "keys")

    with pytest.raises(InvalidInput, match=r"keys: cannot be made .* see quarantine_key_dir"):
        keys.prepare()
    with pytest.raises(InvalidInput, match="file: cannot be read"):
        QuarantineKeys(tmp_path / "file").names()


def killed_at(name, folder):
    """A process that gets kill -9 when it comes to a certain call of the system's, inside the shredding of a key."""
    true = getattr(os, name)

    def die(*args, **more):
        if name == "close":
            true(*args, **more)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(os, name, die)
    QuarantineKeys(folder).shred("one")


@pytest.mark.parametrize("step", ["pwrite", "fsync", "close", "unlink"])
def test_a_kill_9_inside_the_shredding_is_made_up_for_at_the_next_start(keys, step):
    keys.create("one")
    child = multiprocessing.get_context("fork").Process(target=killed_at, args=(step, keys.folder))
    child.start()
    child.join(30)
    assert child.exitcode == -signal.SIGKILL

    shred_left_over(keys, set())

    assert list(keys.folder.iterdir()) == []
