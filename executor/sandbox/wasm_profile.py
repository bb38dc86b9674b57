"""The settings under which WebAssembly jobs run, as data: part of every receipt, so that a replay uses the same."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from executor.sandbox import wasi
from executor.sandbox.tree import MAX_DEPTH

if TYPE_CHECKING:  # the process of a job starts without it
    from executor.sandbox.types import Limits

PROFILE_ID: Final = "insula/wasm/1"
MAX_MODULE_BYTES: Final = 64 * 2**20
MAX_TABLE_ELEMENTS: Final = 1_000_000
MAX_STACK_BYTES: Final = 512 * 1024
OUTPUTS: Final = "/outputs"
INPUTS: Final = "/inputs"
SECRETS: Final = "/secrets"

#: what the machine is beside WebAssembly 1.0; everything that makes results differ between processors is off
ENGINE: Final = {
    "wasm_bulk_memory": True,
    "wasm_multi_value": True,
    "wasm_reference_types": True,
    "wasm_simd": True,
    "wasm_tail_call": True,
    "wasm_exceptions": False,
    "wasm_function_references": False,
    "wasm_gc": False,
    "wasm_memory64": False,
    "wasm_multi_memory": False,
    "wasm_relaxed_simd": False,
    "wasm_threads": False,
    "cranelift_nan_canonicalization": True,
    "consume_fuel": True,
    "parallel_compilation": False,
    "max_wasm_stack": MAX_STACK_BYTES,
}
#: room for the interpreter, the compiler and its work, beside the job's own memory
HOST_DATA_BYTES: Final = 2**30
HOST_FILE_BYTES: Final = 2**20
CPU_GRACE_SECONDS: Final = 5
FILE_DESCRIPTORS: Final = 512


def profile() -> dict[str, object]:
    """The profile as JSON; what depends on the job's own limits is not part of it."""
    return {
        "id": PROFILE_ID,
        "engine": ENGINE,
        "wasi": wasi.MODULE,
        "calls": sorted(wasi.SIGNATURES),
        "clockStartNs": str(wasi.START_OF_TIME_NS),
        "maxModuleBytes": MAX_MODULE_BYTES,
        "maxTableElements": MAX_TABLE_ELEMENTS,
        "maxOpenFiles": wasi.MAX_OPEN_FILES,
        "maxDepth": MAX_DEPTH,
    }


def profile_sha256() -> str:
    """The profile's identity, in hex."""
    import hashlib

    return hashlib.sha256(json.dumps(profile(), sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def resource_limits(limits: Limits) -> dict[str, int]:
    """The child process's own limits, by their names in setrlimit(2): a second fence behind the machine's."""
    return {
        "CORE": 0,
        "CPU": limits.wall_seconds + CPU_GRACE_SECONDS,
        "DATA": limits.memory_bytes + HOST_DATA_BYTES,
        "FSIZE": limits.disk_bytes + HOST_FILE_BYTES,
        "NOFILE": FILE_DESCRIPTORS,
    }
