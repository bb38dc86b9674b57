"""What `insula doctor` looks at in an operator's Kubo."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import replace
from urllib.parse import urlsplit

from bridge.cli.findings import Finding, note, ok, problem
from executor.content.kubo import Kubo
from executor.errors import PeerError

NAME = "kubo"


def check_kubos(addresses: Sequence[str], replicas: int) -> Iterator[Finding]:
    """Each of them, and whether they are as many places as results must be at."""
    peers: dict[str, str] = {}
    for number, address in enumerate(addresses, 1):
        name = NAME if number == 1 else f"{NAME} {number}"
        yield from (replace(finding, name=name) for finding in check_kubo(address))
        peer = _peer(address)
        if peer and peer in peers:
            yield problem(name, f"is the same daemon as {peers[peer]}, peer {peer}", "name it once in content.kubo")
        elif peer:
            peers[peer] = name
    if replicas > 1 + len(peers):
        found = f"results wait until they are at {replicas} places, and {1 + len(peers)} can be reached now"
        yield problem("replicas", found, "see to the Kubos above, or lower content.replicas")
    elif replicas > 1:
        yield ok("replicas", f"results go on-chain once they are at {replicas} of {1 + len(peers)} places")


def _peer(address: str) -> str:
    try:
        with Kubo(address) as daemon:
            return daemon.peer_id()
    except PeerError:
        return ""


def check_kubo(address: str, setting: str = "content.kubo") -> Iterator[Finding]:
    """Whether it answers, can be used, is not open to others, keeps what it is given and tells the network of it.

    setting: where its address stands.
    """
    try:
        with Kubo(address) as daemon:
            facts = daemon.facts()
            if facts.problem:
                yield problem(NAME, facts.problem, "install a newer Kubo, run `ipfs repo migrate`")
                return
            yield ok(NAME, f"{facts.version}, peer {facts.peer_id}, {len(daemon.peers())} peers connected")
            yield from _settings(daemon)
    except PeerError as exc:
        yield problem(NAME, str(exc), f"start it (`ipfs daemon`), or correct {setting}")
        return
    if not is_loopback(address):
        remedy = "bind Addresses.API to loopback, and reach it through a tunnel"
        yield note(NAME, f"{address} is not on loopback; whoever reaches it owns the daemon", remedy)


def _settings(daemon: Kubo) -> Iterator[Finding]:
    strategy = str(daemon.setting("Provide.Strategy") or "all")
    if not {"all", "roots", "pinned"} & set(strategy.split("+")):
        remedy = "ipfs config Provide.Strategy roots"
        yield note(NAME, f"Provide.Strategy is {strategy}: results may not be found by others", remedy)
    if daemon.setting("Provide.Enabled") is False:
        yield note(
            NAME, "Provide.Enabled is false: nobody is told of results", "ipfs config --json Provide.Enabled true"
        )
    yield ok(NAME, f"Datastore.StorageMax {daemon.setting('Datastore.StorageMax') or 'not set'}")


def is_loopback(address: str) -> bool:
    """Whether a URL's host is this machine itself."""
    host = urlsplit(address).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
