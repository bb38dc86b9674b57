"""What no signature of a bundle covers, the chain says: each such field is compared with the contract's events."""

import pytest

from bridge.chain.contracts import compute_bridge, fulfil_calldata
from bridge.verify import check_bundle
from bridge.verify_chain import check_chain
from executor.protocol.bundle import CHAIN_ONLY, Bundle, BundleAttestation
from executor.protocol.canonical import canonical_json
from executor.protocol.cid import RAW, Cid
from executor.protocol.dsse import envelope_digest
from executor.protocol.leases import RequestMessage
from executor.protocol.produced import Produced, ProducerWord
from executor.protocol.reasons import Reason
from executor.protocol.receipt import Run, parse_receipt, receipt_bytes, receipt_hash
from executor.protocol.signing import Key, attestation_message
from executor.protocol.wire import Order, Outcome, Status
from tests.bundles import changed, logged, with_attestation
from tests.chain_nodes import funded

pytestmark = pytest.mark.chain

STRANGER = "0x" + "11" * 20


@pytest.fixture(scope="module")
def settled_on_chain(chain):
    """A refused request, settled by one node: its bundle, and the chain."""
    order = Order(spec=b"{}", ttl=3600, curator=funded(4).address)
    request = chain.request(funded(3), order)
    asked = chain.client.head()
    outcome = Outcome(status=Status.REFUSED, reason=int(Reason.SPEC_MISSING_FIELD))
    node = chain.nodes[0]
    run = Run(
        key=node.key.address, slot=1, attempt=1, started_at=1.0, finished_at=2.0, dependencies=[], runtime={},
        policy={}, manifest=[], detail="",
    )  # fmt: skip
    receipt = receipt_bytes(request, order.spec, outcome, run)
    root, size, proof = logged(receipt)
    fields = {"log_root": root, "log_size": size, "relayer": funded(1).address}
    signature = node.key.sign(
        attestation_message(
            chain.scope, request_hash=request.hash, outcome_hash=outcome.hash, receipt_hash=receipt_hash(receipt),
            **fields,
        )
    )  # fmt: skip
    word = BundleAttestation(
        slot=1, node_id=node.node_id, operator=node.operator.address, key=node.key.address, receipt=receipt,
        signature=signature, dsse_signature=node.key.sign_digest(envelope_digest(receipt)), log_proof=tuple(proof),
        **fields,
    )  # fmt: skip
    data = fulfil_calldata(request.id, order, outcome, [word.attestation(receipt_hash(receipt))])
    sent = chain.send(funded(1), chain.deployment.bridge, data)
    mined = chain.mined(sent)
    topic = compute_bridge().event_topic("JobRequested")
    (log,) = [
        log
        for log in chain.client.logs_by_range(asked.number - 1, asked.number, chain.deployment.bridge)
        if log.topics[0] == topic
    ]
    bundle = Bundle(
        request_hash=request.hash, request=RequestMessage.of(request), request_tx=log.tx_hash,
        request_block_number=log.block_number, spec=order.spec, outcome=outcome.encode(), settled_tx=sent.hash,
        settled_block_number=mined.block_number, attestations=(word,),
    )  # fmt: skip
    return bundle.sealed(), chain


def failures(checks):
    return [check.name for check in checks if check.failed]


def test_a_bundle_of_this_chain_holds(settled_on_chain):
    bundle, chain = settled_on_chain

    assert failures(check_bundle(bundle)) == []
    assert failures(check_chain(bundle, chain.client, chain.deployment.bridge)) == []


#: a field that is only the chain's -> what is changed, and which check of the chain finds it
CHANGES = {
    "request.deadline": (
        lambda b: changed(b, request=b.request.model_copy(update={"deadline": b.request.deadline + 1})), "request event"
    ),
    "request_tx": (lambda b: changed(b, request_tx=bytes(32)), "request event"),
    "request_block_number": (lambda b: changed(b, request_block_number=1), "request event"),
    "settled_tx": (lambda b: changed(b, settled_tx=bytes(32)), "result event"),
    "settled_block_number": (lambda b: changed(b, settled_block_number=1), "result event"),
    "attestations.N.node_id": (lambda b: with_attestation(b, node_id=2), "result event"),
    "attestations.N.operator": (lambda b: with_attestation(b, operator=STRANGER), "registration of node 1"),
}  # fmt: skip


def test_the_table_has_every_such_field():
    assert CHANGES.keys() == set(CHAIN_ONLY)


@pytest.mark.parametrize("path", CHANGES)
def test_what_only_the_chain_says_is_found_there(settled_on_chain, path):
    bundle, chain = settled_on_chain
    change, expected = CHANGES[path]
    altered = change(bundle)

    assert failures(check_bundle(altered)) == []
    assert expected in failures(check_chain(altered, chain.client, chain.deployment.bridge))


def test_a_log_root_that_was_not_anchored_is_found(settled_on_chain):
    bundle, chain = settled_on_chain

    assert "result event" in failures(
        check_chain(with_attestation(bundle, log_size=6), chain.client, chain.deployment.bridge)
    )


@pytest.fixture(scope="module")
def producer_on_chain(chain):
    """A result with an output, settled by one node: what a receipt says of it, and its output."""
    order = Order(spec=b"{}", ttl=3600, curator=funded(4).address)
    request = chain.request(funded(3), order)
    cid = Cid.of(RAW, b"produced")
    outcome = Outcome(status=Status.SUCCEEDED, output_cid=cid.binary)
    given = [chain.attest(node, request, outcome, funded(1).address) for node in chain.nodes[:1]]
    chain.mined(chain.send(funded(1), chain.deployment.bridge, fulfil_calldata(request.id, order, outcome, given)))
    word = ProducerWord(
        key=chain.nodes[0].key.address,
        **{name: getattr(given[0], name) for name in ("receipt_hash", "log_root", "log_size", "relayer", "signature")},
    )
    produced = Produced(
        request_id=request.id, request_hash=request.hash, outcome_hash=outcome.hash, outcome=outcome.encode(),
        attestations=(word,),
    )  # fmt: skip
    return produced, cid


def naming(bundle, produced, cid):
    """The bundle whose receipt says that an input was produced so."""
    receipt = parse_receipt(bundle.attestations[0].receipt)
    said = {"name": "/inputs/log", "uri": f"ipfs://{cid}", "annotations": {"producedBy": produced.plain()}}
    receipt["predicate"]["buildDefinition"]["resolvedDependencies"] = [said]
    return with_attestation(bundle, receipt=canonical_json(receipt))


def producers(bundle, chain):
    checks = check_chain(bundle, chain.client, chain.deployment.bridge)
    return [(check.ok, check.detail) for check in checks if check.name == "producer of /inputs/log"]


def test_who_produced_an_input_is_asked_of_the_chain(settled_on_chain, producer_on_chain):
    bundle, chain = settled_on_chain
    produced, cid = producer_on_chain

    found = producers(naming(bundle, produced, cid), chain)

    node = chain.nodes[0].node_id
    text = f"request {produced.request_id} has this output; its keys are of these nodes: {node}"
    assert found == [(True, text)]


def test_a_producer_that_the_chain_does_not_know_is_found(settled_on_chain, producer_on_chain):
    bundle, chain = settled_on_chain
    produced, cid = producer_on_chain
    other = produced.model_copy(update={"request_id": 10**6})

    ((ok, detail),) = producers(naming(bundle, other, cid), chain)

    assert (ok, "has another outcome on the chain, or none" in detail) == (False, True)


def test_a_producer_whose_key_is_no_node_s_is_found(settled_on_chain, producer_on_chain):
    bundle, chain = settled_on_chain
    produced, cid = producer_on_chain
    stranger = Key.from_hex(f"{77:064x}")
    word = produced.attestations[0]
    message = attestation_message(
        chain.scope, request_hash=produced.request_hash, outcome_hash=produced.outcome_hash,
        receipt_hash=word.receipt_hash, log_root=word.log_root, log_size=word.log_size, relayer=word.relayer,
    )  # fmt: skip
    forged = word.model_copy(update={"key": stranger.address, "signature": stranger.sign(message)})

    ((ok, detail),) = producers(naming(bundle, produced.model_copy(update={"attestations": (forged,)}), cid), chain)

    assert (ok, detail) == (False, f"the registry knows no node of {stranger.address}")
