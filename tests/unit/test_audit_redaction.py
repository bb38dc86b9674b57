"""What reviewers may take out of an output, and how two outputs are compared: nothing is ever added."""

import dataclasses

import pytest

from executor.audit.redaction import MAX_REPLACED_PATH_BYTES, MAX_REPLACEMENT_BYTES, difference, plan
from executor.content.reader import ManifestEntry
from executor.errors import InvalidInput
from executor.protocol.cid import RAW, Cid
from executor.protocol.release import MAX_REPLACED, Changes


def file(path, content=b""):
    return ManifestEntry(path, "file", len(content), Cid.of(RAW, content))


def folder(path):
    return ManifestEntry(path, "directory", 0, Cid.of(RAW, path.encode()))


ENTRIES = (
    folder("outputs"), folder("outputs/a"), file("outputs/a/1", b"one"), file("outputs/a.b", b"x"),
    file("outputs/c", b"three"),
    file("stderr"), file("stdout", b"said"),
)  # fmt: skip
BY_PATH = {entry.path: entry for entry in ENTRIES}


def planned(without=(), **replaced):
    wishes = [(BY_PATH[path], content) for path, content in replaced.items()]
    return plan(ENTRIES, [BY_PATH[path] for path in without], wishes)


@pytest.mark.parametrize(
    ("without", "removed", "emptied"),
    [
        (["outputs/c"], {"outputs/c"}, {}),
        (["outputs/a", "outputs/a/1"], {"outputs/a", "outputs/a/1"}, {}),
        (["outputs"], {"outputs/a", "outputs/a.b", "outputs/c"}, {}),
        (["stdout"], set(), {"stdout": b""}),
        (["stdout", "stderr"], set(), {"stdout": b"", "stderr": b""}),
    ],
    ids=["a file", "a folder and a file in it", "all files", "a stream", "both streams"],
)
def test_what_goes(without, removed, emptied):
    found = planned(without)

    assert (found.removed, found.replaced) == (removed, emptied)


def test_a_file_is_replaced_by_its_path():
    assert planned(**{"outputs/c": b"less"}).replaced == {"outputs/c": b"less"}
    assert planned(["outputs/a"], **{"outputs/a.b": b""}).replaced == {"outputs/a.b": b""}
    assert planned(["stdout"], stdout=b"").replaced == {"stdout": b""}


@pytest.mark.parametrize(
    ("without", "replaced", "problem"),
    [
        ([], {"outputs/a": b"x"}, "is a folder"),
        (["stdout"], {"stdout": b"x"}, "is to be replaced, too"),
        (["outputs/c"], {"outputs/c": b"x"}, "is to be removed, too"),
        (["outputs/a"], {"outputs/a/1": b"x"}, "is to be removed, too"),
        (["outputs"], {"outputs/c": b"x"}, "is to be removed, too"),
        ([], {"outputs/c": bytes(MAX_REPLACEMENT_BYTES + 1)}, "bytes, all together; replace by less"),
    ],
    ids=["a folder", "emptied, too", "gone, too", "in a folder that goes", "where all go", "too large"],
)
def test_a_wish_that_cannot_be_is_named(without, replaced, problem):
    with pytest.raises(InvalidInput, match=problem):
        planned(without, **replaced)


def test_a_file_is_replaced_once():
    with pytest.raises(InvalidInput, match="given twice"):
        plan(ENTRIES, [], [(BY_PATH["stdout"], b"a"), (BY_PATH["stdout"], b"b")])


@pytest.mark.parametrize(
    ("count", "name", "problem"),
    [
        (MAX_REPLACED + 1, "n", f"at most {MAX_REPLACED} can be replaced"),
        (MAX_REPLACED, "n" * (MAX_REPLACED_PATH_BYTES // MAX_REPLACED), "paths have more than"),
    ],
    ids=["files", "bytes of paths"],
)
def test_what_the_receipt_names_is_bounded(count, name, problem):
    entries = [file(f"outputs/{name}{number}") for number in range(count)]

    with pytest.raises(InvalidInput, match=problem):
        plan(entries, [], [(entry, b"x") for entry in entries])


def less(*gone, **changed):
    return [changed.get(entry.path, entry) for entry in ENTRIES if entry.path not in gone]


def test_the_difference_tells_what_went_what_is_another_and_what_stayed():
    after = less("outputs/a", "outputs/a/1", stdout=file("stdout", b"so"))

    found = difference(ENTRIES, after)

    assert [entry.path for entry in found.removed] == ["outputs/a", "outputs/a/1"]
    assert [(one.size, two.size) for one, two in found.replaced] == [(4, 2)]
    assert [entry.path for entry in found.kept] == ["outputs", "outputs/a.b", "outputs/c", "stderr"]
    assert found.changes == Changes(removed=True, replaced=("stdout",))


def test_of_a_replacement_alone_nothing_is_said_to_be_removed():
    assert difference(ENTRIES, less(stderr=file("stderr", b"!"))).changes == Changes(
        removed=False, replaced=("stderr",)
    )


@pytest.mark.parametrize(
    ("after", "problem"),
    [
        (ENTRIES, "changes nothing"),
        ([dataclasses.replace(ENTRIES[0], cid=Cid.of(RAW, b"?")), *ENTRIES[1:]], "changes nothing"),
        ([*ENTRIES, file("outputs/new")], "adds nothing"),
        ([*less("outputs/c"), folder("outputs/c")], "adds nothing"),
        ([*less("outputs/a", "outputs/a/1"), file("outputs/a")], "adds nothing"),
        (less("stdout"), "has no stdout"),
        (less("stderr", "outputs/c"), "has no stderr"),
        ([], "has no outputs"),
    ],
    ids=["the same", "other folders", "a file more", "a folder for a file", "a file for a folder", "no stdout",
         "no stderr", "nothing"],
)  # fmt: skip
def test_what_is_no_redaction_is_named(after, problem):
    with pytest.raises(InvalidInput, match=problem):
        difference(ENTRIES, after)
