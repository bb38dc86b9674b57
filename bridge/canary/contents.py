"""Fresh content through the bridge and back: uploaded, fetched cold from each source alone and from all, compared."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bridge.canary.judgement import size_text
from bridge.canary.records import HEDGED, Blame, Fault, Fetch, Trouble, Upload
from bridge.canary.stopwatch import Stopwatch
from bridge.canary.traces import Left, Traces
from executor.content import unixfs
from executor.content.blockstore import BlockStore
from executor.content.kubo import Kubo
from executor.content.patience import Patience
from executor.content.retrieval import Pace, Retriever
from executor.content.sources import Source, gateway_source, kubo_source, told_apart
from executor.content.transfer import upload_dag
from executor.content.transport import until
from executor.content.web import Http, upload_peer
from executor.content.weburl import shown
from executor.errors import ContentError, PeerError, PeerRefused
from executor.protocol.cid import Cid

PIECE_BYTES: Final = 2**20
FETCH_SECONDS: Final = 120.0
_NOT_OURS: Final = frozenset({"may-not-upload", "too-large", "too-many-uploads"})
_REMEDIES: Final = {
    "may-not-upload": "its operator names it in content.upload_accounts",
    "too-large": "content.upload_quota_bytes is too small, or used up",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where content is fetched from. name: in the line; kubo: its RPC API, where it has to be given the content."""

    name: str
    source: Source
    kubo: str = ""


def places_of(bridge: str, gateways: Sequence[str], kubos: Sequence[str]) -> list[Place]:
    """The bridge's own gateway, other gateways, Kubos. InvalidInput where an address is none of its kind."""
    daemons = [kubo_source(address) for address in kubos]
    return [
        *(Place(f"bridge {source.name}", source) for source in [gateway_source(bridge)]),
        *(Place(f"gateway {source.name}", source) for source in told_apart(map(gateway_source, gateways))),
        *(Place(f"kubo {daemon.name}", daemon, daemon.name) for daemon in daemons),
    ]


@dataclass(frozen=True, slots=True)
class Account:
    """Who uploads, and for which bridge, chain and contract the calls are signed."""

    bridge: str
    chain_id: int
    contract: str
    address: str

    def upload(self, root: Cid) -> Left:
        """An upload of this account, as it is written down."""
        return Left("upload", self.bridge, str(root), self.chain_id, self.contract, self.address)


@dataclass
class ContentProbe:
    """`run` does one size. seconds: for the upload, and for each fetch. fresh: random bytes. clock: since 1970."""

    places: Sequence[Place]
    traces: Traces
    pace: Pace = field(default_factory=Pace)
    seconds: float = FETCH_SECONDS
    fresh: Callable[[int], bytes] = os.urandom
    clock: Callable[[], float] = time.time
    pause: Callable[[float], object] = time.sleep
    uploads: list[Upload] = field(default_factory=list)
    fetches: list[Fetch] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)

    def run(self, http: Http, account: Account, size: int) -> None:
        """Everything about fresh content of one size. `http` signs. What is left is in the traces."""
        folder = self.traces.work(f"content-{size}")
        with self._own_disk():
            store = BlockStore(folder / "made")
            root, digest = self._make(store, folder / "fresh", size)
            if not self._upload(http, account, store, root, size):
                return
            places = [place for place in self.places if not place.kubo or self._give(place.kubo, store, root)]
            for number, place in enumerate(places):
                self._fetch(place.name, [place.source], folder / f"cold-{number}", root, digest, size)
            if len(places) > 1:
                self._fetch(HEDGED, [place.source for place in places], folder / "cold-all", root, digest, size)
        shutil.rmtree(folder, ignore_errors=True)

    def _make(self, store: BlockStore, file: Path, size: int) -> tuple[Cid, bytes]:
        """Bytes that nobody has seen: their CID and their SHA-256."""
        digest = hashlib.sha256()
        with file.open("wb") as out:
            for offset in range(0, size, PIECE_BYTES):
                piece = self.fresh(min(PIECE_BYTES, size - offset))
                digest.update(piece)
                out.write(piece)
        root = unixfs.import_file(store, file, size)
        file.unlink()
        return root, digest.digest()

    def _upload(self, http: Http, account: Account, store: BlockStore, root: Cid, size: int) -> bool:
        """Bring it to the bridge, public; whether it is there."""
        entry = account.upload(root)
        self.traces.note(entry)
        watch = Stopwatch(self.pace.progress)
        try:
            with until(self.seconds):
                upload_dag(upload_peer(http, public=True), store, root, patience=self._patience())
        except PeerError as exc:
            self.troubles.append(upload_trouble(exc, account, size))
            if isinstance(exc, PeerRefused) and exc.name == "may-not-upload":
                self.traces.forget(entry)  # nothing came there
            return False
        self.uploads.append(Upload(size, watch.seconds))
        return True

    def _give(self, kubo: str, store: BlockStore, root: Cid) -> bool:
        """Have a Kubo keep it as well: what only the bridge has, no Kubo finds."""
        self.traces.note(Left("kubo", kubo, str(root)))
        try:
            with Kubo(kubo) as daemon:
                daemon.publish(store, root, self.seconds)
        except PeerError as exc:
            self.troubles.append(Trouble("kubo", f"kubo {kubo} takes no content: {_words(exc, kubo)}"))
            return False
        return True

    def _fetch(self, name: str, sources: Sequence[Source], folder: Path, root: Cid, digest: bytes, size: int) -> None:
        """One cold fetch. A retriever of its own: what failed in another round is asked all the same."""
        store = BlockStore(folder)
        watch = Stopwatch(self.pace.progress)
        fault, detail = Fault.NONE, ""
        with Retriever(sources, store, pace=self.pace, max_tried=len(sources), watcher=watch) as retriever:
            try:
                retriever.fetch(root, max_bytes=2 * size + PIECE_BYTES, patience=self._patience())
                if _sha256(store, root, size) != digest:
                    fault, detail = Fault.WRONG_BYTES, "they are not those that were uploaded"
            except PeerError as exc:
                watch.gave_up()
                fault, detail = watch.fault(str(exc))
            seconds = watch.seconds
        self.fetches.append(
            Fetch(
                name, size, watch.first_seconds, seconds, watch.stall_seconds, watch.stall_at, watch.bytes,
                watch.shares(), watch.attempts, fault, detail,
            )
        )  # fmt: skip
        shutil.rmtree(folder, ignore_errors=True)

    def _patience(self) -> Patience:
        return Patience(self.clock() + self.seconds, self.clock, self.pause)

    @contextmanager
    def _own_disk(self) -> Iterator[None]:
        """What this machine does not give accuses nobody else."""
        try:
            yield
        except (OSError, ContentError) as exc:
            self.troubles.append(Trouble("disk", f"this canary's own store fails: {exc}", Blame.OWN))


def upload_trouble(error: PeerError, account: Account, size: int) -> Trouble:
    """Why an upload did not go through, and whose trouble that is."""
    what = f"the bridge {shown(account.bridge)} does not take {size_text(size)} from {account.address}"
    if isinstance(error, PeerRefused) and error.name in _NOT_OURS:
        remedy = _REMEDIES.get(error.name, "")
        return Trouble("upload", f"{what}: {error.problem}" + (f" ({remedy})" if remedy else ""), Blame.OWN)
    return Trouble("upload", f"{what}: {_words(error, shown(account.bridge))}")


def _words(error: PeerError, where: str) -> str:
    return " ".join(str(error).split()).removeprefix(f"{where} ")[:300]


def _sha256(store: BlockStore, root: Cid, size: int) -> bytes:
    digest = hashlib.sha256()
    for piece in unixfs.read_file(store, root, size):
        digest.update(piece)
    return digest.digest()
