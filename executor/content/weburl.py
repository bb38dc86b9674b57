"""URLs of bridges and gateways: which can be one, and how one is shown. Pure."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

from executor.errors import InvalidInput

_USER: Final = re.compile(r"://.*@", re.DOTALL)


def shown(url: str) -> str:
    """A URL as messages, logs, metrics and receipts name it: without user and password, which only its server needs."""
    return _USER.sub("://***@", url)


def is_base_url(url: str) -> bool:
    """Whether paths can be put behind it: http or https, a host, no query, nothing that is not to be seen."""
    try:
        parts = urlsplit(url)
        is_place = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a bracket that does not close, a port that is none
        return False
    return is_place and url.isprintable() and not {" ", "?", "#", "{", "}"}.intersection(url)


def base_url(url: str, field: str) -> str:
    """Such a URL without a slash at its end. InvalidInput(field)."""
    if not is_base_url(url):
        raise InvalidInput(field, f"{shown(url)!r:.200} is no http://host or https://host (with a path, but no query)")
    return url.rstrip("/")
