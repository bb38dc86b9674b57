"""An EVM chain over JSON-RPC: one method a call, every answer checked in shape.

Blocks are asked for by hash, or by a number that the endpoint itself has reached: never beyond. One client may be
shared by threads.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import orjson
from eth_utils.crypto import keccak

from bridge.chain.rpc_errors import RESPONSE_TOO_LARGE, error_of, http_error_of
from bridge.chain.shapes import (
    MAX_AMOUNT,
    MAX_NONCE,
    Block,
    Log,
    TxReceipt,
    address_of,
    block_of,
    data_of,
    fields_of,
    logs_of,
    malformed,
    quantity,
    receipt_of,
)
from bridge.chain.transport import HttpTransport, Transport
from bridge.errors import NullRound, RpcError, RpcRefused, RpcUnavailable, TooMuch

MAX_RESPONSE_BYTES = 32 * 2**20
MAX_VALUES = 4_000_000  # in one answer, each far larger once parsed; as many logs as its bytes can hold have fewer
SURELY_FEW = 2 * MAX_VALUES  # bytes that cannot hold more values: one and its comma take two
_NO_VALUE = bytes(set(range(256)) - set(b",[{"))
MAX_LOGS = 100_000  # in one answer
MAX_BATCH = 100  # calls in one HTTP request; some endpoints take no more
BATCHES_SINGLY = 1000  # after a refused batch, so many are asked call by call before one is tried again
MAX_TIP_WEI = 10**20
_LATEST = "latest"

Tag = int | str  # a block number, or "latest" or "pending"
Call = tuple[str, tuple[Any, ...]]  # method and parameters
_GENESIS: Call = ("eth_getBlockByNumber", ("0x0", False))


@dataclass(frozen=True)
class Poll:
    """One look at a chain, all of it from one endpoint.

    `tagged`: the blocks of the tags that were asked for, without those that the endpoint does not give. `genesis`: the
    hash of block 0 where it was asked for and is shown. `more`: the answers to the calls that were asked with it.
    """

    chain_id: int
    head: Block
    tagged: Mapping[str, Block]
    genesis: bytes | None = None
    more: Sequence[Any] = ()


class ChainClient:
    """One JSON-RPC endpoint, or what stands for it. Errors: RpcUnavailable, RpcRefused, NullRound (`bridge.errors`)."""

    def __init__(
        self, rpc: str | Transport, timeout_seconds: float = 20.0, *, max_response_bytes: int = MAX_RESPONSE_BYTES
    ) -> None:
        self.transport = HttpTransport(rpc, timeout_seconds, max_response_bytes) if isinstance(rpc, str) else rpc
        self._ids = itertools.count(1)
        self._singly = 0  # so many batches are still asked call by call

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self.transport.close()

    # -- chain ----------------------------------------------------------------------------------------------------

    def poll(
        self,
        *tags: str,
        at_least: int = 0,  # noqa: ARG002 - for those with a choice
        more: Sequence[Call] = (),
    ) -> Poll:
        """Begin a step: chain id, head, the blocks of `tags` ("safe", "finalized") and `more`, in one HTTP request.

        `at_least`: the newest block that the caller has taken in. With several endpoints (`bridge.chain.endpoints`) the
        step stays with the one that answers here, and one that is behind that block is passed over.
        """
        return self.look(*tags, more=more)

    def look(self, *tags: str, genesis: bool = False, more: Sequence[Call] = ()) -> Poll:
        """`poll`, of whatever endpoint is in use; with block 0 where asked for."""
        wanted = [("eth_getBlockByNumber", (tag, False)) for tag in (_LATEST, *tags)]
        own: list[Call] = [("eth_chainId", ()), *wanted, *([_GENESIS] if genesis else [])]
        asked = self.batch([*own, *more])
        answers = asked[: len(own)]
        for answer in answers[:2]:
            if isinstance(answer, RpcError):
                raise answer
        tagged = {tag: _block_or_none(answer) for tag, answer in zip(tags, answers[2:], strict=False)}
        first = _block_or_none(answers[-1]) if genesis else None
        return Poll(
            chain_id=quantity(answers[0], "chain id"),
            head=block_of(answers[1]),
            tagged={tag: block for tag, block in tagged.items() if block is not None},
            genesis=first.hash if first is not None and first.number == 0 else None,
            more=asked[len(own) :],
        )

    def blame(self, error: RpcError) -> None:
        """The step failed for this; with several endpoints another one may be better (`bridge.chain.endpoints`)."""

    def others(self, number: int) -> Iterable[ChainClient]:  # noqa: ARG002 - likewise
        """Clients of other endpoints that may have block `number`; with one endpoint there is nobody else to ask."""
        return ()

    def chain_id(self) -> int:
        """The chain's id (EIP-155)."""
        return quantity(self._ask("eth_chainId"), "chain id")

    def head(self) -> Block:
        """The endpoint's newest block. On Filecoin the parent of the heaviest tipset: its messages are executed."""
        return block_of(self._ask("eth_getBlockByNumber", _LATEST, False))

    def block_by_number(self, number: int) -> Block:
        """The canonical block at a number not beyond the head. NullRound when there is none, in any dialect.

        Some clients answer with the block before instead of an error: a number that differs is a null round too.
        """
        answer = self._ask("eth_getBlockByNumber", hex(number), False, number=number)
        if answer is None:
            raise NullRound(number)
        block = block_of(answer)
        if block.number != number:
            raise NullRound(number)
        return block

    def hashes_at(self, numbers: Sequence[int]) -> dict[int, bytes | None]:
        """The hashes of the canonical blocks at numbers not beyond the head, in few requests; None for null rounds."""
        calls: list[Call] = [("eth_getBlockByNumber", (hex(number), False)) for number in numbers]
        return {n: _hash_at(n, answer) for n, answer in zip(numbers, self.batch(calls), strict=True)}

    def block_by_hash(self, block_hash: bytes) -> Block | None:
        """The block of this hash, canonical or not; None when the endpoint does not know it."""
        answer = self._ask("eth_getBlockByHash", _hex(block_hash), False)
        if answer is None:
            return None
        block = block_of(answer)
        if block.hash != block_hash:
            raise malformed("block.hash", _hex(block.hash))
        return block

    def genesis_hash(self) -> bytes | None:
        """The hash of block 0; None where the endpoint does not look back that far."""
        try:
            return self.block_by_number(0).hash
        except (RpcRefused, NullRound):
            return None

    # -- logs -----------------------------------------------------------------------------------------------------

    def logs_by_hash(self, block_hash: bytes, address: str) -> list[Log]:
        """The logs of `address` in the block of this hash, without removed ones.

        Canonical or not is the caller's to know: endpoints also answer for blocks that left the chain.
        """
        return self.logs_of_blocks([block_hash], address)

    def logs_of_blocks(self, block_hashes: Sequence[bytes], address: str) -> list[Log]:
        """`logs_by_hash` for several blocks, in one HTTP request."""
        calls: list[Call] = [("eth_getLogs", ({"blockHash": _hex(h), "address": address},)) for h in block_hashes]
        found: list[Log] = []
        for block_hash, answer in zip(block_hashes, self.batch(calls), strict=True):
            logs = _logs_of(answer, address)
            for log in logs:
                if log.block_hash != block_hash:
                    raise malformed("log.blockHash", _hex(log.block_hash))
            found += logs
        return found

    def logs_by_range(self, first: int, last: int, address: str) -> list[Log]:
        """The logs of `address` in blocks first..last, both included. TooMuch: ask for fewer blocks."""
        return self.logs_with(first, last, address, ())[0]

    def logs_with(self, first: int, last: int, address: str, more: Sequence[Call]) -> tuple[list[Log], list[Any]]:
        """`logs_by_range`, and the results of other calls (as of `batch`), in one HTTP request."""
        query = {"fromBlock": hex(first), "toBlock": hex(last), "address": address}
        answer, *others = self.batch([("eth_getLogs", (query,)), *more])
        logs = _logs_of(answer, address)
        for log in logs:
            if not first <= log.block_number <= last:
                raise malformed("log.blockNumber", log.block_number)
        return logs, others

    # -- state ----------------------------------------------------------------------------------------------------

    def call(
        self, to: str, data: bytes, block: Tag = _LATEST, *, sender: str | None = None, gas: int | None = None
    ) -> bytes:
        """What a call returns, without a transaction. RpcRefused when it reverts (`rpc_errors.revert_data`)."""
        fields = {"to": to, "data": _hex(data)}
        if sender is not None:
            fields["from"] = sender
        if gas is not None:
            fields["gas"] = hex(gas)
        return data_of(self._ask("eth_call", fields, _tag(block)), "call")

    def code(self, address: str, block: Tag = _LATEST) -> bytes:
        """The code at an address; empty for none."""
        return data_of(self._ask("eth_getCode", address, _tag(block)), "code")

    def balance(self, address: str, block: Tag = _LATEST) -> int:
        """An account's balance in wei (attoFIL)."""
        return quantity(self._ask("eth_getBalance", address, _tag(block)), "balance", MAX_AMOUNT)

    def nonce(self, address: str, block: Tag = _LATEST) -> int:
        """How many transactions an account has sent."""
        return quantity(self._ask("eth_getTransactionCount", address, _tag(block)), "nonce", MAX_NONCE)

    # -- sending --------------------------------------------------------------------------------------------------

    def estimate_gas(self, sender: str, to: str | None, data: bytes, value: int = 0) -> int:
        """Gas that a transaction needs now. RpcRefused when it would revert. `to` None: a contract's creation."""
        fields = {"from": sender, "data": _hex(data), "value": hex(value)}
        if to is not None:
            fields["to"] = to
        return quantity(self._ask("eth_estimateGas", fields), "gas")

    def fees(self) -> tuple[int, int]:
        """The newest block's base fee, and the tip that the endpoint proposes; wei per gas."""
        head = fields_of(self._ask("eth_getBlockByNumber", _LATEST, False), "block")
        base = quantity(head.get("baseFeePerGas"), "block.baseFeePerGas", MAX_AMOUNT)
        tip = quantity(self._ask("eth_maxPriorityFeePerGas"), "tip", MAX_TIP_WEI)
        return base, tip

    def send_raw(self, raw: bytes) -> bytes:
        """Hand in a signed transaction; its hash, which is checked against our own."""
        tx_hash = data_of(self._ask("eth_sendRawTransaction", _hex(raw)), "transaction hash", 32)
        if tx_hash != keccak(raw):
            raise malformed("transaction hash", _hex(tx_hash))
        return tx_hash

    def receipt(self, tx_hash: bytes) -> TxReceipt | None:
        """The receipt of exactly this transaction, or None.

        None means nothing by itself: pending, unknown, reorged out, or older than a gateway looks back. Old Lotus
        answers for a replaced transaction with its replacement's receipt: that counts as None.
        """
        answer = self._ask("eth_getTransactionReceipt", _hex(tx_hash))
        if answer is None:
            return None
        receipt = receipt_of(answer)
        return receipt if receipt.tx_hash == tx_hash else None

    # -- the call itself ------------------------------------------------------------------------------------------

    def ask(self, method: str, *params: Any) -> Any:
        """Any other call, for local test chains; the result is not checked."""
        return self._ask(method, *params)

    def batch(self, calls: Sequence[Call]) -> list[Any]:
        """Many calls in as few HTTP requests as may be; for each its unchecked result, or the RpcError that it met.

        An endpoint that takes no batches is asked call by call. RpcUnavailable when a whole request fails.
        """
        answers: list[Any] = []
        for start in range(0, len(calls), MAX_BATCH):
            answers += self._batch(calls[start : start + MAX_BATCH])
        return answers

    def _batch(self, calls: Sequence[Call]) -> list[Any]:
        if len(calls) == 1 or self._singly > 0:
            self._singly = max(0, self._singly - 1)
            return [self._tried(call) for call in calls]
        first = next(self._ids)
        ids = [first, *(next(self._ids) for _ in calls[1:])]
        refused = False
        try:
            response = self._post([_envelope(number, *call) for number, call in zip(ids, calls, strict=True)])
        except TooMuch:  # together they are more than we, or it, can take
            return [self._tried(call) for call in calls]
        except RpcRefused:
            response, refused = None, True
        if isinstance(response, dict) and response.get("error") is not None:
            error = error_of(response["error"])
            if not isinstance(error, RpcRefused):
                raise error
            refused = True
        if refused:  # no batches here: remembered, so that it is not tried each time
            self._singly = BATCHES_SINGLY
            return [self._tried(call) for call in calls]
        if not isinstance(response, list):
            raise malformed("answer", response)
        found = (fields for fields in response if isinstance(fields, dict))
        by_id = {fields["id"]: fields for fields in found if isinstance(fields.get("id"), int)}
        return [
            _result_or_error(by_id.get(ident), ident, _number_in(call)) for ident, call in zip(ids, calls, strict=True)
        ]

    def _tried(self, call: Call) -> Any:
        try:
            return self._ask(call[0], *call[1], number=_number_in(call))
        except (RpcRefused, NullRound) as exc:
            return exc

    def _ask(self, method: str, *params: Any, number: int | None = None) -> Any:
        ident = next(self._ids)
        response = self._post(_envelope(ident, method, params), number)
        result = _result_or_error(fields_of(response, "answer"), ident, number)
        if isinstance(result, RpcError):
            raise result
        return result

    def _post(self, document: Any, number: int | None = None) -> Any:
        status, body = self.transport.post(orjson.dumps(document))
        if len(body) > SURELY_FEW and len(body.translate(None, _NO_VALUE)) > MAX_VALUES:
            raise TooMuch(RESPONSE_TOO_LARGE, f"the answer holds more than {MAX_VALUES} values")
        try:
            answer = orjson.loads(body)
        except ValueError as exc:
            if status >= 300:
                raise http_error_of(status, None, number) from exc
            raise RpcUnavailable("the endpoint's answer is not JSON") from exc
        if status >= 300:
            raise http_error_of(status, answer, number)
        return answer


def _envelope(ident: int, method: str, params: Sequence[Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": ident, "method": method, "params": params}


def _number_in(call: Call) -> int | None:
    """The number of the block that a call asks for, which may be a null round."""
    method, params = call
    return int(params[0], 16) if method == "eth_getBlockByNumber" and params[0].startswith("0x") else None


def _result_or_error(envelope: dict[str, Any] | None, ident: int, number: int | None = None) -> Any:
    fields = {} if envelope is None else envelope
    error = fields.get("error")
    if error is not None and fields.get("result") is None:
        return error_of(error, number)
    if error is not None or fields.get("id") != ident or "result" not in fields:
        return malformed("answer", sorted(fields))
    return fields["result"]


def _hash_at(number: int, answer: Any) -> bytes | None:
    if answer is None or isinstance(answer, NullRound):
        return None
    if isinstance(answer, RpcError):
        raise answer
    fields = fields_of(answer, "block")
    found = quantity(fields.get("number"), "block.number")
    return data_of(fields.get("hash"), "block.hash", 32) if found == number else None


def _block_or_none(answer: Any) -> Block | None:
    if answer is None or isinstance(answer, RpcError):
        return None
    try:
        return block_of(answer)
    except RpcUnavailable:
        return None


def _logs_of(answer: Any, address: str) -> list[Log]:
    if isinstance(answer, RpcError):
        raise answer
    if not isinstance(answer, list) or len(answer) > MAX_LOGS:
        raise malformed("logs", answer)
    logs = logs_of(answer)
    for other in {log.address for log in logs}:
        if other.lower() != address.lower():
            raise malformed("log.address", other)
    return logs


def _hex(data: bytes) -> str:
    return "0x" + data.hex()


def _tag(block: Tag) -> str:
    return block if isinstance(block, str) else hex(block)


__all__ = ["Block", "ChainClient", "Log", "TxReceipt", "address_of"]
