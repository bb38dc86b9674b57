"""`insula policy ...`: for operators. What a policy allows, before a node runs by it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bridge.cli.output import Exit, JsonFlag, emit
from bridge.cli.spec_verbs import DialectName, QuorumOption, read, read_limited, refused
from bridge.cli.texts import lines
from executor.protocol.spec import InvalidSpec, JobSpec
from executor.protocol.wire import (
    MAX_SPEC_BYTES,
    ZERO_ADDRESS,
    Order,
    Request,
    checksum_address,
    label_hash,
)

app = typer.Typer(help="An operator's policy.", no_args_is_help=True)

_ANY_PRICE = 2**127


@app.callback()
def policy() -> None:
    """An operator's policy."""


@app.command()
def check(
    file: Annotated[
        Path | None, typer.Argument(help="The policy; without it that of --dir, or the one that holds by default.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--dir", help="A node's work folder: its secrets, scanners and data are looked at.")
    ] = None,
    job: Annotated[Path | None, typer.Option("--job", help="A job spec: would it run?")] = None,
    dialect: Annotated[DialectName, typer.Option(help="The spec's format.")] = DialectName.INSULA_V1,
    quorum: QuorumOption = 1,
    requester: Annotated[str, typer.Option(help="Who asks for it; without this only the job is looked at.")] = "",
    callback: Annotated[str, typer.Option(help="The contract that is called back.")] = ZERO_ADDRESS,
    curator: Annotated[str, typer.Option(help="The curator that the order names.")] = ZERO_ADDRESS,
    as_json: JsonFlag = False,
) -> None:
    """Say whether a policy is valid, what it allows, its hash; with --job, whether that job would run and why not."""
    from executor.audit.policywords import in_words, objections

    found = _policy(file, folder)
    facts = [*in_words(found), ("hash", found.hash.hex())]
    result: dict[str, Any] = {"ok": True, "hash": found.hash, "policy": found.model_dump(mode="json")}
    if job is not None:
        data = read_limited(job, MAX_SPEC_BYTES, "--job")
        try:
            spec = read(data, dialect, quorum)[0]
        except InvalidSpec as exc:
            raise refused(exc, dialect, as_json=as_json) from exc
        asked = _request(spec, data, requester, callback, curator) if requester else None
        classes = _classes(found, folder, spec)
        problems = objections(found, spec, asked, classes)
        result |= {"ok": not problems, "problems": [{"reason": name, "problem": text} for name, text in problems]}
        result["private_data"] = sorted(classes)
        facts += _verdict(problems, is_asked=asked is not None, opens=bool(spec.secrets or classes or spec.network))
    emit(result, as_json=as_json, text=lines(facts))
    if not result["ok"]:
        raise typer.Exit(int(Exit.NOT_SO))


def _policy(file: Path | None, folder: Path | None) -> Any:
    """The policy of a file, of a node, or the default. InvalidInput that names the key."""
    from executor.agent.config import NodeConfig, read_toml
    from executor.agent.scanning import check_modules
    from executor.agent.secrets import check_secrets
    from executor.audit.policy import Policy

    if folder is None:
        return Policy() if file is None else Policy.parse(read_toml(file), str(file))
    config = NodeConfig.load(folder)
    if file is not None:
        config = config.model_copy(update={"policy": str(file.resolve())})
    found = config.load_policy(folder)
    check_secrets(found.secrets, folder)
    check_modules(found, folder)
    return found


def _request(spec: JobSpec, data: bytes, requester: str, callback: str, curator: str) -> Request:
    """A request as it would be placed, at a price that nobody refuses: prices are not what is asked about."""
    words = spec.selector.required_words()
    order = Order(
        spec=data,
        ttl=3600,
        callback=checksum_address(callback, "--callback"),
        curator=checksum_address(curator, "--curator"),
        labels=tuple(sorted(label_hash(word) for word in words)),
        unit_price=_ANY_PRICE,
        fail_price=_ANY_PRICE,
    )
    who = checksum_address(requester, "--requester")
    return Request(chain_id=1, contract=ZERO_ADDRESS, id=1, requester=who, order=order, deadline=0)


def _classes(policy: Any, folder: Path | None, spec: JobSpec) -> frozenset[str]:
    """Of the private data that the job would be given, as far as that can be seen from here."""
    from executor.agent.classes import Classes
    from executor.content.blocks import MemoryBlocks
    from executor.content.blockstore import BlockStore

    store = BlockStore(folder / "content", create=False) if folder is not None else MemoryBlocks()
    return Classes(store, policy.data).of(spec.content)


def _verdict(problems: list[tuple[str, str]], *, is_asked: bool, opens: bool) -> list[tuple[str, str]]:
    if problems:
        return [("would not run", f"{name}: {text}") for name, text in problems]
    if is_asked:
        return [("would run", "at a price that suffices, and with content within the limits")]
    who = "give --requester: it asks for secrets, private data or a network" if opens else "who asks is not considered"
    return [("may run", who)]
