"""Who attested an input: a receipt's word on it is proved by signatures over an outcome that has it as its output."""

import pytest
from pydantic import ValidationError

from bridge.verify import check_bundle
from bridge.verify_inputs import producers_named
from executor.errors import InvalidInput
from executor.protocol.canonical import canonical_json
from executor.protocol.cid import RAW, Cid
from executor.protocol.produced import Produced, Producers, ProducerWord, check_produced, producers_in
from executor.protocol.receipt import parse_receipt, receipt_hash
from executor.protocol.signing import Scope
from executor.protocol.wire import Outcome, Request, Status
from tests.bundles import CONTRACT, KEYS, RELAYER, REQUESTER, attest, changed, settled, with_receipt

SCOPE = Scope(31415926, CONTRACT)


def made_by(job, nodes=2, *, cid=None, outcome=None, scope=None):
    """The producer of `cid` (the job's input): an earlier request, attested by some nodes."""
    order = job.bundle.request.request().order
    scope = scope or SCOPE
    request = Request(
        chain_id=scope.chain_id, contract=scope.contract, id=2, requester=REQUESTER, order=order, deadline=1_900_000
    )
    outcome = outcome or Outcome(status=Status.SUCCEEDED, output_cid=(cid or job.data).binary, payload=b"")
    words = [attest(request, outcome, n, [("module", job.module)]) for n in range(nodes)]
    return Produced(
        request_id=request.id,
        request_hash=request.hash,
        outcome_hash=outcome.hash,
        outcome=outcome.encode(),
        attestations=[
            ProducerWord(
                key=word.key, receipt_hash=receipt_hash(word.receipt), log_root=word.log_root, log_size=word.log_size,
                relayer=word.relayer, signature=word.signature,
            )
            for word in words
        ],
    )  # fmt: skip


def said(job, value, name="log"):
    """The bundle whose node says, and signs, that its input was produced so."""
    request, outcome = job.bundle.request.request(), Outcome.decode(job.bundle.outcome)
    receipt = parse_receipt(job.bundle.attestations[0].receipt)
    for item in receipt["predicate"]["buildDefinition"]["resolvedDependencies"]:
        if item["name"] == name:
            item["annotations"]["producedBy"] = value
    return changed(job.bundle, attestations=(with_receipt(request, outcome, 0, canonical_json(receipt)),))


def verdict(bundle):
    return {check.name: check for check in check_bundle(bundle) if "producer" in check.name}


@pytest.fixture
def job(tmp_path):
    return settled(tmp_path / "store")


def test_an_input_s_producer_is_proved_by_its_signatures(job):
    produced = made_by(job)
    bundle = said(job, produced.plain())

    (check,) = verdict(bundle).values()

    assert (check.name, check.ok, check.basis) == ("producer of log, by node 1", True, "offline")
    keys = f"{KEYS[0].address}, {KEYS[1].address}"
    assert check.detail == f"{job.data} was produced by request 0x{produced.request_hash.hex()}, attested by {keys}"
    assert [check.name for check in check_bundle(bundle) if check.failed] == []
    assert producers_named(bundle) == {"log": produced}


def test_a_receipt_that_names_no_producer_is_as_good_as_before(job):
    assert verdict(job.bundle) == {}
    assert producers_named(job.bundle) == {}
    assert [check.name for check in check_bundle(job.bundle) if check.failed] == []


def word(value, **fields):
    first, *rest = value["attestations"]
    return {**value, "attestations": [{**first, **fields}, *rest]}


def flipped(text):
    return f"{text[:-1]}{int(text[-1], 16) ^ 1:x}"


#: what the node says and signs -> the reason for which it is not believed
TAMPERED = {
    "another key": (lambda value: word(value, key=KEYS[2].address), "signature is not"),
    "another receipt": (lambda value: word(value, receiptHash="0x" + "11" * 32), "signature is not"),
    "another log": (lambda value: word(value, logRoot="0x" + "11" * 32), "signature is not"),
    "another log size": (lambda value: word(value, logSize=9), "signature is not"),
    "another relayer": (lambda value: word(value, relayer=REQUESTER), "signature is not"),
    "another request": (lambda value: {**value, "requestHash": flipped(value["requestHash"])}, "signature is not"),
    "no signature": (lambda value: word(value, signature="0x" + "00" * 65), "must be 65 bytes that end in 27 or 28"),
    "another outcome hash": (lambda value: {**value, "outcomeHash": "0x" + "11" * 32}, "is not that of its outcome"),
    "an outcome that is none": (lambda value: {**value, "outcome": "0x11"}, "does not decode"),
    "one byte more": (lambda value: {**value, "outcome": value["outcome"] + "00" * 32}, "outcome"),
    "a key twice": (lambda value: {**value, "attestations": [value["attestations"][0]] * 2}, "a key is there twice"),
    "no attestation": (lambda value: {**value, "attestations": []}, "attestations"),
    "a word more": (lambda value: {**value, "curator": RELAYER}, "curator"),
    "nothing of it": (lambda value: {}, "requestId"),
    "a word": (lambda value: "somebody", "valid dictionary"),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_a_producer_that_was_tampered_with_and_signed_again_is_named(job, what):
    change, problem = TAMPERED[what]
    bundle = said(job, change(made_by(job).plain()))

    (check,) = verdict(bundle).values()

    assert (check.failed, problem in check.detail) == (True, True), check.detail
    assert producers_named(bundle) == {}


@pytest.mark.parametrize(
    "entry", [{"uri": "ipfs://none", "annotations": {"producedBy": {}}}, {"uri": "ipfs://none", "annotations": None}]
)
def test_abuse_an_entry_that_nobody_can_read_hides_no_lie_about_another(job, entry):
    receipt = parse_receipt(said(job, {"requestId": "1"}).attestations[0].receipt)
    receipt["predicate"]["buildDefinition"]["resolvedDependencies"].append({"name": "more", **entry})
    request, outcome = job.bundle.request.request(), Outcome.decode(job.bundle.outcome)

    bundle = changed(job.bundle, attestations=(with_receipt(request, outcome, 0, canonical_json(receipt)),))

    assert [check.ok for check in verdict(bundle).values()] == [False]


def test_an_outcome_with_another_output_says_nothing_of_this_input(job):
    other = made_by(job, cid=Cid.of(RAW, b"other"))

    (check,) = verdict(said(job, other.plain())).values()

    assert (check.failed, check.detail) == (True, "its outcome has another output than this input")


def test_an_outcome_without_an_output_says_nothing_of_any_input(job):
    withheld = made_by(job, outcome=Outcome(status=Status.WITHHELD, reason=300))

    with pytest.raises(InvalidInput, match="another output"):
        check_produced(withheld, job.data, SCOPE)


@pytest.mark.parametrize("scope", [Scope(1, CONTRACT), Scope(31415926, RELAYER)], ids=["chain", "contract"])
def test_a_result_of_another_contract_is_none_of_this_one(job, scope):
    with pytest.raises(InvalidInput, match="signature is not"):
        check_produced(made_by(job, scope=scope), job.data, SCOPE)


def test_each_node_that_names_another_producer_is_asked_about(tmp_path):
    job = settled(tmp_path / "store", nodes=2)
    request, outcome = job.bundle.request.request(), Outcome.decode(job.bundle.outcome)
    words = []
    for node, producer in enumerate((made_by(job, 1), made_by(job, 2))):
        receipt = parse_receipt(job.bundle.attestations[node].receipt)
        receipt["predicate"]["buildDefinition"]["resolvedDependencies"][1]["annotations"]["producedBy"] = (
            producer.plain()
        )
        words.append(with_receipt(request, outcome, node, canonical_json(receipt)))

    found = producers_named(changed(job.bundle, attestations=tuple(words)))

    assert found == {"log": made_by(job, 1), "log, by node 2": made_by(job, 2)}


def test_a_receipt_of_another_form_names_no_producers(job):
    with pytest.raises(InvalidInput, match="resolvedDependencies"):
        list(producers_in({"predicate": {"buildDefinition": {"resolvedDependencies": [1]}}}))
    broken = changed(job.bundle, attestations=(job.bundle.attestations[0].model_copy(update={"receipt": b"{"}),))
    assert verdict(broken) == producers_named(broken) == {}


def test_a_bridge_names_at_most_four_requests(job):
    producer = made_by(job)

    assert Producers(produced=(producer,) * 4).produced[3].keys == producer.keys
    with pytest.raises(ValidationError):
        Producers(produced=(producer,) * 5)
