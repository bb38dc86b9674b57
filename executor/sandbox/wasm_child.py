"""The process in which one WebAssembly job runs (`python -m executor.sandbox.wasm_child`). Only it imports wasmtime.

Standard input: 4 bytes of length (big-endian), then the description of the job as JSON (`wasm.py` writes it); it stays
open as the lifeline. Standard output: frames (`frames.py`), the last one the report. Everything hostile is in here.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import wasmtime

from executor.protocol.reasons import Reason
from executor.sandbox import confine, frames, wasi
from executor.sandbox.tree import OutputUnsafe, Usage
from executor.sandbox.wasm_profile import ENGINE, INPUTS, MAX_MODULE_BYTES, MAX_TABLE_ELEMENTS, OUTPUTS, SECRETS

MAX_DESCRIPTION_BYTES: Final = 2**20
MAX_DETAIL_CHARS: Final = 500
_UNLIMITED_FUEL: Final = 2**63
_PAGE: Final = 65536
_TYPES: Final = {"i": wasmtime.ValType.i32(), "I": wasmtime.ValType.i64()}
_WASM_TYPES: Final = {"i": "i32", "I": "i64"}
_MASKS: Final = {"i": 2**32 - 1, "I": 2**64 - 1}


@dataclass(frozen=True, slots=True)
class Ending:
    """How the job ended."""

    reason: Reason
    detail: str = ""
    exit_code: int = 0


class _Memory:
    """A linear memory, bounds checked."""

    def __init__(self, store: wasmtime.Store, memory: wasmtime.Memory) -> None:
        self._store = store
        self._memory = memory

    @property
    def size(self) -> int:
        return self._memory.data_len(self._store)

    def _address(self, offset: int, length: int) -> int:
        if offset + length > self.size:
            raise wasi.Fault
        return ctypes.addressof(self._memory.data_ptr(self._store).contents) + offset

    def read(self, offset: int, length: int) -> bytes:
        return ctypes.string_at(self._address(offset, length), length) if length else b""

    def write(self, offset: int, data: bytes) -> None:
        if data:
            ctypes.memmove(self._address(offset, len(data)), data, len(data))


class _Guest:
    """The engine's own WASI, reached through two small modules: one with the job's memory, one with a memory of ours.

    WASI functions work on the memory that their caller exports. So a call that Python has looked at goes on through a
    module that re-exports the job's memory; what Python itself asks goes through one with a memory of its own.
    """

    def __init__(self, store: wasmtime.Store, linker: wasmtime.Linker) -> None:
        self._store = store
        self._linker = linker
        own = f'(memory (export "memory") {wasi.OWN_PAGES} {wasi.OWN_PAGES})'
        self._asked, memory = self._relay(own, wasi.ASKED)
        self._forwarded: dict[str, wasmtime.Func] = {}
        self.own = _Memory(store, memory)
        self.job = _Memory(store, memory)

    def attach(self, memory: wasmtime.Memory) -> None:
        """The job exists now: calls may be forwarded with its memory."""
        self._linker.define(self._store, "job", "memory", memory)
        self._forwarded, _ = self._relay('(memory (export "memory") (import "job" "memory") 0)', wasi.FORWARDED)
        self.job = _Memory(self._store, memory)

    def forward(self, name: str, *args: int) -> int:
        if not self._forwarded:
            raise wasi.Stopped(Reason.PROGRAM_INVALID, f"calls {name} from its start section, before it has a memory")
        return int(self._forwarded[name](self._store, *args))

    def ask(self, name: str, *args: int) -> int:
        return int(self._asked[name](self._store, *args))

    def _relay(self, memory: str, names: frozenset[str]) -> tuple[dict[str, wasmtime.Func], wasmtime.Memory]:
        parts, functions = [], []
        for name in sorted(names):
            signature = wasi.SIGNATURES[name]
            kinds = " ".join(_WASM_TYPES[kind] for kind in signature)
            head = f"(param {kinds}) (result i32)"
            arguments = " ".join(f"(local.get {i})" for i in range(len(signature)))
            parts.append(f'(import "{wasi.MODULE}" "{name}" (func ${name} {head}))')
            functions.append(f'(func (export "{name}") {head} (call ${name} {arguments}))')
        text = f"(module {' '.join([*parts, memory, *functions])})"
        instance = self._linker.instantiate(self._store, wasmtime.Module(self._store.engine, text))
        exports = instance.exports(self._store)
        calls = {name: _func(exports[name]) for name in names}
        found = exports["memory"]
        assert isinstance(found, wasmtime.Memory)  # noqa: S101 - our own module
        return calls, found


class Job:
    """One module, from its bytes to its end. `used` tells what it took, whenever it is asked."""

    def __init__(self, description: dict[str, Any], emit: Callable[[bytes, bytes], None]) -> None:
        self._wanted = description
        self._emit = emit
        config = wasmtime.Config()
        for name, value in ENGINE.items():
            setattr(config, name, value)
        self._store = wasmtime.Store(wasmtime.Engine(config))
        self._fuel = description["fuel"] or _UNLIMITED_FUEL
        self._store.set_fuel(self._fuel)
        self._store.set_limits(
            memory_size=description["memoryBytes"], table_elements=MAX_TABLE_ELEMENTS, instances=3, tables=8, memories=3
        )
        self._store.set_wasi(self._wasi_config())
        self._memory: _Memory | None = None

    def run(self) -> Ending:
        """Compile, link and run the module."""
        module = self._compile()
        if isinstance(module, Ending):
            return module
        native = wasmtime.Linker(self._store.engine)
        native.define_wasi()
        guest = _Guest(self._store, native)
        linker = self._linker(module, native, guest)
        self._emit(frames.COMPILED, b"")
        try:
            exports = linker.instantiate(self._store, module).exports(self._store)
        except wasi.Stopped as exc:
            return Ending(exc.reason, exc.detail, exc.code)
        except wasmtime.WasmtimeError as exc:
            return Ending(Reason.PROGRAM_INVALID, _short(exc))
        except wasmtime.Trap as exc:  # in the module's start section
            return self._trapped(exc)
        memory = exports["memory"]
        assert isinstance(memory, wasmtime.Memory)  # noqa: S101 - _problem saw to it
        guest.attach(memory)
        self._memory = guest.job
        return self._execute(_func(exports["_start"]))

    def _execute(self, start: wasmtime.Func) -> Ending:
        try:
            start(self._store)
        except wasi.Stopped as exc:
            return Ending(exc.reason, exc.detail, exc.code)
        except OutputUnsafe as exc:
            return Ending(Reason.OUTPUT_UNSAFE, str(exc))
        except wasmtime.Trap as exc:
            return self._trapped(exc)
        except wasmtime.WasmtimeError as exc:
            return Ending(Reason.TRAP, _short(exc))
        return Ending(Reason.NONE)

    def used(self) -> dict[str, int]:
        """Fuel and memory used so far. Memory never shrinks, so what it has now is its peak."""
        return {
            "fuelUsed": self._fuel - self._store.get_fuel() if self._memory else 0,
            "memoryPeakBytes": self._memory.size if self._memory else 0,
        }

    def _compile(self) -> wasmtime.Module | Ending:
        code = self._code()
        if isinstance(code, Ending):
            return code
        try:
            module = wasmtime.Module(self._store.engine, code)
        except wasmtime.WasmtimeError as exc:
            return Ending(Reason.PROGRAM_INVALID, _short(exc))
        return _problem(module, self._wanted["memoryBytes"]) or module

    def _code(self) -> bytes | str | Ending:
        with Path(self._wanted["module"]).open("rb") as file:
            data = file.read(MAX_MODULE_BYTES + 1)
        if len(data) > MAX_MODULE_BYTES:
            return Ending(Reason.PROGRAM_INVALID, f"the module is larger than {MAX_MODULE_BYTES} bytes")
        if self._wanted["text"]:  # only the node's own probes are text
            return data.decode()
        if not data.startswith(b"\0asm\x01\0\0\0"):
            return Ending(Reason.PROGRAM_INVALID, "the module does not begin as WebAssembly 1 does")
        return data

    def _linker(self, module: wasmtime.Module, native: wasmtime.Linker, guest: _Guest) -> wasmtime.Linker:
        """Gives the module what it imports and may: nothing else is there to be found."""
        quota = wasi.Quota(Path(self._wanted["outputs"]), Usage(self._wanted["diskBytes"], self._wanted["outputFiles"]))
        calls = wasi.Wasi(guest, quota, self._wanted["logBytes"], self._log).calls()
        linker = wasmtime.Linker(self._store.engine)
        for name in {item.name for item in module.imports if item.name}:
            if name in wasi.NATIVE:
                linker.define(self._store, wasi.MODULE, name, native.get(self._store, wasi.MODULE, name))
            else:
                kinds = wasi.SIGNATURES[name]
                results = [] if name == "proc_exit" else [_TYPES["i"]]
                kind = wasmtime.FuncType([_TYPES[k] for k in kinds], results)
                linker.define_func(wasi.MODULE, name, kind, _guarded(calls[name], kinds))
        return linker

    def _log(self, fd: int, data: bytes) -> None:
        if data:
            self._emit(frames.STDOUT if fd == 1 else frames.STDERR, data)

    def _wasi_config(self) -> wasmtime.WasiConfig:
        config = wasmtime.WasiConfig()
        config.argv = ["job", *self._wanted["args"]]
        config.env = [(name, value) for name, value in self._wanted["env"]]
        config.preopen_dir(self._wanted["inputs"], INPUTS, fs_mutable=False)
        config.preopen_dir(self._wanted["outputs"], OUTPUTS, fs_mutable=True)
        if self._wanted["secrets"]:
            config.preopen_dir(self._wanted["secrets"], SECRETS, fs_mutable=False)
        return config

    def _trapped(self, trap: wasmtime.Trap) -> Ending:
        if trap.trap_code == wasmtime.TrapCode.OUT_OF_FUEL:
            return Ending(Reason.CPU_LIMIT, f"all of {self._fuel} units of fuel are used")
        size, limit = self.used()["memoryPeakBytes"], self._wanted["memoryBytes"]
        # the machine does not tell that it refused memory: a program that breaks off within 1/16 of its limit ran out
        if trap.trap_code == wasmtime.TrapCode.UNREACHABLE and size > limit - limit // 16:
            return Ending(Reason.MEMORY_LIMIT, f"broke off with {size} of {limit} bytes of memory")
        return Ending(Reason.TRAP, _short(trap))


def _problem(module: wasmtime.Module, memory_bytes: int) -> Ending | None:
    """What makes a module unfit to be a job, before anything of it runs."""
    for item in module.imports:
        if item.module != wasi.MODULE or item.name not in wasi.SIGNATURES:
            name = f"{item.module}.{item.name}"
            return Ending(Reason.PROGRAM_INVALID, f"imports {name!r:.120}; a job may import {wasi.MODULE} only")
    exports = {item.name: item.type for item in module.exports}
    start, memory = exports.get("_start"), exports.get("memory")
    if not isinstance(start, wasmtime.FuncType) or start.params or start.results:
        return Ending(Reason.PROGRAM_INVALID, "exports no function _start: build a WASI command, not a library")
    if not isinstance(memory, wasmtime.MemoryType):
        return Ending(Reason.PROGRAM_INVALID, 'exports no memory named "memory"')
    if memory.limits.min * _PAGE > memory_bytes:
        return Ending(
            Reason.MEMORY_LIMIT, f"begins with {memory.limits.min * _PAGE} bytes; the limit is {memory_bytes}"
        )
    return None


def _guarded(call: Callable[..., int], kinds: str) -> Callable[..., int]:
    """A WASI call as the engine calls it: signed numbers in, and an errno for an address outside the memory."""
    masks = [_MASKS[kind] for kind in kinds]

    def guarded(*args: int) -> int:
        try:
            return call(*(value & mask for value, mask in zip(args, masks, strict=True)))
        except wasi.Fault:
            return wasi.FAULT

    return guarded


def _func(item: object) -> wasmtime.Func:
    assert isinstance(item, wasmtime.Func)  # noqa: S101 - exports of known type
    return item


def _short(exc: Exception) -> str:
    """The last lines of the engine's message, which say why; the backtrace before them is for nobody here."""
    text = " ".join(str(exc).split())
    return text if len(text) <= MAX_DETAIL_CHARS else "..." + text[-MAX_DETAIL_CHARS:]


def _read_exactly(length: int) -> bytes:
    data = b""
    while len(data) < length:
        part = os.read(0, length - len(data))
        if not part:
            sys.exit("the parent closed the pipe")
        data += part
    return data


def main() -> None:
    """Run the job that standard input describes, report, end. The exit code is 0 whatever became of the job."""
    length = int.from_bytes(_read_exactly(4), "big")
    if length > MAX_DESCRIPTION_BYTES:
        sys.exit("the description is too long")
    description = json.loads(_read_exactly(length))
    confine.die_with_parent(description["parent"], 0)
    privileges = confine.drop_privileges()
    limits = confine.limit_resources(description["resources"])
    hello = {
        "version": description["version"],
        "machine": platform.machine(),
        "applied": {**privileges, "resources": limits},
    }
    frames.write_frame(1, frames.HELLO, json.dumps(hello).encode())
    job = Job(description, lambda kind, data: frames.write_frame(1, kind, data))
    ending = job.run()
    report = {
        "reason": int(ending.reason),
        "detail": ending.detail,
        "exitCode": ending.exit_code,
        "used": {**job.used(), "processPeakBytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024},
    }
    frames.write_frame(1, frames.REPORT, json.dumps(report).encode())
    os._exit(0)  # nothing of the engine's clean-up matters: the process is its clean-up


if __name__ == "__main__":
    main()
