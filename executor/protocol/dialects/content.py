"""Content that another system's spec names, as a CID: what a job is given must be the same wherever it runs. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from executor.errors import InvalidInput
from executor.protocol.cid import Cid
from executor.protocol.reasons import Reason
from executor.protocol.specparts import InvalidSpec, refuse

_GATEWAY = re.compile(r"https?://[^/?#\s]+/ipfs/([A-Za-z0-9]{1,100})/?")


@dataclass(frozen=True, kw_only=True)
class Stored:
    """Content by CID.

    name: of the file below the path that the job asked for, "" where the content is at the path itself; field: where
    the CID was written; note: what the conversion changed, "" for nothing.
    """

    cid: Cid
    name: str
    field: str
    note: str


def gateway_cid(url: str, field: str) -> str:
    """The CID in a URL of a gateway, as it stands there. InvalidSpec for any other URL."""
    match = _GATEWAY.fullmatch(url)
    if match is None:
        problem = "is a URL whose content can change; only https://GATEWAY/ipfs/CID is read, by its CID"
        refuse(Reason.SPEC_UNSUPPORTED, field, problem)
    return match.group(1)


def content(text: str, name: str, field: str) -> Stored:
    """What a CID names, as a file of that name unless it is "". InvalidSpec(BAD_CID)."""
    cid = _cid(text, field)
    notes = [f"read by CID, as {name}"] if name else []
    if text != str(cid):
        notes.append(f"CIDv0 read as {cid}")
    return Stored(cid=cid, name=name, field=field, note="; ".join(notes))


def _cid(text: str, field: str) -> Cid:
    try:
        return Cid.parse_any(text)
    except InvalidInput as exc:
        raise InvalidSpec(Reason.BAD_CID, field, exc.problem) from exc
