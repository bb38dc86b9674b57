"""The operator's own secrets: read from files that only the node's user can read, given to a job as files in memory.

A value is never logged, never in an argument, an environment or a receipt, and never on a disk of the execution's: it
lies in a tmpfs of its own while the job runs, and is overwritten there before that goes away.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from executor.agent.errors import GiveBack
from executor.agent.staging import SECRETS
from executor.audit.needles import Seed
from executor.audit.openings import MAX_SECRET_BYTES, MIN_SECRET_BYTES, SecretRules
from executor.errors import InvalidInput
from executor.protocol.reasons import Reason
from executor.protocol.spec import SecretRef
from executor.sandbox.mounts import QuotaMount, may_mount, mount_quota, quota_mounts, unmount

JOB_OWNER: Final = 65534
"""The job's user where the node runs as root, which it must to mount anything."""
_PAGE: Final = 4096


def read_secret(name: str, rules: SecretRules, folder: Path) -> Seed:
    """A secret of the policy; `folder` is the node's. InvalidInput("secrets.NAME.file"), which names no byte of it."""
    field = f"secrets.{name}.file"
    path = folder / rules.file
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as exc:
        raise InvalidInput(field, f"{path} cannot be opened ({exc.strerror}); a link is not followed") from exc
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or stat.S_IMODE(status.st_mode) not in (0o600, 0o400):
            raise InvalidInput(field, f"{path} must be a file that only its owner may read: chmod 600")
        if status.st_uid != os.geteuid():
            raise InvalidInput(field, f"{path} must belong to the user that the node runs as")
        value = b""
        while len(value) <= MAX_SECRET_BYTES and (part := os.read(descriptor, MAX_SECRET_BYTES + 1)):
            value += part
    finally:
        os.close(descriptor)
    if len(value) > MAX_SECRET_BYTES:
        raise InvalidInput(field, f"{path} is larger than {MAX_SECRET_BYTES} bytes")
    if len(value.strip()) < MIN_SECRET_BYTES:
        raise InvalidInput(
            field, f"{path} holds less than {MIN_SECRET_BYTES} bytes, too few to be looked for in outputs"
        )
    return Seed(name, value)


def check_secrets(secrets: Mapping[str, SecretRules], folder: Path) -> None:
    """Whether each can be read as it should be. InvalidInput for the first that cannot."""
    for name, rules in secrets.items():
        read_secret(name, rules, folder)


class SecretFolder:
    """What one job sees as /secrets, in `folder` of its execution."""

    def __init__(self, folder: Path, node: str, execution_id: str) -> None:
        self._folder = folder
        self._mount = QuotaMount(node, execution_id, folder)

    def place(self, refs: Iterable[SecretRef], seeds: Mapping[str, Seed]) -> Path:
        """Mount the memory and write the files, for the job alone to read. GiveBack where there is none to be had."""
        if not may_mount():
            text = "secrets are given in memory (a tmpfs), which only a node that runs as root can mount"
            raise GiveBack(Reason.NODE_FAULT, text)
        files = {Path(ref.path).name: seeds[ref.name].value for ref in refs}
        size = sum(-(-len(value) // _PAGE) * _PAGE for value in files.values()) + 16 * _PAGE
        self._folder.mkdir(mode=0o700)
        try:
            mount_quota(self._mount, size, len(files) + 8, JOB_OWNER)
        except OSError as exc:
            raise GiveBack(Reason.NODE_FAULT, f"memory for secrets cannot be mounted ({exc.strerror})") from exc
        for name, value in files.items():
            descriptor = os.open(self._folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
            with os.fdopen(descriptor, "wb") as file:
                file.write(value)
                os.fchown(descriptor, JOB_OWNER, JOB_OWNER)
        self._folder.chmod(0o500)
        return self._folder

    def remove(self) -> None:
        """Overwrite the files and take the memory away. Nothing happens where there is none."""
        if self._folder.is_mount():
            wipe(self._folder)


def wipe(folder: Path) -> None:
    """Overwrite all files in a mount of secrets, and unmount it."""
    for path in folder.iterdir():
        with suppress(OSError), path.open("r+b") as file:
            file.write(bytes(os.fstat(file.fileno()).st_size))
    unmount(folder)


def reap_secrets(node: str) -> list[str]:
    """Wipe what a crash left of this node's; the executions it was for."""
    gone = []
    for mount in quota_mounts(node):
        if mount.path.name == SECRETS:
            wipe(mount.path)
            gone.append(mount.execution)
    return gone
