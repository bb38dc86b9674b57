"""An EVM endpoint over JSON-RPC. The only importer of web3; every answer is bounded in bytes and checked in shape.

web3's own retries are off (it would resend transactions by itself) and its formatters are not used. One client may be
shared by threads. Blocks are asked for by hash, or by a number that the endpoint itself has reached: never beyond.
"""

from __future__ import annotations

import itertools
import threading
import time
from types import TracebackType
from typing import Any, Self, cast

import orjson
import requests
import urllib3.exceptions
from eth_typing import URI
from eth_utils.crypto import keccak
from web3.exceptions import Web3Exception
from web3.providers.rpc import HTTPProvider
from web3.types import RPCEndpoint, RPCResponse

from bridge.chain.rpc_errors import RESPONSE_TOO_LARGE, error_of, http_error_of
from bridge.chain.shapes import (
    MAX_AMOUNT,
    Block,
    Log,
    TxReceipt,
    address_of,
    block_of,
    data_of,
    fields_of,
    log_of,
    malformed,
    quantity,
    receipt_of,
)
from bridge.errors import NullRound, RpcRefused, RpcUnavailable
from executor.errors import InvalidInput

MAX_RESPONSE_BYTES = 32 * 2**20
MAX_LOGS = 100_000  # in one answer
MAX_TIP_WEI = 10**20
_CHUNK = 64 * 2**10
_LATEST = "latest"

Tag = int | str  # a block number, or "latest" or "pending"


class _TooLarge(requests.RequestException):
    """An answer went beyond the byte limit."""


class _BoundedSession(requests.Session):
    """Reads each answer within a byte limit and a deadline, whatever the peer sends and however slowly."""

    def __init__(self, limit: int, seconds: float) -> None:
        super().__init__()
        self._limit = limit
        self._seconds = seconds

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        end = time.monotonic() + self._seconds
        response = super().send(request, **{**kwargs, "stream": True})
        body = bytearray()
        try:
            while chunk := response.raw.read1(_CHUNK, decode_content=True):
                body += chunk
                if len(body) > self._limit:
                    raise _TooLarge(f"the answer is larger than {self._limit} bytes")
                if time.monotonic() > end:
                    raise requests.Timeout(f"the answer took longer than {self._seconds} s")
        except (urllib3.exceptions.HTTPError, OSError):
            response.close()
            raise
        response.raw.release_conn()
        # What requests itself does in Response.content, which has no limit.
        response._content = bytes(body)  # noqa: SLF001
        response._content_consumed = True  # type: ignore[attr-defined]  # noqa: SLF001
        return response


class _Provider(HTTPProvider):
    """web3's provider with a strict, fast JSON decoder, and ids that can be checked."""

    def __init__(self, url: str, session: requests.Session, timeout_seconds: float) -> None:
        super().__init__(
            URI(url),
            request_kwargs={"timeout": timeout_seconds, "allow_redirects": False},
            session=session,
            exception_retry_configuration=None,
        )
        self._ids = itertools.count(1)
        self._sent = threading.local()

    def encode_rpc_request(self, method: RPCEndpoint, params: Any) -> bytes:
        self._sent.id = next(self._ids)
        return orjson.dumps({"jsonrpc": "2.0", "id": self._sent.id, "method": method, "params": params})

    @staticmethod
    def decode_rpc_response(raw_response: bytes) -> RPCResponse:
        return cast("RPCResponse", orjson.loads(raw_response))

    @property
    def last_id(self) -> int:
        """The id of this thread's last request."""
        return int(self._sent.id)


class ChainClient:
    """One JSON-RPC endpoint. Its errors: RpcUnavailable, RpcRefused, NullRound (`bridge.errors`)."""

    def __init__(
        self, rpc_url: str, timeout_seconds: float = 20.0, *, max_response_bytes: int = MAX_RESPONSE_BYTES
    ) -> None:
        if not rpc_url.startswith(("http://", "https://")):
            raise InvalidInput("rpc_url", "must start with http:// or https://")
        self._session = _BoundedSession(max_response_bytes, timeout_seconds)
        self._provider = _Provider(rpc_url, self._session, timeout_seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    # -- chain ----------------------------------------------------------------------------------------------------

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
        logs = self._logs({"blockHash": _hex(block_hash), "address": address}, address)
        for log in logs:
            if log.block_hash != block_hash:
                raise malformed("log.blockHash", _hex(log.block_hash))
        return logs

    def logs_by_range(self, first: int, last: int, address: str) -> list[Log]:
        """The logs of `address` in blocks first..last, both included. RpcRefused when that is too much."""
        query = {"fromBlock": hex(first), "toBlock": hex(last), "address": address}
        logs = self._logs(query, address)
        for log in logs:
            if not first <= log.block_number <= last:
                raise malformed("log.blockNumber", log.block_number)
        return logs

    def _logs(self, query: dict[str, str], address: str) -> list[Log]:
        answer = self._ask("eth_getLogs", query)
        if not isinstance(answer, list) or len(answer) > MAX_LOGS:
            raise malformed("logs", answer)
        logs = [log for log in map(log_of, answer) if log is not None]
        for log in logs:
            if log.address.lower() != address.lower():
                raise malformed("log.address", log.address)
        return logs

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
        return quantity(self._ask("eth_getTransactionCount", address, _tag(block)), "nonce")

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

    def _ask(self, method: str, *params: Any, number: int | None = None) -> Any:
        try:
            response: Any = self._provider.make_request(RPCEndpoint(method), list(params))
        except _TooLarge as exc:
            raise RpcRefused(RESPONSE_TOO_LARGE, str(exc)) from exc
        except requests.HTTPError as exc:
            raise http_error_of(exc.response.status_code, _json_or_none(exc.response.content), number) from exc
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, Web3Exception) as exc:
            raise RpcUnavailable(f"the endpoint does not answer ({type(exc).__name__})") from exc
        except ValueError as exc:
            raise RpcUnavailable("the endpoint's answer is not JSON") from exc
        envelope = fields_of(response, "answer")
        error = envelope.get("error")
        if error is not None:
            raise error_of(error, number)
        if envelope.get("id") != self._provider.last_id or "result" not in envelope:
            raise malformed("answer", sorted(envelope))
        return envelope["result"]


def _hex(data: bytes) -> str:
    return "0x" + data.hex()


def _tag(block: Tag) -> str:
    return block if isinstance(block, str) else hex(block)


def _json_or_none(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except ValueError:
        return None


__all__ = ["Block", "ChainClient", "Log", "TxReceipt", "address_of"]
