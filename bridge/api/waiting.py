"""Calls that wait until something has changed. Any thread may tell them; only the server's own loop waits."""

from __future__ import annotations

import asyncio
import threading


class Waiting:
    """One event for everybody who waits; each change lets all of them look again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiters: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}

    def changed(self) -> None:
        """Wake everybody who waits. From any thread."""
        with self._lock:
            waiters = list(self._waiters.items())
        for event, loop in waiters:
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)

    def enter(self) -> asyncio.Event:
        """Begin to listen: set before looking, so that no change is missed. Call `leave` at the end."""
        event = asyncio.Event()
        with self._lock:
            self._waiters[event] = asyncio.get_running_loop()
        return event

    def leave(self, event: asyncio.Event) -> None:
        """Listen no longer."""
        with self._lock:
            self._waiters.pop(event, None)


async def wait(event: asyncio.Event, seconds: float) -> None:
    """Wait until the event is set, at most `seconds`; then clear it."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
    event.clear()
