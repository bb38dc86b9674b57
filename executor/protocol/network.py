"""Destinations that a job asks for and that an operator grants: a host and its ports. Pure.

Hosts are ASCII names of letters, digits and hyphens (RFC 952, 1123), in lower case, without a trailing dot. An address
is no name: the last label begins with a letter, as in no spelling of an IPv4 address (WHATWG URL, "ends in a number").
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

MAX_DESTINATIONS: Final = 16
MAX_PORTS: Final = 16
MAX_EXCHANGES: Final = 64  # of a job; each has a row in the receipt, which is bounded
MAX_HOST_BYTES: Final = 253
_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_LAST: Final = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")
_ANY_BELOW: Final = "*."


@dataclass(frozen=True, slots=True)
class Destination:
    """host: an exact name, or `*.example.org` for every name below example.org but not that itself. ports: sorted."""

    host: str
    ports: tuple[int, ...]

    def admits(self, host: str, port: int) -> bool:
        """Whether a connection to an exact host (or every one below `*.`) and port is meant by it."""
        return port in self.ports and covers(self.host, host)


def covers(pattern: str, host: str) -> bool:
    """Whether `pattern` means all that `host` means; both may begin with `*.`."""
    return pattern == host or (pattern.startswith(_ANY_BELOW) and host.endswith(pattern[1:]))


def admitted(destinations: Iterable[Destination], host: str, port: int) -> bool:
    """Whether one of the destinations means this host and port."""
    return any(one.admits(host, port) for one in destinations)


def is_host(text: str) -> bool:
    """Whether it is an exact host name as above."""
    labels = text.split(".")
    return (
        len(text) <= MAX_HOST_BYTES
        and len(labels) >= 2
        and all(map(_LABEL.fullmatch, labels))
        and _LAST.fullmatch(labels[-1]) is not None
    )


def host_problem(text: str) -> str:
    """What is wrong with an entry's host, exact or `*.`; empty where nothing is."""
    if is_host(text.removeprefix(_ANY_BELOW)) and len(text) <= MAX_HOST_BYTES:
        return ""
    return (
        "is no host name: two labels or more of a-z, 0-9 and hyphens, in lower case, the last beginning with a letter "
        "(api.example.org, or *.example.org for all names below it); addresses, ports and trailing dots are refused"
    )


def order_problem(values: Sequence[str] | Sequence[int]) -> str:
    """What is wrong with a list that must be sorted, each entry once; empty where nothing is."""
    is_rising = all(one < other for one, other in pairwise(values))  # type: ignore[operator]
    return "" if is_rising else "must be sorted, with no entry twice"
