"""What may go wrong, and an endpoint that lies, fails and dies by a seeded plan.

A lie that no reader of one endpoint can see through is not told: ranges leave out requests, which the contract counts,
never another event alone; a state by number is refused, never false, and is never refused where ranges lie.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import orjson
from eth_utils.crypto import keccak

from bridge.chain.events import TOPICS, Kind
from bridge.errors import RpcUnavailable
from tests.simulation.node import Chain, SimBlock
from tests.simulation.rpc import Dialect, SimNode, block_json

#: kind -> the chances that a run picks one of; most runs have only some kinds of faults, so that each is seen alone
CHANCES: dict[str, tuple[float, ...]] = {
    # the way to the endpoint
    "lost before": (0, 0, 0.02, 0.1),
    "lost after": (0, 0, 0.02, 0.1),
    "broken answer": (0, 0, 0.02, 0.1),
    "killed before a call": (0, 0, 0.005, 0.02),
    "killed after a call": (0, 0, 0.005, 0.02),
    "killed at a commit": (0, 0.03, 0.12),
    "killed at a begin": (0, 0.02, 0.06),
    "killed after a commit": (0, 0.02, 0.06),
    "killed at a read": (0, 0, 0.01),
    "reorg while down": (0, 0, 0.3),
    # what the endpoint says
    "logs left out": (0, 0, 0.1, 0.5),
    "range leaves out": (0, 0, 0.1, 0.4),
    "logs twice": (0, 0, 0.1, 0.5),
    "logs not yet": (0, 0, 0.05, 0.2),
    "head is older": (0, 0, 0.05, 0.3),
    "head of a fork": (0, 0, 0.05, 0.2),
    "state is older": (0, 0, 0.05, 0.3),
    "state refused": (0, 0, 0.1, 0.4),
    "receipt missing": (0, 0, 0.2, 0.9),
    "receipt of another": (0, 0, 0.1),
    "estimate too low": (0, 0, 0.1),
    "estimate refused": (0, 0, 0.1),
    "sent, answer lost": (0, 0, 0.2, 0.5),
    "sent, not kept": (0, 0, 0.1, 0.4),
    "sending refused": (0, 0, 0.1, 0.3),
    "fees too high": (0, 0, 0, 0.1),
    # the chain and its people, by epoch
    "null rounds": (0, 0.1, 0.4),
    "long null run": (0, 0, 0.03),
    "reorg": (0, 0.15, 0.35),
    "reorg between loops": (0, 0, 0.25),
    "stuck": (0, 0, 0.4),
    "dropped": (0, 0, 0.2),
    "stranger": (0, 0, 0.2),
    "cancelled": (0, 0, 0.15),
    "short deadline": (0, 0.15, 0.5),
    "down for long": (0, 0, 0, 0.04),
    "database deleted": (0, 0, 0, 0.04),
    "restart": (0, 0.05),
    "loop asleep": (0, 0, 0.3),
}
LOW_ESTIMATES = 2  # in one run; three failures of one delivery end it, and rightly
_WORDS = {kind.value: topic for topic, kind in TOPICS.items()}
_REQUESTED = "0x" + _WORDS[Kind.REQUESTED.value].hex()


class Killed(BaseException):
    """The process is gone."""


@dataclass(frozen=True)
class Aim:
    """A kill that comes for certain if the run gets there, once at each place: see tests/simulation/kills.py."""

    places: tuple[str, ...]
    moment: str
    visit: int = 1  # at which the kill comes


class Plan:
    """Which faults this run has, drawn from its seed, and how often each came."""

    def __init__(self, seed: int, random: Random) -> None:
        self.seed = seed
        self.random = random
        self.on = True
        self.counts: Counter[str] = Counter()
        self.chances = {kind: random.choice(chances) for kind, chances in CHANCES.items()}
        if self.chances["range leaves out"]:
            self.chances["state refused"] = 0
            self.chances["logs left out"] = random.choice((0.1, 0.5))  # a log that both readings lack
        self.aim: Aim | None = None
        self.trace: Callable[[str], None] = lambda _: None

    def now(self, kind: str) -> bool:
        """Whether this fault comes now."""
        chance = self.chances[kind]
        if not self.on or not chance or self.random.random() >= chance:
            return False
        self.note(kind)
        return True

    def note(self, kind: str) -> None:
        """A fault that comes now."""
        self.counts[kind] += 1
        self.trace(f"fault: {kind}")


class FaultyNode(SimNode):
    """A SimNode between which and its client things happen."""

    def __init__(self, chain: Chain, dialect: Dialect, plan: Plan) -> None:
        super().__init__(chain, dialect)
        self.plan = plan
        self.finality_depth = 0
        self.behind = 0  # by so many blocks its heads are old, and its states are not: one name for several nodes
        self.final = 0  # the newest block that any head which was shown made final: it never leaves the chain
        self.shown: dict[bytes, int] = {}  # block hash -> the highest head above it that was shown
        self.on_send: Callable[[bytes], None] = lambda _: None
        self.on_call: Callable[[], None] = lambda: None
        self._rules: dict[str, Callable[[dict[str, Any]], dict[str, Any] | None]] = {
            "eth_getLogs": self._faulty_logs,
            "eth_getBlockByNumber": self._faulty_head,
            "eth_call": self._faulty_state,
            "eth_getTransactionCount": self._faulty_state,
            "eth_getTransactionReceipt": self._faulty_receipt,
            "eth_estimateGas": self._faulty_estimate,
            "eth_sendRawTransaction": self._faulty_send,
        }

    def post(self, body: bytes) -> tuple[int, bytes]:
        """See `Transport`. RpcUnavailable or Killed where the plan says so."""
        plan = self.plan
        self.on_call()
        if plan.now("killed before a call"):
            raise Killed
        if plan.now("lost before"):
            raise RpcUnavailable("the endpoint does not answer")
        document = orjson.loads(body)
        many = isinstance(document, list)
        answers = [self._answer(request) for request in (document if many else [document])]
        if plan.now("killed after a call"):
            raise Killed
        if plan.now("lost after"):
            raise RpcUnavailable("the answer was lost")
        sent = orjson.dumps(answers if many else answers[0])
        return self._broken(sent) if plan.now("broken answer") else (200, sent)

    def _broken(self, sent: bytes) -> tuple[int, bytes]:
        return self.plan.random.choice(
            [
                (200, sent[: len(sent) // 2]),
                (200, b'{"jsonrpc":"2.0","id":0,"result":"0x1"}'),
                (503, b"<html>Service Unavailable</html>"),
                (429, b"slow down"),
                (200, b'{"jsonrpc":"2.0","id":0,"error":{"code":-32005,"message":"server busy. try again"}}'),
            ]
        )

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["method"] == "eth_sendRawTransaction":
            self.on_send(bytes.fromhex(request["params"][0][2:]))
        rule = self._rules.get(request["method"]) if self.plan.on else None
        envelope = rule(request) if rule is not None else None
        is_head = request["method"] == "eth_getBlockByNumber" and request["params"][0] == "latest"
        if is_head and self.behind:
            envelope = _result(request, block_json(self.chain.before(self.chain.head.number - self.behind)))
        if envelope is None:
            envelope = self.answer(request)
        if is_head:
            self._note_head(self.chain.blocks[bytes.fromhex(envelope["result"]["hash"][2:])])
        return envelope

    def _note_head(self, head: SimBlock) -> None:
        deep = head.number - self.finality_depth
        for block in head.ancestors():
            if self.shown.get(block.hash, 0) >= block.number + self.finality_depth:
                break
            self.shown[block.hash] = max(self.shown.get(block.hash, 0), head.number)
            self.final = max(self.final, block.number if block.number <= deep else 0)

    # -- lies -----------------------------------------------------------------------------------------------------

    def _faulty_logs(self, request: dict[str, Any]) -> dict[str, Any] | None:
        if self.plan.now("logs not yet"):
            return _error(request, 1, "events for the requested block are not yet available")
        envelope = self.answer(request)
        logs = envelope.get("result")
        if not logs:
            return envelope
        by_hash = "blockHash" in request["params"][0]
        if by_hash and self.plan.now("logs left out"):
            keep = self.plan.random.choice([0.0, 0.5])
            logs = [entry for entry in logs if self.plan.random.random() < keep]
        requested = [entry for entry in logs if entry["topics"][0] == _REQUESTED]
        if not by_hash and requested and self.plan.now("range leaves out"):
            missing = self.plan.random.choice(requested)
            after = logs.index(missing)
            logs = logs[:after] + (logs[after + 1 :] if self.plan.random.random() < 0.5 else [])
        if logs and self.plan.now("logs twice"):
            logs = logs + self.plan.random.choices(logs, k=self.plan.random.randint(1, len(logs)))
        return envelope | {"result": logs}

    def _faulty_head(self, request: dict[str, Any]) -> dict[str, Any] | None:
        if request["params"][0] != "latest":
            return None
        if self.plan.now("fees too high"):
            envelope = self.answer(request)
            return envelope | {"result": envelope["result"] | {"baseFeePerGas": hex(10**15)}}
        if self.plan.now("head is older"):
            older = self._older()
            return _result(request, block_json(self.chain.before(older)))
        if self.plan.now("head of a fork"):
            dead = [block for block in self.chain.blocks.values() if self._may_be_shown(block)]
            if dead:
                return _result(request, block_json(self.plan.random.choice(dead)))
        return None

    def _may_be_shown(self, block: SimBlock) -> bool:
        """A dead block that leaves the canonical chain above what is final, and makes nothing final that is dead."""
        if self.chain.is_canonical(block) or not block.number <= self.chain.head.number:
            return False
        fork = next(ancestor for ancestor in block.ancestors() if self.chain.is_canonical(ancestor))
        would_be = next((b for b in block.ancestors() if b.number <= block.number - self.finality_depth), fork)
        return fork.number >= self.final and self.chain.is_canonical(would_be)

    def _older(self) -> int:
        return max(self.final, self.chain.head.number - self.plan.random.randint(1, 4))

    def _faulty_state(self, request: dict[str, Any]) -> dict[str, Any] | None:
        what, tag = request["params"]
        if tag == "latest" and self.plan.now("state is older"):
            return self.answer(request | {"params": [what, hex(self._older())]})
        if tag.startswith("0x") and request["method"] == "eth_call" and self.plan.now("state refused"):
            return _error(request, 1, "lookbacks of more than 24h0m0s are disallowed")
        return None

    def _faulty_receipt(self, request: dict[str, Any]) -> dict[str, Any] | None:
        if self.plan.now("receipt missing"):
            return _result(request, None)
        envelope = self.answer(request)
        if envelope.get("result") and self.plan.now("receipt of another"):
            return envelope | {"result": envelope["result"] | {"transactionHash": "0x" + "99" * 32}}
        return envelope

    def _faulty_estimate(self, request: dict[str, Any]) -> dict[str, Any] | None:
        if self.plan.now("estimate refused"):
            return _error(request, -32601, "method not found")
        if self.plan.counts["estimate too low"] < LOW_ESTIMATES and self.plan.now("estimate too low"):
            envelope = self.answer(request)
            return envelope | ({"result": hex(30_000)} if "result" in envelope else {})
        return None

    def _faulty_send(self, request: dict[str, Any]) -> dict[str, Any] | None:
        if self.plan.now("sent, answer lost"):
            self.answer(request)
            raise RpcUnavailable("the answer was lost")
        if self.plan.now("sent, not kept"):
            raw = bytes.fromhex(request["params"][0][2:])
            return _result(request, "0x" + keccak(raw).hex())
        if self.plan.now("sending refused"):
            words = ["too many pending messages for actor", "the moon is in the wrong house", "already known"]
            return _error(request, 1, self.plan.random.choice(words))
        return None


def _result(request: dict[str, Any], result: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request["id"], "result": result}


def _error(request: dict[str, Any], code: int, message: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request["id"], "error": {"code": code, "message": message}}
