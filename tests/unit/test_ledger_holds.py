"""Held outputs in the ledger: on disk with their phase, one decision a signer, none after the ruling, whatever dies."""

import dataclasses
import multiprocessing
import os
import signal
import sqlite3

import pytest

from executor.audit.release import Ruling
from executor.errors import InvalidInput
from executor.holds import MAX_REDACTIONS, Hold, Holds, Redaction
from executor.ledger import Draft, Intent, Ledger
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


def redaction(root="less", **changes):
    fields = {
        "execution_id": "one", "root": root, "outcome_hash": b"\6" * 32, "manifest_hash": b"\7" * 32,
        "salt": root.encode().ljust(32), "changes_hash": b"\x08" * 32, "findings": "", "proposed_by": ALICE,
        "proposed_at": 11.0,
    }  # fmt: skip
    return Redaction(**{**fields, **changes})


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
            "ALTER TABLE log DROP COLUMN body; DROP TABLE holds; DROP TABLE votes; DROP TABLE redactions;"
            "PRAGMA user_version = 1;"
        )

    for _ in range(2):
        ledger = Ledger.open(path, KEY)
        assert [intent.execution_id for intent in ledger.open_intents()] == ["one"]
        assert holds_of(ledger).open() == []
        ledger.close()


def test_votes_of_version_3_are_votes_on_the_whole_output(path):
    ledger = Ledger.open(path, KEY)
    holds = holds_of(ledger)
    holds.keys.create("one")
    holds.hold(hold())
    ledger.close()
    with sqlite3.connect(path) as db:
        db.executescript(
            "DROP TABLE redactions; DROP TABLE votes; CREATE TABLE votes (position INTEGER PRIMARY KEY,"
            " execution_id TEXT NOT NULL, signer TEXT NOT NULL, approve INTEGER NOT NULL, reason INTEGER NOT NULL,"
            " signature BLOB NOT NULL, cast_at REAL NOT NULL, UNIQUE (execution_id, signer));"
            f"INSERT INTO votes VALUES (1, 'one', '{ALICE}', 1, 0, x'{'73' * 65}', 11.0); PRAGMA user_version = 3;"
        )

    ledger = Ledger.open(path, KEY)

    assert holds_of(ledger).votes("one") == (vote(),)
    assert holds_of(ledger).redactions("one") == ()
    ledger.close()


def test_a_redaction_is_kept_once_however_often_it_is_proposed(holds):
    made = redaction()

    assert holds.propose(made) == made
    assert holds.propose(redaction(salt=b"s" * 32, proposed_at=12.0)) == made
    assert holds.redactions("one") == (made,)


def test_each_form_has_votes_of_its_own(holds):
    one, two = holds.propose(redaction("less")), holds.propose(redaction("least", proposed_at=12.0))

    assert holds.vote("one", vote(), 13.0)
    assert holds.vote("one", dataclasses.replace(vote(), redaction=one.id), 13.0)
    assert holds.vote("one", dataclasses.replace(vote(), redaction=two.id), 13.0)
    assert not holds.vote("one", dataclasses.replace(vote(), redaction=two.id), 13.0)
    assert [one.redaction for one in holds.votes("one")] == ["", one.id, two.id]


@pytest.mark.parametrize(
    ("before", "made", "problem"),
    [
        (lambda holds: None, redaction(execution_id="two"), "two is not held"),
        (lambda holds: holds.settle("one", lambda votes: APPROVED), redaction(), "decided on already: approved"),
        (lambda holds: None, redaction(proposed_at=20.0), "time to decide on one is over"),
        (
            lambda holds: [holds.propose(redaction(str(n))) for n in range(MAX_REDACTIONS)], redaction(),
            "8 redactions by this reviewer",
        ),
    ],
    ids=["not held", "decided on", "too late", "too many"],
)  # fmt: skip
def test_a_redaction_that_comes_too_late_or_too_often_is_refused(holds, before, made, problem):
    before(holds)

    with pytest.raises(InvalidInput, match=problem):
        holds.propose(made)
    with pytest.raises(InvalidInput, match=problem):
        holds.check_proposal(made.execution_id, made.proposed_by, made.proposed_at)


def test_one_reviewer_s_proposals_leave_room_for_another_s(holds):
    for number in range(MAX_REDACTIONS):
        holds.propose(redaction(str(number)))

    assert holds.propose(redaction(proposed_by=BOB)).proposed_by == BOB


def signed(ledger):
    draft = Draft(request_hash=b"\1" * 32, slot=1, outcome=b"o", receipt=b"r", relayer=KEY)
    ledger.sign_once(draft, lambda root, size: b"s" * 65, 14.0)


@pytest.mark.parametrize("is_signed", [True, False], ids=["signed", "never signed"])
def test_the_original_of_what_was_released_in_part_is_remembered_if_that_was_signed(ledger, is_signed):
    holds = holds_of(ledger)
    holds.keys.create("one")
    holds.hold(hold(ruling="redacted", decided="x", findings="y"))
    if is_signed:
        signed(ledger)
    opening = {"root": "b", "outcome_hash": b"\2" * 32, "manifest_hash": b"\3" * 32, "salt": b"\4" * 32}

    ledger.finish("one", "attested", "", 15.0, opening=opening)

    found = holds.get("one")
    kept = ("b", b"\2" * 32, b"\3" * 32, b"\4" * 32) if is_signed else ("", b"", b"", b"")
    assert (found.root, found.outcome_hash, found.manifest_hash, found.salt) == kept
    assert (found.decided, found.findings, holds.redactions("one")) == ("", "", ())


def test_what_a_redaction_s_row_says_of_it_is_gone_with_the_key(ledger, holds):
    made = redaction()
    holds.propose(made)
    with ledger.reading() as db:
        (row,) = db.execute("SELECT * FROM redactions").fetchall()

    told = (row["root"], row["outcome_hash"], row["manifest_hash"], row["salt"], row["changes_hash"])
    assert told == ("", b"", b"", b"", b"")
    assert made.root not in row["findings"]
    holds.keys.shred("one")
    assert holds.redactions("one") == ()


@pytest.mark.parametrize("row", ["pattern: a word", "", "AAAA"], ids=["in the clear", "empty", "cut off"])
def test_a_redaction_s_row_that_does_not_open_is_left_out(ledger, holds, row):
    holds.propose(redaction())
    other = holds.propose(redaction(root="another", salt=b"\5" * 32))
    with ledger.writing() as db:
        db.execute("UPDATE redactions SET findings = ? WHERE id != ?", (row, other.id))

    assert holds.redactions("one") == (other,)


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


def _propose(holds):
    holds.propose(redaction())


@pytest.mark.parametrize("act", [_hold, _vote, _settle, _propose], ids=["held", "decided", "ruled on", "proposed"])
def test_a_kill_9_before_the_commit_leaves_nothing_of_it(path, holds, act):
    child = multiprocessing.get_context("fork").Process(target=_killed_while, args=(path, act))
    child.start()
    child.join(30)

    assert child.exitcode == -signal.SIGKILL
    assert holds.open() == [hold()]
    assert (holds.votes("one"), holds.redactions("one")) == ((), ())
    act(holds)  # and done again it works
