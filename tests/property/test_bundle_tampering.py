"""Whatever is done to a bundle's bytes is found and named, or the bytes say nothing and the verdict is the same."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.verify import check_bundle
from executor.errors import InvalidInput
from executor.protocol.bundle import CHAIN_ONLY, Bundle, parse_bundle
from executor.protocol.canonical import canonical_json
from executor.protocol.reasons import Reason
from executor.protocol.receipt import parse_receipt
from executor.protocol.release import Held, Subject, sign_release
from executor.protocol.signing import Scope
from executor.protocol.wire import Dialect, Outcome, Status
from tests.bundles import KEYS, attest, changed, settled, with_attestation


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Three nodes, a converted spec."""
    return (
        settled(tmp_path_factory.mktemp("store"), nodes=3, dialect=Dialect.BACALHAU_V1BETA)
        .bundle.model_dump_json()
        .encode()
    )


def verdict(data):
    """What is wrong with these bytes, as text that names it; nothing where all holds."""
    try:
        return [f"{check.name}: {check.detail}" for check in check_bundle(parse_bundle(data)) if not check.ok]
    except InvalidInput as exc:
        return [str(exc)]


def says_the_same(data, raw):
    """Whether two texts are one JSON value: they differ in white space, or in how a string is escaped."""
    try:
        return json.loads(data) == json.loads(raw)
    except ValueError:
        return False


def edits(raw):
    place = st.integers(0, len(raw) - 1)
    flip = st.builds(lambda at, bit: raw[:at] + bytes([raw[at] ^ 1 << bit]) + raw[at + 1 :], place, st.integers(0, 7))
    delete = st.builds(lambda at, count: raw[:at] + raw[at + count :], place, st.integers(1, 80))
    insert = st.builds(lambda at, new: raw[:at] + new + raw[at:], place, st.binary(min_size=1, max_size=4))
    double = st.builds(lambda at, count: raw[: at + count] + raw[at:], place, st.integers(1, 80))
    return st.one_of(flip, delete, insert, double)


def test_an_untouched_bundle_has_nothing_wrong(raw):
    assert verdict(raw) == []


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_any_edit_of_any_byte_is_found_and_named_or_says_nothing(raw, data):
    edited = data.draw(edits(raw))

    found = verdict(edited)

    assert found or says_the_same(edited, raw)
    assert all(": " in line for line in found)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_change_within_a_value_names_the_field(raw, data):
    """Of hexadecimal digits, the most of a bundle: the digest names the very field."""
    places = [match.start(1) for match in re.finditer(rb"[0-9a-f]{8}([0-9a-f])[0-9a-f]{8}", raw)]
    at = data.draw(st.sampled_from(places))
    digit = data.draw(st.sampled_from([d for d in b"0123456789abcdef" if d != raw[at]]))
    edited = raw[:at] + bytes([digit]) + raw[at + 1 :]
    before, after = dict(leaves(json.loads(raw))), dict(leaves(json.loads(edited)))
    (field,) = [path for path in before if before[path] != after[path]]
    named = field.removeprefix("digests.").removesuffix(".0").removesuffix(".1") if "log_proof" in field else field

    assert any(named.removeprefix("digests.") in line for line in verdict(edited))


def leaves(value, path=""):
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        yield path, value
        return
    for name, item in items:
        yield from leaves(item, f"{path}.{name}" if path else str(name))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_white_space_and_the_order_of_keys_say_nothing(raw, data):
    value = json.loads(raw)
    keys = data.draw(st.permutations(list(value)))
    indent = data.draw(st.sampled_from([None, 0, 1, "\t"]))

    assert verdict(json.dumps({key: value[key] for key in keys}, indent=indent).encode()) == []


def other(value):
    """Another value of the same kind."""
    if isinstance(value, int):
        return value + 1
    if isinstance(value, list):
        return value[1:] if value else ["0x" + "11" * 32]
    if len(value) == 42:
        return "0x5FbDB2315678afecb367f032d93F642f64180aa3" if value[:4] != "0x5F" else "0x" + "00" * 19 + "01"
    return value[:-1] + ("1" if value[-1] != "1" else "2")


def test_who_makes_the_digests_anew_is_found_by_the_signatures_but_for_what_only_the_chain_says(raw):
    """The strongest attacker: each field is changed in turn, and the digests fit again."""
    bundle = parse_bundle(raw)
    unfound = set()
    for path in bundle.digests:
        value = json.loads(raw)
        at, names = value, path.split(".")
        for name in names[:-1]:
            at = at[int(name)] if isinstance(at, list) else at[name]
        at[names[-1]] = other(at[names[-1]])
        try:
            sealed = Bundle.model_validate(value).sealed()
        except ValueError:
            continue  # no value of this field at all: the first test's
        if not verdict(sealed.model_dump_json().encode()):
            unfound.add(re.sub(r"\.\d+\.", ".N.", path))

    assert unfound == set(CHAIN_ONLY)


#: a part of a receipt -> what is done to it
FORGED = {
    "the conversion report's hash": lambda p: p["buildDefinition"]["internalParameters"]["conversion"].update(
        reportSha256="00" * 32
    ),
    "an input's CID": lambda p: p["buildDefinition"]["resolvedDependencies"].pop(),
    "the times": lambda p: p["runDetails"]["metadata"].update(startedOn="2020-01-01T00:00:00.000Z"),
    "the policy's hash": lambda p: p["buildDefinition"]["internalParameters"]["policy"].update(sha256="00" * 32),
    "the runtime": lambda p: p["buildDefinition"]["internalParameters"]["runtime"].update(engine="none"),
    "a file of the manifest": lambda p: p["runDetails"]["byproducts"][1]["annotations"].update(entries=[{}]),
    "the node": lambda p: p["runDetails"]["builder"].update(id="urn:insula:node:0x" + "11" * 20),
    "the slot": lambda p: p["runDetails"]["metadata"].update(invocationId="0x/2/1"),
}  # fmt: skip


@pytest.mark.parametrize("part", FORGED)
def test_a_forged_receipt_is_named_by_signature_envelope_and_log(raw, part):
    bundle = parse_bundle(raw)
    receipt = parse_receipt(bundle.attestations[0].receipt)
    FORGED[part](receipt["predicate"])

    found = verdict(with_attestation(bundle, receipt=canonical_json(receipt)).model_dump_json().encode())

    names = {line.split(":")[0] for line in found}
    assert {"signature of node 1", "envelope of node 1", "log of node 1"} <= names


@pytest.fixture(scope="module")
def withheld(tmp_path_factory):
    """One node's output that a reviewer rejected."""
    job = settled(tmp_path_factory.mktemp("withheld"))
    request = job.bundle.request.request()
    outcome = Outcome(status=Status.WITHHELD, reason=int(Reason.RELEASE_REJECTED))
    held = Held(outcome_hash=b"\1" * 32, manifest_hash=b"\2" * 32, salt=b"\3" * 32).hash
    subject = Subject(
        scope=Scope(request.chain_id, request.contract), request_hash=request.hash, node=KEYS[0].address,
        policy_hash=b"\4" * 32, held=held,
    )  # fmt: skip
    reviewer = KEYS[2]
    signature = sign_release(subject, reviewer, approve=False, reason=int(Reason.RELEASE_REJECTED)).signature
    record = {
        "mode": "person", "signers": [reviewer.address], "threshold": 1, "ruling": "rejected",
        "held": f"0x{held.hex()}",
        "votes": [{
            "signer": reviewer.address, "approve": False, "reason": int(Reason.RELEASE_REJECTED),
            "signature": f"0x{signature.hex()}",
        }],
    }  # fmt: skip
    word = attest(
        request, outcome, 0, [("program", job.module), ("/inputs/log", job.data)], release=record,
        policy={"sha256": "04" * 32, "release": "person"},
    )  # fmt: skip
    return changed(job.bundle, outcome=outcome.encode(), attestations=(word,))


def test_an_untouched_release_record_holds(withheld):
    assert verdict(withheld.model_dump_json().encode()) == []


RELEASES = {
    "the vote": lambda r: r["votes"][0].update(approve=True),
    "the reason": lambda r: r["votes"][0].update(reason=301),
    "the signature": lambda r: r["votes"][0].update(signature="0x" + "11" * 64 + "1b"),
    "the signer": lambda r: r["votes"][0].update(signer=KEYS[1].address),
    "what was held": lambda r: r.update(held="0x" + "00" * 32),
    "the ruling": lambda r: r.update(ruling="timeout"),
    "a vote that is gone": lambda r: r.update(votes=[]),
    "another field": lambda r: r.update(note="x"),
}


@pytest.mark.parametrize("part", RELEASES)
def test_a_forged_release_record_is_named_though_the_node_signs_it(withheld, part):
    """The node itself lies, and signs: the reviewer's signature tells."""
    request, outcome = withheld.request.request(), Outcome.decode(withheld.outcome)
    receipt = parse_receipt(withheld.attestations[0].receipt)
    record = receipt["predicate"]["runDetails"]["byproducts"][2]["annotations"]
    RELEASES[part](record)
    inputs = [(item["name"], item["uri"]) for item in receipt["predicate"]["buildDefinition"]["resolvedDependencies"]]
    from executor.protocol.cid import Cid

    word = attest(
        request, outcome, 0, [(name, Cid.parse(uri.removeprefix("ipfs://"))) for name, uri in inputs], release=record,
        policy={"sha256": "04" * 32, "release": "person"},
    )  # fmt: skip

    found = verdict(changed(withheld, attestations=(word,)).model_dump_json().encode())

    assert [line.split(":")[0] for line in found] == ["release of node 1"]
