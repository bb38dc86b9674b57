"""A settled request made from scratch: real keys, real receipts, real blocks. Shared by tests."""

from dataclasses import dataclass, replace

from executor.content import unixfs
from executor.content.blockstore import BlockStore
from executor.protocol.bundle import Bundle, BundleAttestation
from executor.protocol.cid import Cid
from executor.protocol.conversions import conversion_report
from executor.protocol.dsse import envelope_digest
from executor.protocol.leases import RequestMessage
from executor.protocol.merkle import inclusion_proof, leaf_hash, root_of
from executor.protocol.receipt import Dependency, Run, receipt_bytes, receipt_hash
from executor.protocol.signing import Key, Scope, attestation_message
from executor.protocol.wire import Dialect, Order, Outcome, Request, ResultKind, Status

CONTRACT = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
RELAYER = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
REQUESTER = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"
OPERATORS = [f"0x{n:040x}" for n in (0x11, 0x22, 0x33)]
KEYS = [Key.from_hex(f"{n:064x}") for n in (7, 8, 9)]
LIMITS = unixfs.TreeLimits(max_bytes=2**30)


@dataclass
class Settled:
    """A bundle, with the store that has its content."""

    bundle: Bundle
    store: BlockStore
    module: Cid
    data: Cid
    output: Cid

    def fetch(self, cid, into):
        """As a gateway would bring it, without a network."""
        into.put_many(unixfs.blocks(self.store, cid))


def settled(folder, *, nodes=1, result_kind=ResultKind.STDOUT, stdout=b"42 lines\n", dialect=Dialect.INSULA_V1):
    """A request that `nodes` nodes fulfilled."""
    store = BlockStore(folder)
    module = unixfs.import_bytes(store, b"\0asm\1\0\0\0")
    data = unixfs.import_bytes(store, bytes(range(256)) * 8192)
    output = unixfs.import_listing(
        store, {"outputs/report.json": b'{"lines":42}', "stdout": stdout, "stderr": b""}, LIMITS
    )
    spec = (
        f'{{"version":"insula/v1","engine":{{"type":"wasm","module":"{module}"}},'
        f'"inputs":[{{"cid":"{data}","path":"/inputs/log"}}]}}'
    ).encode()
    if dialect == Dialect.BACALHAU_V1BETA:
        spec = (
            f'{{"engine":"wasm","wasm":{{"entrymodule":{{"storagesource":"ipfs","cid":"{module}"}}}},'
            f'"inputs":[{{"storagesource":"ipfs","cid":"{data}","path":"/inputs/log"}}]}}'
        ).encode()
    order = Order(
        dialect=int(dialect),
        spec=spec,
        ttl=600,
        nodes=nodes,
        quorum=nodes // 2 + 1,
        result_kind=int(result_kind),
    )
    request = Request(chain_id=31415926, contract=CONTRACT, id=3, requester=REQUESTER, order=order, deadline=2_000_000)
    payload = stdout if result_kind == ResultKind.STDOUT else b""
    outcome = Outcome(status=Status.SUCCEEDED, output_cid=output.binary, payload=payload)
    rows = unixfs.manifest(store, output, LIMITS).rows()
    bundle = Bundle(
        request_hash=request.hash,
        request=RequestMessage.of(request),
        request_tx=b"\1" * 32,
        request_block_number=10,
        spec=spec,
        outcome=outcome.encode(),
        settled_tx=b"\2" * 32,
        settled_block_number=20,
        attestations=tuple(
            attest(request, outcome, n, [("module", module), ("log", data)], manifest=rows) for n in range(nodes)
        ),
    ).sealed()
    return Settled(bundle, store, module, data, output)


def attest(request, outcome, n, dependencies, **run_changes):
    """Node n's word."""
    run = Run(
        key=KEYS[n].address,
        slot=n + 1,
        attempt=1,
        started_at=1_700_000_000.0,
        finished_at=1_700_000_001.5,
        dependencies=[Dependency(name=name, cid=cid, size=1, blocks=1, source="bridge") for name, cid in dependencies],
        runtime={"engine": "wasmtime"},
        policy={},
        manifest=[],
        detail="",
        conversion=conversion_report(request.order, request.order.spec),
    )
    run = replace(run, **run_changes)
    return with_receipt(request, outcome, n, receipt_bytes(request, request.order.spec, outcome, run))


def with_receipt(request, outcome, n, receipt):
    """Node n's word on this receipt, whatever that says."""
    log_root, log_size, log_proof = logged(receipt)
    message = attestation_message(
        Scope(request.chain_id, request.contract),
        request_hash=request.hash,
        outcome_hash=outcome.hash,
        receipt_hash=receipt_hash(receipt),
        log_root=log_root,
        log_size=log_size,
        relayer=RELAYER,
    )
    return BundleAttestation(
        slot=n + 1,
        node_id=n + 1,
        operator=OPERATORS[n],
        key=KEYS[n].address,
        receipt=receipt,
        log_root=log_root,
        log_size=log_size,
        relayer=RELAYER,
        signature=KEYS[n].sign(message),
        dsse_signature=KEYS[n].sign_digest(envelope_digest(receipt)),
        log_proof=tuple(log_proof),
    )


def logged(receipt):
    """A log of five entries that ends with this receipt: root, size, proof."""
    leaves = [leaf_hash(entry) for entry in (b"one", b"two", b"three", b"four", receipt_hash(receipt))]
    return root_of(leaves), len(leaves), inclusion_proof(leaves, 4)


def changed(bundle, **fields):
    """The bundle with some fields replaced, and the digests that whoever replaces them would make."""
    return bundle.model_copy(update=fields).sealed()


def with_attestation(bundle, **fields):
    """The bundle with its first attestation changed."""
    first, *rest = bundle.attestations
    return changed(bundle, attestations=(first.model_copy(update=fields), *rest))


def with_order(bundle, **fields):
    """The bundle with an order that differs from what was signed for."""
    request = bundle.request.request()
    order = replace(request.order, **fields)
    return changed(bundle, request=RequestMessage.of(replace(request, order=order)))
