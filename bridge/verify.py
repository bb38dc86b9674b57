"""`insula job verify`: every hash and signature from the chain's event to the output's bytes.

Two kinds of checks, listed apart. Offline ones hold by mathematics alone, given the anchors that the verifier names;
chain ones are an endpoint's word (a FEVM block hash cannot be recomputed from a header).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from bridge.agreement import check_outcome
from bridge.verify_check import Check
from bridge.verify_inputs import check_producers
from executor.content import unixfs
from executor.content.blocks import Block, BlockSource, BlockStoreLike
from executor.errors import (
    BlockMismatch,
    BlockMissing,
    ContentError,
    ContentTooLarge,
    DiskFull,
    InsulaError,
    InvalidInput,
    PeerError,
)
from executor.protocol.bundle import Bundle, BundleAttestation
from executor.protocol.canonical import canonical_json
from executor.protocol.cid import Cid
from executor.protocol.conversions import conversion_problem
from executor.protocol.dsse import envelope_digest
from executor.protocol.egressrecord import check_egress
from executor.protocol.logproof import is_logged
from executor.protocol.receipt import dependency_cids, manifest_of, parse_receipt, receipt_hash, statement_problem
from executor.protocol.releaserecord import RedactedForm, ReleaseRecord, check_release
from executor.protocol.signing import Scope, attestation_message, recover, recover_digest
from executor.protocol.spec import InvalidSpec, job_of, spec_cid
from executor.protocol.wire import Outcome, Request, ResultKind, Status

FetchDag = Callable[[Cid, BlockStoreLike], None]  # brings what a store lacks of a DAG, verified; InsulaError

MAX_STREAM_BYTES = 16 * 2**20  # of stdout or stderr
MANIFEST_LIMITS = unixfs.TreeLimits(max_bytes=2**62, max_files=1_000_000)


class Layered:
    """Blocks of several stores that are only read, and of `scratch`, which takes what is brought from elsewhere.

    A damaged block of a store that is only read does not count as being here, but is named where nobody brings a good
    one.
    """

    def __init__(self, stores: Sequence[BlockSource], scratch: BlockStoreLike) -> None:
        self._stores = (*stores, scratch)
        self._scratch = scratch

    def get(self, cid: Cid) -> bytes:
        """The verified bytes of a block; BlockMissing, BlockMismatch."""
        problem: ContentError = BlockMissing(cid)
        for store in self._stores:
            try:
                return store.get(cid)
            except BlockMissing:
                continue
            except BlockMismatch as exc:
                problem = exc
        raise problem

    def has(self, cid: Cid) -> bool:
        """Whether the block is here, unharmed."""
        try:
            self.get(cid)
        except (BlockMissing, BlockMismatch):
            return False
        return True

    def put_many(self, blocks: Iterable[Block]) -> int:
        """Verify and keep blocks in `scratch`; the number of blocks taken."""
        return self._scratch.put_many(blocks)


def check_bundle(bundle: Bundle) -> list[Check]:
    """Everything that follows from the bundle's own bytes: request, spec, outcome, signatures, receipts."""
    try:
        request = bundle.request.request()
        outcome = Outcome.decode(bundle.outcome)
    except InvalidInput as exc:
        return [_check_digests(bundle), Check("bundle", ok=False, detail=str(exc))]
    return [
        _check_digests(bundle),
        _check_request(bundle, request),
        _check_outcome(bundle, request, outcome),
        _check_spec(bundle, request, outcome),
        *_check_attestations(bundle, request, outcome),
    ]


def check_signatures(bundle: Bundle) -> list[Check]:
    """Of each attestation, in order: whether its key signed it. One that fails of each where nothing decodes."""
    try:
        request, outcome = bundle.request.request(), Outcome.decode(bundle.outcome)
    except InvalidInput as exc:
        return [Check(f"signature of node {item.node_id}", ok=False, detail=str(exc)) for item in bundle.attestations]
    return [_check_signature(item, request, outcome) for item in bundle.attestations]


def check_content(bundle: Bundle, fetch: FetchDag, store: BlockStoreLike) -> Iterator[Check]:
    """Have every input and the output by CID, re-hash every block, and compare what the outcome says of them.

    fetch: brings what `store` lacks. What nobody can bring is a check that was not made, not one that fails.
    """
    request, outcome = bundle.request.request(), Outcome.decode(bundle.outcome)
    yield from check_inputs(bundle, fetch, store)
    if not outcome.output_cid:
        yield Check("output", ok=True, detail="the outcome names no output")
        return
    try:
        root = Cid.from_binary(outcome.output_cid)
    except InvalidInput as exc:
        yield Check("output", ok=False, detail=f"the outcome's output CID is not valid: {exc.problem}")
        return
    found = _check_dag("output", root, fetch, store)
    yield found
    if found.ok:
        yield _check_payload(request, outcome, root, store)
        yield from _check_manifests(bundle, root, store)


def check_inputs(bundle: Bundle, fetch: FetchDag, store: BlockStoreLike) -> Iterator[Check]:
    """Likewise of program and inputs alone."""
    for name, cid in _inputs(bundle, bundle.request.request()):
        yield _check_dag(f"input {name}", cid, fetch, store)


def _check_digests(bundle: Bundle) -> Check:
    """Finds what was changed by accident, or by somebody who changed no more than that."""
    if not bundle.digests:
        return Check("digests", ok=True, detail=f"there are none in the format {bundle.format}")
    if altered := bundle.altered():
        return Check("digests", ok=False, detail=f"these fields were changed: {', '.join(altered)}")
    return Check("digests", ok=True, detail=f"all {len(bundle.digests)} fields are as they were exported")


def _check_request(bundle: Bundle, request: Request) -> Check:
    if request.order.encode() != bundle.request.order:
        return Check("request hash", ok=False, detail="the order is not in its one ABI encoding")
    if request.hash != bundle.request_hash:
        return Check(
            "request hash", ok=False, detail=f"the request hashes to 0x{request.hash.hex()}, not to the bundle's hash"
        )
    return Check("request hash", ok=True, detail=f"0x{request.hash.hex()} is the hash of request {request.id}")


def check_anchors(
    bundle: Bundle, *, asked: str, contract: str, keys: Sequence[str], chain_id: int | None = None
) -> Iterator[Check]:
    """Whether the bundle is what the verifier asked for: request (id or 0x hash), chain, contract and node keys.

    Empty or None: not named, and then not checked.
    """
    if asked:
        is_it = asked.lower() in (str(bundle.request.id), f"0x{bundle.request_hash.hex()}")
        yield Check("asked for", ok=is_it, detail=f"request {bundle.request.id}; you asked for {asked}")
    if chain_id is not None:
        said = bundle.request.chain_id
        yield Check("chain", ok=said == chain_id, detail=f"is for chain {said}; you named {chain_id}")
    if contract:
        same = bundle.request.contract == contract
        yield Check(
            "contract",
            ok=same,
            detail=f"is for {bundle.request.contract} on chain {bundle.request.chain_id}; you named {contract}",
        )
    if keys:
        strangers = [item.key for item in bundle.attestations if item.key not in keys]
        yield Check(
            "node keys", ok=not strangers, detail=f"keys that you did not name: {', '.join(strangers) or 'none'}"
        )


def _check_outcome(bundle: Bundle, request: Request, outcome: Outcome) -> Check:
    if outcome.encode() != bundle.outcome:
        return Check("outcome", ok=False, detail="is not in its one ABI encoding")
    try:
        check_outcome(request.order, outcome)
    except InvalidInput as exc:
        return Check("outcome", ok=False, detail=str(exc))
    return Check("outcome", ok=True, detail=f"{Status(outcome.status).name}, reason {outcome.reason}")


def _check_spec(bundle: Bundle, request: Request, outcome: Outcome) -> Check:
    try:
        cid = spec_cid(request.order)
    except InvalidSpec as exc:
        return _refusal(outcome, exc)
    if cid is not None and not cid.matches(bundle.spec):
        return Check("spec", ok=False, detail=f"the spec's bytes do not hash to the order's CID {cid}")
    if cid is None and bundle.spec != request.order.spec:
        return Check("spec", ok=False, detail="the spec's bytes are not those of the order")
    try:
        job = job_of(request.order, bundle.spec)
    except InvalidSpec as exc:
        return _refusal(outcome, exc)
    if outcome.status == Status.REFUSED:
        return Check("spec", ok=False, detail="the outcome refuses a spec that is valid")
    return Check("spec", ok=True, detail=f"valid; asks for {job.engine.tier} and {len(job.inputs)} inputs")


def _refusal(outcome: Outcome, exc: InvalidSpec) -> Check:
    agrees = outcome.status == Status.REFUSED and outcome.reason == exc.reason
    return Check(
        "spec", ok=agrees, detail=f"can never run, reason {exc.reason.name} ({exc}); the outcome agrees: {agrees}"
    )


def _check_attestations(bundle: Bundle, request: Request, outcome: Outcome) -> Iterator[Check]:
    yield _check_quorum(bundle, request)
    for item in bundle.attestations:
        yield _check_signature(item, request, outcome)
        yield _check_envelope(item)
        yield _check_log(item)
        yield _check_receipt(item, bundle, request, outcome)
        yield from _check_release(item, request, outcome)
        yield from check_producers(item, request)
        yield from _check_egress(item, bundle, request, outcome)


def _check_quorum(bundle: Bundle, request: Request) -> Check:
    """Each key and each slot once: a word that is there twice is one word. Whose the keys are, only the chain says."""
    given, order = bundle.attestations, request.order
    if not order.quorum <= order.nodes < 2 * order.quorum:  # as the contract takes it, so never less than 1
        return Check("quorum", ok=False, detail=f"no contract takes an order of {order.quorum} of {order.nodes} nodes")
    problem = ""
    if strange := [item.slot for item in given if item.slot > order.nodes]:
        problem = f"; the order has no slot {strange[0]}"
    for what in ("key", "slot", "node_id", "operator"):
        if len({getattr(item, what) for item in given}) < len(given):
            problem = f"; a {what} is there twice"
            break
    return Check(
        "quorum",
        ok=not problem and len(given) >= order.quorum,
        detail=f"{len(given)} attestations, {order.quorum} are needed{problem or '; each of another key and slot'}",
    )


def _check_signature(item: BundleAttestation, request: Request, outcome: Outcome) -> Check:
    name = f"signature of node {item.node_id}"
    message = attestation_message(
        Scope(request.chain_id, request.contract),
        request_hash=request.hash,
        outcome_hash=outcome.hash,
        receipt_hash=receipt_hash(item.receipt),
        log_root=item.log_root,
        log_size=item.log_size,
        relayer=item.relayer,
    )
    try:
        signer = recover(message, item.signature)
    except InvalidInput as exc:
        return Check(name, ok=False, detail=str(exc))
    if signer != item.key:
        return Check(
            name,
            ok=False,
            detail=f"is not {item.key}'s over this outcome and receipt: one of signature, outcome, receipt, log root "
            "or relayer was changed",
        )
    return Check(name, ok=True, detail=f"{item.key} signed this outcome and this receipt")


def _check_envelope(item: BundleAttestation) -> Check:
    name = f"envelope of node {item.node_id}"
    if item.dsse_signature is None:
        return Check(name, ok=True, detail="none was made; the attestation's signature is over the same receipt")
    try:
        signer = recover_digest(envelope_digest(item.receipt), item.dsse_signature)
    except InvalidInput as exc:
        return Check(name, ok=False, detail=str(exc))
    if signer != item.key:
        return Check(name, ok=False, detail=f"is not {item.key}'s: the receipt or dsse_signature was changed")
    return Check(name, ok=True, detail=f"{item.key} signed the receipt's DSSE envelope")


def _check_log(item: BundleAttestation) -> Check:
    name = f"log of node {item.node_id}"
    if item.log_proof is None:
        return Check(name, ok=False, checked=False, detail="the bundle has no log_proof: the node gave none")
    if not is_logged(receipt_hash(item.receipt), item.log_root, item.log_size, item.log_proof):
        return Check(name, ok=False, detail="log_proof does not lead from the receipt to the log root")
    return Check(name, ok=True, detail=f"the receipt is entry {item.log_size} of the log that the signature anchors")


def _check_receipt(item: BundleAttestation, bundle: Bundle, request: Request, outcome: Outcome) -> Check:
    name = f"receipt of node {item.node_id}"
    try:
        receipt = parse_receipt(item.receipt)
        definition = receipt["predicate"]["buildDefinition"]
        of = definition["externalParameters"]["requestHash"]
        conversion = definition["internalParameters"].get("conversion")
        names = dependency_cids(receipt)
        details = receipt["predicate"]["runDetails"]
        said = details["byproducts"][0]["annotations"]["outcomeHash"]
        by, invocation = str(details["builder"]["id"]), str(details["metadata"]["invocationId"])
        other = statement_problem(receipt, request, bundle.spec, outcome)
    except (InvalidInput, KeyError, IndexError, TypeError, AttributeError) as exc:
        return Check(name, ok=False, detail=f"is no receipt of ours: {exc}")
    if problem := _misplaced(item, (of, said, by, invocation), request, outcome):
        return Check(name, ok=False, detail=problem)
    if other:
        return Check(name, ok=False, detail=f"its {other} is not what request, spec and outcome make it")
    if problem := conversion_problem(request.order, bundle.spec, conversion):
        return Check(name, ok=False, detail=problem)
    if outcome.status != Status.REFUSED:
        wanted = {str(cid) for _, cid in _inputs(bundle, request)}
        if not wanted <= set(names.values()):
            return Check(name, ok=False, detail=f"does not name these inputs: {sorted(wanted - set(names.values()))}")
    report = f"; conversion report {conversion['reportSha256']}" if "reportSha256" in (conversion or {}) else ""
    return Check(name, ok=True, detail=f"names the request, the outcome and {len(names)} inputs{report}")


def _misplaced(item: BundleAttestation, says: tuple[str, ...], request: Request, outcome: Outcome) -> str:
    """Whether a receipt is of another request, outcome, node or slot: what is wrong, else nothing."""
    of, said, by, invocation = says
    if of != f"0x{request.hash.hex()}":
        return "is for another request"
    if said != f"0x{outcome.hash.hex()}":
        return "is for another outcome"
    if by != f"urn:insula:node:{item.key}" or not invocation.startswith(f"0x{request.hash.hex()}/{item.slot}/"):
        return f"is of {by:.80} and invocation {invocation:.90}, not this key's and slot's"
    return ""


def _check_release(item: BundleAttestation, request: Request, outcome: Outcome) -> Iterator[Check]:
    """Of an output that reviewers decided on: that they did, and on this one."""
    name = f"release of node {item.node_id}"
    try:
        record = check_release(parse_receipt(item.receipt), item.key, request, outcome)
    except InvalidInput as exc:
        if exc.field == "release":  # a receipt that is none is a finding of its own
            yield Check(name, ok=False, detail=exc.problem)
        return
    if record is not None:
        yield Check(name, ok=True, detail=_ruling(record))


def _check_egress(item: BundleAttestation, bundle: Bundle, request: Request, outcome: Outcome) -> Iterator[Check]:
    """Of a job with a network: whether its exchanges, as the node tells them, fit its spec and its outcome."""
    name = f"exchanges of node {item.node_id}"
    try:
        job = job_of(request.order, bundle.spec)
    except InvalidSpec:
        job = None
    try:
        record = check_egress(parse_receipt(item.receipt), job, outcome)
    except InvalidInput as exc:
        if exc.field == "egress":  # a receipt that is none is a finding of its own
            yield Check(name, ok=False, detail=exc.problem)
        return
    if record is not None:
        told = "each to a destination of the spec" if record.exchanges is not None else "nothing more is told"
        yield Check(name, ok=True, detail=f"{record.count} by the node's word; {told}")


def _ruling(record: ReleaseRecord) -> str:
    approve, reject = (
        ", ".join(vote.signer for vote in record.votes if vote.approve is said) for said in (True, False)
    )
    needed = f"{record.threshold} of {len(record.signers)} had to approve"
    if record.ruling == "timeout":
        return f"too few decided in time; {needed}" + (f", {approve} did" if approve else "")
    for_it, against = (reject, approve) if record.ruling == "rejected" else (approve, reject)
    word = record.ruling if record.redacted is None else f"released in part ({_taken_out(record.redacted)}), approved"
    return f"{word} by {for_it}; {needed}" + (f"; {against} decided otherwise" if against else "")


def _taken_out(form: RedactedForm) -> str:
    parts = ["something removed"] if form.removed else []
    if form.replaced:
        parts.append(f"replaced: {', '.join(form.replaced)}")
    return "; ".join(parts)


def _inputs(bundle: Bundle, request: Request) -> list[tuple[str, Cid]]:
    try:
        job = job_of(request.order, bundle.spec)
    except InvalidSpec:
        return []
    return [(str(cid), cid) for cid in job.content]


def _check_dag(name: str, cid: Cid, fetch: FetchDag, store: BlockStoreLike) -> Check:
    absence = ""
    try:
        fetch(cid, store)
    except (BlockMissing, PeerError, ContentTooLarge, DiskFull) as exc:
        absence = str(exc)
    except InsulaError as exc:
        return Check(name, ok=False, detail=str(exc))
    try:
        size = unixfs.stored_size(store, cid)
    except BlockMissing as exc:
        return Check(name, ok=False, checked=False, detail=f"{cid} is not to be had: {absence or exc}")
    except ContentError as exc:
        return Check(name, ok=False, detail=str(exc))
    return Check(name, ok=True, detail=f"{cid}: {size.blocks} blocks, {size.bytes} bytes, every block re-hashed")


def _check_payload(request: Request, outcome: Outcome, root: Cid, store: BlockStoreLike) -> Check:
    kind = request.order.result_kind
    if kind == ResultKind.EXIT_CODE:
        expected = str(outcome.exit_code).encode()
        return _compared("payload", outcome.payload, expected, "the exit code")
    if kind not in (ResultKind.STDOUT, ResultKind.STDERR) or outcome.status != Status.SUCCEEDED:
        return Check("payload", ok=outcome.payload == b"", detail="none is due")
    stream = "stdout" if kind == ResultKind.STDOUT else "stderr"
    try:
        data = b"".join(unixfs.read_file(store, unixfs.resolve(store, root, stream), MAX_STREAM_BYTES))
    except ContentError as exc:
        return Check("payload", ok=False, detail=f"the output has no readable {stream}: {exc}")
    return _compared("payload", outcome.payload, data, f"the output's {stream}")


def _check_manifests(bundle: Bundle, root: Cid, store: BlockSource) -> Iterator[Check]:
    """Whether each receipt lists the output's files as they are: who has no more than the receipt believes it."""
    try:
        rows = unixfs.manifest(store, root, MANIFEST_LIMITS).rows()
    except ContentError as exc:
        is_large = isinstance(exc, ContentTooLarge)
        yield Check("manifest", ok=False, checked=not is_large, detail=f"the output cannot be listed: {exc}")
        return
    for item in bundle.attestations:
        name = f"manifest of node {item.node_id}"
        try:
            said = manifest_of(parse_receipt(item.receipt))
        except InvalidInput as exc:
            yield Check(name, ok=False, detail=str(exc))
            continue
        listed = [row for row in said if "omitted" not in row]
        due = [*rows] if len(listed) == len(said) else [*rows[: len(listed)], {"omitted": len(rows) - len(listed)}]
        same = canonical_json(said) == canonical_json(due)
        of = f"{len(listed)} of the output's {len(rows)} files and folders"
        yield Check(name, ok=same, detail=f"{of}, as they are" if same else "is not the output's")


def _compared(name: str, given: bytes, expected: bytes, what: str) -> Check:
    same = given == expected
    return Check(name, ok=same, detail=f"{len(given)} bytes on-chain {'are' if same else 'are not'} {what}")
