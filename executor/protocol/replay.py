"""What running a job again says of its record: the same, or where it differs first. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from executor.errors import InvalidInput
from executor.protocol.cid import Cid
from executor.protocol.reasons import Reason
from executor.protocol.release import Changes
from executor.protocol.wire import Outcome, Status

#: a job that was never released says no more than that it ran to its end
_RAN_TO_ITS_END = (Reason.NONE, Reason.EXIT_NON_ZERO, Reason.PAYLOAD_TOO_LARGE)
_ABSENT = "is not there"
_DIRECTORY = "a directory"


@dataclass(frozen=True)
class Ending:
    """How a run ended. rows: the output's manifest, as `Manifest.rows` gives it; None where it is not known."""

    outcome: Outcome
    rows: Sequence[Mapping[str, Any]] | None


@dataclass(frozen=True)
class Difference:
    """One thing that is not the same. path: of a file of the output, or of a field, `outcome.exitCode`."""

    path: str
    before: str
    after: str


def differences(before: Ending, after: Ending) -> list[Difference]:
    """What differs, files first, in the order of their paths' bytes; nothing where the two are the same."""
    if before.outcome.status == Status.WITHHELD:
        return _of_withheld(before.outcome, after.outcome)
    found: list[Difference] = []
    if before.outcome.output_cid != after.outcome.output_cid:
        found = _of_files(before.rows, after.rows)
    fields = [
        ("outcome.status", *(Status(one.status).name for one in (before.outcome, after.outcome))),
        ("outcome.reason", *(_name(one.reason) for one in (before.outcome, after.outcome))),
        ("outcome.exitCode", str(before.outcome.exit_code), str(after.outcome.exit_code)),
        ("outcome.payload", _shown(before.outcome.payload), _shown(after.outcome.payload)),
        ("outcome.outputCid", *(_cid(one.output_cid) for one in (before.outcome, after.outcome))),
    ]
    return found + [Difference(path, one, two) for path, one, two in fields if one != two]


def differences_in_part(before: Ending, after: Ending, changes: Changes) -> list[Difference]:
    """What differs beyond what reviewers took out of `before`, whose receipt says `changes`.

    A file that was replaced has to be there, and one that was removed may; all others have to be the same. The outcome
    is compared as far as it does not follow from what was taken out.
    """
    if after.outcome.reason not in _RAN_TO_ITS_END:
        names = [Status(one.outcome.status).name for one in (before, after)]
        return [Difference("outcome.status", names[0], f"{names[1]} ({_name(after.outcome.reason)})")]
    found = [
        one
        for one in _of_files(before.rows, after.rows)
        if not (changes.removed and one.before == _ABSENT)
        and not (one.path in changes.replaced and _is_file(one.after))
    ]
    if before.outcome.exit_code != after.outcome.exit_code:
        found.append(Difference("outcome.exitCode", str(before.outcome.exit_code), str(after.outcome.exit_code)))
    streams_kept = not {"stdout", "stderr"} & set(changes.replaced)
    if streams_kept and before.outcome.payload != after.outcome.payload:
        found.append(Difference("outcome.payload", _shown(before.outcome.payload), _shown(after.outcome.payload)))
    return found


def _is_file(what: str) -> bool:
    return what not in (_ABSENT, _DIRECTORY)


def _of_withheld(before: Outcome, after: Outcome) -> list[Difference]:
    """An output was held, so the job had run to its end; which output it was is not on record."""
    if after.reason in _RAN_TO_ITS_END:
        return []
    return [Difference("outcome.status", f"WITHHELD ({_name(before.reason)})", f"FAILED ({_name(after.reason)})")]


def _of_files(
    before: Sequence[Mapping[str, Any]] | None, after: Sequence[Mapping[str, Any]] | None
) -> list[Difference]:
    if before is None or after is None:
        return []
    is_cut = any("omitted" in row for row in before)
    one, two = _files(before), _files(after)
    paths = sorted(one.keys() | two.keys(), key=lambda path: path.encode("utf-8", "surrogatepass"))
    last = max((path.encode("utf-8", "surrogatepass") for path in one), default=b"")
    return [
        Difference(path, one.get(path, _ABSENT), two.get(path, _ABSENT))
        for path in paths
        if one.get(path) != two.get(path)
        and not (is_cut and path not in one and path.encode("utf-8", "surrogatepass") > last)
    ]


def _files(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Path to what stands there; a directory's CID follows from its files and is left out."""
    found = {}
    for row in rows:
        if "path" in row:
            is_file = row.get("type") == "file"
            found[str(row["path"])] = f"{row.get('size')} bytes, {row.get('cid')}" if is_file else _DIRECTORY
    return found


def _name(reason: int) -> str:
    names = {one.value: one.name for one in Reason}
    return names.get(reason, str(reason))


def _cid(binary: bytes) -> str:
    try:
        return str(Cid.from_binary(binary)) if binary else "none"
    except InvalidInput:
        return f"0x{binary.hex()}"


def _shown(payload: bytes) -> str:
    text = repr(payload)[1:]
    return text if len(text) <= 80 else f"{text[:76]}... ({len(payload)} bytes)"
