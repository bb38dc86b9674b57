"""The part of verification that only the chain can answer: an endpoint's word, listed apart from what is proved."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bridge.chain.client import ChainClient, Log
from bridge.chain.contracts import compute_bridge
from bridge.chain.views import BridgeViews, RegistryViews
from bridge.errors import RpcError
from bridge.verify_check import Basis, Check
from bridge.verify_inputs import producers_named
from executor.errors import InvalidInput
from executor.protocol.bundle import Bundle, BundleAttestation
from executor.protocol.produced import Produced
from executor.protocol.receipt import receipt_hash
from executor.protocol.wire import OnChainState, Outcome, Request, Status, result_digest

_STATES: dict[int, OnChainState] = {
    Status.SUCCEEDED: OnChainState.FULFILLED,
    Status.FAILED: OnChainState.FAILED,
    Status.REFUSED: OnChainState.REFUSED,
    Status.WITHHELD: OnChainState.WITHHELD,
}


def check_chain(bundle: Bundle, client: ChainClient, contract: str) -> Iterator[Check]:
    """Whether the request, the nodes and the result stand on this chain, in the contract that the verifier names."""
    request, outcome = bundle.request.request(), Outcome.decode(bundle.outcome)
    views = BridgeViews(client, contract)
    anchored = _guarded("chain and contract", lambda: _anchors(request, client, contract))
    yield anchored
    if not anchored.ok:  # whatever stands there says nothing about this request
        return
    yield _guarded("request event", lambda: _request_event(bundle, request, client, contract))
    yield _guarded("result", lambda: _result(request, outcome, views))
    yield _guarded("result event", lambda: _result_event(bundle, outcome, client, contract))
    for item in bundle.attestations:
        yield _guarded(f"registration of node {item.node_id}", lambda item=item: _registration(item, request, views))  # type: ignore[misc]
    for name, produced in producers_named(bundle).items():
        yield _guarded(f"producer of {name}", lambda produced=produced: _producer(produced, views))  # type: ignore[misc]


def _guarded(name: str, look: Callable[[], str]) -> Check:
    """`look` gives what was found, or raises InvalidInput with what is wrong."""
    try:
        return Check(name, ok=True, detail=look(), basis=Basis.CHAIN)
    except InvalidInput as exc:
        return Check(name, ok=False, detail=exc.problem, basis=Basis.CHAIN)
    except RpcError as exc:
        return Check(name, ok=False, checked=False, detail=f"the endpoint cannot say: {exc}", basis=Basis.CHAIN)


def _anchors(request: Request, client: ChainClient, contract: str) -> str:
    chain_id = client.chain_id()
    if request.chain_id != chain_id:
        raise InvalidInput("chain", f"the request is for chain {request.chain_id}, the endpoint is of {chain_id}")
    if request.contract != contract:
        raise InvalidInput("contract", f"the request is for {request.contract}, you named {contract}")
    if not client.code(contract):
        raise InvalidInput("contract", f"there is no contract at {contract}")
    return f"chain {chain_id}, contract {contract}"


def _request_event(bundle: Bundle, request: Request, client: ChainClient, contract: str) -> str:
    wanted = (compute_bridge().event_topic("JobRequested"), _word(request.id), request.hash)
    log = _find(client, contract, bundle.request_block_number, bundle.request_tx, wanted, "JobRequested")
    if int.from_bytes(log.data[:32], "big") != request.deadline:
        raise InvalidInput("event", f"JobRequested carries another deadline than {request.deadline}")
    return f"JobRequested in block {bundle.request_block_number} carries this request hash"


def _result(request: Request, outcome: Outcome, views: BridgeViews) -> str:
    result = views.result_of(request.id)
    expected = _STATES.get(outcome.status)
    if result.digest != result_digest(request.hash, outcome.hash):
        raise InvalidInput("result", f"the contract stands at {result.state.name} with another outcome, or none")
    if result.state != expected:
        raise InvalidInput("result", f"the contract says {result.state.name}, the outcome says {expected}")
    return f"resultOf({request.id}) is {result.state.name} with this outcome"


def _result_event(bundle: Bundle, outcome: Outcome, client: ChainClient, contract: str) -> str:
    wanted = (compute_bridge().event_topic("JobSettled"), _word(bundle.request.id), bundle.request_hash)
    log = _find(client, contract, bundle.settled_block_number, bundle.settled_tx, wanted, "JobSettled")
    if log.data[:32] != outcome.hash:
        raise InvalidInput("event", "JobSettled carries another outcome hash")
    anchored = {
        (log.topics[2], log.topics[3][-20:], log.data[:96])
        for log in client.logs_by_range(bundle.settled_block_number, bundle.settled_block_number, contract)
        if log.topics[:2] == (compute_bridge().event_topic("Attested"), _word(bundle.request.id))
        and len(log.topics) == 4
    }
    for item in bundle.attestations:
        words = receipt_hash(item.receipt) + item.log_root + _word(item.log_size)
        if (_word(item.node_id), bytes.fromhex(item.key[2:]), words) not in anchored:
            raise InvalidInput("event", f"no Attested event anchors receipt and log of key {item.key}")
    return f"JobSettled in block {bundle.settled_block_number}; {len(bundle.attestations)} receipts anchored"


def _registration(item: BundleAttestation, request: Request, views: BridgeViews) -> str:
    registry = RegistryViews(views.client, views.registry())
    if registry.node_of_key(item.key) != item.node_id:
        raise InvalidInput("node", f"the registry does not know {item.key} as a key of node {item.node_id}")
    node = registry.node_of(item.node_id)
    if node is None or node.operator != item.operator:
        raise InvalidInput("node", f"node {item.node_id} is not {item.operator}'s")
    now = (
        "counts" if registry.carries(item.node_id, request.order.curator, request.order.labels) else "no longer counts"
    )
    return f"{item.key} is node {item.node_id} of {item.operator}; what the order asks of its labels {now} today"


def _producer(produced: Produced, views: BridgeViews) -> str:
    result = views.result_of(produced.request_id)
    if result.digest != result_digest(produced.request_hash, produced.outcome_hash):
        raise InvalidInput("producer", f"request {produced.request_id} has another outcome on the chain, or none")
    registry = RegistryViews(views.client, views.registry())
    nodes = {key: registry.node_of_key(key) for key in produced.keys}
    if strangers := [key for key, node in nodes.items() if not node]:
        raise InvalidInput("producer", f"the registry knows no node of {', '.join(strangers)}")
    numbers = ", ".join(str(node) for node in nodes.values())
    return f"request {produced.request_id} has this output; its keys are of these nodes: {numbers}"


def _find(client: ChainClient, contract: str, block: int, tx: bytes, topics: tuple[bytes, ...], name: str) -> Log:
    for log in client.logs_by_range(block, block, contract):
        if log.tx_hash == tx and log.topics[: len(topics)] == topics:
            return log
    raise InvalidInput("event", f"there is no such {name} event in block {block}, transaction 0x{tx.hex()}")


def _word(number: int) -> bytes:
    return number.to_bytes(32, "big")
