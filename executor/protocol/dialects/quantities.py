"""Resources as V1beta writes them: "500m" and "1.5" cores, "512Mb" and "1 Gi" of bytes. Pure, integers only."""

from __future__ import annotations

import re

_CPU = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,9}))?|([0-9]{1,12})m")
_BYTES = re.compile(r"([0-9]{1,18})(?:\.([0-9]{1,9}))?([kmgtp]?)(?:i?b|i)?")
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}


def cpu_millis(text: str) -> int | None:
    """Thousandths of a core, rounded up; None for text that is no amount of cores."""
    match = _CPU.fullmatch(_bare(text))
    if match is None:
        return None
    whole, fraction, millis = match.groups()
    return int(millis) if millis else _scaled(whole, fraction, 1000)


def byte_count(text: str) -> int | None:
    """Bytes, rounded up; None for text that is no amount of bytes. A unit is a power of 1024, with `i` or without."""
    match = _BYTES.fullmatch(_bare(text))
    if match is None:
        return None
    whole, fraction, unit = match.groups()
    return _scaled(whole, fraction, 1024 ** _POWERS[unit])


def _bare(text: str) -> str:
    return text.replace(" ", "").lower() if text.isascii() else text


def _scaled(whole: str, fraction: str | None, unit: int) -> int:
    billionths = int(whole) * 10**9 + int((fraction or "").ljust(9, "0"))
    return -(-billionths * unit // 10**9)
