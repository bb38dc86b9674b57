"""JSON-RPC of the simulated chain, at the seam `bridge.chain.transport.Transport`: the real client runs on it.

The texts of errors are Lotus's (fevm.md 1.1-1.5); where other clients differ, `Dialect` says which one is imitated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson
from eth_utils.address import to_checksum_address

from tests.simulation.contract import GAS, Message, Reverted, decoded_call
from tests.simulation.node import Chain, Refused, SimBlock, decoded_tx, gas_of

ZERO = "0x" + "00" * 32


@dataclass(frozen=True)
class Dialect:
    """How an endpoint answers where endpoints differ."""

    null_round: str = "lotus"  # lotus (>= 1.31), old (<= 1.30), null (between), forest (the block before)
    future: str = "lotus"  # lotus: an error; null: what anvil and Hardhat say
    largest_range: int = 2880  # to - from, in eth_getLogs
    lookback: int | None = None  # epochs after which a gateway answers null for a receipt


class RpcFault(Exception):
    """An error object."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.error = {"code": code, "message": message} | ({} if data is None else {"data": data})


class SimNode:
    """A Transport that answers from a Chain."""

    def __init__(self, chain: Chain, dialect: Dialect = Dialect()) -> None:
        self.chain = chain
        self.dialect = dialect
        self._noise = 0
        self._methods: dict[str, Callable[..., Any]] = {
            "eth_chainId": lambda: hex(self.chain.contract.chain_id),
            "eth_blockNumber": lambda: hex(self.chain.head.number),
            "eth_getBlockByNumber": self._block_by_number,
            "eth_getBlockByHash": self._block_by_hash,
            "eth_getLogs": self._logs,
            "eth_call": self._call,
            "eth_estimateGas": self._estimate,
            "eth_getCode": self._code,
            "eth_getBalance": lambda who, tag: hex(self.chain.balance(self._state_at(tag).state, _checksummed(who))),
            "eth_getTransactionCount": self._nonce,
            "eth_maxPriorityFeePerGas": self._tip,
            "eth_sendRawTransaction": self._send,
            "eth_getTransactionReceipt": self._receipt,
        }

    def post(self, body: bytes) -> tuple[int, bytes]:
        """See `Transport`."""
        document = orjson.loads(body)
        if isinstance(document, list):
            return 200, orjson.dumps([self.answer(request) for request in document])
        return 200, orjson.dumps(self.answer(document))

    def close(self) -> None:
        """Nothing is open."""

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The envelope for one request."""
        envelope = {"jsonrpc": "2.0", "id": request["id"]}
        method = self._methods.get(request["method"])
        if method is None:
            return envelope | {"error": {"code": -32601, "message": f"method '{request['method']}' not found"}}
        try:
            return envelope | {"result": method(*request["params"])}
        except RpcFault as exc:
            return envelope | {"error": exc.error}
        except Reverted as exc:
            error = {"code": 3, "message": "execution reverted", "data": _hex(exc.data)}
            return envelope | {"error": error}
        except Refused as exc:
            return envelope | {"error": {"code": 1, "message": str(exc)}}

    # -- blocks ---------------------------------------------------------------------------------------------------

    def _block_by_number(self, tag: str, _full: bool) -> Any:
        if tag == "latest":
            return block_json(self.chain.head)
        if tag == "pending":
            return block_json(self.chain.tip)
        number = int(tag, 16)
        if number > self.chain.head.number:
            if self.dialect.future == "null":
                return None
            raise RpcFault(1, "requested a future epoch (beyond 'latest')")
        block = self.chain.at(number)
        return block_json(block) if block is not None else self._null_round(number)

    def _null_round(self, number: int) -> Any:
        match self.dialect.null_round:
            case "lotus":
                raise RpcFault(12, f"requested epoch was a null round ({number})", number)
            case "old":
                raise RpcFault(1, "requested epoch was a null round")
            case "forest":
                return block_json(self.chain.before(number))
            case _:
                return None

    def _block_by_hash(self, block_hash: str, _full: bool) -> Any:
        block = self.chain.blocks.get(bytes.fromhex(block_hash[2:]))
        return None if block is None or not self._is_executed(block) else block_json(block)

    def _is_executed(self, block: SimBlock) -> bool:
        return not self.chain.deferred or block is not self.chain.tip

    # -- logs -----------------------------------------------------------------------------------------------------

    def _logs(self, query: dict[str, str]) -> Any:
        if "blockHash" in query:
            block = self.chain.blocks.get(bytes.fromhex(query["blockHash"][2:]))
            if block is None:
                raise RpcFault(1, "block not found")
            if not self._is_executed(block):
                raise RpcFault(1, "events for the requested block are not yet available")
            return self._logs_of(block, query, removed=not self.chain.is_canonical(block))
        first, last = int(query["fromBlock"], 16), int(query["toBlock"], 16)
        if last > self.chain.head.number:
            raise RpcFault(1, "events for the requested block are not yet available")
        if first > last:
            raise RpcFault(1, "invalid epoch range: to block must be after from block")
        if last - first > self.dialect.largest_range:
            words = f"block range exceeds maximum of {self.dialect.largest_range} (got {last - first})"
            raise RpcFault(-32005, words)
        blocks = [block for block in map(self.chain.at, range(first, last + 1)) if block is not None]
        return [entry for block in blocks for entry in self._logs_of(block, query, removed=False)]

    def _logs_of(self, block: SimBlock, query: dict[str, str], *, removed: bool) -> list[dict[str, Any]]:
        if query["address"].lower() != self.chain.contract.address.lower():
            return []
        return [
            {
                "address": self.chain.contract.address,
                "topics": [_hex(topic) for topic in log.topics],
                "data": _hex(log.data),
                "blockNumber": hex(block.number),
                "blockHash": _hex(block.hash),
                "transactionHash": _hex(tx_hash),
                "transactionIndex": "0x0",
                "logIndex": hex(place),
                "removed": removed,
            }
            for place, (tx_hash, log) in enumerate(block.logs)
        ]

    # -- state ----------------------------------------------------------------------------------------------------

    def _state_at(self, tag: str) -> SimBlock:
        """State calls resolve a null round to the block before it."""
        if tag in ("latest", "pending"):
            return self.chain.head if tag == "latest" else self.chain.tip
        number = int(tag, 16)
        if number > self.chain.head.number:
            raise RpcFault(1, "requested a future epoch (beyond 'latest')")
        return self.chain.before(number)

    def _call(self, fields: dict[str, str], tag: str) -> str:
        block = self._state_at(tag)
        data = bytes.fromhex(fields["data"][2:])
        if fields["to"].lower() != self.chain.contract.address.lower():
            return "0x"
        found = decoded_call(data)
        if found is not None and found[0] in GAS:
            sender = _checksummed(fields.get("from", "0x" + "00" * 20))
            message = Message(sender, 0, block.timestamp)
            return _hex(self.chain.contract.returned(block.state.copy(), message, data))
        return _hex(self.chain.contract.view(block.state, data))

    def _estimate(self, fields: dict[str, str]) -> str:
        head = self.chain.head
        data, value = bytes.fromhex(fields["data"][2:]), int(fields.get("value", "0x0"), 16)
        now = self.chain.time_after(head)
        return hex(self.chain.dry_run(head.state, _checksummed(fields["from"]), fields["to"], data, value, now))

    def _code(self, address: str, _tag: str) -> str:
        return "0x60806040" if address.lower() == self.chain.contract.address.lower() else "0x"

    def _nonce(self, account: str, tag: str) -> str:
        who = _checksummed(account)
        if tag == "pending":
            return hex(self.chain.pending_nonce(who))
        return hex(self._state_at(tag).state.nonces.get(who, 0))

    # -- transactions ---------------------------------------------------------------------------------------------

    def _tip(self) -> str:
        """Lotus puts noise on it: no two answers need be equal."""
        self._noise += 1
        return hex(self.chain.tip_fee + self._noise % 7)

    def _send(self, raw: str) -> str:
        tx = decoded_tx(bytes.fromhex(raw[2:]))
        self.chain.submit(tx)
        return _hex(tx.hash)

    def _receipt(self, tx_hash: str) -> Any:
        wanted = bytes.fromhex(tx_hash[2:])
        block = self.chain.mined(wanted)
        if block is None or block.number > self.chain.head.number:
            return None
        lookback = self.dialect.lookback
        if lookback is not None and block.number + lookback < self.chain.head.number:
            return None
        tx = next(tx for tx in block.txs if tx.hash == wanted)
        return {
            "transactionHash": tx_hash,
            "blockNumber": hex(block.number),
            "blockHash": _hex(block.hash),
            "status": hex(block.statuses[wanted]),
            "gasUsed": hex(min(tx.gas, gas_of(tx.data))),
            "effectiveGasPrice": hex(min(tx.max_fee, block.base_fee + tx.tip)),
            "contractAddress": None,
            "logs": [],
        }


def block_json(block: SimBlock) -> dict[str, Any]:
    """A block as eth_getBlockBy* gives it, without its transactions."""
    return {
        "number": hex(block.number),
        "hash": _hex(block.hash),
        "parentHash": ZERO if block.parent is None else _hex(block.parent.hash),
        "timestamp": hex(block.timestamp),
        "baseFeePerGas": hex(block.base_fee),
        "gasLimit": hex(10**10),
        "transactions": [],
    }


def _hex(data: bytes) -> str:
    return "0x" + data.hex()


_checksummed = lru_cache(maxsize=1000)(to_checksum_address)
