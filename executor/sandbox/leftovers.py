"""What an engine may forget: processes of its runtimes that outlive their container, as after a start that hung.

A container's id is written down before it starts, so that a node that was killed knows afterwards which ids were its
own. A process is ended only where it runs a container runtime and its command line names such an id: an id is 256
random bits, and a name alone would prove nothing. Linux.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Final

_ID: Final = re.compile(r"[0-9a-f]{64}")
_PROGRAMS: Final = ("containerd-shim", "runc", "runsc")
MAX_NAME_BYTES: Final = 200
_IMAGE: Final = ".image"


class Started:
    """The containers that this node started, a file each in `folder` (None: nothing is kept)."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def note(self, container: str, execution: str) -> None:
        """Before the start."""
        if self._folder is not None and _ID.fullmatch(container):
            self._folder.mkdir(mode=0o700, exist_ok=True)
            (self._folder / container).write_text(execution, encoding="utf-8")

    def forget(self, container: str) -> None:
        """It is gone with all its processes."""
        if self._folder is not None:
            (self._folder / container).unlink(missing_ok=True)

    def all(self) -> dict[str, str]:
        """Container -> execution."""
        if self._folder is None or not self._folder.is_dir():
            return {}
        found = {}
        for path in self._folder.iterdir():
            if _ID.fullmatch(path.name):
                with path.open(encoding="utf-8", errors="replace") as file:
                    found[path.name] = file.read(MAX_NAME_BYTES)
        return found

    def note_image(self, image: str) -> None:
        """Before an image of a job is loaded. image: its id in hex."""
        if self._folder is not None and _ID.fullmatch(image):
            self._folder.mkdir(mode=0o700, exist_ok=True)
            (self._folder / f"{image}{_IMAGE}").touch()

    def forget_image(self, image: str) -> None:
        """It is marked as a job's, or gone."""
        if self._folder is not None:
            (self._folder / f"{image}{_IMAGE}").unlink(missing_ok=True)

    def images(self) -> list[str]:
        """Those whose loading was begun and not seen to end."""
        if self._folder is None:
            return []
        return [path.stem for path in self._folder.glob(f"*{_IMAGE}") if _ID.fullmatch(path.stem)]


def end_processes(container: str, programs: Collection[str] = ()) -> list[int]:
    """Kill what a dead container's runtime left; the processes' ids. programs: further runtimes, by their paths."""
    if not _ID.fullmatch(container) or not sys.platform.startswith("linux"):
        return []
    ended = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _is_of(entry, container, programs):
            with suppress(OSError):  # it ended by itself, or is another user's
                descriptor = os.pidfd_open(int(entry.name))
                try:
                    if _is_of(entry, container, programs):  # the number may have changed hands
                        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                        ended.append(int(entry.name))
                finally:
                    os.close(descriptor)
    return ended


def _is_of(entry: Path, container: str, programs: Collection[str]) -> bool:
    try:
        words = (entry / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:
        return False
    runs = words[:2]  # a runtime may be a script: its interpreter comes first
    is_runtime = any(word.rpartition("/")[2].startswith(_PROGRAMS) or word in programs for word in runs)
    return is_runtime and any(container in word.split("/") for word in words)
