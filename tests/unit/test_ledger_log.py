"""The log in the ledger: intents before the act, ends after it, receipts between; and tampering with it is found."""

import json
import sqlite3

import pytest

from executor.ledger import Draft, Intent, Ledger
from executor.protocol.canonical import sha256
from executor.protocol.logproof import is_logged
from executor.protocol.receipt import receipt_hash

KEY = "0x" + "11" * 20


@pytest.fixture
def path(tmp_path):
    Ledger.create(tmp_path / "ledger.db", KEY).close()
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path):
    opened = Ledger.open(path, KEY)
    yield opened
    opened.close()


def intent(number):
    return Intent(
        execution_id=f"run-{number}", request_hash=bytes([number]) * 32, request_id=number, lease_id="l", slot=1,
        attempt=1, state="begun", started_at=float(number), changed_at=float(number),
    )  # fmt: skip


def sign(ledger, number):
    draft = Draft(
        request_hash=bytes([number]) * 32, slot=1, outcome=b"o", receipt=b"receipt of %d" % number, relayer=KEY,
        dsse_signature=b"\5" * 65,
    )  # fmt: skip
    return ledger.sign_once(draft, lambda root, size: b"\7" * 65, now=5.0)


def run(ledger, number):
    ledger.begin(intent(number))
    record = sign(ledger, number)
    ledger.finish(f"run-{number}", "attested", "", 6.0)
    return record


def kinds(ledger):
    found = [json.loads(one.body)["type"].split(":")[3] if one.body else "receipt" for one in ledger.last_entries(99)]
    return found[::-1]


def test_an_execution_leaves_its_intent_its_receipt_and_its_end_in_this_order(ledger):
    run(ledger, 1)

    assert kinds(ledger) == ["intent", "receipt", "end"]
    assert ledger.check_log() == ""


def test_an_intent_says_what_was_about_to_be_done_and_an_end_how_it_ended(ledger):
    run(ledger, 1)

    end, _, begun = ledger.last_entries(3)
    assert json.loads(begun.body) == {
        "type": "urn:insula:log:intent:v1", "executionId": "run-1", "requestHash": "0x" + "01" * 32, "slot": 1,
        "attempt": 1, "at": 1,
    }  # fmt: skip
    assert json.loads(end.body) == {
        "type": "urn:insula:log:end:v1", "executionId": "run-1", "state": "attested", "at": 6,
    }  # fmt: skip


def test_each_receipt_is_proved_to_be_the_last_entry_of_what_was_signed(ledger):
    for number in range(1, 9):
        record = run(ledger, number)
        assert record.log_size == 3 * number - 1
        assert is_logged(receipt_hash(record.receipt), record.log_root, record.log_size, record.log_proof)
        assert not is_logged(receipt_hash(b"another"), record.log_root, record.log_size, record.log_proof)


def test_asked_again_a_record_has_the_same_envelope_and_proof(path, ledger):
    record = run(ledger, 1)
    again = Ledger.open(path, KEY)

    assert again.signed(record.request_hash) == record
    assert (record.dsse_signature, len(record.log_proof)) == (b"\5" * 65, 1)
    again.close()


def test_an_execution_that_was_cut_short_has_an_intent_and_no_end_until_the_next_start_says_so(ledger):
    ledger.begin(intent(1))
    assert kinds(ledger) == ["intent"]

    ledger.finish("run-1", "crashed", "the node ended during: begun", 9.0)
    ledger.finish("run-1", "crashed", "again", 10.0)

    assert kinds(ledger) == ["intent", "end"]
    assert json.loads(ledger.last_entries(1)[0].body)["state"] == "crashed"


def test_a_record_from_before_has_neither_envelope_nor_proof_and_goes_on(path):
    with sqlite3.connect(path) as db:
        db.executescript(
            "ALTER TABLE signed DROP COLUMN dsse_signature; ALTER TABLE signed DROP COLUMN log_proof;"
            "ALTER TABLE log DROP COLUMN body; DROP TABLE redactions; PRAGMA user_version = 2;"
        )
    db.close()
    ledger = Ledger.open(path, KEY)
    run(ledger, 1)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE signed SET dsse_signature = NULL, log_proof = NULL")
    db.close()

    record = ledger.signed(b"\1" * 32)

    assert (record.dsse_signature, record.log_proof, ledger.check_log()) == (None, None, "")
    ledger.close()


#: what somebody does to the file -> what the check says
TAMPERED = {
    "an end is taken off": ("DELETE FROM log WHERE position = 5", "the tree's stored peaks"),
    "the last receipt is cut off": ("DELETE FROM log WHERE position >= 4", "the log ends at 4 entries"),
    "an entry in the middle is gone": ("DELETE FROM log WHERE position = 2", "entry 3 is gone"),
    "an intent is changed": ("UPDATE log SET body = '{}' WHERE position = 0", "entry 1 belongs to nothing"),
    "an entry is changed with its body": (
        f"UPDATE log SET body = '{{}}', entry = x'{sha256(b'{}').hex()}' WHERE position = 0",
        "the root that was signed at 2 entries",
    ),
    "a receipt is changed": (
        "UPDATE signed SET receipt = x'00' WHERE log_size = 5", "entry 5 is not the hash of the receipt"
    ),
    "a signed record is gone": ("DELETE FROM signed WHERE log_size = 2", "entry 2 belongs to nothing"),
}  # fmt: skip


@pytest.mark.parametrize("what", TAMPERED)
def test_a_log_that_was_tampered_with_is_found_and_told(path, ledger, what):
    run(ledger, 1)
    run(ledger, 2)
    statement, said = TAMPERED[what]
    with sqlite3.connect(path) as db:
        db.execute(statement)
    db.close()

    assert ledger.check_log().startswith(said)
