"""`insula job quote`: what an order would cost, and which registered nodes could answer it. Nothing is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from bridge.chain.client import ChainClient
from bridge.cli.context import ContractOption, RpcOption, chain_at, contract_of
from bridge.cli.ordering import (
    CuratorOption,
    DeliveryFeeOption,
    DialectOption,
    FailPriceOption,
    LabelOption,
    NodesOption,
    OwnLabelsFlag,
    QuorumOption,
    ResultOption,
    SpecArgument,
    TokenOption,
    TtlOption,
    UnitPriceOption,
    Wish,
)
from bridge.cli.output import Exit, JsonFlag, emit, fail
from bridge.cli.spec_verbs import DialectName
from bridge.cli.texts import lines, paid
from bridge.errors import RpcRefused
from executor.errors import InvalidInput
from executor.protocol.spec import job_of
from executor.protocol.wire import ZERO_ADDRESS, Order, checksum_address

if TYPE_CHECKING:
    from bridge.chain.views import LensViews, QuotePage

NODES_A_CALL = 64  # two calls each: FEVM takes millions of gas for a call, and endpoints bound an eth_call
MAX_CALLS = 256
SHOWN = 20  # carriers that are listed for people

LensOption = Annotated[
    str,
    typer.Option("--lens", envvar="INSULA_LENS", help="The ComputeLens's address; else that of a known deployment."),
]


def quote(
    file: SpecArgument,
    rpc: RpcOption = "",
    contract: ContractOption = "",
    lens: LensOption = "",
    result: ResultOption = "cid",
    dialect: DialectOption = DialectName.INSULA_V1,
    ttl: TtlOption = 3600,
    nodes: NodesOption = 1,
    quorum: QuorumOption = 0,
    curator: CuratorOption = "",
    trust_own_labels: OwnLabelsFlag = False,
    label: LabelOption = [],  # noqa: B006
    token: TokenOption = "",
    unit_price: UnitPriceOption = 0,
    fail_price: FailPriceOption = 0,
    delivery_fee: DeliveryFeeOption = 0,
    as_json: JsonFlag = False,
) -> None:
    """Say what an order would cost, and which registered nodes carry its labels, by eth_call.

    The options are those of submit. Exit status 0 only if enough operators' nodes could answer.
    """
    order = Wish(
        file=file,
        dialect=dialect,
        result=result,
        ttl=ttl,
        nodes=nodes,
        quorum=quorum,
        curator=curator,
        trust_own_labels=trust_own_labels,
        labels=label,
        token=token,
        unit_price=unit_price,
        fail_price=fail_price,
        delivery_fee=delivery_fee,
    ).order()
    with chain_at(rpc) as client:
        try:
            found = _quoted(client, contract_of(contract), lens, order)
        except RpcRefused as exc:
            from bridge.chain.refusals import refusal_in_words

            raise fail(
                f"the contract refuses this order: {refusal_in_words(exc)}", code=Exit.NOT_SO, as_json=as_json
            ) from exc
    found["selector"] = selector = str(job_of(order, order.spec).selector)
    text = _text(found, order)
    if found["carriers"] and selector:
        text += "\n" + lines(
            [("selector", f"{selector}: bridge and nodes look at it; here, only at what --label names")]
        )
    emit({"ok": found["enough"] is not False, **found}, as_json=as_json, text=text)
    if found["enough"] is False:
        raise typer.Exit(int(Exit.NOT_SO))


def _quoted(client: ChainClient, contract: str, lens: str, order: Order) -> dict[str, Any]:
    from bridge.chain.views import BridgeViews, LensViews

    found = {"price": str(BridgeViews(client, contract).quote(order)), "token": order.token, "quorum": order.quorum}
    at = checksum_address(lens, "--lens") if lens else _known_lens(client, contract)
    if at is None:
        return {**found, "carriers": None, "operators": None, "more": False, "enough": None}
    carriers: list[dict[str, Any]] = []
    views, start = LensViews(client, at), 1
    for _ in range(MAX_CALLS):
        page = _page(views, contract, order, start)
        carriers += [{"node_id": carrier.node_id, "operator": carrier.operator} for carrier in page.carriers]
        if page.next == 0:
            break
        if page.next <= start:
            raise InvalidInput("--lens", f"the contract at {at} goes back to node {page.next}; is it a ComputeLens?")
        start = page.next
    operators = len({carrier["operator"] for carrier in carriers})
    more = page.next != 0
    enough = True if operators >= order.quorum else None if more else False
    return {**found, "carriers": carriers, "operators": operators, "more": more, "enough": enough}


def _page(views: LensViews, contract: str, order: Order, start: int) -> QuotePage:
    """Some nodes. InvalidInput("--lens") where the lens reverts over an order that the contract takes."""
    from bridge.chain.rpc_errors import revert_data

    try:
        return views.quote(contract, order, start, NODES_A_CALL)
    except RpcRefused as exc:
        if revert_data(exc) is None:
            raise
        raise InvalidInput("--lens", f"the contract at {views.address} does not answer; is it a ComputeLens?") from exc


def _known_lens(client: ChainClient, contract: str) -> str | None:
    """The lens of the chain's known deployment, where that is this contract's."""
    from bridge.chain.deployments import known_deployment

    known = known_deployment(client.chain_id())
    if known is None or known.contracts["ComputeBridge"] != contract:
        return None
    return known.contracts.get("ComputeLens")


def _text(found: dict[str, Any], order: Order) -> str:
    price = paid(found["price"], order.token)
    if found["carriers"] is None:
        return lines([("price", price), ("nodes", "not looked at: no ComputeLens is known here; name one with --lens")])
    carriers, more = found["carriers"], ", and more nodes that were not looked at" if found["more"] else ""
    by = "their own word" if order.curator == ZERO_ADDRESS else f"the word of curator {order.curator}"
    listed = [f"node {carrier['node_id']}, operator {carrier['operator']}" for carrier in carriers[:SHOWN]]
    if len(carriers) > SHOWN:
        listed.append(f"and {len(carriers) - SHOWN} more")
    counted = f"{order.quorum} must agree, each of another operator; {found['operators']} could{more}"
    return lines(
        [
            ("price", price),
            ("nodes", ("\n" + " " * 13).join(listed) or f"none carries the order's labels by {by}{more}"),
            ("quorum", counted if found["enough"] is not False else f"{counted}: too few"),
            ("on line?", "only the bridge knows: insula job explain, once it is ordered" if carriers else ""),
        ]
    )
