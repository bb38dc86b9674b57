"""Which addresses the proxy may connect to: global unicast ones, and none that stands for another address. Pure.

Sources: the IANA special-purpose address registries (RFC 6890 and later), RFC 6052 and 8215 (NAT64), RFC 3056 (6to4),
RFC 4380 (Teredo). A list of our own, because what the standard library calls global changes between its versions.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

Address = IPv4Address | IPv6Address

_CLOSED_V4: Final = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; a cloud's metadata lies there, too
        "127.0.0.0/8",
        "168.63.129.16/32",  # a cloud's agent for its machines, at an address that looks public
        "169.254.0.0/16",  # link-local, and metadata of most clouds
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
#: all else (mapped and compatible IPv4, NAT64, unique local, link-local, site-local, multicast) is outside of it
_GLOBAL_V6: Final = ip_network("2000::/3")
_CLOSED_V6: Final = tuple(
    ip_network(text)
    for text in (
        "2001::/23",  # protocols: Teredo, ORCHID, benchmarking
        "2001:db8::/32",
        "2002::/16",  # 6to4: an IPv4 address within
        "2620:4f:8000::/48",
        "3fff::/20",
    )
)


def is_public(address: Address) -> bool:
    """Whether a job may reach it: global unicast, of no special purpose, with no other address within."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _CLOSED_V4)
    if address.scope_id is not None or address not in _GLOBAL_V6:
        return False
    return not any(address in network for network in _CLOSED_V6)


def parsed(text: str) -> Address | None:
    """The address of a resolver's answer, None for what is none."""
    try:
        return ip_address(text)
    except ValueError:
        return None
