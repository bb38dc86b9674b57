"""What receipts say of who produced the inputs: signatures are proved, registration and result are the chain's word."""

from __future__ import annotations

from collections.abc import Iterator

from bridge.verify_check import Check
from executor.errors import InvalidInput
from executor.protocol.bundle import Bundle, BundleAttestation
from executor.protocol.produced import Produced, check_produced, producers_in
from executor.protocol.receipt import parse_receipt
from executor.protocol.signing import Scope
from executor.protocol.wire import Request


def check_producers(item: BundleAttestation, request: Request) -> Iterator[Check]:
    """Of each input that the receipt says an earlier request produced: whether the keys that it names signed so."""
    scope = Scope(request.chain_id, request.contract)
    try:
        receipt = parse_receipt(item.receipt)
    except InvalidInput:  # a receipt that is none is a finding of its own
        return
    try:
        said = list(producers_in(receipt))
    except InvalidInput as exc:  # else one entry that nobody can read would hide what is wrong with the others
        yield Check(f"producers, by node {item.node_id}", ok=False, detail=str(exc))
        return
    for name, cid, produced in said:
        check = f"producer of {name}, by node {item.node_id}"
        try:
            if isinstance(produced, InvalidInput):
                raise produced
            check_produced(produced, cid, scope)
        except InvalidInput as exc:
            yield Check(check, ok=False, detail=exc.problem)
            continue
        keys = ", ".join(produced.keys)
        text = f"{cid} was produced by request 0x{produced.request_hash.hex()}, attested by {keys}"
        yield Check(check, ok=True, detail=text)


def producers_named(bundle: Bundle) -> dict[str, Produced]:
    """What is to be asked of the chain: each producer that the receipts name and that holds, once, by its input."""
    scope = Scope(bundle.request.chain_id, bundle.request.contract)
    found: dict[str, Produced] = {}
    for item in bundle.attestations:
        try:
            said = list(producers_in(parse_receipt(item.receipt)))
            for name, cid, produced in said:
                if isinstance(produced, Produced) and produced not in found.values():
                    check_produced(produced, cid, scope)
                    found[name if name not in found else f"{name}, by node {item.node_id}"] = produced
        except InvalidInput:  # told offline
            continue
    return found
