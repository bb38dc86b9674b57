"""`insula content`: what is here, what stays and what is damaged, in a real store with real files."""

import os
import re
import subprocess
import sys
import time

import pytest

from bridge.cli.output import Exit
from executor.content.arrival import CarImport, Kept
from executor.content.blockstore import BlockStore
from executor.content.car import CarLimits
from executor.content.dagpb import Link, Node, encode
from executor.content.importer import import_listing
from executor.content.kubo import Kubo
from executor.content.limits import TreeLimits
from executor.content.quota import StoreLimits
from executor.content.roots import RootSet
from executor.content.unixfs import import_bytes, walk
from executor.content.unixfs_node import TYPE_DIRECTORY, Data, encode_data
from executor.errors import CarError
from executor.protocol.cid import DAG_PB, RAW, Cid
from tests.content_kit import CONTENT, age, flip, path_of, raw_leaf
from tests.faulty_sources import Content, Gateway, faulty

LIMITS = TreeLimits(10**9)
DAY = 86400.0


def test_stat_tells_kind_size_blocks_pins_and_whether_all_is_here(answer, added, own_store):
    blocks = list(walk(own_store, added))

    code, found = answer("stat", added, "--verify")

    assert code == Exit.OK
    assert (found["kind"], found["complete"], found["verified"], found["public"]) == ("directory", True, True, False)
    assert (found["blocks"], found["bytes"]) == (len(blocks), sum(own_store.stat(cid).size for cid in blocks))
    assert [pin["label"] for pin in found["pins"]] == ["added"]


def test_only_hash_gives_the_same_cid_and_stores_nothing(answer, added, content_folder, own_store):
    before = set(own_store)
    (content_folder / "a.txt").write_text("other")
    code, found = answer("add", content_folder, "--only-hash")

    assert code == Exit.OK
    assert set(own_store) == before
    assert found["cid"] == str(answer("add", content_folder, "--local")[1]["cid"]) != str(added)


def test_verbs_of_content_load_nothing_of_the_chain():
    script = "import sys; from bridge.cli.main import _application as a; a('content'); print('web3' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)

    assert done.stdout.strip() == "False"


def test_stat_of_a_path_is_of_the_file_there(answer, added):
    code, found = answer("stat", f"{added}/sub/big.bin")

    assert (code, found["kind"], found["size"], found["verified"]) == (Exit.OK, "file", 2_500_000, False)


def test_stat_finds_a_flipped_byte_only_where_it_hashes(answer, added, own_store):
    flip(own_store, raw_leaf(own_store, added))

    assert answer("stat", added)[0] == Exit.OK
    code, found = answer("stat", added, "--verify")
    assert (code, found["complete"], found["damaged"], found["missing"]) == (Exit.NOT_SO, False, 1, 1)


def test_stat_tells_what_a_service_published(answer, added, own_store):
    RootSet(own_store).publish(added, "job:0x11", time.time() + DAY)

    found = answer("stat", added)[1]

    assert found["public"] is True
    assert [(pin["label"], pin["by"]) for pin in found["pins"]] == [("job:0x11", "service"), ("added", "cli")]


def test_ls_lists_names_kinds_sizes_and_cids(answer, added):
    entries = answer("ls", added)[1]["entries"]

    assert [(entry["name"], entry["kind"], entry["size"]) for entry in entries] == [
        ("a.txt", "file", 5),
        ("sub", "directory", None),
    ]
    assert answer("ls", f"{added}/sub/")[1]["cid"] == entries[1]["cid"]


def test_ls_shows_at_most_what_it_was_asked_for_and_says_how_much_more_there_is(insula, answer, own_store):
    root = import_listing(own_store, {f"{i:04d}": b"x" for i in range(1500)}, LIMITS)

    found = answer("ls", root, "--limit", "3")[1]

    assert (len(found["entries"]), found["total"]) == (3, 1500)
    assert "and 500 more" in insula("content", "ls", str(root))[1]


def test_ls_tells_what_is_not_here(answer, added, own_store):
    own_store.delete(Cid.of(RAW, b"hello"))

    assert [entry["kind"] for entry in answer("ls", added)[1]["entries"]] == ["missing", "directory"]


HOSTILE_NAMES = {
    "abuse a line break": "a\nok  all that is pinned is here and sound",
    "abuse a carriage return": "a\rb",
    "abuse an escape sequence": "\x1b[2J\x1b]0;owned\x07",
    "abuse right to left": "\u202egnp.exe",
    "abuse a line separator": "a\u2028b",
    "abuse markup": "[red]x",
}


@pytest.mark.parametrize("what", HOSTILE_NAMES)
def test_a_hostile_name_stays_on_its_line_and_moves_nothing(insula, answer, own_store, what):
    name = HOSTILE_NAMES[what]
    root = import_listing(own_store, {name: b"x"}, LIMITS)

    out = insula("content", "ls", str(root))[1]

    assert out.count("\n") == 1
    assert out.removesuffix("\n").isprintable()
    assert answer("ls", root)[1]["entries"][0]["name"] == name


BAD_NAMES = {"abuse a parent": "..", "abuse a slash": "a/b", "abuse no name": "", "abuse NUL": "a\0b"}


@pytest.mark.parametrize("what", BAD_NAMES)
def test_a_name_that_no_file_may_have_is_refused(insula, own_store, what):
    child = Cid.of(RAW, b"x")
    node = encode(Node((Link(BAD_NAMES[what], child, 1),), encode_data(Data(TYPE_DIRECTORY))))
    root = Cid.of(DAG_PB, node)
    own_store.put_many([(child, b"x"), (root, node)])

    code, out, err = insula("content", "ls", str(root))

    assert (code, out) == (Exit.NOT_SO, "")
    assert repr(BAD_NAMES[what]) in err


# --- pins and garbage collection


def test_what_was_added_survives_garbage_collection_until_it_is_unpinned(answer, added, own_store):
    before = set(own_store)
    age(own_store)

    assert answer("gc")[1]["blocks"] == 0
    assert answer("unpin", added)[1]["left"] == []
    would = answer("gc", "--dry-run")[1]
    assert set(own_store) == before
    did = answer("gc")[1]

    assert (did["blocks"], did["bytes"]) == (would["blocks"], would["bytes"]) == (len(before), did["bytes"])
    assert set(own_store) == set()


def test_young_blocks_stay_and_are_counted(insula, answer, added, own_store):
    answer("unpin", added)

    found = answer("gc")[1]

    assert (found["blocks"], found["young"]) == (0, len(list(own_store)))
    assert "younger than an hour" in insula("content", "gc", "--dry-run")[1]


def test_a_pin_is_told_in_words(insula, added):
    code, out, _ = insula("content", "pin", str(added), "--for", "86400", "--label", "thesis")

    assert code == Exit.OK
    assert re.match(rf"pinned {added} \(thesis, until 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC\): \d+ blocks, ", out)


def test_two_labels_keep_one_dag_until_both_are_gone(answer, added):
    assert answer("pin", added, "--label", "thesis", "--for", "1000")[0] == Exit.OK
    assert [pin["label"] for pin in answer("unpin", added, "--label", "added")[1]["unpinned"]] == ["added"]

    [pin] = answer("ls")[1]["pins"]

    assert (pin["label"], pin["cid"]) == ("thesis", str(added))
    assert 990 < pin["until"] - time.time() <= 1000


def test_a_pin_whose_time_is_over_keeps_nothing(answer, added, own_store):
    answer("unpin", added)
    RootSet(own_store).keep(added, "pin:old", time.time() - 1)
    age(own_store)

    would, did = answer("gc", "--dry-run")[1], answer("gc")[1]

    assert (would["pinsExpired"], did["pinsExpired"], did["blocks"]) == (1, 1, would["blocks"])
    assert list(own_store) == []


def test_a_dag_that_is_not_all_here_is_not_pinned(answer, added, own_store):
    leaf = raw_leaf(own_store, added)
    own_store.delete(leaf)

    code, found = answer("pin", added, "--label", "new")

    assert code == Exit.NOT_SO
    assert str(leaf) in found["error"]
    assert [pin["label"] for pin in answer("ls")[1]["pins"]] == ["added"]


def test_what_a_service_keeps_is_neither_unpinned_nor_made_private(answer, added, own_store):
    roots = RootSet(own_store)
    roots.publish(added, "job:0x11")

    assert answer("pin", added, "--label", "job:0x11")[0] == Exit.OK
    assert answer("unpin", added)[0] == Exit.OK
    code, found = answer("unpin", added, "--label", "job:0x11")

    assert code == Exit.NOT_SO
    assert "job:0x11" in found["error"]
    assert roots.is_public(added, time.time())


def test_gc_takes_nothing_while_a_damaged_directory_hides_what_its_pin_needs(answer, added, own_store):
    age(own_store)
    flip(own_store, added)
    others = set(own_store) - {added}

    for options in ([], ["--dry-run"]):
        code, found = answer("gc", *options)
        assert (code, str(added) in found["error"]) == (Exit.NOT_SO, True)
    assert set(own_store) == others

    answer("unpin", added)
    assert answer("gc")[1]["blocks"] == len(others)


def test_gc_removes_what_a_killed_writer_left(answer, own_store):
    left = own_store.root / "tmp" / "1-dead"
    left.write_bytes(b"half a block")
    os.utime(left, (1, 1))

    assert answer("gc", "--dry-run")[1]["leftovers"] == 1
    assert left.exists()
    assert answer("gc")[1]["leftovers"] == 1
    assert not left.exists()


def test_another_store_is_named_by_its_folder(answer, tmp_path):
    other = BlockStore(tmp_path / "node" / "content")
    root = import_bytes(other, b"theirs")

    assert answer("stat", root)[0] == Exit.NOT_SO
    assert answer("stat", root, "--store", other.root)[1]["size"] == 6


def test_abuse_a_store_of_another_user_is_not_written_to(answer, own_store, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: own_store.root.stat().st_uid + 1)

    code, found = answer("gc", "--store", own_store.root)

    assert (code, "run this as that user" in found["error"]) == (Exit.BAD_INPUT, True)


# --- fsck


def test_fsck_of_a_sound_store_is_content(answer, added, own_store):
    code, found = answer("fsck")

    assert (code, found["blocks"], found["damagedCount"]) == (Exit.OK, len(list(own_store)), 0)


def test_fsck_of_an_empty_store_is_content(answer):
    assert answer("fsck")[0] == Exit.OK


def test_fsck_names_a_damaged_and_a_missing_block_below_a_pin(insula, answer, added, own_store):
    damaged, gone = raw_leaf(own_store, added), Cid.of(RAW, b"hello")
    flip(own_store, damaged)
    own_store.delete(gone)

    code, found = answer("fsck")

    assert (code, found["ok"], found["damaged"]) == (Exit.NOT_SO, False, [str(damaged)])
    assert set(found["missing"]) == {str(damaged), str(gone)}
    code, out, _ = insula("content", "fsck")
    assert code == Exit.NOT_SO
    assert f"missing     {gone}" in out


def test_damage_that_no_pin_needs_is_put_away_and_nothing_stays_wrong(answer, own_store):
    root = import_bytes(own_store, b"nobody's")
    flip(own_store, root)

    code, found = answer("fsck")

    assert (code, found["damaged"], found["missing"]) == (Exit.OK, [str(root)], [])
    assert not own_store.has(root)


def test_fsck_fetches_anew_what_a_source_has(answer, tmp_path):
    content = Content.of(os.urandom(3_000_000))
    own_store = BlockStore(tmp_path / "home" / "content")
    own_store.put_many((cid, content.blocks.get(cid)) for cid in content.blocks)
    answer("pin", content.root)
    flip(own_store, raw_leaf(own_store, content.root))

    with Gateway(content) as good:
        code, found = answer("fsck", "--repair", good.url)

    assert (code, found["damagedCount"], found["repaired"], found["missing"]) == (Exit.OK, 1, 1, [])
    assert answer("stat", content.root, "--verify")[1]["verified"] is True


def test_fsck_fetches_anew_what_a_damaged_inner_block_hid(answer, tmp_path):
    content = Content.of(os.urandom(3_000_000))
    own_store = BlockStore(tmp_path / "home" / "content")
    own_store.put_many((cid, content.blocks.get(cid)) for cid in content.blocks)
    answer("pin", content.root)
    flip(own_store, content.root)
    own_store.delete(next(cid for cid in own_store if cid.codec == RAW))

    with Gateway(content) as good:
        assert answer("fsck", "--repair", good.url)[0] == Exit.OK


def test_fsck_fetches_from_several_sources_what_each_has(answer, own_store):
    contents = [Content.of(os.urandom(3_000_000)) for _ in range(2)]
    for content in contents:
        own_store.put_many((cid, content.blocks.get(cid)) for cid in content.blocks)
        answer("pin", content.root)
        flip(own_store, raw_leaf(own_store, content.root))

    with Gateway(contents[0]) as one, Gateway(contents[1]) as two:
        code, found = answer("fsck", "--gateway", one.url, "--bridge", two.url)

    assert (code, found["repaired"], found["repairProblems"]) == (Exit.OK, 2, [])


def test_fsck_fetches_anew_from_a_kubo(answer, own_store, kubo):
    content = Content.of(os.urandom(3_000_000))
    own_store.put_many((cid, content.blocks.get(cid)) for cid in content.blocks)
    answer("pin", content.root)
    flip(own_store, content.root)
    with Kubo(kubo.api) as daemon:
        daemon.publish(content.blocks, content.root)

    code, found = answer("fsck", "--kubo", kubo.api)

    assert (code, found["repaired"]) == (Exit.OK, 1)
    assert answer("stat", content.root, "--verify")[1]["verified"] is True


def test_fsck_repairs_what_it_can_and_names_the_rest(answer, own_store):
    contents = [Content.of(os.urandom(3_000_000)) for _ in range(2)]
    for content in contents:
        own_store.put_many((cid, content.blocks.get(cid)) for cid in content.blocks)
        answer("pin", content.root)
    leaves = [raw_leaf(own_store, content.root) for content in contents]
    for leaf in leaves:
        own_store.delete(leaf)

    with Gateway(contents[0]) as one:
        code, found = answer("fsck", "--repair", one.url, "--timeout", "10")

    assert (code, found["repaired"], found["missing"]) == (Exit.NOT_SO, 1, [str(leaves[1])])
    assert one.url in found["repairProblems"][0]
    assert own_store.has(leaves[0])


def test_gc_takes_nothing_while_what_a_service_keeps_has_lost_an_inner_block(answer, own_store):
    content = Content.of(os.urandom(3_000_000))
    own_store.put_many((cid, content.blocks.get(cid)) for cid in content.blocks)
    RootSet(own_store).keep(content.root, "job:0x11")
    answer("gc")
    flip(own_store, content.root)
    age(own_store)

    code, found = answer("gc")

    assert (code, len(list(own_store))) == (Exit.NOT_SO, len(content.blocks) - 1)
    assert "fsck --repair" in found["error"]
    with Gateway(content) as good:
        assert answer("fsck", "--repair", good.url)[0] == Exit.OK
    assert answer("gc")[0] == Exit.OK


@pytest.mark.parametrize("what", ["wrong block", "has it not"])
def test_abuse_a_source_that_lies_or_lacks_it_repairs_nothing_and_is_named(answer, tmp_path, what):
    content = Content.of(os.urandom(3_000_000))
    own_store = BlockStore(tmp_path / "home" / "content")
    own_store.put_many((cid, content.blocks.get(cid)) for cid in content.blocks)
    answer("pin", content.root)
    own_store.delete(raw_leaf(own_store, content.root))

    with faulty(what, content) as url:
        code, found = answer("fsck", "--repair", url, "--timeout", "5")

    assert (code, found["missingCount"]) == (Exit.NOT_SO, 1)
    assert url in found["repairProblems"][0]


def test_fsck_tells_an_unfinished_import_from_a_loss(answer, own_store):
    content = Content.of(os.urandom(3_000_000))
    importing = CarImport(own_store, RootSet(own_store), CarLimits(10**9))
    with pytest.raises(CarError):
        importing.run([content.car[:2_000_000]], Kept("pin:x"), time.time())

    code, found = answer("fsck")

    assert (code, found["missing"], found["unfinished"] > 0) == (Exit.OK, [], True)


def test_a_block_that_the_disk_does_not_give_is_named(answer, added, own_store):
    leaf = path_of(own_store, raw_leaf(own_store, added))
    leaf.unlink()
    leaf.mkdir()

    code, found = answer("fsck")

    assert (code, found["unreadable"][0]["cid"]) == (Exit.NOT_SO, leaf.name)


# --- bad input

ROOT = str(CONTENT.root)
BAD_CALLS = {
    "stat of no CID": (["stat", "Qm"], "CID"),
    "stat of an empty text": (["stat", ""], "CID"),
    "abuse stat of a path that climbs": (["stat", f"{ROOT}/../x"], "path"),
    "abuse a CID of a megabyte": (["stat", "b" * 10**6], "CID"),
    "ls of no CID": (["ls", "nothing"], "CID"),
    "pin of a path": (["pin", f"{ROOT}/a"], "CID"),
    "abuse a label with a line break": (["pin", ROOT, "--label", "a\nb"], "--label"),
    "an empty label": (["pin", ROOT, "--label", ""], "--label"),
    "abuse a label of a megabyte": (["pin", ROOT, "--label", "a" * 10**6], "--label"),
    "pin for no time": (["pin", ROOT, "--for", "0"], "--for"),
    "abuse pin for a time that is none": (["pin", ROOT, "--for", "nan"], "--for"),
    "abuse pin for ever and ever": (["pin", ROOT, "--for", "inf"], "--for"),
    "unpin under a label that is none": (["unpin", ROOT, "--label", "a b"], "--label"),
    "gc of no store": (["gc", "--store", "/nowhere"], "--store"),
    "import of no file": (["import", "/nowhere.car"], "FILE.car"),
    "import of a folder": (["import", "/"], "FILE.car"),
    "export over a file": (["export", ROOT, "/dev/null"], "FILE.car"),
    "get from no URL": (["get", ROOT, "-o", "x", "--gateway", "ftp://gateway.example"], "gateway"),
    "get from no host": (["get", ROOT, "-o", "x", "--gateway", "https://"], "gateway"),
    "get from a bridge that is no URL": (["get", ROOT, "-o", "x", "--bridge", "ftp://bridge.example"], "--bridge"),
    "get from no Kubo": (["get", ROOT, "-o", "x", "--kubo", "https://kubo.example"], "kubo"),
    "fsck from no URL": (["fsck", "--repair", "ftp://gateway.example"], "gateway"),
    "get for no time": (["get", ROOT, "-o", "x", "--for", "-1"], "--for"),
    "add for all to see, and nowhere": (["add", __file__, "--public"], "--public"),
    "add for all to see, and only here": (["add", __file__, "--public", "--local"], "--public"),
    "add for somebody, and nowhere": (["add", __file__, "--for", f"0x{'11' * 20}"], "--for"),
}


@pytest.mark.parametrize("what", BAD_CALLS)
def test_a_bad_call_is_named_by_its_field(answer, what):
    words, field = BAD_CALLS[what]

    code, found = answer(*words)

    assert code == Exit.BAD_INPUT
    assert found["error"].startswith(f"{field}: ")
    assert answer("ls")[1]["pins"] == []


ABSENT = {"stat": [], "ls": [], "pin": [], "unpin": [], "export": ["x.car"]}


@pytest.mark.parametrize("verb", ABSENT)
def test_what_is_not_here_is_said_to_be_not_here(answer, tmp_path, monkeypatch, verb):
    monkeypatch.chdir(tmp_path)

    code, found = answer(verb, Cid.of(RAW, b"elsewhere"), *ABSENT[verb])

    assert code == Exit.NOT_SO
    assert str(Cid.of(RAW, b"elsewhere")) in found["error"]
    assert not (tmp_path / "x.car").exists()


def test_use_and_limits_of_a_store_are_shown(insula, answer, added, own_store):
    used = sum(-(-own_store.stat(cid).size // 4096) * 4096 for cid in own_store)
    own_store.meter.set_limits(StoreLimits(10**9, 2**20))
    shown = answer("ls", "--store", own_store.root)[1]["store"]

    assert (shown["used"], shown["limit"], shown["keptFree"]) == (used, 10**9, 2**20)
    assert answer("stat", added)[1]["store"]["used"] == used
    assert f"{used} bytes used, of at most 1000000000" in insula("content", "ls")[1]
    own_store.meter.set_limits(StoreLimits(0, 2**20))
    assert f"{used} bytes used, and no limit" in insula("content", "stat", str(added))[1]


def test_an_add_over_the_limit_of_the_store_says_what_to_do_and_gc_makes_room(answer, content_folder, own_store):
    own_store.meter.set_limits(StoreLimits(3 * 2**20, 0))
    answer("add", content_folder, "--local")
    (content_folder / "sub" / "big.bin").write_bytes(os.urandom(2_500_000))

    code, found = answer("add", content_folder, "--local")
    assert code == Exit.NOT_SO
    assert "over its limit of 3145728: unpin what is not needed and collect garbage" in found["error"]

    answer("unpin", answer("ls")[1]["pins"][0]["cid"])
    age(own_store)
    answer("gc")
    assert answer("add", content_folder, "--local")[0] == Exit.OK
