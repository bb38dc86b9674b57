"""The options of `insula devnet --chaos`, and the settings that they make."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from executor.errors import InvalidInput

ChaosOption = Annotated[
    int | None,
    typer.Option(
        "--chaos",
        metavar="SEED",
        help="A chain that misbehaves like Filecoin, the same way for the same seed (a number). Each P below is a "
        "probability from 0 to 1.",
    ),
]
PresetOption = Annotated[
    str, typer.Option("--chaos-preset", help="calm: null rounds, deferred execution, tags; rough: everything; off.")
]
DialectOption = Annotated[
    str | None, typer.Option(help="How the endpoint speaks: lotus-1.30, lotus-1.31, lotus-1.36, lotus-null, forest.")
]
NullRoundsOption = Annotated[float | None, typer.Option(metavar="P", help="Epochs without a block; at most 0.5.")]
ReorgOption = Annotated[float | None, typer.Option(metavar="P", help="A new block replaces the newest ones.")]
DropLogsOption = Annotated[float | None, typer.Option(metavar="P", help="eth_getLogs silently answers with none.")]
LateReceiptsOption = Annotated[float | None, typer.Option(metavar="P", help="Receipts that come epochs late.")]
StuckOption = Annotated[float | None, typer.Option(metavar="P", help="Transactions that wait for a higher premium.")]
DropOption = Annotated[float | None, typer.Option(metavar="P", help="Transactions that are accepted and lost.")]
LostOption = Annotated[float | None, typer.Option(metavar="P", help="Calls that are carried out and not answered.")]
StaleOption = Annotated[float | None, typer.Option(metavar="P", help="Answers from a node that is blocks behind.")]
HttpErrorsOption = Annotated[
    float | None, typer.Option(metavar="P", help="Calls that meet 429, 5xx, a reset or a broken body.")
]
ReorgDepthOption = Annotated[int | None, typer.Option(metavar="K", help="Of how many blocks a reorg is at most.")]
FaultOption = Annotated[
    list[str], typer.Option(metavar="NAME=VALUE", help="Any other setting of docs/chaos.md; may be repeated.")
]


DEFAULT_PRESET = "calm"


def chaos_settings(
    seed: int | None, preset: str, options: dict[str, Any], http_errors: float | None, faults: list[str]
) -> Any:
    """The `Settings` that were asked for; None without --chaos. InvalidInput names the option."""
    given = {name: value for name, value in options.items() if value is not None}
    if seed is None:
        named = ["--" + name.replace("_", "-") for name in given]
        named += (
            ["--chaos-preset"] * (preset != DEFAULT_PRESET)
            + ["--http-errors"] * (http_errors is not None)
            + ["--fault"] * bool(faults)
        )
        if named:
            raise InvalidInput(named[0], "needs --chaos SEED")
        return None
    from bridge.devnet.chaos.settings import HTTP_ERRORS, settings_of

    if http_errors is not None:
        if not 0 <= http_errors <= 1:
            raise InvalidInput("--http-errors", f"is {http_errors}; it is a probability from 0 to 1")
        given = dict.fromkeys(HTTP_ERRORS, http_errors / len(HTTP_ERRORS)) | given
    for word in faults:
        name, equals, value = word.partition("=")
        if not equals:
            raise InvalidInput("--fault", f"is {word!r:.40}; write NAME=VALUE, as in hangs=0.01")
        field = name.replace("-", "_")
        given[field] = value.split(",") if field == "null_epochs" else value
    return settings_of(preset, given, {name for name in given if name not in options})
