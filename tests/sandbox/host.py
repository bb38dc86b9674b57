"""The host as an attack must leave it: files, mounts, processes, containers, settings of the kernel, listeners."""

import platform
import secrets
import socket
import time
from contextlib import ExitStack, suppress
from pathlib import Path

from executor.sandbox import mounts

SETTINGS = ("kernel/core_pattern", "kernel/hostname", "kernel/modprobe", "vm/swappiness", "vm/overcommit_memory")
SETTLE_SECONDS = 5.0


class Host:
    """Looks at the host before an attack; `differences` says what is no longer as it was."""

    def __init__(self, given, node, api=None):
        self.given, self.node, self.api = given, node, api
        self.secret = given.source.parent / "host-secret"
        self.secret.write_text("of the host alone\n")
        self.began = time.time() - 1
        self._stack = ExitStack()
        self.listeners = [self._listen(address) for address in addresses()]
        self.abstract = f"insula-abuse-{secrets.token_hex(8)}"
        self.listeners.append(self._listen_abstract())
        self.before = self._state()

    def words(self, engine):
        """What stands for the host in the arguments of an attack."""
        hosts = [
            word for one in self.listeners if one.family == socket.AF_INET for word in map(str, one.getsockname()[:2])
        ]
        return {
            "{secret}": [str(self.secret)],
            "{engine}": [engine.removeprefix("unix://")],
            "{hosts}": hosts,
            "{abstract}": [self.abstract],
        }

    def differences(self):
        """After the attack and its release; what takes a moment to end is given one."""
        end = time.monotonic() + SETTLE_SECONDS
        while (found := self._different()) and time.monotonic() < end:
            time.sleep(0.05)
        return found

    def close(self):
        self._stack.close()

    def _different(self):
        now = self._state()
        found = [f"{key}: {self.before[key]} -> {now[key]}" for key in now if now[key] != self.before[key]]
        for one in self.listeners:
            with suppress(BlockingIOError):
                one.accept()
                found.append(f"a connection to {one.getsockname()}")
        return found

    def _state(self):
        state = {name: read(Path("/proc/sys") / name) for name in SETTINGS}
        given = self.given.source.stat()
        return state | {
            "name": platform.node(),
            "secret": self.secret.read_text(),
            "input": (self.given.source.read_bytes(), given.st_mode, given.st_mtime_ns, given.st_uid),
            "mounts": [mount.execution for mount in mounts.quota_mounts(self.node)],
            "children": children(),
            "processes": self._processes(),
            "containers": self._containers(),
        }

    def _processes(self):
        """Those of a runtime that name a container of this attack, and a job's own by their control group."""
        if self.api is None:
            return []
        filters = {"label": f"insula.node={self.node}", "event": "create", "type": "container"}
        events = self.api.events(since=self.began, until=time.time(), filters=filters, decode=True)
        return of_containers({event["id"] for event in events})

    def _containers(self):
        if self.api is None:
            return []
        return [box["Id"] for box in self.api.containers(all=True, filters={"label": f"insula.node={self.node}"})]

    def _listen(self, address):
        one = self._stack.enter_context(socket.socket())
        one.bind((address, 0))
        return self._ready(one)

    def _listen_abstract(self):
        one = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        one.bind(b"\0" + self.abstract.encode())
        return self._ready(one)

    @staticmethod
    def _ready(one):
        one.listen()
        one.setblocking(False)
        return one


def addresses():
    """127.0.0.1, and the host's own address on its network where it has one; nothing is sent to find it."""
    found = ["127.0.0.1"]
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as look:
        look.connect(("192.0.2.1", 9))
        if not look.getsockname()[0].startswith("127."):
            found.append(look.getsockname()[0])
    return found


def children():
    """The processes that this one has started and that are still there."""
    return sorted(word for path in Path("/proc/self/task").glob("*/children") for word in (read(path) or "").split())


def of_containers(ids):
    """Processes of this host whose command line or control group names one of these containers."""
    found = []
    for entry in Path("/proc").iterdir() if ids else ():
        if entry.name.isdigit():
            with suppress(OSError):
                words = (entry / "cmdline").read_bytes() + (entry / "cgroup").read_bytes()
                if any(one.encode() in words for one in ids):
                    found.append(entry.name)
    return found


def read(path):
    try:
        return path.read_text()
    except OSError:
        return None
