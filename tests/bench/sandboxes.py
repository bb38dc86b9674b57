"""What a sandbox costs: a job in it against the same program without our measures."""

import contextlib
import subprocess
import sys
import tempfile
from pathlib import Path

import docker
import wasmtime

from bridge.demo.data import make_access_log
from bridge.demo.image import build_demo_image
from executor.protocol.reasons import Reason
from executor.sandbox.docker import DockerSandbox
from executor.sandbox.escapes import names
from executor.sandbox.types import ContainerProgram, Execution, InputMount, Limits, WasmProgram
from executor.sandbox.wasm import WasmSandbox
from tests.docker_engine import answers, private_engine, usual_address

LIMITS = Limits(
    wall_seconds=60, cpu_millis=2000, memory_bytes=2**26, disk_bytes=2**20, output_files=8, log_bytes=4096, pids=16
)
#: about 10 ms of work on a processor of 2024
LOOP = """(module (memory (export "memory") 1) (func (export "_start") (local i32 i32)
  (loop (local.set 1 (i32.mul (i32.add (local.get 1) (i32.const 7)) (i32.const 2654435761)))
    (br_if 0 (i32.lt_u (local.tee 0 (i32.add (local.get 0) (i32.const 1))) (i32.const 8000000))))
  (i32.store (i32.const 0) (local.get 1))))"""
#: wasmtime as anybody would use it, with the settings that make results the same everywhere
BARE = """
import sys, wasmtime
config = wasmtime.Config()
config.consume_fuel = True
config.cranelift_nan_canonicalization = True
store = wasmtime.Store(wasmtime.Engine(config))
store.set_fuel(2**62)
linker = wasmtime.Linker(store.engine)
linker.define_wasi()
store.set_wasi(wasmtime.WasiConfig())
with open(sys.argv[1], "rb") as file:
    module = wasmtime.Module(store.engine, file.read())
linker.instantiate(store, module).exports(store)["_start"](store)
"""


def _executions(folder, program, inputs=()):
    """One execution after the other, each with folders of its own."""
    n = 0
    while True:
        n += 1
        outputs, scratch = folder / f"out{n}", folder / f"scratch{n}"
        outputs.mkdir()
        scratch.mkdir()
        yield Execution(f"bench-{n}", {}, program, tuple(inputs), outputs, scratch, LIMITS)


def _engine(stack):
    usual = usual_address()
    return usual if answers(usual) else stack.enter_context(contextlib.contextmanager(private_engine)())


def run_a_container(stack):
    """The demo's histogram of 32 MiB: hardened, watched and read back, against `docker run` by the SDK."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    engine = _engine(stack)
    image = build_demo_image(folder / "image.tar")
    (folder / "given").mkdir()
    make_access_log(folder / "given" / "data", 32 * 2**20)
    program = ContainerProgram(image, folder / "image.tar", args=("/inputs/data",))
    executions = _executions(folder, program, [InputMount(folder / "given" / "data", "/inputs/data")])
    sandbox = DockerSandbox("bench", base_url=engine, accept_escapes=names())
    client = stack.enter_context(contextlib.closing(docker.DockerClient(base_url=engine)))

    def ours():
        execution = next(executions)
        try:
            report = sandbox.run(execution, lambda: None)
            assert report.reason == Reason.NONE, report
        finally:
            sandbox.release(execution)

    def plain():
        target = folder / "plain"
        target.mkdir(exist_ok=True)
        volumes = {str(folder / "given"): {"bind": "/inputs", "mode": "ro"}, str(target): {"bind": "/outputs"}}
        assert client.containers.run(
            image, ["/inputs/data"], network_mode="none", volumes=volumes, remove=True, stdout=True, stderr=True
        )

    return ours, plain


def run_a_module(stack):
    """10 ms of work in a child process that was confined first, against wasmtime in a child process."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    module = folder / "loop.wasm"
    module.write_bytes(wasmtime.wat2wasm(LOOP))
    executions = _executions(folder, WasmProgram(module))
    sandbox = WasmSandbox()

    def ours():
        execution = next(executions)
        try:
            report = sandbox.run(execution, lambda: None)
            assert report.reason == Reason.NONE, report
        finally:
            sandbox.release(execution)

    return ours, lambda: subprocess.run([sys.executable, "-I", "-c", BARE, str(module)], check=True)
