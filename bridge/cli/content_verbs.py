"""`insula content ...`: inputs to a bridge, outputs from one. Every block is verified before it is stored."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from bridge.cli.beside import check_free, folder_beside, put_in_place
from bridge.cli.car_verbs import export, import_car
from bridge.cli.context import (
    BridgeOption,
    ContractOption,
    KeyOption,
    bridge_at,
    bridge_url,
    contract_of,
    get_json,
    signed_bridge,
    understood,
)
from bridge.cli.output import Exit, JsonFlag, emit, errors, fail
from bridge.cli.pin_verbs import ls, pin, stat, unpin
from bridge.cli.progress import Watched, WatchedSink, WatchedSource, WatchedUpload, is_shown, progress
from bridge.cli.stores import (
    LIMITS,
    MAX_TREE_BYTES,
    ContentArgument,
    StoreOption,
    local_store,
    named,
    pin_for,
    pin_label,
    store_at,
)
from bridge.cli.upkeep_verbs import fsck, gc
from executor.content import unixfs
from executor.content.arrival import Kept, arriving
from executor.content.blocks import BlockSink, BlockSource, BlockStoreLike, Discarded
from executor.content.blockstore import BlockStore
from executor.content.patience import FIRST_PAUSE_SECONDS, Patience
from executor.content.profiles import V1_2025, Profile, profile_named
from executor.content.retrieval import Retriever
from executor.content.roots import RootSet
from executor.content.sources import Source, gateway_source, kubo_source
from executor.content.survey import survey
from executor.content.transfer import fetch_dag, upload_dag
from executor.content.transport import until
from executor.content.walk import missing
from executor.content.web import Http, gateway_peer, upload_peer, withdraw_upload
from executor.errors import InvalidInput, PeerUnavailable
from executor.protocol.cid import Cid
from executor.protocol.wire import checksum_address

app = typer.Typer(help="Content by CID.", no_args_is_help=True)

ADD_LABEL = "added"
GET_LABEL = "fetched"
GET_SECONDS = 30 * 86400.0
"""How long what was fetched is kept, so that it is here when it is asked for again."""
UPLOAD_IDLE_SECONDS = 300.0
"""A bridge that took nothing for so long is given up; the same command goes on later."""
DOWNLOAD_IDLE_SECONDS = 60.0
_IMPORTS = 3


def import_path(store: BlockSink, path: Path, profile: Profile = V1_2025) -> Cid:
    """The CID of a file or directory, its blocks stored. InvalidInput if there is neither."""
    if path.is_symlink() or not path.exists():
        raise InvalidInput("PATH", f"{path} is no file or directory")
    if path.is_dir():
        return unixfs.import_tree(store, path, LIMITS, profile)
    return unixfs.import_file(store, path, MAX_TREE_BYTES, profile)


def keep_path(
    store: BlockStore, path: Path, kept: Kept, profile: Profile = V1_2025, *, public: bool, as_json: bool
) -> Cid:
    """`import_path`, and the result kept. Its root is known last, so garbage collection may be there before it.

    public: whoever serves this store gives it to anybody.
    """
    roots = RootSet(store)
    for _ in range(_IMPORTS):
        with progress("adding", _bytes_below(path, as_json=as_json), as_json=as_json) as advance:
            root = import_path(Watched(store, advance), path, profile)
        roots.keep(root, kept.label, kept.expires_at)
        if not missing(store, root, limit=1):
            roots.note_whole([root])
            if public:
                roots.publish(root, kept.label, kept.expires_at)
            return root
    raise InvalidInput("PATH", f"{path} takes longer to read than garbage collection waits; run this again")


def _bytes_below(path: Path, *, as_json: bool) -> int | None:
    """What a bar is measured by; a hint, and None where none is shown."""
    if not is_shown(as_json=as_json):
        return None
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.lstat().st_size for file in files if file.is_file() and not file.is_symlink())


def upload(
    http: Http, store: BlockStore, root: Cid, *, public: bool, requester: str, patience: Patience, as_json: bool
) -> dict[str, object]:
    """Bring a DAG to a bridge; `http` signs. What was moved."""
    peer = upload_peer(http, public=public, requester=requester)
    total = survey(store, root).bytes if is_shown(as_json=as_json) else None
    with progress("uploading", total, as_json=as_json) as advance:
        moved = upload_dag(WatchedUpload(peer, advance), store, root, patience=patience)
    return {"cid": str(root), "blocksSent": moved.blocks, "bytesSent": moved.bytes, "public": public}


def download(http: Http, store: BlockStoreLike, root: Cid, seconds: float) -> None:
    """Fetch a DAG from a gateway, every block verified."""
    patience = Patience(time.time() + seconds, stubborn=DOWNLOAD_IDLE_SECONDS)
    fetch_dag(gateway_peer(http), store, root, max_bytes=MAX_TREE_BYTES, patience=patience)


@contextmanager
def in_time(seconds: float, stubborn: float = math.inf, *, as_json: bool) -> Iterator[Patience]:
    """So long for a transfer: where it fails because nothing more could be tried then, the exit code says so.

    stubborn: as `Patience` has it.
    """
    patience = Patience(time.time() + seconds, stubborn=stubborn)
    try:
        with until(seconds):  # a server that is silent, too, is left then
            yield patience
    except KeyboardInterrupt:
        errors.print("stopped before all was there: the same command goes on from here")
        raise
    except PeerUnavailable as exc:
        if patience.left > FIRST_PAUSE_SECONDS:
            raise
        raise fail(f"not done in {seconds:.0f} s: {exc}", code=Exit.TIMEOUT, as_json=as_json) from exc


def sources_of(bridge: str, gateways: list[str], kubos: list[str]) -> list[Source]:
    """Where content is looked for, the nearest first. InvalidInput where there is nowhere."""
    own = [gateway_source(bridge_url(bridge))] if bridge or not (gateways or kubos) else []
    return [*own, *map(kubo_source, kubos), *map(gateway_source, gateways)]


def retrieve(store: BlockStoreLike, root: Cid, sources: list[Source], patience: Patience) -> list[dict[str, object]]:
    """Fetch a DAG from whichever of these has it; what each brought."""
    with Retriever(sources, store, max_tried=len(sources)) as retriever:
        found = retriever.fetch(root, max_bytes=MAX_TREE_BYTES, patience=patience)
    return [{"source": share.source, "blocks": share.blocks, "bytes": share.bytes} for share in found.shares]


@app.command()
def add(
    path: Annotated[Path, typer.Argument(help="A file or directory; links are refused.")],
    bridge: Annotated[
        str, typer.Option("--to", "--bridge", envvar="INSULA_BRIDGE", help="Bring it to this bridge.")
    ] = "",
    key: KeyOption = "",
    contract: ContractOption = "",
    public: Annotated[
        bool, typer.Option("--public", help="Let the bridge, or with --store its owner's gateway, serve it to anybody.")
    ] = False,
    requester: Annotated[
        str, typer.Option("--for", help="Whose jobs may read it while it is private; by default the key's own.")
    ] = "",
    local: Annotated[bool, typer.Option("--local", help="Keep it in $INSULA_HOME/content only; send nothing.")] = False,
    store: StoreOption = None,
    keep: Annotated[
        float | None, typer.Option("--keep", help="With --store: seconds to keep it there; else until `unpin`.")
    ] = None,
    only_hash: Annotated[bool, typer.Option("--only-hash", help="Compute the CID, store and send nothing.")] = False,
    profile: Annotated[
        str, typer.Option(help="unixfs-v1-2025, or unixfs-v0-2015 for the CIDs that Kubo gave before (Qm...).")
    ] = V1_2025.name,
    timeout: Annotated[float, typer.Option(help="Seconds for the whole upload.")] = 3600.0,
    as_json: JsonFlag = False,
) -> None:
    """Compute the CID of a file or directory and bring its blocks to a bridge, so that nodes can fetch them.

    A copy stays in $INSULA_HOME/content, pinned as "added" until `insula content unpin`; `insula job verify` finds it.
    With --store it goes into that store only, and nothing is sent: with --public, a node whose store it is serves it.
    """
    by = profile_named(profile)
    meant_for = checksum_address(requester, "--for") if requester else ""
    if keep is not None and store is None:
        raise InvalidInput("--keep", "goes with --store; a copy of your own stays until `insula content unpin`")
    if only_hash:
        with progress("hashing", _bytes_below(path, as_json=as_json), as_json=as_json) as advance:
            root = import_path(WatchedSink(Discarded(), advance), path, by)
        emit({"ok": True, **_called(root, by)}, as_json=as_json, text=by.text_of(root))
        return
    if store is not None:
        _add_to(store, path, pin_for(ADD_LABEL, keep, time.time()), by, public=public, as_json=as_json)
        return
    if (public or requester) and (local or not bridge):
        what = "--public" if public else "--for"
        raise InvalidInput(what, "says who gets it from a bridge, and nothing is sent: name one (--to URL)")
    own = local_store()
    root = keep_path(own, path, Kept(pin_label(ADD_LABEL)), by, public=False, as_json=as_json)
    if local or not bridge:
        emit({"ok": True, **_called(root, by), "blocksSent": 0}, as_json=as_json, text=by.text_of(root))
        return
    with uploads_at(bridge, key, contract) as http, in_time(timeout, UPLOAD_IDLE_SECONDS, as_json=as_json) as patience:
        result = upload(http, own, root, public=public, requester=meant_for, patience=patience, as_json=as_json)
    emit({"ok": True, **result, **_called(root, by)}, as_json=as_json, text=by.text_of(root))


def _called(root: Cid, profile: Profile) -> dict[str, str]:
    """The CID as the profile writes it, and as everything else here does where that is not the same."""
    text = profile.text_of(root)
    return {"cid": text} if text == str(root) else {"cid": text, "cidV1": str(root)}


def _add_to(folder: Path, path: Path, kept: Kept, profile: Profile, *, public: bool, as_json: bool) -> None:
    root = keep_path(store_at(folder), path, kept, profile, public=public, as_json=as_json)
    result = {"ok": True, **_called(root, profile), "public": public, "until": kept.expires_at}
    emit(result, as_json=as_json, text=profile.text_of(root))


@contextmanager
def uploads_at(bridge: str, key: str, contract: str) -> Iterator[Http]:
    """Calls to a bridge about uploads, signed for its chain, and for its contract unless another one is named."""
    with bridge_at(bridge) as http, understood():
        status = get_json(http, "/v1/status")
        chain_id = int(status["chainId"])
        if not 0 < chain_id < 2**63:
            raise ValueError("chainId is no chain's")
    address = contract_of(contract or str(status.get("contract", "")))
    with signed_bridge(bridge, key, chain_id, address) as http:
        yield http


@app.command()
def withdraw(
    cid: Annotated[str, typer.Argument(metavar="CID", help="What was uploaded, as add printed it.")],
    bridge: BridgeOption = "",
    key: KeyOption = "",
    contract: ContractOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Take back from a bridge what this account uploaded: it is served no longer, and its quota is free again.

    What another account uploaded, or a job's result, stays. Jobs that still need it will not find it. Nothing of the
    copy in $INSULA_HOME/content changes.
    """
    root = Cid.parse(cid, "CID")
    with uploads_at(bridge, key, contract) as http:
        freed = withdraw_upload(http, root)
    text = f"{freed} bytes of the quota are free again" if freed else "nothing of it was uploaded by this account"
    emit({"ok": True, "cid": str(root), "freedBytes": freed}, as_json=as_json, text=text)


@app.command()
def get(
    cid: ContentArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write; must not exist.")],
    bridge: BridgeOption = "",
    gateway: Annotated[
        list[str] | None, typer.Option("--gateway", help="Also ask this trustless gateway; several times for several.")
    ] = None,
    kubo: Annotated[
        list[str] | None, typer.Option("--kubo", help="Also ask this Kubo: the http address of its RPC API.")
    ] = None,
    seconds: Annotated[float, typer.Option("--for", help="Seconds to keep a copy here.")] = GET_SECONDS,
    timeout: Annotated[float, typer.Option(help="Seconds for the whole download.")] = 3600.0,
    as_json: JsonFlag = False,
) -> None:
    """Fetch a file or directory by CID from a bridge's gateway, or whoever else has it, and write it out, verified.

    What is written is read-only and dated 1970: a CID says nothing of modes and times. A copy stays in
    $INSULA_HOME/content, pinned as "fetched"; cut short, the same command goes on from there.
    """
    root, inner = named(cid)
    now = time.time()
    kept = pin_for(GET_LABEL, seconds, now)
    check_free(output, "--output")
    sources = sources_of(bridge, gateway or [], kubo or [])
    store = local_store()
    with (
        in_time(timeout, as_json=as_json) as patience,
        arriving(RootSet(store), [root], kept, now),
        progress("fetching", None, as_json=as_json) as advance,
    ):
        shares = retrieve(Watched(store, advance), root, sources, patience)
    target = unixfs.resolve(store, root, inner)
    with progress("writing", None, as_json=as_json) as advance:
        write_out(WatchedSource(store, advance), target, output)
    result = {"ok": True, "cid": str(target), "output": str(output), "sources": shares}
    emit(result, as_json=as_json, text=str(output))


def write_out(store: BlockSource, cid: Cid, output: Path) -> None:
    """Write a DAG beside its goal, then put it in place: a reader never sees half of it."""
    with folder_beside(output) as partial:
        unixfs.export_tree(store, cid, partial / "content", LIMITS)
        put_in_place(partial / "content", output, "--output")


app.command()(stat)
app.command()(ls)
app.command()(pin)
app.command()(unpin)
app.command()(gc)
app.command()(fsck)
app.command()(export)
app.command("import")(import_car)
