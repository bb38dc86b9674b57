"""(g) and (h) of the demo: outputs that are held on their node until a reviewer has signed what becomes of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from bridge.demo.run import POLL_SECONDS, WAIT_SECONDS, DemoRun, Ordered, StepFailed
from executor.protocol.reasons import Reason
from executor.protocol.signing import Key

VAULT, REVIEWER = "vault", "reviewer"

OpenReview = Callable[[Path], AbstractContextManager[Any]]  # executor.agent.review: only the command line imports it


def decide(run: DemoRun, ordered: Ordered, open_review: OpenReview) -> dict[str, Any]:
    """Wait until the job's output is held, look at it, and sign what the scenario wants; what was seen and signed."""
    node = next(node for node in run.net.nodes if node.name == VAULT)
    end = time.monotonic() + WAIT_SECONDS
    while run.look(f"/v1/jobs/{ordered.request_id}")["state"] != "held":
        if time.monotonic() >= end:
            raise StepFailed(f"request {ordered.request_id} is not held after {WAIT_SECONDS:.0f} s")
        time.sleep(POLL_SECONDS)
    approve = ordered.scenario.expect == "FULFILLED"
    with open_review(Path(node.folder)) as review:
        hold = review.find(str(ordered.request_id))
        shown = review.show(hold)
        reason = Reason.NONE if approve else Reason.RELEASE_REJECTED
        made = review.decide(hold, approve, int(reason), Key.load(run.net.keys[REVIEWER]))
    return {
        "name": node.name,
        "nodeId": node.node_id,
        "files": shown["files"],
        "decision": made["decision"],
        "signer": made["signer"],
        "signature": made["signature"],
    }
