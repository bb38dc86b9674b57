"""CARv1: blocks in one stream. Pure: bytes in, verified blocks out, and the way back.

Source: https://ipld.io/specs/transport/car/carv1/. A stream is a header (a varint of its length, then dag-cbor
`{"roots": [CID...], "version": 1}`) and sections (a varint of their length, then CID and block). There is no end mark:
a stream that ends between two sections is well formed even if blocks are missing, so a reader must ask `missing`
whether it has the whole DAG. Old archives name blocks by CIDv0; they come out as the CIDv1 of the same block.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from executor.content import varint
from executor.content.blocks import Block, BlockSource, Verified
from executor.content.dagpb import MAX_BLOCK_BYTES
from executor.content.walk import blocks as dag_blocks
from executor.errors import CarError, ContentTooLarge, InvalidInput
from executor.protocol.cid import BINARY_LENGTH, CID_V0_LENGTH, CID_V0_PREFIX, Cid

MEDIA_TYPE: Final = "application/vnd.ipld.car"

_MAP_OF_2_AND_ROOTS: Final = b"\xa2\x65roots"
_VERSION_1: Final = b"\x67version\x01"
_VERSION_2_HEADER: Final = b"\xa1\x67version\x02"
_TAG_CID: Final = b"\xd8\x2a"
_CBOR_ARRAY, _CBOR_BYTES = 4, 2
_HEAD_BYTES: Final = varint.MAX_LENGTH + BINARY_LENGTH


@dataclass(frozen=True, slots=True)
class CarLimits:
    """Bytes that are accepted, each inclusive. total_bytes: of the whole stream."""

    total_bytes: int
    header_bytes: int = 16 * 1024
    block_bytes: int = MAX_BLOCK_BYTES


class _Section:
    """A section that is coming. cid: None of the header. lack: bytes that are still to come."""

    __slots__ = ("_content", "cid", "lack")

    def __init__(self, cid: Cid | None, size: int) -> None:
        self.cid = cid
        self.lack = size
        # Room for all of it at once: pieces are copied once, and neither growth nor the end copies them again.
        self._content = io.BytesIO(bytes(size))

    @property
    def content(self) -> bytes:
        """All of it, once nothing lacks."""
        return self._content.getvalue()

    def take(self, piece: memoryview, offset: int) -> int:
        """Keep what belongs to it; the offset behind that."""
        end = min(len(piece), offset + self.lack)
        self.lack -= self._content.write(piece[offset:end])
        return end


class CarParser:
    """Reads a CAR stream piece by piece, however it is cut up; holds at most one block and the piece it was given.

    feed(piece) returns the whole, verified blocks that the piece completed. Whatever is wrong (CarError,
    ContentTooLarge) is raised only after every good block before it was returned: by the same call if it completed
    none, else by the next `feed` or `finish`. Always call `finish`: it tells a cut stream from a complete one.
    """

    def __init__(self, limits: CarLimits) -> None:
        self.roots: tuple[Cid, ...] | None = None
        self.blocks = 0
        self.bytes = 0
        self._limits = limits
        self._head = b""  # of the next section: its length and CID, as far as they are here
        self._section: _Section | None = None  # the one that is coming
        self._failure: CarError | ContentTooLarge | None = None

    def feed(self, piece: bytes) -> list[Block]:
        """Take the next piece of the stream; the blocks that it completed."""
        if self._failure is not None:
            raise self._failure
        found: list[Block] = []
        try:
            self._take(piece, found)
        except (CarError, ContentTooLarge) as exc:
            self._failure = exc
            self._section = None
            if not found:
                raise
        return found

    def finish(self) -> None:
        """The stream has ended: CarError if it was cut in the middle of something, or if an error was still waiting."""
        if self._failure is not None:
            raise self._failure
        if self.roots is None:
            raise CarError("cut: the stream ended inside its header")
        if self._head or self._section is not None:
            raise CarError(f"cut: the stream ended inside block {self.blocks + 1}; all before it are good")

    def _take(self, piece: bytes, found: list[Block]) -> None:
        room = self._limits.total_bytes - self.bytes
        self.bytes += min(len(piece), room)
        part = memoryview(piece)[:room]
        offset = 0
        while offset < len(part):
            offset = self._begin(part, offset) if self._section is None else self._section.take(part, offset)
            if self._section is not None and not self._section.lack:
                self._end(self._section, found)
                self._section = None
        if len(piece) > room:
            raise ContentTooLarge("bytes of the CAR stream", self._limits.total_bytes)

    def _begin(self, piece: memoryview, offset: int) -> int:
        """Read the next section's length and CID, as far as they are here; the offset behind them."""
        before = len(self._head)
        self._head += piece[offset : offset + _HEAD_BYTES - before]
        found = self._read_head(self._head)
        if found is None:
            return offset + len(self._head) - before
        self._section, behind = found
        self._head = b""
        return offset + behind - before

    def _read_head(self, head: bytes) -> tuple[_Section, int] | None:
        """The section that begins so, and where its content does; None where its length and CID are not all here."""
        try:
            length = varint.decode(head)
        except varint.VarintError as exc:
            raise CarError(f"{self._where()}: {exc}") from exc
        if length is None:
            return None
        size, start = length
        if self.roots is None:
            if size > self._limits.header_bytes:
                raise CarError(f"the header says it has {size} bytes; is this a CAR file?")
        elif size > self._limits.block_bytes + BINARY_LENGTH:
            raise CarError(self._too_large(size))
        if not size:
            raise CarError(f"{self._where()}: an empty section (padding or garbage behind the last block?)")
        if self.roots is None:
            return _Section(None, size), start
        behind = start + min(size, CID_V0_LENGTH if head.startswith(CID_V0_PREFIX, start) else BINARY_LENGTH)
        if len(head) < behind:
            return None
        try:
            cid = Cid.from_link(head[start:behind], "cid")
        except InvalidInput as exc:
            raise CarError(f"{self._where()}: {exc}") from exc
        if start + size - behind > self._limits.block_bytes:
            raise CarError(self._too_large(start + size - behind))
        return _Section(cid, start + size - behind), behind

    def _end(self, section: _Section, found: list[Block]) -> None:
        if section.cid is None:
            self.roots = decode_header(section.content)
            return
        block = Verified.checked(section.cid, section.content)
        if block is None:
            raise CarError(f"{self._where()}: the bytes do not hash to {section.cid}")
        found.append(block)
        self.blocks += 1

    def _too_large(self, size: int) -> str:
        return f"{self._where()}: {size} bytes, the limit for a block is {self._limits.block_bytes}"

    def _where(self) -> str:
        return "header" if self.roots is None else f"block {self.blocks + 1}"


def read_car(pieces: Iterable[bytes], parser: CarParser) -> Iterator[Block]:
    """The blocks of a stream; an error comes after all good blocks before it. `parser.roots` is set with the first."""
    for piece in pieces:
        yield from parser.feed(piece)
    parser.finish()


def write_car(roots: Sequence[Cid], blocks: Iterable[Block]) -> Iterator[bytes]:
    """A CAR stream, in pieces: the header, then two for each block."""
    return write_sections([root.binary for root in roots], ((cid.binary, block) for cid, block in blocks))


def write_sections(roots: Sequence[bytes], sections: Iterable[tuple[bytes, bytes]]) -> Iterator[bytes]:
    """As `write_car`, of CIDs in whichever binary form: (CID, block)."""
    header = _encode_header(roots)
    yield varint.encode(len(header)) + header
    for cid, block in sections:
        yield varint.encode(len(cid) + len(block)) + cid
        yield block


def export_car(source: BlockSource, root: Cid, max_bytes: int | None = None) -> Iterator[bytes]:
    """The CAR stream of one DAG: parents before children, depth first, each block once (order=dfs, dups=n)."""
    return write_car([root], dag_blocks(source, root, max_bytes))


def encode_header(roots: Sequence[Cid]) -> bytes:
    """The header without its length."""
    return _encode_header([root.binary for root in roots])


def _encode_header(roots: Sequence[bytes]) -> bytes:
    links = b"".join(_TAG_CID + _cbor_head(_CBOR_BYTES, len(root) + 1) + b"\0" + root for root in roots)
    return _MAP_OF_2_AND_ROOTS + _cbor_head(_CBOR_ARRAY, len(roots)) + links + _VERSION_1


def decode_header(header: bytes) -> tuple[Cid, ...]:
    """The roots in a header; CarError. Only the one canonical encoding of dag-cbor is read."""
    if header == _VERSION_2_HEADER:
        raise CarError("this is CARv2; send CARv1 (`ipfs dag export` writes it)")
    if not header.startswith(_MAP_OF_2_AND_ROOTS):
        raise CarError("the header is not that of a CARv1 stream")
    count, offset = _read_cbor_head(header, len(_MAP_OF_2_AND_ROOTS), _CBOR_ARRAY)
    roots = []
    for _ in range(count):
        if header[offset : offset + 2] != _TAG_CID:
            raise CarError("a root in the header is not a CID")
        length, offset = _read_cbor_head(header, offset + 2, _CBOR_BYTES)
        binary = header[offset : offset + length]
        if binary[:1] != b"\0":
            raise CarError("a root in the header is not a CID")
        try:
            roots.append(Cid.from_link(binary[1:], "root"))
        except InvalidInput as exc:
            raise CarError(f"header: {exc}") from exc
        offset += length
    if header[offset:] != _VERSION_1:
        raise CarError("the header is not that of a CARv1 stream")
    return tuple(roots)


def _cbor_head(major: int, count: int) -> bytes:
    if count < 24:
        return bytes([major << 5 | count])
    if count < 256:
        return bytes([major << 5 | 24, count])
    return bytes([major << 5 | 25]) + count.to_bytes(2, "big")


def _read_cbor_head(header: bytes, offset: int, major: int) -> tuple[int, int]:
    """A count in its shortest form, and the offset behind it."""
    for length in (1, 2, 3):
        head = header[offset : offset + length]
        count = int.from_bytes(head[1:] or bytes([head[0] & 0x1F]), "big") if len(head) == length else -1
        if count >= 0 and _cbor_head(major, count) == head:
            return count, offset + length
    raise CarError("the header is not that of a CARv1 stream")
