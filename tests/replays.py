"""Records of jobs that really ran: the program is run once here, and signed as a node would have signed it."""

import json
from dataclasses import dataclass, replace

from bridge.verify import Layered
from executor.agent.replay import replaying
from executor.content import unixfs
from executor.content.blockstore import BlockStore
from executor.protocol.bundle import Bundle
from executor.protocol.canonical import canonical_json, sha256
from executor.protocol.cid import Cid
from executor.protocol.leases import RequestMessage
from executor.protocol.reasons import Reason
from executor.protocol.release import Changes, Held, Redacted, Subject, sign_release
from executor.protocol.signing import Key, Scope
from executor.protocol.spec import job_of
from executor.protocol.wire import Order, Request, ResultKind
from tests.bundles import CONTRACT, KEYS, REQUESTER, attest, changed


@dataclass
class Recorded:
    """A bundle, the store that has its content, and what the run came to."""

    bundle: Bundle
    store: BlockStore
    decided: object
    dependencies: list

    def as_signed(self, outcome=None, **run):
        """The bundle with another outcome or receipt, signed by the node: a lie that verifies."""
        outcome = outcome or self.decided.outcome
        run = {"manifest": self.decided.manifest, **run}
        word = attest(self.bundle.request.request(), outcome, 0, self.dependencies, **run)
        return changed(self.bundle, outcome=outcome.encode(), attestations=(word,))


def recorded(folder, sandbox, spec, blobs, result_kind=ResultKind.STDOUT):
    """Run `spec`, in which {0}, {1} ... are the CIDs of `blobs`, and record it."""
    store = BlockStore(folder / "content")
    cids = [unixfs.import_bytes(store, blob) for blob in blobs]
    text = json.dumps(spec)
    for number, cid in enumerate(cids):
        text = text.replace(f"@{number}", str(cid))
    order = Order(spec=text.encode(), ttl=600, result_kind=int(result_kind))
    request = Request(chain_id=31415926, contract=CONTRACT, id=3, requester=REQUESTER, order=order, deadline=2_000_000)
    work = folder / "recording"
    work.mkdir()
    with replaying(work, request, job_of(order, order.spec), order.spec, store, sandbox) as runs:
        decided = runs.run()
    dependencies = [("program", cids[0]), *((f"/inputs/{n}", cid) for n, cid in enumerate(cids[1:], 1))]
    bundle = Bundle(
        request_hash=request.hash,
        request=RequestMessage.of(request),
        request_tx=b"\1" * 32,
        request_block_number=10,
        spec=order.spec,
        outcome=decided.outcome.encode(),
        settled_tx=b"\2" * 32,
        settled_block_number=20,
        attestations=(attest(request, decided.outcome, 0, dependencies, manifest=decided.manifest),),
    ).sealed()
    return Recorded(bundle, store, decided, dependencies)


def layered(made, folder):
    """The record's content as the command line reads it."""
    return Layered([made.store], BlockStore(folder / "scratch"))


def output_with(made, changes):
    """The record's output with other files: its CID and rows, in the record's store."""
    root = Cid.from_binary(made.decided.outcome.output_cid)
    files = {
        row.path: b"".join(unixfs.read_file(made.store, row.cid, 2**20))
        for row in unixfs.manifest(made.store, root, unixfs.TreeLimits(2**30)).entries
        if row.kind == "file"
    }
    files = {path: data for path, data in {**files, **changes}.items() if data is not None}
    cid = unixfs.import_listing(made.store, files, unixfs.TreeLimits(2**30))
    return cid, tuple(unixfs.manifest(made.store, cid, unixfs.TreeLimits(2**30)).rows())


def in_part(made, changes, *, removed=True, replaced=(), **run):
    """The bundle of an output that a reviewer released in part: with other files, and whatever is said of them."""
    request = made.bundle.request.request()
    cid, rows = output_with(made, changes)
    payload = changes.get("stdout", made.decided.outcome.payload)
    reason = int(Reason.RELEASED_IN_PART)
    outcome = replace(made.decided.outcome, output_cid=cid.binary, payload=payload, reason=reason)
    original = Held(outcome_hash=b"\1" * 32, manifest_hash=b"\2" * 32, salt=b"\3" * 32)
    form = Held(outcome_hash=outcome.hash, manifest_hash=sha256(canonical_json(list(rows))), salt=b"\4" * 32)
    told = Changes(removed=removed, replaced=tuple(replaced))
    reviewer = Key.from_hex(f"{11:064x}")
    subject = Subject(
        scope=Scope(request.chain_id, request.contract), request_hash=request.hash, node=KEYS[0].address,
        policy_hash=b"\5" * 32, held=original.hash, redacted=Redacted(held=form.hash, changes=told.hash),
    )  # fmt: skip
    vote = sign_release(subject, reviewer, True, 0)
    record = {
        "mode": "person", "signers": [reviewer.address], "threshold": 1, "ruling": "redacted",
        "held": f"0x{original.hash.hex()}",
        "votes": [
            {"signer": vote.signer, "approve": True, "reason": 0, "signature": f"0x{vote.signature.hex()}"},
        ],
        "redacted": {
            "held": f"0x{form.hash.hex()}", "manifestHash": f"0x{form.manifest_hash.hex()}",
            "salt": f"0x{form.salt.hex()}", **told.plain,
        },
    }  # fmt: skip
    run = {"manifest": rows, "release": record, "policy": {"sha256": "05" * 32, "release": "person"}, **run}
    return made.as_signed(outcome, **run)
