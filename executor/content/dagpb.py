"""dag-pb: the block format of UnixFS files and directories. Pure.

Source: https://ipld.io/specs/codecs/dag-pb/spec/. The decoder is strict: every link before the data, the fields of a
link in their order, nothing unknown or repeated; so a block that decodes is one that Kubo or Helia could have written.
Links need not be sorted to be read (UnixFS specification, "Directory Link Ordering"); they are when we write.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, NoReturn

from executor.content import protobuf
from executor.content.protobuf import ProtobufError
from executor.errors import InvalidInput, MalformedBlock
from executor.protocol.cid import CID_V0_PREFIX, CODECS, DAG_PB, Cid

MAX_BLOCK_BYTES: Final = 2 * 1024 * 1024
"""No block is larger: the limit of Bitswap and of trustless gateways."""

_NODE_DATA, _NODE_LINK = 1, 2
_LINK_HASH, _LINK_NAME, _LINK_TSIZE = 1, 2, 3
_LINK_TAG, _NAME_TAG, _TSIZE_TAG = 0x12, 0x12, 0x18
_DIGEST_BYTES: Final = 32
_HASHES: Final = {b"\x0a\x24\x01" + bytes([codec, 0x12, 0x20]): codec for codec in CODECS}
"""How the hash of a link begins where it is a CIDv1: six bytes."""
_OLD_HASH: Final = b"\x0a\x22" + CID_V0_PREFIX

_Span = tuple[int, int]
"""Where a link stands in its block: the first byte, and the one behind the last."""
_Edge = tuple[int, bytes, bytes, int]
"""A link as it is read: codec and digest of its CID, the bytes of its name, its tsize."""


@dataclass(frozen=True, slots=True)
class Link:
    """A named edge. `tsize`: bytes of all blocks below it, as often as they occur; a hint that is never trusted."""

    name: str
    cid: Cid
    tsize: int


@dataclass(frozen=True, slots=True)
class Node:
    """A dag-pb node; `data` is None where the field is absent."""

    links: tuple[Link, ...]
    data: bytes | None


def encode(node: Node, *, old_cids: bool = False) -> bytes:
    """The canonical block of a node. Links are written in the order given: sort them first. old_cids: as CIDv0."""
    out = bytearray()
    for link in node.links:
        out += protobuf.bytes_field(_NODE_LINK, encode_link(link, old_cids=old_cids))
    if node.data is not None:
        out += protobuf.bytes_field(_NODE_DATA, node.data)
    return bytes(out)


def encode_link(link: Link, *, old_cids: bool = False) -> bytes:
    """The PBLink message of a link; old_cids: as a CIDv0, which there is of dag-pb only."""
    return (
        protobuf.bytes_field(_LINK_HASH, link.cid.old_binary if old_cids else link.cid.binary)
        + protobuf.bytes_field(_LINK_NAME, link.name.encode())
        + protobuf.varint_field(_LINK_TSIZE, link.tsize)
    )


def decode(block: bytes, cid: Cid | None = None, most_links: int | None = None) -> Node:
    """Read a block; MalformedBlock names `cid`. most_links: of a block that has more, none is read."""
    with _naming(block, cid):
        spans, data = _split(block)
        if most_links is not None and len(spans) > most_links:
            raise ProtobufError(f"{len(spans)} links, where at most {most_links} can be")
        edges = (_edge(block, start, stop) for start, stop in spans)
        return Node(tuple(Link(_text(name), Cid(codec, digest), tsize) for codec, digest, name, tsize in edges), data)


def targets(block: bytes, cid: Cid | None = None, *, each_once: bool = False) -> list[Cid]:
    """The CIDs that a block links to, in the order of its links; refuses what `decode` refuses, and costs a third."""
    found: dict[tuple[int, bytes], Cid] = {}
    in_order: list[Cid] = []
    with _naming(block, cid):
        for start, stop in _split(block)[0]:
            codec, digest, name, _ = _edge(block, start, stop)
            if not name.isascii():
                _text(name)
            target = found.get((codec, digest))
            if target is None:
                target = found[codec, digest] = Cid(codec, digest)
            in_order.append(target)
    return list(found.values()) if each_once else in_order


def find(block: bytes, name: str, cid: Cid | None = None) -> tuple[list[Cid], bytes | None]:
    """What the links of one name lead to, and the data of the node: for a directory of which nothing else is asked.

    No other link is read, so what is wrong in them is not noticed. MalformedBlock where the rest is no dag-pb.
    """
    wanted = name.encode()
    field = protobuf.bytes_field(_LINK_NAME, wanted)
    found = []
    with _naming(block, cid):
        spans, data = _split(block)
        at = block.find(field)
        for start, stop in spans:
            if at < start:
                if at < 0:
                    break
                at = block.find(field, start)
            if start < at < stop:
                codec, digest, other, _ = _edge(block, start, stop)
                if other == wanted:
                    found.append(Cid(codec, digest))
    return found, data


@contextmanager
def _naming(block: bytes, cid: Cid | None) -> Iterator[None]:
    if len(block) > MAX_BLOCK_BYTES:
        raise MalformedBlock(cid, f"a block has at most {MAX_BLOCK_BYTES} bytes, this one has {len(block)}")
    try:
        yield
    except (ProtobufError, InvalidInput) as exc:
        raise MalformedBlock(cid, f"not dag-pb: {exc}") from exc


def _split(block: bytes) -> tuple[list[_Span], bytes | None]:
    """Where the links of a node stand, and its data."""
    spans: list[_Span] = []
    data: bytes | None = None
    at, end = 0, len(block)
    while at < end and block[at] == _LINK_TAG:
        size, start = protobuf.number(block, at + 1)
        at = start + size
        if at > end:
            raise ProtobufError("a link is longer than its node")
        spans.append((start, at))
    for number, value in protobuf.fields(block[at:]):
        if not isinstance(value, bytes) or number not in {_NODE_DATA, _NODE_LINK}:
            raise ProtobufError(f"unexpected field {number} in a node")
        if data is not None or number == _NODE_LINK:
            raise ProtobufError("the data must come once, after all links")
        data = value
    return spans, data


def _edge(block: bytes, start: int, stop: int) -> _Edge:
    """Read one link where it stands: nothing is built for what large directories have a hundred thousand of."""
    codec = _HASHES.get(block[start : start + 6])
    at = start + 6 + _DIGEST_BYTES
    if codec is None and block.startswith(_OLD_HASH, start):
        codec = DAG_PB
        at = start + 4 + _DIGEST_BYTES
    if codec is None or at > stop:
        _refuse(block[start:stop])
    digest = block[at - _DIGEST_BYTES : at]
    name = b""
    tsize = 0
    if at < stop and block[at] == _NAME_TAG:
        size, at = protobuf.number(block, at + 1)
        name = block[at : at + size]
        at += size
    if at < stop and block[at] == _TSIZE_TAG:
        tsize, at = protobuf.number(block, at + 1)
    if at != stop:
        _refuse(block[start:stop])
    return codec, digest, name, tsize


def _refuse(message: bytes) -> NoReturn:
    """Say what is wrong with a link that has not the one form in which links are written."""
    last = 0
    for number, value in protobuf.fields(message):
        if number <= last:
            raise ProtobufError(f"field {number} of a link is repeated or out of order")
        last = number
        if number == _LINK_HASH and isinstance(value, bytes):
            Cid.from_link(value)
        elif not isinstance(value, bytes if number == _LINK_NAME else int) or number > _LINK_TSIZE:
            raise ProtobufError(f"unexpected field {number} in a link")
    raise ProtobufError("a link has no hash")


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as exc:
        raise ProtobufError(f"the name {value[:80]!r} is not UTF-8") from exc
