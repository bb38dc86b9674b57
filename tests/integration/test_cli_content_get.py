"""`insula content get`: what it keeps, what it leaves, and how it says that its time is over."""

import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from bridge.cli.content_verbs import write_out
from bridge.cli.output import Exit
from executor.content.blocks import MemoryBlocks
from executor.content.importer import import_bytes, import_listing
from executor.content.limits import TreeLimits
from executor.content.reader import resolve
from executor.errors import InvalidInput
from tests.chain_nodes import wait_for
from tests.content_kit import CONTENT
from tests.faulty_sources import Gateway, faulty
from tests.raw_server import RawServer, drip, head, send, silent


def test_what_was_fetched_is_kept_for_the_time_that_was_asked_for(answer, tmp_path):
    with Gateway(CONTENT) as good:
        code, _ = answer("get", CONTENT.root, "-o", tmp_path / "out", "--gateway", good.url, "--for", "500")

    [pin] = answer("ls")[1]["pins"]
    assert (code, pin["label"], pin["cid"]) == (Exit.OK, "fetched", str(CONTENT.root))
    assert 400 < pin["until"] - time.time() <= 500


def test_a_get_that_fails_leaves_nothing_pinned_but_what_arrives(answer, own_store, tmp_path):
    with faulty("has it not", CONTENT) as url:
        answer("get", CONTENT.root, "-o", tmp_path / "out", "--gateway", url, "--timeout", "5")

    assert [pin["by"] for pin in answer("ls")[1]["pins"]] == ["arriving"]


def dripping(connection, stopping):
    """A CAR whose header takes 12 s."""
    connection.sendall(head() + bytes([127]))
    drip(b"!")(connection, stopping)


#: what a get meets -> its exit code, where it has a second for it
ENDS = {
    "a gateway that is silent": (silent, ["--gateway"], Exit.TIMEOUT),
    "a bridge that is silent": (silent, ["--bridge"], Exit.TIMEOUT),
    "a bridge that drips": (dripping, ["--bridge"], Exit.TIMEOUT),
    "a gateway that refuses": (send(head("404 Not Found")), ["--gateway"], Exit.NOT_SO),
}


@pytest.mark.parametrize("what", ENDS)
def test_a_get_whose_time_runs_out_says_so_by_its_exit_code(answer, tmp_path, what):
    script, option, code = ENDS[what]
    began = time.monotonic()
    with RawServer(script) as server:
        found = answer("get", CONTENT.root, "-o", tmp_path / "out", *option, server.url, "--timeout", "1")

    assert found[0] == code, found
    assert time.monotonic() - began < 5
    assert ("not done in 1 s" in found[1]["error"]) == (code == Exit.TIMEOUT)


@pytest.mark.parametrize("option", ["--gateway", "--bridge"])
def test_a_get_from_where_nobody_is_ends_before_its_time_and_says_that(answer, tmp_path, option):
    words = ("get", CONTENT.root, "-o", tmp_path / "out", option, "http://127.0.0.1:1", "--timeout", "3")

    assert answer(*words)[0] == Exit.UNREACHABLE


# --- kill -9 while it writes


def written_by_one_that_stops(folder, acts):
    """A process that writes something out: it says so in the middle, waits, and dies there or goes on."""
    blocks = MemoryBlocks()
    root = import_listing(blocks, {"a": b"a", "b/c": b"c" * 10_000}, TreeLimits(10**9))

    class Stopping:
        def get(self, cid):
            if list(folder.glob(".insula-part-*/content/a")):
                acts.send("in the middle")
                if acts.recv() == "die":
                    os.kill(os.getpid(), signal.SIGKILL)
            return blocks.get(cid)

    write_out(Stopping(), root, folder / "its")
    acts.send("done")
    acts.recv()


@pytest.fixture
def writer(tmp_path):
    """Such a process, which is in the middle now, and the way to tell it what to do."""
    tmp_path.joinpath("place").mkdir()
    ours, its = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=written_by_one_that_stops, args=(tmp_path / "place", its))
    process.start()
    assert ours.poll(60)
    assert ours.recv() == "in the middle"
    yield process, ours
    process.kill()
    process.join(20)


def got(answer, place):
    with Gateway(CONTENT) as good:
        assert answer("get", CONTENT.root, "-o", place / "out", "--gateway", good.url)[0] == Exit.OK
    return sorted(path.name for path in place.iterdir())


def test_what_a_killed_get_left_is_removed_by_the_next_one_there(answer, writer, tmp_path):
    process, acts = writer
    acts.send("die")
    process.join(20)
    assert process.exitcode == -signal.SIGKILL
    assert list((tmp_path / "place").glob(".insula-part-*/content/a"))

    assert got(answer, tmp_path / "place") == ["out"]


def test_what_a_living_get_writes_is_left_alone(answer, writer, tmp_path):
    _, acts = writer
    [out, its] = got(answer, tmp_path / "place")[::-1]
    assert (out, its.startswith(".insula-part-")) == ("out", True)

    for said in iter(lambda: acts.send("go on") or acts.recv(), "done"):
        assert said == "in the middle"
    assert (tmp_path / "place" / "its" / "b" / "c").read_bytes() == b"c" * 10_000
    assert not list((tmp_path / "place").glob(".insula-*"))


#: what lies there under such a name -> how it is made
NOT_OURS = {
    "a file": lambda path: path.write_text("mine"),
    "a link to a folder": lambda path: path.symlink_to(path.parent.parent),
    "a folder with a longer name": lambda path: path.with_name(f"{path.name}-notes").mkdir(),
}


@pytest.mark.parametrize("what", NOT_OURS)
def test_what_only_looks_like_a_leftover_stays(answer, tmp_path, what):
    place = tmp_path / "place"
    place.mkdir()
    NOT_OURS[what](place / ".insula-part-abcdefgh")
    before = sorted(path.name for path in place.iterdir())

    assert got(answer, place) == sorted([*before, "out"])


# --- where it is to be


#: what keeps it from being written -> the goal, and what is said of it
NO_PLACES = {
    "a file": (lambda place: place.write_text("mine"), "exists already"),
    "a link that leads nowhere": (lambda place: place.symlink_to("nowhere"), "exists already"),
    "in a file": (lambda place: place.parent.rmdir() or place.parent.write_text("mine"), "is no folder"),
}


@pytest.mark.parametrize("what", NO_PLACES)
def test_what_cannot_be_written_is_told_before_anything_is_fetched(answer, tmp_path, what):
    make, words = NO_PLACES[what]
    place = tmp_path / "place" / "out"
    place.parent.mkdir()
    make(place)
    with Gateway(CONTENT) as good:
        code, found = answer("get", CONTENT.root, "-o", place, "--gateway", good.url)
        assert good.calls == []

    assert code == Exit.BAD_INPUT
    assert words in found["error"]


#: what is written, and what came to its place meanwhile
MEANWHILE = {
    "a file where a file is written": ("file", "file"),
    "a folder where a file is written": ("file", "folder"),
    "a file where a folder is written": ("folder", "file"),
    "a folder where a folder is written": ("folder", "folder"),
}


@pytest.mark.parametrize("has_links", [True, False], ids=["links", "a disk without links"])
@pytest.mark.parametrize("what", MEANWHILE)
def test_what_came_to_its_place_meanwhile_stays_and_is_told(tmp_path, monkeypatch, what, has_links):
    written, other = MEANWHILE[what]
    goal = tmp_path / "out"
    blocks = MemoryBlocks()
    root = import_listing(blocks, {"a": b"a"}, TreeLimits(10**9))
    mine = goal if other == "file" else goal / "mine"

    class Coming:
        """Blocks that are read when somebody else is there."""

        def get(self, cid):
            mine.parent.mkdir(exist_ok=True)
            mine.write_text("mine")
            return blocks.get(cid)

    def refuse(*_, **__):
        raise OSError(errno.EPERM, "no links here")

    if not has_links:
        monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(InvalidInput, match="has come into being meanwhile" if has_links else "out"):
        write_out(Coming(), root if written == "folder" else resolve(blocks, root, "a"), goal)

    assert (mine.read_text(), [path.name for path in tmp_path.iterdir()]) == ("mine", ["out"])


def test_a_file_is_put_in_its_place_on_a_disk_without_links(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    blocks = MemoryBlocks()
    write_out(blocks, import_bytes(blocks, b"new"), tmp_path / "out")

    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"new"]


# --- Ctrl-C


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "JSON"])
def test_a_get_that_is_stopped_says_so_and_how_to_go_on(tmp_path, as_json):
    words = ["content", "get", str(CONTENT.root), "-o", str(tmp_path / "place" / "out"), "--gateway"]
    environment = {**os.environ, "INSULA_HOME": str(tmp_path / "home")}
    with RawServer(silent) as server:
        command = [sys.executable, "-m", "bridge.cli", *words, server.url, *["--json"] * as_json]
        with subprocess.Popen(command, env=environment, stdout=-1, stderr=-1, text=True) as process:
            wait_for(lambda: server.calls, 30, "a call")
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=15)

    assert (process.returncode, err) == (
        Exit.STOPPED,
        "stopped before all was there: the same command goes on from here\nstopped\n",
    )
    assert (json.loads(out) if as_json else out) == ({"ok": False, "error": "stopped", "exit": 130} if as_json else "")
    assert not (tmp_path / "place").exists()
