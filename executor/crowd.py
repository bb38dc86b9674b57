"""How many connections a server holds: never more than the process has descriptors for.

uvicorn's `limit_concurrency` answers requests with 503 and counts nothing that sends none, and asyncio accepts whatever
comes: a crowd of silent connections would leave no descriptor for the database and for the chain.
"""

from __future__ import annotations

import resource
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

WANTED_FILES = 65_536  # the soft limit is raised to this, as far as the hard limit lets it
RESERVED_FILES = 256  # for the database, blocks, bodies on disk, calls to the chain, and the libraries
MOST_CONNECTIONS = 8192  # each may buffer a header of 32 KiB
FEWEST_CONNECTIONS = 16
_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def raise_file_limit(wanted: int = WANTED_FILES) -> int:
    """Raise this process's soft limit of open files towards its hard limit; the soft limit then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft == resource.RLIM_INFINITY or soft >= target:
        return wanted if soft == resource.RLIM_INFINITY else soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
    return target


def connections_within(files: int) -> int:
    """How many connections a process with so many descriptors may hold. Pure."""
    return max(FEWEST_CONNECTIONS, min(MOST_CONNECTIONS, files - RESERVED_FILES))


class Crowd:
    """The open connections of one server: at most `most`. Used by the server's one thread.

    Where it is full, who has waited longest without asking for anything makes room for who comes.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.open = 0
        self._idle: dict[object, Callable[[], None]] = {}  # in the order in which they became idle

    def idle(self, connection: object, end: Callable[[], None]) -> None:
        """This connection waits for a request; `end` closes it."""
        self._idle.pop(connection, None)
        self._idle[connection] = end

    def busy(self, connection: object) -> None:
        """This connection's request is being answered: it is left alone."""
        self._idle.pop(connection, None)

    def lost(self, connection: object) -> None:
        """This connection has ended."""
        self._idle.pop(connection, None)
        self.open -= 1

    def make_room(self) -> bool:
        """End the connection that has been idle longest; False if none is."""
        for connection, end in self._idle.items():
            del self._idle[connection]
            end()
            return True
        return False


class Door(socket.socket):
    """A listening socket that lets in no more than a crowd may hold."""

    crowd: Crowd

    def accept(self) -> tuple[socket.socket, Any]:
        """As of `socket.socket`. BlockingIOError where nobody may come in now: asyncio then asks again."""
        is_full = self.crowd.open >= self.crowd.most
        if is_full and self.crowd.make_room():
            raise BlockingIOError  # the room is there in the loop's next round, and the one who waits still waits
        connection, address = super().accept()
        if is_full:
            with connection, suppress(OSError):
                connection.setblocking(False)
                connection.send(_BUSY)
            raise BlockingIOError
        self.crowd.open += 1
        return connection, address


def open_door(listening: socket.socket, crowd: Crowd) -> Door:
    """The door on a bound socket, which is the door's from now on."""
    door = Door(fileno=listening.detach())
    door.set_inheritable(False)
    door.crowd = crowd
    return door
