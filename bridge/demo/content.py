"""What the demo brings to the bridge before it orders anything: a log of some MB, programs, a container image."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from bridge.demo.data import make_access_log
from bridge.devnet.net import Devnet
from executor.content import unixfs
from executor.content.blockstore import BlockStore
from executor.content.patience import Patience
from executor.content.transfer import upload_dag
from executor.content.web import Http, Signer, upload_peer
from executor.protocol.cid import Cid
from executor.protocol.nodeauth import Audience
from executor.protocol.signing import Scope

LOG_BYTES = 4 * 2**20
MAX_BYTES = 2**30
UPLOAD_SECONDS = 60.0


@dataclass(frozen=True)
class Image:
    """A container image and the archive that it is loaded from."""

    id: str
    archive: Cid


@dataclass(frozen=True)
class Prepared:
    """CIDs of what was brought. `image` is None when no node runs containers."""

    log: Cid
    logstat: Cid
    exit3: Cid
    image: Image | None


def prepare(net: Devnet, folder: Path, *, with_image: bool, clock: float) -> Prepared:
    """Make everything and upload it, signed by the requester's account, public so that anyone can verify."""
    store = BlockStore(folder / "content")
    log_file = folder / "access.log"
    make_access_log(log_file, LOG_BYTES)
    programs = resources.files("bridge.demo") / "programs"
    prepared = Prepared(
        log=unixfs.import_file(store, log_file, MAX_BYTES),
        logstat=unixfs.import_bytes(store, (programs / "logstat.wasm").read_bytes()),
        exit3=unixfs.import_bytes(store, (programs / "exit3.wasm").read_bytes()),
        image=_image(store, folder) if with_image else None,
    )
    signer = Signer(net.signer("requester"), Audience(Scope(net.chain_id, net.contract), net.bridge_url))
    roots = [prepared.log, prepared.logstat, prepared.exit3, *([prepared.image.archive] if prepared.image else [])]
    with Http(net.bridge_url, signer) as http:
        for root in roots:
            upload_dag(upload_peer(http, public=True), store, root, patience=Patience(clock + UPLOAD_SECONDS))
    return prepared


def _image(store: BlockStore, folder: Path) -> Image:
    from bridge.demo.image import build_demo_image

    archive = folder / "image.tar"
    image_id = build_demo_image(archive)
    return Image(image_id, unixfs.import_file(store, archive, MAX_BYTES))
