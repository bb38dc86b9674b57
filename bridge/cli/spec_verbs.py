"""`insula spec ...`: look at a job spec before anybody pays for it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from bridge.cli.output import Exit, JsonFlag, emit, plain
from bridge.cli.texts import spec_text
from executor.errors import InvalidInput
from executor.protocol.spec import InvalidSpec, JobSpec
from executor.protocol.wire import MAX_SPEC_BYTES, label_hash

app = typer.Typer(help="Job specs.", no_args_is_help=True)


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
        "limits": plain(asdict(spec.limits)),
        "selector": str(spec.selector),
        "labels": {word: label_hash(word) for word in spec.selector.required_words()},
    }


@app.command()
def validate(
    file: Annotated[Path, typer.Argument(help="The spec, JSON in the format insula/v1.")], as_json: JsonFlag = False
) -> None:
    """Say whether nodes would take this spec, and if not, which field is wrong."""
    data = read_limited(file, MAX_SPEC_BYTES, "spec")
    try:
        spec = JobSpec.parse(data, MAX_SPEC_BYTES)
    except InvalidSpec as exc:
        result = {"ok": False, "reason": exc.reason.name, "code": int(exc.reason), "field": exc.field}
        emit({**result, "problem": exc.problem}, as_json=as_json, text=f"{exc.reason.name} {exc}")
        raise typer.Exit(int(Exit.NOT_SO)) from exc
    found = summary(spec, len(data))
    emit(found, as_json=as_json, text=spec_text(found))
