"""What a node's log says beside receipts: that an execution begins, before it does, and that it has ended. Pure.

The log holds the SHA-256 of each body; the bodies stay with the node, which can open any of them later.
"""

from __future__ import annotations

from typing import Final

from executor.protocol.canonical import canonical_json

INTENT: Final = "urn:insula:log:intent:v1"
END: Final = "urn:insula:log:end:v1"


def intent_body(execution_id: str, request_hash: bytes, slot: int, attempt: int, at: float) -> bytes:
    """Of an execution that is about to begin. Its id has random digits: the hash says nothing of the request."""
    return canonical_json(
        {
            "type": INTENT,
            "executionId": execution_id,
            "requestHash": f"0x{request_hash.hex()}",
            "slot": slot,
            "attempt": attempt,
            "at": at,
        }
    )


def end_body(execution_id: str, state: str, at: float) -> bytes:
    """Of an execution that has ended: attested, returned, lost, rejected, or crashed as the next start found out."""
    return canonical_json({"type": END, "executionId": execution_id, "state": state, "at": at})
