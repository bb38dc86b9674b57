"""Whether a node's log is still the one that it anchored: its checkpoint against bundles and older checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bridge.verify import check_signatures
from bridge.verify_check import Check
from executor.errors import InvalidInput
from executor.protocol.bundle import Bundle
from executor.protocol.checkpoint import Checkpoint, LogFile


def check_log(file: LogFile, key: str, bundles: Sequence[Bundle], older: Sequence[LogFile]) -> Iterator[Check]:
    """Everything that follows from the files alone. `key`: the node's that the verifier means; empty: not named.

    A bundle's roots count where the node's key has signed them; the rest of the bundle is `check_bundle`'s, and whether
    the contract has anchored them is `check_chain`'s. Where nothing is given to compare with, that is open.
    """
    try:
        now = Checkpoint.of_note(file.checkpoint)
    except InvalidInput as exc:
        yield Check("checkpoint", ok=False, detail=exc.problem)
        return
    yield Check("checkpoint", ok=True, detail=f"{now.key} signed its log's root at {now.size} entries")
    if key:
        yield Check("node key", ok=key == now.key, detail=f"is the log of {now.key}; you named {key}")
    if not bundles and not older:
        yield Check("growth", ok=False, checked=False, detail="there is nothing to compare with: --bundle, or --older")
    for bundle in bundles:
        yield from _check_anchors(file, now, bundle)
    for one in older:
        yield _check_older(file, now, one)


def _check_anchors(file: LogFile, now: Checkpoint, bundle: Bundle) -> Iterator[Check]:
    name = f"request {bundle.request.id}"
    anchored = [
        pair for pair in zip(bundle.attestations, check_signatures(bundle), strict=True) if pair[0].key == now.key
    ]
    if not anchored:
        yield Check(name, ok=False, checked=False, detail=f"has no attestation of {now.key}")
    for item, signed in anchored:
        if signed.ok:
            yield _grown(name, file, item.log_size, item.log_root)
        else:  # whoever wrote that root, it was not the node
            yield Check(name, ok=False, checked=False, detail=f"its {signed.name} {signed.detail}")


def _check_older(file: LogFile, now: Checkpoint, one: LogFile) -> Check:
    name = "older checkpoint"
    try:
        before = Checkpoint.of_note(one.checkpoint)
    except InvalidInput as exc:
        return Check(name, ok=False, detail=exc.problem)
    if before.key != now.key:
        return Check(name, ok=False, detail=f"is of another log, {before.key}'s")
    if not before.size:
        return Check(name, ok=True, detail="was of an empty log")
    return _grown(name, file, before.size, before.root)


def _grown(name: str, file: LogFile, size: int, root: bytes) -> Check:
    problem = file.grew_from(size, root)
    if problem is None:
        return Check(
            name,
            ok=False,
            checked=False,
            detail=f"no proof from {size} entries; the node's operator makes one: "
            f"insula node log --since {size} --save FILE",
        )
    return Check(name, ok=not problem, detail=f"the log {problem}" if problem else f"{size} entries are its beginning")
