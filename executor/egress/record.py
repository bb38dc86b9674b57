"""What the proxy writes down of every exchange, and what of it stands in the receipt. Pure.

A row tells of one request: at (milliseconds since 1970), method, host, port, the address that was connected to, status
(as the job got it), bytes and SHA-256 of both bodies (of a tunnel: of both streams as they passed, encrypted), and the
refusal. A target's path and query may hold secrets: only its SHA-256 is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from executor.protocol.canonical import sha256
from executor.protocol.network import Destination, admitted

EMPTY_SHA256: Final = sha256(b"").hex()


@dataclass(slots=True)
class Exchange:
    """One row in the making."""

    at: int
    method: str = ""
    host: str = ""
    port: int = 0
    kind: str = "http"
    target_sha256: str = ""
    address: str = ""
    status: int = 0
    bytes_out: int = 0
    bytes_in: int = 0
    request_sha256: str = EMPTY_SHA256
    response_sha256: str = EMPTY_SHA256
    refused: str = ""
    cut: str = ""

    def row(self) -> dict[str, Any]:
        """As JSON; what says nothing is left out."""
        found: dict[str, Any] = {
            "at": self.at,
            "method": self.method,
            "host": self.host,
            "port": self.port,
            "kind": self.kind,
            "status": self.status,
            "bytesOut": self.bytes_out,
            "bytesIn": self.bytes_in,
            "requestSha256": self.request_sha256,
            "responseSha256": self.response_sha256,
        }
        more = {"targetSha256": self.target_sha256, "address": self.address, "refused": self.refused, "cut": self.cut}
        return found | {name: value for name, value in more.items() if value}


def shown(
    record: Mapping[str, Any], granted: Sequence[Destination], limits: Mapping[str, int], *, is_open: bool
) -> dict[str, Any]:
    """What the receipt says, which everybody may read, and check (`executor.protocol.egressrecord`).

    A refused request for a destination that is not `granted` is told without it: it would carry the job's words past
    the audit of its output. is_open: whether that output was released; of one that was not, only how many exchanges
    there were. limits: those of the node's policy.
    """
    rows: list[Mapping[str, Any]] = record["exchanges"]
    whole = {"reproducible": False, "count": len(rows) + int(record["omitted"])}
    if not is_open:
        return closed(whole)
    told = [_public(row, granted) for row in rows]
    return {**whole, "omitted": record["omitted"], "exchanges": told, "limits": dict(limits)}


def closed(told: Mapping[str, Any]) -> dict[str, Any]:
    """What is still told of an output that was not released after all."""
    return {name: told[name] for name in ("reproducible", "count")}


def _public(row: Mapping[str, Any], granted: Sequence[Destination]) -> dict[str, Any]:
    if not row.get("refused") or admitted(granted, row["host"], row["port"]):
        return dict(row)
    hidden = {"host": "", "port": 0, "method": ""}
    return {key: value for key, value in row.items() if key != "targetSha256"} | hidden
