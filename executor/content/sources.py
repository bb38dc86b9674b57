"""Where content may be had: gateways over HTTP, an operator's Kubo. A source costs nothing until it is asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

from executor.content.kuboaddress import rpc_address
from executor.content.transfer import CarSource
from executor.content.web import SILENCE_SECONDS, Http, gateway_peer
from executor.content.weburl import base_url, shown
from executor.errors import PeerUnavailable

DIAL_SECONDS: Final = 3.0
MAX_OPEN: Final = 20
"""Clients that are kept at a time; the one that was not used for longest is closed for another."""


@dataclass(frozen=True, slots=True)
class Source:
    """name: how it is shown, unique among the sources. open: makes its one client, which connects when called.

    is_lent: the client is somebody else's and for one fetch only, so that it is not kept. address: where it is, whole,
    and never shown: two that have the same are one.
    """

    name: str
    open: Callable[[], AbstractContextManager[CarSource]]
    is_lent: bool = False
    address: str = field(default="", repr=False)


def told_apart(sources: Iterable[Source]) -> tuple[Source, ...]:
    """Each place once, in their order, with a name of its own: of those that differ only in what is not shown, a user
    or password, the second is called "NAME (2)".
    """
    places = {source.address or source.name: source for source in sources}
    found: dict[str, Source] = {}
    for source in places.values():
        name, number = source.name, 1
        while name in found:
            number += 1
            name = f"{source.name} ({number})"
        found[name] = replace(source, name=name)
    return tuple(found.values())


def gateway_source(url: str, silence_seconds: float = SILENCE_SECONDS, dial_seconds: float = DIAL_SECONDS) -> Source:
    """A trustless gateway: a bridge, another node, or any that serves CAR. InvalidInput("gateway")."""
    base = base_url(url, "gateway")

    @contextmanager
    def opened() -> Iterator[CarSource]:
        with Http(base, silence_seconds=silence_seconds, dial_seconds=dial_seconds) as http:
            yield gateway_peer(http)

    return Source(shown(base), opened, address=base)


def kubo_source(address: str, silence_seconds: float = SILENCE_SECONDS) -> Source:
    """An operator's Kubo by the address of its RPC API, http://127.0.0.1:5001. InvalidInput."""
    from executor.content.kubo import Kubo

    name = rpc_address(address)
    return Source(name, lambda: Kubo(name, silence_seconds))


class OpenSources:
    """The clients of sources, each opened once and kept, at most MAX_OPEN beside those in use. Safe in threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[str, tuple[CarSource, ExitStack]] = {}  # the one used longest ago first
        self._used: set[str] = set()

    @contextmanager
    def using(self, source: Source) -> Iterator[CarSource]:
        """Its client, by one caller at a time. PeerUnavailable where an earlier one is not done with it.

        Such a one was left behind: it looks up a name, which nobody can end.
        """
        with self._lock:
            if source.name in self._used:
                raise PeerUnavailable("an earlier transfer still waits for it")
            known = self._open.pop(source.name) if source.name in self._open else None
            client, stack = known or _opened(source)
            self._open[source.name] = (client, stack)
            self._used.add(source.name)
            self._close_some(MAX_OPEN)
        try:
            yield client
        finally:
            with self._lock:
                self._used.remove(source.name)
                if source.is_lent:
                    self._open.pop(source.name)[1].close()

    def close(self) -> None:
        """Close all clients that are not in use."""
        with self._lock:
            self._close_some(0)

    def _close_some(self, kept: int) -> None:
        idle = [name for name in self._open if name not in self._used]
        for name in idle[: max(0, len(self._open) - kept)]:
            self._open.pop(name)[1].close()


def _opened(source: Source) -> tuple[CarSource, ExitStack]:
    stack = ExitStack()
    return stack.enter_context(source.open()), stack
