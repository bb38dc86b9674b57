"""A receipt's account of a job's exchanges: what cannot be so is named, though the node that says it signed it."""

import hashlib
import json
from dataclasses import replace

import pytest

from bridge.verify import check_bundle
from executor.egress.record import Exchange, closed, shown
from executor.errors import InvalidInput
from executor.protocol.bundle import Bundle
from executor.protocol.canonical import canonical_json
from executor.protocol.cid import RAW, Cid
from executor.protocol.egressrecord import SLACK_BYTES, check_egress
from executor.protocol.leases import RequestMessage
from executor.protocol.network import Destination
from executor.protocol.reasons import Reason
from executor.protocol.receipt import parse_receipt
from executor.protocol.spec import job_of
from executor.protocol.wire import Order, Outcome, Request, Status
from tests.bundles import CONTRACT, REQUESTER, attest, changed, with_receipt

AT = 1_700_000_000_500
NETWORK = [{"host": "*.data.example.org", "ports": [443]}, {"host": "api.example.org", "ports": [80, 443]}]
ALLOWED = [Destination(one["host"], tuple(one["ports"])) for one in NETWORK]
LIMITS = {"bytesOut": 1000, "bytesIn": 5000, "exchanges": 4}
SHA = hashlib.sha256(b"x").hexdigest()
PLAIN = Exchange(
    at=AT, method="POST", host="api.example.org", port=80, target_sha256=SHA, address="203.0.113.7", status=200,
    bytes_out=1, bytes_in=1, request_sha256=SHA, response_sha256=SHA,
)  # fmt: skip
TUNNEL = Exchange(
    at=AT, method="CONNECT", host="a.data.example.org", port=443, kind="tunnel", target_sha256=SHA,
    address="2001:4860::1", status=200, bytes_out=900, bytes_in=4000, request_sha256=SHA, response_sha256=SHA,
)  # fmt: skip
REFUSED = Exchange(
    at=AT, method="GET", host="secret.example.net", port=443, target_sha256=SHA, status=403, refused="no"
)
BEGUN = Exchange(at=AT)  # the job ended before its request was whole
ODD = Exchange(at=AT, method="TRACE", host="api.example.org", port=80, status=501, refused="the Host header is another")
OUTPUT = Outcome(status=Status.SUCCEEDED, output_cid=Cid.of(RAW, b"out").binary)
WITHHELD = Outcome(status=Status.WITHHELD, reason=int(Reason.AUDIT_RULE))
CUT = Outcome(status=Status.FAILED, reason=int(Reason.DISK_LIMIT))


def told(*rows, omitted=0):
    """As a node tells it of a released output."""
    return shown({"exchanges": [row.row() for row in rows], "omitted": omitted}, ALLOWED, LIMITS, is_open=True)


GOOD = told(PLAIN, TUNNEL, REFUSED)


def spec_with(network):
    engine = {"type": "docker", "image": "sha256:" + "ab" * 32}
    spec = {"version": "insula/v1", "engine": engine}
    return json.dumps(spec | ({"network": {"allow": network}} if network else {})).encode()


def bundle_of(egress, outcome=OUTPUT, network=NETWORK):
    """One node's word on a job with this network, with that account of its exchanges."""
    order = Order(spec=spec_with(network), ttl=600)
    request = Request(chain_id=31415926, contract=CONTRACT, id=3, requester=REQUESTER, order=order, deadline=2_000_000)
    return Bundle(
        request_hash=request.hash, request=RequestMessage.of(request), request_tx=b"\1" * 32, request_block_number=10,
        spec=order.spec, outcome=outcome.encode(), settled_tx=b"\2" * 32, settled_block_number=20,
        attestations=(attest(request, outcome, 0, [], egress=egress),),
    ).sealed()  # fmt: skip


def verdict(bundle):
    checks = check_bundle(bundle)
    assert [check.name for check in checks if check.failed and check.name != "exchanges of node 1"] == []
    return [(check.ok, check.detail) for check in checks if check.name == "exchanges of node 1"]


HONEST = {
    "rows of all kinds": (told(PLAIN, TUNNEL, REFUSED, ODD), OUTPUT, "4 by the node's word"),
    "begun only": (told(BEGUN), OUTPUT, "1 by the node's word"),
    "no exchange": (told(), OUTPUT, "0 by the node's word"),
    "more than the rows": (told(PLAIN, PLAIN, PLAIN, PLAIN, omitted=9), OUTPUT, "13 by the node's word"),
    "withheld": (closed(GOOD), WITHHELD, "3 by the node's word; nothing more is told"),
    "cut, and told": (GOOD, CUT, "3 by the node's word; each to a destination of the spec"),
    "cut, and not told": (closed(GOOD), CUT, "3 by the node's word; nothing more is told"),
    "an older node, which tells no limits": (
        {name: value for name, value in GOOD.items() if name != "limits"}, OUTPUT, "3 by the node's word",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", HONEST)
def test_an_honest_account_of_exchanges_holds(what):
    egress, outcome, detail = HONEST[what]

    ((ok, said),) = verdict(bundle_of(egress, outcome))

    assert (ok, detail in said) == (True, True), said


def test_a_job_without_a_network_has_no_exchanges_to_tell():
    assert verdict(bundle_of(None, network=None)) == []


def test_a_job_whose_program_is_none_never_had_a_proxy():
    assert verdict(bundle_of(None, Outcome(status=Status.FAILED, reason=int(Reason.PROGRAM_INVALID)))) == []


def row(**fields):
    """GOOD, its first row changed."""
    first, *rest = GOOD["exchanges"]
    first = {name: value for name, value in (first | fields).items() if value is not None}
    return GOOD | {"exchanges": [first, *rest]}


NOBODY = {"host": "", "port": 0, "method": "", "targetSha256": None}
#: what a node says of its job's exchanges, and signs -> what is named
TAMPERED = {
    "another host": (row(host="evil.example.net"), "exchanges[0]: evil.example.net:80 is none of network.allow"),
    "another port": (row(port=22), "api.example.org:22 is none of network.allow"),
    "the name above a wildcard": (row(host="data.example.org", port=443), "is none of network.allow"),
    "a host that was refused, in the clear": (
        GOOD | {"exchanges": [PLAIN.row(), TUNNEL.row(), REFUSED.row()]}, "exchanges[2]: secret.example.net:443",
    ),
    "a host that is no name": (row(host="A.data.example.org", port=443), "its host is no host name"),
    "a host of control characters": (row(host="a\n.data.example.org", port=443), "its host is no host name"),
    "no host": (row(**NOBODY), "something was exchanged with no host"),
    "no host, and an address": (row(**NOBODY, bytesOut=0, bytesIn=0), "something was exchanged with no host"),
    "no host, and a port": (row(host=""), "has a port and no host"),
    "no host, and a target": (
        GOOD | {"exchanges": [{**BEGUN.row(), "targetSha256": SHA}], "count": 1}, "has a target and no host",
    ),
    "no method": (row(method=""), "not what it was"),
    "a method in lower case": (row(method="post"), "exchanges[0].method"),
    "no target": (row(targetSha256=None), "not what it was"),
    "no address": (row(address=None), "bytes were exchanged with no address"),
    "an address that is none": (row(address="api.example.org"), "its address is none"),
    "a tunnel without CONNECT": (row(kind="tunnel"), "a tunnel was made by something else"),
    "another kind": (row(kind="udp"), "exchanges[0].kind"),
    "no bytes out, and their hash": (row(bytesOut=0), "requestSha256 is not that of no bytes"),
    "no bytes in, and their hash": (row(bytesIn=0), "responseSha256 is not that of no bytes"),
    "fewer than no bytes": (row(bytesIn=-1), "exchanges[0].bytesIn"),
    "bytes as a word": (row(bytesIn="1"), "exchanges[0].bytesIn"),
    "a hash that is none": (row(requestSha256="ab"), "exchanges[0].requestSha256"),
    "before the job": (row(at=AT - 400_000), "was not while the job ran"),
    "after the job": (row(at=AT + 400_000), "was not while the job ran"),
    "a word more": (row(note="x"), "exchanges[0].note"),
    "a field less": (row(bytesOut=None), "exchanges[0].bytesOut"),
    "a row less": (GOOD | {"exchanges": GOOD["exchanges"][1:]}, "count is 3, and there are 2 rows and 0 omitted"),
    "another count": (GOOD | {"count": 2}, "count is 2, and there are 3 rows"),
    "omitted though rows were left": (GOOD | {"omitted": 1, "count": 4}, "1 were omitted, while 1 rows were left"),
    "more rows than the policy allows": (told(*[PLAIN] * 5), "5 exchanges, and the node's policy allows 4"),
    "more rows than any policy": (told(*[PLAIN] * 65), "exchanges: "),
    "more bytes out than the policy": (row(bytesOut=101), "bytesOut come to 1001, and the node's policy allows 1000"),
    "more bytes in than the policy": (row(bytesIn=1001), "bytesIn come to 5001, and the node's policy allows 5000"),
    "far more bytes than a cut explains": (
        row(bytesOut=101 + SLACK_BYTES, cut="the job's bytes out are used up"), "and the node's policy allows 1000",
    ),
    "reproducible": (GOOD | {"reproducible": True}, "reproducible"),
    "no rows": ({"reproducible": False, "count": 0}, "was released, and its exchanges are not told"),
    "rows, and not how many were omitted": (
        {name: value for name, value in GOOD.items() if name != "omitted"}, "told together, or none of them",
    ),
    "limits without rows": (closed(GOOD) | {"limits": LIMITS}, "told together, or none of them"),
    "limits that are none": (GOOD | {"limits": {"bytesOut": 1}}, "limits.bytesIn"),
}  # fmt: skip


@pytest.mark.parametrize("what", TAMPERED)
def test_an_account_of_exchanges_that_does_not_fit_is_named_though_its_node_signed_it(what):
    egress, problem = TAMPERED[what]

    ((ok, detail),) = verdict(bundle_of(egress))

    assert (ok, problem in detail) == (False, True), detail


def test_a_row_that_was_cut_for_its_bytes_may_be_over_by_what_was_on_its_way():
    assert verdict(bundle_of(row(bytesOut=101, cut="the job's bytes out are used up")))[0][0]


def test_exchanges_of_a_job_that_asked_for_no_network_are_named():
    assert verdict(bundle_of(closed(GOOD), network=None)) == [
        (False, "the receipt tells of exchanges, and the job asked for no network")
    ]


def test_silence_of_a_job_that_had_a_network_is_named():
    assert verdict(bundle_of(None)) == [
        (False, "the job was given a network, and the receipt says nothing of its exchanges")
    ]


def test_abuse_exchanges_of_a_withheld_output_are_named():
    assert verdict(bundle_of(GOOD, WITHHELD)) == [
        (False, "the output was withheld, and its exchanges are told all the same")
    ]


def in_part(egress, outcome):
    """The check of a receipt whose reviewers released a part; whether they did is checked elsewhere."""
    order = Order(spec=spec_with(NETWORK), ttl=600)
    request = Request(chain_id=1, contract=CONTRACT, id=3, requester=REQUESTER, order=order, deadline=2_000_000)
    receipt = attest(request, outcome, 0, [], egress=egress, release={"ruling": "redacted"}).receipt
    return check_egress(parse_receipt(receipt), job_of(order, order.spec), outcome)


PARTS = {
    "of a job that succeeded": replace(OUTPUT, reason=int(Reason.RELEASED_IN_PART)),
    "of a job that failed": replace(OUTPUT, status=Status.FAILED, reason=int(Reason.EXIT_NON_ZERO), exit_code=3),
}


@pytest.mark.parametrize("what", PARTS)
def test_of_an_output_that_was_released_in_part_no_exchanges_are_told(what):
    assert in_part(closed(GOOD), PARTS[what]).count == 3
    with pytest.raises(InvalidInput, match="released in part, and its exchanges are told all the same"):
        in_part(GOOD, PARTS[what])


def test_two_accounts_are_one_too_many():
    bundle = bundle_of(GOOD)
    receipt = parse_receipt(bundle.attestations[0].receipt)
    receipt["predicate"]["runDetails"]["byproducts"].append({"name": "egress", "annotations": GOOD})
    request, outcome = bundle.request.request(), Outcome.decode(bundle.outcome)
    twice = changed(bundle, attestations=(with_receipt(request, outcome, 0, canonical_json(receipt)),))

    assert verdict(twice) == [(False, "is there twice")]


def test_a_job_that_can_never_run_has_no_exchanges():
    order = Order(spec=b"{}", ttl=600)
    request = Request(chain_id=1, contract=CONTRACT, id=3, requester=REQUESTER, order=order, deadline=2_000_000)
    refused = Outcome(status=Status.REFUSED, reason=int(Reason.SPEC_MISSING_FIELD))

    assert check_egress(parse_receipt(attest(request, refused, 0, []).receipt), None, refused) is None
    with pytest.raises(InvalidInput, match="asked for no network"):
        check_egress(parse_receipt(attest(request, refused, 0, [], egress=GOOD).receipt), None, refused)


FORMS = [
    {},
    {"byproducts": [{}]},
    {"byproducts": [], "metadata": {"startedOn": "x"}},
    {"byproducts": [], "metadata": {"startedOn": "2027-01-15T08:00:00"}},
]


@pytest.mark.parametrize("details", FORMS)
def test_a_receipt_of_another_form_is_named(details):
    job = job_of(Order(spec=spec_with(NETWORK), ttl=600), spec_with(NETWORK))

    with pytest.raises(InvalidInput, match="egress: the receipt has another form"):
        check_egress({"predicate": {"runDetails": details}}, job, OUTPUT)
