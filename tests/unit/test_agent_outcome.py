"""From a run's end to what a quorum agrees on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.agreement import check_outcome
from executor.agent import outcome as outcomes
from executor.protocol.cid import RAW, Cid
from executor.protocol.reasons import Reason
from executor.protocol.spec import InvalidSpec
from executor.protocol.wire import MAX_PAYLOAD_BYTES, Order, ResultKind, Status
from executor.sandbox.types import RunReport

OUTPUT = Cid.of(RAW, b"output")
CUT_REASONS = [
    Reason.WALL_LIMIT, Reason.MEMORY_LIMIT, Reason.CPU_LIMIT, Reason.DISK_LIMIT, Reason.FILES_LIMIT, Reason.LOG_LIMIT,
    Reason.PIDS_LIMIT, Reason.TRAP, Reason.OUTPUT_UNSAFE, Reason.PROGRAM_INVALID, Reason.KILLED,
]  # fmt: skip


def report(exit_code=0, reason=Reason.NONE, stdout=b"", stderr=b""):
    return RunReport(
        exit_code=exit_code,
        reason=reason,
        detail="",
        stdout=stdout,
        stderr=stderr,
        started_at=0.0,
        finished_at=1.0,
    )


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (ResultKind.CID, b""),
        (ResultKind.STDOUT, b"out\x00\xff"),
        (ResultKind.STDERR, b"err"),
        (ResultKind.EXIT_CODE, b"0"),
    ],
)
def test_the_payload_is_what_the_order_asks_for_byte_for_byte(kind, payload):
    outcome = outcomes.released(report(stdout=b"out\x00\xff", stderr=b"err"), kind, OUTPUT)

    assert (outcome.status, outcome.reason, outcome.exit_code) == (Status.SUCCEEDED, Reason.NONE, 0)
    assert outcome.payload == payload
    assert outcome.output_cid == OUTPUT.binary


@pytest.mark.parametrize(
    ("size", "status"), [(MAX_PAYLOAD_BYTES, Status.SUCCEEDED), (MAX_PAYLOAD_BYTES + 1, Status.FAILED)]
)
def test_a_stream_of_more_than_8_kib_fails_but_keeps_its_output(size, status):
    outcome = outcomes.released(report(stdout=b"x" * size), ResultKind.STDOUT, OUTPUT)

    assert outcome.status == status
    assert outcome.output_cid == OUTPUT.binary
    if status is Status.FAILED:
        assert (outcome.reason, outcome.exit_code, outcome.payload) == (Reason.PAYLOAD_TOO_LARGE, 0, b"")


@pytest.mark.parametrize("code", [1, 3, 127, 255, -9])
def test_an_exit_code_other_than_0_fails_with_code_and_output(code):
    outcome = outcomes.released(report(exit_code=code, reason=Reason.EXIT_NON_ZERO), ResultKind.EXIT_CODE, OUTPUT)

    assert (outcome.status, outcome.reason, outcome.exit_code) == (Status.FAILED, Reason.EXIT_NON_ZERO, code)
    assert outcome.payload == str(code).encode()
    assert outcome.output_cid == OUTPUT.binary


def test_a_failed_program_with_a_long_stream_keeps_its_exit_code_and_has_no_payload():
    outcome = outcomes.released(report(exit_code=2, stdout=b"x" * 9000), ResultKind.STDOUT, OUTPUT)

    assert (outcome.reason, outcome.exit_code, outcome.payload) == (Reason.EXIT_NON_ZERO, 2, b"")


@pytest.mark.parametrize("reason", CUT_REASONS, ids=lambda reason: reason.name)
def test_a_cut_says_its_reason_and_nothing_else(reason):
    assert not outcomes.ran_to_its_end(report(reason=reason))

    outcome = outcomes.cut(reason)

    assert (outcome.status, outcome.reason) == (Status.FAILED, reason)
    assert (outcome.exit_code, outcome.output_cid, outcome.payload) == (0, b"", b"")


def test_a_refusal_carries_the_spec_s_reason():
    outcome = outcomes.refused(InvalidSpec(Reason.BAD_CID, "engine.module", "is no CID"))

    assert (outcome.status, outcome.reason, outcome.exit_code) == (Status.REFUSED, Reason.BAD_CID, 0)


def test_what_is_withheld_says_nothing_about_the_output():
    outcome = outcomes.withheld(Reason.AUDIT_RULE)

    assert (outcome.exit_code, outcome.output_cid, outcome.payload) == (0, b"", b"")


@given(
    exit_code=st.integers(-(2**31), 2**31 - 1),
    kind=st.sampled_from(list(ResultKind)),
    size=st.integers(0, MAX_PAYLOAD_BYTES + 10),
)
def test_the_bridge_accepts_every_outcome_of_a_run_that_ended(exit_code, kind, size):
    reason = Reason.EXIT_NON_ZERO if exit_code else Reason.NONE
    outcome = outcomes.released(report(exit_code, reason, b"x" * size, b"y" * size), kind, OUTPUT)

    assert check_outcome(Order(spec=b"", ttl=1, result_kind=int(kind)), outcome) == OUTPUT


@given(reason=st.sampled_from(CUT_REASONS), kind=st.sampled_from(list(ResultKind)))
def test_the_bridge_accepts_every_cut(reason, kind):
    assert check_outcome(Order(spec=b"", ttl=1, result_kind=int(kind)), outcomes.cut(reason)) is None


@pytest.mark.parametrize(("seconds", "told"), [(0, 0), (0.001, 60), (60, 60), (60.5, 120), (-3, 0)])
def test_how_long_an_output_that_stays_took_is_told_in_whole_minutes(seconds, told):
    assert outcomes.public_end(5.0, 5.0 + seconds) == 5.0 + told


@pytest.mark.parametrize(
    ("reason", "detail", "said"),
    [
        (Reason.TRAP, "0: - !Caused by: f1 1: - !f2 Caused by: wasm trap: unreachable", "wasm trap: unreachable"),
        (Reason.TRAP, "in words of the job's own", ""),
        (Reason.OUTPUT_UNSAFE, "a name", ""),
        (Reason.WALL_LIMIT, "still running after 3 s", "still running after 3 s"),
    ],
)
def test_of_a_run_that_was_cut_nothing_is_said_in_words_of_the_job_s_own(reason, detail, said):
    assert outcomes.public_detail(reason, detail) == said


PARTS = {
    "a CID": (report(), ResultKind.CID, (Status.SUCCEEDED, Reason.RELEASED_IN_PART, 0, b"")),
    "stdout": (report(), ResultKind.STDOUT, (Status.SUCCEEDED, Reason.RELEASED_IN_PART, 0, b"less")),
    "stderr": (report(), ResultKind.STDERR, (Status.SUCCEEDED, Reason.RELEASED_IN_PART, 0, b"none")),
    "an exit code": (report(), ResultKind.EXIT_CODE, (Status.SUCCEEDED, Reason.RELEASED_IN_PART, 0, b"0")),
    "an exit code that is not 0": (
        report(3, Reason.EXIT_NON_ZERO), ResultKind.EXIT_CODE, (Status.FAILED, Reason.EXIT_NON_ZERO, 3, b"3"),
    ),
    "stdout of a job that failed": (
        report(3, Reason.EXIT_NON_ZERO), ResultKind.STDOUT, (Status.FAILED, Reason.EXIT_NON_ZERO, 3, b"less"),
    ),
    "stdout that was too long": (
        report(stdout=b"x" * 9000), ResultKind.STDOUT, (Status.SUCCEEDED, Reason.RELEASED_IN_PART, 0, b"less"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PARTS)
def test_the_outcome_of_a_part_follows_from_the_part(name):
    run, kind, due = PARTS[name]
    part = Cid.of(RAW, b"part")

    found = outcomes.redacted(outcomes.released(run, kind, OUTPUT), b"less", b"none", kind, part)

    assert (found.status, found.reason, found.exit_code, found.payload) == due
    assert found.output_cid == part.binary
    check_outcome(Order(spec=b"x", ttl=1, result_kind=int(kind)), found)


def test_a_stream_of_a_part_that_is_too_long_is_as_of_a_whole():
    found = outcomes.redacted(
        outcomes.released(report(), ResultKind.STDOUT, OUTPUT), b"x" * 8193, b"", ResultKind.STDOUT, OUTPUT
    )

    assert (found.status, found.reason, found.payload) == (Status.FAILED, Reason.PAYLOAD_TOO_LARGE, b"")
