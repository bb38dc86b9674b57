"""`insula content add --profile unixfs-v0-2015`: the CIDs that Kubo gave before, and every verb that reads them."""

import pytest

from bridge.cli.output import Exit
from executor.protocol.cid import DAG_PB, Cid
from tests.faulty_sources import Content, Gateway

OLD = "unixfs-v0-2015"
HELLO = "Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD"
"""Of "hello world": published by IPIP-499."""


@pytest.fixture
def old(answer, content_folder):
    """The older CID of a folder, added to the command line's own store."""
    code, found = answer("add", content_folder, "--local", "--profile", OLD)
    assert code == Exit.OK
    return found["cid"]


def test_a_file_has_its_published_older_cid_as_text_and_in_json(insula, answer, tmp_path):
    (tmp_path / "hello").write_text("hello world")

    found = answer("add", tmp_path / "hello", "--only-hash", "--profile", OLD)[1]

    assert insula("content", "add", str(tmp_path / "hello"), "--local", "--profile", OLD)[1] == f"{HELLO}\n"
    assert (found["cid"], found["cidV1"]) == (HELLO, str(Cid.parse_any(HELLO)))


def test_every_verb_reads_older_content_by_either_name(answer, old, own_store, tmp_path):
    new = str(Cid.parse_any(old))

    assert all(cid.codec == DAG_PB for cid in own_store)
    by_old, by_new = (answer("stat", name, "--verify")[1] for name in (old, new))
    del by_old["store"]["free"], by_new["store"]["free"]  # of the disk, which others write to meanwhile
    assert by_old == by_new
    assert answer("stat", f"{old}/sub/big.bin")[1]["size"] == 2_500_000
    assert [row["name"] for row in answer("ls", old)[1]["entries"]] == ["a.txt", "sub"]
    assert answer("ls")[1]["pins"][0]["cid"] == new
    assert answer("pin", old, "--label", "mine")[0] == Exit.OK
    assert answer("unpin", new, "--label", "mine")[0] == Exit.OK
    assert answer("fsck")[0] == Exit.OK
    assert answer("export", old, tmp_path / "old.car")[0] == Exit.OK
    assert answer("import", tmp_path / "old.car", "--store", own_store.root)[1]["roots"] == [new]


def test_older_content_is_fetched_and_written_out_as_it_was(
    answer, old, own_store, content_folder, tmp_path, monkeypatch
):
    content = Content.of_store(own_store, Cid.parse_any(old))
    monkeypatch.setenv("INSULA_HOME", str(tmp_path / "elsewhere"))

    with Gateway(content) as gateway:
        code, found = answer("get", old, "-o", tmp_path / "out", "--bridge", gateway.url)

    assert (code, found["cid"]) == (Exit.OK, str(content.root))
    for path in content_folder.rglob("*.*"):
        assert (tmp_path / "out" / path.relative_to(content_folder)).read_bytes() == path.read_bytes()


def test_symbolic_links_are_refused_by_the_older_profile_too(answer, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "link").symlink_to("/etc/passwd")

    code, found = answer("add", tmp_path / "folder", "--local", "--profile", OLD)

    assert code != Exit.OK
    assert "symbolic link" in found["error"]


def test_a_profile_that_is_none_is_refused_with_those_there_are(answer, content_folder):
    code, found = answer("add", content_folder, "--local", "--profile", "unixfs-v2")

    assert code == Exit.BAD_INPUT
    assert "unixfs-v1-2025, unixfs-v0-2015" in found["error"]
