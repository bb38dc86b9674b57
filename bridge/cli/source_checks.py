"""What `insula doctor` looks at in a node's own sources of inputs: gateways and a Kubo beside the bridge."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bridge.cli.findings import Finding, note, ok, problem
from bridge.cli.kubo_checks import check_kubo, is_loopback
from executor.content.web import Http
from executor.errors import PeerError

PROBE = "/ipfs/bafkqaaa?format=raw"
"""The empty identity block, by which a trustless gateway is known (its specification)."""
PROBE_SECONDS = 20.0
MAX_ANSWER_BYTES = 4096


def check_sources(folder: Path) -> Iterator[Finding]:
    """Whether each of them answers as what it is listed for. InvalidInput where the folder has no valid node.toml."""
    from executor.agent.config import NodeConfig

    config = NodeConfig.load(folder)
    if not config.gateways and not config.kubo:
        yield ok("inputs", "come from the bridge alone")
        return
    yield note(
        "inputs",
        f"come from the bridge, and from {len(config.gateways)} gateways and {1 if config.kubo else 0} Kubo beside it",
        "what these serve, any job may read; name private content in `data` of policy.toml (docs/operations.md)",
    )
    for url in config.gateways:
        yield from _gateway(url)
    if config.kubo:
        yield from check_kubo(config.kubo, "kubo in node.toml")


def _gateway(url: str) -> Iterator[Finding]:
    name = f"gateway {url}"
    try:
        with Http(url) as http:
            body = http.call("GET", PROBE, seconds=PROBE_SECONDS, max_bytes=MAX_ANSWER_BYTES).body
    except PeerError as exc:
        yield problem(name, str(exc), "correct gateways in node.toml, or wait for it: jobs go on without it")
        return
    if body:
        yield problem(name, "answers, but not as a trustless gateway", "list one that serves raw blocks and CAR")
        return
    yield ok(name, "answers as a trustless gateway")
    if url.startswith("http://") and not is_loopback(url):
        yield note(name, "is asked without encryption; whoever is between sees what is asked for", "use https")
