"""Answers of bridges and nodes as short texts: dates in UTC, amounts with their unit, one fact a line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

Fact = tuple[str, str]

LATEST = 253402300799  # the last second that a date can tell: 9999-12-31T23:59:59Z
FIL_FROM_WEI = 10**15  # amounts from here on are also told in FIL
MAX_PAYLOAD_SHOWN = 400  # characters


def moment(seconds: float | None) -> str:
    """Seconds since 1970 as UTC in ISO 8601, to the second; "-" for None; as they are where no date tells them."""
    if seconds is None or not 0 <= seconds <= LATEST:
        return "-" if seconds is None else f"second {seconds:.0f} since 1970"
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def amount(wei: int | str) -> str:
    """An amount with its unit: in wei, and from a thousandth on in FIL."""
    value = int(wei)
    if abs(value) < FIL_FROM_WEI:
        return f"{value} wei"
    whole, rest = divmod(abs(value), 10**18)
    fil = f"{whole}.{rest:018}".rstrip("0").rstrip(".")
    return f"{value} wei ({'-' if value < 0 else ''}{fil} FIL)"


def paid(units: int | str, token: str) -> str:
    """An amount of what pays for a job: the chain's own token (the zero address), or so many units of an ERC-20."""
    return amount(units) if int(token, 16) == 0 else f"{units} of {token}"


def lines(facts: Iterable[Fact]) -> str:
    """Facts, a line each; those without a value are left out."""
    return "\n".join(f"{name:<12} {value}".rstrip() for name, value in facts if value)


def payload(hexed: str) -> str:
    """What stands on-chain beside the outcome: as text where it is some, else as its bytes; cut when long."""
    data = bytes.fromhex(hexed.removeprefix("0x"))
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return hexed[:MAX_PAYLOAD_SHOWN]
    if any(not (char.isprintable() or char in "\n\r\t") for char in text):
        return hexed[:MAX_PAYLOAD_SHOWN]
    shown = json.dumps(text, ensure_ascii=False)
    return shown if len(shown) <= MAX_PAYLOAD_SHOWN else f"{shown[:MAX_PAYLOAD_SHOWN]}... ({len(data)} bytes)"


def job_text(job: dict[str, Any], explanation: dict[str, Any] | None = None) -> str:
    """A job as the bridge shows it (`/v1/jobs/ID`); with its explanation, what a mark for cancellation means."""
    return lines(_job(job, explanation or {}))


def _job(job: dict[str, Any], explanation: dict[str, Any]) -> Iterator[Fact]:
    yield "request", f"{job['request_id']}, hash {job['request_hash']}"
    yield "state", f"{job['state']} ({job['chain_state']} on-chain)"
    yield "why", job["detail"] or ("" if job["reason"] == "NONE" else job["reason"])
    if refundable := explanation.get("refundable_at"):
        yield "cancelled", cancel_hint(job["request_id"], refundable)
    yield "ordered by", f"{job['requester']} in block {job['block_number']}, transaction {job['tx_hash']}"
    yield "deadline", moment(job["deadline"])
    yield "nodes", f"{job['nodes']}, of which {job['quorum']} must agree; curator {job['curator']}"
    of = partial(paid, token=job["token"])
    prices = f"{of(job['unit_price'])} a node, {of(job['fail_price'])} where it ran and failed"
    yield "pays", f"{prices}; {of(job['delivery_fee'])} for the delivery"
    if job["settled_tx"]:
        yield "settled in", f"block {job['settled_block_number']}, transaction {job['settled_tx']}"
    if job["callback_ok"] is not None:
        yield "callback", "the contract took it" if job["callback_ok"] else "failed; it can be tried again"
    yield from _outcome(job["outcome"] or {})


def _outcome(outcome: dict[str, Any]) -> Iterator[Fact]:
    if not outcome:
        return
    reason = "" if outcome["reason"] == "NONE" else f", {outcome['reason']}"
    yield "outcome", f"{outcome['status_name']}{reason}, exit code {outcome['exit_code']}"
    if outcome["payload"] != "0x":
        yield "payload", payload(outcome["payload"])
    if outcome["output_cid"]:
        yield "output", outcome["output_cid"]
        yield "next", f"insula content get {outcome['output_cid']} -o DIR"


def cancel_hint(request_id: int, refundable_at: float) -> str:
    """What a mark for cancellation means."""
    return f"marked; the refund can be drawn from {moment(refundable_at)} on: insula job cancel {request_id} --draw"


def standing(found: dict[str, Any]) -> str:
    """Where a job stands and why, in a line (`/v1/jobs/ID/explain`)."""
    ended = found.get("ended")
    if ended:
        by = f" by node{'s' if len(ended['nodes']) > 1 else ''} {', '.join(map(str, ended['nodes']))}"
        at = f" at {moment(ended['at'])}" if ended["at"] else ""
        where = f" in block {ended['block_number']}" if ended["block_number"] is not None else ""
        text = f"{found['state']}: {ended['how']}{by if ended['nodes'] else ''}{where}{at}"
        return f"{text}: {ended['why']}" if ended["why"] else text
    why = found["detail"] or ("" if found["reason"] == "NONE" else found["reason"])
    parts = [found["state"], why, f"awaits {found['awaiting']}"]
    if found.get("refundable_at"):
        parts.append(f"from {moment(found['refundable_at'])} on")
    return ": ".join(part for part in parts if part)


def explanation_text(found: dict[str, Any]) -> str:
    """Why a job is where it is, node by node, and what became of each attempt."""
    rows = [standing(found)]
    rows += [f"node {node['node_id']:<4} {node['code']:<18} {node['text']}" for node in found["nodes"]]
    ended = found.get("ended") or {}
    rows += [f"node {one['node_id']:<4} {'OUTVOTED':<18} {outvoted(one, ended)}" for one in ended.get("outvoted", ())]
    rows += [
        f"node {node_id:<4} {'SIGNED TWICE':<18} two outcomes of this request: insula node evidence {node_id}"
        for node_id in ended.get("contradicted", ())
    ]
    for lease in found["leases"]:
        what = ": ".join(part for part in (_unless_none(lease["reason"]), lease["detail"]) if part)
        when = f"{moment(lease['granted_at'])} to {moment(lease['ended_at']) if lease['ended_at'] else 'now'}"
        rows.append(f"attempt {lease['attempt']} of slot {lease['slot']} on node {lease['node_id']}, {when}: "
                    f"{lease['state']}" + (f" ({what})" if what else ""))  # fmt: skip
    if conversion := found.get("conversion"):
        refused = f"; refused: {conversion['refused']}" if conversion["refused"] else ""
        rows.append(f"converted from dialect {conversion['dialect']}, report {conversion['report_sha256']}{refused}")
    return "\n".join(rows)


def outvoted(one: dict[str, Any], ended: dict[str, Any]) -> str:
    """What an outvoted node said, against what stands on-chain (of `ended` in an explanation)."""
    reason = "" if one["reason"] == "NONE" else f", {one['reason']}"
    said = f"it said {one['status_name']}{reason}, exit code {one['exit_code']}, outcome {one['outcome_hash']}"
    paid = "" if one["may_be_paid"] else "; for that it was not paid"
    return f"{said}; on-chain stands {ended['outcome_hash']}{paid}"


def _unless_none(reason: str) -> str:
    return "" if reason == "NONE" else reason


def node_text(found: dict[str, Any]) -> str:
    """A node as `insula node status` sees it."""
    return lines(_node(found))


def _node(found: dict[str, Any]) -> Iterator[Fact]:
    bridge = found["bridge"]
    seen = bridge.get("seen")
    yield "node", f"{seen['node_id']}, key {found['key']}" if seen else f"key {found['key']}"
    yield "folder", found["folder"]
    yield "labels", ", ".join(found["labels"]) or "none"
    doing = "runs" if found["is_running"] else "does not run"
    yield "state", f"{doing}; {'takes no more work (drain)' if found['is_draining'] else 'takes work'}"
    if not bridge["answers"]:
        yield "bridge", f"{bridge['url']} does not answer: {bridge['problem']}"
    else:
        lately = f"asked last at {moment(seen['seen_at'])}" if seen else "has not seen it lately"
        yield "bridge", f"{bridge['url']}, {lately}"
    for probe in found["offer"]:
        held = sum(check["held"] for check in probe["checks"])
        if probe["usable"]:
            yield (
                f"tier {probe['tier']}",
                f"offered; {probe['version']}, {held} of {len(probe['checks'])} limits proved",
            )
            for escape in probe.get("accepted", ()):  # nodes of earlier versions have no list
                yield f"tier {probe['tier']}", f"accepted: {escape}"
        else:
            yield f"tier {probe['tier']}", f"not offered: {probe['problem']}"
    yield "signed", f"{found['signed']} outcomes; log of {found['log_size']}, root {found['log_root']}"
    yield "running", _executions(found["running"]) or "nothing"
    yield "last", _executions(found["last"])


def _executions(rows: Sequence[dict[str, Any]]) -> str:
    shown = (
        f"request {row['request_id']}, attempt {row['attempt']}: {row['state']} at {moment(row['changed_at'])}"
        + (f" ({row['detail']})" if row["detail"] else "")
        for row in rows
    )
    return ("\n" + " " * 13).join(shown)


def in_words(value: Any) -> str:
    """Any JSON value on one line, without brackets."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {in_words(item)}" for key, item in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(in_words(item) for item in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)


def spec_text(found: dict[str, Any]) -> str:
    """What a valid spec asks for (`insula spec validate`)."""
    return lines(_spec(found))


def _spec(found: dict[str, Any]) -> Iterator[Fact]:
    yield "valid", f"{found['bytes']} bytes"
    yield "tier", found["tier"]
    for item in found["inputs"]:
        yield "input", f"{item['path']} = {item['cid']}"
    for item in found.get("secrets", ()):
        yield "secret", f"{item['path']} = the node operator's {item['name']}"
    yield "limits", ", ".join(f"{name} {value}" for name, value in found["limits"].items())
    yield "selector", found["selector"] or "none: any node that the curator admits"
    for change in found.get("changes", ()):
        yield "converted", f"{change['field']}: {change['text']}"
    if found["labels"]:
        yield "order with", " ".join(f"--label {word}" for word in found["labels"])
