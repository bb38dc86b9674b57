"""`insula spec ...`: look at a job spec before anybody pays for it."""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from bridge.cli.output import Exit, JsonFlag, emit, errors, plain, printable
from bridge.cli.texts import spec_text
from executor.errors import InvalidInput
from executor.protocol import conversions
from executor.protocol.canonical import canonical_json
from executor.protocol.dialects.report import report_bytes
from executor.protocol.spec import Conversion, InvalidSpec, JobSpec, converted
from executor.protocol.wire import MAX_NODES, MAX_SPEC_BYTES, Dialect, label_hash

app = typer.Typer(help="Job specs.", no_args_is_help=True)


class DialectName(StrEnum):
    """The formats of specs, as the command line names them."""

    INSULA_V1 = "insula/v1"
    V1BETA = "v1beta"
    BACALHAU_1X = "bacalhau-1.x"
    LILYPAD = "lilypad"


DIALECTS = {
    DialectName.INSULA_V1: Dialect.INSULA_V1,
    DialectName.V1BETA: Dialect.BACALHAU_V1BETA,
    DialectName.BACALHAU_1X: Dialect.BACALHAU_1X,
    DialectName.LILYPAD: Dialect.LILYPAD_MODULE,
}
QuorumOption = Annotated[
    int, typer.Option(min=1, max=MAX_NODES, help="The order's quorum, which a spec's verifier is held to.")
]


def read_limited(path: Path, most: int, field: str) -> bytes:
    """The bytes of a file, at most `most`. InvalidInput(field)."""
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as exc:
        raise InvalidInput(field, f"{path} cannot be read ({exc.strerror})") from exc
    if len(data) > most:
        raise InvalidInput(field, f"{path} is larger than {most} bytes")
    return data


def summary(spec: JobSpec, size: int) -> dict[str, Any]:
    """What a valid spec asks for."""
    return {
        "ok": True,
        "bytes": size,
        "tier": spec.engine.tier,
        "inputs": [{"cid": str(item.cid), "path": item.path} for item in spec.inputs],
        "secrets": [{"name": item.name, "path": item.path} for item in spec.secrets],
        "limits": plain(asdict(spec.limits)),
        "selector": str(spec.selector),
        "labels": {word: label_hash(word) for word in spec.selector.required_words()},
    }


def read(data: bytes, dialect: DialectName, quorum: int) -> tuple[JobSpec, Conversion | None]:
    """The job of a spec, and how it was converted if it was. InvalidSpec."""
    if dialect is DialectName.INSULA_V1:
        return JobSpec.parse(data, MAX_SPEC_BYTES), None
    return converted(data, quorum, DIALECTS[dialect])


def refused(exc: InvalidSpec, dialect: DialectName, *, as_json: bool) -> typer.Exit:
    """Say why nodes refuse a spec, and give the exception to raise."""
    result = {"ok": False, "reason": exc.reason.name, "code": int(exc.reason), "field": exc.field}
    emit({**result, "problem": exc.problem}, as_json=as_json, text=f"{exc.reason.name} {exc} ({_read_as(dialect)})")
    return typer.Exit(int(Exit.NOT_SO))


def _read_as(dialect: DialectName) -> str:
    return f"read as {dialect}; --dialect names another format"


def changes_of(conversion: Conversion) -> list[dict[str, str]]:
    """What the conversion dropped or replaced, field by field."""
    return [asdict(change) for change in conversion.changes]


@app.command()
def validate(
    file: Annotated[Path, typer.Argument(help="The spec, in the format that --dialect names.")],
    dialect: Annotated[DialectName, typer.Option(help="The spec's format.")] = DialectName.INSULA_V1,
    quorum: QuorumOption = 1,
    as_json: JsonFlag = False,
) -> None:
    """Say whether nodes would take this spec, and if not, which field is wrong."""
    data = read_limited(file, MAX_SPEC_BYTES, "spec")
    try:
        spec, conversion = read(data, dialect, quorum)
    except InvalidSpec as exc:
        raise refused(exc, dialect, as_json=as_json) from exc
    found = summary(spec, len(data))
    if conversion is not None:
        found["changes"] = changes_of(conversion)
    emit(found, as_json=as_json, text=spec_text(found))


@app.command()
def convert(
    file: Annotated[Path, typer.Argument(help="The spec, in the format that --dialect names.")],
    dialect: Annotated[DialectName, typer.Option(help="The spec's format.")] = DialectName.V1BETA,
    quorum: QuorumOption = 1,
    report: Annotated[
        str, typer.Option(help="Write the conversion's report to this file; with -, print it and nothing else.")
    ] = "",
    as_json: JsonFlag = False,
) -> None:
    """Print a spec of another format as nodes read it, in insula/v1; what was dropped goes to standard error."""
    data = read_limited(file, MAX_SPEC_BYTES, "spec")
    if dialect is DialectName.INSULA_V1:
        raise InvalidInput("--dialect", f"is {dialect}; there is nothing to convert")
    if report:
        write_report(report, report_bytes(conversions.report(data, quorum, DIALECTS[dialect])))
    try:
        conversion = converted(data, quorum, DIALECTS[dialect])[1]
    except InvalidSpec as exc:
        if report == "-":
            errors.print(printable(f"{exc.reason.name} {exc} ({_read_as(dialect)})"), markup=False)
            raise typer.Exit(int(Exit.NOT_SO)) from exc
        raise refused(exc, dialect, as_json=as_json) from exc
    if report == "-":
        return
    changes = changes_of(conversion)
    if not as_json:
        for change in changes:
            errors.print(printable(f"{change['field']}: {change['text']}"), markup=False)
    spec = canonical_json(conversion.spec).decode()  # as text: its own keys (names of variables) stay as they are
    emit({"ok": True, "spec": spec, "changes": changes}, as_json=as_json, text=json.dumps(conversion.spec, indent=2))


def write_report(to: str, data: bytes) -> None:
    """A report's bytes, with nothing added: their SHA-256 is what receipts hold. InvalidInput("--report")."""
    if to == "-":
        typer.echo(data, nl=False)
        return
    try:
        Path(to).write_bytes(data)
    except OSError as exc:
        raise InvalidInput("--report", f"{to} cannot be written ({exc.strerror})") from exc
