"""A policy told in words, and the objections to a job."""

from dataclasses import replace

import pytest

from executor.audit.policy import Policy
from executor.audit.policywords import MAX_NAMED, in_words, objections
from executor.protocol.cid import RAW, Cid
from executor.protocol.network import Destination
from executor.protocol.spec import DockerEngine, SecretRef
from tests.unit.test_audit_policy import ALICE, BOB, DATA, OPEN, job, request

IMAGE = "sha256:" + "1" * 64


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
        "egress: no job has a way out",
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
        (
            {"egress": {"grants": [{"host": "*.example.org", "ports": [80, 443], "requesters": [ALICE]}]}},
            f"egress: *.example.org, ports 80, 443; requesters: only {ALICE}; callbacks: any; images: any",
        ),
        ({"egress": {"grants": [{"host": "a.example.org"}], "max_bytes_out": 7}}, "egress: a job: at most 7 bytes out"),
        (
            {"scanners": [{"name": "k", "module": "k.wasm", "sha256": "0" * 64}]},
            f"scanner k: k.wasm (sha256:{'0' * 64}) in tier wasm; on a finding: withhold",
        ),
        ({"scanners": [{"name": "k", "image": IMAGE}]}, f"scanner k: {IMAGE} in tier container"),
        ({"accept_escapes": ["CVE-2025-31133"]}, "accepted: known escapes of the container runtime: CVE-2025-31133"),
        ({"programs": [str(Cid.of(RAW, b"%d" % n)) for n in range(MAX_NAMED + 3)]}, "and 3 more"),
    ],
)
def test_each_part_of_a_policy_is_told(policy, words):
    assert words in told(**policy)


NETWORK = (Destination("api.example.org", (443,)),)


@pytest.mark.parametrize(
    ("policy", "classes", "asked", "words"),
    [
        ({}, (), request(), "does not grant api.example.org:443"),
        ({"egress": {"grants": [{"host": "api.example.org", "requesters": [BOB]}]}}, (), request(), "does not grant"),
        ({"release": {"mode": "person", "signers": [BOB]}}, (), None, "see no bytes that leave"),
        ({}, ("a",), None, "is given private data or secrets"),
    ],
    ids=["nothing is granted", "another requester's", "reviewed", "private data"],
)
def test_a_job_that_would_get_no_network_is_told_so(policy, classes, asked, words):
    wanted = replace(job(DockerEngine(image=IMAGE)), network=NETWORK)

    assert words in "".join(text for _, text in objections(Policy.parse(policy), wanted, asked, classes))


def test_a_job_whose_network_is_granted_would_run():
    wanted = replace(job(DockerEngine(image=IMAGE)), network=NETWORK)
    policy = Policy.parse({"egress": {"grants": [{"host": "*.example.org", "images": [IMAGE]}]}})

    assert objections(policy, wanted, request(), ()) == []


def test_all_objections_to_a_job_are_told_at_once():
    wanted = replace(job(wall_seconds=7200), secrets=(SecretRef(name="api", path="/secrets/x"),))
    policy = Policy.parse({"requesters_deny": [ALICE], "data": {"a": {"cids": [DATA]}}})

    found = objections(policy, wanted, request(), {"a"})

    assert [reason for reason, _ in found] == ["POLICY"] * 4
    assert "wall_seconds is 7200" in found[0][1]
    assert [text for _, text in objections(policy, wanted, None, {"a"})] == [found[0][1]]
    assert objections(Policy(), job(), request(), ()) == []
