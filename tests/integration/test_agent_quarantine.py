"""What a held output leaves on the node's disk: nothing to be read while it waits, nothing to be opened afterwards."""

import base64
import contextlib
import json
import shutil
import sqlite3
import time

import pytest
import wasmtime

from bridge.cli.output import Exit
from executor.agent.config import NodeConfig
from executor.agent.review import open_review
from executor.agent.service import node_status
from executor.content.importer import import_bytes
from executor.content.limits import TreeLimits
from executor.content.reader import manifest
from executor.errors import InvalidInput
from executor.protocol.cid import Cid
from executor.protocol.reasons import Reason
from executor.protocol.release import sign_release
from executor.protocol.wire import Status
from executor.quarantine import Quarantine, QuarantineKeys
from tests.agent_twin import order
from tests.integration.test_agent_release import (
    KEYS,
    SECRET,
    Writes,
    attested,
    decide,
    folder,
    held,
    holds_of,
    job,
    policy,
    push,
    released,
    running,
    shown,
    subject_of_hold,
)
from tests.integration.test_agent_wasm_job import ProvedWasm

__all__ = ["folder"]

DAY = 86400.0
MARKER = bytes((number * 7 + 13) ^ 0x5A for number in range(35))
#: prints MARKER, which is nowhere in the module
PROGRAM = """
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") (local $i i32)
    (loop $next
      (i32.store8 (i32.add (i32.const 100) (local.get $i))
        (i32.xor (i32.add (i32.mul (local.get $i) (i32.const 7)) (i32.const 13)) (i32.const 0x5a)))
      (br_if $next (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 35))))
    (i32.store (i32.const 0) (i32.const 100))
    (i32.store (i32.const 4) (i32.const 35))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))
"""


def configure(folder, **fields):
    """Change fields of node.toml."""
    lines = [line for line in (folder / "node.toml").read_text().splitlines() if line.split(" =")[0] not in fields]
    lines += [f"{name} = {json.dumps(value)}" for name, value in fields.items()]
    (folder / "node.toml").write_text("\n".join(lines) + "\n")


def keys_of(folder):
    config = NodeConfig.load(folder)
    return config.quarantine_keys(folder, config.load_key(folder).address)


def is_clean(folder):
    """Neither a key nor a folder of an execution is left."""
    return not [*keys_of(folder).folder.glob("*"), *(folder / "executions").iterdir()]


def settled(folder, execution_id):
    """The job's own folders are gone, its quarantine is there."""
    return [path.name for path in (folder / "executions" / execution_id).iterdir()] == ["quarantine"]


def traces(content, cids):
    """How an output may be recognised: its bytes in usual forms, its CIDs in theirs."""
    found = {"bytes": content, "hex": content.hex().encode(), "base64": base64.b64encode(content)[:-4]}
    found["reversed"] = content[::-1]
    for number, cid in enumerate(cids):
        digest = cid.binary[4:]
        found |= {f"cid {number}": str(cid).encode(), f"cid {number}, base64": base64.b64encode(cid.binary)[:-4]}
        found |= {f"digest {number}": digest, f"digest {number}, hex": digest.hex().encode()}
    return found


def found_in(folder, words):
    """Which of the traces are in a file below the folder, or in a name of one; and where."""
    found = []
    for path in folder.rglob("*"):
        data = str(path.relative_to(folder)).encode() + (path.read_bytes() if path.is_file() else b"")
        found += [(name, str(path)) for name, word in words.items() if word in data]
    return found


def cids_of(folder, execution_id):
    with holds_of(folder) as holds:
        root = Cid.parse(holds.get(execution_id).root)
    quarantine = Quarantine(folder / "executions" / execution_id / "quarantine", keys_of(folder).get(execution_id))
    return {root, *(row.cid for row in manifest(quarantine, root, TreeLimits(2**20)).entries if row.size)}


def wasm_job(twin):
    cid = import_bytes(twin.blocks, bytes(wasmtime.wat2wasm(PROGRAM)))
    return order({"version": "insula/v1", "engine": {"type": "wasm", "module": str(cid)}}, result_kind=1)


@pytest.mark.parametrize("approve", [True, False], ids=["approved", "rejected"])
def test_nothing_of_a_held_output_can_be_read_or_recognised_on_the_node_s_disk(twin, folder, tmp_path, approve):
    copy = tmp_path / "copy"
    with running(folder, ProvedWasm()):
        twin.offer(wasm_job(twin))
        execution_id = held(twin, folder)
        twin.wait_for(lambda: settled(folder, execution_id))
        words = traces(MARKER, cids_of(folder, execution_id))
        assert found_in(folder, words) == []
        shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("quarantine-keys"))
        decide(folder, KEYS[0], approve=approve)
        outcome = attested(twin)
        twin.wait_for(lambda: is_clean(folder))

    assert (outcome.status, outcome.payload) == ((Status.SUCCEEDED, MARKER) if approve else (Status.WITHHELD, b""))
    assert len(list((copy / "executions" / execution_id / "quarantine").iterdir())) >= 3
    with open_review(copy) as review:
        (row,) = review.listing()
        assert (row["exitCode"], "key of its quarantine is gone" in row["gone"]) == (None, True)
        with pytest.raises(InvalidInput, match="key of its quarantine is gone"):
            review.show(review.find(execution_id))
    left = {name for name, _ in found_in(folder, words)}
    assert {"bytes", "cid 0", "digest 0"} <= left if approve else not left  # the node keeps what it has released


@pytest.mark.parametrize("mode", ["automatic", "person"])
def test_what_the_audit_withholds_is_shredded_at_once(twin, folder, mode):
    more = '[outputs]\ndenied_names = ["answer.txt"]'
    policy(folder, more, **({"mode": mode, "signers": [KEYS[0].address]} if mode == "person" else {"mode": mode}))
    configure(folder, quarantine_keep_days=30)  # of what reviewers kept in
    with running(folder):
        twin.offer(job(twin))
        assert attested(twin).reason == Reason.AUDIT_RULE
        twin.wait_for(lambda: is_clean(folder))

    assert found_in(folder, traces(SECRET, ())) == []


def test_an_output_that_needs_no_release_leaves_no_key(twin, folder):
    policy(folder, mode="automatic")
    with running(folder):
        twin.offer(job(twin))
        assert attested(twin).status == Status.SUCCEEDED
        twin.wait_for(lambda: is_clean(folder))


def test_the_log_says_no_word_of_a_held_output(twin, folder, capsys):
    rules = {"mode": "person", "signers": [KEYS[0].address], "broken_rule": "hold"}
    policy(folder, more='[outputs]\ndenied_names = ["*.key"]', **rules)
    with running(folder, Writes("forty-two.key")):
        twin.offer(job(twin))
        held(twin, folder)
        assert "forty-two.key" in shown(folder)["findings"][0]
        root = shown(folder)["outputCid"]
        decide(folder, KEYS[0], approve=False)
        attested(twin)

    said = capsys.readouterr().out
    assert "audit rule broken" in said
    assert [word for word in ("forty-two", root) if word in said] == []


def test_a_held_output_whose_key_is_gone_is_withheld_and_the_node_says_so(twin, folder, tmp_path, capsys):
    configure(folder, quarantine_key_dir=str(tmp_path / "memory"))
    with running(folder):
        lease = twin.offer(job(twin))
        held(twin, folder)
    assert list((tmp_path / "memory").rglob("*.key"))
    shutil.rmtree(tmp_path / "memory")  # as after a power cut, where it was in memory

    with running(folder):
        outcome = attested(twin)
        twin.wait_for(lambda: is_clean(folder))

    assert (outcome.status, outcome.reason, outcome.output_cid) == (Status.WITHHELD, Reason.RELEASE_TIMEOUT, b"")
    assert released(twin, lease)["ruling"] == "timeout"
    said = capsys.readouterr().out
    assert "a held output is lost" in said
    assert "the key of its quarantine is gone, and with it the output" in said


def test_a_rejection_counts_also_of_what_is_gone(twin, folder):
    with running(folder):
        lease = twin.offer(job(twin))
        held(twin, folder)
    decide(folder, KEYS[0], approve=False)
    shutil.rmtree(folder / "quarantine-keys")

    with running(folder):
        assert attested(twin).reason == Reason.RELEASE_REJECTED
    assert released(twin, lease)["ruling"] == "rejected"


def test_what_was_approved_but_is_gone_goes_back_to_run_again(twin, folder):
    with running(folder):
        twin.offer(job(twin))
        held(twin, folder)
    decide(folder, KEYS[0])
    shutil.rmtree(folder / "quarantine-keys")

    with running(folder):
        (found,) = twin.wait_for(lambda: twin.returned)
        twin.wait_for(lambda: is_clean(folder))
    assert (found.reason, "key of its quarantine is gone" in found.detail) == (Reason.NODE_FAULT, True)
    assert twin.attested == []


def test_a_key_that_goes_while_the_node_runs_lets_nothing_out(twin, folder):
    with running(folder):
        twin.offer(job(twin))
        held(twin, folder)
        vote = sign_release(subject_of_hold(folder), KEYS[0], True, 0)
        keys = keys_of(folder)
        shutil.rmtree(keys.folder)
        push(folder, vote)
        (found,) = twin.wait_for(lambda: twin.returned)

    assert (found.reason, twin.attested) == (Reason.NODE_FAULT, [])


def test_a_row_of_the_ledger_that_was_changed_is_not_believed(twin, folder):
    with running(folder):
        twin.offer(job(twin))
        held(twin, folder)
    with sqlite3.connect(folder / "ledger.db") as db:
        (packed,) = db.execute("SELECT decided FROM holds").fetchone()
        public = json.loads(packed)
        sealed = bytearray(base64.b64decode(public["sealed"]))
        sealed[40] ^= 1
        db.execute(
            "UPDATE holds SET decided = ?", (json.dumps(public | {"sealed": base64.b64encode(sealed).decode()}),)
        )
    with open_review(folder) as review:
        assert "does not open: what was sealed was changed" in review.listing()[0]["gone"]

    with running(folder):
        assert attested(twin).reason == Reason.RELEASE_TIMEOUT


def test_what_an_older_version_held_in_the_clear_goes_back_to_run_again(twin, folder):
    with running(folder):
        twin.offer(job(twin))
        held(twin, folder)
    with holds_of(folder) as holds:
        (hold,) = holds.open()
    with sqlite3.connect(folder / "ledger.db") as db:
        db.execute("UPDATE holds SET decided = ?, root = ?, salt = ?", (hold.decided, hold.root, hold.salt))

    with running(folder):
        (found,) = twin.wait_for(lambda: twin.returned)
        twin.wait_for(lambda: is_clean(folder))
    assert "older version" in found.detail


def test_what_a_kill_9_left_unshredded_is_shredded_at_the_next_start(twin, folder, tmp_path):
    with running(folder):
        twin.offer(job(twin))
        execution_id = held(twin, folder)
        twin.wait_for(lambda: settled(folder, execution_id))
        shutil.copytree(folder / "executions", tmp_path / "executions")
        shutil.copytree(folder / "quarantine-keys", tmp_path / "quarantine-keys")
        decide(folder, KEYS[0], approve=False)
        attested(twin)
        twin.wait_for(lambda: is_clean(folder))
    for name in ("executions", "quarantine-keys"):  # its end is in the ledger, and nothing was done about it yet
        shutil.copytree(tmp_path / name, folder / name, dirs_exist_ok=True)
    assert not is_clean(folder)

    with running(folder):
        twin.wait_for(lambda: is_clean(folder))


def test_keys_of_another_node_in_the_same_place_are_left_alone(twin, folder, tmp_path):
    configure(folder, quarantine_key_dir=str(tmp_path / "memory"))
    other = QuarantineKeys(tmp_path / "memory" / KEYS[1].address)
    other.create("one")

    with running(folder):
        twin.offer(job(twin))
        held(twin, folder)
        assert other.get("one") is not None


class Clock:
    """The time that it is, and more."""

    def __init__(self):
        self.ahead = 0.0

    def __call__(self):
        return time.time() + self.ahead


def rejected(twin, folder):
    """A held output is rejected; its execution."""
    twin.offer(job(twin))
    execution_id = held(twin, folder)
    decide(folder, KEYS[0], approve=False)
    assert attested(twin).status == Status.WITHHELD
    twin.wait_for(lambda: node_status(folder)["last"][0]["state"] == "attested")
    return execution_id


def test_what_was_rejected_is_kept_for_the_operator_s_days_and_shown_with_the_date(twin, folder, tmp_path, insula):
    configure(folder, quarantine_keep_days=7)
    place = ("--dir", str(folder))
    with running(folder):
        execution_id = rejected(twin, folder)
        with open_review(folder) as review:
            (row,) = review.listing()
        assert (row["id"], row["ruling"]) == (execution_id, "rejected")
        assert row["keptUntil"] == pytest.approx(time.time() + 7 * DAY, abs=60)
        assert "rejected, withheld for good; shredded at " in insula("release", "list", *place)[1]
        assert "then shredded" in insula("release", "show", execution_id, *place)[1]
        saved = ("--file", "outputs/answer.txt", "--save", str(tmp_path / "saved"))
        assert insula("release", "show", execution_id, *place, *saved)[0] == Exit.OK
        assert (tmp_path / "saved").read_bytes() == SECRET
        code, out, err = insula("release", "opening", execution_id, *place)
        assert (code, out, "released in part" in err) == (Exit.BAD_INPUT, "", True)
        words = traces(SECRET, cids_of(folder, execution_id))
        assert found_in(folder, words) == []
        with open_review(folder) as review, pytest.raises(InvalidInput, match="rejected it already"):
            review.decide(review.find(execution_id), True, 0, KEYS[0])

    with running(folder):  # and over a restart
        assert settled(folder, execution_id)


def test_what_was_kept_is_shredded_on_time(twin, folder):
    configure(folder, quarantine_keep_days=7)
    clock = Clock()
    with running(folder, clock=clock):
        rejected(twin, folder)
        clock.ahead = 7 * DAY - 120
        seen = len(twin.calls)
        twin.wait_for(lambda: len(twin.calls) > seen + 2)  # it tidies before it asks for work
        assert not is_clean(folder)
        clock.ahead = 7 * DAY + 3600
        twin.wait_for(lambda: is_clean(folder))

    with open_review(folder) as review:
        assert review.listing() == []
    with holds_of(folder) as holds:
        assert holds.kept() == []


def test_what_ended_while_the_ledger_could_not_be_written_is_shredded_when_it_can(twin, folder):
    clock = Clock()
    with running(folder, clock=clock):
        twin.offer(job(twin))
        held(twin, folder)
        with contextlib.closing(sqlite3.connect(folder / "ledger.db")) as db:
            db.execute(
                "CREATE TRIGGER full BEFORE UPDATE OF closed_at ON holds BEGIN SELECT raise(ABORT, 'disk is full'); END"
            )
            decide(folder, KEYS[0], approve=False)
            attested(twin)
            seen = len(twin.calls)
            twin.wait_for(lambda: len(twin.calls) > seen + 2)  # its only slot is free again
            assert not is_clean(folder)
            db.execute("DROP TRIGGER full")

        clock.ahead = 2 * 3600.0
        twin.wait_for(lambda: is_clean(folder))

    with holds_of(folder) as holds:
        assert holds.open() == []


def test_what_was_kept_is_shredded_at_a_start_that_comes_later(twin, folder):
    configure(folder, quarantine_keep_days=7)
    with running(folder):
        rejected(twin, folder)
    clock = Clock()
    clock.ahead = 8 * DAY

    with running(folder, clock=clock):
        twin.wait_for(lambda: is_clean(folder))


def test_an_operator_who_keeps_nothing_any_more_has_it_shredded_at_the_next_start(twin, folder):
    configure(folder, quarantine_keep_days=7)
    with running(folder):
        rejected(twin, folder)
    configure(folder, quarantine_keep_days=0)

    with running(folder):
        twin.wait_for(lambda: is_clean(folder))


def test_what_is_kept_takes_disk(twin, folder):
    configure(folder, quarantine_keep_days=7)
    with running(folder):
        rejected(twin, folder)
        free = twin.adverts[-1].total.disk_bytes
        twin.wait_for(lambda: twin.adverts[-1].free.disk_bytes < free)

    seen = len(twin.adverts)
    with running(folder):
        twin.wait_for(lambda: len(twin.adverts) > seen)
        assert twin.adverts[-1].free.disk_bytes < free
