"""The options that make an order of a spec, for the verbs that order one and those that ask what it would cost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from bridge.cli.node_call import label_words
from bridge.cli.spec_verbs import DIALECTS, DialectName, read_limited
from executor.errors import InvalidInput
from executor.protocol.spec import InvalidSpec, job_of
from executor.protocol.wire import MAX_SPEC_BYTES, ZERO_ADDRESS, Order, ResultKind, checksum_address, label_hash

KINDS = {
    "cid": ResultKind.CID,
    "stdout": ResultKind.STDOUT,
    "stderr": ResultKind.STDERR,
    "exit-code": ResultKind.EXIT_CODE,
}

MAX_PRICE = 2**128 - 1  # a uint128 of the order

SpecArgument = Annotated[Path, typer.Argument(metavar="SPEC", help="The job spec, in the format that --dialect names.")]
DialectOption = Annotated[DialectName, typer.Option("--dialect", help="The spec's format, as nodes will read it.")]
ResultOption = Annotated[str, typer.Option("--result", help=f"What goes on-chain: {', '.join(KINDS)}.")]
TtlOption = Annotated[
    int, typer.Option("--ttl", min=1, max=2**32 - 1, help="Seconds until the request can be refunded.")
]
NodesOption = Annotated[int, typer.Option("--nodes", min=1, max=16, help="How many nodes run it.")]
QuorumOption = Annotated[int, typer.Option("--quorum", min=0, max=16, help="How many must agree; 0: more than half.")]
CuratorOption = Annotated[
    str, typer.Option("--curator", envvar="INSULA_CURATOR", help="Whose word makes a label count.")
]
OwnLabelsFlag = Annotated[
    bool, typer.Option("--trust-own-labels", help="No curator: take each node's own word. Unsafe for money.")
]
LabelOption = Annotated[
    list[str], typer.Option("--label", help="key=value that the contract enforces; the selector repeats it.")
]
TokenOption = Annotated[
    str, typer.Option("--token", help="The ERC-20 that pays, prices in its smallest unit; else the chain's own token.")
]
UnitPriceOption = Annotated[
    int, typer.Option("--unit-price", min=0, max=MAX_PRICE, help="wei for each node when the job succeeds.")
]
FailPriceOption = Annotated[
    int, typer.Option("--fail-price", min=0, max=MAX_PRICE, help="wei for each node when it ran and failed.")
]
DeliveryFeeOption = Annotated[int, typer.Option("--delivery-fee", min=0, max=MAX_PRICE, help="wei for the relayer.")]


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What was asked for on the command line."""

    file: Path
    dialect: DialectName
    result: str
    ttl: int
    nodes: int
    quorum: int
    curator: str
    trust_own_labels: bool
    labels: list[str]
    token: str
    unit_price: int
    fail_price: int
    delivery_fee: int

    def order(self) -> Order:
        """The order. InvalidInput that names the option, or the field of a spec that nodes would refuse."""
        if self.result not in KINDS:
            raise InvalidInput("--result", f"is {self.result!r:.20}; it is one of {', '.join(KINDS)}")
        labels = label_words(self.labels, "--label")
        terms = terms_of(
            nodes=self.nodes,
            quorum=self.quorum,
            ttl=self.ttl,
            curator=self.curator,
            trust_own_labels=self.trust_own_labels,
            labels=self.labels,
            unit_price=self.unit_price,
            fail_price=self.fail_price,
            delivery_fee=self.delivery_fee,
        )
        order = replace(
            terms,
            dialect=DIALECTS[self.dialect],
            spec=read_limited(self.file, MAX_SPEC_BYTES, "SPEC"),
            result_kind=int(KINDS[self.result]),
            token=checksum_address(self.token, "--token") if self.token else ZERO_ADDRESS,
        )
        try:
            job_of(order, order.spec)
        except InvalidSpec as exc:
            problem = exc.problem
            for word in labels:  # nodes know a label of the order by its hash alone
                problem = problem.replace(f"0x{label_hash(word).hex()}", word)
            said = f"{problem} ({exc.reason.name}, read as {self.dialect}); nothing was ordered"
            raise InvalidInput(exc.field, said) from exc
        return order


def terms_of(
    *,
    nodes: int,
    quorum: int,
    ttl: int,
    curator: str,
    trust_own_labels: bool,
    labels: list[str],
    unit_price: int,
    fail_price: int,
    delivery_fee: int,
) -> Order:
    """An order that has no spec yet, paid in the chain's own token. InvalidInput that names the option."""
    if not curator and not trust_own_labels:
        raise InvalidInput("--curator", "is needed; or say --trust-own-labels, which is unsafe for money")
    agreeing = quorum or nodes // 2 + 1
    if not nodes < 2 * agreeing <= 2 * nodes:
        raise InvalidInput("--quorum", f"is {agreeing}; of {nodes} nodes it is more than half, and at most all")
    return Order(
        spec=b"",
        nodes=nodes,
        quorum=agreeing,
        ttl=ttl,
        curator=checksum_address(curator, "--curator") if curator else ZERO_ADDRESS,
        labels=tuple(sorted(map(label_hash, label_words(labels, "--label")))),
        unit_price=unit_price,
        fail_price=fail_price,
        delivery_fee=delivery_fee,
    )
