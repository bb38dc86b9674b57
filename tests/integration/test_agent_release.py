"""An output that waits for its reviewers: nothing of it leaves, only the right signatures end it, whatever dies."""

import json
import sqlite3
import time
from contextlib import closing, contextmanager
from dataclasses import replace

import pytest

from bridge.cli.output import Exit
from executor.agent.config import NodeConfig
from executor.agent.review import named, open_review
from executor.agent.service import node_status
from executor.audit.release import Ruling
from executor.content.importer import import_bytes
from executor.content.limits import TreeLimits
from executor.content.reader import ManifestEntry, manifest
from executor.errors import InvalidInput
from executor.holds import Holds
from executor.ledger import Ledger
from executor.protocol.cid import RAW, Cid
from executor.protocol.leases import Phase
from executor.protocol.reasons import Reason
from executor.protocol.receipt import parse_receipt
from executor.protocol.release import Held, Subject, Vote, is_signed, sign_release
from executor.protocol.releaserecord import check_release
from executor.protocol.signing import Key, Scope
from executor.protocol.wire import Status
from executor.sandbox.types import Probe, RunReport
from tests.agent_kit import killed_at_the_end, new_node, node_running
from tests.agent_twin import CHAIN_ID, CONTRACT, Fault, order

KEYS = [Key.from_hex(f"{number:064x}") for number in (11, 12, 13)]
STRANGER = Key.from_hex(f"{99:064x}")
SECRET = b"the answer is 42"


class Writes:
    """A sandbox whose job writes a file and a line."""

    tier = "wasm"

    def __init__(self, name="answer.txt"):
        self.name = name
        self.runs = 0

    def probe(self, cancelled=None):
        return Probe("wasm", usable=True, version="", problem="")

    def reap(self, live):
        return []

    def run(self, execution, cancelled):
        self.runs += 1
        (execution.outputs / self.name).write_bytes(SECRET)
        return RunReport(
            exit_code=0, reason=Reason.NONE, detail="", stdout=b"\x1b[2Jdone", stderr=b"", started_at=1.0,
            finished_at=2.0, runtime={"engine": "wasm", "fuel": 31415926535},
        )  # fmt: skip

    def release(self, execution):
        pass


@pytest.fixture
def folder(tmp_path, twin):
    new_node(twin, tmp_path / "node", slots=1, disk_bytes=2**30, memory_bytes=2**29)
    policy(tmp_path / "node", mode="person", signers=[KEYS[0].address])
    return tmp_path / "node"


def policy(folder, more="", **rules):
    lines = [f"{name} = {json.dumps(value)}" for name, value in rules.items()]
    (folder / "policy.toml").write_text("\n".join(["[release]", *lines, more, ""]))


@contextmanager
def running(folder, sandbox=None, clock=time.time):
    sandbox = sandbox or Writes()
    with node_running(folder, sandbox, clock=clock):
        yield sandbox


def job(twin):
    module = import_bytes(twin.blocks, b"\0asm module")
    return order({"version": "insula/v1", "engine": {"type": "wasm", "module": str(module)}})


def held(twin, folder):
    """The one held output, once the bridge was told that it is held."""

    def look():
        with open_review(folder) as review:
            found = review.listing()
        return found and any(beat.phase is Phase.HELD for beat in twin.heartbeats) and found[0]["id"]

    return twin.wait_for(look)


def decide(folder, key, *, approve=True, reason=None):
    with open_review(folder) as review:
        (found,) = review.listing()
        reason = reason if reason is not None else (0 if approve else 300)
        return review.decide(review.find(found["id"]), approve, reason, key)


@contextmanager
def holds_of(folder):
    config = NodeConfig.load(folder)
    address = config.load_key(folder).address
    with closing(Ledger.open(folder / "ledger.db", address)) as ledger:
        yield Holds(ledger, config.quarantine_keys(folder, address))


def push(folder, vote):
    """A decision written into the ledger by somebody who does not check it."""
    with holds_of(folder) as holds:
        holds.vote(holds.open()[0].execution_id, vote, time.time())


def shown(folder):
    with open_review(folder) as review:
        return review.show(review.find(review.listing()[0]["id"]))


def subject(folder, **changes):
    found = shown(folder)
    fields = {
        "scope": Scope(CHAIN_ID, CONTRACT), "request_hash": found["requestHash"], "policy_hash": found["policyHash"],
        "node": NodeConfig.load(folder).load_key(folder).address, "held": found["held"],
    }  # fmt: skip
    return Subject(**{**fields, **changes})


def attested(twin):
    (found,) = twin.wait_for(lambda: twin.attested or twin.returned)
    assert twin.attested, found
    return found.decoded()


def released(twin, lease):
    """What the receipt says of it, which anybody can prove."""
    receipt = parse_receipt(twin.attested[0].receipt)
    byproducts = receipt["predicate"]["runDetails"]["byproducts"]
    node = receipt["predicate"]["runDetails"]["builder"]["id"].removeprefix("urn:insula:node:")
    record = {item["name"]: item["annotations"] for item in byproducts}["release"]
    proved = check_release(receipt, node, lease.request.request(), twin.attested[0].decoded())
    assert proved.ruling == record["ruling"]
    return record


def still_held(twin, folder):
    """It goes on waiting: some more heartbeats say so, and nothing was sent."""
    seen = len(twin.heartbeats)
    twin.wait_for(lambda: len(twin.heartbeats) >= seen + 5)
    assert twin.heartbeats[-1].phase is Phase.HELD
    assert twin.attested == twin.returned == []
    assert not any("/missing" in path or method == "PUT" for method, path in twin.calls)


def test_a_held_output_leaves_once_its_reviewer_approves(twin, folder):
    with running(folder):
        lease = twin.offer(job(twin))
        held(twin, folder)
        still_held(twin, folder)
        about = subject(folder)
        decide(folder, KEYS[0])
        outcome = attested(twin)

    assert outcome.status == Status.SUCCEEDED
    rows = manifest(twin.received, Cid.from_binary(outcome.output_cid), TreeLimits(10**9)).entries
    assert [row.path for row in rows] == ["outputs", "outputs/answer.txt", "stderr", "stdout"]
    record = released(twin, lease)
    assert (record["mode"], record["ruling"], record["threshold"]) == ("person", "approved", 1)
    shown_to = Held(
        outcome_hash=outcome.hash,
        manifest_hash=bytes.fromhex(record["manifestHash"][2:]),
        salt=bytes.fromhex(record["salt"][2:]),
    )
    assert record["held"] == f"0x{shown_to.hash.hex()}" == f"0x{about.held.hex()}"
    (vote,) = record["votes"]
    assert is_signed(about, Vote(**{**vote, "signature": bytes.fromhex(vote["signature"][2:])}))
    assert vote["signer"] == KEYS[0].address


def test_a_ruling_that_the_disk_does_not_take_waits_until_it_does(twin, folder):
    with running(folder), closing(sqlite3.connect(folder / "ledger.db", timeout=30, isolation_level=None)) as db:
        twin.offer(job(twin))
        held(twin, folder)
        db.execute("CREATE TRIGGER no_space BEFORE UPDATE ON holds BEGIN SELECT RAISE(ABORT, 'no space'); END")
        decide(folder, KEYS[0])
        still_held(twin, folder)
        db.execute("DROP TRIGGER no_space")

        assert attested(twin).status == Status.SUCCEEDED


@pytest.mark.parametrize("reason", [Reason.RELEASE_REJECTED, Reason.AUDIT_RULE])
def test_a_rejected_output_is_withheld_with_the_reason_and_nothing_of_it_leaves(twin, folder, reason):
    with running(folder):
        lease = twin.offer(job(twin))
        held(twin, folder)
        root = shown(folder)["outputCid"]
        decide(folder, KEYS[0], approve=False, reason=int(reason))
        outcome = attested(twin)
        twin.wait_for(lambda: not list((folder / "executions").iterdir()))

    assert (outcome.status, outcome.reason, outcome.output_cid) == (Status.WITHHELD, reason, b"")
    assert (outcome.exit_code, outcome.payload) == (0, b"")
    assert not any("/missing" in path or method == "PUT" for method, path in twin.calls)
    receipt = twin.attested[0].receipt.decode()
    assert [word for word in (root, "answer.txt", "31415926535") if word in receipt] == []
    record = released(twin, lease)
    assert record["ruling"] == "rejected"
    assert not {"salt", "manifestHash"} & set(record)


def test_what_nobody_decides_on_in_time_is_withheld(twin, folder):
    policy(folder, mode="person", signers=[KEYS[0].address], wait_seconds=1)
    with running(folder):
        lease = twin.offer(job(twin))
        outcome = attested(twin)

    assert (outcome.status, outcome.reason, outcome.output_cid) == (
        Status.WITHHELD, Reason.RELEASE_TIMEOUT, b"",
    )  # fmt: skip
    assert released(twin, lease)["votes"] == []


@pytest.mark.parametrize("how", ["a stranger", "a stranger in a signer's name", "other bytes", "a rejection"])
def test_a_signature_that_is_not_a_signer_s_over_these_bytes_releases_nothing(twin, folder, how):
    with running(folder):
        twin.offer(job(twin))
        held(twin, folder)
        about = subject(folder)
        made = {
            "a stranger": sign_release(about, STRANGER, True, 0),
            "a stranger in a signer's name": sign_release(about, STRANGER, True, 0),
            "other bytes": sign_release(subject(folder, held=bytes(32)), KEYS[0], True, 0),
            "a rejection": sign_release(about, KEYS[0], False, 300),
        }[how]
        with pytest.raises(Exception, match="none of the signers"):
            decide(folder, made.signature)
        signer = made.signer if how == "a stranger" else KEYS[0].address
        push(folder, Vote(signer=signer, approve=True, reason=0, signature=made.signature))

        still_held(twin, folder)


def test_two_of_three_need_two_distinct_signers(twin, folder):
    policy(folder, mode="signers", signers=[key.address for key in KEYS], threshold=2)
    with running(folder):
        lease = twin.offer(job(twin))
        held(twin, folder)
        assert decide(folder, KEYS[1])["new"] is True
        assert decide(folder, KEYS[1])["new"] is False
        still_held(twin, folder)
        decide(folder, KEYS[2])
        assert attested(twin).status == Status.SUCCEEDED

    assert [vote["signer"] for vote in released(twin, lease)["votes"]] == [KEYS[1].address, KEYS[2].address]


class Traps(Writes):
    """A sandbox whose job tells what it read by how it fails."""

    def __init__(self, reason, detail):
        super().__init__()
        self.ending = (reason, detail)

    def run(self, execution, cancelled):
        report = super().run(execution, cancelled)
        return replace(report, reason=self.ending[0], detail=self.ending[1], finished_at=43.2345)


TOLD = {
    "the functions of a backtrace": (Reason.TRAP, "0: 0x77 - <unknown>!forty_two Caused by: wasm trap: unreachable"),
    "the size of a write": (Reason.DISK_LIMIT, "/outputs: 424242 bytes; the limit is 4096"),
    "the path of a file": (Reason.OUTPUT_UNSAFE, "forty_two: is a FIFO"),
}


@pytest.mark.parametrize("told", TOLD)
def test_a_job_that_is_cut_says_nothing_that_no_reviewer_has_seen(twin, folder, told):
    with running(folder, Traps(*TOLD[told])):
        twin.offer(job(twin))
        assert attested(twin).reason == TOLD[told][0]

    receipt = twin.attested[0].receipt.decode()
    assert [word for word in ("forty_two", "424242", "31415926535", "43.2", ".234") if word in receipt] == []


def test_how_long_a_withheld_job_ran_is_told_in_whole_minutes(twin, folder):
    policy(folder, more='[outputs]\ndenied_names = ["answer.txt"]')
    with running(folder, Traps(Reason.NONE, "")):
        twin.offer(job(twin))
        assert attested(twin).reason == Reason.AUDIT_RULE

    metadata = parse_receipt(twin.attested[0].receipt)["predicate"]["runDetails"]["metadata"]
    assert (metadata["startedOn"], metadata["finishedOn"]) == ("1970-01-01T00:00:01.000Z", "1970-01-01T00:01:01.000Z")


def test_a_broken_rule_is_for_the_reviewer_to_judge_where_the_policy_says_so(twin, folder):
    rules = {"mode": "person", "signers": [KEYS[0].address], "broken_rule": "hold"}
    policy(folder, more='[outputs]\ndenied_names = ["*.key"]', **rules)
    with running(folder, Writes("id.key")):
        twin.offer(job(twin))
        held(twin, folder)
        assert [line.split(":")[0] for line in shown(folder)["findings"]] == ["denied_names"]
        decide(folder, KEYS[0])
        assert attested(twin).status == Status.SUCCEEDED


def test_a_broken_rule_withholds_without_asking_anybody_by_default(twin, folder):
    policy(folder, more='[outputs]\ndenied_names = ["*.key"]', mode="person", signers=[KEYS[0].address])
    with running(folder, Writes("id.key")):
        twin.offer(job(twin))
        assert attested(twin).reason == Reason.AUDIT_RULE


def test_a_held_output_takes_no_slot(twin, folder):
    with running(folder) as sandbox:
        twin.offer(job(twin))
        held(twin, folder)
        twin.offer(job(twin), request_id=2, token=2)
        twin.wait_for(lambda: sandbox.runs == 2)


def test_a_node_that_stops_keeps_what_it_holds_and_goes_on_with_the_same_lease(twin, folder):
    with running(folder):
        twin.offer(job(twin), token=7)
        held(twin, folder)
    assert twin.returned == []
    decide(folder, KEYS[0])  # while it does not run

    with running(folder) as again:
        assert attested(twin).status == Status.SUCCEEDED
        assert (twin.attested[0].token, again.runs) == (7, 0)
        twin.wait_for(lambda: not list((folder / "executions").iterdir()))


def test_a_lease_that_is_lost_while_held_leaves_nothing(twin, folder):
    with running(folder):
        twin.offer(job(twin))
        held(twin, folder)
        twin.go_on = False
        twin.wait_for(lambda: not list((folder / "executions").iterdir()))

    assert node_status(folder)["last"][0]["state"] == "lost"
    with open_review(folder) as review:
        assert review.listing() == []


def test_a_policy_that_was_changed_while_it_held_ends_in_the_job_given_back(twin, folder):
    with running(folder):
        twin.offer(job(twin))
        held(twin, folder)
    decide(folder, KEYS[0])
    policy(folder, mode="person", signers=[KEYS[1].address])

    with running(folder):
        (found,) = twin.wait_for(lambda: twin.returned)

    assert (found.reason, "policy was changed" in found.detail) == (Reason.NODE_FAULT, True)
    assert twin.attested == []


def test_a_quarantine_that_was_damaged_is_not_released(twin, folder):
    with running(folder):
        twin.offer(job(twin))
        held(twin, folder)
        for path in (folder / "executions").rglob("quarantine/*"):
            sealed = path.read_bytes()
            path.chmod(0o600)
            path.write_bytes(bytes([*sealed[:-1], sealed[-1] ^ 1]))
        for look in (shown, lambda node: decide(node, KEYS[0])):
            with pytest.raises(InvalidInput, match="not what was held"):
                look(folder)
        about = subject_of_hold(folder)
        push(folder, sign_release(about, KEYS[0], True, 0))
        (found,) = twin.wait_for(lambda: twin.returned)

    assert found.reason == Reason.NODE_FAULT
    assert twin.attested == []


def subject_of_hold(folder):
    """As `subject`, without looking into the quarantine."""
    address = NodeConfig.load(folder).load_key(folder).address
    with holds_of(folder) as holds:
        hold = holds.open()[0]
    scope = Scope(CHAIN_ID, CONTRACT)
    return Subject(
        scope=scope, request_hash=hold.request_hash, node=address, policy_hash=hold.policy_hash, held=hold.held.hash
    )


PROCESS = """
import sys, threading
from pathlib import Path
from executor.agent.service import run_node
from tests.integration.test_agent_release import Writes

run_node(Path(sys.argv[1]), threading.Event(), [Writes()])
"""


@contextmanager
def node_process(folder):
    with killed_at_the_end(PROCESS, folder) as child:
        yield child
        assert child.poll() is None, "the node ended by itself"


@pytest.mark.parametrize("approve", [True, False], ids=["approved", "rejected"])
def test_what_was_held_at_a_kill_9_is_held_after_it_and_decided_on_once(twin, folder, approve):
    with node_process(folder):
        twin.offer(job(twin), token=5)
        before = held(twin, folder)
    assert not any("/missing" in path or method == "PUT" for method, path in twin.calls)

    with node_process(folder):
        still_held(twin, folder)
        assert held(twin, folder) == before
        decide(folder, KEYS[0], approve=approve)
        assert attested(twin).status == (Status.SUCCEEDED if approve else Status.WITHHELD)
        twin.wait_for(lambda: not list((folder / "executions").iterdir()))

    assert twin.attested[0].token == 5
    assert node_status(folder)["signed"] == 1
    assert [row["state"] for row in node_status(folder)["last"]] == ["attested"]


def ruled_on(folder):
    """As a kill -9 leaves it right after the ruling: written down, nothing signed."""
    decide(folder, KEYS[0])
    with holds_of(folder) as holds:
        (hold,) = holds.open()
        holds.settle(hold.execution_id, lambda votes: Ruling(True, Reason.NONE, votes))


def test_what_was_ruled_on_but_not_signed_at_a_kill_9_is_signed_after_it(twin, folder):
    with node_process(folder):
        lease = twin.offer(job(twin))
        held(twin, folder)
    ruled_on(folder)

    with node_process(folder):
        assert attested(twin).status == Status.SUCCEEDED
    assert released(twin, lease)["ruling"] == "approved"


def test_what_was_signed_but_not_delivered_at_a_kill_9_is_delivered_unchanged_after_it(twin, folder):
    with node_process(folder):
        lease = twin.offer(job(twin), token=5)
        held(twin, folder)
        twin.faults["/missing"] = Fault(status=503, times=10**6)
        decide(folder, KEYS[0])
        twin.wait_for(lambda: node_status(folder)["signed"] == 1)
    ledger = Ledger.open(folder / "ledger.db", node_status(folder)["key"])
    record = ledger.signed(lease.request_hash)
    ledger.close()
    twin.faults.clear()

    with node_process(folder):
        (found,) = twin.wait_for(lambda: twin.attested)
        twin.wait_for(lambda: not list((folder / "executions").iterdir()))

    assert (found.token, found.receipt, found.signature) == (5, record.receipt, record.signature)
    assert node_status(folder)["signed"] == 1


def key_file(tmp_path, key_number):
    path = tmp_path / f"signer{key_number}"
    path.write_text(f"{key_number:064x}\n")
    path.chmod(0o600)
    return f"file:{path}"


def test_the_command_line_shows_saves_and_approves(twin, folder, tmp_path, insula):
    place = ("--dir", str(folder))
    with running(folder):
        twin.offer(job(twin))
        held(twin, folder)
        code, out, _ = insula("release", "list", *place, "--json")
        (row,) = json.loads(out)["held"]
        assert (code, row["requestId"], row["votes"]) == (Exit.OK, 1, [])
        code, out, _ = insula("release", "show", "1", *place)
        assert code == Exit.OK
        assert "text                         outputs/answer.txt" in out
        assert "\x1b" not in out
        kinds = {
            item["path"]: item["type"]
            for item in json.loads(insula("release", "show", "1", *place, "--json")[1])["files"]
        }
        assert kinds == {"outputs": "directory", "outputs/answer.txt": "text", "stderr": "empty", "stdout": "binary"}
        saved = tmp_path / "saved"
        assert (
            insula("release", "show", "1", *place, "--file", "outputs/answer.txt", "--save", str(saved))[0] == Exit.OK
        )
        assert (saved.read_bytes(), saved.stat().st_mode & 0o777) == (SECRET, 0o600)
        assert insula("release", "show", "1", *place, "--save", str(tmp_path / "all"))[0] == Exit.OK
        assert (tmp_path / "all" / "output" / "outputs" / "answer.txt").read_bytes() == SECRET
        document = json.loads(insula("release", "show", "1", *place, "--to-sign", "approve")[1])
        assert (document["primaryType"], document["message"]["approve"]) == ("Release", True)

        code, out, _ = insula("release", "approve", row["id"], *place, "--key", key_file(tmp_path, 11), "--json")

        assert (code, json.loads(out)["approvals"]) == (Exit.OK, 1)
        assert attested(twin).status == Status.SUCCEEDED


BAD_CALLS = {
    "an unknown id": (("show", "9"), "nothing of '9' is held here"),
    "no key": (("approve", "1"), "--key"),
    "a stranger's key": (("reject", "1", "--key", "99"), "none of the signers"),
    "an approval of a request, not of an output": (("approve", "1", "--key", "11"), "give its own id"),
    "no hexadecimal": (("approve", "1", "--signature", "0xzz"), "--signature"),
    "a short signature": (("approve", "1", "--signature", "0x11"), "65 bytes"),
    "a signature of nobody": (("approve", "1", "--signature", "0x" + "11" * 64 + "1b"), "signature"),
    "an unknown reason": (("reject", "1", "--reason", "302", "--key", "11"), "302 is no reason of a rejection"),
    "a file without a place": (("show", "1", "--file", "stdout"), "needs --save"),
    "no such file": (("show", "1", "--file", "../key", "--save", "x"), "is no file of this output"),
    "no such decision": (("show", "1", "--to-sign", "maybe"), "must be approve or reject"),
    "a place that is taken": (("show", "1", "--file", "stdout", "--save", "."), "exists already"),
}


def test_the_command_line_says_what_is_wrong(twin, folder, tmp_path, insula):
    for number in (11, 99):
        key_file(tmp_path, number)
    with running(folder):
        twin.offer(job(twin))
        held(twin, folder)
        for what, (given, problem) in BAD_CALLS.items():
            words = [
                f"file:{tmp_path}/signer{word}" if before == "--key" else word
                for before, word in zip(("", *given), given, strict=False)
            ]
            code, out, err = insula("release", *words, "--dir", str(folder))
            assert (code, problem in err) == (Exit.BAD_INPUT, True), (what, out, err)
        still_held(twin, folder)


def test_the_command_line_says_what_is_still_needed_and_what_is_over(twin, folder, tmp_path, insula):
    policy(folder, mode="signers", signers=[key.address for key in KEYS], threshold=2)
    place = ("--dir", str(folder))
    with running(folder):
        twin.offer(job(twin))
        found = held(twin, folder)
        said = [
            insula("release", verb, found, *place, "--key", key_file(tmp_path, number))[1].splitlines()
            for verb, number in (("approve", 11), ("approve", 11), ("reject", 12), ("reject", 13))
        ]
        twin.wait_for(lambda: twin.attested)
        _, _, err = insula("release", "show", found, *place)

    assert [lines[0].split("; ")[1] for lines in said] == [
        "1 approvals, 2 needed", "1 approvals, 2 needed", "1 rejections, 2 needed", "2 rejections, 2 needed",
    ]  # fmt: skip
    assert said[1][1] == "this signer had decided so before; nothing new was written"
    assert "no longer held: rejected" in err


def test_a_file_whose_name_is_made_to_look_like_another_is_not_saved_in_its_place():
    cid = Cid.of(RAW, b"")
    names = ["outputs/a\u00a0b", "outputs/a\\xa0b", "outputs/c"]
    entries = [ManifestEntry(path=name, kind="file", size=0, cid=cid) for name in names]

    assert named(entries, "outputs/c") is entries[2]
    assert named(entries, "outputs/a\u00a0b") is entries[0]
    with pytest.raises(InvalidInput, match="shown of 2 files"):
        named(entries, "outputs/a\\xa0b")


def test_a_folder_that_is_no_node_is_named(tmp_path, insula):
    code, _, err = insula("release", "list", "--dir", str(tmp_path / "nothing"))

    assert (code, "node.toml" in err) == (Exit.BAD_INPUT, True)
