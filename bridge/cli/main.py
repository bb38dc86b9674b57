"""`insula`: one program. Each noun is a module of its own, imported when its verbs are needed."""

from __future__ import annotations

import sys
from collections.abc import Callable

import typer

from bridge.cli.logs import log_to_errors
from bridge.cli.output import Exit, emit, errors, printable
from bridge.errors import FatalError, RpcError
from executor.errors import InsulaError, InvalidInput, PeerUnavailable


def _application() -> typer.Typer:
    from bridge.cli import (
        bridge_verbs,
        canary_verbs,
        content_verbs,
        devnet_verbs,
        job_verbs,
        key_verbs,
        node_verbs,
        policy_verbs,
        release_verbs,
        spec_verbs,
    )

    app = typer.Typer(
        name="insula",
        help="A smart-contract-triggered compute bridge.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.add_typer(bridge_verbs.app, name="bridge")
    app.add_typer(node_verbs.app, name="node")
    app.add_typer(job_verbs.app, name="job")
    app.add_typer(spec_verbs.app, name="spec")
    app.add_typer(content_verbs.app, name="content")
    app.add_typer(canary_verbs.app, name="canary")
    app.add_typer(devnet_verbs.app, name="devnet")
    app.add_typer(key_verbs.app, name="key")
    app.add_typer(release_verbs.app, name="release")
    app.add_typer(policy_verbs.app, name="policy")
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
        code = exc.code if isinstance(exc.code, int) else int(Exit.NOT_SO)
        if as_json and code == Exit.BAD_INPUT:  # only a call that does not parse ends so; why is on standard error
            emit({"ok": False, "error": "the call is not understood; see --help", "exit": code}, as_json=True)
        return code
    except KeyboardInterrupt:
        return _report("stopped", Exit.STOPPED, as_json=as_json)
    except FatalError as exc:
        return _report(f"fatal: {exc}", Exit.NOT_SO, as_json=as_json)
    except OSError as exc:  # a file that cannot be written, say
        return _report(f"error: {exc.filename or 'system'}: {exc.strerror or exc}", Exit.BAD_INPUT, as_json=as_json)
    except InsulaError as exc:
        return _report(f"error: {exc}", exit_code_of(exc), as_json=as_json)
    return int(Exit.OK)


def _report(message: str, code: Exit, *, as_json: bool) -> int:
    errors.print(printable(message), markup=False)
    if as_json:
        emit({"ok": False, "error": message.removeprefix("error: "), "exit": int(code)}, as_json=True)
    return int(code)


def main() -> None:
    """The console script."""
    sys.exit(run(_load_and_call, as_json="--json" in sys.argv[1:]))


def _load_and_call() -> None:
    _application()()  # one action with loading the verbs: a Ctrl-C meanwhile is no traceback either
