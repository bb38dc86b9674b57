"""What may be taken out of a held output, and what was: from manifests and wishes to a plan, and back. Pure.

A redaction removes files and folders and replaces files by others of the same name. Nothing else: what it leads to is
compared with the original, whoever made it, and has no path that the original has not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from executor.content.reader import ManifestEntry
from executor.errors import InvalidInput
from executor.protocol.release import MAX_REPLACED, Changes

OUTPUTS: Final = "outputs"
STREAMS: Final = ("stderr", "stdout")
MAX_REPLACED_PATH_BYTES: Final = 16 * 1024  # of all of them, which the receipt names
MAX_REPLACEMENT_BYTES: Final = 64 * 2**20
"""Of all replacements together."""


@dataclass(frozen=True)
class Plan:
    """removed: paths that go with all that is below them; replaced: the new bytes of files, by path."""

    removed: frozenset[str]
    replaced: Mapping[str, bytes]


@dataclass(frozen=True)
class Difference:
    """How a redacted output differs from the original, sorted as manifests are. replaced: files before and after."""

    removed: tuple[ManifestEntry, ...]
    replaced: tuple[tuple[ManifestEntry, ManifestEntry], ...]
    kept: tuple[ManifestEntry, ...]

    @property
    def changes(self) -> Changes:
        """What may be told of it outside."""
        return Changes(removed=bool(self.removed), replaced=tuple(after.path for _, after in self.replaced))


def plan(
    entries: Sequence[ManifestEntry],
    without: Sequence[ManifestEntry],
    replace: Sequence[tuple[ManifestEntry, bytes]],
) -> Plan:
    """What to do for these wishes about an output with these entries. InvalidInput that names the wish.

    stdout and stderr are emptied where they are to go, and `outputs` is: an output always has the three.
    """
    replaced: dict[str, bytes] = {}
    for entry, content in replace:
        if entry.kind != "file":
            raise InvalidInput("--replace", f"{entry.path!r:.200} is a folder; only a file can be replaced")
        if entry.path in replaced:
            raise InvalidInput("--replace", f"{entry.path!r:.200} is given twice")
        replaced[entry.path] = content
    removed: set[str] = set()
    for entry in without:
        if entry.path in STREAMS:
            if replaced.get(entry.path):
                raise InvalidInput("--without", f"{entry.path} is to be replaced, too; give one of the two")
            replaced[entry.path] = b""
        elif entry.path == OUTPUTS:
            removed |= {one.path for one in entries if one.path.startswith(f"{OUTPUTS}/") and one.path.count("/") == 1}
        else:
            removed.add(entry.path)
    for path in replaced:
        if any(path == gone or path.startswith(f"{gone}/") for gone in removed):
            raise InvalidInput("--replace", f"{path!r:.200} is to be removed, too; give one of the two")
    _check_bounds(replaced)
    return Plan(frozenset(removed), replaced)


def _check_bounds(replaced: Mapping[str, bytes]) -> None:
    if len(replaced) > MAX_REPLACED:
        raise InvalidInput("--replace", f"{len(replaced)} files; at most {MAX_REPLACED} can be replaced")
    if sum(len(path.encode()) for path in replaced) > MAX_REPLACED_PATH_BYTES:
        raise InvalidInput("--replace", f"the paths have more than {MAX_REPLACED_PATH_BYTES} bytes, all together")
    if sum(map(len, replaced.values())) > MAX_REPLACEMENT_BYTES:
        raise InvalidInput("--replace", f"more than {MAX_REPLACEMENT_BYTES} bytes, all together; replace by less")


def difference(before: Sequence[ManifestEntry], after: Sequence[ManifestEntry]) -> Difference:
    """How one output differs from another. InvalidInput("redaction") where it is no redaction of it."""
    old = {entry.path: entry for entry in before}
    new = {entry.path: entry for entry in after}
    for entry in after:
        was = old.get(entry.path)
        if was is None or was.kind != entry.kind:
            raise InvalidInput("redaction", f"{entry.path!r:.200} is not in the output; a redaction adds nothing")
    if missing := [path for path in (OUTPUTS, *STREAMS) if path in old and path not in new]:
        raise InvalidInput("redaction", f"has no {missing[0]}, which every output has")
    changed = {
        entry.path for entry in after if entry.kind == "file" and (entry.cid, entry.size) != _content(old[entry.path])
    }
    found = Difference(
        removed=tuple(entry for entry in before if entry.path not in new),
        replaced=tuple((old[entry.path], entry) for entry in after if entry.path in changed),
        kept=tuple(entry for entry in after if entry.path not in changed),
    )
    if not found.removed and not found.replaced:
        raise InvalidInput("redaction", "changes nothing: say what to take out (--without, --replace)")
    return found


def _content(entry: ManifestEntry) -> tuple[object, int]:
    return entry.cid, entry.size
