"""A crowd of connections: what comes in, who makes room, and what goes on meanwhile."""

import contextlib
import resource
import socket
import subprocess
import sys

import httpx
import pytest

from executor.crowd import (
    FEWEST_CONNECTIONS,
    MOST_CONNECTIONS,
    RESERVED_FILES,
    Crowd,
    connections_within,
    open_door,
    raise_file_limit,
)
from tests.chain_nodes import wait_for

FILES = RESERVED_FILES + 60


@contextlib.contextmanager
def crowded(folder):
    """A bridge in a process of its own that may open FILES files; its port and how many connections it holds."""
    command = [sys.executable, "-m", "tests.crowded_bridge", str(folder), str(FILES)]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log) as process,
    ):
        port, most = process.stdout.readline().split()
        yield int(port), int(most)
        process.stdin.close()
        assert process.wait(20) == 0


def half_a_header(port):
    opened = socket.create_connection(("127.0.0.1", port), timeout=10)
    opened.sendall(b"GET /v1/status HTTP/1.1\r\nHost: x\r\nX: ")
    return opened


def is_open(connection):
    connection.setblocking(False)
    try:
        return connection.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def test_more_silent_connections_than_descriptors_stop_neither_the_loops_nor_the_calls(tmp_path):
    with crowded(tmp_path) as (port, most), contextlib.ExitStack() as stack:
        assert most == FILES - RESERVED_FILES
        silent = [stack.enter_context(half_a_header(port)) for _ in range(2 * FILES)]
        wait_for(lambda: sum(map(is_open, silent)) <= most, 20, "room")
        base = f"http://127.0.0.1:{port}"
        assert httpx.get(f"{base}/healthz").json() == {"ok": True}
        before = httpx.get(f"{base}/v1/status").json()["loops"][0]
        assert before["last_error"] == ""

        def stepped():
            loop = httpx.get(f"{base}/v1/status").json()["loops"][0]
            return loop["last_step_at"] > before["last_step_at"] and loop["failures_in_a_row"] == 0

        wait_for(stepped, 20, "a step")
        assert is_open(silent[-1])
        assert not is_open(silent[0])


#: descriptors that a process may have -> connections that it holds
ROOM = {
    64: FEWEST_CONNECTIONS,
    RESERVED_FILES + 60: 60,
    1024: 1024 - RESERVED_FILES,
    10**6: MOST_CONNECTIONS,
}


@pytest.mark.parametrize("files", ROOM)
def test_a_part_of_the_descriptors_is_kept_for_the_rest_of_the_bridge(files):
    assert connections_within(files) == ROOM[files]


def test_the_limit_of_open_files_is_raised_and_never_lowered():
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)

    assert raise_file_limit(1) == soft
    assert raise_file_limit(soft) == soft


@pytest.fixture
def door():
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen(16)
    with open_door(listening, Crowd(1)) as door:
        door.settimeout(10)
        yield door


def test_who_comes_when_all_are_busy_is_told_to_come_later(door):
    with socket.create_connection(door.getsockname()), socket.create_connection(door.getsockname()) as second:
        first, _ = door.accept()
        door.crowd.idle(first, first.close)
        door.crowd.busy(first)

        with pytest.raises(BlockingIOError):
            door.accept()

        second.settimeout(10)
        assert second.recv(100).startswith(b"HTTP/1.1 503 ")
        first.close()


def test_who_has_waited_longest_makes_room(door):
    with socket.create_connection(door.getsockname()) as old, socket.create_connection(door.getsockname()):
        first, _ = door.accept()
        door.crowd.idle(first, first.close)

        with pytest.raises(BlockingIOError):
            door.accept()
        old.settimeout(10)
        assert old.recv(1) == b""

        door.crowd.lost(first)
        second, _ = door.accept()
        second.close()
