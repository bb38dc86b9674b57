"""Content and sandbox: what naming, storing and insulating costs on top of the bare work."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path


def store_a_file(stack):
    """64 MiB into the block store, durable, against a plain copy with one fsync."""
    from executor.content import unixfs
    from executor.content.blockstore import BlockStore

    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    (folder / "data").write_bytes(os.urandom(64 * 2**20))
    count = iter(range(10**6))

    def ours():
        return unixfs.import_file(BlockStore(folder / f"store{next(count)}"), folder / "data", 2**30)

    def copy():
        with (folder / "data").open("rb") as source, (folder / f"copy{next(count)}").open("wb") as target:
            while piece := source.read(2**20):
                target.write(piece)
            target.flush()
            os.fsync(target.fileno())

    return ours, copy


def run_a_wasm_job(stack):
    """A sandboxed WASM job, child process and all, against an empty Python process."""
    from importlib import resources

    from executor.sandbox.types import Execution, Limits, WasmProgram
    from executor.sandbox.wasm import WasmSandbox

    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    module = folder / "exit3.wasm"
    module.write_bytes((resources.files("bridge.demo") / "programs" / "exit3.wasm").read_bytes())
    limits = Limits(
        wall_seconds=20, cpu_millis=1000, memory_bytes=2**26, disk_bytes=2**20, output_files=8, log_bytes=4096, pids=1
    )
    count = iter(range(10**6))

    def ours():
        n = next(count)
        outputs, scratch = folder / f"out{n}", folder / f"scratch{n}"
        outputs.mkdir()
        scratch.mkdir()
        sandbox = WasmSandbox()
        execution = Execution(f"bench-{n}", {}, WasmProgram(module), (), outputs, scratch, limits)
        try:
            assert sandbox.run(execution, lambda: None).exit_code == 3
        finally:
            sandbox.release(execution)

    return ours, lambda: subprocess.run([sys.executable, "-I", "-c", "pass"], check=True)
