"""A job whose input is the output of an earlier job: its receipt says who attested that, and believes nobody."""

import pytest

from bridge.verify_inputs import check_producers
from executor.agent.provenance import MAX_BYTES
from executor.content.blockstore import BlockStore
from executor.content.importer import import_bytes
from executor.content.roots import RootSet
from executor.content.walk import blocks
from executor.protocol.bundle import BundleAttestation
from executor.protocol.cid import RAW, Cid
from executor.protocol.produced import Produced, ProducerWord, check_produced
from executor.protocol.receipt import parse_receipt
from executor.protocol.signing import Key, Scope, attestation_message
from executor.protocol.wire import MAX_PAYLOAD_BYTES, Outcome, Request, Status
from tests.agent_twin import CHAIN_ID, CONTRACT, RELAYER, REQUESTER, Fault, order
from tests.integration import test_agent_wasm_job as wasm
from tests.integration.test_agent_wasm_job import PROGRAM, spec_of

folder, node = wasm.folder, wasm.node  # fixtures

KEYS = [Key.from_hex(f"{n:064x}") for n in (21, 22)]
SCOPE = Scope(CHAIN_ID, CONTRACT)


def made(cid, keys=KEYS, *, scope=SCOPE, payload=b""):
    """An earlier request whose output is `cid`, attested by these keys."""
    request = Request(
        chain_id=scope.chain_id, contract=scope.contract, id=9, requester=REQUESTER, order=order(b"{}"), deadline=1
    )
    outcome = Outcome(status=Status.SUCCEEDED, output_cid=cid.binary, payload=payload)
    own = {"receipt_hash": bytes(32), "log_root": bytes(32), "log_size": 1, "relayer": RELAYER}
    message = attestation_message(scope, request_hash=request.hash, outcome_hash=outcome.hash, **own)
    return Produced(
        request_id=request.id, request_hash=request.hash, outcome_hash=outcome.hash, outcome=outcome.encode(),
        attestations=[ProducerWord(key=key.address, signature=key.sign(message), **own) for key in keys],
    )  # fmt: skip


def run(twin, *inputs, number=1):
    """A job with these inputs: what the node signed."""
    spec = spec_of(
        twin, PROGRAM.format(code=0), inputs=[{"cid": str(cid), "path": f"/inputs/{n}"} for n, cid in enumerate(inputs)]
    )
    lease = twin.offer(order(spec), request_id=number, token=number)
    twin.wait_for(lambda: len(twin.attested) >= number)
    return lease, twin.attested[-1]


def named(attested):
    """What its receipt says of each dependency's producer."""
    found = parse_receipt(attested.receipt)["predicate"]["buildDefinition"]["resolvedDependencies"]
    return {item["name"]: item["annotations"].get("producedBy") for item in found}


def test_an_input_that_this_node_made_itself_names_its_own_attestation(twin, node):
    first_lease, first = run(twin)
    root = Cid.from_binary(first.decoded().output_cid)
    twin.blocks.put_many(blocks(twin.received, root))

    lease, second = run(twin, root, number=2)

    produced = Produced.model_validate(named(second)["/inputs/0"])
    check_produced(produced, root, SCOPE)
    assert (produced.request_id, produced.request_hash) == (1, first_lease.request_hash)
    assert produced.attestations[0].signature == first.signature
    assert named(second)["program"] is None
    word = BundleAttestation(
        slot=1, node_id=1, operator=REQUESTER, key=produced.keys[0], receipt=second.receipt, log_root=second.log_root,
        log_size=second.log_size, relayer=second.relayer, signature=second.signature,
    )  # fmt: skip
    (check,) = check_producers(word, lease.request.request())
    assert (check.ok, f"produced by request 0x{first_lease.request_hash.hex()}" in check.detail) == (True, True)


def test_an_input_that_this_node_made_itself_and_serves_names_its_own_attestation(twin, folder, node):
    first_lease, first = run(twin)
    root = Cid.from_binary(first.decoded().output_cid)
    twin.blocks.put_many(blocks(twin.received, root))
    roots = RootSet(BlockStore(folder / "content"))
    roots.publish(root, f"result:0x{first_lease.request_hash.hex()}")
    roots.drop(root, f"job:0x{first_lease.request_hash.hex()}")

    _, second = run(twin, root, number=2)

    assert Produced.model_validate(named(second)["/inputs/0"]).request_hash == first_lease.request_hash


def test_an_input_that_the_bridge_knows_names_all_that_attested_it(twin, node):
    cid = import_bytes(twin.blocks, b"made elsewhere")
    twin.produced[str(cid)] = (made(cid),)

    _, attested = run(twin, cid)

    assert named(attested)["/inputs/0"] == made(cid).plain()


def lies(cid):
    good = made(cid)
    word = good.attestations[0]
    return {
        "another output": made(Cid.of(RAW, b"other")),
        "another key": good.model_copy(
            update={"attestations": (word.model_copy(update={"key": RELAYER}), good.attestations[1])}
        ),
        "another contract": made(cid, scope=Scope(CHAIN_ID, RELAYER)),
        "a key twice": good.model_copy(update={"attestations": (word, word)}),
    }


@pytest.mark.parametrize("lie", ["another output", "another key", "another contract", "a key twice"])
def test_abuse_a_bridge_that_makes_a_producer_up_is_not_believed(twin, node, lie):
    cid = import_bytes(twin.blocks, b"made elsewhere")
    twin.produced[str(cid)] = (lies(cid)[lie], made(cid, KEYS[:1]))

    _, attested = run(twin, cid)

    assert named(attested)["/inputs/0"] == made(cid, KEYS[:1]).plain()


FAULTS = {
    "an error": Fault(status=503, times=9),
    "an older bridge": Fault(status=404, times=9),
    "no JSON": Fault(body=b"<html>", times=9),
    "another answer": Fault(body=b'{"produced": 7}', times=9),
    "a cut answer": Fault(cut_after=3, times=9),
    "too much": Fault(body=b" " * 2**20, times=9),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bridge_that_does_not_say_is_asked_once_for_a_job_and_ends_none(twin, node, fault):
    twin.faults["/v1/outputs/"] = FAULTS[fault]
    inputs = [import_bytes(twin.blocks, content) for content in (b"one", b"two")]

    _, attested = run(twin, *inputs)

    assert set(named(attested).values()) == {None}
    assert len([path for _, path in twin.calls if path.startswith("/v1/outputs/")]) == 1


def test_a_bridge_that_is_silent_costs_a_job_seconds_only(twin, node):
    twin.faults["/v1/outputs/"] = Fault(stall_after=0, times=9)
    cid = import_bytes(twin.blocks, b"one")

    _, attested = run(twin, cid)

    assert named(attested)["/inputs/0"] is None


def test_abuse_producers_do_not_make_a_receipt_too_large(twin, node):
    inputs = [import_bytes(twin.blocks, b"%d" % number) for number in range(6)]
    for cid in inputs:
        twin.produced[str(cid)] = (made(cid, payload=bytes(MAX_PAYLOAD_BYTES)),)

    _, attested = run(twin, *inputs)

    told = [value for name, value in named(attested).items() if value is not None]
    assert 1 <= len(told) < len(inputs)
    assert len(attested.receipt) < MAX_BYTES + 16 * 1024
