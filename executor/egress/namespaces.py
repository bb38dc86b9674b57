"""Network namespaces of Linux: a socket that is bound in another one and used from here.

setns(2), network_namespaces(7). A socket belongs for good to the namespace that it was made in. For a process with one
thread only.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from pathlib import Path
from typing import Final

_CLONE_NEWNET: Final = 0x40000000
_SIOCGIFFLAGS: Final = 0x8913
_IFF_UP: Final = 1
_OWN: Final = "/proc/self/ns/net"
_LOOPBACK_ALONE: Final = {"lo"}


class NoNamespace(Exception):
    """It cannot be entered, or is not what it has to be. The message says why."""


def listen_within(namespace: int, address: tuple[str, int], backlog: int) -> socket.socket:
    """A socket that listens on an IPv4 address of the namespace that the descriptor stands for. NoNamespace.

    The namespace must not be this process's own, and nothing in it may be up but the loopback interface: kernels put
    tunnels that are down into each new one.
    """
    if _same(namespace):
        raise NoNamespace("the job's network namespace is the node's own")
    own = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(namespace)
        try:
            found = _up()
            if found != _LOOPBACK_ALONE:
                raise NoNamespace(f"the job's network namespace has {', '.join(sorted(found)) or 'nothing'} up")
            return socket.create_server(address, backlog=backlog)
        finally:
            _enter(own)
    finally:
        os.close(own)


def try_out() -> None:
    """Make a namespace, go there and come back. NoNamespace where this process may not."""
    own = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc().unshare(_CLONE_NEWNET) != 0:
            raise NoNamespace(f"no network namespace can be made ({os.strerror(ctypes.get_errno())})")
        _enter(own)
    finally:
        os.close(own)


def _same(namespace: int) -> bool:
    there, here = os.fstat(namespace), Path(_OWN).stat()
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)


def _enter(namespace: int) -> None:
    if _libc().setns(namespace, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise NoNamespace(f"the network namespace cannot be entered ({os.strerror(number)})")


def _up() -> set[str]:
    """The interfaces of this namespace that are up."""
    found = set()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as look:
        for _, name in socket.if_nameindex():
            answer = fcntl.ioctl(look, _SIOCGIFFLAGS, struct.pack("16sH14x", name.encode(), 0))
            if struct.unpack("16sH14x", answer)[1] & _IFF_UP:
                found.add(name)
    return found


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
