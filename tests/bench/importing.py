"""Naming and storing files: against Kubo's `ipfs add`, and naming against bare SHA-256.

What Kubo's program takes for an empty file, start, repository and all, is measured each time and taken off; ours runs
in a process that is there already.
"""

import hashlib
import itertools
import os
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

from executor.content import unixfs
from executor.content.ahead import THREADS
from executor.content.blocks import Discarded
from executor.content.blockstore import BlockStore
from executor.content.profiles import V1_2025
from tests import kubo_daemon
from tests.bench.chains import folder_of
from tests.bench.runs import Counted, Prepared, Unavailable

MIB = int(os.environ.get("INSULA_BENCH_MIB", "1024"))
FILES = int(os.environ.get("INSULA_BENCH_FILES", "10000"))
LARGE = "1 GiB" if MIB == 1024 else f"{MIB} MiB"
SMALL = f"{FILES} small files"
LIMITS = unixfs.TreeLimits(max_bytes=2**40, max_files=10**7)
PIECE = 2**20
PROFILE = ("--cid-version=1", "--raw-leaves", "--chunker=size-1048576", "--hidden")


class Ipfs:
    """Kubo's program on a repository of its own, without a daemon. synced: its blocks are synced, which it does not
    do by default.
    """

    def __init__(self, folder, *, synced=False):
        self._program = kubo_daemon.build()
        if self._program is None:
            raise Unavailable(kubo_daemon.HOW_TO)
        self._repo = folder / "repo"
        self._repo.mkdir(parents=True)
        self._nothing = folder / "nothing"
        self._nothing.touch()
        kubo_daemon.init(self._program, self._repo, V1_2025.name)
        config = self._repo / "config"
        unsynced, is_synced = '"sync": false', '"sync": true'
        text = config.read_text()
        assert unsynced in text
        config.write_text(text.replace(unsynced, is_synced) if synced else text)

    def add(self, path, *options):
        """The CID."""
        command = [self._program, "add", "-rQ", *PROFILE, *options, path]
        environment = kubo_daemon.environment(self._repo)
        done = subprocess.run(command, env=environment, check=True, capture_output=True, timeout=600)
        return done.stdout.decode().split()[-1]

    def seconds(self, path, expected, *options):
        """What adding takes beyond adding nothing. Its CID must be ours."""
        started = time.perf_counter()
        self.add(self._nothing, *options)
        empty = time.perf_counter() - started
        started = time.perf_counter()
        cid = self.add(path, *options)
        seconds = time.perf_counter() - started - empty
        assert cid == expected, f"Kubo names {path} {cid}, we name it {expected}"
        return seconds


def large_file(folder, mib=MIB):
    path = folder / "large"
    with path.open("wb") as file:
        for _ in range(mib):
            file.write(os.urandom(PIECE))
    return path


def small_files(folder):
    """A hundred in each folder, of 1.4 to 1.8 kB."""
    path = folder / "small"
    for number in range(FILES):
        parent = path / f"{number // 100:04}"
        parent.mkdir(parents=True, exist_ok=True)
        (parent / f"{number}.json").write_bytes(b'{"station": %d}\n' % number * 100)
    return path


def name(path):
    return import_path(Discarded(), path)


def import_path(sink, path):
    return str(
        unixfs.import_tree(sink, path, LIMITS) if path.is_dir() else unixfs.import_file(sink, path, LIMITS.max_bytes)
    )


def _against_only_hash(make):
    def set_up(stack):
        folder = folder_of(stack)
        path, ipfs = make(folder), Ipfs(folder / "kubo")
        return lambda: name(path), Counted(lambda: ipfs.seconds(path, name(path), "--only-hash"))

    return set_up


def against_hashlib(stack):
    """The large file's CID against hashlib on parts of it, in as many threads as ours takes."""
    path = large_file(folder_of(stack))

    def digest(part):
        found = hashlib.sha256()
        piece = bytearray(PIECE)
        with path.open("rb", buffering=0) as file:
            file.seek(MIB * part // THREADS * PIECE)
            for _ in range(MIB * (part + 1) // THREADS - MIB * part // THREADS):
                file.readinto(piece)
                found.update(piece)
        return found.digest()

    def bare():
        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(digest, range(THREADS)))

    return lambda: name(path), bare


def _against_add(make, *, synced):
    """Each round into a new store and a new repository."""

    def set_up(stack):
        folder = folder_of(stack)
        path, count = make(folder), itertools.count()
        expected = name(path)

        def place(side):
            """A new one. A large one takes the memory of the one before it, because memory that a machine never used
            is slow to get; many small ones stay, because ext4 does not like to name new files after gone ones.
            """
            if not path.is_dir():
                shutil.rmtree(folder / f"{side}0", ignore_errors=True)
                return folder / f"{side}0"
            return folder / f"{side}{next(count)}"

        ours = Prepared(lambda: BlockStore(place("store")), lambda store: import_path(store, path))
        return ours, Counted(lambda: Ipfs(place("kubo"), synced=synced).seconds(path, expected))

    return set_up


name_large = _against_only_hash(large_file)
name_small = _against_only_hash(small_files)
store_large = _against_add(large_file, synced=False)
store_small = _against_add(small_files, synced=False)
store_large_synced = _against_add(large_file, synced=True)
store_small_synced = _against_add(small_files, synced=True)
