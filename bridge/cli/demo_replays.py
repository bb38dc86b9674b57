"""The demo's jobs once more, from their exported bundles alone: each is verified offline, run again and compared.

Only jobs of the wasm tier: its engine is part of this program, and the nodes have just proved its limits here.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bridge.cli.content_verbs import download
from bridge.cli.contents import car_beside, read_car_file, write_blocks
from bridge.cli.export_verb import content_of
from bridge.cli.replay_verb import replayed
from bridge.cli.verify_verb import fetch_bundle
from bridge.demo.run import WAIT_SECONDS, DemoRun, Ordered
from bridge.verify import Layered, check_anchors, check_bundle, check_inputs
from executor.content.blockstore import BlockStore
from executor.protocol.bundle import parse_bundle
from executor.protocol.spec import JobSpec

#: scenario -> what a replay has to say; of every other one: that it is the same
EXPECTED = {"f": "differs", "h": "withheld"}


def replay_all(run: DemoRun, ordered: Sequence[Ordered]) -> dict[str, dict[str, Any]]:
    """By scenario: the bundle's file, the verdict and its words. Another verdict than is due is a problem of `run`."""
    from executor.sandbox.wasm import WasmSandbox

    folder = run.folder / "bundles"
    folder.mkdir(exist_ok=True)
    found = {}
    for item in ordered:
        if item.scenario.expect == "EXPIRED" or JobSpec.parse(item.scenario.spec).engine.tier != "wasm":
            continue
        path = folder / f"request-{item.request_id}.json"
        _export(run, item.request_id, path)
        verdict, text = _replay(path, WasmSandbox(), run.net.contract, [node.key for node in run.net.nodes])
        run.hold(item, verdict == EXPECTED.get(item.scenario.key, "reproduced"), f"replay: {text}")
        found[item.scenario.key] = {"bundle": str(path), "verdict": verdict, "text": text}
    return found


def _export(run: DemoRun, request_id: int, path: Path) -> None:
    raw = fetch_bundle(run.http, str(request_id))
    path.write_bytes(raw)
    with tempfile.TemporaryDirectory() as scratch:
        store, roots = BlockStore(Path(scratch)), content_of(parse_bundle(raw))
        for root in roots:
            download(run.http, store, root, WAIT_SECONDS)
        write_blocks(car_beside(path), store, roots)


def _replay(path: Path, sandbox: Any, contract: str, keys: Sequence[str]) -> tuple[str, str]:
    """From the two files at `path`, with contract and node keys as the anchors; nobody is asked."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = BlockStore(folder / "content")
        bundle = parse_bundle(path.read_bytes())
        blocks = Layered([], store)
        checks = [
            read_car_file(car_beside(path), store),
            *check_anchors(bundle, asked="", contract=contract, keys=keys),
        ]
        checks += [*check_bundle(bundle), *check_inputs(bundle, lambda _cid, _into: None, blocks)]
        if wrong := [check for check in checks if not check.ok]:
            return "broken", "; ".join(f"{check.name}: {check.detail}" for check in wrong)
        finding = replayed(bundle, blocks, folder, lambda _tier: sandbox)
    return finding.verdict, finding.text
