"""(f) of the demo, from the stake of the node that lies to the proof of a stranger, who is nobody to the contracts."""

from __future__ import annotations

import time
from typing import Any

from bridge.chain.operate import add_stake, slash
from bridge.chain.views import RegistryViews
from bridge.demo.run import POLL_SECONDS, WAIT_SECONDS, DemoRun, Ordered, StepFailed
from bridge.devnet.net import DevnetNode
from executor.protocol.evidence import Evidence, check_evidence

STAKE = 10**18  # wei
ROGUE, STRANGER = "rogue", "stranger"


def put_at_stake(run: DemoRun) -> None:
    """The operator of the node that will lie puts something at stake."""
    node = _rogue(run)
    add_stake(run.client, run.net.signer(ROGUE), run.net.registry, node.node_id, STAKE)


def prove(run: DemoRun, ordered: Ordered) -> dict[str, Any]:
    """A stranger gets the two signatures from the bridge and sends them to the registry; who lost and got what."""
    node, prover = _rogue(run), run.net.signer(STRANGER)
    registry = RegistryViews(run.client, run.net.registry)
    evidence = _evidence(run, node)
    check_evidence(evidence)
    before = registry.stake_of(node.node_id)
    receipt = slash(run.client, prover, run.net.registry, evidence)
    after, reward = registry.stake_of(node.node_id), registry.reward_of(prover.address)
    lost = before.bonded - after.bonded
    alarms = [alarm["alarm"] for alarm in run.look("/v1/status")["alarms"]]
    run.hold(ordered, (before.bonded, after.bonded) == (STAKE, 0), "the stake is not gone")
    run.hold(ordered, reward == STAKE // 10, f"the stranger's reward is {reward} wei, not a tenth")
    run.hold(ordered, "node_contradiction" in alarms, "the bridge raised no alarm")
    return {
        "nodeId": node.node_id,
        "name": node.name,
        "key": evidence.key,
        "outcomeHashes": [evidence.first.outcome_hash, evidence.second.outcome_hash],
        "stakeBeforeInWei": str(before.bonded),
        "stakeAfterInWei": str(after.bonded),
        "prover": prover.address,
        "rewardInWei": str(reward),
        "burnedInWei": str(lost - reward),
        "transaction": receipt.tx_hash,
    }


def _rogue(run: DemoRun) -> DevnetNode:
    return next(node for node in run.net.nodes if node.name == ROGUE)


def _evidence(run: DemoRun, node: DevnetNode) -> Evidence:
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        found = run.look(f"/v1/nodes/{node.node_id}/evidence")["found"]
        if found:
            return Evidence.model_validate(found[0]["evidence"])
        time.sleep(POLL_SECONDS)
    raise StepFailed(f"the bridge has no evidence against node {node.node_id}, which signs two outcomes")
