"""The network outside, as the proxy reaches it: names to addresses, addresses to connections."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from executor.egress.addresses import Address, is_public, parsed

RESOLVE_SECONDS: Final = 10.0
CONNECT_SECONDS: Final = 10.0
MAX_ADDRESSES: Final = 16


class NoWay(Exception):
    """There is no connection to be had. status: what the job is told; the message says why, with no address."""

    def __init__(self, status: int, problem: str) -> None:
        super().__init__(status, problem)
        self.status = status
        self.problem = problem


@dataclass(frozen=True)
class World:
    """The seams: resolve gives the addresses of a host as text; may_reach decides on one; connect opens it."""

    resolve: Callable[[str, int, float], list[str]]
    may_reach: Callable[[Address], bool]
    connect: Callable[[str, int, float], socket.socket]

    def open(self, host: str, port: int, seconds: Callable[[float], float]) -> tuple[socket.socket, str]:
        """A connection to a host by name, and the address that was checked and connected to. NoWay, Cut.

        seconds: what is left for a wait, given how long it may last at most. Every address of the answer is checked: a
        name that leads anywhere else as well leads nowhere. Nothing is looked up twice.
        """
        found = self.resolve(host, port, seconds(RESOLVE_SECONDS))
        if not found:
            raise NoWay(502, "the host has no address")
        for text in found[:MAX_ADDRESSES]:
            address = parsed(text)
            if address is None or not self.may_reach(address):
                raise NoWay(403, "the host's name leads to an address that is not public")
        return self.connect(found[0], port, seconds(CONNECT_SECONDS)), found[0]


def system() -> World:
    """The real one."""
    return World(resolve=resolve, may_reach=lambda address: is_public(address) and not is_own(address), connect=connect)


def resolve(host: str, port: int, seconds: float) -> list[str]:
    """Ask the system's resolver, IPv4 first. NoWay where it does not answer in time: it is left alone then."""
    found: list[str] = []

    def ask() -> None:
        try:
            # bytes: for text a codec would be imported now, by a process that may no longer read its file
            answers = socket.getaddrinfo(host.encode("ascii"), port, type=socket.SOCK_STREAM)
        except OSError:
            return
        texts = [str(where[0]) for family, _, _, _, where in answers if family in (socket.AF_INET, socket.AF_INET6)]
        found.extend(sorted(dict.fromkeys(texts), key=lambda text: ":" in text))

    thread = threading.Thread(target=ask, name=f"resolve-{host}", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise NoWay(504, "the host's name is not resolved in time")
    return found


def connect(address: str, port: int, seconds: float) -> socket.socket:
    """A connection to an address, not a name. NoWay."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.settimeout(seconds)
        made.connect((address, port))
    except TimeoutError as exc:
        made.close()
        raise NoWay(504, "the host does not answer in time") from exc
    except OSError as exc:
        made.close()
        raise NoWay(502, "the host takes no connection") from exc
    return made


def is_own(address: Address) -> bool:
    """Whether it is this machine's: a packet to it would have the same address as its source."""
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as look:
        try:
            look.connect((str(address), 9))  # sends nothing: the kernel only chooses a route
        except OSError:
            return False
        return bool(parsed(str(look.getsockname()[0])) == address)
