"""WASI preview 1 as a job sees it: deterministic, and everything it writes is paid for before it is done.

The engine's own implementation does the work behind this; here stand the calls that must not reach it as they are. Time
is virtual (it moves with each look at the clock, and a sleep moves it at once), random bytes are the same in every run,
file times and inode numbers are hidden, directories are listed in order of their names. Links are refused.

No engine is imported here: `Guest` is what this needs of it. All functions take unsigned integers and give an errno.
Source: https://github.com/WebAssembly/WASI/blob/wasi-0.1/preview1/docs.md
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from executor.errors import InsulaError
from executor.protocol.reasons import Reason
from executor.sandbox.tree import Usage, measure

MODULE: Final = "wasi_snapshot_preview1"

#: every function that a job may import: parameters, i = i32 and I = i64. All but proc_exit give an errno
SIGNATURES: Final = {
    "args_get": "ii", "args_sizes_get": "ii", "clock_res_get": "ii", "clock_time_get": "iIi", "environ_get": "ii",
    "environ_sizes_get": "ii", "fd_advise": "iIIi", "fd_allocate": "iII", "fd_close": "i", "fd_datasync": "i",
    "fd_fdstat_get": "ii", "fd_fdstat_set_flags": "ii", "fd_fdstat_set_rights": "iII", "fd_filestat_get": "ii",
    "fd_filestat_set_size": "iI", "fd_filestat_set_times": "iIIi", "fd_pread": "iiiIi", "fd_prestat_dir_name": "iii",
    "fd_prestat_get": "ii", "fd_pwrite": "iiiIi", "fd_read": "iiii", "fd_readdir": "iiiIi", "fd_renumber": "ii",
    "fd_seek": "iIii", "fd_sync": "i", "fd_tell": "ii", "fd_write": "iiii", "path_create_directory": "iii",
    "path_filestat_get": "iiiii", "path_filestat_set_times": "iiiiIIi", "path_link": "iiiiiii",
    "path_open": "iiiiiIIii", "path_readlink": "iiiiii", "path_remove_directory": "iii", "path_rename": "iiiiii",
    "path_symlink": "iiiii", "path_unlink_file": "iii", "poll_oneoff": "iiii", "proc_exit": "i", "proc_raise": "i",
    "random_get": "ii", "sched_yield": "", "sock_accept": "iii", "sock_recv": "iiiiii", "sock_send": "iiiii",
    "sock_shutdown": "ii",
}  # fmt: skip

#: what the engine does itself, straight from the job
NATIVE: Final = frozenset({
    "args_get", "args_sizes_get", "environ_get", "environ_sizes_get", "fd_fdstat_get", "fd_pread",
    "fd_prestat_dir_name", "fd_prestat_get", "fd_read", "fd_seek", "fd_tell", "path_readlink", "path_remove_directory",
})  # fmt: skip

#: what is forwarded to the engine after it was looked at, with the job's memory
FORWARDED: Final = frozenset({
    "fd_close", "fd_fdstat_set_flags", "fd_filestat_get", "fd_filestat_set_size", "fd_pwrite", "fd_write",
    "path_create_directory", "path_filestat_get", "path_open", "path_rename", "path_unlink_file",
})  # fmt: skip

#: what is asked of the engine on our own account, with a memory of our own
ASKED: Final = frozenset({"fd_filestat_get", "fd_readdir", "fd_tell", "path_filestat_get"})

START_OF_TIME_NS: Final = 946_684_800 * 10**9
"""2000-01-01T00:00:00Z: what a job's clock says first."""
TICK_NS: Final = 1000
"""How far a look at the clock moves it, so that a job that waits for time to pass does not wait for ever."""
MAX_OPEN_FILES: Final = 128
MAX_PATH_BYTES: Final = 4096
_MAX_SUBSCRIPTIONS: Final = 1024
_MAX_IOVECS: Final = 1024
_RANDOM_SEED: Final = b"insula/wasm/random/1"
_RANDOM_BLOCK: Final = 4096

SUCCESS, BADF, BUSY, FAULT, INVAL, MFILE, NAMETOOLONG, NOTSUP, PERM = 0, 8, 10, 21, 28, 33, 37, 58, 63
_OFLAG_CREATE: Final = 1
_FDFLAG_APPEND: Final = 1
_LOOKUP_FOLLOW: Final = 1
_DIRECTORY: Final = 3
_FILESTAT: Final = struct.Struct("<QQB7xQQQQQ")  # dev, ino, type, nlink, size, atim, mtim, ctim
_DIRENT: Final = struct.Struct("<QQIB3x")  # next, ino, length of name, type
_EVENT: Final = struct.Struct("<QHB5xQH6x")  # userdata, errno, type, bytes, flags

# where things lie in our own memory (four pages of 64 KiB)
OWN_PAGES: Final = 4
_AT_RESULT: Final = 0
_AT_PATH: Final = 1024
_AT_LISTING: Final = 65536
_LISTING_BYTES: Final = 2 * 65536


class Stopped(InsulaError):
    """The job must end now: it exited, or passed a limit. code: its exit code, 0 for a limit."""

    def __init__(self, reason: Reason, detail: str, code: int = 0) -> None:
        super().__init__(reason, detail, code)
        self.reason = reason
        self.detail = detail
        self.code = code


class Fault(InsulaError):
    """The job gave an address outside its memory."""


class Memory(Protocol):
    """A linear memory; both raise Fault outside of it."""

    def read(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`."""

    def write(self, offset: int, data: bytes) -> None:
        """Put `data` at `offset`."""


class Guest(Protocol):
    """What is needed of the engine."""

    @property
    def job(self) -> Memory:
        """The job's memory."""

    @property
    def own(self) -> Memory:
        """Our own memory, of OWN_PAGES."""

    def forward(self, name: str, *args: int) -> int:
        """Call the engine's function with the job's memory; its errno."""

    def ask(self, name: str, *args: int) -> int:
        """Call the engine's function with our own memory; its errno."""


class Quota:
    """Bytes and entries below the outputs folder. What is charged is never less than what is there.

    Growth is charged before it is done. Things that shrink are not credited: when the account is full, what is really
    there is measured, and only what does not fit then stops the job.
    """

    def __init__(self, outputs: Path, limits: Usage) -> None:
        self._outputs = outputs
        self.limits = limits
        self.used = Usage(0, 0)

    def charge(self, size: int, entries: int) -> None:
        """Account for `size` more bytes and `entries` more files or folders. Raises Stopped; OutputUnsafe."""
        if not self._fits(size, entries):
            self.used = measure(self._outputs)
            if not self._fits(size, entries):
                self._stop(size, entries)
        self.used = Usage(self.used.size + size, self.used.entries + entries)

    def _fits(self, size: int, entries: int) -> bool:
        fits = self.used.size + size <= self.limits.size
        return fits and self.used.entries + entries <= self.limits.entries

    def _stop(self, size: int, entries: int) -> None:
        if self.used.size + size > self.limits.size:
            raise Stopped(
                Reason.DISK_LIMIT, f"/outputs: {self.used.size + size} bytes; the limit is {self.limits.size}"
            )
        raise Stopped(
            Reason.FILES_LIMIT, f"/outputs: {self.used.entries + entries} entries; the limit is {self.limits.entries}"
        )


class Wasi:
    """The calls that are not the engine's own. One per job; `calls` gives them by name."""

    def __init__(self, guest: Guest, quota: Quota, log_bytes: int, log: Callable[[int, bytes], None]) -> None:
        self._guest = guest
        self._quota = quota
        self._log_left = {1: log_bytes, 2: log_bytes}
        self._log = log
        self._now = START_OF_TIME_NS
        self._random = 0
        self._inodes: dict[tuple[int, int], int] = {}
        self._open: dict[int, tuple[int, int] | None] = {}
        self._appending: set[int] = set()
        self._listings: dict[int, list[tuple[bytes, int]]] = {}

    def calls(self) -> dict[str, Callable[..., int]]:
        """Every function of SIGNATURES that is not NATIVE."""
        done = dict.fromkeys(("fd_advise", "fd_datasync", "fd_sync", "sched_yield"), self._nothing)
        done |= dict.fromkeys(("fd_filestat_set_times", "path_filestat_set_times"), self._nothing)
        refused = ("fd_allocate", "fd_fdstat_set_rights", "fd_renumber", "proc_raise")
        done |= dict.fromkeys((*refused, "sock_accept", "sock_recv", "sock_send", "sock_shutdown"), self._unsupported)
        done |= dict.fromkeys(("path_link", "path_symlink"), self._forbidden)
        return {name: done.get(name) or getattr(self, name) for name in SIGNATURES if name not in NATIVE}

    # -- time and chance

    def clock_res_get(self, _clock: int, result: int) -> int:
        """One tick."""
        self._guest.job.write(result, TICK_NS.to_bytes(8, "little"))
        return SUCCESS

    def clock_time_get(self, _clock: int, _precision: int, result: int) -> int:
        """Virtual time, the same for all clocks."""
        self._now += TICK_NS
        self._guest.job.write(result, (self._now % 2**64).to_bytes(8, "little"))
        return SUCCESS

    def random_get(self, buffer: int, length: int) -> int:
        """The same bytes in every run: SHAKE-256 of a fixed seed and the number of the block."""
        for at in range(0, length, _RANDOM_BLOCK):
            import hashlib  # the process of a job that never asks for chance is spared loading it

            block = hashlib.shake_256(_RANDOM_SEED + self._random.to_bytes(8, "big"))
            self._guest.job.write(buffer + at, block.digest(min(_RANDOM_BLOCK, length - at)))
            self._random += 1
        return SUCCESS

    def poll_oneoff(self, subscriptions: int, events: int, count: int, result: int) -> int:
        """Never waits: files are always ready, and a sleep moves the clock."""
        if not 0 < count <= _MAX_SUBSCRIPTIONS:
            return INVAL
        raw = self._guest.job.read(subscriptions, 48 * count)
        ready, timers = [], []
        for at in range(0, len(raw), 48):
            userdata, tag = struct.unpack_from("<QB", raw, at)
            if tag == 0:
                timeout, absolute = struct.unpack_from("<Q8xH", raw, at + 24)
                timers.append((timeout if absolute & 1 else self._now + timeout, userdata))
            else:
                ready.append(_EVENT.pack(userdata, SUCCESS, tag, 0, 0))
        if timers and not ready:
            self._now = max(self._now, min(timers)[0])
        ready += [_EVENT.pack(userdata, SUCCESS, 0, 0, 0) for due, userdata in timers if due <= self._now]
        self._guest.job.write(events, b"".join(ready))
        self._guest.job.write(result, len(ready).to_bytes(4, "little"))
        return SUCCESS

    # -- the end

    def proc_exit(self, code: int) -> int:
        """End the job with this code, taken as a signed 32 bit number."""
        signed = code - 2**32 if code >= 2**31 else code
        raise Stopped(Reason.EXIT_NON_ZERO if signed else Reason.NONE, "", signed)

    # -- descriptors

    def fd_close(self, fd: int) -> int:
        """Close a file. The three streams stay as they are, so that their numbers never name a file."""
        if fd <= 2:
            return SUCCESS
        errno = self._guest.forward("fd_close", fd)
        if errno == SUCCESS:
            self._open.pop(fd, None)
            self._appending.discard(fd)
            self._listings.pop(fd, None)
        return errno

    def fd_fdstat_set_flags(self, fd: int, flags: int) -> int:
        """Forwarded; whether a file appends is remembered, because it decides where a write grows it."""
        errno = self._guest.forward("fd_fdstat_set_flags", fd, flags)
        if errno == SUCCESS:
            (self._appending.add if flags & _FDFLAG_APPEND else self._appending.discard)(fd)
        return errno

    def fd_filestat_get(self, fd: int, result: int) -> int:
        """Status without what differs from host to host."""
        return self._guest.forward("fd_filestat_get", fd, result) or self._hide(result)

    def path_filestat_get(self, fd: int, flags: int, path: int, length: int, result: int) -> int:
        """Status without what differs from host to host."""
        return self._guest.forward("path_filestat_get", fd, flags, path, length, result) or self._hide(result)

    def fd_readdir(self, fd: int, buffer: int, length: int, cookie: int, result: int) -> int:
        """Entries in order of their names. The list is taken when reading starts at the first entry."""
        if cookie == 0 or fd not in self._listings:
            entries: list[tuple[bytes, int]] = []
            errno = self._list(fd, entries)
            if errno != SUCCESS:
                return errno
            self._listings[fd] = sorted(entries)
        out = bytearray()
        listing = self._listings[fd]
        while cookie < len(listing) and len(out) < length:
            name, kind = listing[cookie]
            cookie += 1
            out += _DIRENT.pack(cookie, 0, len(name), kind) + name
        used = min(len(out), length)
        self._guest.job.write(buffer, bytes(out[:used]))
        self._guest.job.write(result, used.to_bytes(4, "little"))
        return SUCCESS

    # -- everything that takes space

    def fd_write(self, fd: int, iovecs: int, count: int, result: int) -> int:
        """Standard output and error go to the log; anything else is a file, charged by how much it grows."""
        if fd in self._log_left:
            return self._write_log(fd, iovecs, count, result)
        errno = self._charge_write(fd, self._total(iovecs, count), None)
        return errno or self._guest.forward("fd_write", fd, iovecs, count, result)

    def fd_pwrite(self, fd: int, iovecs: int, count: int, offset: int, result: int) -> int:
        """As fd_write, at an offset."""
        errno = self._charge_write(fd, self._total(iovecs, count), offset)
        return errno or self._guest.forward("fd_pwrite", fd, iovecs, count, offset, result)

    def fd_filestat_set_size(self, fd: int, size: int) -> int:
        """A sparse file counts as large as it looks."""
        status = self._status(fd)
        if status is not None and size > status[4]:
            self._quota.charge(size - status[4], 0)
        return self._guest.forward("fd_filestat_set_size", fd, size)

    def path_open(
        self, fd: int, dirflags: int, path: int, length: int, oflags: int, base: int, inheriting: int, fdflags: int,
        result: int,
    ) -> int:  # fmt: skip
        """Charged where it would make a new file; at most MAX_OPEN_FILES are open at once."""
        if len(self._open) >= MAX_OPEN_FILES:
            return MFILE
        if length > MAX_PATH_BYTES:
            return NAMETOOLONG
        if result % 4:
            return INVAL
        self._guest.job.read(result, 4)  # a Fault before, not after, a file is made
        if oflags & _OFLAG_CREATE:
            self._charge_entry(fd, _LOOKUP_FOLLOW, path, length)
        args = (fd, dirflags, path, length, oflags, base, inheriting, fdflags, result)
        errno = self._guest.forward("path_open", *args)
        if errno == SUCCESS:
            opened = int.from_bytes(self._guest.job.read(result, 4), "little")
            status = self._status(opened)
            self._open[opened] = None if status is None else (status[0], status[1])
            if fdflags & _FDFLAG_APPEND:
                self._appending.add(opened)
        return errno

    def path_create_directory(self, fd: int, path: int, length: int) -> int:
        """A folder is an entry."""
        if length > MAX_PATH_BYTES:
            return NAMETOOLONG
        self._charge_entry(fd, 0, path, length)
        return self._guest.forward("path_create_directory", fd, path, length)

    def path_unlink_file(self, fd: int, path: int, length: int) -> int:
        """Refused for an open file: without a name it would take space that no measurement finds."""
        if self._is_open(fd, path, length):
            return BUSY
        return self._guest.forward("path_unlink_file", fd, path, length)

    def path_rename(self, fd: int, path: int, length: int, new_fd: int, new_path: int, new_length: int) -> int:
        """Refused onto an open file, as path_unlink_file is."""
        if self._is_open(new_fd, new_path, new_length):
            return BUSY
        return self._guest.forward("path_rename", fd, path, length, new_fd, new_path, new_length)

    # -- helpers

    @staticmethod
    def _nothing(*_args: int) -> int:
        return SUCCESS

    @staticmethod
    def _unsupported(*_args: int) -> int:
        return NOTSUP

    @staticmethod
    def _forbidden(*_args: int) -> int:
        return PERM

    def _vectors(self, iovecs: int, count: int) -> list[tuple[int, int]]:
        if count > _MAX_IOVECS:
            raise Fault
        return list(struct.iter_unpack("<II", self._guest.job.read(iovecs, 8 * count)))

    def _total(self, iovecs: int, count: int) -> int:
        return sum(length for _, length in self._vectors(iovecs, count))

    def _write_log(self, fd: int, iovecs: int, count: int, result: int) -> int:
        written = 0
        for at, length in self._vectors(iovecs, count):
            data = self._guest.job.read(at, min(length, self._log_left[fd] + 1))
            kept = data[: self._log_left[fd]]
            self._log(fd, kept)
            self._log_left[fd] -= len(kept)
            if len(kept) < len(data):
                name = "stdout" if fd == 1 else "stderr"
                raise Stopped(Reason.LOG_LIMIT, f"{name}: more bytes than the limit")
            written += length
        self._guest.job.write(result, written.to_bytes(4, "little"))
        return SUCCESS

    def _charge_write(self, fd: int, length: int, offset: int | None) -> int:
        """Charge by how much a write of `length` bytes grows the file; an errno where it is no file."""
        status = self._status(fd)
        if status is None or fd not in self._open:
            return BADF
        size = status[4]
        at = size if fd in self._appending else offset
        if at is None:
            if self._guest.ask("fd_tell", fd, _AT_RESULT) != SUCCESS:
                return BADF
            at = int.from_bytes(self._guest.own.read(_AT_RESULT, 8), "little")
        if length and at + length > size:
            self._quota.charge(at + length - size, 0)
        return SUCCESS

    def _charge_entry(self, fd: int, flags: int, path: int, length: int) -> None:
        """Charge one entry unless something of that name is there (then nothing is made)."""
        errno, _ = self._path_status(fd, flags, path, length)
        if errno != SUCCESS:
            self._quota.charge(0, 1)

    def _status(self, fd: int) -> tuple[int, ...] | None:
        if self._guest.ask("fd_filestat_get", fd, _AT_RESULT) != SUCCESS:
            return None
        return _FILESTAT.unpack(self._guest.own.read(_AT_RESULT, _FILESTAT.size))

    def _path_status(self, fd: int, flags: int, path: int, length: int) -> tuple[int, tuple[int, ...]]:
        if length > MAX_PATH_BYTES:
            return NAMETOOLONG, ()
        self._guest.own.write(_AT_PATH, self._guest.job.read(path, length))
        errno = self._guest.ask("path_filestat_get", fd, flags, _AT_PATH, length, _AT_RESULT)
        if errno != SUCCESS:
            return errno, ()
        return SUCCESS, _FILESTAT.unpack(self._guest.own.read(_AT_RESULT, _FILESTAT.size))

    def _is_open(self, fd: int, path: int, length: int) -> bool:
        errno, status = self._path_status(fd, 0, path, length)
        return errno == SUCCESS and status[2] != _DIRECTORY and (status[0], status[1]) in self._open.values()

    def _hide(self, at: int) -> int:
        dev, ino, kind, _, size, *_ = _FILESTAT.unpack(self._guest.job.read(at, _FILESTAT.size))
        number = self._inodes.setdefault((dev, ino), len(self._inodes) + 1)
        shown = 0 if kind == _DIRECTORY else size
        times = (START_OF_TIME_NS,) * 3
        self._guest.job.write(at, _FILESTAT.pack(1, number, kind, 1, shown, *times))
        return SUCCESS

    def _list(self, fd: int, into: list[tuple[bytes, int]]) -> int:
        cookie = 0
        while True:
            errno = self._guest.ask("fd_readdir", fd, _AT_LISTING, _LISTING_BYTES, cookie, _AT_RESULT)
            if errno != SUCCESS:
                return errno
            used = int.from_bytes(self._guest.own.read(_AT_RESULT, 4), "little")
            data = self._guest.own.read(_AT_LISTING, used)
            at = 0
            while at + _DIRENT.size <= len(data):
                following, _, length, kind = _DIRENT.unpack_from(data, at)
                name = data[at + _DIRENT.size : at + _DIRENT.size + length]
                if len(name) < length:
                    break
                into.append((name, kind))
                cookie = following
                at += _DIRENT.size + length
            if used < _LISTING_BYTES:
                return SUCCESS
