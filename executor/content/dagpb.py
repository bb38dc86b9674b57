"""dag-pb: the block format of UnixFS files and directories. Pure.

Source: https://ipld.io/specs/codecs/dag-pb/spec/. The decoder is strict: every link before the data, the fields of a
link in their order, nothing unknown or repeated; so a block that decodes is one that Kubo or Helia could have written.
Links need not be sorted to be read (UnixFS specification, "Directory Link Ordering"); they are when we write.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from executor.content import protobuf
from executor.content.protobuf import ProtobufError
from executor.errors import InvalidInput, MalformedBlock
from executor.protocol.cid import Cid

MAX_BLOCK_BYTES: Final = 2 * 1024 * 1024
"""No block is larger: the limit of Bitswap and of trustless gateways."""

_NODE_DATA, _NODE_LINK = 1, 2
_LINK_HASH, _LINK_NAME, _LINK_TSIZE = 1, 2, 3


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


def decode(block: bytes, cid: Cid | None = None) -> Node:
    """Read a block; MalformedBlock names `cid`."""
    if len(block) > MAX_BLOCK_BYTES:
        raise MalformedBlock(cid, f"a block has at most {MAX_BLOCK_BYTES} bytes, this one has {len(block)}")
    try:
        return _decode_node(block)
    except (ProtobufError, InvalidInput) as exc:
        raise MalformedBlock(cid, f"not dag-pb: {exc}") from exc


def _decode_node(block: bytes) -> Node:
    links: list[Link] = []
    data: bytes | None = None
    for number, value in protobuf.fields(block):
        if not isinstance(value, bytes) or number not in {_NODE_DATA, _NODE_LINK}:
            raise ProtobufError(f"unexpected field {number} in a node")
        if data is not None:
            raise ProtobufError("the data must come once, after all links")
        if number == _NODE_LINK:
            links.append(_decode_link(value))
        else:
            data = value
    return Node(tuple(links), data)


def _decode_link(message: bytes) -> Link:
    cid: Cid | None = None
    name = ""
    tsize = 0
    last = 0
    for number, value in protobuf.fields(message):
        if number <= last:
            raise ProtobufError(f"field {number} of a link is repeated or out of order")
        last = number
        if number == _LINK_HASH and isinstance(value, bytes):
            cid = Cid.from_link(value)
        elif number == _LINK_NAME and isinstance(value, bytes):
            name = _text(value)
        elif number == _LINK_TSIZE and isinstance(value, int):
            tsize = value
        else:
            raise ProtobufError(f"unexpected field {number} in a link")
    if cid is None:
        raise ProtobufError("a link has no hash")
    return Link(name, cid, tsize)


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as exc:
        raise ProtobufError(f"the name {value[:80]!r} is not UTF-8") from exc
