"""An operator's policy: what it lets in, and that it says what it means."""

import pytest

from executor.audit.policy import Policy, PolicyRefused
from executor.errors import InvalidInput
from executor.protocol.cid import RAW, Cid
from executor.protocol.reasons import Reason
from executor.protocol.spec import DockerEngine, JobSpec, Limits, WasmEngine
from executor.protocol.wire import ZERO_ADDRESS, Order, Request

ALICE = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
BOB = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"
CONTRACT = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
IMAGE = "sha256:" + "a" * 64


def request(requester=ALICE, **order):
    fields = {"spec": b"{}", "ttl": 60, **order}
    return Request(chain_id=1, contract=CONTRACT, id=1, requester=requester, order=Order(**fields), deadline=100)


def job(engine=None, **limits):
    most = {
        "wall_seconds": 60, "cpu_millis": 1000, "memory_bytes": 2**28, "disk_bytes": 2**26,
        "output_files": 1024, "log_bytes": 65536, "pids": 64,
    }  # fmt: skip
    return JobSpec(engine=engine or WasmEngine(module=Cid.of(RAW, b"m")), limits=Limits(**{**most, **limits}))


def refusal(check):
    with pytest.raises(PolicyRefused) as caught:
        check()
    return caught.value.reason


def test_the_default_policy_takes_any_requester_and_any_job_within_the_formats_limits():
    Policy().check_request(request())
    Policy().check_job(job())
    Policy().check_job(job(DockerEngine(image=IMAGE)))


@pytest.mark.parametrize(
    ("policy", "asked", "reason"),
    [
        ({"requesters_deny": [ALICE]}, request(), Reason.POLICY),
        ({"requesters_allow": [BOB]}, request(), Reason.POLICY),
        ({"requesters_allow": [ALICE], "requesters_deny": [ALICE]}, request(), Reason.POLICY),
        ({"contracts_allow": [CONTRACT]}, request(), Reason.POLICY),
        ({"contracts_allow": [CONTRACT]}, request(callback=BOB), Reason.POLICY),
        ({"min_unit_price": 10}, request(unit_price=9), Reason.PRICE_TOO_LOW),
        ({"min_fail_price": "5"}, request(unit_price=9, fail_price=4), Reason.PRICE_TOO_LOW),
        ({"min_unit_price": 1}, request(unit_price=9, token=BOB), Reason.PRICE_TOO_LOW),
        ({"min_fail_price": 1}, request(unit_price=9, fail_price=9, token=BOB), Reason.PRICE_TOO_LOW),
        ({"tokens": {ALICE: {"min_unit_price": 0}}}, request(unit_price=9, token=BOB), Reason.PRICE_TOO_LOW),
        ({"tokens": {BOB: {"min_unit_price": "10"}}}, request(unit_price=9, token=BOB), Reason.PRICE_TOO_LOW),
        (
            {"tokens": {BOB: {"min_unit_price": 0, "min_fail_price": 5}}},
            request(unit_price=9, fail_price=4, token=BOB),
            Reason.PRICE_TOO_LOW,
        ),
    ],
    ids=[
        "denied",
        "not allowed",
        "denied beats allowed",
        "no callback",
        "other callback",
        "price",
        "fail price",
        "token",
        "token, fail price",
        "another token",
        "price in a token",
        "fail price in a token",
    ],
)
def test_a_request_that_the_policy_does_not_allow_is_refused(policy, asked, reason):
    assert refusal(lambda: Policy.parse(policy).check_request(asked)) == reason


def test_an_allowed_request_passes():
    policy = Policy.parse({"requesters_allow": [ALICE.lower()], "contracts_allow": [ZERO_ADDRESS], "min_unit_price": 5})

    policy.check_request(request(unit_price=5))


@pytest.mark.parametrize(
    "policy",
    [{}, {"min_unit_price": 10**30, "tokens": {BOB.lower(): {"min_unit_price": 5, "min_fail_price": 1}}}],
    ids=["who asks for nothing takes any token", "the token's own prices count"],
)
def test_a_request_that_pays_enough_in_a_token_passes(policy):
    Policy.parse(policy).check_request(request(unit_price=5, fail_price=1, token=BOB))


@pytest.mark.parametrize(
    ("policy", "wanted"),
    [
        ({"engines": ["wasm"]}, job(DockerEngine(image=IMAGE))),
        ({"engines": ["docker"]}, job()),
        ({"tiers": ["gvisor"]}, job(DockerEngine(image=IMAGE))),
        ({"images": ["sha256:" + "b" * 64]}, job(DockerEngine(image=IMAGE))),
        ({"limits": {"memory_bytes": 2**27}}, job()),
        ({}, job(wall_seconds=3601)),
        ({"limits": {"pids": 1}}, job()),
    ],
    ids=["engine docker", "engine wasm", "tier", "image", "memory", "the default wall limit", "pids"],
)
def test_a_job_that_the_policy_does_not_allow_is_refused(policy, wanted):
    assert refusal(lambda: Policy.parse(policy).check_job(wanted)) == Reason.POLICY


def test_a_policy_offers_a_tier_only_with_its_engine():
    policy = Policy.parse({"engines": ["docker"], "tiers": ["wasm", "gvisor"]})

    assert [tier for tier in ("wasm", "container", "gvisor") if policy.allows_tier(tier)] == ["gvisor"]


@pytest.mark.parametrize("field", ["requesters_allow", "requesters_deny", "contracts_allow"])
def test_a_policy_on_who_asks_needs_the_chain(field):
    assert Policy.parse({field: [ALICE]}).needs_chain
    assert not Policy().needs_chain


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"requester_allow": []}, "requester_allow"),
        ({"engines": ["podman"]}, "engines.0"),
        ({"requesters_deny": ["0x12"]}, "requesters_deny.0"),
        ({"min_unit_price": -1}, "min_unit_price"),
        ({"outputs": {"max_bytes": -1}}, "outputs.max_bytes"),
        ({"release": "never"}, "release.mode"),
        ({"release": {"mode": "person", "signers": [ALICE], "wait": 1}}, "release.wait"),
        ({"release": {"mode": "person", "signers": ["0x12"]}}, "release.signers.0"),
        ({"release": {"mode": "person", "signers": [ALICE], "wait_seconds": 0}}, "release.wait_seconds"),
        ({"release": {"mode": "signers", "signers": [ALICE], "threshold": 0}}, "release.threshold"),
        ({"release": {"mode": "signers", "signers": [ALICE, ALICE.lower()]}}, "release.signers"),
        ({"release": {"mode": "signers", "signers": [ZERO_ADDRESS]}}, "release.signers"),
        ({"tokens": {BOB: {"min_price": 1}}}, f"tokens.{BOB}.min_unit_price"),
        ({"tokens": {"0x12": {"min_unit_price": 1}}}, "tokens"),
        ({"tokens": {BOB: {"min_unit_price": 1}, BOB.lower(): {"min_unit_price": 2}}}, "tokens"),
        ({"tokens": {ZERO_ADDRESS: {"min_unit_price": 1}}}, "tokens"),
    ],
    ids=[
        "unknown key",
        "engine",
        "address",
        "price",
        "nested",
        "release",
        "release, unknown key",
        "release, address",
        "release, no time",
        "release, no threshold",
        "release, a signer twice",
        "release, zero address",
        "a token's key",
        "no token",
        "a token twice",
        "the chain's own token",
    ],
)
def test_a_policy_that_is_not_valid_is_refused_by_the_name_of_its_field(value, where):
    with pytest.raises(InvalidInput) as caught:
        Policy.parse(value, "policy.toml")

    assert caught.value.field == f"policy.toml.{where}"


def test_the_hash_is_that_of_the_meaning_not_of_the_spelling():
    written = Policy.parse({"requesters_allow": [ALICE.lower()], "min_unit_price": "7"})
    same = Policy.parse({"min_unit_price": 7, "requesters_allow": [ALICE]})

    assert written.hash == same.hash
    assert written.hash != Policy().hash
    assert len(written.hash) == 32


def test_a_refusal_says_what_is_not_allowed():
    with pytest.raises(PolicyRefused, match="engine wasm is not allowed"):
        Policy(engines=("docker",), tiers=("container",)).check_job(job())


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ({"signers": [ALICE]}, 'while mode is "automatic"'),
        ({"threshold": 2}, 'while mode is "automatic"'),
        ({"broken_rule": "hold"}, 'while mode is "automatic"'),
        ({"mode": "person"}, "signers: .*at least one"),
        ({"mode": "signers"}, "signers: .*at least one"),
        ({"mode": "person", "signers": [ALICE, BOB], "threshold": 2}, "threshold: one person"),
        ({"mode": "signers", "signers": [ALICE, BOB], "threshold": 3}, "threshold: 3 of 2 signers"),
    ],
    ids=["idle signers", "idle threshold", "idle rule", "nobody", "no signers", "two persons", "out of reach"],
)
def test_release_rules_that_contradict_themselves_are_refused_and_say_which(value, names):
    with pytest.raises(InvalidInput, match=names) as caught:
        Policy.parse({"release": value}, "policy.toml")

    assert caught.value.field == "policy.toml.release"


def test_a_release_mode_alone_is_enough_where_nobody_signs():
    assert Policy.parse({"release": "automatic"}) == Policy()
