"""What the chain says about all deliveries at once: one JSON-RPC batch a step, two when receipts are new."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from bridge.chain.client import Block, Call, ChainClient
from bridge.chain.contracts import compute_bridge, fulfilled_outcome
from bridge.chain.sendstate import Standing
from bridge.chain.shapes import MAX_AMOUNT, MAX_NONCE, TxReceipt, block_of, data_of, fields_of, quantity, receipt_of
from bridge.errors import FatalError, NullRound, RpcError, RpcRefused, RpcUnavailable
from bridge.store.jobs import Job
from bridge.store.outbox import Attempt, Delivery, Item
from executor.errors import InvalidInput
from executor.protocol.wire import OnChainState, result_digest

SETTLED = (OnChainState.FULFILLED, OnChainState.FAILED, OnChainState.REFUSED, OnChainState.WITHHELD)


@dataclass(frozen=True)
class Case:
    """An outbox row with its job and all its transactions, newest last."""

    item: Item
    job: Job
    attempts: Sequence[Attempt]

    @property
    def live(self) -> Sequence[Attempt]:
        """The attempts under the newest nonce, newest last."""
        return [attempt for attempt in self.attempts if attempt.nonce == self.attempts[-1].nonce]

    @property
    def blocks(self) -> set[int]:
        """The numbers of the blocks that its receipts name."""
        return {a.mined_block_number for a in self.attempts if a.mined_block_number is not None}

    def noted(self, mined: Mapping[bytes, Mining]) -> Case:
        """The same with these receipts, as the store holds them now."""
        return replace(self, attempts=[_noted(a, mined.get(a.tx_hash)) for a in self.attempts])


@dataclass(frozen=True)
class Seen:
    """What the contract says about one delivery, or why that is not known now."""

    standing: Standing = Standing.ELSEWHERE
    is_conflict: bool = False  # it holds another outcome
    trouble: RpcRefused | InvalidInput | RpcUnavailable | None = None


@dataclass(frozen=True)
class Mining:
    """A receipt and the effective price of its gas, in wei."""

    receipt: TxReceipt
    gas_price: int | None


@dataclass(frozen=True)
class Survey:
    """The chain as one step sees it. Amounts in wei."""

    head: Block
    base_fee: int
    tip_fee: int
    gas_limit: int  # of a block
    count: int  # transactions that our account has on-chain
    balance: int
    tip: int  # the listener's newest block
    seen: dict[int, Seen] = field(default_factory=dict)  # by outbox row
    mined: dict[bytes, Mining] = field(default_factory=dict)  # by transaction
    final_count: int | None = None  # transactions that our account has in a final block's state, where it was told
    headers: dict[int, Any] = field(default_factory=dict)  # unchecked: what was answered for blocks of known receipts


class Surveyor:
    """Asks for one account and one contract on one chain."""

    def __init__(self, client: ChainClient, chain_id: int, contract: str, address: str) -> None:
        self._client = client
        self._chain_id = chain_id
        self._contract = contract
        self._address = address

    def look(self, tip: int, final: int, cases: Sequence[Case], others: Iterable[bytes]) -> Survey:
        """Ask one endpoint for everything, in one batch. `others`: transactions whose receipts are wanted too.

        `final`: the number of a block that is final. With several endpoints, the whole step is asked of the one that
        answers here.

        FatalError when it is on another chain.
        """
        hashes = {a.tx_hash for case in cases for a in case.attempts if a.mined_block_hash is None} | set(others)
        wanted = sorted(hashes)
        numbers = sorted({number for case in cases for number in case.blocks})
        calls: list[Call] = [
            ("eth_getBlockByNumber", ("latest", False)),
            ("eth_getTransactionCount", (self._address, "latest")),
            ("eth_maxPriorityFeePerGas", ()),
            ("eth_getBalance", (self._address, "latest")),
            ("eth_getTransactionCount", (self._address, hex(final))),
            *(call for case in cases for call in self._standing_calls(case)),
            *(("eth_getTransactionReceipt", ("0x" + tx_hash.hex(),)) for tx_hash in wanted),
            *_header_calls(numbers),
        ]
        poll = self._client.poll(at_least=tip, more=calls)
        if poll.chain_id != self._chain_id:
            raise FatalError(f"the endpoint is not on chain {self._chain_id}; check chain.rpc_urls")
        answers = iter(poll.more)
        head, count, tip_fee, balance = (_needed(answer) for answer in islice(answers, 4))
        final_count = next(answers)
        fields = fields_of(head, "block")
        states = list(islice(answers, 2 * len(cases)))
        receipts = list(islice(answers, len(wanted)))
        return Survey(
            head=block_of(head),
            base_fee=quantity(fields.get("baseFeePerGas"), "block.baseFeePerGas", MAX_AMOUNT),
            gas_limit=quantity(fields.get("gasLimit"), "block.gasLimit"),
            tip_fee=quantity(tip_fee, "tip", MAX_AMOUNT),
            count=quantity(count, "nonce", MAX_NONCE),
            balance=quantity(balance, "balance", MAX_AMOUNT),
            tip=tip,
            seen={case.item.id: _seen(case, *states[2 * n : 2 * n + 2]) for n, case in enumerate(cases)},
            mined={h: mining for h, answer in zip(wanted, receipts, strict=True) if (mining := _mining(h, answer))},
            final_count=None if isinstance(final_count, RpcError) else quantity(final_count, "nonce", MAX_NONCE),
            headers=dict(zip(numbers, answers, strict=True)),
        )

    def canonical(self, numbers: Iterable[int], known: Mapping[int, Any]) -> dict[int, bytes | None]:
        """The hash of the canonical block at each number; None where there is none.

        `known`: a survey's headers; the others are asked for in one batch. RpcUnavailable when an endpoint does not
        answer for one of them.
        """
        asked = sorted(set(numbers) - known.keys())
        answers = dict(zip(asked, self._client.batch(_header_calls(asked)), strict=True)) if asked else {}
        return {number: self._hash_at(number, answer) for number, answer in ({**known, **answers}).items()}

    def _hash_at(self, number: int, answer: Any) -> bytes | None:
        if isinstance(answer, RpcError):  # a null round in one of its dialects, or no answer: asked once more, alone
            try:
                return self._client.block_by_number(number).hash
            except NullRound:
                return None
        block = None if answer is None else block_of(answer)
        return None if block is None or block.number != number else block.hash

    def _standing_calls(self, case: Case) -> list[Call]:
        bridge, request_id = compute_bridge(), case.job.request.id
        data = (bridge.encode("resultOf", request_id), bridge.encode("requestHash", request_id))
        return [("eth_call", ({"to": self._contract, "data": "0x" + each.hex()}, "latest")) for each in data]


def _header_calls(numbers: Iterable[int]) -> list[Call]:
    return [("eth_getBlockByNumber", (hex(number), False)) for number in numbers]


def _noted(attempt: Attempt, mining: Mining | None) -> Attempt:
    if mining is None:
        return attempt
    receipt = mining.receipt
    return replace(
        attempt,
        mined_block_hash=receipt.block_hash,
        mined_block_number=receipt.block_number,
        mined_ok=receipt.ok,
        gas_used=receipt.gas_used,
        gas_price=mining.gas_price,
    )


def _needed(answer: Any) -> Any:
    if isinstance(answer, RpcError):
        raise RpcUnavailable(f"the endpoint does not answer: {answer}")
    return answer


def _seen(case: Case, result: Any, request_hash: Any) -> Seen:
    try:
        return _standing(case, result, request_hash)
    except (RpcUnavailable, RpcRefused, InvalidInput) as exc:
        return Seen(trouble=exc)


def _standing(case: Case, result: Any, request_hash: Any) -> Seen:
    for answer in (result, request_hash):
        if isinstance(answer, RpcError):
            raise answer
    value, digest = compute_bridge().decode("resultOf", data_of(result, "call"))
    try:
        state = OnChainState(value)
    except ValueError as exc:
        raise InvalidInput("state", f"{value} is no state; is this another contract?") from exc
    if state is OnChainState.UNKNOWN:
        return Seen(Standing.ELSEWHERE)
    if state is OnChainState.REQUESTED:
        (open_hash,) = compute_bridge().decode("requestHash", data_of(request_hash, "call"))
        return Seen(Standing.OPEN if bytes(open_hash) == case.item.request_hash else Standing.ELSEWHERE)
    if _is_ours(case.item, state, bytes(digest)):
        return Seen(Standing.OURS)
    return Seen(Standing.OTHER, is_conflict=case.item.kind is Delivery.FULFIL and state in SETTLED)


def _is_ours(item: Item, state: OnChainState, digest: bytes) -> bool:
    if item.kind is Delivery.EXPIRE:
        return state is OnChainState.EXPIRED
    if item.kind is Delivery.DRAW:
        return state is OnChainState.CANCELLED
    ours = result_digest(item.request_hash, fulfilled_outcome(item.calldata).hash)
    return state in SETTLED and digest == ours


def _mining(tx_hash: bytes, answer: Any) -> Mining | None:
    """A receipt of exactly this transaction. None means nothing by itself (`ChainClient.receipt`)."""
    if answer is None or isinstance(answer, RpcError):
        return None
    try:
        receipt = receipt_of(answer)
        price = answer.get("effectiveGasPrice")
        price = None if price is None else quantity(price, "receipt.effectiveGasPrice", MAX_AMOUNT)
    except RpcUnavailable:  # malformed: one delivery's receipt keeps no other one waiting
        return None
    return Mining(receipt, price) if receipt.tx_hash == tx_hash else None
