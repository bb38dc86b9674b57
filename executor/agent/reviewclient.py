"""A reviewer's side of a node's review API (`reviewapi`): what `Review` does in the node's folder, over HTTP.

What a node answers is checked before it is used. What is signed is put together here, from the node's own address,
chain and contract, and the hashes that it shows.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import quote, urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from executor.agent.record import one_line
from executor.content.web import Http, Signer
from executor.content.weburl import shown
from executor.errors import InvalidInput, PeerRefused
from executor.protocol.canonical import strict_json
from executor.protocol.leases import Address
from executor.protocol.nodeauth import review_audience
from executor.protocol.release import (
    Changes,
    Held,
    Redacted,
    Subject,
    check_decision,
    redaction_document,
    release_digest,
    release_document,
    sign_release,
)
from executor.protocol.signing import Key, Scope

CALL_SECONDS = 120.0  # a node hashes what it shows
MAX_ANSWER_BYTES = 32 * 2**20
FILE_SECONDS = 900.0
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def _bytes(value: object) -> object:
    return bytes.fromhex(value[2:]) if isinstance(value, str) and value.startswith("0x") else value


Hash = Annotated[bytes, BeforeValidator(_bytes), Field(min_length=32, max_length=32)]
Signature = Annotated[bytes, BeforeValidator(_bytes), Field(min_length=65, max_length=65)]


class _Answer(BaseModel):
    """Names in camelCase, as on the wire; what a later version adds is left out."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel)

    def plain(self) -> dict[str, Any]:
        """As `Review` gives it."""
        return self.model_dump(by_alias=True)


class _Node(_Answer):
    key: Address
    chain_id: int = Field(ge=1, lt=2**63)
    contract: Address
    session: str = Field(pattern=r"^[0-9a-f]{32}$")


class _Vote(_Answer):
    signer: Address
    approve: bool
    reason: int


class HeldRow(_Answer):
    """One held output, in short."""

    id: str = Field(max_length=200)
    request_id: int
    request_hash: Hash
    exit_code: int | None  # None where the output is gone
    gone: str = ""
    held_at: float
    until: float
    seconds_left: int
    mode: str
    threshold: int
    ruling: str
    broken_rules: int
    votes: tuple[_Vote, ...]
    proposals: int = 0


class _File(_Answer):
    path: str
    kind: str
    size: int = Field(ge=0)
    type: str


class _Replaced(_File):
    before: int = Field(ge=0)


class _Changes(_Answer):
    removed: bool
    replaced: tuple[str, ...]

    def of(self) -> Changes:
        """As they are signed."""
        return Changes(removed=self.removed, replaced=self.replaced)


class _Redaction(_Answer):
    id: str = Field(pattern=r"^[0-9a-f]{16}$")
    output_cid: str
    outcome_hash: Hash
    manifest_hash: Hash
    salt: Hash
    held: Hash
    changes: _Changes
    changes_hash: Hash
    total_bytes: int
    removed: tuple[str, ...]
    replaced: tuple[_Replaced, ...]
    kept: tuple[str, ...]
    findings: tuple[str, ...]
    proposed_by: str
    proposed_at: float
    votes: tuple[_Vote, ...]
    approve_digest: Hash

    @property
    def form(self) -> Held:
        """The hashes that it shows."""
        return Held(outcome_hash=self.outcome_hash, manifest_hash=self.manifest_hash, salt=self.salt)


class _Proposed(_Redaction):
    execution: str
    new: bool


class _Shown(HeldRow):
    output_cid: str
    outcome_hash: Hash
    manifest_hash: Hash
    salt: Hash
    held: Hash
    policy_hash: Hash
    total_bytes: int
    files: tuple[_File, ...]
    findings: tuple[str, ...]
    approve_digest: Hash
    redactions: tuple[_Redaction, ...] = ()


class _Listing(_Answer):
    holds: tuple[HeldRow, ...]


class _Decided(_Answer):
    id: str
    signer: Address
    decision: str
    new: bool
    approvals: int
    rejections: int
    threshold: int
    needed: int
    signature: Signature
    node_runs: bool
    redaction: str = ""


A = TypeVar("A", bound=_Answer)


class RemoteReview:
    """See the module; the methods are those of `Review`."""

    def __init__(self, http: Http, node: _Node) -> None:
        self._http = http
        self._node = node

    def listing(self) -> list[dict[str, Any]]:
        """What this reviewer may decide on, oldest first."""
        return [row.plain() for row in self._rows()]

    def find(self, word: str) -> HeldRow:
        """The one held output of this execution id, request id or request hash. InvalidInput("ID")."""
        found = [row for row in self._rows() if word in (row.id, str(row.request_id), f"0x{row.request_hash.hex()}")]
        if len(found) == 1:
            return found[0]
        if found:
            raise InvalidInput("ID", f"{word} is several: {', '.join(row.id for row in found)}")
        raise InvalidInput("ID", f"nothing of {word!r:.100} waits for this reviewer; see `insula release list`")

    def find_shown(self, word: str) -> HeldRow:
        """As `find`, for an approval or a redaction: by execution id only. InvalidInput("ID")."""
        row = self.find(word)
        if word != row.id:
            problem = "this is for one output: give its own id, as `insula release show` of it says"
            raise InvalidInput("ID", problem)
        return row

    def show(self, hold: HeldRow) -> dict[str, Any]:
        """All that can be said of one."""
        return self._shown(hold).plain()

    def redact(self, hold: HeldRow, without: Sequence[str], replacements: Mapping[str, bytes]) -> dict[str, Any]:
        """Propose a form of the output without some files and folders, and with others in the place of some."""
        texts = {path: base64.b64encode(content).decode() for path, content in replacements.items()}
        body = json.dumps({"without": list(without), "replace": texts}).encode()
        made = self._call(_Proposed, "POST", f"{_path(hold)}/redactions", body)
        if made.execution != hold.id:
            raise PeerRefused(200, "the node shows a redaction of another output")
        return made.plain()

    def document(self, hold: HeldRow, approve: bool, reason: int, redaction: str = "") -> dict[str, Any]:
        """The typed data to be signed elsewhere (`eth_signTypedData_v4`). redaction: the id of one, to approve that."""
        check_decision(approve, reason, redaction)
        shown = self._shown(hold)
        subject, held = self._subject(shown)
        found = _redaction(shown, redaction)
        if found is None:
            return dict(release_document(subject, held, approve, reason))
        return dict(redaction_document(_about(subject, found), held, found.form, found.changes.of()))

    def save(self, hold: HeldRow, path: str | None, target: Path, redaction: str = "") -> int:
        """Write one file of the output (0600); how many bytes. A file that came in part is removed.

        redaction: the id of one, for a file that it replaces; all its others are those of the output.
        """
        if path is None:
            raise InvalidInput("--file", "is needed with --node: a whole output is saved on the node, with --dir")
        shown = self._shown(hold)
        found = _redaction(shown, redaction)
        rows: Sequence[_File] = found.replaced if found else shown.files
        files = [row for row in rows if row.kind == "file" and row.path == path]
        if len(files) != 1:
            what = "file that this redaction replaces" if found else "one file of this output"
            raise InvalidInput("--file", f"{path!r:.200} is no {what}; `insula release show` lists them")
        size = files[0].size
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(target, flags, 0o600)
        except OSError as exc:
            raise InvalidInput("--save", f"{target} cannot be made ({exc.strerror})") from exc
        is_whole = False
        try:
            with os.fdopen(descriptor, "wb") as file:
                query = f"path={quote(path, safe='')}" + (f"&redaction={found.id}" if found else "")
                self._fetch(f"{_path(hold)}/file?{query}", size, file.write)
            is_whole = True
        finally:
            if not is_whole:
                target.unlink(missing_ok=True)
        return size

    def decide(
        self, hold: HeldRow, approve: bool, reason: int, signer: Key | bytes, redaction: str = ""
    ) -> dict[str, Any]:
        """Sign (or bring a signature made elsewhere). The node hashes its quarantine before anything is signed here.

        redaction: the id of one, to approve that form of the output.
        """
        check_decision(approve, reason, redaction)
        if isinstance(signer, Key):
            shown = self._shown(hold)
            subject, _ = self._subject(shown)
            if (found := _redaction(shown, redaction)) is not None:
                subject = _about(subject, found)
            signer = sign_release(subject, signer, approve, reason).signature
        fields = {"approve": approve, "reason": reason, "signature": f"0x{signer.hex()}"}
        body = json.dumps({**fields, "redaction": redaction} if redaction else fields).encode()
        return self._call(_Decided, "POST", f"{_path(hold)}/decision", body).plain()

    def _rows(self) -> tuple[HeldRow, ...]:
        return self._call(_Listing, "GET", "/v1/holds").holds

    def _shown(self, hold: HeldRow) -> _Shown:
        found = self._call(_Shown, "GET", _path(hold))
        if (found.id, found.request_hash) != (hold.id, hold.request_hash):
            raise PeerRefused(200, "the node shows another output than the one that was asked for")
        return found

    def _subject(self, shown: _Shown) -> tuple[Subject, Held]:
        held = Held(outcome_hash=shown.outcome_hash, manifest_hash=shown.manifest_hash, salt=shown.salt)
        subject = Subject(
            scope=Scope(self._node.chain_id, self._node.contract),
            request_hash=shown.request_hash,
            node=self._node.key,
            policy_hash=shown.policy_hash,
            held=held.hash,
        )
        if release_digest(subject, True, 0) != shown.approve_digest:
            raise PeerRefused(200, "what the node wants signed is not what it shows")
        return subject, held

    def _call(self, kind: type[A], method: str, path: str, body: bytes = b"") -> A:
        return _call(self._http, kind, method, path, body)

    def _fetch(self, path: str, size: int, write: Any) -> None:
        left = size
        with self._http.stream(path, "application/octet-stream", FILE_SECONDS) as pieces:
            for piece in pieces:
                left -= len(piece)
                if left < 0:
                    break
                write(piece)
        if left:
            raise PeerRefused(200, f"the node sent another number of bytes than the {size} of the file")


def _redaction(shown: _Shown, word: str) -> _Redaction | None:
    """The redaction of this id; None for none. InvalidInput("--redaction")."""
    if not word:
        return None
    for found in shown.redactions:
        if found.id == word:
            return found
    raise InvalidInput("--redaction", f"{word!r:.40} is no redaction of it; see `insula release show`")


def _about(subject: Subject, found: _Redaction) -> Subject:
    """What is signed for a redaction: from what it shows, and only where that is what the node wants signed."""
    changes = found.changes.of()
    about = replace(subject, redacted=Redacted(held=found.form.hash, changes=changes.hash))
    listed = (bool(found.removed), [row.path for row in found.replaced])
    is_told = listed == (changes.removed, [one_line(path) for path in changes.replaced])
    if not is_told or release_digest(about, True, 0) != found.approve_digest:
        raise PeerRefused(200, "what the node wants signed is not what it shows")
    return about


@contextmanager
def open_remote(url: str, key: Key, expected: str = "") -> Iterator[RemoteReview]:
    """The held outputs of the node whose review API is at `url`, for the reviewer of this key.

    expected: the node's address, where it is to be that one and no other. InvalidInput, PeerError.
    """
    base = _checked(url)
    with Http(base) as plain:
        node = _call(plain, _Node, "GET", "/v1/node")
    if expected and node.key.lower() != expected.lower():
        raise InvalidInput("--node-key", f"the node at {shown(base)} is {node.key}, not {expected}")
    audience = review_audience(Scope(node.chain_id, node.contract), node.key, node.session)
    with Http(base, Signer(key, audience), silence_seconds=CALL_SECONDS) as http:
        yield RemoteReview(http, node)


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError as exc:
        raise InvalidInput("--node", f"{shown(url)!r:.200} is no URL") from exc
    if parts.scheme not in ("http", "https") or not host:
        raise InvalidInput("--node", f"{shown(url)!r:.200} is no URL of http or https")
    if parts.scheme == "http" and host not in _LOOPBACK:
        problem = "held bytes do not go over a network in the clear: make an ssh tunnel and give its end on 127.0.0.1"
        raise InvalidInput("--node", problem)
    return url.rstrip("/")


def _call(http: Http, kind: type[A], method: str, path: str, body: bytes = b"") -> A:
    try:
        reply = http.call(method, path, body, seconds=CALL_SECONDS, max_bytes=MAX_ANSWER_BYTES)
    except PeerRefused as exc:
        if exc.name == "invalid-input":
            raise InvalidInput("node", exc.problem) from exc
        raise
    try:
        return kind.model_validate(strict_json(reply.body.decode()))
    except (ValidationError, ValueError, RecursionError) as exc:
        problem = f"{method} {path:.100}: the answer is not understood; is this a node's review API?"
        raise PeerRefused(reply.status, problem) from exc


def _path(hold: HeldRow) -> str:
    return f"/v1/holds/{quote(hold.id, safe='')}"
