"""What a canary leaves in the world, written down before it is left: whoever comes after a kill -9 can clear it away.

FOLDER/NAME/lock       held while this canary lives (flock: it ends with the process, however that ends)
FOLDER/NAME/left.json  what is to be taken back: uploads at bridges, pins of Kubos
FOLDER/NAME/work/      content of the round that runs
FOLDER/lock            held for moments: nobody takes a folder that is just being made for one of a dead canary
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

from executor.errors import InvalidInput
from executor.protocol.cid import Cid

LOCK_SECONDS: Final = 10.0
MAX_FILE_BYTES: Final = 2**20
_POLL_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class Left:
    """One thing to take back. kind: "upload" or "kubo"; where: the bridge's URL, or the Kubo's RPC API.

    chain_id, contract, account: of an upload, what the call that takes it back is signed for, and by whom.
    """

    kind: str
    where: str
    root: str
    chain_id: int = 0
    contract: str = ""
    account: str = ""

    @property
    def cid(self) -> Cid:
        """The root; InvalidInput."""
        return Cid.parse(self.root, "root")


class Traces:
    """The folder of one canary, whose lock is held until `close`."""

    def __init__(self, folder: Path, descriptor: int) -> None:
        self.folder = folder
        self._descriptor = descriptor

    @classmethod
    def open(cls, home: Path, name: str) -> Self:
        """A new folder below `home`, and its lock. InvalidInput where the folder cannot be had."""
        with held(home / "lock", LOCK_SECONDS):
            folder = home / name
            folder.mkdir(mode=0o700)
            made = cls._locked(folder)
        if made is None:
            raise InvalidInput(str(folder), "is another canary's; start this one again")
        return made

    @classmethod
    def of_the_dead(cls, home: Path, lock_seconds: float = LOCK_SECONDS) -> list[Self]:
        """The folders of canaries that live no longer, each locked; close them. InvalidInput as of `held`."""
        with held(home / "lock", lock_seconds):
            return [made for folder in sorted(home.iterdir()) if folder.is_dir() and (made := cls._locked(folder))]

    @classmethod
    def _locked(cls, folder: Path) -> Self | None:
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return cls(folder, descriptor)

    def left(self) -> list[Left]:
        """What is written down. InvalidInput where the file is not one of ours."""
        path = self.folder / "left.json"
        if not path.exists():
            return []
        try:
            with path.open("rb") as file:
                return [Left(**entry) for entry in json.loads(file.read(MAX_FILE_BYTES))]
        except (ValueError, TypeError) as exc:
            raise InvalidInput(str(path), "is not understood; what it names has to be taken back by hand") from exc

    def note(self, entry: Left) -> None:
        """Write down what is about to be left; on disk when it returns."""
        self._write([*(one for one in self.left() if one != entry), entry])

    def forget(self, entry: Left) -> None:
        """It was taken back."""
        self._write([one for one in self.left() if one != entry])

    def work(self, name: str) -> Path:
        """An empty folder for content."""
        folder = self.folder / "work" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def sweep(self) -> None:
        """Remove the content."""
        shutil.rmtree(self.folder / "work", ignore_errors=True)

    def close(self) -> None:
        """Remove all of it if nothing is left to be taken back, and let go of the lock."""
        self.sweep()
        with suppress(InvalidInput):
            if not self.left():
                shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._descriptor)

    def _write(self, entries: list[Left]) -> None:
        path, partial = self.folder / "left.json", self.folder / "left.json.tmp"
        with partial.open("w") as file:
            json.dump([asdict(entry) for entry in entries], file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def held(path: Path, seconds: float, sleep: Callable[[float], object] = time.sleep) -> Iterator[None]:
    """Hold a lock file, made where it is not there. InvalidInput where another process does for too long."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        for _ in range(int(seconds / _POLL_SECONDS) + 1):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                sleep(_POLL_SECONDS)
        else:
            raise InvalidInput(str(path), f"another canary has held it for {seconds:.0f} s")
        yield
    finally:
        os.close(descriptor)
