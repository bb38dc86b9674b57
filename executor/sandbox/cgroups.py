"""What the kernel counted against a container, read from its control groups while it lives.

Docker tells of memory only, and of processes nothing. Where the files cannot be read (another machine, another
namespace) nothing is known, and nothing is claimed. Linux, control groups v1 and v2.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

_ROOT: Final = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Pressure:
    """How often the kernel killed for memory, and refused a process."""

    memory_kills: int = 0
    refused_processes: int = 0

    def most(self, later: Pressure) -> Pressure:
        """The greater of both counts each: when a container ends, its files go, and zeros are read."""
        kills = max(self.memory_kills, later.memory_kills)
        return Pressure(kills, max(self.refused_processes, later.refused_processes))


class ControlGroups:
    """The control groups of one container, found by its first process once, read as often as wanted.

    container: its full id, which an engine puts into the names of its groups. Where a runtime ignores control groups, a
    process stands in other ones: what is counted there is everybody's.
    """

    def __init__(self, pid: int, container: str) -> None:
        self._folders = _folders(pid, container) if pid > 0 else {}

    def pressure(self) -> Pressure:
        """What was counted so far; zeros where it cannot be read."""
        kills = max(
            self._count("memory", "memory.events", "oom_kill"), self._count("memory", "memory.oom_control", "oom_kill")
        )
        return Pressure(kills, self._count("pids", "pids.events", "max"))

    def _count(self, controller: str, file: str, key: str) -> int:
        folder = self._folders.get(controller) or self._folders.get("")
        if folder is None:
            return 0
        try:
            lines = (folder / file).read_text().splitlines()
        except OSError:  # it ended, or this version has no such file
            return 0
        for line in lines:
            name, _, value = line.partition(" ")
            if name == key and value.isdigit():
                return int(value)
        return 0


def _folders(pid: int, container: str) -> dict[str, Path]:
    """Controller -> folder; the key "" is version 2's single tree."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return {}
    found = {}
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for controller in controllers.split(","):
            folder = _ROOT / controller / path.lstrip("/") if controller else _ROOT / path.lstrip("/")
            if container in path and folder.is_dir():
                found[controller] = folder
    return found
