"""A tree with less in it is, block for block, what importing such a tree makes: nothing tells what was there before."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from executor.content.blocks import MemoryBlocks
from executor.content.edit import edited_blocks
from executor.content.importer import CHUNK_BYTES, import_listing
from executor.content.limits import TreeLimits
from executor.content.walk import walk

LIMITS = TreeLimits(2**30)
NAME = st.sampled_from(["a", "b", "a.b", "ä", "stdout"])
PATH = st.lists(NAME, min_size=1, max_size=3).map("/".join)


def imported(files):
    """Root and blocks of a tree of these files."""
    store = MemoryBlocks()
    return import_listing(store, files, LIMITS), store


def edited(source, root, removed=(), replaced=()):
    """Root of the edited tree, and all that it is made of."""
    new = []
    stream = edited_blocks(source, root, frozenset(removed), dict(replaced))
    while True:
        try:
            new.append(next(stream))
        except StopIteration as done:
            return done.value.cid, MemoryBlocks([*new, *((cid, source.get(cid)) for cid in source)])


def without_prefixes(files):
    """Where a path is a file, nothing can be below it."""
    return {
        path: content for path, content in files.items() if not any(other.startswith(f"{path}/") for other in files)
    }


@given(files=st.dictionaries(PATH, st.binary(max_size=8), min_size=1, max_size=8), draw=st.data())
@settings(deadline=None)
def test_an_edited_tree_is_what_importing_it_would_have_made(files, draw):
    files = without_prefixes(files)
    folders = {path.rsplit("/", 1)[0] for path in files if "/" in path}
    removed = draw.draw(st.sets(st.sampled_from(sorted(files.keys() | folders)), max_size=3))
    kept = [path for path in files if not is_gone(path, removed)]
    replaced = draw.draw(st.dictionaries(st.sampled_from(kept), st.binary(max_size=8), max_size=2)) if kept else {}
    root, source = imported(files)

    found, blocks = edited(source, root, removed, replaced)

    left = {one for one in all_folders(files) if not is_gone(one, removed)}
    empty = {f"{one}/": b"" for one in left if not any(path.startswith(f"{one}/") for path in {*kept, *left})}
    due, expected = imported({**empty, **{path: replaced.get(path, files[path]) for path in kept}})
    assert found == due
    assert set(walk(blocks, found)) == set(walk(expected, due))


def all_folders(files):
    return {"/".join(path.split("/")[:count]) for path in files for count in range(1, path.count("/") + 1)}


def is_gone(path, removed):
    return any(path == one or path.startswith(f"{one}/") for one in removed)


@pytest.mark.parametrize("count", [3000, 6000], ids=["one block", "shards"])
def test_a_large_folder_loses_a_file(count):
    files = {f"outputs/{number:060}": b"" for number in range(count)}
    root, source = imported({**files, "stdout": b""})
    gone = f"outputs/{7:060}"

    found, _ = edited(source, root, [gone])

    del files[gone]
    assert found == imported({**files, "stdout": b""})[0]


def test_a_folder_that_was_sharded_is_one_block_where_little_is_left():
    names = [f"outputs/{number:060}" for number in range(6000)]
    root, source = imported(dict.fromkeys(names, b"x"))

    assert edited(source, root, names[10:])[0] == imported(dict.fromkeys(names[:10], b"x"))[0]


def test_a_file_of_several_chunks_is_kept_or_replaced_by_one():
    large, other = bytes(3 * CHUNK_BYTES), b"1" * (2 * CHUNK_BYTES + 5)
    root, source = imported({"a": large, "b": b"", "c": b""})

    assert edited(source, root, ["b"], {"c": other})[0] == imported({"a": large, "c": other})[0]


def test_a_path_that_is_not_there_changes_nothing():
    root, source = imported({"a": b"1", "b/c": b"2"})

    assert edited(source, root, ["../a", "b/d", "/a"], {"e": b"3"})[0] == root
