"""Jobs with which a node proves to itself that the limits of the wasm sandbox hold here, as readable text."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from executor.protocol.reasons import Reason
from executor.sandbox.types import Execution, Limits, WasmProgram

_LIMITS: Final = Limits(
    wall_seconds=30, cpu_millis=1000, memory_bytes=2**24, disk_bytes=2**16, output_files=2, log_bytes=100, pids=1
)
_IMPORT: Final = '(import "wasi_snapshot_preview1" "%s" (func $%s (param %s) (result i32)))'

_SPIN: Final = '(module (memory (export "memory") 1) (func (export "_start") (loop (br 0))))'

# exits with 0 where the machine refuses the memory, else traps
_GROW: Final = """(module (memory (export "memory") 1)
  (func (export "_start") (if (i32.ne (memory.grow (i32.const 1024)) (i32.const -1)) (then unreachable))))"""

# makes a file of 1 TiB in /outputs, which is descriptor 4
_DISK: Final = f"""(module
  {_IMPORT % ("path_open", "path_open", "i32 i32 i32 i32 i32 i64 i64 i32 i32")}
  {_IMPORT % ("fd_filestat_set_size", "set_size", "i32 i64")}
  (memory (export "memory") 1) (data (i32.const 0) "big")
  (func (export "_start")
    (if (call $path_open (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 3) (i32.const 1)
                         (i64.const 0x400042) (i64.const 0) (i32.const 0) (i32.const 16)) (then unreachable))
    (drop (call $set_size (i32.load (i32.const 16)) (i64.const 0x10000000000)))))"""

_FILES: Final = f"""(module
  {_IMPORT % ("path_create_directory", "mkdir", "i32 i32 i32")}
  (memory (export "memory") 1) (data (i32.const 0) "abcdef")
  (func (export "_start") (local i32)
    (loop (drop (call $mkdir (i32.const 4) (local.get 0) (i32.const 1)))
          (br_if 0 (i32.lt_u (local.tee 0 (i32.add (local.get 0) (i32.const 1))) (i32.const 6))))))"""

_LOG: Final = f"""(module
  {_IMPORT % ("fd_write", "fd_write", "i32 i32 i32 i32")}
  (memory (export "memory") 1) (data (i32.const 0) "\\08\\00\\00\\00\\10\\00\\00\\00")
  (func (export "_start")
    (loop (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 64))) (br 0))))"""

# opens ../../etc/passwd and /etc/passwd below its two folders: every one must be refused
_ESCAPE: Final = f"""(module
  {_IMPORT % ("path_open", "path_open", "i32 i32 i32 i32 i32 i64 i64 i32 i32")}
  (memory (export "memory") 1) (data (i32.const 0) "../../../../../../../../etc/passwd")
  (func $try (param i32 i32 i32)
    (if (i32.eqz (call $path_open (local.get 0) (i32.const 1) (local.get 1) (local.get 2) (i32.const 0)
                                  (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 64))) (then unreachable)))
  (func (export "_start")
    (call $try (i32.const 3) (i32.const 0) (i32.const 34)) (call $try (i32.const 4) (i32.const 0) (i32.const 34))
    (call $try (i32.const 3) (i32.const 23) (i32.const 11)) (call $try (i32.const 4) (i32.const 23) (i32.const 11))))"""

_NETWORK: Final = f"""(module {_IMPORT % ("sock_open", "sock_open", "i32 i32 i32")}
  (memory (export "memory") 1) (func (export "_start")))"""


@dataclass(frozen=True, slots=True)
class WasmProbe:
    """One program and what must become of it."""

    name: str
    text: str
    reason: Reason
    limits: Limits = _LIMITS
    exit_code: int = 0

    def execution(self, folder: Path) -> Execution:
        """A run of it with all its files below `folder`."""
        home = folder / self.name
        outputs = home / "outputs"
        outputs.mkdir(parents=True)
        module = home / "probe.wat"
        module.write_text(self.text)
        return Execution(
            execution_id=f"probe-{self.name}",
            trace={},
            program=WasmProgram(module),
            inputs=(),
            outputs=outputs,
            scratch=home,
            limits=self.limits,
        )


PROBES: Final = (
    WasmProbe("memory", _GROW, Reason.NONE),
    WasmProbe("disk", _DISK, Reason.DISK_LIMIT),
    WasmProbe("files", _FILES, Reason.FILES_LIMIT),
    WasmProbe("log", _LOG, Reason.LOG_LIMIT),
    WasmProbe("host files", _ESCAPE, Reason.NONE),
    WasmProbe("network", _NETWORK, Reason.PROGRAM_INVALID),
    WasmProbe("fuel", _SPIN, Reason.CPU_LIMIT, replace(_LIMITS, fuel=1_000_000)),
    WasmProbe("wall", _SPIN, Reason.WALL_LIMIT, replace(_LIMITS, wall_seconds=1)),
)
