"""From how a run ended to what a quorum agrees on: the rules of docs/spec.md, as pure functions.

Everything in an outcome must be the same on every honest node. A program that ran to its end is deterministic as far as
it is itself; where a limit cut it off is not. So a job that hit a limit has no output, no payload and exit code 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from executor.protocol.cid import Cid
from executor.protocol.reasons import Reason
from executor.protocol.spec import InvalidSpec
from executor.protocol.wire import MAX_PAYLOAD_BYTES, Outcome, ResultKind, Status
from executor.sandbox.types import RunReport

SPAN_SECONDS: Final = 60
"""How exactly the receipt of an output that does not leave tells how long the job ran."""
_CAUSE: Final = "Caused by: "


def refused(problem: InvalidSpec) -> Outcome:
    """The job can never run."""
    return Outcome(status=Status.REFUSED, reason=problem.reason)


def cut(reason: Reason) -> Outcome:
    """A limit, a trap or an unusable program ended the job: nothing of what it left is the same everywhere."""
    return Outcome(status=Status.FAILED, reason=reason)


def withheld(reason: Reason) -> Outcome:
    """The job ran, and its output does not leave the node. Says nothing that depends on the output."""
    return Outcome(status=Status.WITHHELD, reason=reason)


def public_runtime(runtime: Mapping[str, Any]) -> dict[str, Any]:
    """Of a withheld output's run, nothing that measures it: only what the sandbox is."""
    return {name: value for name, value in runtime.items() if name in ("engine", "version", "profile", "profileSha256")}


def public_end(started_at: float, finished_at: float) -> float:
    """When such a run ended, as its receipt tells it: after whole minutes. A job can take as long as it likes."""
    return started_at + SPAN_SECONDS * math.ceil(max(0.0, finished_at - started_at) / SPAN_SECONDS)


def public_detail(reason: Reason, detail: str) -> str:
    """What may be said of a run that was cut: nothing in words of the job's own.

    A trap's backtrace names the job's functions, and which of them called each other is for the job to choose.
    """
    if reason is Reason.OUTPUT_UNSAFE:
        return ""  # it may name a file
    if reason is Reason.TRAP:
        return detail.rpartition(_CAUSE)[2] if _CAUSE in detail else ""
    return detail


def ran_to_its_end(report: RunReport) -> bool:
    """Whether the program ended by itself, so that what it left can be collected."""
    return report.reason in (Reason.NONE, Reason.EXIT_NON_ZERO)


def released(report: RunReport, kind: int, output: Cid) -> Outcome:
    """The program ended by itself and its output `output` was released."""
    return _ended(report.exit_code, payload_of(report.exit_code, report.stdout, report.stderr, kind), output)


def redacted(original: Outcome, stdout: bytes, stderr: bytes, kind: int, output: Cid) -> Outcome:
    """As `original`, an outcome of `released`, where `output` with these streams was released in its place.

    Of a stream that is longer than a payload may be, one byte more than that is enough.
    """
    payload = payload_of(original.exit_code, stdout, stderr, kind)
    return _ended(original.exit_code, payload, output, Reason.RELEASED_IN_PART)


def _ended(exit_code: int, payload: bytes, output: Cid, reason: Reason = Reason.NONE) -> Outcome:
    if exit_code != 0:
        # The exit code says what happened; a stream that is too long for the chain is still under the CID.
        return Outcome(
            status=Status.FAILED,
            reason=Reason.EXIT_NON_ZERO,
            exit_code=exit_code,
            output_cid=output.binary,
            payload=payload if len(payload) <= MAX_PAYLOAD_BYTES else b"",
        )
    if len(payload) > MAX_PAYLOAD_BYTES:
        return Outcome(status=Status.FAILED, reason=Reason.PAYLOAD_TOO_LARGE, output_cid=output.binary)
    return Outcome(status=Status.SUCCEEDED, reason=reason, output_cid=output.binary, payload=payload)


def payload_of(exit_code: int, stdout: bytes, stderr: bytes, kind: int) -> bytes:
    """What the order wants on-chain: exact bytes of a stream, the exit code in decimal ASCII, nothing for a CID."""
    match kind:
        case ResultKind.STDOUT:
            return stdout
        case ResultKind.STDERR:
            return stderr
        case ResultKind.EXIT_CODE:
            return str(exit_code).encode("ascii")
        case _:
            return b""
