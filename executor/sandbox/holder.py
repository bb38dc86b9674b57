"""The network namespace of a container that runs. Linux."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from executor.protocol.reasons import Reason
from executor.sandbox.types import SandboxUnavailable


@contextmanager
def network_namespace(pid: int, container: str) -> Iterator[int]:
    """A descriptor of the network namespace of process `pid`, which is that container's. SandboxUnavailable.

    An engine that counts processes otherwise than this node does (the node is in a container itself) tells a number
    that is another process here: what the kernel says of the process has to name the container.
    """
    try:
        namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as exc:
        raise _lost(exc.strerror or "") from exc
    try:
        if container not in _groups(pid):
            raise _lost("its control groups name another container")
        yield namespace
    finally:
        os.close(namespace)


def _groups(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cgroup").read_text()
    except OSError as exc:
        raise _lost(exc.strerror or "") from exc


def _lost(why: str) -> SandboxUnavailable:
    return SandboxUnavailable(Reason.NODE_FAULT, f"the engine's process for a job's network is not to be found: {why}")
