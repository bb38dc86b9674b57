"""Synthetic Wi-Fi access point logs: lines as hostapd writes them, the same bytes for the same seed everywhere."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_STATIONS: Final = 240
_EVENTS: Final = (
    ("INFO", "IEEE 802.11: authenticated"),
    ("INFO", "IEEE 802.11: associated (aid {aid})"),
    ("INFO", "RADIUS: starting accounting session {session}"),
    ("INFO", "WPA: pairwise key handshake completed (RSN)"),
    ("DEBUG", "IEEE 802.11: signal {signal} dBm, tx rate {rate} Mbit/s"),
    ("DEBUG", "IEEE 802.11: roaming candidate on channel {channel}"),
    ("WARNING", "IEEE 802.11: did not acknowledge authentication response"),
    ("NOTICE", "IEEE 802.11: disassociated due to inactivity"),
    ("ERROR", "WPA: EAPOL-Key timeout, attempt {attempt}"),
)


def make_access_log(path: Path, bytes_wanted: int = 4 * 2**20, seed: str = "insula") -> int:
    """Write a log of at least `bytes_wanted` bytes, at most one line more; its size in bytes."""
    size = 0
    with path.open("wb") as file:
        for line in _lines(seed):
            file.write(line)
            size += len(line)
            if size >= bytes_wanted:
                return size
    return size


def _lines(seed: str) -> Iterator[bytes]:
    """Lines without end. SHA-256 of seed and number is the chance: `random` promises no sequence across versions."""
    milliseconds = 0
    number = 0
    while True:
        chance = hashlib.sha256(f"{seed}:{number}".encode()).digest()
        # the product of two even draws: a few stations make most of the noise, as in a real building
        station = chance[0] * chance[1] * _STATIONS // 65536
        level, template = _EVENTS[chance[2] % len(_EVENTS)]
        text = template.format(
            aid=station + 1,
            session=chance[3:11].hex().upper(),
            signal=-30 - chance[11] % 60,
            rate=6 * (1 + chance[12] % 40),
            channel=(1, 6, 11, 36, 40, 44)[chance[13] % 6],
            attempt=1 + chance[14] % 4,
        )
        milliseconds += 1 + chance[15] * 3
        point = chance[16] % 8
        head = f"{_clock(milliseconds)} ap{point:02d} hostapd[{700 + point}]: {level} wlan{chance[17] % 2}:"
        yield f"{head} STA {_mac(station)} {text}\n".encode()
        number += 1


def _clock(milliseconds: int) -> str:
    """Time of a log that begins on 1 May 2026 and stays in that month however long it grows."""
    seconds, rest = divmod(milliseconds, 1000)
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    day, hour = divmod(hours, 24)
    return f"2026-05-{1 + day % 31:02d}T{hour:02d}:{minute:02d}:{second:02d}.{rest:03d}Z"


def _mac(station: int) -> str:
    """A locally administered address: nobody's device."""
    digest = hashlib.sha256(b"station %d" % station).digest()
    return ":".join(f"{byte:02x}" for byte in (0x02, *digest[:5]))
