"""What is packed inside a stream of bytes: zip, tar, gzip, zlib, bzip2 and xz, as they come, never to a disk. Pure.

A reader is fed the packed bytes and gives what it unpacks to a sink of its own; what it gives is counted before it is
looked at, so that an archive that explodes ends after `max_bytes`, or as soon as its ratio says what it is.

Sources: RFC 1950, 1951, 1952; PKWARE APPNOTE 6.3 (zip); POSIX ustar and GNU tar.
"""

from __future__ import annotations

import bz2
import lzma
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from executor.audit.outputrules import ArchiveRules

RATIO_FROM_BYTES: Final = 2**20
MAX_LZMA_BYTES: Final = 64 * 2**20
_PIECE: Final = 64 * 1024
_OUT: Final = 256 * 1024
_BLOCK: Final = 512
_NO_CONTENT: Final = frozenset((b"1", b"2", b"3", b"4", b"5", b"6", b"D", b"K", b"L", b"V", b"X", b"g", b"x"))
"""Kinds of a tar's members: links, devices and folders, and what tells something about others."""


class Broken(Exception):
    """An archive breaks a rule, or cannot be read further. rule: the key in the policy; text: what is wrong."""

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(rule, text)
        self.rule = rule
        self.text = text


class Sink(Protocol):
    """Takes what is unpacked."""

    def feed(self, chunk: bytes) -> None:
        """Some bytes."""

    def close(self) -> None:
        """There are no more."""


class Reader(Protocol):
    """Takes what is packed. Broken."""

    def feed(self, chunk: bytes) -> None:
        """Some bytes, as many as there are."""

    def close(self) -> None:
        """There are no more."""


@dataclass(slots=True)
class Budget:
    """What one output may still unpack to. `packed` and `unpacked` are of the file that is looked at now."""

    rules: ArchiveRules
    total: int = 0
    entries: int = 0
    packed: int = 0
    unpacked: int = 0

    def begin(self) -> None:
        """Another file."""
        self.packed = self.unpacked = 0

    def add(self, size: int) -> None:
        """Count unpacked bytes, seen or declared. Broken."""
        self.total += size
        self.unpacked += size
        if self.total > self.rules.max_bytes:
            raise Broken("archives.max_bytes", f"unpacks to more than {self.rules.max_bytes} bytes")
        if self.unpacked > RATIO_FROM_BYTES and self.unpacked > self.rules.max_ratio * self.packed:
            raise Broken("archives.max_ratio", f"unpacks to more than {self.rules.max_ratio} times its size")

    def entry(self) -> None:
        """Count one member. Broken."""
        self.entries += 1
        if self.entries > self.rules.max_entries:
            raise Broken("archives.max_entries", f"holds more than {self.rules.max_entries} members")


class _Decompressor(Protocol):
    """One stream being unpacked."""

    @property
    def is_over(self) -> bool:
        """Whether its end has come."""

    def feed(self, data: bytes) -> bytes:
        """Unpack at most _OUT bytes; b"" for `data` goes on with what is left."""

    @property
    def has_more(self) -> bool:
        """Whether there is more without more input."""

    @property
    def rest(self) -> bytes:
        """What came after its end."""


class Deflate:
    """zlib, gzip (found by their headers) or raw deflate."""

    def __init__(self, *, raw: bool = False) -> None:
        self._inner = zlib.decompressobj(-15 if raw else 47)
        self._stuck = False

    @property
    def is_over(self) -> bool:
        """Whether its end has come."""
        return self._inner.eof

    @property
    def rest(self) -> bytes:
        """What came after its end."""
        return self._inner.unused_data

    @property
    def has_more(self) -> bool:
        """Whether there is more without more input."""
        return not self._inner.eof and (bool(self._inner.unconsumed_tail) or self._stuck)

    def feed(self, data: bytes) -> bytes:
        """Unpack some. Broken."""
        try:
            out = self._inner.decompress(self._inner.unconsumed_tail + data, _OUT)
        except zlib.error as exc:
            raise _unreadable(exc) from exc
        self._stuck = len(out) == _OUT  # what filled the room exactly may have more inside
        return out


class Other:
    """bzip2 or xz: the two have one interface."""

    def __init__(self, inner: bz2.BZ2Decompressor | lzma.LZMADecompressor) -> None:
        self._inner = inner

    @property
    def is_over(self) -> bool:
        """Whether its end has come."""
        return self._inner.eof

    @property
    def rest(self) -> bytes:
        """What came after its end."""
        return self._inner.unused_data

    @property
    def has_more(self) -> bool:
        """Whether there is more without more input."""
        return not self._inner.eof and not self._inner.needs_input

    def feed(self, data: bytes) -> bytes:
        """Unpack some. Broken."""
        try:
            return self._inner.decompress(data, _OUT)
        except (OSError, ValueError, EOFError, lzma.LZMAError) as exc:
            raise _unreadable(exc) from exc


def _unreadable(why: object) -> Broken:
    return Broken("archives.unreadable", f"cannot be unpacked: {why!s:.80}")


DECOMPRESSORS: Final[dict[str, Callable[[], _Decompressor]]] = {
    "application/gzip": Deflate,
    "application/x-bzip2": lambda: Other(bz2.BZ2Decompressor()),
    "application/x-xz": lambda: Other(lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_LZMA_BYTES)),
}


class Stream:
    """Compressed streams, one after the other; what follows the last one and is none is nobody's content.

    alone: only the first. Each further one counts as a member: a million of a byte each is a million small looks.
    """

    def __init__(self, make: Callable[[], _Decompressor], sink: Sink, budget: Budget, *, alone: bool = False) -> None:
        self._make = make
        self._alone = alone
        self._sink = sink
        self._budget = budget
        self._inner: _Decompressor | None = make()
        self._begun = False

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to unpack."""
        return self._inner is None

    def feed(self, chunk: bytes) -> None:
        """Some packed bytes. Broken."""
        for at in range(0, len(chunk), _PIECE):
            self._feed(chunk[at : at + _PIECE])

    def _feed(self, piece: bytes) -> None:
        while self._inner is not None and piece:
            try:
                piece = unpack(self._inner, piece, self._sink, self._budget)
            except Broken as exc:
                if exc.rule == "archives.unreadable" and self._begun:  # after a whole one: padding, or something else
                    self._inner = None
                    return
                raise
            if self._inner.is_over:
                self._begun = True
                piece = piece.lstrip(b"\0")
                self._inner = None if self._alone else self._make()
                self._budget.entry()

    def close(self) -> None:
        """The end, whether or not the stream had one: what came was looked at."""
        self._sink.close()


def unpack(inner: _Decompressor, piece: bytes, sink: Sink, budget: Budget) -> bytes:
    """Give all that `piece` unpacks to, to `sink`; what of it lies after the stream's end. Broken."""
    while True:
        out = inner.feed(piece)
        piece = b""
        budget.add(len(out))
        if out:
            sink.feed(out)
        if inner.is_over:
            return inner.rest
        if not inner.has_more:
            return b""


class Zip:
    """A zip file from its front: every member as its local header says, then what the directory declares.

    The directory is read too, because unpackers go by it: members that overlap unpack to far more than lies there.
    It may point to a member in what is no content here, as a header's extra field: where this is strict, there is none.
    """

    _LOCAL: Final = struct.Struct("<4sHHHHHIIIHH")
    _ENTRY: Final = struct.Struct("<4sHHHHHHIIIHHHHHII")
    _HEAD: Final = b"PK\x03\x04"
    _HEADS: Final = re.compile(rb"PK(?:\x03\x04|\x01\x02)")
    _EDGE: Final = 3  # of a head, what may lie in the piece before

    def __init__(self, make_sink: Callable[[], Sink], budget: Budget, *, strict: bool) -> None:
        self._make_sink = make_sink
        self._budget = budget
        self._strict = strict
        self._buffer = b""
        self._skip = 0
        self._last = b""  # the bytes before those that are next
        self._member: Sink | None = None
        self._inner: _Decompressor | None = None  # of a packed member
        self._left = 0  # of a stored one
        self._listed = 0
        self._declared = 0

    def feed(self, chunk: bytes) -> None:
        """Some bytes of the file. Broken."""
        for at in range(0, len(chunk), _PIECE):
            data = self._buffer + chunk[at : at + _PIECE]
            self._buffer = b""
            while data:
                rest = self._step(data)
                if len(rest) == len(data):
                    self._buffer = data
                    break
                taken = len(data) - len(rest)
                self._last = (self._last + data[max(0, taken - self._EDGE) : taken])[-self._EDGE :]
                data = rest

    def close(self) -> None:
        """The end of the file. Broken."""
        if self._member is not None:
            self._member.close()
        self._no_head_in(self._buffer[1:])

    def _step(self, data: bytes) -> bytes:
        """Take something from the front; the same again where that needs more bytes."""
        if self._skip:
            if self._strict and len(data) < self._skip + self._EDGE:
                return data
            self._no_head_in(self._last + data[: self._skip + self._EDGE])
            taken = min(self._skip, len(data))
            self._skip -= taken
            return data[taken:]
        if self._inner is not None:
            assert self._member is not None  # noqa: S101 - made together
            rest = unpack(self._inner, data, self._member, self._budget)
            if self._inner.is_over:
                self._end_member()
            return rest
        if self._member is not None:
            taken = min(self._left, len(data))
            self._budget.add(taken)
            self._member.feed(data[:taken])
            self._left -= taken
            if not self._left:
                self._end_member()
            return data[taken:]
        return self._record(data)

    def _end_member(self) -> None:
        assert self._member is not None  # noqa: S101 - there is one
        self._member.close()
        self._member = self._inner = None

    def _no_head_in(self, data: bytes) -> None:
        if self._strict and self._HEAD in data:
            raise _unreadable("a member of the zip begins within what is none")

    def _record(self, data: bytes) -> bytes:
        if len(data) < len(self._HEAD):
            return data
        self._no_head_in(self._last + data[: self._EDGE])
        if data.startswith(self._HEAD):
            return self._local(data) if len(data) >= self._LOCAL.size else data
        if data.startswith(b"PK\x01\x02"):
            return self._entry(data) if len(data) >= self._ENTRY.size else data
        # a descriptor after a member, padding, or the file's end: go on at the next record
        found = self._HEADS.search(data, 1)
        return data[found.start() if found else -self._EDGE :]

    def _local(self, data: bytes) -> bytes:
        _, _, flags, method, _, _, _, packed, _, name, extra = self._LOCAL.unpack_from(data)
        self._budget.entry()
        self._no_head_in(data[1 : self._LOCAL.size])
        self._skip = name + extra
        rest = data[self._LOCAL.size :]
        if flags & 1:
            self._unknown("a member is encrypted", packed, flags)
        elif method == 8:
            self._member, self._inner = self._make_sink(), Deflate(raw=True)
        elif method == 12:
            self._member, self._inner = self._make_sink(), Other(bz2.BZ2Decompressor())
        elif method == 0 and not (flags & 8 and not packed):
            if packed:
                self._member, self._left = self._make_sink(), packed
        else:
            self._unknown(f"a member is packed by method {method}", packed, flags)
        return rest

    def _unknown(self, text: str, packed: int, flags: int) -> None:
        if self._strict:
            raise Broken("archives.unreadable", text)
        self._skip += 0 if flags & 8 else packed

    def _entry(self, data: bytes) -> bytes:
        fields = self._ENTRY.unpack_from(data)
        size, name, extra, comment = fields[9:13]
        ends = self._ENTRY.size + name + extra
        if len(data) < ends + self._EDGE:
            return data
        self._no_head_in(data[1 : ends + self._EDGE])
        if size == 0xFFFFFFFF:
            size = _zip64_size(data[ends - extra : ends], size)
        self._listed += 1
        self._declared += size
        if self._listed > self._budget.rules.max_entries:
            raise Broken("archives.max_entries", f"lists more than {self._budget.rules.max_entries} members")
        if self._declared > self._budget.unpacked:  # overlapping members, or sizes that are not true
            self._budget.add(self._declared - self._budget.unpacked)
        self._skip = comment
        return data[ends:]


def _zip64_size(extra: bytes, otherwise: int) -> int:
    """The unpacked size that a zip64 field tells."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        if kind == 1 and length >= 8 and len(extra) >= 12:
            return int.from_bytes(extra[4:12], "little")
        extra = extra[4 + length :]
    return otherwise


class Tar:
    """A tar file: every member, and what sparse ones would unpack to."""

    def __init__(self, make_sink: Callable[[], Sink], budget: Budget) -> None:
        self._make_sink = make_sink
        self._budget = budget
        self._buffer = b""
        self._member: Sink | None = None
        self._left = 0
        self._padding = 0
        self._is_over = False

    def feed(self, chunk: bytes) -> None:
        """Some bytes of the file. Broken."""
        data = memoryview(self._buffer + chunk)
        self._buffer = b""
        while data and not self._is_over:
            if self._left:
                taken = min(self._left, len(data))
                if self._member is not None:
                    self._member.feed(bytes(data[:taken]))
                self._left -= taken
                data = data[taken:]
                if not self._left:
                    self._end_member()
            elif self._padding:
                taken = min(self._padding, len(data))
                self._padding -= taken
                data = data[taken:]
            elif len(data) < _BLOCK:
                self._buffer = bytes(data)
                return
            else:
                self._header(bytes(data[:_BLOCK]))
                data = data[_BLOCK:]

    def close(self) -> None:
        """The end of the file."""
        self._end_member()

    def _end_member(self) -> None:
        if self._member is not None:
            self._member.close()
            self._member = None

    def _header(self, block: bytes) -> None:
        if not any(block):
            self._is_over = True
            return
        given = _number(block[148:156])
        if given != sum(block) - sum(block[148:156]) + 8 * 32:
            raise Broken("archives.unreadable", "a header of the tar is damaged")
        self._budget.entry()
        size, kind = _number(block[124:136]), block[156:157]
        self._left, self._padding = size, -size % _BLOCK
        if kind == b"S":
            self._budget.add(_number(block[483:495]))
        if size and kind not in _NO_CONTENT:  # a kind that nobody knows is a file to those who unpack it
            self._member = self._make_sink()


def _number(field: bytes) -> int:
    """A number of a tar header: octal text, or base 256. Broken."""
    if field[0] & 0x80:
        return int.from_bytes(bytes((field[0] & 0x7F,)) + field[1:], "big")
    try:
        found = int(field.rstrip(b" \0") or b"0", 8)
    except ValueError:
        found = -1
    if found < 0:
        raise Broken("archives.unreadable", "a header of the tar is damaged")
    return found
