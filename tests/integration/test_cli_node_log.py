"""`insula node log` and `verify-log`: a node's log that grows, is cut, is rewritten, and executions without an end."""

import json
import sqlite3
from pathlib import Path

import pytest

from bridge.cli.output import Exit
from executor.agent.config import init_node
from executor.ledger import Draft, Intent, Ledger

CONTRACT = "0x5FbDB2315678afecb367f032d93F642f64180aa3"


class Kept:
    """A node's work folder, whose ledger the test writes."""

    def __init__(self, folder, key):
        self.folder, self.key = folder, key

    def run(self, *numbers, end=True):
        ledger = Ledger.open(self.folder / "ledger.db", self.key)
        for number in numbers:
            name, request = f"run-{number}", bytes([number]) * 32
            ledger.begin(Intent(
                execution_id=name, request_hash=request, request_id=number, lease_id="l", slot=1, attempt=1,
                state="running", started_at=1.0, changed_at=1.0,
            ))  # fmt: skip
            if end:
                draft = Draft(request_hash=request, slot=1, outcome=b"o", receipt=name.encode(), relayer=CONTRACT)
                ledger.sign_once(draft, lambda root, size: bytes(65), 2.0)
                ledger.finish(name, "attested", "", 3.0)
        ledger.close()

    def sql(self, statement):
        with sqlite3.connect(self.folder / "ledger.db") as db:
            db.execute(statement)
        db.close()


@pytest.fixture
def kept(tmp_path):
    made = init_node(
        tmp_path / "node", bridge_url="http://127.0.0.1:9", chain_id=31337, bridge_contract=CONTRACT,
        registry=CONTRACT,
    )  # fmt: skip
    return Kept(tmp_path / "node", made["key"])


@pytest.fixture
def log(insula, kept, tmp_path):
    """`insula node log`: exit code, answer, and the file that it saved."""

    def call(name="now", *words):
        path = tmp_path / f"{name}.json"
        code, out, _ = insula("node", "log", "--dir", str(kept.folder), "--save", str(path), "--json", *words)
        return code, json.loads(out), str(path)

    return call


def verify(insula, *words):
    code, out, _ = insula("node", "verify-log", *words, "--json")
    return code, json.loads(out)


def test_the_log_shows_its_checkpoint_and_what_it_says(log, kept):
    kept.run(1)

    code, found, _ = log()

    assert (code, found["size"], found["problem"], found["unended"]) == (Exit.OK, 3, "", [])
    assert found["checkpoint"].startswith(f"insula/{kept.key}\n3\n")
    assert [entry["kind"] for entry in found["entries"]] == ["end", "receipt", "intent"]


def test_an_execution_that_a_crash_cut_short_is_shown(insula, log, kept):
    kept.run(1, end=False)

    code, found, _ = log()
    text = insula("node", "log", "--dir", str(kept.folder))[1]

    assert (code, [one["executionId"] for one in found["unended"]], found["nodeRuns"]) == (Exit.OK, ["run-1"], False)
    assert "CUT SHORT" in text


def test_a_log_that_grew_holds_against_what_was_kept(insula, log, kept):
    kept.run(1)
    _, _, older = log("older")
    kept.run(2, 3)
    _, _, now = log("now", "--since", "3")

    code, found = verify(insula, now, "--older", older, "--node-key", kept.key)

    assert (code, found["ok"]) == (Exit.OK, True)


def test_a_log_that_was_rolled_back_is_found(insula, log, kept):
    kept.run(1)
    before = (kept.folder / "ledger.db").read_bytes()
    kept.run(2)
    _, _, older = log("older")
    for part in ("ledger.db-wal", "ledger.db-shm"):
        (kept.folder / part).unlink(missing_ok=True)
    (kept.folder / "ledger.db").write_bytes(before)
    _, _, now = log("now")

    code, found = verify(insula, now, "--older", older)

    assert code == Exit.NOT_SO
    assert "had 6 entries and has 3 now" in found["checks"][-1]["detail"]


def test_without_a_proof_it_is_open_and_says_which_to_ask_for(insula, log, kept):
    kept.run(1)
    _, _, older = log("older")
    kept.run(2)
    _, _, now = log("now")

    code, found = verify(insula, now, "--older", older)

    assert code == Exit.CONTENT_UNCHECKED
    assert "--since 3" in found["checks"][-1]["detail"]


def test_a_ledger_that_was_tampered_with_says_so_itself(log, kept):
    kept.run(1)
    kept.sql("DELETE FROM log WHERE position = 0")

    code, found, _ = log()

    assert (code, found["problem"]) == (Exit.NOT_SO, "entry 1 is gone")


def test_a_size_that_the_log_has_not_reached_is_bad_input(insula, kept):
    code, _, err = insula("node", "log", "--dir", str(kept.folder), "--since", "4")

    assert (code, "the log has 0 entries" in err) == (Exit.BAD_INPUT, True)


def test_a_file_that_is_no_log_is_bad_input(insula, tmp_path):
    (tmp_path / "x").write_text("[]")

    assert insula("node", "verify-log", str(tmp_path / "x"))[0] == Exit.BAD_INPUT


def test_a_checkpoint_alone_proves_no_growth(insula, log, kept):
    kept.run(1)
    _, _, now = log()

    code, found = verify(insula, now, "--node-key", kept.key)

    assert code == Exit.CONTENT_UNCHECKED
    assert "nothing to compare with" in found["checks"][-1]["detail"]


def test_of_a_ledger_that_was_tampered_with_no_root_is_signed(log, kept):
    kept.run(1)
    kept.sql("DELETE FROM log WHERE position = 2")

    code, found, path = log()

    assert (code, found["checkpoint"], Path(path).exists()) == (Exit.NOT_SO, None, False)


BODIES = {
    "no JSON": "x", "another type": "[]", "a type that is none": '{"type":1}', "no type": "{}",
    "an id that is none": '{"type":"urn:insula:log:end:v1"}',
}  # fmt: skip


@pytest.mark.parametrize("what", BODIES)
def test_a_body_that_was_tampered_with_is_told_and_no_crash(log, kept, what):
    kept.run(1)
    kept.sql(f"UPDATE log SET body = '{BODIES[what]}' WHERE position = 2")

    code, found, _ = log()

    assert (code, found["problem"]) == (Exit.NOT_SO, "entry 3 belongs to nothing that was signed, begun or ended")
    assert [entry["kind"] for entry in found["entries"]] == ["damaged", "receipt", "intent"]
