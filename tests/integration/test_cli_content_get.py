"""`insula content get`: what it keeps, what it leaves, and how it says that its time is over."""

import time

import pytest

from bridge.cli.output import Exit
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
