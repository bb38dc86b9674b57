"""Inputs as one read-only folder: what the job sees as /inputs."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import Final

from executor.protocol.reasons import Reason
from executor.sandbox.tree import MAX_DEPTH
from executor.sandbox.types import InputMount, SandboxUnavailable

ROOT = "/inputs"
#: what a job's user can read and look into, whatever the umask of this process
_FOLDER_MODE: Final = 0o755
_FILE_MODE: Final = 0o444


def stage_inputs(inputs: tuple[InputMount, ...], into: Path) -> Path:
    """Make the folder `into`, with every input at its place; hard links where the file system allows, else copies.

    Only for a sandbox that cannot write to them. SandboxUnavailable where a source is no plain file or folder.
    """
    try:
        shutil.rmtree(into, ignore_errors=True)
        _make_folder(into)
        for mount in inputs:
            target = relative_target(mount)
            for parent in reversed(target.parents[:-1]):
                _make_folder(into / parent)
            _place(mount.source, into / target, 0)
    except OSError as exc:
        raise SandboxUnavailable(Reason.NODE_FAULT, f"an input could not be laid out: {exc}") from exc
    return into


def relative_target(mount: InputMount) -> Path:
    """The target's path from /inputs on; refuses one that leads anywhere else."""
    parts = mount.target.split("/")
    if parts[:2] != ["", "inputs"] or any(part in ("", ".", "..") for part in parts[2:]):
        raise SandboxUnavailable(Reason.NODE_FAULT, f"input target {mount.target!r} is not {ROOT} or a path below it")
    return Path(*parts[2:])


def _place(source: Path, target: Path, depth: int) -> None:
    mode = source.lstat().st_mode
    if stat.S_ISREG(mode):
        try:
            os.link(source, target, follow_symlinks=False)
        except OSError:  # another file system, or one without hard links
            shutil.copyfile(source, target, follow_symlinks=False)
            target.chmod(_FILE_MODE)
    elif stat.S_ISDIR(mode) and depth < MAX_DEPTH:
        _make_folder(target)
        for child in sorted(source.iterdir()):
            _place(child, target / child.name, depth + 1)
    else:
        raise SandboxUnavailable(Reason.NODE_FAULT, f"input {source} holds a link, a device or too many levels")


def _make_folder(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(_FOLDER_MODE)
