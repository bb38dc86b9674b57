"""The end of what was held and not released: shredded at once, or when the operator's days for an appeal are over."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import structlog

from executor.agent.parts import Parts
from executor.agent.staging import Staging
from executor.errors import InsulaError
from executor.holds import Hold
from executor.protocol.wire import Outcome
from executor.quarantine import QuarantineKeys

log = structlog.get_logger("insula.node")

_OPENING = ("root", "outcome_hash", "manifest_hash", "salt")


def finish(parts: Parts, execution_id: str, state: str, detail: str) -> None:
    """Close an execution in the ledger, then shred its quarantine, unless it is kept for an appeal. LedgerError.

    In this order: what is not yet closed in the ledger goes on after a kill -9, and needs its quarantine. What cannot
    be shredded now is at the node's next start; what cannot be written down now, when the node tidies up next.
    """
    hold = parts.holds.get(execution_id)
    is_kept = hold is not None and parts.config.quarantine_keep_days > 0 and is_withheld(hold)
    opening = _opening(parts, hold) if hold is not None else None
    parts.ledger.finish(execution_id, state, detail, parts.clock(), keep_hold=is_kept, opening=opening)
    if hold is not None and is_kept:
        parts.room.keep(execution_id, hold.disk_bytes)
        return
    try:
        shred(parts, execution_id)
    except OSError as exc:
        log.error("a quarantine cannot be shredded", execution=execution_id, error=str(exc))  # noqa: TRY400 - the text says it


def _opening(parts: Parts, hold: Hold) -> dict[str, Any] | None:
    """What tells of the original of an output, if a part of it was let out; None of what was withheld after all."""
    record = parts.ledger.signed(hold.request_hash)
    if hold.ruling != "redacted" or hold.gone or record is None or not Outcome.decode(record.outcome).output_cid:
        return None
    return {name: getattr(hold, name) for name in _OPENING}


def is_withheld(hold: Hold) -> bool:
    """Whether its reviewers, or their silence, kept it in; and it can still be opened."""
    return hold.ruling in ("rejected", "timeout") and not hold.gone


def shred(parts: Parts, execution_id: str) -> None:
    """The key first: without it the blocks are noise, wherever else a copy of them is. OSError."""
    parts.holds.keys.shred(execution_id)
    Staging(parts.executions / execution_id).remove()


def shred_left_over(keys: QuarantineKeys, staying: Collection[str]) -> None:
    """At a node's start: shred the key of every execution but `staying`, which a kill -9 left. InvalidInput."""
    for execution_id in keys.names():
        if execution_id in staying:
            continue
        try:
            keys.shred(execution_id)
        except OSError as exc:
            log.error("a left-over key cannot be shredded", execution=execution_id, error=str(exc))  # noqa: TRY400 - the text says it
        else:
            log.warning("shredded the key of a left-over", execution=execution_id)


def shred_due(parts: Parts) -> int:
    """Shred what has been kept long enough; how many. The row in the ledger goes last: it says what is to be done."""
    done = 0
    for hold in parts.holds.kept():
        if not hold.gone and parts.clock() < parts.config.kept_until(hold.closed_at or 0.0):
            parts.room.keep(hold.execution_id, hold.disk_bytes)
            continue
        try:
            shred(parts, hold.execution_id)
            parts.holds.scrub(hold.execution_id)
        except (InsulaError, OSError) as exc:
            log.error("a quarantine cannot be shredded", execution=hold.execution_id, error=str(exc))  # noqa: TRY400 - the text says it
            continue
        parts.room.leave(hold.execution_id)
        log.info("shredded what was withheld", execution=hold.execution_id)
        done += 1
    return done
