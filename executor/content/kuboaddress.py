"""Where a Kubo daemon's RPC API is. Apart from the adapter, which takes its time to import."""

from __future__ import annotations

import ipaddress
import re
from typing import Final
from urllib.parse import urlsplit

from executor.errors import InvalidInput

_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_NAME: Final = re.compile(rf"(?=.{{1,253}}\Z)(?:{_LABEL}\.)*{_LABEL}")
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
        raise InvalidInput("kubo", f"{address!r:.200} is no address of Kubo's RPC API, such as {usual_ones}")
    host = parts.hostname or ""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _is_host(host: str) -> bool:
    """An address, or a name of letters, digits and hyphens: the client's multiaddrs know nothing else."""
    if ":" not in host and not _NUMBERS.fullmatch(host):
        return _NAME.fullmatch(host) is not None
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return "%" not in host
