"""Places for work that many clients ask for: who waits is let in by turns of the addresses, not by who came first.

So a flood from one address keeps only those waiting that share it: clients behind one proxy, or in one network of
IPv6 (/64), which one machine has as a whole.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import OrderedDict, deque


def client_of(host: str) -> str:
    """Under which name a client waits, by his address."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.version == 4:
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((address.packed[:8] + bytes(8), 64)))


class Turns:
    """At most `places` at a time. For one event loop."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    async def enter(self, who: str, seconds: float) -> None:
        """Take a place, to be given back by `leave`; TimeoutError where none comes free for so long."""
        if self._free:
            self._free -= 1
            return
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(who, deque()).append(mine)
        try:
            async with asyncio.timeout(seconds):
                await mine
        except (TimeoutError, asyncio.CancelledError):
            if mine.done() and not mine.cancelled():
                self.leave()  # the place came at the very moment
            raise

    def leave(self) -> None:
        """Give a place to whose turn it is."""
        while self._waiting:
            who, queue = self._waiting.popitem(last=False)
            future = queue.popleft()
            if queue:
                self._waiting[who] = queue  # behind all others that wait
            if not future.done():
                future.set_result(None)
                return
        self._free += 1
