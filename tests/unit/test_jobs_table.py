"""The state table, the guard of every move, and the agreement of answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.agreement import agreement, check_outcome, resting_state
from bridge.errors import StaleTransition
from bridge.jobs import OPEN_STATES, TRANSITIONS, JobState, is_allowed
from bridge.store.engine import transaction
from bridge.store.jobs import move_job, set_values
from executor.errors import InvalidInput
from executor.protocol.cid import RAW, Cid
from executor.protocol.leases import Phase
from executor.protocol.reasons import Reason
from executor.protocol.wire import Outcome, ResultKind, Status
from tests.bridge_kit import Bridge, order_of

CID = Cid.of(RAW, b"output").binary


@pytest.fixture(scope="module")
def bridge(tmp_path_factory):
    bridge = Bridge(tmp_path_factory.mktemp("bridge"))
    yield bridge
    bridge.close()


def test_nothing_leaves_a_final_state():
    assert TRANSITIONS[JobState.FINAL] == frozenset()


def test_the_chain_may_settle_or_drop_every_open_job():
    for state in OPEN_STATES:
        assert {JobState.POSTED, JobState.EXPIRED, JobState.CANCELLED, JobState.ORPHANED} <= TRANSITIONS[state]


def test_what_came_back_starts_over():
    assert TRANSITIONS[JobState.ORPHANED] == {JobState.OBSERVED}


def test_nothing_is_posted_without_having_been_stored_unless_the_chain_says_so():
    assert {state for state in JobState if is_allowed(state, JobState.POSTING)} == {JobState.STORED, JobState.POSTED}
    assert {state for state in JobState if is_allowed(state, JobState.STORED)} == {JobState.ATTESTED, JobState.POSTING}


@pytest.mark.parametrize("after", JobState)
@pytest.mark.parametrize("before", JobState)
def test_the_store_makes_exactly_the_moves_of_the_table(bridge, before, after):
    job = bridge.request(order_of(), state=before)
    with transaction(bridge.engine) as connection:
        if is_allowed(before, after):
            move_job(connection, job.request_hash, before, after, 1.0)
        else:
            with pytest.raises(StaleTransition):
                move_job(connection, job.request_hash, before, after, 1.0)

    assert bridge.job(job.request_hash).state is (after if is_allowed(before, after) else before)


def test_a_move_from_a_state_that_was_left_meanwhile_is_stale(bridge):
    job = bridge.request(order_of(), state=JobState.RUNNING)

    with pytest.raises(StaleTransition, match="no longer ready"), transaction(bridge.engine) as connection:
        move_job(connection, job.request_hash, JobState.READY, JobState.RUNNING, 1.0)
    with pytest.raises(StaleTransition, match="no longer ready"), transaction(bridge.engine) as connection:
        set_values(connection, job.request_hash, JobState.READY, agreed_at=1.0)


HASHES = st.sampled_from([b"a", b"b", b"c"])


@st.composite
def orders(draw):
    nodes = draw(st.integers(1, 16))
    return order_of(nodes=nodes, quorum=draw(st.integers(nodes // 2 + 1, nodes)))


@given(orders(), st.data())
def test_an_agreement_once_reached_never_changes(order, data):
    answers = data.draw(st.lists(HASHES, max_size=order.nodes))
    agreed = None
    for count in range(len(answers) + 1):
        found = agreement(order, answers[:count])
        assert agreed in (None, found.agreed)
        agreed = found.agreed


@given(orders(), st.data())
def test_an_agreement_is_possible_exactly_while_the_open_slots_could_bring_it(order, data):
    answers = data.draw(st.lists(HASHES, max_size=order.nodes))
    rest = order.nodes - len(answers)

    could = any(agreement(order, [*answers, *[word] * rest]).agreed for word in (b"a", b"b", b"c", b"new"))

    assert agreement(order, answers).possible is could
    assert agreement(order, answers).complete is (rest == 0)


#: (phases of active leases, answers) -> where a job rests
RESTING = [
    ((), 0, JobState.READY),
    ((), 1, JobState.RUNNING),
    ((Phase.RUNNING,), 0, JobState.RUNNING),
    ((Phase.HELD,), 0, JobState.HELD),
    ((Phase.HELD,), 2, JobState.HELD),
    ((Phase.HELD, Phase.RUNNING), 1, JobState.RUNNING),
]


@pytest.mark.parametrize(("phases", "answered", "state"), RESTING)
def test_a_job_rests_where_its_leases_and_answers_put_it(phases, answered, state):
    assert resting_state(phases, answered) is state


def outcome(**changes):
    return Outcome(**{"status": Status.SUCCEEDED, "output_cid": CID, **changes})


K, S, R = ResultKind, Status, Reason
#: name -> (result kind, outcome)
GOOD = {
    "a CID": (K.CID, outcome()),
    "a stream": (K.STDOUT, outcome(payload=b"out")),
    "an empty stream": (K.STDERR, outcome()),
    "a stream without a CID": (K.STDOUT, outcome(output_cid=b"", payload=b"out")),
    "exit code 0": (K.EXIT_CODE, outcome(payload=b"0")),
    "exit code 3": (K.EXIT_CODE, outcome(status=S.FAILED, reason=R.EXIT_NON_ZERO, exit_code=3, payload=b"3")),
    "killed": (K.EXIT_CODE, outcome(status=S.FAILED, reason=R.KILLED, exit_code=-9, payload=b"-9")),
    "cut off by a limit": (K.EXIT_CODE, outcome(status=S.FAILED, reason=R.WALL_LIMIT, output_cid=b"")),
    "a stream that is too large": (K.STDOUT, outcome(status=S.FAILED, reason=R.PAYLOAD_TOO_LARGE)),
    "refused": (K.CID, outcome(status=S.REFUSED, reason=R.BAD_CID, output_cid=b"")),
    "withheld": (K.STDOUT, outcome(status=S.WITHHELD, reason=R.RELEASE_REJECTED, output_cid=b"")),
}


@pytest.mark.parametrize("name", GOOD)
def test_an_outcome_that_fits_its_order_is_taken(name):
    kind, given_outcome = GOOD[name]

    cid = check_outcome(order_of(result_kind=kind), given_outcome)
    assert (cid.binary if cid else b"") == given_outcome.output_cid


#: name -> (result kind, outcome, field)
BAD = {
    "status 0": (K.CID, outcome(status=0), "status"),
    "status 5": (K.CID, outcome(status=5), "status"),
    "success for a reason": (K.CID, outcome(reason=R.TRAP), "reason"),
    "failure for no reason": (K.CID, outcome(status=S.FAILED), "reason"),
    "refused for a reason of the run": (K.CID, outcome(status=S.REFUSED, reason=R.TRAP, output_cid=b""), "reason"),
    "withheld for a reason of the spec": (K.CID, outcome(status=S.WITHHELD, reason=101, output_cid=b""), "reason"),
    "a reason that no node attests": (K.CID, outcome(status=S.FAILED, reason=R.INPUT_NOT_FOUND), "reason"),
    "a reason that does not exist": (K.CID, outcome(status=S.FAILED, reason=299), "reason"),
    "success with an exit code": (K.CID, outcome(exit_code=1), "exitCode"),
    "refused with an exit code": (
        K.CID,
        outcome(status=S.REFUSED, reason=R.BAD_CID, exit_code=1, output_cid=b""),
        "exitCode",
    ),
    "exit code 0 that is not 0": (K.CID, outcome(status=S.FAILED, reason=R.EXIT_NON_ZERO), "exitCode"),
    "success without the CID": (K.CID, outcome(output_cid=b""), "outputCid"),
    "a CID that is none": (K.CID, outcome(output_cid=b"\x01\x02"), "outputCid"),
    "a CID of 64 bytes": (K.CID, outcome(output_cid=bytes(64)), "outputCid"),
    "refused with an output": (K.CID, outcome(status=S.REFUSED, reason=R.BAD_CID), "outputCid"),
    "withheld with an output": (K.CID, outcome(status=S.WITHHELD, reason=R.AUDIT_RULE), "outputCid"),
    "a payload that nobody ordered": (K.CID, outcome(payload=b"x"), "payload"),
    "withheld with a payload": (
        K.STDOUT,
        outcome(status=S.WITHHELD, reason=R.AUDIT_RULE, output_cid=b"", payload=b"x"),
        "payload",
    ),
    "a payload that is too large": (K.STDOUT, outcome(payload=bytes(8193)), "payload"),
    "an exit code in hex": (K.EXIT_CODE, outcome(payload=b"0x0"), "payload"),
    "no exit code": (K.EXIT_CODE, outcome(), "payload"),
}


@pytest.mark.parametrize("name", BAD)
def test_an_outcome_that_does_not_fit_is_refused_by_field(name):
    kind, given_outcome, field = BAD[name]

    with pytest.raises(InvalidInput) as caught:
        check_outcome(order_of(result_kind=kind), given_outcome)
    assert caught.value.field == f"outcome.{field}"
