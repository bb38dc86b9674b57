"""A Filecoin node out of a local one: takes JSON-RPC bytes, gives answers and faults. Deterministic by its seed.

One lock: exchanges are answered one after the other, so that what happens depends on the order of calls alone.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import orjson

from bridge.chain.transport import Transport
from bridge.devnet.chaos.dialects import DIALECTS
from bridge.devnet.chaos.dice import Dice
from bridge.devnet.chaos.epochs import EpochMap
from bridge.devnet.chaos.faults import HTML_HEADERS, Ending, Reply, after, before, json_reply
from bridge.devnet.chaos.logs import Memory
from bridge.devnet.chaos.looks import Look
from bridge.devnet.chaos.methods import Methods
from bridge.devnet.chaos.mpool import Mpool
from bridge.devnet.chaos.node import Node, NodeFault
from bridge.devnet.chaos.script import (
    TRANSPORT_ACTIONS,
    Action,
    Answer,
    Delay,
    DropBefore,
    Error,
    Exchange,
    Replace,
    Rewrite,
    Script,
    Status,
    reply_for,
)
from bridge.devnet.chaos.settings import Settings
from bridge.devnet.chaos.view import View
from bridge.errors import RpcError, RpcUnavailable

MAX_BATCH = 1000
MAX_ACTIONS = 10_000  # remembered
_MAX_WITNESSED = 64  # blocks at a time

Envelope = dict[str, Any]


@dataclass(frozen=True)
class Act:
    """Something that the personality did on purpose."""

    kind: str
    method: str
    detail: str


class Personality:
    """Stands for a node. `upstream`: a local anvil or Hardhat, by URL or transport. `listen` hears of each act."""

    def __init__(
        self,
        upstream: str | Transport,
        settings: Settings,
        seed: int,
        script: Script | None = None,
        *,
        listen: Callable[[Act], None] | None = None,
    ) -> None:
        self.settings = settings
        self.seed = seed
        self.script = script
        self.epochs = EpochMap(seed, settings.null_rounds, settings.null_run, settings.null_epochs)
        self.acts: deque[Act] = deque(maxlen=MAX_ACTIONS)
        self.counts: Counter[str] = Counter()
        self._listen = listen
        self._told: set[tuple[str, str]] = set()
        self._lock = threading.RLock()
        self._node = Node(upstream)
        self._dice = Dice(seed)
        self._memory = Memory()
        self._mpool = Mpool(DIALECTS[settings.dialect], settings.max_pending)
        self._methods = Methods(self._node, settings, self._dice, self._memory, self._mpool, self._note)
        self._base: int | None = None  # no reorg goes below the block at which this began
        self._highest = 0
        self._head_hash = ""

    def close(self) -> None:
        """Close the connections to the node."""
        self._node.close()

    def transport(self) -> Transport:
        """A way to it without HTTP, for a ChainClient in the same process."""
        return _InProcess(self)

    # -- one exchange ---------------------------------------------------------------------------------------------

    def exchange(self, body: bytes) -> Reply:
        """Answer one HTTP request's body."""
        try:
            document = orjson.loads(body)
        except ValueError:
            return json_reply(_error(None, -32700, "parse error"))
        calls = document if isinstance(document, list) else [document]
        if not calls or len(calls) > MAX_BATCH or not all(map(_is_call, calls)):
            return json_reply(_error(None, -32600, "invalid request"))
        with self._lock:
            reply = self._exchange(calls, is_batch=isinstance(document, list))
            if self.script is not None:
                self.script.exchanges.append(Exchange(tuple(calls), isinstance(document, list), reply))
        return reply

    def _exchange(self, calls: list[Envelope], *, is_batch: bool) -> Reply:
        label = "batch" if is_batch else calls[0]["method"]
        actions = [self._scripted(call) for call in calls]
        unasked = next((action for action in actions if isinstance(action, (DropBefore, Status))), None)
        if unasked is not None:
            return reply_for(unasked)
        met = before(self._dice, self.settings, label)
        if met is not None:
            self._note(met[0], label, "")
            return met[1]
        try:
            view = self._view(label)
            answers = [self._one(call, action, view) for call, action in zip(calls, actions, strict=True)]
        except (RpcError, NodeFault) as exc:
            return Reply(502, f"<html>{exc}</html>".encode(), HTML_HEADERS)
        return self._reply(label, answers if is_batch else answers[0], actions)

    def _reply(self, label: str, answers: Any, actions: list[Action | None]) -> Reply:
        delay = sum(action.seconds for action in actions if isinstance(action, Delay))
        for action in actions:
            if isinstance(action, TRANSPORT_ACTIONS):
                return replace(reply_for(action), delay=delay)
        met = after(self._dice, self.settings, label, answers)
        if met is not None:
            self._note(met[0], label, "")
            return replace(met[1], delay=delay)
        return replace(json_reply(answers), delay=delay)

    def _scripted(self, call: Envelope) -> Action | None:
        if self.script is None:
            return None
        action = self.script.action_for(call["method"], call.get("params") or [])
        if action is not None:
            self._note("script", call["method"], type(action).__name__)
        return action

    def _one(self, call: Envelope, action: Action | None, view: View) -> Envelope:
        if isinstance(action, Replace):
            return {"jsonrpc": "2.0", "id": call.get("id"), "result": action.result}
        if isinstance(action, Error):
            return _error(call.get("id"), action.code, action.message, action.data)
        if isinstance(action, Answer):
            return action.function(call, lambda request: self._methods.answer(request, view))
        envelope = self._methods.answer(call, view)
        return action.change(envelope) if isinstance(action, Rewrite) else envelope

    # -- the chain as it stands -----------------------------------------------------------------------------------

    def _view(self, label: str) -> View:
        """What the node that answers this exchange sees."""
        head = self._observe()
        settings = self.settings
        look = Look(self.seed, self.epochs, settings.tipsets, DIALECTS[settings.dialect].bloom_is_full)
        for number in range(max(0, head - settings.frozen_epochs + 1), head):
            if self._dice.befalls("frozen_heads", number, settings.frozen_heads):
                self._note("frozen_heads", "", f"at epoch {self.epochs.epoch_of(number)}")
                head = number
                break
        if self._dice.happens("stale_heads", label, settings.stale_heads):
            head = max(0, head - settings.stale_lag)
            self._note("stale_heads", label, f"head {self.epochs.epoch_of(head)}")
        elif self._dice.happens("forked_heads", label, settings.forked_heads):
            look = replace(look, fork=max(0, head - settings.fork_depth))
            self._note("forked_heads", label, f"above {self.epochs.epoch_of(look.fork or 0)}")
        return View(settings, head, look)

    def _observe(self) -> int:
        """The node's head, after whatever new blocks bring about."""
        block = self._node.ask("eth_getBlockByNumber", "latest", False)
        number = int(block["number"], 16)
        if self._base is None:
            self._base = self._highest = number
        if block["hash"] == self._head_hash:
            return number
        self._witness(block)
        new, self._highest = range(self._highest + 1, number + 1), max(number, self._highest)
        self._tell_null_rounds(new[-_MAX_WITNESSED:])
        struck = [n for n in new if self._dice.befalls("reorg", n, self.settings.reorg)]
        if struck:
            number = self._reorg(struck[-1], block)
        if self.settings.reorg:
            self._node.keep_place(number)
        self._methods.republish()
        self._head_hash = self._node.ask("eth_getBlockByNumber", "latest", False)["hash"]
        return int(self._node.ask("eth_blockNumber"), 16)

    def _tell_null_rounds(self, new: range) -> None:
        for number in new:
            first, after = self.epochs.epoch_of(number - 1) + 1, self.epochs.epoch_of(number)
            if after > first:
                self._note("null_rounds", "", str(first) if after == first + 1 else f"{first}..{after - 1}")

    def _witness(self, block: Envelope) -> None:
        """Remember new blocks and their logs, for when they die."""
        if not self.settings.removed_logs:
            return
        for _ in range(_MAX_WITNESSED):
            if block is None or block["hash"] in self._memory:
                return
            self._memory.add(block, self._node.ask("eth_getLogs", {"blockHash": block["hash"]}))
            block = self._node.ask("eth_getBlockByHash", block["parentHash"], False)

    def _reorg(self, number: int, head: Envelope) -> int:
        """Replace the newest blocks; the head's number then. `number`: the block that brought it about."""
        settings, top = self.settings, int(head["number"], 16)
        unseen = 1 if settings.deferred else 0
        depth = min(self._dice.pick("reorg", number, 1, settings.reorg_depth) + unseen, top - (self._base or 0))
        if depth <= unseen:
            return top
        dying = self._transactions(range(top - depth + 1, top + 1))
        bottom = self._node.go_back(top, depth)
        if bottom is None:
            return top
        lost = self._dice.befalls("reorg_drops", number, settings.reorg_drops)
        shorter = top - bottom > 1 and self._dice.befalls("reorg_shorter", number, settings.reorg_shorter)
        again = [self._methods.recent[tx_hash] for tx_hash in dying if tx_hash in self._methods.recent]
        is_early = self._dice.pick("reorg order", number, 0, 1) == 0
        if lost:
            self._mpool.lose(set(dying))
            for tx_hash in dying:
                self._node.drop(tx_hash)
        elif is_early:
            self._methods.offer_again(again)
        self._node.mine(top - bottom - shorter, self.seed * 2**32 + number, int(head["timestamp"], 16) + 1)
        if not lost and not is_early:
            self._methods.offer_again(again)
        words = "lost" if lost else "offered again"
        since = self.epochs.epoch_of(bottom + 1)
        self._note(
            "reorg",
            "",
            f"of {top - bottom - unseen} shown blocks from epoch {since}, {len(dying)} transactions {words}",
        )
        return top - shorter

    def _transactions(self, numbers: range) -> list[str]:
        blocks = [self._node.ask("eth_getBlockByNumber", hex(number), False) for number in numbers]
        return [str(tx_hash) for block in blocks if block for tx_hash in block.get("transactions", ())]

    # -- the record -----------------------------------------------------------------------------------------------

    def _note(self, kind: str, method: str, detail: str) -> None:
        if kind in _LASTING:  # told once, not at every call that meets it
            if (kind, detail) in self._told:
                return
            if len(self._told) >= MAX_ACTIONS:
                self._told.clear()
            self._told.add((kind, detail))
        act = Act(kind, method, detail)
        self.acts.append(act)
        self.counts[kind] += 1
        if self._listen is not None:
            self._listen(act)


_LASTING = frozenset(
    {"frozen_heads", "late_receipts", "empty_receipts", "forget_receipts", "replaced_receipts", "removed_logs"}
)


class _InProcess:
    """The personality as a `Transport`."""

    def __init__(self, personality: Personality) -> None:
        self._personality = personality

    def post(self, body: bytes) -> tuple[int, bytes]:
        """See `Transport`. What would hang or drip is unavailable at once."""
        reply = self._personality.exchange(body)
        time.sleep(reply.delay)
        if reply.ending is not Ending.SENT or any(name == "content-encoding" for name, _ in reply.headers):
            raise RpcUnavailable(f"the endpoint does not answer ({reply.ending.value})")
        return reply.status, reply.body

    def close(self) -> None:
        """Nothing to close."""


def _is_call(call: object) -> bool:
    return isinstance(call, dict) and isinstance(call.get("method"), str) and isinstance(call.get("params", []), list)


def _error(ident: Any, code: int, message: str, data: Any = None) -> Envelope:
    fields = {"code": code, "message": message}
    return {"jsonrpc": "2.0", "id": ident, "error": fields if data is None else {**fields, "data": data}}


__all__ = ["Act", "Personality"]
