"""Where a Kubo daemon's RPC API is. Apart from the adapter, which takes its time to import."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from executor.content.weburl import shown
from executor.errors import InvalidInput

_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_NAME: Final = re.compile(rf"(?=.{{1,253}}\Z)(?:{_LABEL}\.)*{_LABEL}")
_SWARM: Final = re.compile(r"(?=.{1,400}\Z)(?:/[A-Za-z0-9:][A-Za-z0-9._:-]*)+/p2p/[A-Za-z0-9]{40,80}")
_NUMBERS: Final = re.compile(r"[\d.]+")


def rpc_address(address: str) -> str:
    """An address of an RPC API in its usual form, http://HOST:PORT. InvalidInput("kubo")."""
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:  # a bracket that does not close, a port that is none
        parts, port = urlsplit(""), None
    usual = parts.scheme == "http" and port and parts.path in ("", "/") and not parts.username
    if not usual or not _is_host(parts.hostname or ""):
        usual_ones = "http://127.0.0.1:5001, or a name of letters, digits, dots and hyphens in the place of 127.0.0.1"
        raise InvalidInput("kubo", f"{shown(address)!r:.200} is no address of Kubo's RPC API, such as {usual_ones}")
    host = parts.hostname or ""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def swarm_address(address: str) -> str:
    """The address of a Kubo among peers, as it stands: `/.../p2p/ID`, by which others keep a connection to it.

    InvalidInput("kubo_peers"). The daemon reads it closer: only what could be anything else is refused here.
    """
    if not _SWARM.fullmatch(address):
        problem = f"{address!r:.200} is no address of a peer, such as /ip4/203.0.113.7/tcp/4001/p2p/12D3KooW..."
        raise InvalidInput("kubo_peers", problem)
    return address


def by_peer(addresses: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Addresses of Kubos among peers by the ID that each ends with, in their order."""
    found: dict[str, tuple[str, ...]] = {}
    for address in addresses:
        peer = address.rpartition("/")[2]
        found[peer] = (*found.get(peer, ()), address)
    return found


def _is_host(host: str) -> bool:
    """An address, or a name of letters, digits and hyphens: the client's multiaddrs know nothing else."""
    if ":" not in host and not _NUMBERS.fullmatch(host):
        return _NAME.fullmatch(host) is not None
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return "%" not in host
