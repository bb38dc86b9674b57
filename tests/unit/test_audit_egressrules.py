"""An operator's grants: closed by default, for exactly the jobs and destinations that are named."""

import pytest

from executor.audit.egressrules import EgressRules
from executor.audit.policy import Policy, PolicyRefused
from executor.errors import InvalidInput
from executor.protocol.cid import Cid
from executor.protocol.network import Destination
from executor.protocol.reasons import Reason
from executor.protocol.spec import DockerEngine, JobSpec, Limits, WasmEngine
from executor.protocol.wire import ZERO_ADDRESS, Order, Request

ALICE = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
BOB = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
IMAGE = "sha256:" + "a" * 64
LIMITS = Limits(
    wall_seconds=60, cpu_millis=1000, memory_bytes=2**28, disk_bytes=2**20, output_files=10, log_bytes=1024, pids=16
)
MODULE = Cid.parse("bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku")


def missing(grants, wanted, requester=ALICE, contract=ZERO_ADDRESS, image=IMAGE):
    rules = EgressRules.model_validate({"grants": grants})
    return rules.missing([Destination(host, tuple(ports)) for host, ports in wanted], requester, contract, image)


GRANTED = {
    "the host and port": ([{"host": "a.example.org"}], [("a.example.org", [443])]),
    "several ports": ([{"host": "a.example.org", "ports": [80, 443]}], [("a.example.org", [80, 443])]),
    "ports of two grants": (
        [{"host": "a.example.org", "ports": [80]}, {"host": "a.example.org", "ports": [443]}],
        [("a.example.org", [80, 443])],
    ),
    "a name below": ([{"host": "*.example.org"}], [("a.b.example.org", [443])]),
    "all names below": ([{"host": "*.example.org"}], [("*.b.example.org", [443])]),
    "the requester's": ([{"host": "a.example.org", "requesters": [ALICE.lower()]}], [("a.example.org", [443])]),
    "the contract's": ([{"host": "a.example.org", "contracts": [ZERO_ADDRESS]}], [("a.example.org", [443])]),
    "the image's": ([{"host": "a.example.org", "images": [IMAGE]}], [("a.example.org", [443])]),
    "nothing": ([], []),
}
LACKING = {
    "no grant": ([], [("a.example.org", [443])], "a.example.org:443"),
    "another host": ([{"host": "b.example.org"}], [("a.example.org", [443])], "a.example.org:443"),
    "another port": ([{"host": "a.example.org"}], [("a.example.org", [80, 443])], "a.example.org:80"),
    "the second": (
        [{"host": "a.example.org"}], [("a.example.org", [443]), ("b.example.org", [443])], "b.example.org:443"
    ),
    "more than was granted": ([{"host": "a.example.org"}], [("*.example.org", [443])], "*.example.org:443"),
    "the name above": ([{"host": "*.example.org"}], [("example.org", [443])], "example.org:443"),
    "another requester's": (
        [{"host": "a.example.org", "requesters": [BOB]}], [("a.example.org", [443])], "a.example.org:443"
    ),
    "another contract's": (
        [{"host": "a.example.org", "contracts": [BOB]}], [("a.example.org", [443])], "a.example.org:443"
    ),
    "another image's": (
        [{"host": "a.example.org", "images": ["sha256:" + "b" * 64]}], [("a.example.org", [443])], "a.example.org:443"
    ),
    "half of the conditions": (
        [{"host": "a.example.org", "requesters": [ALICE], "contracts": [BOB]}],
        [("a.example.org", [443])],
        "a.example.org:443",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GRANTED)
def test_a_job_is_granted(name):
    assert missing(*GRANTED[name]) == ""


@pytest.mark.parametrize("name", LACKING)
def test_a_job_is_not_granted(name):
    grants, wanted, lacking = LACKING[name]

    assert missing(grants, wanted) == lacking


@pytest.mark.parametrize(
    ("rules", "where"),
    [
        ({"grants": [{"host": "127.0.0.1"}]}, "egress.grants.0.host"),
        ({"grants": [{"host": "*"}]}, "egress.grants.0.host"),
        ({"grants": [{"host": "a.example.org", "ports": []}]}, "egress.grants.0.ports"),
        ({"grants": [{"host": "a.example.org", "ports": [0]}]}, "egress.grants.0.ports"),
        ({"grants": [{"host": "a.example.org", "ports": [65536]}]}, "egress.grants.0.ports"),
        ({"grants": [{"host": "a.example.org", "requesters": ["0x12"]}]}, "egress.grants.0.requesters.0"),
        ({"grants": [{"host": "a.example.org", "path": "/"}]}, "egress.grants.0.path"),
        ({"grants": [{"host": "a.example.org"}, {"host": "a.example.org"}]}, "egress"),
        ({"max_exchanges": 65}, "egress.max_exchanges"),
        ({"max_connections": 0}, "egress.max_connections"),
        ({"exchange_seconds": 0}, "egress.exchange_seconds"),
        ({"max_bytes": 1}, "egress.max_bytes"),
    ],
    ids=[
        "an address", "every host", "no port", "port 0", "port 65536", "no address of a requester", "unknown key",
        "twice", "more rows than a receipt holds", "no connection", "no time", "unknown limit",
    ],
)  # fmt: skip
def test_rules_that_are_not_valid_are_refused_by_the_name_of_their_field(rules, where):
    with pytest.raises(InvalidInput) as caught:
        Policy.parse({"egress": rules}, "policy.toml")

    assert caught.value.field == f"policy.toml.{where}"


@pytest.mark.parametrize(
    ("grant", "needs"), [({}, False), ({"requesters": [ALICE]}, True), ({"contracts": [BOB]}, True)]
)
def test_a_grant_that_depends_on_who_asks_needs_the_chain(grant, needs):
    assert Policy.parse({"egress": {"grants": [{"host": "a.example.org", **grant}]}}).needs_chain is needs


def request():
    return Request(chain_id=1, contract=BOB, id=1, requester=ALICE, order=Order(spec=b"", ttl=1), deadline=1)


def test_a_job_that_asks_for_more_than_is_granted_is_given_back():
    job = JobSpec(engine=DockerEngine(image=IMAGE), limits=LIMITS, network=(Destination("a.example.org", (443,)),))
    with pytest.raises(PolicyRefused, match=r"a\.example\.org:443") as caught:
        Policy().check_network(job, request())

    assert caught.value.reason == Reason.POLICY
    Policy.parse({"egress": {"grants": [{"host": "*.example.org"}]}}).check_network(job, request())


def test_a_job_without_a_network_needs_no_grant():
    Policy().check_network(JobSpec(engine=DockerEngine(image=IMAGE), limits=LIMITS), request())
    Policy().check_network(JobSpec(engine=WasmEngine(module=MODULE), limits=LIMITS), request())
