"""What is tried to get more out than reviewers approved, and a node that dies at any step of a partial release."""

import contextlib
import dataclasses
import secrets
import signal
import sqlite3
import time

import pytest

from executor.agent.review import open_review
from executor.agent.service import node_status
from executor.audit.release import Ruling
from executor.content.blockstore import BlockStore
from executor.content.importer import import_listing
from executor.content.limits import TreeLimits
from executor.content.roots import RootSet
from executor.errors import InvalidInput
from executor.holds import Redaction
from executor.protocol.cid import RAW, Cid
from executor.protocol.reasons import Reason
from executor.protocol.release import Changes, Redacted, sign_release
from executor.protocol.wire import Status
from tests.agent_kit import killed_at_the_end
from tests.integration.test_agent_redaction import (
    STDOUT,
    WritesMore,
    approve,
    came_out,
    everything_sent,
    holding,
    push,
    quarantine_of,
    record_of,
    redact,
)
from tests.integration.test_agent_release import (
    KEYS,
    STRANGER,
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
    subject,
)

__all__ = ["folder"]

PRIVATE = (b"the answer is 42", b"and 43", b"private/")


def about(folder, number=0):
    """What is signed of a redaction that was proposed."""
    row = shown(folder)["redactions"][number]
    return subject(folder, redacted=Redacted(held=row["held"], changes=row["changesHash"]))


def moved(vote, redaction):
    return dataclasses.replace(vote, redaction=redaction)


#: what somebody signs, and under which form he enters it: (subjects of the whole, the first and the second) -> a vote
REPLAYED = {
    "the whole, as a redaction": lambda whole, one, two: moved(sign_release(whole, KEYS[0], True, 0), one.redacted.id),
    "a redaction, as the whole": lambda whole, one, two: moved(sign_release(one, KEYS[0], True, 0), ""),
    "one redaction, as another": lambda whole, one, two: moved(sign_release(one, KEYS[0], True, 0), two.redacted.id),
    "a rejection, as a redaction": lambda whole, one, two: dataclasses.replace(
        sign_release(whole, KEYS[0], False, 300), redaction=one.redacted.id, approve=True, reason=0
    ),
    "a stranger's": lambda whole, one, two: sign_release(one, STRANGER, True, 0),
    "a stranger's in a signer's name": lambda whole, one, two: dataclasses.replace(
        sign_release(one, STRANGER, True, 0), signer=KEYS[0].address
    ),
    "the same form of another original": lambda whole, one, two: sign_release(
        dataclasses.replace(one, held=bytes(32)), KEYS[0], True, 0
    ),
    "the same form with other changes": lambda whole, one, two: sign_release(
        dataclasses.replace(one, redacted=Redacted(held=one.redacted.held, changes=bytes(32))), KEYS[0], True, 0
    ),
    "for another request": lambda whole, one, two: sign_release(
        dataclasses.replace(one, request_hash=bytes(32)), KEYS[0], True, 0
    ),
    "for another node": lambda whole, one, two: sign_release(
        dataclasses.replace(one, node=STRANGER.address), KEYS[0], True, 0
    ),
}


@pytest.mark.parametrize("how", REPLAYED)
def test_abuse_a_vote_for_one_form_releases_no_other(twin, folder, how):
    with running(folder, WritesMore()):
        holding(folder, twin)
        redact(folder, ["outputs/private"])
        redact(folder, ["outputs/private/a.txt"])
        push(folder, vote=REPLAYED[how](subject(folder), about(folder), about(folder, 1)))

        still_held(twin, folder)


def test_abuse_a_vote_for_no_redaction_is_not_kept(twin, folder):
    with running(folder, WritesMore()):
        holding(folder, twin)
        redact(folder, ["outputs/private"])
        vote = sign_release(about(folder), KEYS[0], True, 0)
        with pytest.raises(InvalidInput, match="is no redaction"):
            push(folder, vote=moved(vote, "0" * 16))
        with pytest.raises(InvalidInput, match="is no redaction"):
            approve(folder, KEYS[0], "0" * 16)
        still_held(twin, folder)


def test_who_rejected_the_output_approves_no_form_of_it_and_the_other_way_round(twin, folder):
    policy(folder, mode="signers", signers=[key.address for key in KEYS], threshold=2)
    with running(folder, WritesMore()):
        holding(folder, twin)
        made = redact(folder, ["outputs/private"])
        decide(folder, KEYS[0], approve=False)
        approve(folder, KEYS[1], made["id"])
        with pytest.raises(InvalidInput, match="has rejected it already; the first decision stands"):
            approve(folder, KEYS[0], made["id"])
        with pytest.raises(InvalidInput, match=f"has approved it already .redaction {made['id']}"):
            decide(folder, KEYS[1], approve=False)
        still_held(twin, folder)


def forged(folder, listing, **changes):
    """A redaction with these files, written into quarantine and ledger by somebody who does not check it."""
    with open_review(folder) as review:
        (row,) = review.listing()
    store = quarantine_of(folder, row["id"])
    root = import_listing(store, listing, TreeLimits(10**6))
    fields = {
        "execution_id": row["id"], "root": str(root), "outcome_hash": bytes(32), "manifest_hash": bytes(32),
        "salt": secrets.token_bytes(32), "changes_hash": Changes(removed=True, replaced=()).hash, "findings": "",
        "proposed_by": "", "proposed_at": time.time(),
    }  # fmt: skip
    made = Redaction(**{**fields, **changes})
    push(folder, redaction=made)
    return made


FORGED = {
    "it adds a file": {"outputs/report.csv": b"x", "outputs/new": b"y", "stdout": b"", "stderr": b""},
    "it adds a folder": {"outputs/new/": b"", "stdout": b"", "stderr": b""},
    "a file became a folder": {"outputs/report.csv/": b"", "stdout": b"", "stderr": b""},
    "it has no stderr": {"outputs/": b"", "stdout": b""},
    "its hashes are of another": {"outputs/": b"", "stdout": b"", "stderr": b""},
}


@pytest.mark.parametrize("how", FORGED)
def test_abuse_a_forged_redaction_is_neither_shown_nor_released_whoever_signed_it(twin, folder, how):
    with running(folder, WritesMore()):
        holding(folder, twin)
        whole = subject(folder)
        made = forged(folder, FORGED[how])
        for look in (shown, lambda place: approve(place, KEYS[0], made.id)):
            with pytest.raises(InvalidInput, match="redaction"):
                look(folder)
        push(folder, vote=sign_release(dataclasses.replace(whole, redacted=made.signed), KEYS[0], True, 0))
        (found,) = twin.wait_for(lambda: twin.returned)

    assert found.reason == Reason.NODE_FAULT
    assert twin.attested == []
    assert not any("/missing" in path or method == "PUT" for method, path in twin.calls)


def test_abuse_a_redaction_whose_blocks_were_tampered_with_is_not_released(twin, folder):
    with running(folder, WritesMore()):
        holding(folder, twin)
        made = redact(folder, (), {"outputs/report.csv": b"nothing to see"})
        signed = about(folder)
        path = quarantine_of(folder, made["execution"]).path(Cid.of(RAW, b"nothing to see"))
        path.chmod(0o600)
        path.write_bytes(path.read_bytes()[::-1])
        for look in (shown, lambda place: approve(place, KEYS[0], made["id"])):
            with pytest.raises(InvalidInput, match="not what was held"):
                look(folder)
        push(folder, vote=sign_release(signed, KEYS[0], True, 0))
        (found,) = twin.wait_for(lambda: twin.returned)

    assert found.reason == Reason.NODE_FAULT
    assert twin.attested == []


def test_abuse_what_the_audit_refuses_is_withheld_whoever_signed_it(twin, folder):
    """As where somebody writes into the ledger what the audit would have refused."""
    policy(folder, "[outputs]\nmax_bytes = 60", mode="person", signers=[KEYS[0].address])
    with running(folder, WritesMore()):
        holding(folder, twin)
        whole = subject(folder)
        made = accepted(folder, {"outputs/report.csv": b"x" * 100, "stdout": STDOUT, "stderr": b"a warning"})
        push(folder, vote=sign_release(dataclasses.replace(whole, redacted=made.signed), KEYS[0], True, 0))
        outcome = attested(twin)
        twin.wait_for(lambda: not list((folder / "executions").iterdir()))

    assert (outcome.status, outcome.reason) == (Status.WITHHELD, Reason.AUDIT_RULE)
    assert "release" not in twin.attested[0].receipt.decode().partition('"byproducts"')[2].partition('"manifest"')[2]
    with holds_of(folder) as holds:
        kept = holds.get(made.execution_id)
    assert (kept.ruling, kept.root, kept.salt, kept.outcome_hash) == ("refused", "", b"", b"")


def ruled_on(folder, twin):
    """A redaction that was approved and ruled on by a node that ended then, and its hold."""
    with running(folder, WritesMore()):
        holding(folder, twin)
    made = redact(folder, ["outputs/private"])
    approve(folder, KEYS[0], made["id"])
    with holds_of(folder) as holds:
        (hold,) = holds.open()
        holds.settle(hold.execution_id, lambda votes: Ruling(True, Reason.NONE, votes, made["id"]))
    return made, hold


def test_nothing_of_the_original_is_kept_where_the_part_that_was_approved_is_not_what_was_signed(twin, folder):
    _, hold = ruled_on(folder, twin)
    with contextlib.closing(sqlite3.connect(folder / "ledger.db")) as db, db:
        db.execute("UPDATE redactions SET findings = 'x'")
        db.execute("UPDATE holds SET until = ?", (time.time(),))

    with running(folder, WritesMore()):
        twin.wait_for(lambda: twin.attested or twin.returned)
        twin.wait_for(lambda: not list((folder / "executions").iterdir()))

    with holds_of(folder) as holds:
        kept = holds.get(hold.execution_id)
    assert len(twin.received) == 0
    assert (kept.root, kept.salt, kept.outcome_hash) == ("", b"", b"")


def test_what_the_audit_refused_before_a_kill_9_is_withheld_after_it(twin, folder):
    made, hold = ruled_on(folder, twin)
    with holds_of(folder) as holds:
        holds.overrule(hold.execution_id)
    roots = RootSet(BlockStore(folder / "content"))
    roots.keep(Cid.parse(made["outputCid"]), f"job:0x{hold.request_hash.hex()}")  # it was let out, and not yet signed

    with running(folder, WritesMore()):
        outcome = attested(twin)

    assert (outcome.status, outcome.reason, len(twin.received)) == (Status.WITHHELD, Reason.AUDIT_RULE, 0)
    assert roots.live(time.time(), Cid.parse(made["outputCid"])) == []


def accepted(folder, listing):
    """A forged redaction with the right hashes."""
    from executor.agent.holding import manifest_hash, whole_manifest
    from executor.agent.redacting import form_of

    with open_review(folder) as review:
        (row,) = review.listing()
        hold = review.find(row["id"])
    store = quarantine_of(folder, row["id"])
    root = import_listing(store, listing, TreeLimits(10**6))
    form = form_of(store, hold, whole_manifest(store, Cid.parse(hold.root)), root)
    return forged(
        folder, listing, outcome_hash=form.outcome.hash, manifest_hash=manifest_hash(form.found),
        changes_hash=form.difference.changes.hash,
    )  # fmt: skip


def test_abuse_one_reviewer_fills_no_disk_with_proposals(twin, folder):
    with running(folder, WritesMore()):
        holding(folder, twin)
        with pytest.raises(InvalidInput, match="more than 67108864 bytes"):
            redact(folder, (), {"stdout": bytes(2**26 + 1)})
        for number in range(8):
            redact(folder, (), {"stdout": b"%d" % number})
        with pytest.raises(InvalidInput, match="8 redactions by this reviewer"):
            redact(folder, (), {"stdout": b"9"})


def test_nothing_is_proposed_of_what_is_decided_on(twin, folder):
    policy(folder, mode="person", signers=[KEYS[0].address])
    with running(folder, WritesMore()):
        holding(folder, twin)
    decide(folder, KEYS[0])
    with holds_of(folder) as holds:
        holds.settle(holds.open()[0].execution_id, lambda votes: Ruling(True, Reason.NONE, votes))

    with pytest.raises(InvalidInput, match="decided on already: approved"):
        redact(folder, ["outputs/private"])


#: the node as a process that dies, by its own hand, when it logs a certain step
PROCESS = """
import os, signal, sys, threading
from pathlib import Path
import structlog
from executor.agent.service import run_node
from tests.integration.test_agent_redaction import WritesMore

step = sys.argv[2]

def dies(logger, name, event):
    if step and f"{event['event']} {event.get('phase', '')}".strip() == step:
        os.kill(os.getpid(), signal.SIGKILL)
    return event

structlog.configure(processors=[dies, structlog.processors.KeyValueRenderer()])
run_node(Path(sys.argv[1]), threading.Event(), [WritesMore()])
"""


def process(folder, step=""):
    return killed_at_the_end(PROCESS, folder, step)


def propose_and_approve(folder):
    approve(folder, KEYS[0], redact(folder, ["outputs/private"])["id"])


#: the line at which the node dies -> what reviewers do before that, and after it
STEPS = {
    "phase held": (
        (),
        (propose_and_approve,),
    ),
    "phase redacted": ((propose_and_approve,), ()),
    "phase released": ((propose_and_approve,), ()),
    "signed": ((propose_and_approve,), ()),
    "uploaded": ((propose_and_approve,), ()),
}


@pytest.mark.parametrize("step", STEPS)
def test_kill_9_of_the_node_at_every_step_of_a_partial_release(twin, folder, step):
    before, after = STEPS[step]
    with process(folder, step) as child:
        lease = twin.offer(job(twin), token=5)
        if before:
            held(twin, folder)
        for act in before:
            act(folder)
        child.wait(60)
        assert child.returncode == -signal.SIGKILL
    assert [word for word in PRIVATE if word in everything_sent(twin)] == []

    with process(folder):
        if after:
            held(twin, folder)
        for act in after:
            act(folder)
        attested(twin)
        twin.wait_for(lambda: not list((folder / "executions").iterdir()))

    assert sorted(came_out(twin)) == ["outputs/report.csv", "stderr", "stdout"]
    assert [word for word in PRIVATE if word in everything_sent(twin)] == []
    assert record_of(twin, lease).ruling == "redacted"
    with open_review(folder) as review:
        opening = review.opening(node_status(folder)["last"][0]["execution_id"])
    assert opening["held"].hex() in twin.attested[0].receipt.decode()
    assert node_status(folder)["signed"] == 1


def test_what_was_proposed_and_half_approved_at_a_kill_9_is_so_after_it(twin, folder):
    policy(folder, mode="signers", signers=[key.address for key in KEYS], threshold=2)
    with process(folder):
        twin.offer(job(twin), token=5)
        held(twin, folder)
        made = redact(folder, ["outputs/private"])
        approve(folder, KEYS[0], made["id"])
    before = shown(folder)["redactions"]

    with process(folder):
        twin.heartbeats.clear()
        held(twin, folder)
        assert shown(folder)["redactions"] == before
        still_held(twin, folder)
        approve(folder, KEYS[2], made["id"])
        assert attested(twin).reason == Reason.RELEASED_IN_PART
