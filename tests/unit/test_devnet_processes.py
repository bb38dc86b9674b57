"""Child processes end with their group, whatever ends it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bridge.devnet.processes import ProcessFailed, ProcessGroup, recorded, stop_recorded

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        os.sched_yield()


def up(child):
    return "up" in child.tail()


def test_leaving_the_group_stops_its_children(tmp_path):
    with ProcessGroup(tmp_path) as group:
        child = group.start("a", SLEEP)
        group.wait_until("a", lambda: up(child), 20)

    assert not is_running(child.pid)


def test_an_exception_stops_the_children_too(tmp_path):
    with pytest.raises(KeyboardInterrupt), ProcessGroup(tmp_path) as group:
        child = group.start("a", SLEEP)
        raise KeyboardInterrupt

    assert not is_running(child.pid)


def test_a_child_that_ends_while_waited_for_is_named_with_its_last_words(tmp_path):
    with (
        pytest.raises(ProcessFailed, match=r"(?s)bad ended with status 7 .*out of order"),
        ProcessGroup(tmp_path) as group,
    ):
        group.start("bad", [sys.executable, "-c", "import sys; print('out of order'); sys.exit(7)"])
        group.wait_until("something", lambda: False, 20)


def test_what_does_not_come_in_time_is_said(tmp_path):
    with pytest.raises(ProcessFailed, match="the moon did not come"), ProcessGroup(tmp_path) as group:
        group.wait_until("the moon", lambda: False, 0.1)


def test_a_detached_group_runs_on_and_is_stopped_by_its_record(tmp_path):
    with ProcessGroup(tmp_path, detached=True) as group:
        child = group.start("a", SLEEP)
        group.wait_until("a", lambda: up(child), 20)

    assert is_running(child.pid)
    assert [row["name"] for row in recorded(tmp_path)] == ["a"]
    assert stop_recorded(tmp_path) == ["a"]
    assert child.process.wait(20) == -signal.SIGTERM
    assert recorded(tmp_path) == []


def test_a_record_of_another_process_with_the_same_id_stops_nobody(tmp_path):
    (tmp_path / "processes.json").write_text(f'[{{"name": "me", "pid": {os.getpid()}, "started": 1}}]')

    assert stop_recorded(tmp_path) == []


def test_children_die_with_a_parent_that_is_killed(tmp_path):
    program = (
        "import sys, time; from pathlib import Path; from bridge.devnet.processes import ProcessGroup\n"
        f"group = ProcessGroup(Path({str(tmp_path)!r}))\n"
        f"child = group.start('a', {SLEEP!r})\n"
        "print(child.pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    try:
        pid = int(parent.stdout.readline())
        wait_for(lambda: (tmp_path / "logs" / "a.log").exists() and "up" in (tmp_path / "logs" / "a.log").read_text())
    finally:
        parent.kill()
        parent.wait(20)
        parent.stdout.close()

    wait_for(lambda: not is_running(pid))
