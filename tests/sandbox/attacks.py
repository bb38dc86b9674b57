"""The table of attacks: what a hostile job tries, on which tiers, and what must become of it.

Sources of the rows: published abuse of container runtimes and of those who read outputs; docs/threat-model.md.
"""

import re
from dataclasses import dataclass, field, replace
from typing import Any

from executor.protocol.reasons import Reason

MIB = 2**20
NOBODY = ("192.0.2.1", "80", "198.51.100.7", "443", "203.0.113.9", "80", "2001:db8::1", "80")
"""Addresses for documentation (RFC 5737, RFC 3849): a route to them is a route to anywhere."""


@dataclass(frozen=True)
class Ends:
    """How it must end. says: a pattern that every line of standard output matches, and one line at least; None: not
    asked. collected: the paths that are collected, or a pattern of why nothing is.
    """

    reasons: frozenset = frozenset({Reason.NONE})
    codes: frozenset = frozenset({0})
    says: str | None = "refused .*"
    collected: tuple[str, ...] | re.Pattern | None = None
    seconds: float = 12.0


@dataclass(frozen=True)
class Row:
    """An attack on containers by the program `abuse`. gvisor: how it ends there where that is another way."""

    args: tuple[str, ...]
    ends: Ends = Ends()
    gvisor: Ends | None = None
    limits: dict[str, Any] = field(default_factory=dict)

    def on(self, tier):
        return self.gvisor if tier == "gvisor" and self.gvisor is not None else self.ends


def over(*reasons, says=None, **changes):
    """A limit ends it, and the reason says which."""
    return Ends(frozenset(reasons), says=says, **changes)


def fails(*codes, says=None):
    """The job fails by itself."""
    return Ends(frozenset({Reason.EXIT_NON_ZERO}), frozenset(codes), says)


def unsafe(pattern, says=None):
    """The job ends well, and nothing of its output is collected."""
    return Ends(says=says, collected=re.compile(pattern))


def kept(*paths):
    """The job ends well, and this is collected, as plain files."""
    return Ends(says=None, collected=paths)


REFUSED = Ends()
EMULATED = Ends(says=None)
"""gVisor's own kernel does it for the job, which sees no other; the host is as before, which each test looks at."""
NOWHERE = Ends(says=None, collected=())
"""gVisor keeps it in its own memory: the host never sees it."""
SHORT = {"wall_seconds": 2}
WALL = over(Reason.WALL_LIMIT, seconds=8.0)
MEMORY = over(Reason.MEMORY_LIMIT)
WIDE = {"output_files": 64, "disk_bytes": 4 * MIB}

KERNEL = {
    "mount": Row(("mount",)),
    "remount": Row(("remount",)),
    "umount": Row(("umount",)),
    "user-namespace": Row(("user-namespace",), gvisor=EMULATED),
    "namespaces": Row(("namespaces",), gvisor=EMULATED),
    "clone-into-namespaces": Row(("clone",), gvisor=EMULATED),
    "setns": Row(("setns",)),
    "chroot-pivot-root": Row(("chroot",)),
    "mknod": Row(("mknod",), gvisor=EMULATED),
    "ptrace": Row(("ptrace",)),
    "process-vm-readv": Row(("process-vm",)),
    "add-key-keyctl": Row(("keys",)),
    "bpf": Row(("bpf",)),
    "perf-event-open": Row(("perf",)),
    "io-uring": Row(("io-uring",), gvisor=EMULATED),
    "userfaultfd": Row(("userfaultfd",)),
    "kernel-modules-kexec": Row(("modules",)),
    "reboot-swapon": Row(("power",)),
    "set-clock": Row(("clock",)),
    "set-hostname": Row(("hostname",)),
    "kernel-log": Row(("kernel-log",), gvisor=EMULATED),
    "become-root": Row(("root",)),
    "raise-limits": Row(("limits",), gvisor=EMULATED),
    "mlock": Row(("mlock",)),
    "huge-pages": Row(("huge-pages",), gvisor=EMULATED),
}
FILES = {
    "proc-write": Row(("proc-write",)),
    "sys-write": Row(("sys-write",)),
    "root-write": Row(("root-write",)),
    "masked-paths": Row(
        ("read", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi", "/proc/acpi", "/sys/firmware")
    ),
    "host-paths": Row(("read", "/etc/shadow", "/root", "/home", "/var/lib/docker", "/boot", "/host", "{secret}")),
    "engine-socket": Row(
        ("unix-sockets", "/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock", "{engine}")
    ),
    "device-nodes": Row(("devices",), gvisor=EMULATED),
    "input-write": Row(("input-write",)),
    "input-hard-link": Row(("input-links",), replace(REFUSED, collected=())),
    "execute-from-tmp": Row(("drop", "/tmp/copy")),
    "execute-from-shm": Row(("drop", "/dev/shm/copy")),
    "execute-from-outputs": Row(("drop", "/outputs/copy"), gvisor=fails(139)),
    "climb-out-of-the-root": Row(("climb", "{secret}")),
}
NETWORK = {
    "egress-tcp": Row(("connect", *NOBODY)),
    "egress-udp": Row(("datagram", *NOBODY)),
    "egress-dns": Row(("dns",)),
    "egress-metadata-has-no-route": Row(("routes",)),
    "egress-host-and-bridge": Row(("connect", "{hosts}")),
    "abstract-socket-of-the-host": Row(("abstract-socket", "{abstract}")),
    "raw-and-packet-sockets": Row(("raw-sockets",)),
    "vsock-and-other-families": Row(("socket-families",)),
    "socket-pair-of-another-family": Row(("pair-of-inet",), gvisor=EMULATED),
    "netlink": Row(("netlink",), gvisor=EMULATED),
}
PROCESSES = {
    "fork-bomb": Row(
        ("fork-bomb",),
        over(Reason.PIDS_LIMIT, seconds=8.0),
        over(Reason.PIDS_LIMIT, Reason.MEMORY_LIMIT, seconds=20.0),
        SHORT,
    ),
    "memory": Row(("memory",), MEMORY),
    "memory-of-a-child": Row(("child-memory",), MEMORY),
    "memory-as-sysv": Row(("shared-memory",), MEMORY),
    "memory-as-memfd": Row(("file-memory",), MEMORY),
    "tmpfs-fill": Row(("fill", "/tmp", "16"), fails(9, says="refused after .*No space left.*")),
    "tmpfs-inode-fill": Row(
        ("fill", "/tmp", "0"),
        fails(9, says="refused after 409[0-9] files: No space left.*"),
        over(Reason.WALL_LIMIT, Reason.MEMORY_LIMIT),  # it does not count inodes, and they are the sandbox's memory
        SHORT,
    ),
    "shm-fill": Row(("fill", "/dev/shm", "16"), fails(9, says="refused after .*No space left.*")),
    "disk-fill": Row(("fill", "/outputs", "16"), over(Reason.DISK_LIMIT)),
    "file-count": Row(("fill", "/outputs", "0"), over(Reason.FILES_LIMIT)),
    "folder-count": Row(("folders", "/outputs"), over(Reason.FILES_LIMIT)),
    "file-descriptors": Row(("descriptors",), Ends(says="refused after 1024 or less: .*")),
    "cpu-starvation": Row(("spin",), WALL, limits=SHORT),
    "cpu-share": Row(("share",), Ends(says="[0-9]|[1-3][0-9]"), EMULATED, {"cpu_millis": 100}),
    "ignored-signals": Row(("ignore-signals",), WALL, limits=SHORT),
    "sleep": Row(("sleep",), WALL, limits=SHORT),
    "stop-itself": Row(("stop",), WALL, limits=SHORT),
    "kill-all": Row(("kill",), Ends(), fails(137)),
    "fake-out-of-memory": Row(("kill-itself",), fails(137)),
    "core-dump": Row(("core-dump",), Ends(frozenset({Reason.EXIT_NON_ZERO}), frozenset({134}), None, ())),
    "zombies": Row(("zombies",), limits={"pids": 64}),
    "other-processes": Row(("other-processes",)),
    "outlive-the-job": Row(("outlive",), Ends(says="DONE main ends", collected=("late",))),
    "log-flood-stdout": Row(("flood", "1"), over(Reason.LOG_LIMIT)),
    "log-flood-stderr": Row(("flood", "2"), over(Reason.LOG_LIMIT)),
    "log-flood-terminal": Row(("flood", "1", "bell"), over(Reason.LOG_LIMIT)),
    "log-closed-streams": Row(("mute",), kept("late")),
    "stack-overflow": Row(("recurse",), fails(139)),
    "exit-code-255": Row(("exit", "255"), fails(255)),
    "no-such-program": Row(("nothing",), fails(2)),
}
OUTPUTS = {
    "output-link-absolute": Row(("link", "/outputs/a", "{secret}"), unsafe("a symbolic link")),
    "output-link-out": Row(("link", "/outputs/a", "../../../../etc/passwd"), unsafe("a symbolic link")),
    "output-link-loop": Row(("link", "/outputs/loop", "."), unsafe("a symbolic link")),
    "output-link-to-root": Row(("link", "/outputs/folder", "/"), unsafe("a symbolic link")),
    "output-link-to-itself": Row(("link", "/outputs/me", "me"), unsafe("a symbolic link")),
    "output-fifo": Row(("fifo", "/outputs/f"), unsafe("a FIFO"), NOWHERE),
    "output-socket": Row(("socket", "/outputs/s"), unsafe("a socket"), NOWHERE),
    "output-device": Row(("mknod",), replace(REFUSED, collected=()), replace(EMULATED, collected=())),
    "output-sparse-terabyte": Row(("sparse", "/outputs/s", str(2**40)), fails(153)),
    "output-sparse-within": Row(("sparse", "/outputs/s", str(MIB)), kept("s")),
    "output-setuid": Row(("mode", "/outputs/f", "6755"), kept("f")),
    "output-mode-000": Row(("mode", "/outputs/f", "0"), unsafe("mode 0000")),
    "output-folder-mode-000": Row(("folder", "/outputs/d", "0"), unsafe("mode 0000")),
    "output-name-newline": Row(("named", "a%0ab"), unsafe("control character")),
    "output-name-escape-sequence": Row(("named", "%1b[2J"), unsafe("control character")),
    "output-name-not-utf8": Row(("named", "%ff"), unsafe("not UTF-8")),
    "output-name-surrogate": Row(("named", "%ed%a0%80"), unsafe("not UTF-8")),
    "output-name-right-to-left": Row(("named", "txt.%E2%80%AEexe"), unsafe("control character")),
    "output-name-dash": Row(("named", "-rf", "--help"), kept("--help", "-rf")),
    "output-name-twins-unicode": Row(("named", "e%CC%81", "%C3%A9"), kept("e\u0301", "\xe9")),
    "output-name-twins-case": Row(("named", "A", "a"), kept("A", "a")),
    "output-name-dots": Row(("named", "..b", "...", ". "), kept(". ", "...", "..b")),
    "output-name-windows": Row(("named", "CON", "a:b", "nul.txt"), kept("CON", "a:b", "nul.txt")),
    "output-name-longest": Row(("named", "x" * 255), kept("x" * 255)),
    "output-depth-10000": Row(
        ("dig", "10000"), Ends(frozenset({Reason.OUTPUT_UNSAFE}), says=None), limits={"output_files": 20_000}
    ),
    "output-depth-33": Row(("dig", "33"), Ends(frozenset({Reason.OUTPUT_UNSAFE}), says=None), limits=WIDE),
    "output-100000-files": Row(("many", "100000"), over(Reason.FILES_LIMIT), limits={"output_files": 10_000}),
    "output-archive-bomb": Row(("bomb",), kept("bomb.zip")),
    "output-folder-replaced": Row(("replace",), replace(REFUSED, collected=())),
    "output-attributes": Row(("attributes",), replace(REFUSED, collected=("file",))),
    "output-locked": Row(("locked", "/outputs/l"), kept("l")),
    "output-hard-link-twins": Row(("twins", "4"), over(Reason.DISK_LIMIT)),
}
CONTAINERS = {**KERNEL, **FILES, **NETWORK, **PROCESSES, **OUTPUTS}


@dataclass(frozen=True)
class Module:
    """An attack by a WebAssembly module. mode: of the program `hostile`, or a module of its own as text."""

    mode: str
    ends: Ends = Ends(says="refused")
    limits: dict[str, Any] = field(default_factory=dict)


TWO_ZEROS = "(i32.const 0) (i32.const 0)"
#: one WASI call, whose errno is the exit code; the numbers are WASI's own: 58 not supported, 63 not permitted
TEXT = """(module (import "wasi_snapshot_preview1" "{0}" (func $call (param {1}) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1) (data (i32.const 0) "x") (func (export "_start") (call $exit (call $call {2}))))"""
TRAPS = over(Reason.TRAP)
DISK = over(Reason.DISK_LIMIT)
MODULES = {
    "cpu-starvation": Module("loop", over(Reason.WALL_LIMIT, seconds=5.0), {"wall_seconds": 1}),
    "fuel": Module("loop", over(Reason.CPU_LIMIT), {"fuel": 10_000_000}),
    "memory": Module("grow", MEMORY),
    "stack-overflow": Module("recurse", TRAPS),
    "disk-fill": Module("fill", DISK),
    "file-count": Module("files", over(Reason.FILES_LIMIT)),
    "folder-count": Module("folders", over(Reason.FILES_LIMIT)),
    "output-sparse-terabyte": Module("sparse", DISK),
    "output-seek-terabyte": Module("seek", DISK),
    "output-pwrite-terabyte": Module("pwrite", DISK),
    "output-without-a-name": Module("hidden", over(Reason.DISK_LIMIT, says="unlinked 0")),
    "output-rewritten": Module("rewrite", kept("same"), {"disk_bytes": 150_000, "output_files": 2}),
    "output-depth-33": Module("deep", unsafe("levels deep"), WIDE),
    "output-links": Module("links", replace(REFUSED, says="refused", collected=())),
    "log-flood-stdout": Module("stdout", over(Reason.LOG_LIMIT)),
    "log-flood-stderr": Module("stderr", over(Reason.LOG_LIMIT)),
    "host-paths": Module("escape"),
    "input-write": Module("write-input"),
    "sleep": Module("sleep", Ends(says="slept 1", seconds=5.0)),
    "abort": Module("abort", TRAPS),
    "no-such-program": Module("no such mode", fails(2)),
    "rename-standard-output": Module(TEXT.format("fd_renumber", "i32 i32", "(i32.const 1) (i32.const 4)"), fails(58)),
    "symlink-by-hand": Module(
        TEXT.format("path_symlink", "i32 i32 i32 i32 i32", "(i32.const 0) (i32.const 1) (i32.const 4) " + TWO_ZEROS),
        fails(63),
    ),
    "accept-connections": Module(TEXT.format("sock_accept", "i32 i32 i32", "(i32.const 3) " + TWO_ZEROS), fails(58)),
    "open-a-socket": Module(
        TEXT.format("sock_open", "i32 i32 i32", "(i32.const 2) " + TWO_ZEROS), over(Reason.PROGRAM_INVALID)
    ),
    "table-growth": Module(
        """(module (memory (export "memory") 1) (table 1 funcref) (func (export "_start")
          (if (i32.ne (table.grow 0 (ref.null func) (i32.const 100000000)) (i32.const -1)) (then unreachable))))""",
        Ends(says=None),
    ),
    "memory-growth": Module(
        """(module (memory (export "memory") 1) (func (export "_start")
          (if (i32.ne (memory.grow (i32.const 60000)) (i32.const -1)) (then unreachable))))""",
        Ends(says=None),
    ),
    "second-memory": Module(
        """(module (memory (export "memory") 1) (memory 60000) (func (export "_start")))""",
        over(Reason.PROGRAM_INVALID),
    ),
    "threads": Module(
        """(module (memory (export "memory") 1 100 shared) (func (export "_start")))""", over(Reason.PROGRAM_INVALID)
    ),
    "host-function": Module(
        """(module (import "env" "system" (func (param i32) (result i32))) (memory (export "memory") 1)
          (func (export "_start")))""",
        over(Reason.PROGRAM_INVALID),
    ),
    "endless-start-section": Module(
        """(module (memory (export "memory") 1) (func $s (loop (br 0))) (start $s) (func (export "_start")))""",
        over(Reason.WALL_LIMIT, seconds=5.0),
        {"wall_seconds": 1},
    ),
}
