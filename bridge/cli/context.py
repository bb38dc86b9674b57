"""Options that many verbs share: where the bridge, the chain and the contract are, and whose key signs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from executor.content.web import Http, Signer
from executor.content.weburl import base_url
from executor.errors import InvalidInput
from executor.protocol.leases import MAX_JSON_BYTES
from executor.protocol.nodeauth import Audience
from executor.protocol.signing import Scope
from executor.protocol.wire import checksum_address

if TYPE_CHECKING:  # web3 takes a second and tens of megabytes to load, and most verbs need no chain
    from bridge.chain.client import ChainClient
    from bridge.chain.signer import TxSigner

BridgeOption = Annotated[str, typer.Option("--bridge", envvar="INSULA_BRIDGE", help="The bridge's URL.")]
RpcOption = Annotated[str, typer.Option("--rpc", envvar="INSULA_RPC", help="A JSON-RPC endpoint of the chain.")]
ContractOption = Annotated[
    str, typer.Option("--contract", envvar="INSULA_CONTRACT", help="The ComputeBridge's address.")
]
ChainIdOption = Annotated[int | None, typer.Option("--chain-id", min=0, help="The chain that the contract is on.")]
KeyOption = Annotated[
    str, typer.Option("--key", envvar="INSULA_KEY", help="Whose key signs: env:NAME, file:PATH or keystore:PATH.")
]


def required(value: str, option: str, variable: str) -> str:
    """`value`, or InvalidInput that says how to give it."""
    if not value:
        raise InvalidInput(option, f"is needed; give it, or set {variable}")
    return value


def bridge_url(url: str) -> str:
    """The bridge's URL without a slash at its end; InvalidInput where it is none."""
    return base_url(required(url, "--bridge", "INSULA_BRIDGE"), "--bridge")


@contextmanager
def bridge_at(url: str) -> Iterator[Http]:
    """Calls to a bridge, unsigned."""
    with Http(bridge_url(url)) as http:
        yield http


@contextmanager
def chain_at(url: str) -> Iterator[ChainClient]:
    """Calls to a chain."""
    from bridge.chain.client import ChainClient

    with ChainClient(required(url, "--rpc", "INSULA_RPC")) as client:
        yield client


@contextmanager
def signed_bridge(url: str, key: str, chain_id: int, contract: str) -> Iterator[Http]:
    """Calls to a bridge, signed by an account for this chain and contract."""
    signer = signer_of(key)
    base = bridge_url(url)
    audience = Audience(Scope(chain_id, contract), base)
    with Http(base, Signer(signer, audience)) as http:
        yield http


def signer_of(key: str) -> TxSigner:
    """The account behind a key reference."""
    from bridge.chain.signer import TxSigner

    return TxSigner.load(required(key, "--key", "INSULA_KEY"))


def contract_of(address: str) -> str:
    """The contract's address, checked."""
    return checksum_address(required(address, "--contract", "INSULA_CONTRACT"), "--contract")


@contextmanager
def understood() -> Iterator[None]:
    """While an answer of a bridge is read: InvalidInput("bridge") where it lacks what every bridge's answer has."""
    try:
        yield
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as exc:
        what = f"its answer is not understood ({type(exc).__name__}: {exc})"
        raise InvalidInput("bridge", f"{what}; is this a bridge, and of this version?") from exc


def get_json(http: Http, path: str, max_bytes: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """A JSON object from a bridge. Strict: no NaN, no endless nesting, no text that is not Unicode."""
    body = http.call("GET", path, max_bytes=max_bytes).body
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise InvalidInput("bridge", f"GET {path} did not answer with JSON; is this a bridge?") from exc
    if not isinstance(value, dict):
        raise InvalidInput("bridge", f"GET {path} did not answer with a JSON object; is this a bridge?")
    return value
