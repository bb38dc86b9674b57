"""`insula content get`: what it keeps, what it leaves, and how it says that its time is over."""

import multiprocessing
import os
import signal
import time

import pytest

from bridge.cli.content_verbs import write_out
from bridge.cli.output import Exit
from executor.content.blocks import MemoryBlocks
from executor.content.importer import import_listing
from executor.content.limits import TreeLimits
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
