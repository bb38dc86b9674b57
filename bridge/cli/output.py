"""How the command line speaks: one JSON object with --json, else text; and its exit codes (docs/cli.md)."""

from __future__ import annotations

import re
import sys
from enum import IntEnum
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console

from bridge.cli.texts import in_words


class Exit(IntEnum):
    """Stable exit codes."""

    OK = 0
    NOT_SO = 1  # what was asked about does not hold: the job failed, verification found something
    BAD_INPUT = 2  # the call, a file or a key is wrong; nothing was done
    UNREACHABLE = 3  # a bridge, chain or engine does not answer
    TIMEOUT = 4  # waited as long as asked
    CHAIN_UNCHECKED = (
        5  # verification: all that can be checked offline holds; the chain was not asked, or could not say
    )
    CONTENT_UNCHECKED = 6  # verification: nothing is wrong, but some content could not be had, so it was not checked
    NONDETERMINISTIC = 7  # replay: two runs on this machine differ from each other
    ENGINE_MISSING = 8  # replay: this machine cannot run the job: engine, image or room is missing
    NOT_COMPARABLE = 9  # replay: it ran, and the record names no output to compare with: it was withheld
    CANARY_BLIND = 10  # canary: it could not look: no funds, no leave to upload, no room of its own
    STOPPED = 130  # Ctrl-C


JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]

console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)


_SNAKE = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)+")


def camel(key: str) -> str:
    """A name of the HTTP API or of our own code as --json spells it: camelCase. Other keys (labels, words) stay."""
    if not _SNAKE.fullmatch(key):
        return key
    first, *rest = key.split("_")
    return first + "".join(part.capitalize() for part in rest)


def plain(value: Any) -> Any:
    """`value` as JSON types, names in camelCase: bytes as 0x-hex, integers beyond 2**53 as text, tuples as lists."""
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, bool) or value is None or isinstance(value, (str, float)):
        return value
    if isinstance(value, int):
        return int(value) if abs(value) < 2**53 else str(value)
    if isinstance(value, dict):
        return {camel(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    return str(value)


def emit(value: dict[str, Any], *, as_json: bool, text: str | None = None) -> None:
    """Print a result: the JSON object, or `text` (by default the object's fields, a line each)."""
    if as_json:
        sys.stdout.write(orjson.dumps(plain(value), option=orjson.OPT_INDENT_2).decode() + "\n")
        sys.stdout.flush()
    elif text is not None:
        console.print(printable(text), markup=False)
    else:
        for key, item in value.items():
            if key != "ok":
                console.print(printable(f"{key:<16} {in_words(plain(item))}"), markup=False)


def printable(text: str) -> str:
    """Text with whatever could move the cursor or turn the direction of writing made visible as a replacement sign."""
    return "".join(char if char.isprintable() or char == "\n" else "\ufffd" for char in text)


def one_line(text: str) -> str:
    """`printable`, and on one line: what others wrote never looks like a line of ours."""
    return printable(text.replace("\n", "\ufffd"))


def fail(message: str, *, code: Exit, as_json: bool = False) -> typer.Exit:
    """Say what is wrong and give the exception to raise: `raise fail(...)`."""
    if as_json:
        emit({"ok": False, "error": message, "exit": int(code)}, as_json=True)
    else:
        errors.print(printable(f"error: {message}"), markup=False)
    return typer.Exit(int(code))
