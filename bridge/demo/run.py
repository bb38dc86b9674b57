"""The main job, end to end: order by a contract, run on labelled nodes, result on-chain, verified down to the bytes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bridge.chain.client import ChainClient, Log, TxReceipt
from bridge.chain.contracts import book_order_calldata, compute_bridge
from bridge.chain.operate import send_and_wait
from bridge.chain.views import BookViews, BridgeViews
from bridge.demo.content import Prepared
from bridge.demo.scenarios import (
    DELIVERY_FEE,
    FAIL_PRICE,
    UNIT_PRICE,
    Scenario,
    container,
    contradicting,
    failing,
    outvoting,
    reviewed,
    unmatched,
    wasm,
)
from bridge.devnet.net import TEST_KEYS, Devnet, NodePlan
from bridge.errors import BridgeError
from bridge.verify import check_bundle, check_content
from bridge.verify_chain import check_chain
from bridge.verify_check import Check
from executor.content import unixfs
from executor.content.blocks import BlockStoreLike
from executor.content.blockstore import BlockStore
from executor.content.patience import Patience
from executor.content.transfer import fetch_dag
from executor.content.web import Http, gateway_peer
from executor.errors import PeerRefused
from executor.protocol.bundle import MAX_BUNDLE_BYTES, Bundle
from executor.protocol.cid import Cid
from executor.protocol.signing import Key
from executor.protocol.spec import JobSpec
from executor.protocol.wire import OnChainState, Order, Outcome, label_hash

WAIT_SECONDS = 60.0
POLL_SECONDS = 0.3
LATE_TIMES = 3  # nothing but its own haste brings the demo's liar before the others' agreement
SETTLED = ("posted", "final", "expired", "cancelled")

Say = Callable[[str], None]

#: Of the node in the vault: a person decides what leaves it.
VAULT_POLICY = f'[release]\nmode = "person"\nsigners = ["{Key.from_hex(TEST_KEYS["reviewer"]).address}"]\n'

#: The demo's nodes: three of them could answer (e), and the one that lies is alone in the attic.
PLANS = (
    NodePlan("camera", ("pool=logs", "site=camera")),
    NodePlan("ap", ("pool=logs", "site=ap")),
    NodePlan("gpu", ("gpu=true", "zone=lab")),
    NodePlan("rogue", ("pool=logs", "site=attic"), module="bridge.demo.rogue"),
    NodePlan("vault", ("site=vault",), policy=VAULT_POLICY),
)


class StepFailed(BridgeError):
    """A step of the demo did not hold."""


@dataclass
class Ordered:
    """A scenario whose order is on-chain."""

    scenario: Scenario
    request_id: int
    receipt: TxReceipt


@dataclass
class DemoRun:
    """The running demo: where everything is, and what has been found out so far."""

    net: Devnet
    client: ChainClient
    http: Http
    folder: Path
    say: Say
    problems: list[str] = field(default_factory=list)

    def jobs_for(self, prepared: Prepared) -> list[Scenario]:
        """The scenarios; the one that has to wait for its deadline comes first."""
        jobs = [
            unmatched(prepared.exit3),
            outvoting(prepared.logstat, prepared.log),
            contradicting(prepared.exit3),
            reviewed(prepared.logstat, prepared.log, approved=True),
            reviewed(prepared.logstat, prepared.log, approved=False),
            wasm(prepared.logstat, prepared.log),
            failing(prepared.exit3),
        ]
        if prepared.image:
            jobs.append(container(prepared.image.id, prepared.image.archive, prepared.log))
        return jobs

    def order(self, scenario: Scenario) -> Ordered:
        """Let the dApp contract order the job by a transaction of the requester's."""
        order = Order(
            spec=scenario.spec,
            result_kind=int(scenario.result_kind),
            nodes=scenario.nodes,
            quorum=scenario.quorum,
            ttl=scenario.ttl,
            curator=self.net.curator,
            labels=tuple(sorted(label_hash(word) for word in scenario.labels)),
            unit_price=UNIT_PRICE,
            fail_price=FAIL_PRICE,
            delivery_fee=DELIVERY_FEE,
        )
        receipt = send_and_wait(
            self.client,
            self.net.signer("requester"),
            self.net.result_book,
            book_order_calldata(order),
            order.price,
            WAIT_SECONDS,
        )
        (requested,) = self._logs("JobRequested", receipt.block_number, receipt.tx_hash)
        request_id = int.from_bytes(requested.topics[1], "big")
        self.say(f"({scenario.key}) request {request_id}: {scenario.title}")
        return Ordered(scenario, request_id, receipt)

    def wait(self, ordered: Ordered) -> dict[str, Any]:
        """Wait until the job is settled; the bridge's view of it."""
        end = time.monotonic() + WAIT_SECONDS
        job: dict[str, Any] = {"state": "not seen by the bridge yet"}
        while time.monotonic() < end:
            try:
                job = self.look(f"/v1/jobs/{ordered.request_id}")
            except PeerRefused as exc:
                if exc.name != "unknown-job":
                    raise
            if job["state"] in SETTLED:
                return job
            time.sleep(POLL_SECONDS)
        raise StepFailed(f"request {ordered.request_id} is not settled after {WAIT_SECONDS:.0f} s: {job}")

    def report(self, ordered: Ordered, explanation: dict[str, Any] | None = None) -> dict[str, Any]:
        """Everything that there is to show about a settled job."""
        job = self.wait(ordered)
        state, _ = self._state(ordered.request_id)
        self.hold(
            ordered, state.name == ordered.scenario.expect, f"ended as {state.name}, not {ordered.scenario.expect}"
        )
        paid = self._payments(job)
        found: dict[str, Any] = {
            "key": ordered.scenario.key,
            "title": ordered.scenario.title,
            "requestId": ordered.request_id,
            "requestHash": job["request_hash"],
            "state": state.name,
            "requestTransaction": ordered.receipt.tx_hash,
            "resultTransaction": job["settled_tx"],
            "inputs": [str(cid) for cid in JobSpec.parse(ordered.scenario.spec).content],
            "paymentsInWei": {name: str(amount) for name, amount in paid.items()},
        }
        if state is OnChainState.EXPIRED:
            found["explanation"] = explanation
            self.hold(ordered, sum(paid.values()) == ordered.scenario.price, "the refund is not the price")
            return found
        bundle = self._bundle(ordered.request_id)
        found["nodes"] = [self._node(item.node_id) for item in bundle.attestations]
        found["outvoted"] = self._outvoted(ordered, paid)
        found.update(self._stored_by_dapp(ordered, bundle))
        found.update(self._verified(ordered, bundle))
        return found

    def in_time(self, ordered: Ordered) -> Ordered:
        """The order; another one where its liar came after the others had agreed, so that nobody was outvoted."""
        for _ in range(LATE_TIMES):
            self.wait(ordered)
            if ordered.scenario.nodes == ordered.scenario.quorum or self._ended(ordered)["outvoted"]:
                break
            self.say(f"({ordered.scenario.key}) the others agreed before the liar had answered: ordered once more")
            ordered = self.order(ordered.scenario)
        return ordered

    def explain(self, ordered: Ordered) -> dict[str, Any]:
        """Why no node takes a job, node by node, once the bridge has looked."""
        end = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < end:
            explanation = self.look(f"/v1/jobs/{ordered.request_id}/explain")
            if len(explanation["nodes"]) >= len(self.net.nodes):
                return explanation
            time.sleep(POLL_SECONDS)
        raise StepFailed(f"request {ordered.request_id} is not explained: {explanation}")

    def _outvoted(self, ordered: Ordered, paid: dict[str, int]) -> list[dict[str, Any]]:
        """Whom `insula job explain` names as outvoted, and what was paid for it."""
        ended = self._ended(ordered)
        found = []
        for one in ended["outvoted"]:
            node = self._node(one["node_id"])
            amount = paid.get(f"operator of node {node['name']}", 0)
            self.hold(ordered, amount == 0, f"node {one['node_id']} was outvoted and paid all the same")
            said = {"status": one["status_name"], "exitCode": one["exit_code"], "outcomeHash": one["outcome_hash"]}
            found.append({**node, **said, "agreedOutcomeHash": ended["outcome_hash"], "paidInWei": str(amount)})
        due = ordered.scenario.nodes - ordered.scenario.quorum
        self.hold(ordered, len(found) == due, f"{len(found)} nodes are named as outvoted, not {due}")
        return found

    def _ended(self, ordered: Ordered) -> dict[str, Any]:
        ended: dict[str, Any] = self.look(f"/v1/jobs/{ordered.request_id}/explain")["ended"]
        return ended

    def _stored_by_dapp(self, ordered: Ordered, bundle: Bundle) -> dict[str, Any]:
        outcome = Outcome.decode(bundle.outcome)
        stored = BookViews(self.client, self.net.result_book).result_of(ordered.request_id)
        self.hold(ordered, stored == outcome, "the dApp contract did not store the outcome")
        return {
            "outcome": {
                "status": outcome.status,
                "reason": outcome.reason,
                "exitCode": outcome.exit_code,
                "payload": outcome.payload.decode("utf-8", "replace"),
            },
            "outputCid": str(Cid.from_binary(outcome.output_cid)) if outcome.output_cid else None,
            "storedByDapp": stored == outcome,
        }

    def _verified(self, ordered: Ordered, bundle: Bundle) -> dict[str, Any]:
        store = BlockStore(self.folder / "fetched")
        checks = [*check_bundle(bundle), *check_content(bundle, self._fetch, store)]
        checks += check_chain(bundle, self.client, self.net.contract)
        for check in checks:
            self.hold(ordered, check.ok, f"verification: {check.name}: {check.detail}")
        outcome = Outcome.decode(bundle.outcome)
        files: list[dict[str, str | int]] = []
        if outcome.output_cid and all(check.ok for check in checks):
            limits = unixfs.TreeLimits(max_bytes=2**30)
            files = unixfs.manifest(store, Cid.from_binary(outcome.output_cid), limits).rows()
        return {"output": files, "verified": all(check.ok for check in checks), "checks": [_check(c) for c in checks]}

    def _fetch(self, cid: Cid, store: BlockStoreLike) -> None:
        patience = Patience(time.time() + WAIT_SECONDS)
        fetch_dag(gateway_peer(self.http), store, cid, max_bytes=2**30, patience=patience)

    def _payments(self, job: dict[str, Any]) -> dict[str, int]:
        """What the settling transaction credited for this job, by name."""
        names = {self.net.result_book.lower(): "requester (the dApp contract)"}
        names |= {node.operator.lower(): f"operator of node {node.name}" for node in self.net.nodes}
        names[self.net.signer("relayer").address.lower()] = "relayer"
        operators = {node.node_id: node.operator.lower() for node in self.net.nodes}
        attested, credited = (compute_bridge().event_topic(event) for event in ("Attested", "Credited"))
        amounts = []
        for log in self._settling_logs(job):
            if log.topics[0] == attested:
                operator = operators[int.from_bytes(log.topics[2], "big")]
                amounts.append((operator, int.from_bytes(log.data[96:128], "big")))
            elif log.topics[0] == credited:
                amounts.append((f"0x{log.topics[1][-20:].hex()}", int.from_bytes(log.data[:32], "big")))
        paid: dict[str, int] = {}
        for account, amount in amounts:
            if amount:
                name = names.get(account, account)
                paid[name] = paid.get(name, 0) + amount
        return paid

    def _node(self, node_id: int) -> dict[str, Any]:
        node = next(node for node in self.net.nodes if node.node_id == node_id)
        return {"name": node.name, "nodeId": node.node_id, "key": node.key, "labels": list(node.labels)}

    def _state(self, request_id: int) -> tuple[OnChainState, bytes]:
        result = BridgeViews(self.client, self.net.contract).result_of(request_id)
        return result.state, result.digest

    def _bundle(self, request_id: int) -> Bundle:
        body = self.http.call("GET", f"/v1/jobs/{request_id}/bundle", max_bytes=MAX_BUNDLE_BYTES).body
        return Bundle.model_validate_json(body)

    def look(self, path: str) -> dict[str, Any]:
        """What the bridge answers to anybody."""
        value: dict[str, Any] = json.loads(self.http.call("GET", path).body)
        return value

    def _logs(self, event: str, block: int, tx_hash: bytes) -> list[Log]:
        topic = compute_bridge().event_topic(event)
        logs = self.client.logs_by_range(block, block, self.net.contract)
        return [log for log in logs if log.tx_hash == tx_hash and log.topics[0] == topic]

    def _settling_logs(self, job: dict[str, Any]) -> Iterator[Log]:
        """The contract's logs about this job in its settling transaction, which may settle others before and after."""
        begins = {compute_bridge().event_topic(event) for event in ("JobSettled", "JobExpired")}
        block, current = job["settled_block_number"], None
        for log in self.client.logs_by_range(block, block, self.net.contract):
            if f"0x{log.tx_hash.hex()}" != job["settled_tx"]:
                continue
            if log.topics[0] in begins:
                current = int.from_bytes(log.topics[1], "big")
            if current == job["request_id"]:
                yield log

    def hold(self, ordered: Ordered, holds: bool, problem: str) -> None:
        """Note a problem unless it holds."""
        if not holds:
            self.problems.append(f"({ordered.scenario.key}) request {ordered.request_id}: {problem}")


def _check(check: Check) -> dict[str, Any]:
    return {"name": check.name, "ok": check.ok, "basis": check.basis.value, "detail": check.detail}


def offers_containers(http: Http) -> bool:
    """Whether the node for the container job runs containers."""
    answer = json.loads(http.call("GET", "/v1/nodes").body)
    return any("container" in node["tiers"] for node in answer["nodes"] if "gpu=true" in node["labels"])
