"""What two endings of one job say of each other."""

import pytest

from executor.protocol.cid import RAW, Cid
from executor.protocol.reasons import Reason
from executor.protocol.release import Changes
from executor.protocol.replay import Difference, Ending, differences, differences_in_part
from executor.protocol.wire import Outcome, Status

ONE, TWO = b"\1" * 36, b"\2" * 36
DONE = Outcome(status=Status.SUCCEEDED, output_cid=ONE, payload=b"42")


def file(path, cid="a", size=1):
    return {"path": path, "type": "file", "size": size, "cid": cid}


def folder(path, cid):
    return {"path": path, "type": "directory", "size": 0, "cid": cid}


def other(**fields):
    return Outcome(**{"status": Status.SUCCEEDED, "output_cid": TWO, "payload": b"42", **fields})


def paths(before, after):
    return [one.path for one in differences(before, after)]


def test_two_equal_endings_do_not_differ_whatever_is_known_of_their_files():
    assert differences(Ending(DONE, None), Ending(DONE, [file("x")])) == []


def test_the_files_that_differ_come_first_in_the_order_of_their_paths():
    before = [folder("outputs", "p"), file("outputs/b"), file("outputs/a"), file("outputs/Z", "a"), file("stderr")]
    after = [folder("outputs", "q"), file("outputs/b", "c"), file("outputs/a", "d"), file("outputs/Z", "a")]

    assert paths(Ending(DONE, before), Ending(other(payload=b"43"), after)) == [
        "outputs/a", "outputs/b", "stderr", "outcome.payload", "outcome.outputCid",
    ]  # fmt: skip


def test_a_difference_tells_both_sides():
    found = differences(Ending(DONE, [file("x", "a", 3)]), Ending(other(), [folder("x", "b")]))

    assert found[0] == Difference("x", "3 bytes, a", "a directory")


def test_a_file_that_one_side_lacks_is_told_as_such():
    found = differences(Ending(DONE, []), Ending(other(), [file("x")]))

    assert found[0] == Difference("x", "is not there", "1 bytes, a")


def test_rows_that_a_receipt_left_out_do_not_count_as_missing():
    before = [file("a"), file("m", "x"), {"omitted": 3}]
    after = [file("a"), file("b"), file("m", "y"), file("z")]

    assert paths(Ending(DONE, before), Ending(other(), after)) == ["b", "m", "outcome.outputCid"]
    assert paths(Ending(DONE, [{"omitted": 3}]), Ending(other(), after)) == ["outcome.outputCid"]


def test_where_no_manifest_is_known_the_cid_is_what_differs():
    assert paths(Ending(DONE, None), Ending(other(), [file("x")])) == ["outcome.outputCid"]


def test_cids_are_shown_as_such_where_they_are_any():
    cid = Cid.of(RAW, b"x")
    after = other(output_cid=cid.binary)

    assert differences(Ending(DONE, None), Ending(after, None))[0] == Difference(
        "outcome.outputCid", "0x" + "01" * 36, str(cid)
    )
    assert differences(Ending(DONE, None), Ending(other(output_cid=b""), None))[-1].after == "none"


FIELDS = {
    "outcome.status": {"status": Status.FAILED},
    "outcome.reason": {"reason": int(Reason.WALL_LIMIT)},
    "outcome.exitCode": {"exit_code": 3},
    "outcome.payload": {"payload": b"x" * 200},
}


@pytest.mark.parametrize("path", FIELDS)
def test_a_field_of_the_outcome_that_differs_is_named(path):
    assert paths(Ending(DONE, None), Ending(other(output_cid=ONE, **FIELDS[path]), None)) == [path]


def test_a_reason_that_nobody_knows_is_its_number():
    (found,) = differences(Ending(DONE, None), Ending(other(output_cid=ONE, reason=65000), None))

    assert (found.before, found.after) == ("NONE", "65000")


def test_a_long_payload_is_cut_in_what_is_shown():
    (found,) = differences(Ending(DONE, None), Ending(other(output_cid=ONE, payload=b"x" * 200), None))

    assert found.after.endswith("... (200 bytes)")


WITHHELD = Outcome(status=Status.WITHHELD, reason=int(Reason.AUDIT_RULE))


@pytest.mark.parametrize("reason", [Reason.NONE, Reason.EXIT_NON_ZERO, Reason.PAYLOAD_TOO_LARGE])
def test_what_was_withheld_is_compared_with_no_output(reason):
    assert differences(Ending(WITHHELD, None), Ending(other(reason=int(reason)), [file("x")])) == []


def test_what_was_withheld_must_have_run_to_its_end():
    cut = Outcome(status=Status.FAILED, reason=int(Reason.MEMORY_LIMIT))

    assert paths(Ending(WITHHELD, None), Ending(cut, None)) == ["outcome.status"]


PART = Outcome(status=Status.SUCCEEDED, reason=int(Reason.RELEASED_IN_PART), output_cid=ONE, payload=b"42")
ROWS = [folder("outputs", "p"), file("outputs/a"), file("outputs/b"), file("stderr"), file("stdout")]


def in_part(before, after, *, removed=False, replaced=(), outcome=None, ended=None):
    changes = Changes(removed=removed, replaced=tuple(replaced))
    found = differences_in_part(Ending(outcome or PART, before), Ending(ended or other(), after), changes)
    return [one.path for one in found]


def test_a_part_is_the_same_where_only_what_was_taken_out_differs():
    after = [*ROWS, file("outputs/private")]

    assert in_part(ROWS, after, removed=True) == []
    assert in_part([*ROWS[:-1], file("stdout", "x")], after, removed=True, replaced=["stdout"]) == []


def test_a_part_differs_in_a_file_that_was_kept():
    after = [*ROWS[:1], file("outputs/a", "other"), *ROWS[2:], file("outputs/private")]

    assert in_part(ROWS, after, removed=True, replaced=["outputs/b"]) == ["outputs/a"]


def test_a_part_differs_in_a_file_that_nobody_made():
    assert in_part([*ROWS, file("outputs/z")], ROWS, removed=True) == ["outputs/z"]
    assert in_part([*ROWS, file("outputs/z")], ROWS, replaced=["outputs/z"]) == ["outputs/z"]
    assert in_part(ROWS, [*ROWS[:2], folder("outputs/b", "q"), *ROWS[3:]], replaced=["outputs/b"]) == ["outputs/b"]


def test_a_part_of_which_nothing_is_said_to_be_removed_has_all_files():
    assert in_part(ROWS, [*ROWS, file("outputs/private")]) == ["outputs/private"]


def test_the_payload_of_a_part_is_compared_unless_a_stream_was_replaced():
    assert in_part(ROWS, ROWS, ended=other(payload=b"43")) == ["outcome.payload"]
    assert in_part(ROWS, ROWS, replaced=["stdout"], ended=other(payload=b"43")) == []


def test_the_exit_code_of_a_part_is_compared():
    failed = other(status=Status.FAILED, reason=int(Reason.EXIT_NON_ZERO), exit_code=4)

    assert in_part(ROWS, ROWS, ended=failed) == ["outcome.exitCode"]


def test_a_job_that_was_released_in_part_must_have_run_to_its_end():
    cut = Outcome(status=Status.FAILED, reason=int(Reason.MEMORY_LIMIT))

    assert in_part(ROWS, None, removed=True, ended=cut) == ["outcome.status"]
