"""What one round of the canary found, as values. Pure. Times in seconds, sizes in bytes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

HEDGED: Final = "all sources together"
"""The name of the fetch that may ask every source."""


class Fault(StrEnum):
    """Why a fetch did not bring all of its content; the worst first."""

    WRONG_BYTES = "wrong bytes"
    FAILED = "failed"
    LACKS = "has it not"
    STALLED = "stalled"
    NONE = ""


class Blame(StrEnum):
    """Whose trouble it is. OWN: the canary could not look (no funds, not allowed, its own disk)."""

    NETWORK = "network"
    UNREACHABLE = "unreachable"
    OWN = "own"


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that went wrong outside of a fetch. subject: "upload", "kubo", "job", "bridge" or "cleaning up"."""

    subject: str
    text: str
    blame: Blame = Blame.NETWORK


@dataclass(frozen=True, slots=True)
class Upload:
    """Content of one size on its way to the bridge, and how long that took."""

    size: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Fetch:
    """One cold fetch, into an empty store.

    source: who was asked, or HEDGED. first_seconds: until the first verified block; None: there was none. seconds:
    until all was verified and compared, or it was given up. stall_seconds: the longest time without a verified block
    after the first one, when stall_at bytes were here. shares: verified bytes by source.
    """

    source: str
    size: int
    first_seconds: float | None
    seconds: float
    stall_seconds: float
    stall_at: int
    bytes: int
    shares: tuple[tuple[str, int], ...]
    attempts: int
    fault: Fault = Fault.NONE
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """One job that was ordered, and whose result came back as it must be; seconds from the order to that."""

    request_id: int
    seconds: float
    price: int


@dataclass(frozen=True, slots=True)
class Figures:
    """What a process holds: open files, threads, resident memory; None where that cannot be known."""

    fds: int | None = None
    threads: int | None = None
    rss_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Round:
    """Everything that one round found. at: when it began, in seconds since 1970. figures: by process."""

    number: int
    at: float
    uploads: tuple[Upload, ...] = ()
    fetches: tuple[Fetch, ...] = ()
    jobs: tuple[Job, ...] = ()
    troubles: tuple[Trouble, ...] = ()
    figures: tuple[tuple[str, Figures], ...] = ()
