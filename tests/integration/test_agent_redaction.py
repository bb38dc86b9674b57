"""An output that is released in part: only what reviewers approved comes out, and of the rest no hash to guess by."""

import base64
import gzip
import json
import shutil
import time
from dataclasses import replace

import pytest

from bridge.cli.output import Exit
from executor.agent.config import init_node
from executor.agent.review import open_review
from executor.agent.service import node_status
from executor.agent.staging import Staging
from executor.content.limits import TreeLimits
from executor.content.reader import manifest, read_file
from executor.errors import InvalidInput
from executor.protocol.cid import RAW, Cid
from executor.protocol.reasons import Reason
from executor.protocol.receipt import parse_receipt
from executor.protocol.release import Held
from executor.protocol.releaserecord import check_release
from executor.protocol.wire import ResultKind, Status
from executor.sandbox.types import RunReport
from tests.agent_twin import CHAIN_ID, CONTRACT, REQUESTER
from tests.integration.test_agent_release import (
    KEYS,
    Writes,
    attested,
    decide,
    folder,
    held,
    holds_of,
    job,
    policy,
    running,
    shown,
    still_held,
)
from tests.integration.test_agent_secrets import Chain

__all__ = ["folder"]

FILES = {"report.csv": b"name,count\nanne,3\n", "private/a.txt": b"the answer is 42", "private/b.txt": b"and 43"}
STDOUT = b"anne has 3\n"


class WritesMore(Writes):
    """A sandbox whose job writes some files, one of which is not for everybody."""

    def __init__(self, files=None, exit_code=0, stdout=STDOUT):
        super().__init__()
        self.files = FILES if files is None else files
        self.exit_code = exit_code
        self.stdout = stdout

    def run(self, execution, cancelled):
        self.runs += 1
        for path, content in self.files.items():
            (execution.outputs / path).parent.mkdir(parents=True, exist_ok=True)
            (execution.outputs / path).write_bytes(content)
        return RunReport(
            exit_code=self.exit_code, reason=Reason.EXIT_NON_ZERO if self.exit_code else Reason.NONE, detail="",
            stdout=self.stdout, stderr=b"a warning", started_at=1.0, finished_at=2.345,
            runtime={"engine": "wasm", "fuel": 12345},
        )  # fmt: skip


def redact(folder, without=(), replacements=()):
    """A redaction of the one held output: what `show` says of it."""
    with open_review(folder) as review:
        (found,) = review.listing()
        return review.redact(review.find(found["id"]), without, dict(replacements))


def approve(folder, key, redaction):
    with open_review(folder) as review:
        (found,) = review.listing()
        return review.decide(review.find(found["id"]), True, 0, key, redaction)


def quarantine_of(folder, execution_id):
    """Where a held output lies, as its node opens it."""
    with holds_of(folder) as holds:
        return Staging(folder / "executions" / execution_id).quarantine(holds.keys.get(execution_id))


def push(folder, *, vote=None, redaction=None):
    """A decision or redaction that is written into the ledger by somebody who does not check it."""
    with holds_of(folder) as holds:
        if redaction is not None:
            holds.propose(redaction)
        if vote is not None:
            holds.vote(holds.open()[0].execution_id, vote, time.time())


def holding(folder, twin, sandbox=None, work=None):
    """Offer the job to a node that runs, and wait until its output is held."""
    lease = twin.offer(work or job(twin))
    held(twin, folder)
    return lease


def came_out(twin):
    """The files that left the node, by path."""
    root = Cid.from_binary(twin.attested[0].decoded().output_cid)
    rows = manifest(twin.received, root, TreeLimits(10**9)).entries
    return {row.path: b"".join(read_file(twin.received, row.cid, 2**20)) for row in rows if row.kind == "file"}


def everything_sent(twin):
    """All bytes that a bridge has of it."""
    blocks = b"".join(twin.received.get(cid) for cid in twin.received)
    return blocks + b"".join(one.receipt + one.outcome for one in twin.attested)


def record_of(twin, lease):
    """What the receipt says, proved."""
    receipt = parse_receipt(twin.attested[0].receipt)
    node = receipt["predicate"]["runDetails"]["builder"]["id"].removeprefix("urn:insula:node:")
    return check_release(receipt, node, lease.request.request(), twin.attested[0].decoded())


def test_what_reviewers_took_out_never_leaves_and_the_rest_does(twin, folder):
    with running(folder, WritesMore()):
        lease = holding(folder, twin)
        original = shown(folder)
        made = redact(folder, ["outputs/private"], {"outputs/report.csv": b"name,count\n***,3\n"})
        still_held(twin, folder)
        approve(folder, KEYS[0], made["id"])
        outcome = attested(twin)

    assert (outcome.status, outcome.reason) == (Status.SUCCEEDED, Reason.RELEASED_IN_PART)
    assert came_out(twin) == {"outputs/report.csv": b"name,count\n***,3\n", "stdout": STDOUT, "stderr": b"a warning"}
    sent = everything_sent(twin)
    hidden = [
        original["outputCid"].encode(),
        *FILES.values(),
        b"private",
        b"12345",
        b"2.345",
        original["salt"].hex().encode(),
    ]
    hidden += [original[name].hex().encode() for name in ("outcomeHash", "manifestHash")]
    assert [word for word in hidden if word in sent] == []
    record = record_of(twin, lease)
    assert (record.ruling, record.redacted.removed, record.redacted.replaced) == (
        "redacted",
        True,
        ("outputs/report.csv",),
    )
    assert record.held == original["held"]


def test_the_node_keeps_what_proves_later_what_was_taken_out_and_no_byte_of_it(twin, folder, insula):
    with running(folder, WritesMore()):
        lease = holding(folder, twin)
        original = shown(folder)
        approve(folder, KEYS[0], redact(folder, ["outputs/private"])["id"])
        attested(twin)
        twin.wait_for(lambda: not list((folder / "executions").iterdir()))

    with holds_of(folder) as holds:
        kept = holds.get(original["id"])
    assert kept.root == original["outputCid"]
    assert kept.held.hash == record_of(twin, lease).held
    assert (kept.decided, kept.findings) == ("", "")
    code, out, _ = insula("release", "opening", original["id"], "--dir", str(folder), "--json")
    told = json.loads(out)
    opened = Held(**{
        name: bytes.fromhex(told[field][2:])
        for name, field in (("outcome_hash", "outcomeHash"), ("manifest_hash", "manifestHash"), ("salt", "salt"))
    })  # fmt: skip
    assert (code, opened.hash) == (Exit.OK, record_of(twin, lease).held)


@pytest.mark.parametrize("threshold", [1, 2], ids=["approved", "half approved"])
def test_a_part_that_was_approved_but_is_gone_goes_back_to_run_again(twin, folder, threshold):
    policy(folder, mode="signers", signers=[key.address for key in KEYS], threshold=threshold)
    with running(folder, WritesMore()):
        holding(folder, twin)
    approve(folder, KEYS[0], redact(folder, ["outputs/private"])["id"])
    shutil.rmtree(folder / "quarantine-keys")

    with running(folder, WritesMore()):
        twin.wait_for(lambda: twin.returned or twin.attested)

    assert [found.reason for found in twin.returned] == [Reason.NODE_FAULT] * (threshold == 1)
    assert [found.decoded().reason for found in twin.attested] == [Reason.RELEASE_TIMEOUT] * (threshold == 2)


def test_of_any_other_end_the_ledger_keeps_nothing_of_a_redaction(twin, folder, insula):
    with running(folder, WritesMore()):
        holding(folder, twin)
        made = redact(folder, ["outputs/private"])
        decide(folder, KEYS[0], approve=False)
        attested(twin)
        twin.wait_for(lambda: not list((folder / "executions").iterdir()))

    row = node_status(folder)["last"][0]["execution_id"]
    with holds_of(folder) as holds:
        assert (holds.redactions(row), holds.get(row).root, holds.get(row).salt) == ((), "", b"")
    assert made["outputCid"].encode() not in (folder / "ledger.db").read_bytes()
    code, _, err = insula("release", "opening", row, "--dir", str(folder))
    assert (code, "released in part" in err) == (Exit.BAD_INPUT, True)


KINDS = {
    "the output of the job": (ResultKind.CID, b""),
    "its standard output": (ResultKind.STDOUT, b"somebody has 3\n"),
    "its standard error": (ResultKind.STDERR, b""),
    "its exit code": (ResultKind.EXIT_CODE, b"0"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_goes_on_chain_is_of_the_redacted_form(twin, folder, kind):
    result_kind, payload = KINDS[kind]
    with running(folder, WritesMore()):
        holding(folder, twin, work=replace(job(twin), result_kind=int(result_kind)))
        made = redact(folder, ["stderr"], {"stdout": b"somebody has 3\n"})
        approve(folder, KEYS[0], made["id"])
        outcome = attested(twin)

    assert (outcome.status, outcome.payload) == (Status.SUCCEEDED, payload)
    assert {"stdout": b"somebody has 3\n", "stderr": b""}.items() <= came_out(twin).items()
    assert STDOUT not in everything_sent(twin)


def test_of_a_job_that_failed_its_own_reason_stands_on_chain(twin, folder):
    with running(folder, WritesMore(exit_code=3)):
        lease = holding(folder, twin)
        approve(folder, KEYS[0], redact(folder, ["outputs/private"])["id"])
        outcome = attested(twin)

    assert (outcome.status, outcome.reason, outcome.exit_code) == (Status.FAILED, Reason.EXIT_NON_ZERO, 3)
    assert record_of(twin, lease).ruling == "redacted"


def test_a_stream_that_is_too_long_for_the_chain_is_not_so_where_it_was_cut(twin, folder):
    with running(folder, WritesMore(stdout=b"x" * 9000)):
        holding(folder, twin, work=replace(job(twin), result_kind=int(ResultKind.STDOUT)))
        approve(folder, KEYS[0], redact(folder, (), {"stdout": b"short"})["id"])

        assert (attested(twin).reason, twin.attested[0].decoded().payload) == (Reason.RELEASED_IN_PART, b"short")


def test_two_of_three_must_approve_the_same_form(twin, folder):
    policy(folder, mode="signers", signers=[key.address for key in KEYS], threshold=2)
    with running(folder, WritesMore()):
        lease = holding(folder, twin)
        one, two = redact(folder, ["outputs/private"]), redact(folder, ["outputs/private/a.txt"])
        decide(folder, KEYS[0])
        assert approve(folder, KEYS[1], one["id"])["approvals"] == 1
        assert approve(folder, KEYS[2], two["id"])["approvals"] == 1
        still_held(twin, folder)
        assert approve(folder, KEYS[2], one["id"])["approvals"] == 2
        attested(twin)

    assert sorted(came_out(twin)) == ["outputs/report.csv", "stderr", "stdout"]
    assert [vote.signer for vote in record_of(twin, lease).votes] == [KEYS[1].address, KEYS[2].address]


def test_a_second_proposal_takes_no_vote_from_the_first(twin, folder):
    policy(folder, mode="signers", signers=[key.address for key in KEYS], threshold=2)
    with running(folder, WritesMore()):
        holding(folder, twin)
        first = redact(folder, ["outputs/private"])
        approve(folder, KEYS[0], first["id"])
        second = redact(folder, ["outputs/private/a.txt"])
        assert [[vote["signer"] for vote in row["votes"]] for row in shown(folder)["redactions"]] == [
            [KEYS[0].address], [],
        ]  # fmt: skip
        approve(folder, KEYS[1], second["id"])
        still_held(twin, folder)
        assert redact(folder, ["outputs/private"])["new"] is False
        approve(folder, KEYS[1], first["id"])
        attested(twin)

    assert "outputs/private/b.txt" not in came_out(twin)


def test_a_rejection_is_of_the_output_and_leaves_no_form_of_it(twin, folder):
    with running(folder, WritesMore()):
        holding(folder, twin)
        made = redact(folder, ["outputs/private"])
        with pytest.raises(InvalidInput, match="approved or left alone"), open_review(folder) as review:
            review.decide(review.find("1"), False, 300, KEYS[0], made["id"])
        decide(folder, KEYS[0], approve=False)

        assert attested(twin).reason == Reason.RELEASE_REJECTED
    assert twin.attested[0].receipt.count(made["held"].hex().encode()) == 0


#: wish -> what it is refused with
BAD_WISHES = {
    "nothing": ((), {}, "changes nothing"),
    "the same bytes": ((), {"stdout": STDOUT}, "changes nothing"),
    "a file that is not there": (("outputs/other",), {}, "no file or folder of this output"),
    "a way up": (("../node.key",), {}, "no file or folder of this output"),
    "a way up from within": (("outputs/../../node.key",), {}, "no file or folder of this output"),
    "an absolute path": (("/etc/passwd",), {}, "no file or folder of this output"),
    "everything": (("",), {}, "no file or folder of this output"),
    "a pattern": (("outputs/*",), {}, "no file or folder of this output"),
    "a name with NUL": (("outputs/report.csv\0",), {}, "no file or folder of this output"),
    "a new file": ((), {"outputs/new.csv": b"x"}, "no file or folder of this output"),
    "a new file in the root": ((), {"readme": b"x"}, "no file or folder of this output"),
    "a file in the place of a folder": ((), {"outputs/private": b"x"}, "is a folder"),
    "gone and replaced": (("outputs/private",), {"outputs/private/a.txt": b"x"}, "give one of the two"),
    "emptied and replaced": (("stdout",), {"stdout": b"x"}, "give one of the two"),
}  # fmt: skip


def test_abuse_a_redaction_that_is_more_than_taking_out_is_refused(twin, folder):
    with running(folder, WritesMore()):
        holding(folder, twin)
        for what, (without, replacements, problem) in BAD_WISHES.items():
            with pytest.raises(InvalidInput) as caught:
                redact(folder, without, replacements)
            assert problem in str(caught.value), what
        assert shown(folder)["redactions"] == []
        still_held(twin, folder)


HOSTILE = {"a\u00a0b": b"1", "day=1.csv": b"2", "-rf": b"3", "..b": b"5"}


def test_files_with_hostile_names_are_taken_out_as_they_are_shown(twin, folder):
    with running(folder, WritesMore(HOSTILE)):
        holding(folder, twin)
        listed = [row["path"] for row in shown(folder)["files"]]
        assert "outputs/a\\xa0b" in listed
        made = redact(folder, ["outputs/a\\xa0b", "outputs/-rf", "outputs/..b"])
        approve(folder, KEYS[0], made["id"])
        attested(twin)

    assert sorted(came_out(twin)) == ["outputs/day=1.csv", "stderr", "stdout"]


AUDITED = {
    "a private key": ("", b"-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----", "secret_forms"),
    "a type that may not leave": ('denied_types = ["application/pdf"]', b"%PDF-1.7 x", "denied_types"),
    "more than may leave": ("max_bytes = 100", b"x" * 200, "max_bytes"),
}


@pytest.mark.parametrize("what", AUDITED)
def test_abuse_a_replacement_is_audited_as_an_output_is(twin, folder, what):
    rule, content, problem = AUDITED[what]
    policy(folder, f"[outputs]\n{rule}", mode="person", signers=[KEYS[0].address])
    with running(folder, WritesMore()):
        holding(folder, twin)
        with pytest.raises(InvalidInput, match="the audit refuses it") as caught:
            redact(folder, (), {"outputs/report.csv": content})

        assert problem in str(caught.value)
        assert shown(folder)["redactions"] == []


def test_a_broken_rule_is_for_the_reviewers_to_judge_where_the_policy_says_so(twin, folder):
    rules = {"mode": "person", "signers": [KEYS[0].address], "broken_rule": "hold"}
    policy(folder, '[outputs]\ndenied_names = ["private"]', **rules)
    with running(folder, WritesMore()):
        holding(folder, twin)
        assert len(shown(folder)["findings"]) == 3
        assert redact(folder, ["outputs/private/a.txt"])["findings"] != []
        assert redact(folder, ["outputs/private"])["findings"] == []


SECRET = b"correct-horse-battery-staple"


@pytest.fixture
def vault(tmp_path, twin):
    """A node whose operator has a secret that the job is not given, and which reads the chain for it."""
    chain = Chain()
    with chain.running() as rpc:
        folder = tmp_path / "vault"
        fields = {"bridge_url": twin.url, "chain_id": CHAIN_ID, "bridge_contract": CONTRACT, "registry": CONTRACT}
        init_node(folder, **fields, rpc_url=rpc, poll_seconds=0.1, slots=1, disk_bytes=2**30, memory_bytes=2**29)
        (folder / "api.token").write_bytes(SECRET)
        (folder / "api.token").chmod(0o600)
        opens = f'requesters = ["{REQUESTER}"]\nprograms = ["{Cid.of(RAW, b"another")}"]'
        policy(folder, f'[secrets.api]\nfile = "api.token"\n{opens}', **VAULT)
        lease = twin.offer(job(twin))
        chain.hashes[1] = lease.request_hash
        yield folder


VAULT = {"mode": "person", "signers": [KEYS[0].address], "broken_rule": "hold"}


@pytest.mark.parametrize(
    "form",
    [SECRET, base64.b64encode(SECRET), SECRET[::-1], gzip.compress(SECRET)],
    ids=["plain", "base64", "reversed", "compressed"],
)
def test_abuse_a_replacement_that_holds_a_secret_is_refused_whoever_may_judge_broken_rules(vault, twin, form):
    with running(vault, WritesMore()):
        held(twin, vault)
        with pytest.raises(InvalidInput, match="holds the secret api") as caught:
            redact(vault, (), {"outputs/report.csv": b"see " + form if form[:1] != b"\x1f" else form})

        assert SECRET.decode() not in str(caught.value)
        assert shown(vault)["redactions"] == []
