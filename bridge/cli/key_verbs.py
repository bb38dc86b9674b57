"""`insula key ...`: keys in keystore files. No key and no password is ever an argument, nor printed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bridge.chain.filecoin import delegated_address
from bridge.cli.output import JsonFlag, emit
from executor.protocol.signing import Key

app = typer.Typer(help="Keys.", no_args_is_help=True)

KeystoreOption = Annotated[Path, typer.Option("--keystore", help="The file to make (mode 0600); never overwritten.")]
ReferenceArgument = Annotated[str, typer.Argument(help="env:NAME, file:PATH or keystore:PATH.")]


@app.command()
def new(keystore: KeystoreOption, as_json: JsonFlag = False) -> None:
    """Make a random key in a keystore file (scrypt). The password: INSULA_KEYSTORE_PASSWORD_FILE or ..._PASSWORD."""
    key = Key.random()
    key.store(keystore)
    emit({**_addresses(key), "key": f"keystore:{keystore}"}, as_json=as_json)


@app.command("import")
def import_key(reference: ReferenceArgument, keystore: KeystoreOption, as_json: JsonFlag = False) -> None:
    """Put a key that is elsewhere into a keystore file. The old place is left as it is."""
    key = Key.load(reference)
    key.store(keystore)
    emit({**_addresses(key), "key": f"keystore:{keystore}"}, as_json=as_json)


@app.command()
def show(reference: ReferenceArgument, as_json: JsonFlag = False) -> None:
    """The addresses of a key, in the forms that Ethereum's and Filecoin's wallets take; not the key."""
    emit(_addresses(Key.load(reference)), as_json=as_json)


def _addresses(key: Key) -> dict[str, Any]:
    return {
        "ok": True,
        "address": key.address,
        "filecoin": delegated_address(key.address, testnet=False),
        "filecoinTestnet": delegated_address(key.address, testnet=True),
    }
