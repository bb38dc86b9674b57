"""A settled job as a Process Run Crate: what ran, on what, by whom, with which result, as JSON-LD. Pure.

Sources: RO-Crate 1.1; Process Run Crate 0.5 (w3id.org/ro/wfrun/process). One action for each node that attested. All
of it follows from the bundle; nothing here proves anything, the bundle inside the crate does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from executor.errors import InvalidInput
from executor.protocol.bundle import Bundle, BundleAttestation
from executor.protocol.cid import Cid
from executor.protocol.reasons import Reason
from executor.protocol.receipt import parse_receipt
from executor.protocol.spec import DockerEngine, JobSpec, job_of
from executor.protocol.wire import Outcome, Status

METADATA: Final = "ro-crate-metadata.json"
BUNDLE: Final = "bundle.json"
SPEC: Final = "spec"
OUTPUT: Final = "output"
PROFILE: Final = "https://w3id.org/ro/wfrun/process/0.5"
CRATE: Final = "https://w3id.org/ro/crate/1.1"
#: RO-Crate 1.1 requires one, and takes words where there is no URI
LICENSE: Final = "None is stated: whoever ordered the job decides on the use of its output."
_PLAIN: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/")

Entity = dict[str, Any]


@dataclass(frozen=True)
class ResultFile:
    """A file of the output that is in the crate. path: below `OUTPUT`; size: bytes."""

    path: str
    size: int
    cid: str


def envelope_name(item: BundleAttestation) -> str:
    """Where a node's receipt stands in the crate."""
    return f"receipts/node-{item.node_id}.dsse.json"


def process_crate(bundle: Bundle, files: Sequence[ResultFile], directories: frozenset[Cid]) -> Entity:
    """The content of ro-crate-metadata.json. `directories`: those inputs that are known to be such.

    InvalidInput where nothing ran (the job was refused), or a receipt is none.
    """
    request, outcome = bundle.request.request(), Outcome.decode(bundle.outcome)
    if outcome.status == Status.REFUSED:
        raise InvalidInput("--ro-crate", "the job was refused: nothing ran, so there is no process to describe")
    if not bundle.attestations:
        raise InvalidInput("bundle: attestations", "there are none, so nobody says that anything ran")
    job = job_of(request.order, bundle.spec)
    runs = [_run(item) for item in bundle.attestations]
    objects = [_input(item.cid, item.path, directories) for item in job.inputs]
    results = [_file(f"{OUTPUT}/{one.path}", f"{one.path} of the output", str(one.size), one.cid) for one in files]
    actions = [_action(bundle, run, outcome, job, objects, results) for run in runs]
    papers = [
        _file(BUNDLE, "request, outcome, receipts and signatures", None, None, "application/json"),
        _file(SPEC, "the job spec as it was ordered", str(len(bundle.spec)), None),
        *(
            _file(envelope_name(item), f"the receipt of node {item.node_id} as a DSSE envelope", None, None,
                  "application/json")
            for item in bundle.attestations if item.dsse_signature is not None
        ),
    ]  # fmt: skip
    tool = _tool(job)
    root: Entity = {
        "@id": "./",
        "@type": "Dataset",
        "name": f"Insula request {bundle.request.id}",
        "description": f"Request 0x{request.hash.hex()} of contract {request.contract} on chain {request.chain_id}, "
        f"ended as {Status(outcome.status).name}",
        "datePublished": runs[0].ended,
        "license": LICENSE,
        "conformsTo": {"@id": PROFILE},
        "hasPart": _refs([*results, *papers, *objects]),
        "mentions": _refs(actions),
    }
    agents = [run.agent for run in runs]
    profile = {"@id": PROFILE, "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"}
    described = {"@id": METADATA, "@type": "CreativeWork", "conformsTo": {"@id": CRATE}, "about": {"@id": "./"}}
    return {
        "@context": [f"{CRATE}/context", "https://w3id.org/ro/terms/workflow-run/context"],
        "@graph": list(_once([described, root, profile, tool, *actions, *agents, *objects, *results, *papers])),
    }


@dataclass(frozen=True)
class _Run:
    """What a receipt says of its run."""

    invocation: str
    began: str
    ended: str
    agent: Entity


def _run(item: BundleAttestation) -> _Run:
    try:
        details: Mapping[str, Any] = parse_receipt(item.receipt)["predicate"]["runDetails"]
        times = details["metadata"]
        invocation, began, ended = (str(times[name]) for name in ("invocationId", "startedOn", "finishedOn"))
        by = str(details["builder"]["id"])
    except (KeyError, TypeError) as exc:
        raise InvalidInput(f"receipt of node {item.node_id}", "is no receipt of ours") from exc
    agent = {"@id": by, "@type": "Organization", "name": f"compute node {item.node_id} of operator {item.operator}"}
    return _Run(invocation, began, ended, agent)


def _action(
    bundle: Bundle, run: _Run, outcome: Outcome, job: JobSpec, objects: Sequence[Entity], results: Sequence[Entity]
) -> Entity:
    action: Entity = {
        "@id": f"urn:insula:run:{run.invocation}",
        "@type": "CreateAction" if results else "ActivateAction",
        "name": f"request {bundle.request.id}, run {run.invocation.partition('/')[2]}",
        "description": " ".join(job.engine.args) or "no arguments",
        "startTime": run.began,
        "endTime": run.ended,
        "instrument": {"@id": _tool(job)["@id"]},
        "agent": {"@id": run.agent["@id"]},
        "object": [*_refs(objects), {"@id": SPEC}],
        "actionStatus": {"@id": "http://schema.org/CompletedActionStatus"},
    }
    if results:
        action["result"] = _refs(results)
    if outcome.status == Status.FAILED:
        action["actionStatus"] = {"@id": "http://schema.org/FailedActionStatus"}
        action["error"] = f"{Reason(outcome.reason).name}, exit code {outcome.exit_code}"
    if outcome.reason == Reason.RELEASED_IN_PART:
        action["description"] += "; the output was released in part: reviewers took something out of it"
    if outcome.status == Status.WITHHELD:
        action["description"] += f"; the output was withheld: {Reason(outcome.reason).name}"
    return action


def _tool(job: JobSpec) -> Entity:
    if isinstance(job.engine, DockerEngine):
        uri, name = f"urn:insula:image:{job.engine.image}", f"container image {job.engine.image}"
        version = job.engine.image
    else:
        uri, version = f"ipfs://{job.engine.module}", str(job.engine.module)
        name = f"WebAssembly module {version}"
    return {"@id": uri, "@type": "SoftwareApplication", "name": name, "softwareVersion": version, "url": uri}


def _input(cid: Cid, path: str, directories: frozenset[Cid]) -> Entity:
    kind = "Dataset" if cid in directories else "File"
    return {"@id": f"ipfs://{cid}", "@type": kind, "name": path, "alternateName": path, "identifier": str(cid)}


def _file(path: str, name: str, size: str | None, cid: str | None, encoding: str | None = None) -> Entity:
    found: Entity = {"@id": _as_uri(path), "@type": "File", "name": name}
    extra = {"contentSize": size, "identifier": cid, "encodingFormat": encoding}
    return found | {key: value for key, value in extra.items() if value is not None}


def _as_uri(path: str) -> str:
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in path.encode())


def _refs(entities: Sequence[Entity]) -> list[Entity]:
    return [{"@id": one["@id"]} for one in _once(entities)]


def _once(entities: Sequence[Entity]) -> Iterator[Entity]:
    """Each id once: an input may be mounted at two places."""
    seen: set[str] = set()
    for one in entities:
        if one["@id"] not in seen:
            seen.add(one["@id"])
            yield one
