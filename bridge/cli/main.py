"""`insula`: one program. Each noun is a module of its own, imported when its verbs are needed."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Final

import typer

from bridge.cli.logs import log_to_errors
from bridge.cli.output import Exit, emit, errors, printable
from bridge.errors import FatalError, RpcError
from executor.errors import InsulaError, InvalidInput, PeerUnavailable

_NOUNS: Final = {
    "bridge": "bridge_verbs",
    "node": "node_verbs",
    "job": "job_verbs",
    "spec": "spec_verbs",
    "content": "content_verbs",
    "canary": "canary_verbs",
    "devnet": "devnet_verbs",
    "key": "key_verbs",
    "release": "release_verbs",
    "policy": "policy_verbs",
}


def _application(asked: str = "") -> typer.Typer:
    """The program with the verbs of one noun, or with all where `asked` is none. All are slow to load."""
    app = typer.Typer(
        name="insula",
        help="A smart-contract-triggered compute bridge.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    for noun in [asked] if asked in _NOUNS else _NOUNS:
        verbs = importlib.import_module(f"bridge.cli.{_NOUNS[noun]}")
        app.add_typer(verbs.app, name=noun)
    if asked not in _NOUNS:
        from bridge.cli import bridge_verbs, devnet_verbs

        app.command("demo")(devnet_verbs.demo)
        app.command("doctor")(bridge_verbs.doctor)
    return app


def exit_code_of(error: InsulaError) -> Exit:
    """Which exit code tells a script what kind of failure this was."""
    if isinstance(error, InvalidInput):
        return Exit.BAD_INPUT
    if isinstance(error, (RpcError, PeerUnavailable)):
        return Exit.UNREACHABLE
    return Exit.NOT_SO


def run(action: Callable[[], object], *, as_json: bool = False) -> int:
    """Run `action`; an expected failure becomes a line (or a JSON object) and an exit code, never a traceback."""
    log_to_errors()
    try:
        action()
    except SystemExit as exc:
        return _ended(exc.code if isinstance(exc.code, int) else int(Exit.NOT_SO), as_json=as_json)
    except KeyboardInterrupt:
        return _report("stopped", Exit.STOPPED, as_json=as_json)
    except FatalError as exc:
        return _report(f"fatal: {exc}", Exit.NOT_SO, as_json=as_json)
    except OSError as exc:  # a file that cannot be written, say
        return _report(f"error: {exc.filename or 'system'}: {exc.strerror or exc}", Exit.BAD_INPUT, as_json=as_json)
    except InsulaError as exc:
        return _report(f"error: {exc}", exit_code_of(exc), as_json=as_json)
    return int(Exit.OK)


def _ended(code: int, *, as_json: bool) -> int:
    """What typer says nothing of, or not in JSON: a Ctrl-C, and a call that does not parse."""
    if code == Exit.STOPPED:
        return _report("stopped", Exit.STOPPED, as_json=as_json)
    if as_json and code == Exit.BAD_INPUT:  # only a call that does not parse ends so; why is on standard error
        emit({"ok": False, "error": "the call is not understood; see --help", "exit": code}, as_json=True)
    return code


def _report(message: str, code: Exit, *, as_json: bool) -> int:
    errors.print(printable(message), markup=False)
    if as_json:
        emit({"ok": False, "error": message.removeprefix("error: "), "exit": int(code)}, as_json=True)
    return int(code)


def main() -> None:
    """The console script."""
    sys.exit(run(_load_and_call, as_json="--json" in sys.argv[1:]))


def _load_and_call() -> None:
    _application(*sys.argv[1:2])()  # one action with loading the verbs: a Ctrl-C meanwhile is no traceback either
