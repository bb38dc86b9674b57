"""Inputs laid out for a sandbox: each at its place, readable for the job's user whoever started the node and how."""

import os

import pytest

from executor.sandbox.staging import stage_inputs
from executor.sandbox.types import InputMount, SandboxUnavailable


@pytest.fixture
def strict_umask():
    before = os.umask(0o077)
    yield
    os.umask(before)


def mode_of(path):
    return path.stat().st_mode & 0o777


def test_inputs_are_readable_whatever_the_umask(tmp_path, strict_umask):
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / "file").write_bytes(b"x")
    (tree / "sub" / "file").chmod(0o444)
    staged = stage_inputs((InputMount(tree, "/inputs/deep/tree"),), tmp_path / "inputs")

    folders = [staged, staged / "deep", staged / "deep" / "tree", staged / "deep" / "tree" / "sub"]
    assert [mode_of(folder) for folder in folders] == [0o755] * 4
    assert mode_of(staged / "deep" / "tree" / "sub" / "file") == 0o444


@pytest.mark.parametrize("target", ["/", "/inputs/", "/inputs/../etc", "/inputs//a", "inputs/a", "/inputs/./a"])
def test_a_target_that_is_not_below_inputs_is_refused(tmp_path, target):
    (tmp_path / "data").write_bytes(b"x")
    with pytest.raises(SandboxUnavailable, match="is not /inputs or a path below"):
        stage_inputs((InputMount(tmp_path / "data", target),), tmp_path / "inputs")


def test_a_folder_can_be_the_inputs_themselves(tmp_path):
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    (tmp_path / "tree" / "sub" / "file").write_bytes(b"x")

    staged = stage_inputs((InputMount(tmp_path / "tree", "/inputs"),), tmp_path / "inputs")

    assert (staged / "sub" / "file").read_bytes() == b"x"


def test_a_link_among_the_inputs_is_refused(tmp_path):
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "link").symlink_to("/etc/passwd")
    with pytest.raises(SandboxUnavailable, match="holds a link"):
        stage_inputs((InputMount(tmp_path / "tree", "/inputs/tree"),), tmp_path / "inputs")
