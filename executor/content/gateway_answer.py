"""The headers of a trustless gateway's answer, and which of its bytes were asked for. Pure.

Source: https://specs.ipfs.tech/http-gateways/trustless-gateway/ and path-gateway; RFC 9110 (conditions, ranges) and
RFC 6266 with RFC 8187 (names of files).
"""

from __future__ import annotations

import re
from typing import Final

from executor.content.car import MEDIA_TYPE as CAR_TYPE
from executor.content.cidtext import text_of
from executor.content.gateway_query import RAW_TYPE, Asked
from executor.content.selection import Located
from executor.protocol.canonical import sha256
from executor.protocol.cid import DAG_PB

CACHE_CONTROL: Final = "public, max-age=29030400, immutable"
_EXTENSIONS: Final = {"raw": "bin", "car": "car"}
_PLAIN: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_RANGE = re.compile(r"bytes=([0-9]{0,19})-([0-9]{0,19})")
_ETAG = re.compile(r'(?:W/)?("[^"]*")')

Bytes = tuple[int, int]
"""First and last byte, both inclusive."""


def headers_of(asked: Asked, found: Located | None) -> dict[str, str]:
    """All but Content-Length and Content-Range. found: None of an identity CID."""
    is_raw = asked.form == "raw"
    headers = {
        "Content-Type": RAW_TYPE if is_raw else f"{CAR_TYPE}; version=1; order=dfs; dups={_dups(asked)}",
        "Content-Disposition": _disposition(asked),
        "Content-Location": _location(asked),
        "ETag": etag(asked),
        "Cache-Control": CACHE_CONTROL,
        "Vary": "Accept",
        "X-Content-Type-Options": "nosniff",
        "X-Ipfs-Path": _path(asked),
        "Accept-Ranges": "bytes" if is_raw else "none",
    }
    if found is not None:
        headers["X-Ipfs-Roots"] = ",".join(_roots(asked, found))
    return headers


def etag(asked: Asked) -> str:
    """Strong: the same request has the same bytes. It begins with the scope where only a part is asked for."""
    if asked.form == "raw":
        return f'"{asked.named.text}.raw"'
    part = asked.scope.value if asked.span is None else f"{asked.scope.value}-{asked.span}"
    below = f".{sha256('/'.join(asked.names).encode()).hex()[:32]}" if asked.names else ""
    return f'"{part}.dfs-{_dups(asked)}.{asked.named.text}{below}.car"'


def has_it(asked: Asked, if_none_match: str | None) -> bool:
    """Whether the client has this very answer already (RFC 9110 13.1.2, weak comparison)."""
    if if_none_match is None:
        return False
    return if_none_match.strip() == "*" or etag(asked) in _ETAG.findall(if_none_match)


def byte_range(header: str | None, size: int) -> Bytes | None:
    """The one range of a Range header; None for all: no header, another unit, several ranges, or not well formed.

    ValueError where it lies outside (416).
    """
    match = _RANGE.fullmatch((header or "").replace(" ", ""))
    if match is None or match[1] == match[2] == "":
        return None
    if match[1] == "":
        first, last = max(0, size - int(match[2])), size - 1
    else:
        first, last = int(match[1]), int(match[2] or size - 1)
        if match[2] and last < first:
            return None
    if first >= size:
        raise ValueError(f"there are {size} bytes")
    return first, min(last, size - 1)


def _dups(asked: Asked) -> str:
    return "y" if asked.dups else "n"


def _disposition(asked: Asked) -> str:
    name = asked.filename or f"{asked.named.text}.{_EXTENSIONS[asked.form]}"
    safe = "".join(char if " " <= char <= "~" and char not in '"\\' else "_" for char in name)
    full = "" if safe == name else f"; filename*=UTF-8''{_escaped(name)}"
    return f'attachment; filename="{safe}"{full}'


def _location(asked: Asked) -> str:
    """The URL that says in itself all that this answer depends on."""
    if asked.form == "raw":
        return f"{_path(asked)}?format=raw"
    words = ["format=car", f"dag-scope={asked.scope.value}"]
    if asked.span is not None:
        words.append(f"entity-bytes={asked.span}")
    words += ["car-version=1", "car-order=dfs", f"car-dups={_dups(asked)}"]
    return f"{_path(asked)}?{'&'.join(words)}"


def _path(asked: Asked) -> str:
    return "/".join(["/ipfs", asked.named.text, *map(_escaped, asked.names)])


def _roots(asked: Asked, found: Located) -> list[str]:
    """The root as it was asked for; what is below a CIDv0 is most likely linked by CIDv0, too."""
    is_old = asked.named.is_old
    below = [text_of(cid, is_old=is_old and cid.codec == DAG_PB) for cid in found.roots[1:]]
    return [asked.named.text, *below]


def _escaped(text: str) -> str:
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in text.encode("utf-8", "replace"))
