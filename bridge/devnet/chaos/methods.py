"""Each JSON-RPC method as a Filecoin node answers it, out of what a local node says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bridge.devnet.chaos.dialects import (
    BLOCK_METHODS,
    HASH_METHODS,
    LOW_FEE,
    MAX_LOGS,
    MIN_PREMIUM,
    STATE_METHODS,
    STATEFUL_METHODS,
    UNDERPRICED,
    RpcFault,
    events_unavailable,
    not_supported,
    stateful_only,
    too_many_events,
    translated,
    unknown_tipset,
)
from bridge.devnet.chaos.dice import Dice
from bridge.devnet.chaos.logs import Memory, spoiled
from bridge.devnet.chaos.mpool import Fate, Mpool, Tx, decode
from bridge.devnet.chaos.node import Node, NodeFault
from bridge.devnet.chaos.settings import Settings
from bridge.devnet.chaos.view import NoBlock, View

Note = Callable[[str, str, str], None]  # kind of fault, method, what it met
Envelope = dict[str, Any]

_REGRESS = 20  # epochs
_RECENT = 512  # raw transactions that a reorg can offer again
_HASH_CHARACTERS = 66


class Methods:
    """Answers calls. Not thread-safe: its user holds a lock."""

    def __init__(self, node: Node, settings: Settings, dice: Dice, memory: Memory, mpool: Mpool, note: Note) -> None:
        self._node = node
        self._settings = settings
        self._dice = dice
        self._memory = memory
        self._mpool = mpool
        self._note = note
        self.recent: dict[str, Tx] = {}
        self._table: dict[str, Callable[[list[Any], View], Any]] = {
            "eth_blockNumber": lambda _, view: hex(view.latest_epoch),
            "eth_getLogs": self._logs,
            "eth_getTransactionReceipt": self._receipt,
            "eth_getTransactionByHash": self._transaction,
            "eth_sendRawTransaction": self._send,
            "eth_gasPrice": lambda _, __: self._price("eth_gasPrice"),
            "eth_maxPriorityFeePerGas": lambda _, __: self._price("eth_maxPriorityFeePerGas"),
        }

    def answer(self, request: Envelope, view: View) -> Envelope:
        """The envelope for one call."""
        method, params = str(request["method"]), list(request.get("params") or [])
        envelope = {"jsonrpc": "2.0", "id": request.get("id")}
        try:
            return envelope | {"result": self._result(method, params, view)}
        except NoBlock:
            return envelope | {"result": None}
        except NodeFault as exc:
            sending = method == "eth_sendRawTransaction"
            return envelope | {"error": translated(view.dialect, exc.fields(), sending=sending)}
        except RpcFault as exc:
            return envelope | {"error": exc.fields()}
        except (IndexError, TypeError, ValueError):
            return envelope | {"error": {"code": -32602, "message": "invalid params"}}

    def _result(self, method: str, params: list[Any], view: View) -> Any:
        if method in self._table:
            return self._table[method](params, view)
        if method in BLOCK_METHODS:
            return self._by_number(method, params, view)
        if method in STATE_METHODS:
            return self._state(method, params, view)
        if method in HASH_METHODS:
            return self._by_hash(method, params, view)
        if method in STATEFUL_METHODS and view.dialect.imitates:
            raise stateful_only(view.dialect, method)
        result = self._node.ask(method, *params)
        return view.look.outward(result) if method.startswith(("eth_", "trace_", "debug_")) else result

    # -- blocks and state -----------------------------------------------------------------------------------------

    def _by_number(self, method: str, params: list[Any], view: View) -> Any:
        place = BLOCK_METHODS[method]
        named = self._tag(method, params[place], view)
        if isinstance(named, str) and len(named) == _HASH_CHARACTERS:
            return self._by_hash(method, params, view)
        strict = method != "eth_getBlockReceipts" or view.dialect.strict_receipts
        params[place] = view.block_at(named, strict=strict)
        return view.look.outward(self._node.ask(method, *params))

    def _state(self, method: str, params: list[Any], view: View) -> Any:
        place = STATE_METHODS[method]
        if len(params) <= place and method == "eth_estimateGas":
            return self._estimate(method, params)
        named = self._tag(method, params[place] if len(params) > place else "latest", view)
        params[place : place + 1] = [view.state_at(named)]
        if method == "eth_estimateGas":
            return self._estimate(method, params)
        result = self._node.ask(method, *params)
        if method == "eth_getTransactionCount" and named == "pending":
            return hex(self._mpool.next_nonce(str(params[0]), int(result, 16)))
        return view.look.outward(result) if method == "eth_feeHistory" else result

    def _estimate(self, method: str, params: list[Any]) -> Any:
        result = self._node.ask(method, *params)
        if self._dice.happens("gas_jumps", method, self._settings.gas_jumps):
            self._note("gas_jumps", method, f"times {self._settings.gas_jump_factor}")
            return hex(int(result, 16) * self._settings.gas_jump_factor)
        return result

    def _tag(self, method: str, param: Any, view: View) -> Any:
        """`param`, unless it is a tag that does not work now."""
        if param not in ("safe", "finalized"):
            return param
        settings = self._settings
        if self._dice.happens("tags_unsupported", method, settings.tags_unsupported):
            self._note("tags_unsupported", method, param)
            raise not_supported(view.dialect, param)
        if self._dice.happens("tags_latest", method, settings.tags_latest):
            self._note("tags_latest", method, param)
            return "latest"
        if self._dice.happens("tags_regress", method, settings.tags_regress):
            self._note("tags_regress", method, param)
            lag = settings.safe_lag if param == "safe" else settings.finalized_lag
            return hex(view.epochs.epoch_of(view.tagged(lag + _REGRESS)))
        return param

    def _by_hash(self, method: str, params: list[Any], view: View) -> Any:
        block = self._block_of(str(params[0]), view)
        if block is not None:
            return view.look.outward(self._node.ask(method, block["hash"], *params[1:]))
        dead = self._dead(str(params[0]), view)
        return view.look.outward(self._memory.block(dead)) if dead and method == "eth_getBlockByHash" else None

    def _block_of(self, outer_hash: str, view: View) -> dict[str, Any] | None:
        """The node's block for a hash from outside, if the answering node has it."""
        for own in view.look.candidates(outer_hash):
            block = self._node.ask("eth_getBlockByHash", own, False)
            if block is not None:
                number = int(block["number"], 16)
                if number <= view.head and view.look.hash_of(own, number) == outer_hash.lower():
                    return dict(block)
        return None

    def _dead(self, outer_hash: str, view: View) -> str | None:
        """The node's own hash of a block that left the chain and is remembered."""
        for own in view.look.candidates(outer_hash):
            is_dead = own in self._memory and self._node.ask("eth_getBlockByHash", own, False) is None
            if is_dead and self._dice.befalls("removed_logs", own, self._settings.removed_logs):
                return own
        return None

    # -- logs -----------------------------------------------------------------------------------------------------

    def _logs(self, params: list[Any], view: View) -> Any:
        query = dict(params[0])
        if "blockHash" in query:
            logs = self._logs_by_hash(str(query["blockHash"]), query, view)
        else:
            found = view.range_of(query)
            if found is None:
                return []
            asked = query | {"fromBlock": hex(found[0]), "toBlock": hex(found[1])}
            logs = view.look.outward(self._node.ask("eth_getLogs", asked))
        if self._dice.happens("late_events", "eth_getLogs", self._settings.late_events):
            self._note("late_events", "eth_getLogs", _range_words(query))
            raise events_unavailable(view.dialect)
        logs, met = spoiled(self._dice, self._settings, logs)
        for kind in met:
            self._note(kind, "eth_getLogs", _range_words(query))
        self._check_cap(logs, view)
        return logs

    def _logs_by_hash(self, outer_hash: str, query: dict[str, Any], view: View) -> list[dict[str, Any]]:
        block = self._block_of(outer_hash, view)
        if block is None:
            dead = self._dead(outer_hash, view)
            if dead is None:
                raise unknown_tipset(view.dialect)
            self._note("removed_logs", "eth_getLogs", outer_hash)
            return list(view.look.outward(self._memory.removed(dead, query)))
        if int(block["number"], 16) > view.latest:
            raise events_unavailable(view.dialect)
        return list(view.look.outward(self._node.ask("eth_getLogs", query | {"blockHash": block["hash"]})))

    def _check_cap(self, logs: list[dict[str, Any]], view: View) -> None:
        most = self._settings.max_logs or (MAX_LOGS if view.dialect.imitates else 0)
        if not most or len(logs) <= most:
            return
        if not view.dialect.cap_spares_one_tipset or len({log["blockHash"] for log in logs}) > 1:
            raise too_many_events(view.dialect)

    # -- transactions ---------------------------------------------------------------------------------------------

    def _receipt(self, params: list[Any], view: View) -> Any:
        tx_hash = str(params[0])
        receipt = self._node.ask("eth_getTransactionReceipt", tx_hash)
        if receipt is None:
            return self._receipt_of_replacement(tx_hash, view)
        number = int(receipt["blockNumber"], 16)
        if not self._is_shown("eth_getTransactionReceipt", tx_hash, number, view):
            return None
        receipt = view.look.outward(receipt)
        age = view.latest_epoch - view.epochs.epoch_of(number) - self._late_by(tx_hash)
        settings = self._settings
        is_early = age < settings.late_receipt_epochs and receipt["logs"]
        if is_early and self._dice.befalls("empty_receipts", tx_hash, settings.empty_receipts):
            self._note("empty_receipts", "eth_getTransactionReceipt", tx_hash)
            return receipt | {"logs": []}
        return receipt

    def _receipt_of_replacement(self, tx_hash: str, view: View) -> Any:
        other = self._mpool.replacement_of(tx_hash)
        if other is None or not self._dice.befalls("replaced_receipts", tx_hash, self._settings.replaced_receipts):
            return None
        receipt = self._receipt([other], view)
        if receipt is None:
            return None
        self._note("replaced_receipts", "eth_getTransactionReceipt", tx_hash)
        return receipt | {"logs": []}

    def _late_by(self, tx_hash: str) -> int:
        settings = self._settings
        if not self._dice.befalls("late_receipts", tx_hash, settings.late_receipts):
            return 0
        return self._dice.pick("late_receipts", tx_hash, 1, settings.late_receipt_epochs)

    def _is_shown(self, method: str, tx_hash: str, number: int, view: View) -> bool:
        """Whether what became of a transaction in this block is shown now."""
        if number > view.latest:
            return False
        age = view.latest_epoch - view.epochs.epoch_of(number)
        late_by, settings = self._late_by(tx_hash), self._settings
        if age < late_by:
            self._note("late_receipts", method, f"{tx_hash} by {late_by}")
            return False
        is_old = age > settings.receipt_lookback
        if is_old and self._dice.befalls("forget_receipts", tx_hash, settings.forget_receipts):
            self._note("forget_receipts", method, tx_hash)
            return False
        return True

    def _transaction(self, params: list[Any], view: View) -> Any:
        tx_hash = str(params[0])
        kept = self._mpool.kept(tx_hash)
        if kept is not None:
            return kept.fields
        found = self._node.ask("eth_getTransactionByHash", tx_hash)
        if found is None or found.get("blockNumber") is None:
            return found
        if self._is_shown("eth_getTransactionByHash", tx_hash, int(found["blockNumber"], 16), view):
            return view.look.outward(found)
        is_new = int(found["blockNumber"], 16) + self._settings.receipt_lookback > view.latest
        return found | {"blockHash": None, "blockNumber": None, "transactionIndex": None} if is_new else None

    def _send(self, params: list[Any], view: View) -> Any:
        tx = decode(params[0])
        settings = self._settings
        if tx is None:
            return self._node.ask("eth_sendRawTransaction", *params)
        if not (view.dialect.imitates or settings.drop_tx or settings.stuck_tx):
            return self._forward(tx, None)
        count = int(self._node.ask("eth_getTransactionCount", tx.sender, "latest"), 16)
        offer = self._mpool.offer(tx, count, self._fate_of)
        return self._forward(tx, offer.replaces) if offer.forward else tx.hash

    def _fate_of(self, tx: Tx) -> Fate:
        for kind, fate in (("drop_tx", Fate.DROPPED), ("stuck_tx", Fate.STUCK)):
            if self._dice.befalls(kind, tx.hash, getattr(self._settings, kind)):
                self._note(kind, "eth_sendRawTransaction", f"{tx.hash} nonce {tx.nonce}")
                return fate
        return Fate.FORWARDED

    def _forward(self, tx: Tx, replaces: str | None) -> Any:
        try:
            try:
                result = self._node.ask("eth_sendRawTransaction", tx.raw)
            except NodeFault as exc:
                if replaces is None or not UNDERPRICED.search(exc.message):
                    raise
                self._node.drop(replaces)  # Lotus looks at the premium only
                result = self._node.ask("eth_sendRawTransaction", tx.raw)
        except NodeFault as exc:
            is_low = bool(LOW_FEE.search(exc.message))
            self._mpool.refused(tx, low_fee=is_low)
            if is_low:
                self._note("low_fee", "eth_sendRawTransaction", f"{tx.hash} waits for a lower base fee")
                return tx.hash
            raise
        self._mpool.forwarded(tx)
        self.recent[tx.hash] = tx
        while len(self.recent) > _RECENT:
            del self.recent[next(iter(self.recent))]
        return result

    def offer_again(self, txs: list[Tx]) -> int:
        """Hand transactions to the node once more; how many it took."""
        taken = 0
        for tx in sorted(txs, key=lambda tx: tx.nonce):
            try:
                self._node.ask("eth_sendRawTransaction", tx.raw)
            except NodeFault:
                continue
            self._mpool.forwarded(tx)
            taken += 1
        return taken

    def republish(self) -> None:
        """Offer what waits for a lower base fee."""
        self.offer_again(self._mpool.with_fate(Fate.LOW_FEE))

    def _price(self, method: str) -> Any:
        result = self._node.ask(method)
        if not self._settings.fee_noise:
            return result
        price = int(result, 16)
        noisy = price + int(price * self._settings.fee_noise * self._dice.noise("fee_noise", method))
        return hex(max(MIN_PREMIUM, noisy))


def _range_words(query: dict[str, Any]) -> str:
    if "blockHash" in query:
        return f"block {query['blockHash']}"
    return f"{query.get('fromBlock', 'latest')}..{query.get('toBlock', 'latest')}"
