"""Files and folders in: what is imported, and what is refused."""

import os
import socket
import threading
from pathlib import Path

import pytest

from executor.content.blocks import MemoryBlocks
from executor.content.dagpb import Link
from executor.content.importer import file_blocks, only_hash, tree_blocks
from executor.content.unixfs import (
    EMPTY_DIRECTORY,
    EMPTY_FILE,
    Entry,
    Imported,
    TreeLimits,
    check_name,
    export_tree,
    import_bytes,
    import_directory,
    import_file,
    import_listing,
    import_tree,
    list_dir,
    manifest,
    read_file,
)
from executor.errors import (
    ContentTooLarge,
    DiskFull,
    InvalidInput,
    SourceChanged,
    UnsafeName,
)
from executor.protocol.cid import RAW, Cid
from tests.dag_kit import directory, raw

LIMITS = TreeLimits(max_bytes=50_000_000)
MIB = 1024 * 1024


@pytest.fixture
def store():
    return MemoryBlocks()


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_empty_file_and_the_empty_directory_have_their_well_known_cids(store):
    assert import_bytes(store, b"") == EMPTY_FILE
    assert import_listing(store, {}, LIMITS) == EMPTY_DIRECTORY


def test_a_file_is_imported_from_its_path_or_from_a_descriptor(store, tmp_path):
    path = tmp_path / "file"
    content = os.urandom(MIB + 5)
    path.write_bytes(content)
    with path.open("rb") as opened:
        opened.seek(99)
        cids = {import_file(store, opened.fileno(), MIB + 5), import_file(store, path, MIB + 5)}

    assert cids == {import_bytes(MemoryBlocks(), content)}
    assert b"".join(read_file(store, cids.pop(), MIB + 5)) == content


def test_import_keeps_one_chunk_in_memory(tmp_path):
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(40 * MIB)

    class Counting(MemoryBlocks):
        def put_many(self, stream):
            return sum(1 for _ in stream)

    assert str(import_file(Counting(), path, 40 * MIB)) == str(only_hash(file_blocks([bytes(MIB)] * 40)).cid)


class Full:
    """A sink that has room for two blocks."""

    def put_many(self, stream):
        for count, _ in enumerate(stream):
            if count == 2:
                raise DiskFull("no space left")


@pytest.mark.parametrize("what", ["a file", "a folder"])
def test_what_a_sink_does_not_take_leaves_no_thread_and_no_file_open_behind_its_error(tmp_path, what):
    path = tmp_path / "file"
    path.write_bytes(os.urandom(12 * MIB))
    before = threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))

    with pytest.raises(DiskFull) as caught:
        import_file(Full(), path, 12 * MIB) if what == "a file" else import_tree(Full(), tmp_path, LIMITS)

    assert (threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))) == before
    assert caught.value.__traceback__  # which has hold of the frames that read


def test_hidden_files_are_imported(store, tmp_path):
    (tmp_path / ".hidden").write_bytes(b"x")

    assert list_dir(store, import_tree(store, tmp_path, LIMITS)) == [Entry(".hidden", Cid.of(RAW, b"x"))]


def test_times_and_modes_do_not_matter(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    before = only_hash(tree_blocks(tmp_path, LIMITS))
    (tmp_path / "file").chmod(0o711)
    os.utime(tmp_path / "file", (5, 5))

    assert only_hash(tree_blocks(tmp_path, LIMITS)) == before


def make_fifo(path):
    os.mkfifo(path)


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.fspath(path))


SPECIAL = {
    "a link to a file outside": (lambda path: path.symlink_to("/etc/passwd"), "a symbolic link"),
    "a link to a folder outside": (lambda path: path.symlink_to("/etc"), "a symbolic link"),
    "a relative link inside": (lambda path: path.symlink_to("."), "a symbolic link"),
    "a link to nothing": (lambda path: path.symlink_to("nothing"), "a symbolic link"),
    "a named pipe": (make_fifo, "a named pipe"),
    "a socket": (make_socket, "a socket"),
}


@pytest.mark.parametrize(("make", "kind"), SPECIAL.values(), ids=SPECIAL)
def test_what_is_no_file_and_no_directory_is_refused_by_its_path(store, tmp_path, monkeypatch, make, kind):
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    (tmp_path / "d").mkdir()
    make((tmp_path / "d" / "x").relative_to(tmp_path))

    with pytest.raises(UnsafeName, match=f"'d/x': {kind} is refused"):
        import_tree(store, tmp_path, LIMITS)
    with pytest.raises(UnsafeName, match=f"{kind} is refused"):
        import_file(store, tmp_path / "d" / "x", 10**9)


def test_a_device_is_not_opened(store):
    with pytest.raises(UnsafeName, match="a device is refused"):
        import_file(store, Path("/dev/zero"), 10)


def test_a_descriptor_of_something_else_is_refused(store):
    descriptor = os.open("/", os.O_RDONLY)
    try:
        with pytest.raises(UnsafeName, match="a directory is refused"):
            import_file(store, descriptor, 10)
    finally:
        os.close(descriptor)


def test_a_folder_is_no_file_and_a_file_no_folder(store, tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(UnsafeName, match="a directory is refused"):
        import_file(store, tmp_path, 10)
    with pytest.raises(UnsafeName, match="'file': a file is refused"):
        import_tree(store, tmp_path / "file", LIMITS)


def test_what_is_not_there_cannot_be_imported(store, tmp_path):
    with pytest.raises(UnsafeName, match="cannot be read: No such file"):
        import_tree(store, tmp_path / "nothing", LIMITS)


def test_a_name_that_is_not_utf_8_is_refused(store, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / os.fsdecode(b"bad-\xff")).touch()

    with pytest.raises(UnsafeName, match="UTF-8"):
        import_tree(store, tmp_path, LIMITS)


OVER = {
    "bytes": (TreeLimits(max_bytes=9), "bytes of all files: more than the limit of 9"),
    "files": (TreeLimits(max_bytes=100, max_files=3), "files and directories: more than the limit of 3"),
    "files in one folder": (TreeLimits(max_bytes=100, max_files=1), "files and directories"),
    "depth": (TreeLimits(max_bytes=100, max_depth=1), "levels of directories: more than the limit of 1"),
}
WITHIN = TreeLimits(max_bytes=10, max_files=4, max_depth=2)
TREE = {"a": b"12345", "d/e/f": b"12345"}


@pytest.mark.parametrize(("limits", "problem"), OVER.values(), ids=OVER)
def test_a_tree_over_a_limit_is_refused_on_its_way_in_and_out(store, tmp_path, limits, problem):
    root = import_listing(store, TREE, WITHIN)
    export_tree(store, root, tmp_path / "in", WITHIN)
    assert import_tree(store, tmp_path / "in", WITHIN) == root
    assert len(manifest(store, root, WITHIN).entries) == 4

    for refused in (
        lambda: import_tree(store, tmp_path / "in", limits),
        lambda: import_listing(store, TREE, limits),
        lambda: export_tree(store, root, tmp_path / "out", limits),
        lambda: manifest(store, root, limits),
    ):
        with pytest.raises(ContentTooLarge, match=problem):
            refused()


def test_a_sparse_file_of_a_terabyte_is_refused_at_once(store, tmp_path):
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(10**12)

    with pytest.raises(ContentTooLarge):
        import_tree(store, tmp_path, LIMITS)


@pytest.mark.parametrize(
    "limits", [{"max_bytes": -1}, {"max_bytes": 1, "max_files": -1}, {"max_bytes": 1, "max_depth": 999}]
)
def test_senseless_limits_are_refused(limits):
    with pytest.raises(InvalidInput):
        TreeLimits(**limits)


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(3 * MIB))
    for change in (lambda: path.write_bytes(b"short"), lambda: path.open("ab").close() or os.utime(path, (1, 1))):
        stream = tree_blocks(tmp_path, LIMITS)
        next(stream)
        change()
        with pytest.raises(SourceChanged, match="file"):
            list(stream)


LISTINGS = {
    "an absolute path": ({"/etc/passwd": b""}, UnsafeName),
    "a path upwards": ({"a/../../b": b""}, UnsafeName),
    "the folder itself": ({"./a": b""}, UnsafeName),
    "an empty name inside": ({"a//b": b""}, UnsafeName),
    "an empty name": ({"": b""}, UnsafeName),
    "NUL": ({"a\0b": b""}, UnsafeName),
    "a file as a folder": ({"a": b"", "a/b": b""}, InvalidInput),
    "a folder as a file": ({"a/b": b"", "a": b""}, InvalidInput),
    "a folder as a file and empty": ({"a": b"", "a/": b""}, InvalidInput),
}


@pytest.mark.parametrize(("files", "error"), LISTINGS.values(), ids=LISTINGS)
def test_a_listing_with_a_bad_path_is_refused(store, files, error):
    with pytest.raises(error):
        import_listing(store, files, LIMITS)


def test_a_directory_is_made_of_things_imported_before(store):
    one = Imported(raw(store, b"one"), 3, 3)

    made = import_directory(store, [("b", one), ("a", one)])

    assert made.cid == import_listing(MemoryBlocks(), {"a": b"one", "b": b"one"}, LIMITS)
    assert made.size == 6
    with pytest.raises(UnsafeName, match="'a': a name occurs twice"):
        import_directory(store, [("b", one), ("a", one), ("a", one)])


BAD_NAMES = {
    "empty": "",
    "here": ".",
    "above": "..",
    "a slash": "a/b",
    "only a slash": "/",
    "NUL": "a\0",
    "256 bytes": "ä" * 128,
    "half a surrogate pair": "\ud800",
}


@pytest.mark.parametrize("name", BAD_NAMES.values(), ids=BAD_NAMES)
def test_a_bad_name_is_refused_wherever_it_comes_from(store, tmp_path, name):
    with pytest.raises(UnsafeName):
        check_name(name)
    if name != "\ud800":  # which no block can hold
        root = directory(store, Link(name, EMPTY_FILE, 0))
        raw(store, b"")
        for refused in (
            lambda: list_dir(store, root),
            lambda: manifest(store, root, LIMITS),
            lambda: export_tree(store, root, tmp_path / "out", LIMITS),
        ):
            with pytest.raises(UnsafeName):
                refused()
        assert contents(tmp_path) == {}


@pytest.mark.parametrize("name", ["a", "...", "..a", "-rf", "a\\b", "a\nb", "x" * 255, "日本", " "])
def test_a_good_name_is_taken_as_it_is(store, tmp_path, name):
    root = import_listing(store, {name: b"x"}, LIMITS)
    export_tree(store, root, tmp_path / "out", LIMITS)

    assert [entry.name for entry in list_dir(store, root)] == [p.name for p in (tmp_path / "out").iterdir()] == [name]
