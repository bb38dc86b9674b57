"""What running a job again says of its record: the same, or where it differs first. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from executor.errors import InvalidInput
from executor.protocol.cid import Cid
from executor.protocol.reasons import Reason
from executor.protocol.wire import Outcome, Status

#: a job that was never released says no more than that it ran to its end
_RAN_TO_ITS_END = (Reason.NONE, Reason.EXIT_NON_ZERO, Reason.PAYLOAD_TOO_LARGE)


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
        Difference(path, one.get(path, "is not there"), two.get(path, "is not there"))
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
            found[str(row["path"])] = f"{row.get('size')} bytes, {row.get('cid')}" if is_file else "a directory"
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
