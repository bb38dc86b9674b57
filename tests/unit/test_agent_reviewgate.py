"""Who may call a node's review API, and how often one signature counts."""

import pytest

from executor.agent.reviewgate import MAX_NONCES, Gate, Refusal, reviewers
from executor.audit.policy import Policy
from executor.protocol.nodeauth import review_audience, sign_call
from executor.protocol.signing import Key, Scope
from tests.agent_twin import CONTRACT, REQUESTER

SCOPE = Scope(31337, CONTRACT)
REVIEWER, OTHER = (Key.from_hex(f"{number:064x}") for number in (11, 12))
EMPTY = bytes.fromhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")


class Clock:
    now = 1_000_000.0

    def __call__(self):
        return self.now


def gate(clock=None):
    return Gate(SCOPE, REQUESTER, {REVIEWER.address}, clock or Clock())


def signed(to, time=1_000_000, nonce=1, key=REVIEWER):
    audience = review_audience(SCOPE, REQUESTER, to.public["session"])
    number = nonce.to_bytes(32, "big")
    return sign_call(key, audience, method="GET", path="/v1/holds", body_hash=EMPTY, time=time, nonce=number)


def refused(to, headers):
    with pytest.raises(Refusal) as caught:
        to.admit(headers, "GET", "/v1/holds")
    return caught.value.status, caught.value.name


def test_a_reviewer_is_let_in_with_the_body_that_he_signed():
    to = gate()

    assert to.admit(signed(to), "GET", "/v1/holds") == (REVIEWER.address, EMPTY)


def test_a_call_counts_once_for_as_long_as_its_time_is_good():
    clock = Clock()
    to = gate(clock)
    ahead = signed(to, time=1_000_060)
    to.admit(ahead, "GET", "/v1/holds")

    clock.now += 120
    assert refused(to, ahead) == (401, "replayed")
    clock.now += 1
    assert refused(to, ahead) == (401, "not-signed")


def test_a_call_to_one_process_is_none_to_the_next():
    first, second = gate(), gate()

    assert refused(second, signed(first)) == (401, "not-signed")


def test_what_a_stranger_sends_is_not_remembered():
    to = gate()

    assert [refused(to, signed(to, key=OTHER)) for _ in range(2)] == [(403, "not-a-reviewer")] * 2


def test_a_reviewer_who_calls_without_end_is_told_to_wait_and_let_in_again():
    clock = Clock()
    to = gate(clock)
    for number in range(MAX_NONCES):
        to.remember((REVIEWER.address, number.to_bytes(32, "big")), clock.now)

    assert refused(to, signed(to, nonce=MAX_NONCES)) == (429, "too-many")
    clock.now += 121
    to.admit(signed(to, time=1_000_121, nonce=MAX_NONCES), "GET", "/v1/holds")


def test_the_reviewers_of_a_policy_are_those_of_all_its_rules():
    scans = {
        "cids": ["bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"],
        "release": {"mode": "person", "signers": [OTHER.address]},
    }
    policy = Policy.parse({"release": {"mode": "person", "signers": [REVIEWER.address]}, "data": {"scans": scans}})

    assert reviewers(policy) == {REVIEWER.address, OTHER.address}
    assert reviewers(Policy()) == frozenset()
