"""The audit of an output by the default policy: what looking through it costs, and that many files cost no more."""

import hashlib
import os
import tempfile
from pathlib import Path

from executor.agent.holding import whole_manifest
from executor.audit.content import ContentAudit
from executor.audit.outputrules import OutputRules
from executor.audit.rules import audit
from executor.content.blocks import MemoryBlocks
from executor.content.importer import CHUNK_BYTES, import_tree
from executor.content.limits import TreeLimits

GIB = 2**30
FILES = 10_000
PARTS = 10


def one_large_file(stack):
    """1 GiB, read from the file as the import reads it, against SHA-256 of the same file.

    Half of it is noise and half text, neither of which is quick to look through: noise has the first byte of
    everything, text has the common ones.
    """
    path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "data"
    lines = b"".join(
        b"2024-05-01T00:%02d:%02dZ INFO ap-1 station AA:%02X associated\n" % (n // 60 % 60, n % 60, n % 256)
        for n in range(9000)
    )
    with path.open("wb") as file:
        for number in range(GIB // CHUNK_BYTES):
            file.write(os.urandom(CHUNK_BYTES) if number % 2 else (lines * 3)[:CHUNK_BYTES])

    def chunks():
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk

    def ours():
        content = ContentAudit(OutputRules(max_bytes=2 * GIB))
        content.look("outputs/data", chunks())
        assert content.findings == []

    def sha256():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256")

    return ours, sha256


def many_small_files(stack):
    """All files in one output, against as many in outputs of a tenth each: anything quadratic would be a ratio of 10.

    A folder of so many is stored in shards, a tenth is not: that is what remains.
    """
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    rules = OutputRules(max_files=2 * FILES, denied_names=("*.exe", ".git"))
    limits = TreeLimits(GIB)

    def output(name, count):
        made = folder / name
        made.mkdir()
        for number in range(count):
            (made / f"{number}.json").write_bytes(b'{"station": %d}\n' % number * 20)
        blocks = MemoryBlocks()
        return sorted(os.fspath(path) for path in made.iterdir()), blocks, import_tree(blocks, made, limits)

    whole = output("whole", FILES)
    parts = [output(f"part{number}", FILES // PARTS) for number in range(PARTS)]

    def audited(paths, blocks, root):
        content = ContentAudit(rules)
        for path in paths:
            with open(path, "rb") as file:  # noqa: PTH123 - cheaper than a Path, as the import is
                content.look(path, [file.read()])
        found = whole_manifest(blocks, root)
        content.names(entry.path for entry in found.entries)
        assert audit(found, rules, content.findings).is_clean

    def ours():
        audited(*whole)

    def one_after_the_other():
        for part in parts:
            audited(*part)

    return ours, one_after_the_other
