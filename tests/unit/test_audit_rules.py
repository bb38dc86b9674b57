"""The rules that an output must pass before it leaves."""

import pytest

from executor.audit.policy import OutputRules
from executor.audit.rules import MAX_FINDINGS, audit
from executor.content.blocks import MemoryBlocks
from executor.content.importer import import_listing
from executor.content.limits import TreeLimits
from executor.content.reader import manifest

LIMITS = TreeLimits(10**9)


def verdict(files, **rules):
    blocks = MemoryBlocks()
    return audit(manifest(blocks, import_listing(blocks, files, LIMITS), LIMITS), OutputRules(**rules))


def test_a_plain_output_is_clean():
    assert verdict({"outputs/a.txt": b"a", "stdout": b"", "stderr": b""}).is_clean


@pytest.mark.parametrize(
    ("files", "rules", "broken"),
    [
        ({"stdout": b"abcd"}, {"max_bytes": 3}, "max_bytes"),
        ({"a": b"", "b": b"", "c/d": b""}, {"max_files": 3}, "max_files"),
        ({"a/b/c": b""}, {"max_depth": 2}, "max_depth"),
        ({"a" * 200: b""}, {"max_path_bytes": 199}, "max_path_bytes"),
        ({"outputs/Evil.EXE": b""}, {"denied_names": ("*.exe",)}, "denied_names"),
        ({"outputs/.git/x": b""}, {"denied_names": (".git",)}, "denied_names"),
        ({"stdout": b""}, {"allow_empty": False}, "allow_empty"),
    ],
    ids=["bytes", "files", "depth", "path", "name", "folder", "empty"],
)
def test_a_broken_rule_is_found_by_its_name(files, rules, broken):
    assert verdict(files, **rules).rules == (broken,)


def test_each_rule_allows_exactly_its_limit():
    assert verdict({"a/b": b"abc"}, max_bytes=3, max_files=2, max_depth=2, max_path_bytes=3).is_clean


def test_findings_are_bounded():
    files = {f"{n}.exe": b"" for n in range(200)}

    assert len(verdict(files, denied_names=("*.exe",)).findings) == MAX_FINDINGS
