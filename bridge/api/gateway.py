"""A trustless gateway: blocks and CARs by CID, for anybody, of what is public.

Source: https://specs.ipfs.tech/http-gateways/trustless-gateway/. Whatever is private is answered exactly as absent.
"""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from bridge.api.problems import Problem, not_here
from executor.content.blockstore import BlockStore
from executor.content.car import MEDIA_TYPE as CAR_TYPE
from executor.content.car import export_car, write_car
from executor.content.roots import RootSet
from executor.errors import BlockMismatch, BlockMissing
from executor.protocol.cid import Cid

RAW_TYPE = "application/vnd.ipld.raw"
PROBE_CID = "bafkqaaa"  # the empty identity block, by which clients find out whether a gateway is one
_CAR_PARAMETERS = "version=1; order=dfs; dups=n"


def router(store: BlockStore, roots: RootSet, clock: Callable[[], float], publish: Callable[[], object]) -> APIRouter:
    """The routes. publish: makes outputs public whose outcome stands on-chain by now; called before "not here"."""
    routes = APIRouter(tags=["gateway"])

    @routes.head("/ipfs/{cid}", include_in_schema=False)
    @routes.get("/ipfs/{cid}", response_class=StreamingResponse)
    async def get(cid: str, request: Request) -> Response:
        """A public block (format=raw) or the DAG below it (format=car)."""
        kind = _format(request)
        if cid == PROBE_CID and kind == "raw":
            return _raw(b"", cid)
        root = Cid.parse(cid)
        block = await run_in_threadpool(_public_block, store, roots, root, clock, publish)
        if kind == "raw":
            return _raw(block, cid)
        headers = {**_headers(cid, "car"), "Content-Type": f"{CAR_TYPE}; {_CAR_PARAMETERS}"}
        if request.method == "HEAD":
            return Response(headers=headers)
        scope = request.query_params.get("dag-scope", "all")
        pieces = write_car([root], [(root, block)]) if scope == "block" else export_car(store, root)
        return StreamingResponse(pieces, headers=headers)

    return routes


def _format(request: Request) -> str:
    """What is wanted: `format` in the query, else the Accept header."""
    asked = request.query_params.get("format")
    if asked is None:
        accepted = [part.split(";")[0].strip() for part in request.headers.get("accept", "").split(",")]
        asked = next(
            ({RAW_TYPE: "raw", CAR_TYPE: "car"}[kind] for kind in accepted if kind in (RAW_TYPE, CAR_TYPE)), ""
        )
    if asked not in ("raw", "car"):
        raise Problem(
            406,
            "not-acceptable",
            "this gateway is trustless",
            f"ask for ?format=raw or ?format=car, or Accept {RAW_TYPE} or {CAR_TYPE}",
        )
    return asked


def _public_block(
    store: BlockStore, roots: RootSet, cid: Cid, clock: Callable[[], float], publish: Callable[[], object]
) -> bytes:
    if not roots.is_public(cid, clock()):
        publish()  # who has just seen a result on-chain asks for it before the next round of housekeeping
        if not roots.is_public(cid, clock()):
            raise not_here(str(cid))
    try:
        return store.get(cid)
    except (BlockMissing, BlockMismatch) as exc:
        raise not_here(str(cid)) from exc


def _raw(block: bytes, cid: str) -> Response:
    return Response(block, headers={**_headers(cid, "raw"), "Content-Type": RAW_TYPE})


def _headers(cid: str, kind: str) -> dict[str, str]:
    extension = "bin" if kind == "raw" else "car"
    return {
        "Cache-Control": "public, max-age=29030400, immutable",
        "Content-Disposition": f'attachment; filename="{cid}.{extension}"',
        "ETag": f'"{cid}.{kind}"',
        "Vary": "Accept",
        "X-Content-Type-Options": "nosniff",
        "X-Ipfs-Path": f"/ipfs/{cid}",
    }
