"""What the chain itself says about a request: one eth_call, no key, so that nobody is believed about who asks."""

from __future__ import annotations

import json
import re
from typing import Any

from eth_utils.crypto import keccak

from executor.agent.errors import GiveBack
from executor.content.patience import Patience
from executor.content.web import Http
from executor.errors import InsulaError, PeerError, PeerUnavailable
from executor.protocol.canonical import strict_json
from executor.protocol.reasons import Reason
from executor.protocol.wire import Request

MAX_ANSWER_BYTES = 64 * 1024
MAX_NULL_ROUNDS = 20
_REQUEST_HASH = keccak(text="requestHash(uint256)")[:4]
_RESULT_OF = keccak(text="resultOf(uint256)")[:4]


class RpcRefused(InsulaError):
    """The endpoint understood and said no."""


class ChainView:
    """Reads `requestHash(id)` and `resultOf(id)` of one contract at `depth` blocks below the head (0: at the head)."""

    def __init__(self, http: Http, chain_id: int, contract: str, depth: int) -> None:
        self._http = http
        self._chain_id = chain_id
        self._contract = contract
        self._depth = depth
        self._is_right_chain = False

    def check(self, request: Request, patience: Patience) -> None:
        """GiveBack(REQUEST_NOT_ON_CHAIN) unless the chain holds exactly this request, open, at this depth.

        GiveBack(NODE_FAULT) where the endpoint does not answer in time, or serves another chain.
        """
        try:
            [found] = patience.persist(lambda: self._read(_REQUEST_HASH, request.id, 1))
        except (PeerError, RpcRefused) as exc:
            raise GiveBack(Reason.NODE_FAULT, f"the node's chain endpoint: {exc}") from exc
        if found != request.hash:
            says = "no open request of this id" if found == bytes(32) else "another request under this id"
            raise GiveBack(Reason.REQUEST_NOT_ON_CHAIN, f"the chain has {says} at depth {self._depth}")

    def result_digest(self, request_id: int) -> bytes:
        """What `executor.protocol.wire.result_digest` gives, of a settled request; else 32 zeros.

        One try: PeerError, RpcRefused.
        """
        return self._read(_RESULT_OF, request_id, 2)[1]

    def _read(self, selector: bytes, request_id: int, words: int) -> list[bytes]:
        if not self._is_right_chain:
            chain_id = _quantity(self._rpc("eth_chainId", []))
            if chain_id != self._chain_id:
                raise RpcRefused(f"serves chain {chain_id}, not {self._chain_id}")
            self._is_right_chain = True
        call = {"to": self._contract, "data": f"0x{(selector + request_id.to_bytes(32, 'big')).hex()}"}
        if not self._depth:
            return _words(self._rpc("eth_call", [call, "latest"]), words)
        number = _quantity(self._rpc("eth_blockNumber", [])) - self._depth
        for block in range(number, max(-1, number - MAX_NULL_ROUNDS), -1):
            try:
                return _words(self._rpc("eth_call", [call, hex(block)]), words)
            except RpcRefused as exc:
                if "null round" not in str(exc):  # an epoch without a tipset: the state is that of the one before
                    raise
        raise RpcRefused(f"no block near {number}")

    def _rpc(self, method: str, params: list[Any]) -> Any:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        reply = self._http.call("POST", "", body, max_bytes=MAX_ANSWER_BYTES)
        try:
            answer = strict_json(reply.body.decode())
        except ValueError as exc:
            raise PeerUnavailable(f"{method}: the answer is not JSON") from exc
        if not isinstance(answer, dict) or ("result" not in answer and "error" not in answer):
            raise PeerUnavailable(f"{method}: the answer is not JSON-RPC")
        if answer.get("error") is not None:
            error = answer["error"]
            message = error.get("message") if isinstance(error, dict) else error
            raise RpcRefused(f"{method}: {message!s:.300}")
        return answer["result"]


def _quantity(value: Any) -> int:
    if not isinstance(value, str) or not re.fullmatch(r"0x[0-9a-fA-F]{1,16}", value):
        raise RpcRefused(f"{value!r:.80} is not a quantity")
    return int(value, 16)


def _words(value: Any, count: int) -> list[bytes]:
    if not isinstance(value, str) or not re.fullmatch(rf"0x[0-9a-fA-F]{{{64 * count}}}", value):
        raise RpcRefused(f"{value!r:.80} is not {32 * count} bytes; is this the contract?")
    data = bytes.fromhex(value[2:])
    return [data[start : start + 32] for start in range(0, len(data), 32)]
