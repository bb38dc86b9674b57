"""The two byte protocols of the sandboxes, and what is read from an engine's and the kernel's answers."""

import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.sandbox import frames
from executor.sandbox.attached import Streams
from executor.sandbox.engine_facts import EngineFacts
from executor.sandbox.frames import BadFrame, FrameReader, write_frame

GOOD = {
    "OSType": "linux",
    "ServerVersion": "28.0",
    "Runtimes": {"runc": {}},
    "MemoryLimit": True,
    "SwapLimit": True,
    "PidsLimit": True,
    "CpuCfsQuota": True,
    "SecurityOptions": ["name=apparmor", "name=seccomp,profile=builtin"],
    "DriverStatus": [["Backing Filesystem", "extfs"]],
}


def cut(data, sizes):
    while data:
        size = next(sizes, len(data))
        yield data[:size]
        data = data[size:]


@given(
    st.lists(st.tuples(st.sampled_from(sorted(frames.KINDS)), st.binary(max_size=300)), max_size=10),
    st.lists(st.integers(1, 50)),
)
def test_frames_come_through_however_they_are_cut(sent, sizes):
    read, write = os.pipe()
    data = bytearray()
    reader = threading.Thread(target=lambda: [data.extend(part) for part in iter(lambda: os.read(read, 4096), b"")])
    reader.start()
    for kind, payload in sent:
        write_frame(write, kind, payload)
    os.close(write)
    reader.join(10)
    os.close(read)

    stream = FrameReader()

    assert [frame for part in cut(bytes(data), iter(sizes)) for frame in stream.feed(part)] == sent


def test_a_long_payload_is_several_frames():
    read, write = os.pipe()
    with os.fdopen(read, "rb") as reader:
        thread = threading.Thread(target=lambda: (write_frame(write, frames.STDOUT, b"x" * 100_000), os.close(write)))
        thread.start()
        parts = list(FrameReader().feed(reader.read()))
        thread.join(10)

    assert [len(payload) for _, payload in parts] == [65536, 34464]


@pytest.mark.parametrize("data", [b"x\0\0\0\0", b"o\xff\xff\xff\xff", b"o\0\x01\0\x01"])
def test_what_is_no_frame_is_refused(data):
    with pytest.raises(BadFrame):
        list(FrameReader().feed(data))


def attached(*parts):
    return b"".join(bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data for stream, data in parts)


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=100)), max_size=10), st.lists(st.integers(1, 20)))
def test_both_streams_are_taken_apart_however_they_are_cut(sent, sizes):
    streams = Streams(limit=10_000)

    for part in cut(attached(*sent), iter(sizes)):
        streams.feed(part)

    assert bytes(streams.stdout) == b"".join(data for stream, data in sent if stream == 1)
    assert bytes(streams.stderr) == b"".join(data for stream, data in sent if stream == 2)
    assert streams.over == ""


def test_a_stream_keeps_its_limit_and_says_that_there_was_more():
    streams = Streams(limit=4)

    streams.feed(attached((1, b"1234"), (2, b"56789")))

    assert (streams.stdout, streams.stderr, streams.over) == (b"1234", b"5678", "stderr")


def test_a_stream_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="stream 3"):
        Streams(limit=4).feed(attached((3, b"x")))


def test_a_good_engine_has_no_problem():
    facts = EngineFacts.of(GOOD, {"Components": [{"Name": "runc", "Version": "1.3.3"}]})

    assert (facts.problem("runc"), facts.notes) == ("", ())


PROBLEMS = {
    "another kind of containers": ({"OSType": "windows"}, "Linux containers"),
    "no memory limits": ({"MemoryLimit": False}, "memory limits"),
    "no swap limits": ({"SwapLimit": False}, "swapaccount"),
    "no limits of processes": ({"PidsLimit": False}, "processes"),
    "no seccomp": ({"SecurityOptions": ["name=apparmor"]}, "seccomp"),
    "seccomp switched off": ({"SecurityOptions": ["name=seccomp,profile=unconfined"]}, "seccomp"),
    "another image store": (
        {"DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]]},
        "containerd-snapshotter",
    ),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_an_engine_that_cannot_hold_the_profile_is_not_used(name):
    changes, words = PROBLEMS[name]

    assert words in EngineFacts.of({**GOOD, **changes}, {}).problem("runc")


def test_a_missing_runtime_is_named():
    assert "'runsc'" in EngineFacts.of(GOOD, {}).problem("runsc")
