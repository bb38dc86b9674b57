"""Takes out of a text what must not be shown: endpoints' URLs carry their users' keys in path or query. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

_URL = re.compile(r"\b(?:https?|wss?)://[^\s'\"<>)\]]+")
_PART = re.compile(r"[^/?&=:@#]+")
SHORTEST_SECRET = 8  # shorter parts of a path are words such as "rpc" and "v1"


def endpoint_name(url: str) -> str:
    """Scheme, host and port of a URL: how an endpoint is called in messages, labels and logs."""
    scheme, found, rest = url.partition("://")
    if not found:
        return "endpoint"
    return f"{scheme}://{re.split(r'[/?#]', rest, maxsplit=1)[0].rpartition('@')[2]}"


def redacted(text: str, urls: Iterable[str] = ()) -> str:
    """`text` with every URL cut to its endpoint's name, and without the secret parts of `urls` wherever they stand."""
    shown = _URL.sub(lambda match: endpoint_name(match.group()), text)
    for part in sorted({part for url in urls for part in _secrets_of(url)}, key=len, reverse=True):
        shown = shown.replace(part, "***")
    return shown


def _secrets_of(url: str) -> set[str]:
    _, _, rest = url.partition("://")
    cut = re.search(r"[/?#]", rest)
    host_end = cut.start() if cut else len(rest)
    user = rest[:host_end].rpartition("@")[0]
    return {part for part in _PART.findall(f"{user}/{rest[host_end:]}") if len(part) >= SHORTEST_SECRET}
