"""The proxy's process: one for each execution, root for as long as it takes to bind in the job's namespace.

In: one line of JSON (`gate`), later one more line to end. Out: one line when it listens, and the record as the last.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Any, Final

from executor.egress.namespaces import NoNamespace, listen_within, try_out
from executor.egress.proxy import BACKLOG, Allowance, Proxy
from executor.egress.world import World, system
from executor.protocol.network import Destination
from executor.sandbox.confine import die_with_parent, limit_resources, no_new_privileges

PROXY_OWNER: Final = 65532
"""uid and gid of a proxy: neither root's nor a job's."""
_NICE: Final = 10  # what it uses does not count as the job's
_RESOURCES: Final = {"CORE": 0, "FSIZE": 0, "NOFILE": 512, "DATA": 2**30}


def main(world: World | None = None) -> None:
    """Until told to end. world: another network outside, of tests."""
    given = json.loads(sys.stdin.buffer.readline(2**20))
    try:
        if given["try"]:
            try_out()
            _give_up_rights(given)
            _say({"ready": True})
            return
        listener = listen_within(given["namespace"], ("127.0.0.1", given["port"]), BACKLOG)
        os.close(given["namespace"])
        _give_up_rights(given)
    except (NoNamespace, OSError) as exc:
        _say({"problem": str(exc)})
        return
    proxy = Proxy(listener, allowance_of(given), world or system(), time.time)
    server = threading.Thread(target=proxy.serve, daemon=True)
    server.start()
    _say({"ready": True})
    if not sys.stdin.buffer.readline(16):  # the node is gone: nobody asks for the record
        os._exit(1)
    proxy.stop()
    _say(proxy.journal.record())
    sys.stdout.flush()
    os._exit(0)  # a thread that waits for the resolver does not keep it


def allowance_of(given: dict[str, Any]) -> Allowance:
    """From the line of JSON."""
    return Allowance(
        destinations=[Destination(host, tuple(ports)) for host, ports in given["destinations"]],
        bytes_out=given["bytesOut"],
        bytes_in=given["bytesIn"],
        exchanges=given["exchanges"],
        exchange_seconds=given["exchangeSeconds"],
        connections=given["connections"],
    )


def _give_up_rights(given: dict[str, Any]) -> None:
    """Nothing of root's is left, and no way back; it ends with the node."""
    os.chdir("/")
    os.nice(_NICE)
    limit_resources(_RESOURCES)
    os.setgroups([])
    os.setresgid(PROXY_OWNER, PROXY_OWNER, PROXY_OWNER)
    os.setresuid(PROXY_OWNER, PROXY_OWNER, PROXY_OWNER)  # takes every capability away, too
    no_new_privileges()
    die_with_parent(given["parent"], given["lifeline"])


def _say(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()
