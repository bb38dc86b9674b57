"""Held outputs in the ledger: on disk with their phase, one decision a signer, none after the ruling, whatever dies."""

import multiprocessing
import os
import signal
import sqlite3

import pytest

from executor.audit.release import Ruling
from executor.errors import InvalidInput
from executor.holds import Hold, Holds
from executor.ledger import Intent, Ledger
from executor.protocol.reasons import Reason
from executor.protocol.release import Vote
from executor.quarantine import QuarantineKeys

KEY = "0x" + "11" * 20
ALICE, BOB = "0x" + "aa" * 20, "0x" + "bb" * 20
APPROVED = Ruling(True, Reason.NONE, ())


def hold(execution_id="one", **changes):
    fields = {
        "execution_id": execution_id, "request_hash": b"\1" * 32, "request_id": 1, "lease": "{}", "decided": "{}",
        "root": "b", "findings": "", "outcome_hash": b"\2" * 32, "manifest_hash": b"\3" * 32, "salt": b"\4" * 32,
        "policy_hash": b"\5" * 32, "disk_bytes": 7, "held_at": 10.0, "until": 20.0,
    }  # fmt: skip
    return Hold(**{**fields, **changes})


def holds_of(ledger):
    return Holds(ledger, QuarantineKeys(ledger.path.parent / "keys"))


def vote(signer=ALICE, *, approve=True):
    return Vote(signer=signer, approve=approve, reason=0 if approve else 300, signature=b"s" * 65)


@pytest.fixture
def path(tmp_path):
    ledger = Ledger.create(tmp_path / "ledger.db", KEY)
    ledger.begin(
        Intent(
            execution_id="one", request_hash=b"\1" * 32, request_id=1, lease_id="l", slot=1, attempt=1,
            started_at=1.0, changed_at=1.0,
        )
    )  # fmt: skip
    ledger.close()
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path):
    opened = Ledger.open(path, KEY)
    yield opened
    opened.close()


@pytest.fixture
def holds(ledger):
    holds = holds_of(ledger)
    holds.keys.create("one")
    holds.hold(hold())
    return holds


def test_a_hold_is_kept_with_the_phase_of_its_execution(ledger, holds):
    assert holds.open() == [hold()]
    assert [intent.state for intent in ledger.open_intents()] == ["held"]


def test_a_hold_ends_with_its_execution(ledger, holds):
    ledger.finish("one", "attested", "", 15.0)

    assert holds.open() == []
    assert holds.get("one").closed_at == 15.0


def test_what_an_output_was_does_not_stay_in_the_ledger(ledger, path):
    holds = holds_of(ledger)
    holds.keys.create("one")
    holds.hold(
        hold(decided="x" * 20_000 + "the payload", root="the CID", findings="a name", outcome_hash=b"its outcome")
    )
    ledger.finish("one", "attested", "", 15.0)
    ledger.close()  # the last connection moves the write-ahead log into the file

    data = b"".join(file.read_bytes() for file in path.parent.iterdir() if file.is_file())
    assert [word for word in (b"the payload", b"the CID", b"a name", b"its outcome", b"\4" * 32) if word in data] == []
    reopened = Ledger.open(path, KEY)
    assert holds_of(reopened).get("one").request_hash == b"\1" * 32
    reopened.close()


def test_a_decision_is_kept_once(holds):
    assert holds.vote("one", vote(), 11.0) is True
    assert holds.vote("one", vote(), 12.0) is False
    assert holds.votes("one") == (vote(),)


@pytest.mark.parametrize(
    ("before", "given", "now", "problem"),
    [
        (lambda holds: holds.vote("one", vote(), 11.0), vote(approve=False), 12.0, "approved it already"),
        (lambda holds: holds.vote("one", vote(approve=False), 11.0), vote(), 12.0, "rejected it already"),
        (lambda holds: holds.settle("one", lambda votes: APPROVED), vote(), 12.0, "decided on already: approved"),
        (lambda holds: None, vote(), 20.0, "time to decide on one is over"),
    ],
    ids=["approved before", "rejected before", "after the ruling", "too late"],
)
def test_a_decision_that_comes_too_late_or_twice_is_refused(holds, before, given, now, problem):
    before(holds)

    with pytest.raises(InvalidInput, match=problem):
        holds.vote("one", given, now)


def test_a_decision_on_what_is_not_held_is_refused(holds):
    with pytest.raises(InvalidInput, match="two is not held"):
        holds.vote("two", vote(), 11.0)


def test_a_decision_after_the_execution_ended_is_refused(ledger, holds):
    ledger.finish("one", "lost", "", 15.0)

    with pytest.raises(InvalidInput, match="its lease is over"):
        holds.vote("one", vote(), 16.0)


def test_no_ruling_leaves_it_open(holds):
    assert holds.settle("one", lambda votes: None) is None
    assert holds.get("one").ruling == ""


def test_the_ruling_rests_on_the_votes_that_are_there_when_it_is_written(holds):
    seen = []

    def judge(votes):
        seen.append(votes)
        if len(seen) == 1:
            holds.vote("one", vote(BOB), 11.0)  # comes between the look and the transaction
        return APPROVED

    holds.settle("one", judge)

    assert seen == [(), (vote(BOB),)]
    assert holds.get("one").ruling == "approved"


def test_a_ledger_of_version_1_is_taken_along_with_what_it_holds(path):
    with sqlite3.connect(path) as db:
        db.executescript(
            "ALTER TABLE signed DROP COLUMN dsse_signature; ALTER TABLE signed DROP COLUMN log_proof;"
            "ALTER TABLE log DROP COLUMN body; DROP TABLE holds; DROP TABLE votes; PRAGMA user_version = 1;"
        )

    for _ in range(2):
        ledger = Ledger.open(path, KEY)
        assert [intent.execution_id for intent in ledger.open_intents()] == ["one"]
        assert holds_of(ledger).open() == []
        ledger.close()


def _killed_while(path, act):
    """A process that gets kill -9 at the last moment before its transaction is committed."""
    ledger = Ledger.open(path, KEY)

    def trace(statement):
        if statement == "COMMIT":
            os.kill(os.getpid(), signal.SIGKILL)

    ledger._db.set_trace_callback(trace)
    act(holds_of(ledger))


def _hold(holds):
    if holds.keys.get("two") is None:
        holds.keys.create("two")
    holds.hold(hold("two"))


def _vote(holds):
    holds.vote("one", vote(), 11.0)


def _settle(holds):
    holds.settle("one", lambda votes: APPROVED)


@pytest.mark.parametrize("act", [_hold, _vote, _settle], ids=["held", "decided", "ruled on"])
def test_a_kill_9_before_the_commit_leaves_nothing_of_it(path, holds, act):
    child = multiprocessing.get_context("fork").Process(target=_killed_while, args=(path, act))
    child.start()
    child.join(30)

    assert child.exitcode == -signal.SIGKILL
    assert holds.open() == [hold()]
    assert holds.votes("one") == ()
    act(holds)  # and done again it works
