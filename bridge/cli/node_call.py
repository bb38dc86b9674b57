"""What the verbs about one node on-chain share: NODE, --rpc, --contract, --key and --json, and how they tell."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bridge.chain.client import ChainClient
from bridge.cli.context import ContractOption, KeyOption, RpcOption, chain_at, contract_of, signer_of
from bridge.cli.output import JsonFlag, emit
from bridge.errors import BridgeError, RpcRefused
from executor.errors import InvalidInput
from executor.protocol.labels import Label

if TYPE_CHECKING:
    from bridge.chain.signer import TxSigner
    from bridge.chain.views import NodeView, RegistryViews

NodeArgument = Annotated[int, typer.Argument(metavar="NODE", min=1, max=2**48 - 1, help="The node's id.")]


class NotNow(BridgeError):
    """As the chain stands, this cannot be done; the message says why, and what first."""


@dataclass(frozen=True)
class Told:
    """What was done: fields for --json, and the same in words."""

    fields: dict[str, Any]
    text: str


@dataclass(frozen=True)
class NodeOnChain:
    """A registered node, as the registry shows it."""

    client: ChainClient
    registry: RegistryViews
    id: int
    view: NodeView


@dataclass(frozen=True)
class NodeCall:
    """One call of a verb: the common options as they were given. Nothing is asked before `signer` or `node`."""

    node_id: int
    rpc: str
    contract: str
    key: str

    def signer(self) -> TxSigner:
        """The account that acts."""
        return signer_of(self.key)

    @contextmanager
    def node(self) -> Iterator[NodeOnChain]:
        """The node. InvalidInput if the registry of --contract knows none of this id."""
        address = contract_of(self.contract)
        with chain_at(self.rpc) as client:
            registry = registry_of(client, address)
            view = registry.node_of(self.node_id)
            if view is None:
                raise InvalidInput("NODE", f"the registry knows no node {self.node_id}")
            yield NodeOnChain(client, registry, self.node_id, view)

    @contextmanager
    def own_node(self) -> Iterator[tuple[NodeOnChain, TxSigner]]:
        """The node and its operator. InvalidInput if it is not the node of --key's account."""
        operator = self.signer()
        with self.node() as node:
            if node.view.operator != operator.address:
                raise InvalidInput(
                    "--key", f"is the key of {operator.address}; node {node.id} is {node.view.operator}'s"
                )
            yield node, operator


def registry_of(client: ChainClient, contract: str) -> RegistryViews:
    """The registry of a ComputeBridge. InvalidInput("--contract") where the contract there is none."""
    from bridge.chain.rpc_errors import revert_data
    from bridge.chain.views import BridgeViews, RegistryViews

    try:
        return RegistryViews(client, BridgeViews(client, contract).registry())
    except (InvalidInput, RpcRefused) as exc:
        if isinstance(exc, RpcRefused) and revert_data(exc) is None:
            raise
        raise InvalidInput("--contract", f"{contract} does not answer as a ComputeBridge") from exc


def label_words(words: list[str], option: str) -> list[str]:
    """Labels as they were given, in their one form, each once. InvalidInput that names the option."""
    parsed = []
    for word in words:
        try:
            parsed.append(str(Label.parse(word)))
        except InvalidInput as exc:
            raise InvalidInput(option, exc.problem) from exc
    return list(dict.fromkeys(parsed))


def node_verb(act: Callable[..., Told]) -> Callable[..., None]:
    """The verb whose work is `act(call, ...)`: takes NODE, what else `act` takes, and the common options.

    The options' declarations stand here once; typer reads them from the signature that is put together.
    """
    shared = inspect.signature(_shared, eval_str=True).parameters
    _, *own = inspect.signature(act, eval_str=True).parameters.values()
    node_id, *rest = shared.values()
    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (node_id, *own, *rest)]

    def verb(**given: Any) -> None:
        as_json = given.pop("as_json")
        call = NodeCall(**{name: given.pop(name) for name in shared if name != "as_json"})
        told = act(call, **given)
        emit({"ok": True, "nodeId": call.node_id, **told.fields}, as_json=as_json, text=told.text)

    verb.__name__, verb.__doc__ = act.__name__, act.__doc__
    verb.__annotations__ = {p.name: p.annotation for p in parameters}
    verb.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return verb


def _shared(
    node_id: NodeArgument,
    rpc: RpcOption = "",
    contract: ContractOption = "",
    key: KeyOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Only its signature is used."""
