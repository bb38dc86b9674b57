"""Where a Kubo daemon's RPC API is. Apart from the adapter, which takes its time to import."""

from __future__ import annotations

from urllib.parse import urlsplit

from executor.errors import InvalidInput


def rpc_address(address: str) -> str:
    """An address of an RPC API in its usual form, http://HOST:PORT. InvalidInput("kubo")."""
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:  # a bracket that does not close, a port that is none
        parts, port = urlsplit(""), None
    if parts.scheme != "http" or not parts.hostname or not port or parts.path not in ("", "/") or parts.username:
        raise InvalidInput("kubo", f"{address!r:.200} is no address of Kubo's RPC API, such as http://127.0.0.1:5001")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"http://{host}:{port}"
