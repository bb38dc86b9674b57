"""What a WebAssembly job's process says to its parent: frames of kind (1 byte), length (4, big-endian), bytes."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import Final

from executor.errors import InsulaError

STDOUT: Final = b"o"
STDERR: Final = b"e"
HELLO: Final = b"h"
"""The first frame: JSON, which engine this is and what the process took away from itself."""
COMPILED: Final = b"c"
"""The module was compiled and linked; the job starts now."""
REPORT: Final = b"r"
"""The last frame: JSON, how it ended and what it used."""

KINDS: Final = frozenset((STDOUT, STDERR, HELLO, COMPILED, REPORT))
MAX_FRAME_BYTES: Final = 64 * 1024
_HEAD: Final = struct.Struct(">cI")


class BadFrame(InsulaError):
    """The child process wrote something that is no frame."""


def write_frame(descriptor: int, kind: bytes, payload: bytes) -> None:
    """Write payload as one frame, as several where it is longer than a frame may be."""
    for start in range(0, max(len(payload), 1), MAX_FRAME_BYTES):
        part = payload[start : start + MAX_FRAME_BYTES]
        view = memoryview(_HEAD.pack(kind, len(part)) + part)
        while view:
            view = view[os.write(descriptor, view) :]


class FrameReader:
    """Cuts a stream of bytes into frames; holds at most one frame."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The frames that are complete with `data`. Raises BadFrame."""
        self._buffer += data
        while len(self._buffer) >= _HEAD.size:
            kind, length = _HEAD.unpack_from(self._buffer)
            if kind not in KINDS or length > MAX_FRAME_BYTES:
                raise BadFrame(f"kind {kind!r} with {length} bytes")
            end = _HEAD.size + length
            if len(self._buffer) < end:
                return
            payload = bytes(self._buffer[_HEAD.size : end])
            del self._buffer[:end]
            yield kind, payload
