"""An operator's policy: what it lets in, and that it says what it means."""

from dataclasses import replace

import pytest

from executor.audit.openings import SecretRules
from executor.audit.policy import Policy, PolicyRefused
from executor.errors import InvalidInput
from executor.protocol.cid import RAW, Cid
from executor.protocol.reasons import Reason
from executor.protocol.spec import DockerEngine, JobSpec, Limits, SecretRef, WasmEngine
from executor.protocol.wire import ZERO_ADDRESS, Order, Request, label_hash

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


MODULE = WasmEngine(module=Cid.of(RAW, b"m"))
PROGRAM = str(MODULE.module)
DATA = str(Cid.of(RAW, b"private"))
OPEN = {"requesters": [ALICE], "programs": [PROGRAM], "images": [IMAGE]}


def secret_job(engine=None, name="api"):
    return replace(job(engine), secrets=(SecretRef(name=name, path="/secrets/x"),))


#: what opens, who asks, whether it opens
OPENINGS = {
    "named": (OPEN, request(), MODULE, True),
    "a named image": (OPEN, request(), DockerEngine(image=IMAGE), True),
    "a named contract": ({**OPEN, "contracts": [CONTRACT]}, request(callback=CONTRACT), MODULE, True),
    "abuse: nobody is named": ({}, request(), MODULE, False),
    "abuse: no requester is named": ({**OPEN, "requesters": []}, request(), MODULE, False),
    "abuse: no program is named": ({"requesters": [ALICE]}, request(), MODULE, False),
    "abuse: another requester": (OPEN, request(BOB), MODULE, False),
    "abuse: another module": (OPEN, request(), WasmEngine(module=Cid.of(RAW, b"evil")), False),
    "abuse: another image": (OPEN, request(), DockerEngine(image="sha256:" + "b" * 64), False),
    "abuse: the image under another name": (OPEN, request(), DockerEngine(image=f"x@{IMAGE}"), False),
    "abuse: another contract": ({**OPEN, "contracts": [CONTRACT]}, request(callback=BOB), MODULE, False),
    "abuse: no contract": ({**OPEN, "contracts": [CONTRACT]}, request(), MODULE, False),
}


@pytest.mark.parametrize("row", OPENINGS)
def test_private_data_and_secrets_open_only_to_those_that_are_named(row):
    opening, asked, engine, opens = OPENINGS[row]
    policy = Policy.parse({"secrets": {"api": {**opening, "file": "x"}}, "data": {"c": {**opening, "cids": [DATA]}}})
    checks = [
        lambda: policy.check_secrets(asked, secret_job(engine)),
        lambda: policy.check_data(asked, job(engine), {"c"}),
    ]

    for check in checks:
        if opens:
            check()
        else:
            assert refusal(check) == Reason.POLICY


def test_an_opening_to_nobody_says_so():
    assert SecretRules.model_validate({"file": "x"}).is_shut
    assert SecretRules.model_validate({"file": "x", "requesters": [ALICE]}).is_shut
    assert not SecretRules.model_validate({"file": "x", **OPEN}).is_shut


def test_a_secret_that_is_not_there_is_refused_as_one_that_does_not_open():
    there = Policy.parse({"secrets": {"api": {"file": "x"}}})
    problems = []
    for policy in (there, Policy()):
        with pytest.raises(PolicyRefused) as caught:
            policy.check_secrets(request(), secret_job())
        problems.append(caught.value.problem)

    assert problems[0] == problems[1] == "the secret api does not open to this job"


def test_a_refusal_of_private_data_names_no_class():
    policy = Policy.parse({"data": {"medical": {"cids": [DATA]}}})

    with pytest.raises(PolicyRefused) as caught:
        policy.check_data(request(), job(), {"medical"})

    assert "medical" not in str(caught.value)


def test_a_job_without_private_data_needs_no_opening():
    policy = Policy.parse({"data": {"medical": {"cids": [DATA]}}, "secrets": {"api": {"file": "x"}}})

    policy.check_data(request(), job(), ())
    policy.check_secrets(request(), job())


PERSON = {"mode": "person", "signers": [ALICE]}
SIGNERS = {"mode": "signers", "signers": [ALICE, BOB], "threshold": 2}


@pytest.mark.parametrize(
    ("common", "first", "second", "mode"),
    [
        ("automatic", None, None, "automatic"),
        ("automatic", PERSON, None, "person"),
        ("automatic", PERSON, SIGNERS, "signers"),
        (SIGNERS, PERSON, None, "signers"),
        (SIGNERS, "person", None, "signers"),
        (PERSON, "signers", None, "signers"),
        ({**SIGNERS, "threshold": 1}, "signers", "person", "signers"),
    ],
)
def test_the_strictest_release_of_all_that_a_job_was_given_counts(common, first, second, mode):
    classes = {name: {"cids": [DATA]} for name in "ab"}
    for name, release in (("a", first), ("b", second)):
        if release is not None:
            classes[name]["release"] = release
    policy = Policy.parse({"release": common, "data": classes})

    assert policy.release_of({"a", "b"}).mode == mode
    assert policy.release_of(()) == policy.release


def test_a_classs_own_reviewers_count_where_the_mode_is_the_same():
    policy = Policy.parse({"release": PERSON, "data": {"a": {"cids": [DATA], "release": {**PERSON, "signers": [BOB]}}}})

    assert policy.release_of({"a"}).signers == (BOB,)


def test_classes_with_different_reviewers_cannot_meet_in_one_job():
    data = {
        "a": {"cids": [DATA], "release": PERSON},
        "b": {"cids": [DATA], "release": {**PERSON, "signers": [BOB]}},
    }
    policy = Policy.parse({"data": {name: {**rules, **OPEN} for name, rules in data.items()}})

    assert refusal(lambda: policy.check_data(request(), job(), {"a", "b"})) == Reason.POLICY


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"data": {"a": {"cids": []}}}, "data.a.cids"),
        ({"data": {"a": {"cids": ["Qm"]}}}, "data.a.cids.0"),
        ({"data": {"a": {"cids": [DATA], "release": "person"}}}, "data.a.release"),
        ({"data": {"a": {"cids": [DATA], "images": ["debian:12"]}}}, "data.a.images.0"),
        ({"data": {"A": {"cids": [DATA]}}}, "data.A.[key]"),
        ({"data": {"a": 1}}, "data.a"),
        ({"data": 1}, "data"),
        ({"secrets": {"a": {}}}, "secrets.a.file"),
        ({"secrets": {"a": {"file": "x", "value": "y"}}}, "secrets.a.value"),
        ({"secrets": {"../a": {"file": "x"}}}, "secrets.../a.[key]"),
        ({"images": ["debian:12"]}, "images.0"),
        ({"programs": ["x"]}, "programs.0"),
        ({"labels_require": ["x y"]}, "labels_require"),
        ({"outputs": {"denied_patterns": ["a*"]}}, "outputs.denied_patterns"),
        ({"outputs": {"archives": {"max_depth": 99}}}, "outputs.archives.max_depth"),
        ({"release": 1, "data": {"a": {"cids": [DATA], "release": "person"}}}, "release"),
        (1, ""),
    ],
)
def test_what_is_wrong_with_a_policys_own_data_is_named(value, where):
    with pytest.raises(InvalidInput) as caught:
        Policy.parse(value, "policy.toml")

    assert caught.value.field == f"policy.toml.{where}".removesuffix(".")


@pytest.mark.parametrize("part", [{"data": {"a": {"cids": [DATA]}}}, {"secrets": {"a": {"file": "x"}}}])
def test_what_opens_to_named_requesters_needs_the_chain(part):
    assert Policy.parse(part).needs_chain


@pytest.mark.parametrize(
    ("policy", "asked"),
    [
        ({"curators_allow": [ALICE]}, request(curator=BOB)),
        ({"labels_require": ["site=camera"]}, request()),
    ],
    ids=["curator", "label"],
)
def test_an_order_without_what_the_operator_asks_for_is_refused(policy, asked):
    assert refusal(lambda: Policy.parse(policy).check_request(asked)) == Reason.POLICY


def test_an_order_with_it_is_taken():
    policy = Policy.parse({"curators_allow": [BOB], "labels_require": ["site=camera"], "programs": [PROGRAM]})

    policy.check_request(request(curator=BOB, labels=(label_hash("site=camera"),)))
    policy.check_job(job())


def test_a_module_that_is_not_among_those_allowed_is_refused():
    assert refusal(lambda: Policy.parse({"programs": [DATA]}).check_job(job())) == Reason.POLICY
