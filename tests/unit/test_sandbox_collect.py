"""Collecting the outputs of a dead job: what passes, and every trick that must not."""

import contextlib
import hashlib
import os
import socket
import stat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from executor.protocol.reasons import Reason
from executor.sandbox import collect as collecting
from executor.sandbox.collect import Collected, OutputTooLarge, collect
from executor.sandbox.tree import MAX_DEPTH, OutputUnsafe, escaped, measure
from executor.sandbox.types import Limits

LIMITS = Limits(wall_seconds=1, cpu_millis=1, memory_bytes=1, disk_bytes=10_000, output_files=100, log_bytes=1, pids=1)


@pytest.fixture
def outputs(tmp_path):
    folder = tmp_path / "outputs"
    folder.mkdir()
    return folder


@pytest.fixture
def into(tmp_path):
    return tmp_path / "collected"


def test_files_and_folders_are_copied_with_plain_modes_in_order_of_their_paths(outputs, into):
    (outputs / "b").mkdir(mode=0o700)
    (outputs / "b" / "inner.txt").write_bytes(b"inner")
    (outputs / "a.bin").write_bytes(b"\0\1")
    (outputs / "a.bin").chmod(0o4755)

    found = collect(outputs, into, LIMITS)

    assert found == (
        Collected("a.bin", "file", 2, hashlib.sha256(b"\0\1").hexdigest()),
        Collected("b", "directory"),
        Collected("b/inner.txt", "file", 5, hashlib.sha256(b"inner").hexdigest()),
    )
    assert (into / "b" / "inner.txt").read_bytes() == b"inner"
    assert {stat.S_IMODE(path.stat().st_mode) for path in into.rglob("*") if path.is_file()} == {0o644}


def test_nothing_at_all_is_an_output_too(outputs, into):
    assert collect(outputs, into, LIMITS) == ()
    assert list(into.iterdir()) == []


def link_to(target):
    return lambda folder: (folder / "link").symlink_to(target)


def unix_socket(folder):
    with socket.socket(socket.AF_UNIX) as made, contextlib.chdir(folder):  # its full path would be too long
        made.bind("s")


def named(name):
    def make(folder):
        (folder / os.fsdecode(name)).touch()

    return make


def deep(folder):
    for _ in range(MAX_DEPTH + 2):
        folder = folder / "d"
        folder.mkdir()


def unreadable(folder):
    (folder / "secret").write_bytes(b"x")
    (folder / "secret").chmod(0)


def closed(folder):
    (folder / "closed").mkdir()
    (folder / "closed").chmod(0)


def long_path(folder):
    for _ in range(8):
        folder = folder / ("n" * 200)
        folder.mkdir()


UNSAFE = {
    "a link to a file of the host": (link_to("/etc/passwd"), "symbolic link"),
    "a link that climbs out": (link_to("../../../../etc/passwd"), "symbolic link"),
    "a link to itself": (link_to("link"), "symbolic link"),
    "a link to a folder of the host": (link_to("/etc"), "symbolic link"),
    "a link that stays inside": (link_to("."), "symbolic link"),
    "a FIFO, which waits for ever": (lambda folder: os.mkfifo(folder / "f"), "FIFO"),
    "a socket": (unix_socket, "socket"),
    "a name that is not UTF-8": (named(b"\xff\xfe"), "UTF-8"),
    "a name with a line break": (named(b"a\nb"), "control character"),
    "a name with an escape sequence": (named(b"\x1b[2J"), "control character"),
    "a name that reads backwards": (named("\u202egpj.exe".encode()), "control character"),
    "too many levels": (deep, "levels deep"),
    "too long a path": (long_path, "path has more than"),
    "a file that its owner may not read": (unreadable, "mode 0000"),
    "a folder that its owner may not enter": (closed, "mode 0000"),
}


@pytest.mark.parametrize("name", UNSAFE)
@pytest.mark.timeout(10)
def test_what_is_unsafe_is_named_and_refused(name, outputs, into):
    make, words = UNSAFE[name]
    make(outputs)

    with pytest.raises(OutputUnsafe, match=words) as caught:
        collect(outputs, into, LIMITS)

    assert caught.value.path.isprintable()


def test_a_device_is_refused(outputs, into):
    try:
        os.mknod(outputs / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    except PermissionError:
        pytest.xfail("only root makes devices")

    with pytest.raises(OutputUnsafe, match="device"):
        collect(outputs, into, LIMITS)


TOO_LARGE = {
    "one file over the limit": (Reason.DISK_LIMIT, {"a": 10_001}, 100),
    "files that are over it together": (Reason.DISK_LIMIT, {"a": 5_000, "b": 5_001}, 100),
    "a sparse file of an exabyte": (Reason.DISK_LIMIT, {"a": 2**43}, 100),
    "one file too many": (Reason.FILES_LIMIT, {"a": 0, "b": 0, "c": 0}, 2),
}


@pytest.mark.parametrize("name", TOO_LARGE)
@pytest.mark.timeout(10)
def test_what_is_too_large_is_not_read(name, outputs, into):
    reason, files, most = TOO_LARGE[name]
    for file, size in files.items():
        with (outputs / file).open("wb") as out:
            out.truncate(size)

    with pytest.raises(OutputTooLarge) as caught:
        collect(outputs, into, Limits(1, 1, 1, 10_000, most, 1, 1))

    assert caught.value.reason == reason
    assert sum(path.stat().st_size for path in into.iterdir()) <= 10_000


def test_exactly_the_limit_is_allowed(outputs, into):
    (outputs / "a").write_bytes(b"x" * 10_000)

    (found,) = collect(outputs, into, Limits(1, 1, 1, 10_000, 1, 1, 1))

    assert found.size == 10_000


def test_a_file_that_changes_while_it_is_read_is_refused(outputs, into, monkeypatch):
    (outputs / "a").write_bytes(b"x" * 5_000)
    read = os.read

    def and_grow(descriptor, length):
        with (outputs / "a").open("ab") as file:
            file.write(b"more")
        return read(descriptor, length)

    monkeypatch.setattr(collecting.os, "read", and_grow)

    with pytest.raises(OutputUnsafe, match="changed"):
        collect(outputs, into, LIMITS)


def test_a_folder_that_is_there_is_not_mixed_with(outputs, into):
    into.mkdir()

    with pytest.raises(FileExistsError):
        collect(outputs, into, LIMITS)


PLAIN = st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp", "Cf"], exclude_characters="/")
NAMES = st.text(PLAIN, min_size=1, max_size=20).filter(lambda name: name not in (".", ".."))


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(NAMES, st.binary(max_size=200), max_size=8))
def test_every_plain_file_comes_through_unchanged(tmp_path_factory, files):
    home = tmp_path_factory.mktemp("collect")
    (home / "outputs").mkdir()
    for name, data in files.items():
        (home / "outputs" / name).write_bytes(data)

    found = collect(home / "outputs", home / "into", LIMITS)

    assert {item.path: (home / "into" / item.path).read_bytes() for item in found} == files
    assert measure(home / "outputs").size == sum(item.size for item in found)


@given(st.binary(max_size=500))
def test_a_path_of_any_bytes_is_shown_in_printable_ascii_of_bounded_length(path):
    shown = escaped(path)

    assert shown.isascii()
    assert shown.isprintable()
    assert 0 < len(shown) < 1000
