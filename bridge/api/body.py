"""Request bodies: limited in bytes and time while they are read, before anything looks into them."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from tempfile import SpooledTemporaryFile
from typing import IO

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from bridge.api.problems import Problem
from executor.protocol.leases import MAX_CAR_BYTES, MAX_JSON_BYTES

PIECE_SECONDS = 20.0  # between two pieces of a body
SLOWEST_BYTES_PER_SECOND = 16 * 1024  # of a body, after PIECE_SECONDS
JSON_SECONDS = 30.0  # for a whole JSON body
CAR_SECONDS = 900.0  # for a whole CAR: 64 MiB at 75 KB/s
MEMORY_BYTES = 2**20  # of a CAR; the rest waits on disk
_PIECE_BYTES = 2**20


async def read_json(request: Request) -> bytes:
    """The body of a call with JSON, or none: at most MAX_JSON_BYTES."""
    body = bytearray()
    async with _whole(JSON_SECONDS):
        async for piece in _pieces(request, MAX_JSON_BYTES):
            body += piece
    return bytes(body)


@asynccontextmanager
async def read_car(request: Request, most: int = MAX_CAR_BYTES) -> AsyncIterator[tuple[IO[bytes], bytes]]:
    """The body of an upload, at most `most` bytes, in a temporary file, and its SHA-256.

    It waits there until all of it has come and is what its signature says: nothing else reaches the store.
    """
    digest = hashlib.sha256()
    with SpooledTemporaryFile(max_size=MEMORY_BYTES) as file:
        async with _whole(CAR_SECONDS):
            async for piece in _pieces(request, min(most, MAX_CAR_BYTES)):
                digest.update(piece)
                await run_in_threadpool(file.write, piece)
        file.seek(0)
        yield file, digest.digest()


def pieces_of(file: IO[bytes]) -> Iterator[bytes]:
    """A file in pieces."""
    while piece := file.read(_PIECE_BYTES):
        yield piece


@asynccontextmanager
async def _whole(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as exc:
        raise Problem(408, "too-slow", "too slow", f"the body did not arrive within {seconds:g} s") from exc


async def _pieces(request: Request, limit: int) -> AsyncIterator[bytes]:
    said = request.headers.get("content-length", "")
    if said.isdecimal() and int(said[:20]) > limit:
        raise _too_large(limit)
    total = 0
    began = time.monotonic()
    stream = request.stream().__aiter__()
    while True:
        try:
            piece = await asyncio.wait_for(anext(stream), PIECE_SECONDS)
        except StopAsyncIteration:
            return
        except ClientDisconnect as exc:
            raise Problem(400, "cut", "cut", "the connection ended inside the body") from exc
        except TimeoutError as exc:
            raise Problem(408, "too-slow", "too slow", f"no byte of the body came for {PIECE_SECONDS:g} s") from exc
        total += len(piece)
        if total > limit:
            raise _too_large(limit)
        if total < SLOWEST_BYTES_PER_SECOND * (time.monotonic() - began - PIECE_SECONDS):
            raise Problem(408, "too-slow", "too slow", f"a body comes with {SLOWEST_BYTES_PER_SECOND} bytes a second")
        yield piece


def _too_large(limit: int) -> Problem:
    problem = Problem(413, "too-large", "too large", f"a body of this call has at most {limit} bytes")
    problem.headers["Connection"] = "close"
    return problem
