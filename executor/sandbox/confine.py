"""What a child process takes away from itself before it touches a job's bytes (Linux; elsewhere what there is of it).

Defence in depth behind the WebAssembly machine: resource limits, death with the parent, no new privileges, no network.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import threading
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38
_CLONE_NEWNET: Final = 0x40000000


def die_with_parent(parent: int, lifeline: int) -> None:
    """End this process when its parent does, kill -9 included.

    By prctl(2) where the kernel has it, and everywhere by a thread that reads `lifeline`, the read end of a pipe whose
    other end only the parent holds.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it went before the call above
        os._exit(1)
    threading.Thread(target=_watch, args=(lifeline,), daemon=True).start()


def _watch(lifeline: int) -> None:
    while os.read(lifeline, 1):
        pass
    os._exit(1)


def limit_resources(limits: dict[str, int]) -> dict[str, int]:
    """Set resource limits by name ("FSIZE", "CPU", ...), soft and hard; those that are in force then, read back."""
    for name, value in limits.items():
        which = getattr(resource, f"RLIMIT_{name}", None)
        if which is None:
            continue
        _, hard = resource.getrlimit(which)
        wanted = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (wanted, wanted))
    return {
        name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[0]
        for name in limits
        if hasattr(resource, f"RLIMIT_{name}")
    }


def no_new_privileges() -> bool:
    """None by an executable's bits from now on, and no ptrace by others; whether it took effect."""
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    return bool(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0)


def drop_privileges() -> dict[str, bool]:
    """No new privileges, no ptrace by others, and no network where this process may give it up; what took effect."""
    if sys.platform != "linux":
        return {"noNewPrivileges": False, "networkNamespace": False}
    no_network = ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) == 0  # needs root: else False, and said so
    return {"noNewPrivileges": no_new_privileges(), "networkNamespace": no_network}
