"""`insula content export|import`: streams that are cut, wrong or killed, beside other processes, in bounded memory."""

import fcntl
import filecmp
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bridge.cli.output import Exit
from executor.content import varint
from executor.content.arrival import ARRIVING, CarImport, Kept
from executor.content.blockstore import BlockStore
from executor.content.car import CarLimits, encode_header, write_car
from executor.content.gc import collect_garbage
from executor.content.roots import RootSet
from executor.content.unixfs import walk
from executor.errors import CarError
from executor.protocol.cid import RAW, Cid
from tests.canary_kit import key_file, serving
from tests.chain_nodes import wait_for
from tests.content_kit import BIG, CONTENT, age, flip, path_of, raw_leaf
from tests.faulty_sources import Content, Gateway


def car_file(tmp_path, content):
    path = tmp_path / "content.car"
    path.write_bytes(content)
    return path


def test_a_car_that_is_exported_is_imported_elsewhere_and_pinned(insula, answer, added, tmp_path):
    car, other = tmp_path / "x.car", BlockStore(tmp_path / "other")
    code, found = answer("export", added, car)
    assert (code, found["bytes"]) == (Exit.OK, car.stat().st_size)

    code, found = answer("import", car, "--store", other.root)

    assert (code, found["roots"], found["new"]) == (Exit.OK, [str(added)], found["blocks"])
    assert [(root.cid, root.label) for root in RootSet(other).live(time.time())] == [(added, "pin:imported")]
    assert answer("stat", added, "--verify", "--store", other.root)[0] == Exit.OK
    assert not list(tmp_path.glob("*.partial"))


def test_a_path_is_exported_as_a_dag_of_its_own(answer, added, own_store, tmp_path):
    code, found = answer("export", f"{added}/a.txt", tmp_path / "x.car")

    assert (code, found["cid"]) == (Exit.OK, str(Cid.of(RAW, b"hello")))


def test_blocks_that_are_here_are_not_written_again(answer, added, own_store, tmp_path):
    answer("export", added, tmp_path / "x.car")
    files = {cid: path_of(own_store, cid).stat().st_ino for cid in own_store}

    found = answer("import", tmp_path / "x.car")[1]

    assert (found["blocks"], found["new"]) == (len(files), 0)
    assert {cid: path_of(own_store, cid).stat().st_ino for cid in own_store} == files


def test_a_damaged_block_is_mended_by_an_import(answer, added, own_store, tmp_path):
    answer("export", added, tmp_path / "x.car")
    flip(own_store, raw_leaf(own_store, added))

    assert answer("import", tmp_path / "x.car")[0] == Exit.OK
    assert answer("fsck")[1]["damagedCount"] == 0


def test_a_dag_with_a_missing_block_is_not_exported(answer, added, own_store, tmp_path):
    leaf = raw_leaf(own_store, added)
    own_store.delete(leaf)

    code, found = answer("export", added, tmp_path / "x.car")

    assert (code, str(leaf) in found["error"]) == (Exit.NOT_SO, True)
    assert not list(tmp_path.glob("x.car*"))


def test_an_export_that_meets_a_damaged_block_leaves_no_file(answer, added, own_store, tmp_path):
    flip(own_store, raw_leaf(own_store, added))

    assert answer("export", added, tmp_path / "x.car")[0] == Exit.NOT_SO
    assert not list(tmp_path.glob("x.car*"))


def test_an_export_begins_anew_where_a_crash_left_half_a_file(answer, added, tmp_path):
    answer("export", added, tmp_path / "whole.car")
    (tmp_path / "x.car.partial").write_bytes(b"?" * 10**7)

    assert answer("export", added, tmp_path / "x.car")[0] == Exit.OK
    assert (tmp_path / "x.car").read_bytes() == (tmp_path / "whole.car").read_bytes()


def test_two_exports_do_not_write_one_file_together(answer, added, tmp_path):
    with (tmp_path / "x.car.partial").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        code, found = answer("export", added, tmp_path / "x.car")

    assert (code, "another export" in found["error"]) == (Exit.BAD_INPUT, True)
    assert (tmp_path / "x.car.partial").exists()


def test_abuse_a_link_in_the_place_of_the_partial_file_is_not_followed(answer, added, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "x.car.partial").symlink_to(victim)

    assert answer("export", added, tmp_path / "x.car")[0] == Exit.BAD_INPUT
    assert victim.read_text() == "precious"


LEAF = next(cid for cid in CONTENT.blocks if cid.codec == RAW)
CBOR = Cid(0x71, LEAF.digest)


def car_of(roots, cids):
    return b"".join(write_car(roots, ((cid, CONTENT.blocks.get(cid)) for cid in cids)))


ALL = list(walk(CONTENT.blocks, CONTENT.root))
BAD_CARS = {
    "abuse cut in a block": (CONTENT.car[:-10], "cut", len(ALL) - 1),
    "abuse cut between blocks": (car_of([CONTENT.root], ALL[:-1]), "1 blocks below its roots", len(ALL) - 1),
    "abuse cut in the header": (CONTENT.car[:20], "inside its header", 0),
    "abuse an empty file": (b"", "inside its header", 0),
    "abuse CARv2": (b"\x0a\xa1\x67version\x02" + bytes(40) + CONTENT.car, "CARv2", 0),
    "abuse not a CAR": (b"GIF89a" + bytes(1000), "CAR", 0),
    "abuse a wrong last block": (CONTENT.car[:-1] + bytes([CONTENT.car[-1] ^ 1]), "do not hash", len(ALL) - 1),
    "abuse garbage behind": (CONTENT.car + bytes(100), "empty section", len(ALL)),
    "abuse no roots": (car_of([], ALL), "names no root", 0),
    "abuse a root that is not in it": (car_of([CONTENT.root], [LEAF]), "1 blocks below its roots", 1),
    "abuse a root of dag-cbor": (car_of([CBOR], [LEAF]), "below its roots", 1),
    "abuse a block of a gigabyte": (
        varint.encode(len(encode_header([LEAF]))) + encode_header([LEAF]) + varint.encode(2**30),
        "the limit for a block",
        0,
    ),
}


@pytest.mark.parametrize("what", BAD_CARS)
def test_a_bad_car_is_named_and_all_good_blocks_before_that_are_kept(answer, own_store, tmp_path, what):
    data, words, kept = BAD_CARS[what]

    code, found = answer("import", car_file(tmp_path, data))

    assert code == Exit.NOT_SO
    assert words in found["error"]
    assert ("Nothing was stored" in found["error"]) == (kept == 0)
    assert len(list(own_store)) == kept
    assert not [root for root in RootSet(own_store).live(time.time()) if root.label != ARRIVING]


def test_a_cut_import_goes_on_with_the_whole_file_and_then_nothing_is_unfinished(answer, own_store, tmp_path):
    answer("import", car_file(tmp_path, CONTENT.car[: len(CONTENT.car) // 2]))
    age(own_store)
    assert answer("gc")[1]["blocks"] == 0, "what arrived is kept for the next try"
    before = len(list(own_store))

    code, found = answer("import", car_file(tmp_path, CONTENT.car))

    assert (code, found["blocks"] - found["new"]) == (Exit.OK, before)
    assert [root.label for root in RootSet(own_store).live(time.time())] == ["pin:imported"]


def test_garbage_collection_in_the_middle_of_an_import_takes_nothing_that_its_roots_reach(own_store):
    roots, now = RootSet(own_store), time.time()

    def pieces():
        for offset in range(0, len(BIG.car), 2**20):
            yield BIG.car[offset : offset + 2**20]
            age(own_store)  # as if it went on for hours
            collect_garbage(own_store, roots, now)

    CarImport(own_store, roots, CarLimits(10**9)).run(pieces(), Kept("pin:x"), now)

    assert set(own_store) == set(BIG.blocks)


def test_blocks_that_came_before_their_parents_and_were_collected_are_asked_for_again(own_store):
    roots, now = RootSet(own_store), time.time()
    order = [*[cid for cid in BIG.blocks if cid != BIG.root], BIG.root]
    car = b"".join(write_car([BIG.root], ((cid, BIG.blocks.get(cid)) for cid in order)))

    def pieces():
        yield car[: 2**25]
        age(own_store)
        collect_garbage(own_store, roots, now)
        yield car[2**25 :]

    with pytest.raises(CarError, match="import it again"):
        CarImport(own_store, roots, CarLimits(10**9)).run(pieces(), Kept("pin:x"), now)
    CarImport(own_store, roots, CarLimits(10**9)).run([car], Kept("pin:x"), now)

    assert set(own_store) == set(BIG.blocks)


# --- processes of their own

MAX_MB = 100
"""What a verb may take whatever the size of its content."""
MEASURED = """
import atexit, sys
from bridge.cli.main import main
peak = lambda: next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
atexit.register(lambda: sys.stderr.write(f"peak {peak()}"))
main()
"""


@pytest.fixture
def program(tmp_path):
    """Start the program as a process of its own."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("INSULA_")}

    def start(*words, home=tmp_path / "home", **options):
        command = [sys.executable, "-c", MEASURED, "content", *map(str, words)]
        return subprocess.Popen(command, env={**env, "INSULA_HOME": str(home)}, **options)

    return start


@pytest.fixture
def peak(program):
    """Run a verb; the most memory it had, in MB."""

    def run(*words, **options):
        with program(*words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **options) as process:
            said = process.communicate(timeout=120)[1].decode()
        assert process.returncode == 0, said
        return int(said.rpartition("peak ")[2]) / 1024

    return run


def test_a_hundred_megabytes_take_no_more_memory_than_a_few_bytes(peak, tmp_path, answer):
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(b"few")
    with large.open("wb") as file:
        for _ in range(100):
            file.write(os.urandom(10**6))
    base = peak("add", small, "--local")
    root = answer("add", large, "--only-hash")[1]["cid"]

    assert max(peak("add", large, "--only-hash"), peak("add", large, "--local")) < min(MAX_MB, base + 48)
    assert peak("export", root, tmp_path / "x.car") < min(MAX_MB, base + 48)
    other = BlockStore(tmp_path / "other")
    assert peak("import", tmp_path / "x.car", "--store", other.root) < min(MAX_MB, base + 48)
    assert peak("fsck", "--store", other.root) < min(MAX_MB, base + 48)
    with Gateway(Content.of_store(other, Cid.parse(root))) as gateway:
        for kind in ("--bridge", "--gateway"):
            out, home = tmp_path / f"out{kind}", tmp_path / f"home{kind}"
            got = peak("get", root, kind, gateway.url, "-o", out, home=home)
            assert got < min(MAX_MB, base + 48), kind
            assert filecmp.cmp(out, large, shallow=False)


def test_an_import_that_is_killed_is_finished_by_the_same_command(program, answer, own_store, tmp_path):
    car = car_file(tmp_path, BIG.car)
    with program("import", "-", stdin=subprocess.PIPE) as process:
        process.stdin.write(BIG.car[: 30 * 2**20])
        process.stdin.flush()
        wait_for(lambda: len(list(own_store)) > 8, 60, "the first blocks")
        process.kill()
        process.wait()
    here = {cid: path_of(own_store, cid).stat().st_ino for cid in own_store}
    assert len(here) < len(BIG.blocks)

    code, found = answer("import", car)

    assert (code, found["blocks"] - found["new"]) == (Exit.OK, len(here))
    assert {cid: path_of(own_store, cid).stat().st_ino for cid in here} == here
    assert answer("stat", BIG.root, "--verify")[1]["verified"] is True


def test_an_import_beside_a_garbage_collection_of_another_process_loses_nothing(program, answer, own_store, tmp_path):
    with program("import", "-", stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        process.stdin.write(BIG.car[: 30 * 2**20])
        process.stdin.flush()
        wait_for(lambda: len(list(own_store)) > 8, 60, "the first blocks")
        age(own_store)
        assert answer("gc")[1]["blocks"] == 0
        process.stdin.write(BIG.car[30 * 2**20 :])
        process.stdin.close()
        assert process.wait(60) == Exit.OK

    assert answer("stat", BIG.root, "--verify")[1]["verified"] is True


def test_two_processes_import_one_car_at_the_same_time(program, answer, own_store, tmp_path):
    car = car_file(tmp_path, BIG.car)
    both = [program("import", car, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(2)]

    assert [process.wait(60) for process in both] == [Exit.OK, Exit.OK]

    assert answer("fsck")[1]["ok"] is True
    assert [root.label for root in RootSet(own_store).live(time.time())] == ["pin:imported"]
    assert list((own_store.root / "tmp").iterdir()) == []


def test_a_car_goes_through_a_pipe(program, added, own_store, answer, tmp_path):
    other = BlockStore(tmp_path / "other")
    with program("export", added, "-", stdout=subprocess.PIPE) as source:
        with program("import", "-", "--store", other.root, stdin=source.stdout, stdout=subprocess.DEVNULL) as sink:
            assert sink.wait(60) == Exit.OK
        assert source.wait(60) == Exit.OK

    assert answer("stat", added, "--verify", "--store", other.root)[0] == Exit.OK


def test_a_full_disk_is_named(program, added):
    with (
        Path("/dev/full").open("wb") as full,
        program("export", added, "-", stdout=full, stderr=subprocess.PIPE) as process,
    ):
        said = process.communicate(timeout=60)[1].decode()

    assert process.returncode == Exit.NOT_SO
    assert "no space left" in said
    assert "Traceback" not in said


BARS = {"a terminal": ([], True), "a terminal and --json": (["--json"], False)}


@pytest.mark.parametrize("what", BARS)
def test_a_bar_is_shown_on_terminals_and_never_with_json(program, content_folder, what):
    options, shown = BARS[what]

    assert (b"adding" in on_a_terminal(program, "add", content_folder, "--local", *options)) == shown


def test_what_takes_long_shows_how_far_it_is(program, added, content_folder, tmp_path):
    with serving(tmp_path / "bridge") as served:
        add = ("add", content_folder, "--to", served.url, "--key", key_file(tmp_path), "--public")
        assert b"uploading" in on_a_terminal(program, *add)
        get = on_a_terminal(program, "get", added, "--bridge", served.url, "-o", tmp_path / "out")
    assert b"fetching" in get
    assert b"writing" in get
    car = tmp_path / "x.car"
    verbs = {
        b"exporting": ("export", added, car),
        b"importing": ("import", car),
        b"looking": ("pin", added),
        b"collecting": ("gc",),
        b"hashing": ("fsck",),
    }
    for bar, words in verbs.items():
        assert bar in on_a_terminal(program, *words), words


def on_a_terminal(program, *words):
    """What a verb shows there on standard error."""
    ours, theirs = pty.openpty()
    with program(*words, stdout=subprocess.DEVNULL, stderr=theirs) as process:
        os.close(theirs)
        said = b"".join(iter(lambda: read_terminal(ours), b""))
        process.wait(60)
    os.close(ours)
    assert process.returncode == Exit.OK, said
    return said


def read_terminal(descriptor):
    try:
        return os.read(descriptor, 65536)
    except OSError:  # the other side is closed
        return b""


@pytest.mark.parametrize("verb", ["add", "fsck", "gc"])
def test_nothing_is_shown_where_nobody_looks(insula, content_folder, verb):
    words = [str(content_folder), "--local"] if verb == "add" else []

    assert insula("content", verb, *words)[2] == ""
