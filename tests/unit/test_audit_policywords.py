"""A policy told in words, and the objections to a job."""

from dataclasses import replace

import pytest

from executor.audit.policy import Policy
from executor.audit.policywords import MAX_NAMED, in_words, objections
from executor.protocol.cid import RAW, Cid
from executor.protocol.spec import SecretRef
from tests.unit.test_audit_policy import ALICE, BOB, DATA, OPEN, job, request


def told(**policy):
    return "\n".join(f"{name}: {text}" for name, text in in_words(Policy.parse(policy)))


def test_the_default_policy_is_told():
    text = told()

    for words in (
        "engines: wasm, docker; tiers wasm, container, gvisor",
        "requesters: any",
        "a job: at most wall_seconds 3600",
        "release: by the rules alone",
        "chain: need not be asked",
        "looked for: private-key, aws-key, ethereum-keystore, 0 patterns",
    ):
        assert words in text


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({"requesters_allow": [ALICE], "requesters_deny": [BOB]}, f"requesters: only {ALICE}, never {BOB}"),
        ({"tokens": {BOB: {"min_unit_price": 5}}}, f"in {BOB}: at least 5 on success"),
        ({"limits": {"wall_seconds": None}}, "a job: whatever the format allows"),
        ({"outputs": {"allow_empty": False, "secret_forms": []}}, "levels, not empty"),
        ({"outputs": {"secret_forms": []}}, "looked for: nothing, 0 patterns"),
        ({"outputs": {"allowed_types": ["text"], "denied_names": ["*.exe"]}}, "types: text; names: any, never *.exe"),
        ({"release": {"mode": "person", "signers": [ALICE]}}, f"release: any of {ALICE}, within 1800 s"),
        (
            {"release": {"mode": "signers", "signers": [ALICE, BOB], "threshold": 2}},
            f"release: 2 of {ALICE}, {BOB}, within",
        ),
        ({"data": {"a": {"cids": [DATA]}}}, "data a: 1 CIDs and what is below them; opens to nobody"),
        ({"data": {"a": {"cids": [DATA], **OPEN, "contracts": [BOB]}}}, f"called back at {BOB}"),
        (
            {"data": {"a": {"cids": [DATA], "release": {"mode": "person", "signers": [BOB]}}}},
            f"; release: any of {BOB}",
        ),
        (
            {"secrets": {"api": {"file": "token", **OPEN}}},
            f"secret api: in the file token; opens to requesters {ALICE}",
        ),
        ({"secrets": {"api": {"file": "token"}}}, "chain: must be asked"),
        ({"programs": [str(Cid.of(RAW, b"%d" % n)) for n in range(MAX_NAMED + 3)]}, "and 3 more"),
    ],
)
def test_each_part_of_a_policy_is_told(policy, words):
    assert words in told(**policy)


def test_all_objections_to_a_job_are_told_at_once():
    wanted = replace(job(wall_seconds=7200), secrets=(SecretRef(name="api", path="/secrets/x"),))
    policy = Policy.parse({"requesters_deny": [ALICE], "data": {"a": {"cids": [DATA]}}})

    found = objections(policy, wanted, request(), {"a"})

    assert [reason for reason, _ in found] == ["POLICY"] * 4
    assert "wall_seconds is 7200" in found[0][1]
    assert [text for _, text in objections(policy, wanted, None, {"a"})] == [found[0][1]]
    assert objections(Policy(), job(), request(), ()) == []
