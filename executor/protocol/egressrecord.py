"""What a receipt says of a job's exchanges with the network, and whether that fits its spec and its outcome. Pure.

The rows are the node's word: that its proxy saw them, nobody can prove, and of a tunnel the bytes are encrypted. What
can be told is whether they can be so: a job that asked for no network had none, nothing was connected to that the spec
does not name, and numbers and hashes fit together, within the limits of the node's policy where the receipt tells them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from ipaddress import ip_address
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StringConstraints, ValidationError
from pydantic.alias_generators import to_camel

from executor.errors import InvalidInput
from executor.protocol.canonical import sha256
from executor.protocol.network import MAX_EXCHANGES, Destination, admitted, is_host
from executor.protocol.reasons import Reason
from executor.protocol.spec import JobSpec
from executor.protocol.wire import Outcome, Status

FIELD: Final = "egress"
#: a row that was cut for its bytes may be over by what was on its way
SLACK_BYTES: Final = 128 * 1024
#: clocks that were set while the job ran
SLACK_SECONDS: Final = 300.0
_EMPTY: Final = sha256(b"").hex()
_MOST: Final = 2**53 - 1

Count = Annotated[StrictInt, Field(ge=0, le=_MOST)]
Sha256Text = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Words = Annotated[str, StringConstraints(min_length=1, max_length=500)]


class _Camel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel)


class Row(_Camel):
    """One exchange; docs/spec.md, "Exchanges in a receipt"."""

    at: Count
    method: str = Field(pattern=r"^[A-Z]{0,16}$")
    host: str
    port: StrictInt = Field(ge=0, le=65535)
    kind: Literal["http", "tunnel"]
    status: StrictInt = Field(ge=0, le=999)
    bytes_out: Count
    bytes_in: Count
    request_sha256: Sha256Text
    response_sha256: Sha256Text
    target_sha256: Sha256Text | None = None
    address: Words | None = None
    refused: Words | None = None
    cut: Words | None = None


class EgressLimits(_Camel):
    """Of the node's policy, for one job. Absent in receipts of older nodes."""

    bytes_out: Count
    bytes_in: Count
    exchanges: StrictInt = Field(ge=1, le=MAX_EXCHANGES)


class EgressRecord(_Camel):
    """The byproduct `egress` of a receipt. Of an output that was not released whole it has no more than a number."""

    reproducible: Literal[False]
    count: Count
    omitted: Count | None = None
    exchanges: tuple[Row, ...] | None = Field(default=None, max_length=MAX_EXCHANGES)
    limits: EgressLimits | None = None


def check_egress(receipt: Mapping[str, Any], job: JobSpec | None, outcome: Outcome) -> EgressRecord | None:
    """The record of a parsed receipt, checked; None where the job had no network.

    job: None where the spec can never run. InvalidInput("egress") says what does not fit.
    """
    try:
        details = receipt["predicate"]["runDetails"]
        found = [item["annotations"] for item in details["byproducts"] if item["name"] == FIELD]
        rulings = [item["annotations"].get("ruling") for item in details["byproducts"] if item["name"] == "release"]
        span = tuple(_moment(details["metadata"][name]) for name in ("startedOn", "finishedOn"))
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise InvalidInput(FIELD, "the receipt has another form") from exc
    allowed = job.network if job is not None else ()
    if not found:
        if allowed and outcome.reason != Reason.PROGRAM_INVALID:  # such a job may end before there is a proxy
            raise InvalidInput(FIELD, "the job was given a network, and the receipt says nothing of its exchanges")
        return None
    if not allowed:
        raise InvalidInput(FIELD, "the receipt tells of exchanges, and the job asked for no network")
    if len(found) > 1:
        raise InvalidInput(FIELD, "is there twice")
    try:
        record = EgressRecord.model_validate(found[0])
    except ValidationError as exc:
        first = exc.errors()[0]
        raise InvalidInput(FIELD, f"{_path(first['loc'])}: {first['msg']}") from exc
    _check_openness(record, outcome, is_part="redacted" in rulings)  # whether that is so: `check_release`
    if record.exchanges is not None:
        _check_numbers(record, record.exchanges)
        for number, row in enumerate(record.exchanges):
            if problem := _row_problem(row, allowed, span):
                raise InvalidInput(FIELD, f"exchanges[{number}]: {problem}")
    return record


def _check_openness(record: EgressRecord, outcome: Outcome, *, is_part: bool) -> None:
    """All or nothing; rows where the output was released whole, none where all or some of it was withheld."""
    is_open = record.exchanges is not None
    if (record.omitted is not None) is not is_open or (record.limits is not None and not is_open):
        raise InvalidInput(FIELD, "omitted, exchanges and limits are told together, or none of them")
    if is_part and is_open:
        raise InvalidInput(FIELD, "the output was released in part, and its exchanges are told all the same")
    if outcome.output_cid and not is_open and not is_part:
        raise InvalidInput(FIELD, "the output was released, and its exchanges are not told")
    if outcome.status == Status.WITHHELD and is_open:
        raise InvalidInput(FIELD, "the output was withheld, and its exchanges are told all the same")


def _check_numbers(record: EgressRecord, rows: tuple[Row, ...]) -> None:
    omitted = record.omitted or 0
    if record.count != len(rows) + omitted:
        raise InvalidInput(FIELD, f"count is {record.count}, and there are {len(rows)} rows and {omitted} omitted")
    limits = record.limits
    if limits is None:
        return
    if len(rows) > limits.exchanges:
        raise InvalidInput(FIELD, f"{len(rows)} exchanges, and the node's policy allows {limits.exchanges}")
    if omitted and len(rows) < limits.exchanges:
        raise InvalidInput(FIELD, f"{omitted} were omitted, while {limits.exchanges - len(rows)} rows were left")
    slack = SLACK_BYTES * sum(row.cut is not None for row in rows)
    for name, most in (("bytes_out", limits.bytes_out), ("bytes_in", limits.bytes_in)):
        passed = sum(getattr(row, name) for row in rows)
        if passed > most + slack:
            raise InvalidInput(FIELD, f"{to_camel(name)} come to {passed}, and the node's policy allows {most}")


def _row_problem(row: Row, allowed: tuple[Destination, ...], span: tuple[float, ...]) -> str:
    """What is wrong with a row; empty where nothing is. A row may have been begun only, when the job ended."""
    where = f"{row.host}:{row.port}"
    passed = row.bytes_out + row.bytes_in
    has_no_host = not row.host
    is_let = not has_no_host and row.refused is None
    tests = (
        (has_no_host and row.port != 0, "has a port and no host"),
        (has_no_host and (passed > 0 or row.address is not None), "something was exchanged with no host"),
        (has_no_host and row.target_sha256 is not None, "has a target and no host"),
        (not has_no_host and not is_host(row.host), "its host is no host name"),
        (not has_no_host and not admitted(allowed, row.host, row.port), f"{where:.280} is none of network.allow"),
        (is_let and (not row.method or row.target_sha256 is None), "says whom it was for, and not what it was"),
        (passed > 0 and row.address is None, "bytes were exchanged with no address"),
        (row.address is not None and not _is_address(row.address), "its address is none"),
        (row.kind == "tunnel" and row.method != "CONNECT", "a tunnel was made by something else than CONNECT"),
        (not row.bytes_out and row.request_sha256 != _EMPTY, "requestSha256 is not that of no bytes"),
        (not row.bytes_in and row.response_sha256 != _EMPTY, "responseSha256 is not that of no bytes"),
        (not span[0] - SLACK_SECONDS <= row.at / 1000 <= span[1] + SLACK_SECONDS, "was not while the job ran"),
    )
    return next((problem for is_so, problem in tests if is_so), "")


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _moment(text: str) -> float:
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError("a time of no zone")
    return found.timestamp()


def _path(location: tuple[int | str, ...]) -> str:
    """`exchanges[0].host` of ("exchanges", 0, "host")."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).removeprefix(".")
