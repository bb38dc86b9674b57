"""What a canary writes down before it leaves it, and how the dead are told from the living."""

import os
import signal
import subprocess
import sys

import pytest

from bridge.canary.traces import Left, Traces, held
from executor.errors import InvalidInput
from tests.chain_nodes import wait_for

UPLOAD = Left("upload", "http://b", "bafkqaaa", 1, "0x1", "0x2")
PIN = Left("kubo", "http://127.0.0.1:5001", "bafkqaaa")


@pytest.fixture
def traces(tmp_path):
    traces = Traces.open(tmp_path, "one")
    yield traces
    traces.close()


def test_what_is_noted_is_there_until_it_is_forgotten(traces):
    for entry in (UPLOAD, PIN, UPLOAD):
        traces.note(entry)
    assert traces.left() == [PIN, UPLOAD]

    traces.forget(UPLOAD)

    assert traces.left() == [PIN]


def test_a_folder_in_which_nothing_is_left_goes_with_its_canary(tmp_path):
    traces = Traces.open(tmp_path, "one")
    (traces.work("content") / "made").write_bytes(b"x")

    traces.close()

    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_a_folder_in_which_something_is_left_stays_without_its_content(tmp_path):
    traces = Traces.open(tmp_path, "one")
    (traces.work("content") / "made").write_bytes(b"x")
    traces.note(PIN)

    traces.close()

    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["left.json", "lock"]


def test_a_living_canary_is_not_taken_for_a_dead_one(tmp_path, traces):
    dead = Traces.open(tmp_path, "dead")
    dead.note(PIN)
    dead.close()

    found = Traces.of_the_dead(tmp_path)

    assert [(each.folder.name, each.left()) for each in found] == [("dead", [PIN])]
    assert Traces.of_the_dead(tmp_path) == []  # they are ours now
    for each in found:
        each.close()


def test_a_name_is_taken_once(tmp_path, traces):
    with pytest.raises(FileExistsError):
        Traces.open(tmp_path, "one")


BAD = {"not JSON": "{", "not a list": "7", "another shape": '[{"a": 1}]', "cut": '[{"kind": "kubo"'}


@pytest.mark.parametrize("what", BAD)
def test_abuse_a_file_that_is_not_understood_is_named_and_kept(tmp_path, what):
    traces = Traces.open(tmp_path, "one")
    (traces.folder / "left.json").write_text(BAD[what])

    with pytest.raises(InvalidInput, match=r"left\.json: is not understood"):
        traces.left()
    traces.close()

    assert (tmp_path / "one" / "left.json").read_text() == BAD[what]


def test_a_lock_that_another_one_holds_is_waited_for_and_then_told(tmp_path):
    waited = []
    with (
        held(tmp_path / "lock", 1.0),
        pytest.raises(InvalidInput, match="another canary has held it for 1 s"),
        held(tmp_path / "lock", 1.0, waited.append),
    ):
        pytest.fail("both hold it")

    assert sum(waited) == pytest.approx(1.0, abs=0.1)
    with held(tmp_path / "lock", 1.0):
        pass


KILLED = """
import sys, time
from pathlib import Path
from bridge.canary.traces import Left, Traces
traces = Traces.open(Path(sys.argv[1]), "killed")
(traces.work("content") / "made").write_bytes(b"x")
traces.note(Left("kubo", "http://127.0.0.1:5001", "bafkqaaa"))
print("noted", flush=True)
time.sleep(60)
"""


def test_what_a_killed_one_noted_is_found_by_the_next(tmp_path):
    with subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"noted\n"
        assert Traces.of_the_dead(tmp_path) == []
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)

    [dead] = wait_for(lambda: Traces.of_the_dead(tmp_path), 5, "its lock")

    assert dead.left() == [PIN]
    dead.forget(PIN)
    dead.close()
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]
