"""`insula content export|import`: a DAG as a CARv1 file or stream, and back; constant memory both ways."""

from __future__ import annotations

import fcntl
import os
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from bridge.cli.output import Exit, JsonFlag, emit, fail
from bridge.cli.progress import Advance, progress
from bridge.cli.stores import (
    MAX_TREE_BYTES,
    ContentArgument,
    PinSecondsOption,
    StoreOption,
    found_at,
    pin_for,
    store_at,
)
from executor.content.arrival import CarImport
from executor.content.car import CarLimits, export_car
from executor.content.disk import is_disk_full
from executor.content.roots import RootSet
from executor.content.survey import survey
from executor.errors import DiskFull, InvalidInput, MalformedBlock

_PIECE = 2**20
STREAM = "-"
MAX_CAR_BYTES = MAX_TREE_BYTES + MAX_TREE_BYTES // 8
"""Blocks, and what a CAR adds to each."""


def export(
    content: ContentArgument,
    file: Annotated[str, typer.Argument(metavar="FILE.car", help="Where to write, a new file; - for standard output.")],
    store: StoreOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Write a DAG as a CARv1 file: every block once, verified, parents first."""
    if file == STREAM and as_json:
        raise InvalidInput("--json", "the CAR itself goes to standard output; leave one of both away")
    if file == STREAM and sys.stdout.isatty():
        raise InvalidInput("FILE.car", "standard output is a terminal; redirect it, or name a file")
    if file != STREAM and os.path.lexists(file):
        raise InvalidInput("FILE.car", f"{file} exists already")
    blocks = store_at(store)
    cid = found_at(blocks, content)
    found = survey(blocks, cid)  # before the first byte: a CAR has no end mark, and half of one looks whole
    if found.malformed:
        raise MalformedBlock(*found.malformed[0])
    if found.absent:
        what = f"{len(found.absent)} blocks of {cid} are not here, the first is {found.absent[0]}"
        raise fail(f"{what}: nothing was written", code=Exit.NOT_SO, as_json=as_json)
    written = 0
    with (
        _disk_full_named(file),
        _target(file) as descriptor,
        progress("exporting", found.bytes, as_json=as_json) as advance,
    ):
        for piece in export_car(blocks, cid):
            _write(descriptor, piece)
            written += len(piece)
            advance(len(piece))
    if file != STREAM:
        result = {"ok": True, "cid": str(cid), "file": file, "blocks": found.blocks, "bytes": written}
        emit(result, as_json=as_json, text=f"{cid}\n{found.blocks} blocks, {written} bytes in {file}")


@contextmanager
def _disk_full_named(file: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        if is_disk_full(exc):
            raise DiskFull(f"no space left to write {'standard output' if file == STREAM else file!r}") from exc
        raise


def _write(descriptor: int, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[os.write(descriptor, view) :]


@contextmanager
def _target(file: str) -> Iterator[int]:
    """A descriptor to write to. A file has its name only when all of it is on disk; before, it is FILE.partial."""
    if file == STREAM:
        sys.stdout.flush()
        yield sys.stdout.fileno()
        return
    path, partial = Path(file), Path(file + ".partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
    try:
        _take(descriptor, partial)
        try:
            yield descriptor
            os.fsync(descriptor)
            partial.rename(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    finally:
        os.close(descriptor)


def _take(descriptor: int, partial: Path) -> None:
    """Make sure that nobody else writes it, and that it is a file: what a crash left is begun anew."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        ours = os.path.samestat(os.fstat(descriptor), partial.lstat())
    except (BlockingIOError, FileNotFoundError):
        ours = False
    if not ours or not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise InvalidInput("FILE.car", f"{partial} is in use: another export writes it")
    os.ftruncate(descriptor, 0)


def import_car(
    file: Annotated[str, typer.Argument(metavar="FILE.car", help="A CARv1 file; - for standard input.")],
    label: Annotated[str, typer.Option(help="The label that its roots are pinned under.")] = "imported",
    seconds: PinSecondsOption = None,
    store: StoreOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Take the blocks of a CARv1 file, each verified, and pin its roots. Cut short, the same command goes on."""
    now = time.time()
    kept = pin_for(label, seconds, now)
    with _source(file) as source:
        blocks = store_at(store)
        found = CarImport(blocks, RootSet(blocks), CarLimits(MAX_CAR_BYTES))
        with progress("importing", _size(source), as_json=as_json) as advance:
            found.run(_pieces(source, file, advance), kept, now)
    result = {
        "ok": True,
        "roots": [str(root) for root in found.roots],
        "label": label,
        "until": kept.expires_at,
        "blocks": found.blocks,
        "new": found.new,
    }
    lines = [*map(str, found.roots), f"{found.blocks} blocks verified, {found.new} were new; pinned as {label}"]
    emit(result, as_json=as_json, text="\n".join(lines))


@contextmanager
def _source(file: str) -> Iterator[BinaryIO]:
    if file == STREAM:
        if sys.stdin.isatty():
            raise InvalidInput("FILE.car", "standard input is a terminal; redirect it, or name a file")
        yield sys.stdin.buffer
        return
    with ExitStack() as stack:
        try:
            source = stack.enter_context(Path(file).open("rb"))
        except OSError as exc:
            raise InvalidInput("FILE.car", f"{file} cannot be read: {exc.strerror}") from exc
        yield source


def _size(source: BinaryIO) -> int | None:
    found = os.fstat(source.fileno())
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def _pieces(source: BinaryIO, file: str, advance: Advance) -> Iterator[bytes]:
    while True:
        try:
            piece = os.read(source.fileno(), _PIECE)
        except OSError as exc:
            raise InvalidInput("FILE.car", f"{file} cannot be read: {exc.strerror}") from exc
        if not piece:
            return
        yield piece
        advance(len(piece))
