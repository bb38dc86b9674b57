"""The type of a file by its first bytes, never by its name. Pure.

Source of the signatures: the formats' own specifications. What is not known is "text" (UTF-8 without control
characters) or "binary".
"""

from __future__ import annotations

from typing import Final

HEAD_BYTES: Final = 512

_SIGNATURES: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", "application/zip"),
    (b"PK\x05\x06", "application/zip"),
    (b"\x1f\x8b", "application/gzip"),
    (b"BZh", "application/x-bzip2"),
    (b"\xfd7zXZ\0", "application/x-xz"),
    (b"\x28\xb5\x2f\xfd", "application/zstd"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"\x7fELF", "application/x-elf"),
    (b"\0asm", "application/wasm"),
    (b"SQLite format 3\0", "application/vnd.sqlite3"),
    (b"PAR1", "application/vnd.apache.parquet"),
    (b"\x89HDF\r\n\x1a\n", "application/x-hdf5"),
    (b"#!", "text/x-script"),
)
_TAR_AT: Final = 257
_BLANKS: Final = dict.fromkeys(map(ord, "\t\n\r\f"))


def type_of(head: bytes) -> str:
    """A media type, "text", "binary" or "empty". `head`: the first HEAD_BYTES, or all of a shorter file."""
    if not head:
        return "empty"
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            return name
    if head[_TAR_AT : _TAR_AT + 5] == b"ustar":
        return "application/x-tar"
    return "text" if _is_text(head) else "binary"


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode()
    except UnicodeDecodeError as exc:
        if exc.start < len(head) - 3 or len(head) < HEAD_BYTES:
            return False
        text = head[: exc.start].decode()  # the head ends within a character
    return text.translate(_BLANKS).isprintable()
