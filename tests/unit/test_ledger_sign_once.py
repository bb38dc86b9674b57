"""The ledger: one record a request, whatever dies, and a log whose roots follow from its entries."""

import multiprocessing
import os
import signal
import sqlite3
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from executor.errors import InvalidInput
from executor.ledger import Draft, FolderLock, Intent, Ledger, LedgerError, is_locked
from executor.protocol.merkle import inclusion_proof, leaf_hash, root_from_proof, root_of
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


def draft(number, outcome=b"outcome"):
    return Draft(
        request_hash=number.to_bytes(32, "big"), slot=1, outcome=outcome, receipt=b"receipt of %d" % number, relayer=KEY
    )


def signature(root, size):
    return root + size.to_bytes(33, "big")


def test_a_record_holds_what_was_signed(ledger):
    record = ledger.sign_once(draft(1), signature, now=5.0)

    assert (record.outcome, record.receipt, record.slot, record.signed_at) == (b"outcome", b"receipt of 1", 1, 5.0)
    assert record.log_size == 1
    assert record.log_root == leaf_hash(receipt_hash(b"receipt of 1"))
    assert record.signature == signature(record.log_root, 1)
    assert ledger.signed(record.request_hash) == record


def test_a_second_draft_for_a_request_gives_the_first_record_and_signs_nothing(ledger):
    first = ledger.sign_once(draft(1), signature, now=5.0)

    def never(root, size):
        raise AssertionError("signed twice")

    assert ledger.sign_once(draft(1, b"another outcome"), never, now=6.0) == first
    assert ledger.log_root()[1] == 1


def test_a_signature_that_fails_leaves_nothing(ledger):
    def fail(root, size):
        raise InvalidInput("key", "broken")

    with pytest.raises(InvalidInput):
        ledger.sign_once(draft(1), fail, now=5.0)

    assert ledger.signed(draft(1).request_hash) is None
    assert ledger.log_root() == (root_of([]), 0)


def test_a_record_outlives_the_ledger_object(path):
    first = Ledger.open(path, KEY)
    record = first.sign_once(draft(1), signature, now=5.0)
    first.close()

    again = Ledger.open(path, KEY)
    assert again.sign_once(draft(1, b"other"), signature, now=6.0) == record
    again.close()


@settings(max_examples=25, deadline=None)
@given(count=st.integers(1, 40))
def test_each_root_is_that_of_rfc_6962_and_proves_its_entry(tmp_path_factory, count):
    ledger = Ledger.create(tmp_path_factory.mktemp("log") / "ledger.db", KEY)
    records = [ledger.sign_once(draft(n), signature, now=0.0) for n in range(count)]

    leaves = [leaf_hash(entry) for entry in ledger.log_entries()]
    for index, record in enumerate(records):
        assert record.log_size == index + 1
        assert record.log_root == root_of(leaves[: index + 1])
        proof = inclusion_proof(leaves, index)
        assert root_from_proof(leaf_hash(receipt_hash(record.receipt)), index, count, proof) == records[-1].log_root
    assert ledger.check_log() == ""
    ledger.close()


def test_a_log_that_was_tampered_with_does_not_pass_its_check(path, ledger):
    ledger.sign_once(draft(1), signature, now=0.0)
    ledger.sign_once(draft(2), signature, now=0.0)
    other = sqlite3.connect(path)
    with other:
        other.execute("UPDATE signed SET receipt = x'00' WHERE log_size = 1")
    other.close()

    assert ledger.check_log() == "entry 1 is not the hash of the receipt that was signed with it"


def test_threads_that_race_for_a_request_all_get_one_record(ledger):
    found = []
    barrier = threading.Barrier(8)

    def race(number):
        barrier.wait(10)
        found.append(ledger.sign_once(draft(1, b"outcome %d" % number), signature, now=float(number)))

    threads = [threading.Thread(target=race, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert len(found) == 8
    assert len(set(found)) == 1


def _sign_in_a_process(path, number, requests, results):
    ledger = Ledger.open(path, KEY)
    for request in range(requests):
        record = ledger.sign_once(draft(request, b"outcome of process %d" % number), signature, now=float(number))
        results.put((request, record.outcome, record.signature))
    ledger.close()
    results.put(None)


def test_processes_that_race_never_give_two_outcomes_for_one_request(path):
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [context.Process(target=_sign_in_a_process, args=(path, n, 20, results)) for n in range(3)]
    for process in processes:
        process.start()
    answers, ended = set(), 0
    while ended < 3:
        item = results.get(timeout=60)
        if item is None:
            ended += 1
        else:
            answers.add(item)
    for process in processes:
        process.join(20)

    assert len(answers) == 20
    ledger = Ledger.open(path, KEY)
    assert ledger.check_log() == ""
    assert ledger.signed_count() == 20
    ledger.close()


def _sign_until_killed(path, number, pipe):
    ledger = Ledger.open(path, KEY)
    for request in range(10_000):
        record = ledger.sign_once(draft(request, b"life %d" % number), signature, now=0.0)
        os.write(pipe, record.request_hash + record.signature)  # the record leaves


@pytest.mark.parametrize("seconds", [0.05, 0.11, 0.23])
def test_what_left_before_a_kill_9_is_what_the_ledger_holds_after_it(path, seconds):
    reading, writing = os.pipe()
    context = multiprocessing.get_context("fork")
    child = context.Process(target=_sign_until_killed, args=(path, 1, writing))
    child.start()
    os.close(writing)
    first = os.read(reading, 97)  # it is at work
    child.join(seconds)
    os.kill(child.pid, signal.SIGKILL)
    child.join(20)
    left = first
    while piece := os.read(reading, 65536):
        left += piece
    os.close(reading)

    ledger = Ledger.open(path, KEY)
    for offset in range(0, len(left) - 96, 97):
        request, signed = left[offset : offset + 32], left[offset + 32 : offset + 97]
        number = int.from_bytes(request, "big")
        record = ledger.sign_once(draft(number, b"life 2"), signature, now=0.0)
        assert (record.outcome, record.signature) == (b"life 1", signed)
    assert ledger.check_log() == ""
    ledger.close()


def test_a_missing_ledger_is_never_replaced(tmp_path):
    with pytest.raises(InvalidInput, match="new key"):
        Ledger.open(tmp_path / "ledger.db", KEY)
    assert not (tmp_path / "ledger.db").exists()


def test_a_ledger_is_not_created_over_another(path):
    with pytest.raises(InvalidInput, match="never replaced"):
        Ledger.create(path, KEY)


def test_a_ledger_of_another_key_is_refused(path):
    with pytest.raises(InvalidInput, match="belongs to the key"):
        Ledger.open(path, "0x" + "22" * 20)


def test_a_file_that_is_no_ledger_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "ledger.db").write_bytes(b"not a database at all" * 100)

    with pytest.raises(LedgerError, match=r"ledger\.db: .* make a new key .*insula node rotate-key N"):
        Ledger.open(tmp_path / "ledger.db", KEY)


def intent(name, started_at):
    return Intent(
        execution_id=name,
        request_hash=bytes(32),
        request_id=1,
        lease_id="l",
        slot=1,
        attempt=1,
        started_at=started_at,
        changed_at=started_at,
    )


def test_an_intent_is_open_until_it_is_closed(ledger):
    ledger.begin(intent("a", 1.0))
    ledger.begin(intent("b", 2.0))
    ledger.note("a", "released", 3.0)
    ledger.finish("b", "attested", "fine", 4.0)
    ledger.finish("b", "lost", "too late to matter", 5.0)

    (still_open,) = ledger.open_intents()
    assert (still_open.execution_id, still_open.state, still_open.changed_at) == ("a", "released", 3.0)
    newest, oldest = ledger.last_intents(5)
    assert (newest.execution_id, newest.state, newest.detail, newest.closed_at) == ("b", "attested", "fine", 4.0)
    assert oldest.execution_id == "a"


def test_a_second_agent_on_a_folder_is_refused_and_told_who_is_there(tmp_path):
    assert not is_locked(tmp_path)
    with FolderLock(tmp_path):
        assert is_locked(tmp_path)
        with pytest.raises(InvalidInput, match=str(os.getpid())), FolderLock(tmp_path, wait_seconds=0):
            pass
    with FolderLock(tmp_path):
        pass
