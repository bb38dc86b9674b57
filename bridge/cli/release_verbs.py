"""`insula release ...`: for reviewers. What is held on a node, and the signatures that let it out or keep it in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeVar

import typer

from bridge.cli.context import KeyOption, required
from bridge.cli.output import JsonFlag, emit
from bridge.cli.texts import lines, moment
from executor.errors import InvalidInput
from executor.protocol.reasons import Reason
from executor.protocol.signing import Key

app = typer.Typer(help="Held outputs of a node, and their release.", no_args_is_help=True)

MAX_ROWS = 200  # of files, in the text form
MAX_REPLACEMENT_BYTES = 64 * 2**20

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it; or a request's id or hash.")]
OwnIdArgument = Annotated[
    str, typer.Argument(metavar="ID", help="As `list` shows it: a request that ran again may hold another output.")
]
SignatureOption = Annotated[
    str, typer.Option("--signature", help="0x-hex, made elsewhere over what `show --to-sign` prints; no key is needed.")
]
FolderOption = Annotated[Path | None, typer.Option("--dir", help="The node's work folder; or give --node.")]
NodeOption = Annotated[
    str, typer.Option("--node", help="The URL of the node's review API, through a tunnel where it is elsewhere.")
]
NodeKeyOption = Annotated[str, typer.Option("--node-key", help="The address that the node of --node has to have.")]
ReasonOption = Annotated[int, typer.Option("--reason", help="Why: 300 (a reviewer rejects it) or 301 (a rule does).")]
RedactionOption = Annotated[
    str, typer.Option("--redaction", help="The id of a redaction, as `show` lists it: that form of the output.")
]

H = TypeVar("H")


class Reviewing(Protocol[H]):
    """What a reviewer does, in the node's folder or over its API."""

    def listing(self) -> list[dict[str, Any]]:
        """Every output that waits, oldest first."""

    def find(self, word: str) -> H:
        """One of them."""

    def find_shown(self, word: str) -> H:
        """One of them, for an approval."""

    def show(self, hold: H) -> dict[str, Any]:
        """All that can be said of it."""

    def redact(self, hold: H, without: Sequence[str], replacements: Mapping[str, bytes]) -> dict[str, Any]:
        """Propose a form of it with less in it."""

    def document(self, hold: H, approve: bool, reason: int, redaction: str = "") -> dict[str, Any]:
        """The typed data of a decision."""

    def save(self, hold: H, path: str | None, target: Path, redaction: str = "") -> int:
        """Write one file of it; how many bytes."""

    def decide(self, hold: H, approve: bool, reason: int, signer: Key | bytes, redaction: str = "") -> dict[str, Any]:
        """Sign, or bring a signature made elsewhere."""


@app.command("list")
def list_held(
    folder: FolderOption = None,
    node: NodeOption = "",
    node_key: NodeKeyOption = "",
    key: KeyOption = "",
    as_json: JsonFlag = False,
) -> None:
    """What waits for a decision, oldest first, and what was withheld and is kept. None of it has left the node."""
    with _opened(folder, node, node_key, key) as review:
        found = review.listing()
    text = "\n".join(_line(hold) for hold in found) or "nothing is held"
    emit({"ok": True, "held": found}, as_json=as_json, text=text)


@app.command()
def show(
    hold_id: IdArgument,
    folder: FolderOption = None,
    node: NodeOption = "",
    node_key: NodeKeyOption = "",
    key: KeyOption = "",
    file: Annotated[str, typer.Option("--file", help="One file of it, by its path; with --save.")] = "",
    save: Annotated[
        Path | None, typer.Option("--save", help="Write that file (0600); or all, to a new folder.")
    ] = None,
    to_sign: Annotated[
        str, typer.Option("--to-sign", help="Print the typed data of this decision: approve or reject.")
    ] = "",
    reason: ReasonOption = int(Reason.RELEASE_REJECTED),
    redaction: RedactionOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Its files with size and type (by content, not by name), the rules that it breaks, who has decided what.

    And its redactions: what each takes out, and who has approved it.
    """
    if file and save is None:
        raise InvalidInput("--file", "needs --save FILE: what a job wrote is not printed, it could steer a terminal")
    if to_sign not in ("", "approve", "reject"):
        raise InvalidInput("--to-sign", "must be approve or reject")
    with _opened(folder, node, node_key, key) as review:
        hold = review.find(hold_id)
        if to_sign:
            approve = to_sign == "approve"
            emit(review.document(hold, approve, 0 if approve else reason, redaction), as_json=True)
            return
        if save is not None:
            written = review.save(hold, file or None, save, redaction)
            emit({"ok": True, "saved": str(save), "bytes": written}, as_json=as_json)
            return
        found = review.show(hold)
    emit({"ok": True, **found}, as_json=as_json, text=_text(found))


@app.command()
def redact(
    hold_id: OwnIdArgument,
    folder: FolderOption = None,
    node: NodeOption = "",
    node_key: NodeKeyOption = "",
    key: KeyOption = "",
    without: Annotated[
        list[str],
        typer.Option("--without", metavar="PATH", help="A file or folder to take out; stdout and stderr are emptied."),
    ] = [],  # noqa: B006 - typer reads it, nobody writes it
    replace: Annotated[
        list[str],
        typer.Option("--replace", metavar="PATH=FILE", help="A file of it, and the one to put in its place."),
    ] = [],  # noqa: B006
    as_json: JsonFlag = False,
) -> None:
    """Propose to release less than the whole. Nothing leaves by it: reviewers approve it by its id, or do not."""
    if not without and not replace:
        raise InvalidInput(
            "--without", "say what to take out: --without PATH, or --replace PATH=FILE; several times each"
        )
    replacements = dict(_replacement(word) for word in replace)
    if len(replacements) < len(replace):
        raise InvalidInput("--replace", "a path is given twice")
    with _opened(folder, node, node_key, key) as review:
        hold = review.find_shown(hold_id)
        made = review.redact(hold, without, replacements)
    word = f"approve it: insula release approve {made['execution']} --redaction {made['id']}"
    emit({"ok": True, **made}, as_json=as_json, text=lines([*_redaction(made), ("next", word)]))


def _replacement(word: str) -> tuple[str, bytes]:
    from bridge.cli.spec_verbs import read_limited

    path, sign, file = word.rpartition("=")  # names of outputs hold a = more often than those of a reviewer's own files
    if not sign or not path or not file:
        raise InvalidInput("--replace", f"{word!r:.200} is not PATH=FILE")
    return path, read_limited(Path(file), MAX_REPLACEMENT_BYTES, "--replace")


@app.command()
def approve(
    hold_id: OwnIdArgument,
    folder: FolderOption = None,
    node: NodeOption = "",
    node_key: NodeKeyOption = "",
    key: KeyOption = "",
    signature: SignatureOption = "",
    redaction: RedactionOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Sign that exactly these bytes may leave. The node acts on it at once, or when it starts again."""
    signer = _signer(key, signature)
    with _opened(folder, node, node_key, signer if isinstance(signer, Key) else key) as review:
        _decide(review, hold_id, Decision(True, 0, redaction), signer, as_json=as_json)


@app.command()
def reject(
    hold_id: IdArgument,
    folder: FolderOption = None,
    node: NodeOption = "",
    node_key: NodeKeyOption = "",
    reason: ReasonOption = int(Reason.RELEASE_REJECTED),
    key: KeyOption = "",
    signature: SignatureOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Sign that they may not. On-chain stands Withheld with the reason, and no CID."""
    signer = _signer(key, signature)
    with _opened(folder, node, node_key, signer if isinstance(signer, Key) else key) as review:
        _decide(review, hold_id, Decision(False, reason), signer, as_json=as_json)


@app.command()
def opening(
    hold_id: Annotated[str, typer.Argument(metavar="ID", help="The execution's.")],
    folder: Annotated[Path, typer.Option("--dir", help="The node's work folder.")],
    as_json: JsonFlag = False,
) -> None:
    """Of an output that was released in part: what the original was, to prove by the receipt what was taken out.

    Keep it: whoever has it can hold a guess at the original against the receipt.
    """
    from executor.agent.review import open_review

    with open_review(folder) as review:
        found = review.opening(hold_id)
    text = lines((name, f"0x{value.hex()}" if isinstance(value, bytes) else value) for name, value in found.items())
    emit({"ok": True, **found}, as_json=as_json, text=text)


@dataclass(frozen=True)
class Decision:
    """What a reviewer signs: of the whole, or of one redaction."""

    approve: bool
    reason: int
    redaction: str = ""


@contextmanager
def _opened(folder: Path | None, node: str, node_key: str, key: str | Key) -> Iterator[Reviewing[Any]]:
    """The held outputs of --dir, or of --node by calls that --key signs."""
    if (folder is None) == (not node):
        raise InvalidInput("--dir", "give either the node's folder, or with --node the URL of its review API")
    if folder is not None:
        from executor.agent.review import open_review

        with open_review(folder) as review:
            yield review
        return
    from executor.agent.reviewclient import open_remote

    caller = key if isinstance(key, Key) else Key.load(required(key, "--key", "INSULA_KEY"))
    with open_remote(node, caller, node_key) as remote:
        yield remote


def _signer(key: str, signature: str) -> Key | bytes:
    return _signature(signature) if signature else Key.load(required(key, "--key", "INSULA_KEY"))


def _decide(review: Reviewing[Any], hold_id: str, decision: Decision, signer: Key | bytes, *, as_json: bool) -> None:
    is_seen_only = decision.approve and isinstance(signer, Key)  # a signature made elsewhere names its output itself
    hold = review.find_shown(hold_id) if is_seen_only else review.find(hold_id)
    made = review.decide(hold, decision.approve, decision.reason, signer, decision.redaction)
    word = "approvals" if decision.approve else "rejections"
    form = f" in its redaction {decision.redaction}" if decision.redaction else ""
    text = f"{made['decision']}: {made['id']}{form} by {made['signer']}; {made[word]} {word}, {made['needed']} needed"
    if not made["new"]:
        text += "\nthis signer had decided so before; nothing new was written"
    if not made["nodeRuns"]:
        text += "\nthe node does not run: nothing happens before `insula node run`"
    emit({"ok": True, **made}, as_json=as_json, text=text)


def _signature(text: str) -> bytes:
    try:
        return bytes.fromhex(text.removeprefix("0x"))
    except ValueError as exc:
        raise InvalidInput("--signature", "must be 0x and 130 hexadecimal digits") from exc


def _line(hold: dict[str, Any]) -> str:
    if hold["gone"]:
        return f"{hold['id']}  request {hold['requestId']}; cannot be read any more: {hold['gone']}"
    if hold.get("keptUntil") is not None:
        until = moment(hold["keptUntil"])
        return f"{hold['id']}  request {hold['requestId']}; {hold['ruling']}, withheld for good; shredded at {until}"
    rules = f", breaks {hold['brokenRules']} rules" if hold["brokenRules"] else ""
    forms = f", {hold['proposals']} redactions" if hold["proposals"] else ""
    return (
        f"{hold['id']}  request {hold['requestId']}, exit code {hold['exitCode']}{rules}; {_votes(hold)}{forms}; "
        f"{hold['ruling'] or 'withheld at ' + moment(hold['until']) + ' if nobody decides'}"
    )


def _votes(hold: dict[str, Any]) -> str:
    approvals = sum(vote["approve"] for vote in hold["votes"])
    return f"{approvals} of {hold['threshold']} approvals, {len(hold['votes']) - approvals} rejections"


def _text(found: dict[str, Any]) -> str:
    return lines(_facts(found))


def _facts(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "id", found["id"]
    yield "request", f"{found['requestId']}, 0x{found['requestHash'].hex()}"
    yield "exit code", str(found["exitCode"])
    yield "decisions", _votes(found)
    for vote in found["votes"]:
        yield "", f"{'approve' if vote['approve'] else 'reject'} {vote['signer']}"
    if found.get("keptUntil") is not None:
        yield "withheld", f"{found['ruling']}; kept until {moment(found['keptUntil'])}, then shredded"
    else:
        yield "until", f"{moment(found['until'])}; then it is withheld"
    yield "breaks", "\n".join(found["findings"]) or "no rule of the node's policy"
    yield "output", f"{found['outputCid']} ({found['totalBytes']} bytes)"
    yield "to sign", f"0x{found['approveDigest'].hex()} (approve)"
    yield from _rows([f"{row['size']:>12}  {row['type']:<28} {row['path']}" for row in found["files"]])
    for one in found["redactions"]:
        yield from _redaction(one)
        yield "", _votes({**one, "threshold": found["threshold"]})


def _redaction(made: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """A redaction, and how it differs from the whole: both manifests' difference."""
    yield "redaction", made["id"]
    by = made["proposedBy"] or "nobody named, in the node's folder"
    yield "proposed by", f"{by}, at {moment(made['proposedAt'])}"
    yield "breaks", "\n".join(made["findings"])
    yield "output", f"{made['outputCid']} ({made['totalBytes']} bytes)"
    yield "to sign", f"0x{made['approveDigest'].hex()} (approve)"
    rows = [f"removed   {path}" for path in made["removed"]]
    rows += [
        f"replaced  {row['path']}: {row['before']} bytes by {row['size']} of {row['type']}" for row in made["replaced"]
    ]
    rows += [f"kept      {path}" for path in made["kept"]]
    yield from _rows(rows)


def _rows(rows: Sequence[str]) -> Iterator[tuple[str, str]]:
    for row in rows[:MAX_ROWS]:
        yield "", row
    if len(rows) > MAX_ROWS:
        yield "", f"and {len(rows) - MAX_ROWS} more: --json shows all"
