"""How people name a job: by its request id, or by its request hash. Pure."""

from __future__ import annotations

from executor.errors import InvalidInput


def reference(job: str) -> str:
    """The path segment of a job. InvalidInput("ID")."""
    text = job.lower()
    if text.isascii() and (text.isdecimal() or (text.startswith("0x") and len(text) == 66 and text[2:].isalnum())):
        return text
    raise InvalidInput("ID", f"{job!r:.80} is neither a request id nor a 0x request hash")
