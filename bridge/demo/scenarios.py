"""The jobs of the demo: what is ordered, and what has to come of it. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from executor.protocol.cid import Cid
from executor.protocol.wire import ResultKind

UNIT_PRICE = 10**15  # wei for each node when the job succeeded
FAIL_PRICE = 4 * 10**14  # when it ran and failed
DELIVERY_FEE = 10**14  # for the relayer


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One order of the demo. `expect`: the contract's state that must come of it; `ttl` in seconds."""

    key: str
    title: str
    spec: bytes
    labels: tuple[str, ...]
    result_kind: ResultKind
    ttl: int
    expect: str
    nodes: int = 1
    quorum: int = 1

    @property
    def price(self) -> int:
        """What the order pays in, in wei."""
        return self.nodes * UNIT_PRICE + DELIVERY_FEE


def _spec(engine: dict[str, Any], *, selector: str, inputs: dict[str, Cid] | None = None, wall: int = 20) -> bytes:
    return json.dumps(
        {
            "version": "insula/v1",
            "engine": engine,
            "inputs": [{"cid": str(cid), "path": path} for path, cid in (inputs or {}).items()],
            "limits": {"wallSeconds": wall, "memoryBytes": 128 * 2**20, "cpuMillis": 500},
            "selector": selector,
        },
        separators=(",", ":"),
    ).encode()


def wasm(module: Cid, data: Cid) -> Scenario:
    """(a) A WASM program reads an access point's log of some MB on the node at the access point."""
    return Scenario(
        key="a",
        title="a WASM job on an access point's log, on the node that carries site=ap",
        spec=_spec(
            {"type": "wasm", "module": str(module), "args": ["/inputs/access.log"]},
            selector="site=ap",
            inputs={"/inputs/access.log": data},
        ),
        labels=("site=ap",),
        result_kind=ResultKind.STDOUT,
        ttl=60,
        expect="FULFILLED",
    )


def container(image: str, archive: Cid, data: Cid) -> Scenario:
    """(b) A container computes a histogram of the same file on the node in the lab."""
    return Scenario(
        key="b",
        title="a container job from an image that was built just now, on the node that carries gpu=true and zone=lab",
        spec=_spec(
            {"type": "docker", "image": image, "archive": str(archive), "args": ["/inputs/access.log"]},
            selector="gpu=true,zone in (lab)",
            inputs={"/inputs/access.log": data},
        ),
        labels=("gpu=true", "zone=lab"),
        result_kind=ResultKind.CID,
        ttl=60,
        expect="FULFILLED",
    )


def failing(module: Cid) -> Scenario:
    """(c) A program that ends with exit code 3: the node is paid its fail price, the rest goes back."""
    return Scenario(
        key="c",
        title="a job that fails with exit code 3, on the node that carries site=camera",
        spec=_spec({"type": "wasm", "module": str(module)}, selector="site=camera"),
        labels=("site=camera",),
        result_kind=ResultKind.EXIT_CODE,
        ttl=60,
        expect="FAILED",
    )


def unmatched(module: Cid) -> Scenario:
    """(d) A selector that no node matches: explained node by node, refunded in full at its deadline."""
    return Scenario(
        key="d",
        title="a job for a node that carries site=moon, which none does",
        spec=_spec({"type": "wasm", "module": str(module)}, selector="site=moon", wall=2),
        labels=("site=moon",),
        result_kind=ResultKind.CID,
        ttl=12,
        expect="EXPIRED",
    )


def outvoting(module: Cid, data: Cid) -> Scenario:
    """(e) The program of (a) on three nodes, two of which must agree; one of the three makes its answer up."""
    return Scenario(
        key="e",
        title="a quorum of 2 of the 3 nodes that carry pool=logs, one of which lies",
        spec=_spec(
            {"type": "wasm", "module": str(module), "args": ["/inputs/access.log"]},
            selector="pool=logs",
            inputs={"/inputs/access.log": data},
        ),
        labels=("pool=logs",),
        result_kind=ResultKind.STDOUT,
        ttl=60,
        expect="FULFILLED",
        nodes=3,
        quorum=2,
    )


def reviewed(module: Cid, data: Cid, *, approved: bool) -> Scenario:
    """(g), (h) The program of (a) where a person decides what leaves: one output is released, the other is not."""
    return Scenario(
        key="g" if approved else "h",
        title="a job on the node that carries site=vault, whose output a reviewer "
        + ("releases by a signature" if approved else "rejects: nothing of it leaves the node"),
        spec=_spec(
            {"type": "wasm", "module": str(module), "args": ["/inputs/access.log"]},
            selector="site=vault",
            inputs={"/inputs/access.log": data},
        ),
        labels=("site=vault",),
        result_kind=ResultKind.STDOUT,
        ttl=300,
        expect="FULFILLED" if approved else "WITHHELD",
    )


def contradicting(module: Cid) -> Scenario:
    """(f) The program of (c) on the lying node alone: it signs that it ended with 0, and then that it ended with 3.

    The contract takes the first, as the order trusts this one node; the two together cost the node its stake.
    """
    return Scenario(
        key="f",
        title="a job for the node that lies alone: it signs two outcomes, and a stranger proves it",
        spec=_spec({"type": "wasm", "module": str(module)}, selector="site=attic"),
        labels=("site=attic",),
        result_kind=ResultKind.EXIT_CODE,
        ttl=60,
        expect="FULFILLED",
    )
