"""What people read: dates, amounts, payloads, where a job stands. What programs read: one way to spell names."""

import pytest

from bridge.cli.output import plain
from bridge.cli.texts import (
    amount,
    explanation_text,
    in_words,
    job_text,
    moment,
    node_text,
    payload,
    spec_text,
    standing,
)

CID = "bafybeig7n46cnl5sxk3xn7bxodrbuusmn5bnz57agxing7nbvw2xi3xbf4"


def test_a_moment_is_utc_to_the_second():
    assert moment(1_800_000_000.9) == "2027-01-15T08:00:00Z"
    assert moment(None) == "-"
    assert moment(10**20) == "second 100000000000000000000 since 1970"


AMOUNTS = {
    "0": "0 wei",
    "999": "999 wei",
    "1100000000000000": "1100000000000000 wei (0.0011 FIL)",
    str(5 * 10**18): "5000000000000000000 wei (5 FIL)",
    str(10**21): "1000000000000000000000 wei (1000 FIL)",
    str(2**132 + 5): "5444517870735015415413993718908291383301 wei (5444517870735015415413.993718908291383301 FIL)",
    str(-(10**18) - 10**17): "-1100000000000000000 wei (-1.1 FIL)",
}


@pytest.mark.parametrize("wei", AMOUNTS)
def test_an_amount_has_its_unit(wei):
    assert amount(wei) == AMOUNTS[wei]


PAYLOADS = {
    "text": (b"42 lines\n", '"42 lines\\n"'),
    "bytes that are no text": (b"\xff\x00", "0xff00"),
    "text that would move the cursor": (b"\x1b[2J", "0x1b5b324a"),
    "long text": (b"a" * 500, '"' + "a" * 399 + "... (500 bytes)"),
}


@pytest.mark.parametrize("what", PAYLOADS)
def test_a_payload_is_shown_as_text_where_it_is_some(what):
    data, shown = PAYLOADS[what]

    assert payload("0x" + data.hex()) == shown


NATIVE, TOKEN = "0x" + 40 * "0", "0x" + 40 * "a"


def job(**changes):
    fields = {
        "request_id": 7, "request_hash": "0xaa", "state": "final", "chain_state": "FULFILLED", "detail": "",
        "reason": "NONE", "requester": "0x1", "block_number": 12, "tx_hash": "0xbb", "deadline": 1_800_000_000,
        "nodes": 1, "quorum": 1, "curator": "0x2", "token": NATIVE, "unit_price": "10", "fail_price": "1",
        "delivery_fee": "2", "settled_tx": None, "settled_block_number": None, "callback_ok": None,
        "outcome": None, **changes,
    }  # fmt: skip
    return job_text(fields, changes.pop("explanation", None))


def outcome(**changes):
    return {"status_name": "SUCCEEDED", "reason": "NONE", "exit_code": 0, "payload": "0x", "output_cid": CID} | changes


def test_a_finished_job_names_its_output_and_what_to_do_with_it():
    told = job(outcome=outcome(payload="0x3432"), settled_tx="0xcc", settled_block_number=20, callback_ok=True)

    rows = dict(line.split(None, 1) for line in told.splitlines())
    assert rows["output"] == CID
    assert rows["next"] == f"insula content get {CID} -o DIR"
    assert rows["payload"] == '"42"'
    assert rows["deadline"] == "2027-01-15T08:00:00Z"
    assert "{" not in told


def test_a_price_in_a_token_is_told_in_units_of_that_token_and_not_in_wei():
    told = job(token=TOKEN, unit_price=str(10**18))

    assert f"pays         {10**18} of {TOKEN} a node, 1 of {TOKEN} where it ran and failed; 2 of {TOKEN} for" in told
    assert "wei" not in told


def test_a_failed_job_names_its_reason():
    told = job(outcome=outcome(status_name="FAILED", reason="WALL_LIMIT", output_cid=None), callback_ok=False)

    assert "FAILED, WALL_LIMIT, exit code 0" in told
    assert "can be tried again" in told
    assert "next" not in told


def test_a_job_that_waits_says_why():
    assert "why          no node" in job(detail="no node", reason="NO_NODE_MATCHES")
    assert "why          NO_NODE_MATCHES" in job(reason="NO_NODE_MATCHES")


def explanation(**changes):
    fields = {
        "request_id": 7, "state": "ready", "reason": "NONE", "detail": "", "awaiting": "a node", "nodes": [],
        "leases": [], "refundable_at": None, "ended": None,
    }  # fmt: skip
    return fields | changes


def test_a_mark_for_cancellation_is_told_with_its_second_step():
    marked = explanation(refundable_at=1_800_000_000)

    told = job_text({**job_fields(), "cancel_marked": True}, marked)

    assert "from 2027-01-15T08:00:00Z on: insula job cancel 7 --draw" in told
    assert standing(marked).endswith("from 2027-01-15T08:00:00Z on")


def job_fields():
    return {
        "request_id": 7, "request_hash": "0xaa", "state": "ready", "chain_state": "REQUESTED", "detail": "",
        "reason": "NONE", "requester": "0x1", "block_number": 12, "tx_hash": "0xbb", "deadline": 1, "nodes": 1,
        "quorum": 1, "curator": "0x2", "token": NATIVE, "unit_price": "10", "fail_price": "1", "delivery_fee": "2",
        "settled_tx": None,
        "callback_ok": None, "outcome": None,
    }  # fmt: skip


ENDED = {
    "by two nodes": (
        {"how": "fulfilled", "nodes": [1, 2], "block_number": 9, "at": 1_800_000_000, "why": ""},
        "final: fulfilled by nodes 1, 2 in block 9 at 2027-01-15T08:00:00Z",
    ),
    "by one, with a reason": (
        {"how": "failed", "nodes": [3], "block_number": 9, "at": None, "why": "EXIT_NON_ZERO, exit code 3"},
        "final: failed by node 3 in block 9: EXIT_NON_ZERO, exit code 3",
    ),
    "by nobody": (
        {"how": "expired", "nodes": [], "block_number": None, "at": None, "why": "no node"},
        "final: expired: no node",
    ),
}


@pytest.mark.parametrize("what", ENDED)
def test_an_ended_job_says_how(what):
    ended, told = ENDED[what]

    assert standing(explanation(state="final", ended=ended)) == told


def test_an_explanation_tells_nodes_and_attempts():
    lease = {"attempt": 1, "slot": 2, "node_id": 3, "granted_at": 1_800_000_000, "ended_at": 1_800_000_001}
    told = explanation_text(
        explanation(
            reason="NODES_BUSY",
            nodes=[{"node_id": 3, "code": "no-room", "text": "not enough slots"}],
            leases=[
                lease | {"state": "returned", "reason": "DISK_FULL", "detail": "full"},
                lease | {"state": "active", "reason": "NONE", "detail": "", "ended_at": None},
            ],
        )
    ).splitlines()

    assert told[0] == "ready: NODES_BUSY: awaits a node"
    assert told[1].split() == ["node", "3", "no-room", "not", "enough", "slots"]
    assert told[2].endswith("2027-01-15T08:00:00Z to 2027-01-15T08:00:01Z: returned (DISK_FULL: full)")
    assert told[3].endswith("to now: active")


def test_an_explanation_names_who_was_outvoted_and_who_signed_twice():
    said = {"status_name": "SUCCEEDED", "reason": "NONE", "exit_code": 0, "outcome_hash": "0xbb", "may_be_paid": False}
    failed = said | {"node_id": 4, "status_name": "FAILED", "reason": "EXIT_NON_ZERO", "exit_code": 3}
    ended = {
        "how": "fulfilled", "why": "", "nodes": [1, 2], "block_number": 7, "at": None, "outcome_hash": "0xaa",
        "outvoted": [said | {"node_id": 3}, failed | {"may_be_paid": True}], "contradicted": [4],
    }  # fmt: skip

    told = explanation_text(explanation(state="final", ended=ended)).splitlines()

    assert told == [
        "final: fulfilled by nodes 1, 2 in block 7",
        (
            "node 3    OUTVOTED           it said SUCCEEDED, exit code 0, outcome 0xbb; on-chain stands 0xaa; "
            "for that it was not paid"
        ),
        "node 4    OUTVOTED           it said FAILED, EXIT_NON_ZERO, exit code 3, outcome 0xbb; on-chain stands 0xaa",
        "node 4    SIGNED TWICE       two outcomes of this request: insula node evidence 4",
    ]


@pytest.mark.parametrize(("refused", "told"), [(None, ""), ("BAD_CID", "; refused: BAD_CID")])
def test_an_explanation_tells_how_the_spec_was_read(refused, told):
    conversion = {"dialect": 3, "refused": refused, "report_sha256": "00ff"}

    last = explanation_text(explanation(conversion=conversion)).splitlines()[-1]

    assert last == f"converted from dialect 3, report 00ff{told}"


def node(**changes):
    fields = {
        "folder": "/n", "key": "0xk", "labels": ["site=ap"], "is_running": True, "is_draining": False, "signed": 1,
        "log_size": 1, "log_root": "0xr", "running": [], "last": [], "bridge": {"url": "http://b", "answers": True},
        "offer": [
            {"tier": "wasm", "usable": True, "version": "w 1", "problem": "", "checks": [{"held": True}]},
            {"tier": "gvisor", "usable": False, "version": "", "problem": "no engine", "checks": []},
        ],
    }  # fmt: skip
    return node_text(fields | changes)


def test_a_node_is_told_in_words():
    row = {"request_id": 4, "attempt": 1, "state": "attested", "changed_at": 1_800_000_000, "detail": ""}
    seen = {"node_id": 2, "seen_at": 1_800_000_000}
    told = node(
        last=[row, row | {"detail": "status 1"}], bridge={"url": "http://b", "answers": True, "seen": seen}, labels=[]
    )

    assert "{" not in told
    assert "tier wasm    offered; w 1, 1 of 1 limits proved" in told
    assert "tier gvisor  not offered: no engine" in told
    assert "asked last at 2027-01-15T08:00:00Z" in told
    assert "request 4, attempt 1: attested at 2027-01-15T08:00:00Z (status 1)" in told


def test_a_node_whose_bridge_is_away_says_so():
    assert "does not answer: no route" in node(bridge={"url": "http://b", "answers": False, "problem": "no route"})
    assert "has not seen it lately" in node()
    assert "does not run; takes no more work" in node(is_running=False, is_draining=True)


def test_values_are_told_without_brackets():
    assert [in_words(value) for value in ({}, [], False, "x")] == ["none", "none", "no", "x"]


def test_a_spec_is_told_with_the_names_of_the_format():
    found = {"bytes": 9, "tier": "wasm", "inputs": [{"cid": CID, "path": "/inputs/x"}], "limits": {"wallSeconds": 60}}

    told = spec_text({**found, "selector": "site=ap", "labels": {"site=ap": "0x1"}})
    assert "limits       wallSeconds 60" in told
    assert "order with   --label site=ap" in told
    assert "any node that the curator admits" in spec_text({**found, "selector": "", "labels": {}})


def test_names_are_spelled_one_way_and_words_are_left_alone():
    given = {"node_id": 1, "nodeId": 2, "labels": {"a_b=c": 1}, "rows": [{"seen_at": 1}], "operator of node x_y": 3}

    assert plain(given) == {
        "nodeId": 2,
        "labels": {"a_b=c": 1},
        "rows": [{"seenAt": 1}],
        "operator of node x_y": 3,
    }
