"""What `insula doctor` finds out about endpoints: each one alone, and whether they tell the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from bridge.chain.client import Block, ChainClient
from bridge.chain.shapes import block_of
from bridge.chain.views import BridgeViews, RegistryViews
from bridge.cli.findings import Finding, note, ok, problem
from bridge.errors import NullRound, RpcError, RpcRefused, RpcUnavailable
from executor.errors import InsulaError, InvalidInput
from executor.protocol.wire import ZERO_ADDRESS

STALE_HEAD_SECONDS = 240.0  # eight epochs of Filecoin
SKEW_SECONDS = 30.0  # a block from the future: an epoch
SLOW_SECONDS = 2.0
RANGES = (2880, 1000, 100)  # epochs of one eth_getLogs: Lotus takes 2880
DEPTHS = (20_000, 2000, 900)  # blocks below the head whose state is asked for
NEAR = 20  # blocks below the head that are looked at for null rounds
HEALTHY_FINALITY = 40  # epochs that F3 or the finality calculator is behind, when they work
BEHIND = 5  # blocks that one endpoint may be behind another


@dataclass(frozen=True)
class Expected:
    """What the configuration says. None, 0 and "": it does not say."""

    chain_id: int | None = None
    contract: str = ""
    deploy_block: int | None = None
    finality_depth: int = 0
    stale_seconds: float = STALE_HEAD_SECONDS


@dataclass(frozen=True)
class Seen:
    """What endpoints are compared by."""

    name: str
    head: Block
    genesis: bytes | None


class EndpointCheck:
    """Looks at one endpoint. `clock` gives seconds since 1970, `timer` seconds of whatever beginning."""

    def __init__(
        self,
        name: str,
        client: ChainClient,
        expected: Expected,
        clock: Callable[[], float],
        timer: Callable[[], float],
    ) -> None:
        self.name = name
        self._client = client
        self._expected = expected
        self._clock = clock
        self._timer = timer
        self.seen: Seen | None = None

    def run(self) -> Iterator[Finding]:
        """All looks; after a failure that concerns everything, no more."""
        try:
            chain = self._chain_id()
            yield chain
            if chain.level == "problem":
                return
            head = self._client.head()
            self.seen = Seen(self.name, head, self._client.genesis_hash())
        except RpcError as exc:
            yield problem(self.name, str(exc), "is its URL right, and is it up?")
            return
        looks = (
            self._head,
            self._latency,
            self._finality,
            self._ranges,
            self._states,
            self._batches,
            self._null_rounds,
        )
        for look in (*looks, self._contract, self._history):
            try:
                found = look(head)
            except (RpcError, InvalidInput) as exc:
                found = problem(self._about(look.__name__.strip("_")), str(exc), "try again; if it stays, replace it")
            if found is not None:
                yield found

    def _about(self, what: str) -> str:
        return f"{self.name} {what}"

    def _chain_id(self) -> Finding:
        found, wanted = self._client.chain_id(), self._expected.chain_id
        if wanted is not None and found != wanted:
            remedy = "correct the URL or chain.chain_id; the bridge does not run against another chain"
            return problem(self._about("chain"), f"is on chain {found}, not {wanted}", remedy)
        return ok(self._about("chain"), f"chain id {found}")

    def _head(self, head: Block) -> Finding:
        age = self._clock() - head.timestamp
        what, said = self._about("head"), f"block {head.number}, {age:.0f} s old"
        if age > self._expected.stale_seconds:
            return problem(what, said, "it hangs, or the chain stands, or this machine's clock is ahead")
        if age < -SKEW_SECONDS:
            return problem(what, f"block {head.number} is {-age:.0f} s in the future", "set this machine's clock (NTP)")
        if age < 0:
            return ok(what, f"block {head.number}, {-age:.0f} s ahead of this machine's clock")
        return ok(what, said)

    def _latency(self, _head: Block) -> Finding:
        taken = []
        for _ in range(3):
            began = self._timer()
            self._client.chain_id()
            taken.append(self._timer() - began)
        middle = sorted(taken)[1]
        if middle > SLOW_SECONDS:
            return note(self._about("latency"), f"{middle:.1f} s a call", "an endpoint nearby makes results faster")
        return ok(self._about("latency"), f"{middle * 1000:.0f} ms a call")

    def _finality(self, head: Block) -> Finding:
        what = self._about("finality")
        try:
            final = block_of(self._client.ask("eth_getBlockByNumber", "finalized", False))
        except (RpcRefused, RpcUnavailable) as exc:
            return note(what, f"it does not answer for the tag finalized: {exc}", "leave chain.finality_tag empty")
        lag = head.number - final.number
        if lag <= 0:
            remedy = (
                'fine on a devnet; elsewhere leave chain.finality_tag empty: this endpoint\'s "finalized" means nothing'
            )
            return note(what, "it calls its newest block finalized", remedy)
        if lag > HEALTHY_FINALITY:
            remedy = "fast finality is not at work there; what waits for chain.finality_tag waits longer"
            return note(what, f"finalized is {lag} blocks behind the head", remedy)
        return ok(what, f"finalized is {lag} blocks behind the head")

    def _ranges(self, head: Block) -> Finding:
        what, last = self._about("eth_getLogs"), max(0, head.number - 1)  # logs of the head may not be there yet
        address, refused = self._expected.contract or ZERO_ADDRESS, ""
        for size in RANGES:
            first = max(0, last - size)
            try:
                self._client.logs_by_range(first, last, address)
            except RpcError as exc:
                refused = f"{size} blocks: {exc}"
                continue
            said = f"takes {last - first} blocks at once"
            if size == RANGES[0]:
                return ok(what, said)
            return note(what, f"{said}; {refused}", "catching up takes more calls")
        return problem(
            what, f"refuses even {RANGES[-1]} blocks: {refused}", "take another endpoint, or another plan of it"
        )

    def _states(self, head: Block) -> Finding | None:
        what, needed = self._about("states"), self._expected.finality_depth
        depths = sorted({depth for depth in (*DEPTHS, needed) if 0 < depth <= head.number}, reverse=True)
        for depth in depths:
            try:
                self._client.balance(ZERO_ADDRESS, head.number - depth)
            except RpcError:
                continue
            if depth >= needed:
                return ok(what, f"shows the state of {depth} blocks ago")
            break
        else:
            depth = 0
        if depths and needed > depth:
            remedy = "the relayer asks for the account's state there; take an endpoint that keeps more"
            return problem(what, f"does not show the state of {needed} blocks ago (chain.finality_depth)", remedy)
        return note(what, f"shows {depth} blocks of old states") if depths else None

    def _batches(self, _head: Block) -> Finding:
        calls: list[dict[str, Any]] = [
            {"jsonrpc": "2.0", "id": n, "method": "eth_chainId", "params": []} for n in (1, 2)
        ]
        try:
            status, body = self._client.transport.post(orjson.dumps(calls))
            answer = orjson.loads(body) if status == 200 else None
        except (RpcRefused, ValueError):
            answer = None
        if isinstance(answer, list) and len(answer) == len(calls):
            return ok(self._about("batches"), "takes several calls in one request")
        return note(
            self._about("batches"), "takes one call a request", "a poll costs more requests; mind its rate limit"
        )

    def _null_rounds(self, head: Block) -> Finding | None:
        """How a missing epoch is told, if there is one near."""
        block = head
        for _ in range(NEAR):
            if block.number == 0:
                return None
            parent = self._client.block_by_hash(block.parent_hash)
            if parent is None:
                return problem(
                    self._about("blocks"), f"does not know the parent of block {block.number}", "take another endpoint"
                )
            if parent.number < block.number - 1:
                return self._dialect(block.number - 1)
            block = parent
        return ok(self._about("null rounds"), f"none in the last {NEAR} blocks")

    def _dialect(self, epoch: int) -> Finding:
        what = self._about("null rounds")
        try:
            self._client.block_by_number(epoch)
        except NullRound:
            return ok(what, f"epoch {epoch} is one, and told in a way that the bridge knows")
        except RpcError as exc:
            remedy = "please report these words: the bridge does not know them"
            return problem(what, f"epoch {epoch} is one, and told as: {exc}", remedy)
        return problem(what, f"gives a block for epoch {epoch}, which is none", "take another endpoint")

    def _contract(self, _head: Block) -> Finding | None:
        address, what = self._expected.contract, self._about("contract")
        if not address:
            return None
        if not self._client.code(address):
            return problem(what, f"there is no contract at {address}", "check the contract's address and the chain")
        views = BridgeViews(self._client, address)
        try:
            registry, count, bounds = views.registry(), views.request_count(), views.bounds()
            if not self._client.code(registry):
                return problem(what, f"its registry {registry} has no code", "this is not a ComputeBridge in use")
            nodes = RegistryViews(self._client, registry).node_count()
        except (RpcRefused, InvalidInput):
            return problem(what, f"{address} does not answer as a ComputeBridge", "check the contract's address")
        if views.is_paused():
            return note(
                what,
                f"{address}: {count} requests; its owner has paused new ones",
                "open requests go on; new ones wait for its owner",
            )
        said = f"{count} requests, ttl {bounds.min_ttl} to {bounds.max_ttl} s; registry {registry}, {nodes} nodes"
        return ok(what, f"{address}: {said}")

    def _history(self, head: Block) -> Finding | None:
        first, address = self._expected.deploy_block, self._expected.contract
        if first is None or not address:
            return None
        what = self._about("history")
        if first > head.number:
            return problem(what, f"chain.deploy_block {first} is beyond the head {head.number}", "correct it")
        try:
            self._client.logs_by_range(first, min(first + 1, head.number), address)
        except RpcError as exc:
            remedy = "a bridge that starts anew, or a rebuild, needs an endpoint that does"
            return note(what, f"does not show the logs of chain.deploy_block {first}: {exc}", remedy)
        return ok(what, f"shows the logs of chain.deploy_block {first}")


def compared(seen: Sequence[Seen], clients: Sequence[ChainClient]) -> Iterator[Finding]:
    """Whether endpoints are on one chain, at one height, on one branch."""
    if len(seen) < 2:
        return
    known = {one.genesis for one in seen if one.genesis is not None}
    if len(known) > 1:
        yield problem("endpoints", "they have different first blocks", "one is on another chain: remove it")
        return
    top = max(one.head.number for one in seen)
    for one in seen:
        if top - one.head.number > BEHIND:
            yield problem(f"{one.name} height", f"{top - one.head.number} blocks behind the others", "replace it")
    number = min(one.head.number for one in seen) - BEHIND
    hashes = {_hash_at(client, number) for client in clients} - {None}
    if number >= 0 and len(hashes) > 1:
        remedy = "ask a third one which is right, and remove the other"
        yield problem("endpoints", f"they tell different blocks at {number}", remedy)
    elif number >= 0:
        yield ok("endpoints", f"they agree on block {number}")


def _hash_at(client: ChainClient, number: int) -> bytes | None:
    try:
        return client.block_by_number(max(0, number)).hash
    except InsulaError:
        return None
