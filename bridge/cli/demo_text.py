"""The demo's result as text: what happened to each job, in the order in which it happened."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bridge.cli.output import plain
from bridge.cli.texts import amount


def narrate(result: dict[str, Any]) -> str:
    """The whole result, for people; as the demo made it, or as its --json shows it."""
    result = plain(result)
    lines: list[str] = [""]
    for job in result["jobs"]:
        lines += [f"({job['key']}) {job['title']}", *(f"    {name:<11} {text}" for name, text in _facts(job)), ""]
    held = sum(check["ok"] for job in result["jobs"] for check in job.get("checks", ()))
    looked = sum(len(job.get("checks", ())) for job in result["jobs"])
    lines += [f"problem: {problem}" for problem in result["problems"]]
    lines.append(
        f"{'all steps held' if result['ok'] else 'NOT all steps held'}: {len(result['jobs'])} jobs, "
        f"{held} of {looked} checks, {result['seconds']} s"
    )
    return "\n".join(lines)


def _facts(job: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "request", f"{job['requestId']}, hash {job['requestHash']}"
    yield "ordered in", str(plain(job["requestTransaction"]))
    for cid in job["inputs"]:
        yield "input", cid
    yield from _who(job)
    if "review" in job:
        yield from _reviewed(job["review"])
    if job.get("outputCid"):
        yield "output", job["outputCid"]
        for row in job.get("output", ()):
            if row.get("type") == "file":
                yield "", f"{row['path']} ({row['size']} bytes)"
    if "kubo" in job:
        yield "at Kubo", f"kept at {job['kubo']['address']}; {job['kubo']['blocks']} blocks came back from it, verified"
    yield "settled in", f"{plain(job['resultTransaction'])} as {job['state']}"
    if "outcome" in job:
        outcome = job["outcome"]
        said = f"status {outcome['status']}, reason {outcome['reason']}, exit code {outcome['exitCode']}"
        yield "dApp stored", said + (f", payload {outcome['payload']!r}" if outcome["payload"] else "")
    for name, wei in job["paymentsInWei"].items():
        yield "paid", f"{amount(wei)} to {name}"
    if "slashed" in job:
        yield from _slashed(job["slashed"])
    if "checks" in job:
        held = [check for check in job["checks"] if check["ok"]]
        yield (
            "verified",
            f"{len(held)} of {len(job['checks'])} checks hold, from the chain's event to the output's bytes",
        )
    if "replay" in job:
        yield "replayed", job["replay"]["text"]


def _who(job: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Whose outcome stands, whose does not, and who gave none."""
    for node in job.get("nodes", ()):
        yield "signed by", f"node {node['nodeId']} ({node['name']}; {', '.join(node['labels'])}), key {node['key']}"
    for node in job.get("outvoted", ()):
        said = f"said {node['status']}, exit code {node['exitCode']}, outcome {node['outcomeHash']}"
        yield "outvoted", f"node {node['nodeId']} ({node['name']}) {said}"
        yield "", f"and was paid {amount(node['paidInWei'])}; the quorum's outcome is {node['agreedOutcomeHash']}"
    if "explanation" in job:
        for reason in job["explanation"]["nodes"]:
            yield "not on", f"node {reason['nodeId']}: {reason['text']}"


def _reviewed(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "held", f"in quarantine on node {found['name']}: {len(found['files'])} files and folders"
    yield "reviewed", f"{found['decision']} by {found['signer']}"


def _slashed(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "two signed", f"node {found['nodeId']} ({found['name']}), key {found['key']}:"
    for outcome_hash in found["outcomeHashes"]:
        yield "", f"outcome {outcome_hash}"
    yield "proven by", f"a stranger, {found['prover']}, in {found['transaction']}"
    yield "its stake", f"{amount(found['stakeBeforeInWei'])} before, {amount(found['stakeAfterInWei'])} after"
    yield "of that", f"{amount(found['rewardInWei'])} to the stranger, {amount(found['burnedInWei'])} burned"
