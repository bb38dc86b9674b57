"""`insula job cancel`: mark a request, and draw the refund once the contract lets go of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from bridge.chain.client import ChainClient
from bridge.chain.signer import TxSigner
from bridge.cli.context import (
    BridgeOption,
    ContractOption,
    KeyOption,
    RpcOption,
    bridge_at,
    chain_at,
    contract_of,
    get_json,
    signer_of,
)
from bridge.cli.output import Exit, JsonFlag, console, emit, fail, printable
from bridge.cli.reference import reference
from bridge.cli.texts import cancel_hint, moment
from executor.errors import InvalidInput
from executor.protocol.wire import OnChainState, Order

POLL_SECONDS = 1.0


def cancel(
    job: Annotated[str, typer.Argument(metavar="ID", help="A request id, or a 0x request hash.")],
    rpc: RpcOption = "",
    contract: ContractOption = "",
    key: KeyOption = "",
    bridge: BridgeOption = "",
    draw: Annotated[bool, typer.Option("--draw", help="Draw the refund of a request that was marked before.")] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Both steps: mark it, wait until the refund is free, draw it.")
    ] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait at most.")] = 3600.0,
    as_json: JsonFlag = False,
) -> None:
    """Mark a request of yours for cancellation; a result still wins until the refund is drawn with --draw."""
    address, account = contract_of(contract), signer_of(key)
    with bridge_at(bridge) as http:
        found = get_json(http, f"/v1/jobs/{reference(job)}")
    sent: dict[str, Any] = {}
    with chain_at(rpc) as client:
        request = _Request(client, account, address, int(found["request_id"]), found, as_json)
        free_at = request.refundable_at()
        if not free_at and draw and not wait:
            raise request.no(f"request {request.id} is not marked; first: insula job cancel {request.id}")
        if not free_at:
            sent["marked"] = request.mark()
            free_at = request.refundable_at()
        if wait:
            request.await_time(free_at, timeout)
        if draw or wait:
            sent["drawn"] = request.draw(free_at)
    text = cancel_hint(request.id, free_at)
    if "drawn" in sent:
        text = f"request {request.id} is cancelled; {found['requester']} takes the refund out: insula job withdraw"
    emit({"ok": True, **sent, "refundableAt": free_at}, as_json=as_json, text=text)


@dataclass
class _Request:
    """An open request on the chain, and who acts on it."""

    client: ChainClient
    account: TxSigner
    contract: str
    id: int
    found: dict[str, Any]
    as_json: bool

    @property
    def order(self) -> Order:
        """As the contract wants it again."""
        return Order.decode(bytes.fromhex(self.found["order"][2:]))

    def no(self, message: str, code: Exit = Exit.NOT_SO) -> typer.Exit:
        """The exception to raise."""
        return fail(message, code=code, as_json=self.as_json)

    def refundable_at(self) -> int:
        """From when on the refund can be drawn; 0 while it is not marked. Ends the program once it is settled."""
        from bridge.chain.views import BridgeViews

        views = BridgeViews(self.client, self.contract)
        seen = views.request_of(self.id)
        if seen.state is not OnChainState.REQUESTED:
            raise self.no(f"request {self.id} is already {seen.state.name.lower()}; there is nothing to cancel")
        return seen.cancel_marked_at + views.bounds().cancel_delay if seen.cancel_marked_at else 0

    def mark(self) -> bytes:
        """The first step; only the requester can."""
        from bridge.chain.contracts import cancel_calldata
        from bridge.chain.operate import send_and_wait

        if self.found["requester"] != self.account.address:
            whose = f"only its requester {self.found['requester']} can mark request {self.id}"
            raise InvalidInput("--key", f"is the key of {self.account.address}; {whose}")
        return send_and_wait(self.client, self.account, self.contract, cancel_calldata(self.id, self.order)).tx_hash

    def await_time(self, free_at: int, timeout: float) -> None:
        """Until the chain's clock lets the refund go, or a result comes first."""
        if not self.as_json:
            console.print(printable(cancel_hint(self.id, free_at)), markup=False)
        end = time.monotonic() + timeout
        while self.client.head().timestamp < free_at:
            self.refundable_at()
            if time.monotonic() > end:
                raise self.no(f"not refunded after {timeout:.0f} s; {cancel_hint(self.id, free_at)}", Exit.TIMEOUT)
            time.sleep(POLL_SECONDS)

    def draw(self, free_at: int) -> bytes:
        """The second step; anybody can, and the requester gets the refund."""
        from bridge.chain.contracts import draw_cancelled_calldata
        from bridge.chain.operate import send_and_wait

        if self.client.head().timestamp < free_at:
            raise self.no(f"too early: the refund of request {self.id} can be drawn from {moment(free_at)} on")
        data = draw_cancelled_calldata(self.id, self.order)
        return send_and_wait(self.client, self.account, self.contract, data).tx_hash
