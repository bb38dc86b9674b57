"""A node's receipt: its own record of one execution, an in-toto Statement with SLSA provenance as canonical JSON. Pure.

Sources: in-toto Statement v1, SLSA provenance v1, RFC 8785 (canonical form). The receipt's hash, SHA-256 of its exact
bytes, stands in the node's attestation, so the contract's event anchors it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from executor.errors import InvalidInput
from executor.protocol.canonical import DepthError, canonical_json, sha256, strict_json
from executor.protocol.cid import Cid
from executor.protocol.wire import Outcome, Request

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:insula:job:v1"


@dataclass(frozen=True, kw_only=True)
class Dependency:
    """Something that the job was given: an input, its program. `source` says where its blocks came from.

    fetched_at, verified_at: when its last block came, and when all were hashed again (seconds since 1970), if known.
    produced: who attested it as the output of an earlier request (`executor.protocol.produced`), where that is known.
    """

    name: str
    cid: Cid
    size: int
    blocks: int
    source: str
    fetched_at: float | None = None
    verified_at: float | None = None
    produced: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a node says about one execution. Times are seconds since 1970.

    conversion: how a spec of another dialect became one in `insula/v1`, with the hash of the whole report
    (`executor.protocol.conversions`), None where it is one.
    release: who decided on the output, and how; None where no reviewer was asked.
    scanners: which of the operator's scanners judged the output, by name and hash, and how; empty where none did.
    egress: what passed between the job and the network, None where it had none. Such a run is not reproducible.
    """

    key: str
    slot: int
    attempt: int
    started_at: float
    finished_at: float
    dependencies: Sequence[Dependency]
    runtime: Mapping[str, Any]
    policy: Mapping[str, Any]
    manifest: Sequence[Mapping[str, Any]]
    detail: str
    conversion: Mapping[str, Any] | None = None
    release: Mapping[str, Any] | None = None
    egress: Mapping[str, Any] | None = None
    scanners: Sequence[Mapping[str, Any]] = ()


def receipt_bytes(request: Request, spec: bytes, outcome: Outcome, run: Run) -> bytes:
    """The receipt in its canonical bytes."""
    return canonical_json(
        {
            "_type": STATEMENT_TYPE,
            "subject": _subjects(outcome),
            "predicateType": PREDICATE_TYPE,
            "predicate": {
                "buildDefinition": {
                    "buildType": BUILD_TYPE,
                    "externalParameters": _external(request, spec),
                    "internalParameters": _internal(run),
                    "resolvedDependencies": [_dependency(item) for item in run.dependencies],
                },
                "runDetails": {
                    "builder": {"id": f"urn:insula:node:{run.key}"},
                    "metadata": {
                        "invocationId": f"0x{request.hash.hex()}/{run.slot}/{run.attempt}",
                        "startedOn": _rfc3339(run.started_at),
                        "finishedOn": _rfc3339(run.finished_at),
                    },
                    "byproducts": _byproducts(outcome, run),
                },
            },
        }
    )


def receipt_hash(receipt: bytes) -> bytes:
    """SHA-256 of the receipt's exact bytes, 32 bytes."""
    return sha256(receipt)


def parse_receipt(receipt: bytes) -> dict[str, Any]:
    """The receipt as JSON. InvalidInput("receipt") unless it is one, in canonical form."""
    try:
        value = strict_json(receipt.decode(), max_depth=24)
    except (ValueError, DepthError) as exc:
        raise InvalidInput("receipt", f"is not JSON: {exc!s:.100}") from exc
    if not isinstance(value, dict) or value.get("_type") != STATEMENT_TYPE:
        raise InvalidInput("receipt", f"is not a {STATEMENT_TYPE}")
    if canonical_json(value) != receipt:
        raise InvalidInput("receipt", "is not in canonical form (RFC 8785)")
    return value


def dependency_cids(receipt: Mapping[str, Any]) -> dict[str, str]:
    """Name to CID of every dependency of a parsed receipt. InvalidInput("receipt") if the receipt has another form."""
    try:
        items = receipt["predicate"]["buildDefinition"]["resolvedDependencies"]
        return {str(item["name"]): str(item["uri"]).removeprefix("ipfs://") for item in items}
    except (KeyError, TypeError) as exc:
        raise InvalidInput("receipt", "names no resolvedDependencies") from exc


def manifest_of(receipt: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of the output's manifest, as a parsed receipt has them. InvalidInput("receipt") if it has none."""
    try:
        found = {item["name"]: item["annotations"] for item in receipt["predicate"]["runDetails"]["byproducts"]}
        rows = found["manifest"]["entries"]
    except (KeyError, TypeError) as exc:
        raise InvalidInput("receipt", "has no manifest") from exc
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InvalidInput("receipt", "has a manifest of another form")
    return rows


def statement_problem(receipt: Mapping[str, Any], request: Request, spec: bytes, outcome: Outcome) -> str:
    """Where a parsed receipt says something else than request, spec and outcome do; "" where it does nowhere.

    Who reads the envelope alone believes these fields. InvalidInput("receipt") if the receipt has another form.
    """
    try:
        definition = receipt["predicate"]["buildDefinition"]
        said = receipt["predicate"]["runDetails"]["byproducts"][0]["annotations"]
        parts = (
            ("predicateType", receipt["predicateType"], PREDICATE_TYPE),
            ("subject", receipt["subject"], _subjects(outcome)),
            ("buildType", definition["buildType"], BUILD_TYPE),
            ("externalParameters", definition["externalParameters"], _external(request, spec)),
            ("byproducts.outcome", {name: said[name] for name in _outcome(outcome)}, _outcome(outcome)),
        )
    except (KeyError, IndexError, TypeError) as exc:
        raise InvalidInput("receipt", "has another form") from exc
    wrong = (name for name, is_said, due in parts if canonical_json(is_said) != canonical_json(due))
    return next(wrong, "")


def _external(request: Request, spec: bytes) -> dict[str, Any]:
    return {**_request(request), "specSha256": sha256(spec).hex()}


def _subjects(outcome: Outcome) -> list[dict[str, Any]]:
    subjects: list[dict[str, Any]] = [{"name": "outcome", "digest": {"sha256": sha256(outcome.encode()).hex()}}]
    if outcome.output_cid:
        cid = Cid.from_binary(outcome.output_cid)
        subjects.append({"name": "output", "uri": f"ipfs://{cid}", "digest": {"sha256": cid.digest.hex()}})
    return subjects


def _byproducts(outcome: Outcome, run: Run) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": "outcome", "annotations": {**_outcome(outcome), "detail": run.detail}},
        {"name": "manifest", "annotations": {"entries": [dict(entry) for entry in run.manifest]}},
    ]
    if run.release is not None:
        found.append({"name": "release", "annotations": dict(run.release)})
    if run.scanners:
        found.append({"name": "scanners", "annotations": {"entries": [dict(entry) for entry in run.scanners]}})
    if run.egress is not None:
        found.append({"name": "egress", "annotations": dict(run.egress)})
    return found


def _internal(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = {"runtime": dict(run.runtime), "policy": dict(run.policy)}
    if run.conversion is not None:
        found["conversion"] = dict(run.conversion)
    return found


def _request(request: Request) -> dict[str, Any]:
    return {
        "chainId": request.chain_id,
        "contract": request.contract,
        "requestId": str(request.id),
        "requester": request.requester,
        "requestHash": f"0x{request.hash.hex()}",
    }


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "status": outcome.status,
        "reason": outcome.reason,
        "exitCode": outcome.exit_code,
        "outcomeHash": f"0x{outcome.hash.hex()}",
    }


def _dependency(item: Dependency) -> dict[str, Any]:
    return {
        "name": item.name,
        "uri": f"ipfs://{item.cid}",
        "digest": {"sha256": item.cid.digest.hex()},
        "annotations": {
            "bytes": item.size,
            "blocks": item.blocks,
            "source": item.source,
            **({} if item.fetched_at is None else {"fetchedAt": _rfc3339(item.fetched_at)}),
            **({} if item.verified_at is None else {"verifiedAt": _rfc3339(item.verified_at)}),
            **({} if item.produced is None else {"producedBy": dict(item.produced)}),
        },
    }


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
