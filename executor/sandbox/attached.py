"""Standard output and error of a container, as the engine sends them over an attached connection.

Frames of 8 bytes (stream, three zeros, length) and bytes: ContainerAttach of https://docs.docker.com/reference/api/engine/
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final

_HEAD: Final = struct.Struct(">BxxxI")


@dataclass(slots=True)
class Streams:
    """Collects both streams, each up to `limit` bytes. `over` names the one that had more."""

    limit: int
    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    over: str = ""
    _head: bytearray = field(default_factory=bytearray)
    _stream: int = 0
    _left: int = 0

    def feed(self, data: bytes) -> None:
        """Take what came in, in pieces of any length. ValueError for a stream that does not exist."""
        view = memoryview(data)
        while view:
            if self._left:
                part, view = view[: self._left], view[self._left :]
                self._left -= len(part)
                self._keep(bytes(part))
                continue
            missing = _HEAD.size - len(self._head)
            self._head += view[:missing]
            view = view[missing:]
            if len(self._head) == _HEAD.size:
                self._stream, self._left = _HEAD.unpack(self._head)
                self._head.clear()
                if self._stream not in (1, 2):
                    raise ValueError(f"stream {self._stream}")

    def _keep(self, part: bytes) -> None:
        kept, name = (self.stdout, "stdout") if self._stream == 1 else (self.stderr, "stderr")
        room = self.limit - len(kept)
        kept += part[:room]
        if len(part) > room and not self.over:
            self.over = name
