"""What the sandbox tests share: executions in temporary folders, and the hostile programs, compiled once a session."""

import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bridge.demo.image import build_image_archive
from bridge.demo.programs.build import WASM_TARGET, compile_c, native_target
from executor.sandbox.docker import DockerSandbox
from executor.sandbox.escapes import names
from executor.sandbox.types import ContainerProgram, Execution, InputMount, Limits, RunReport, WasmProgram

LIMITS = Limits(
    wall_seconds=20,
    cpu_millis=1000,
    memory_bytes=32 * 2**20,
    disk_bytes=2 * 2**20,
    output_files=20,
    log_bytes=4096,
    pids=16,
)
PROGRAMS = Path(__file__).parent / "programs"
HOSTILE = PROGRAMS / "hostile.c"
ABUSE = tuple(sorted(PROGRAMS.glob("abuse*.c")))


def never():
    """A job that is not cancelled."""
    return


@dataclass
class Hostile:
    wasm: Path
    archive: Path
    image: str


@pytest.fixture(scope="session")
def hostile(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    compile_c(HOSTILE, folder / "hostile.wasm", WASM_TARGET)
    compile_c(HOSTILE, folder / "hostile", native_target())
    image = build_image_archive(folder / "hostile", folder / "hostile.tar", "hostile")
    return Hostile(folder / "hostile.wasm", folder / "hostile.tar", image)


@dataclass
class AbuseImage:
    id: str
    archive: Path
    binary: Path


@pytest.fixture(scope="session")
def abuse_image(tmp_path_factory):
    """An image that holds the program `abuse` and nothing else."""
    folder = tmp_path_factory.mktemp("abuse")
    compile_c(ABUSE, folder / "abuse", native_target())
    archive = folder / "abuse.tar"
    return AbuseImage(build_image_archive(folder / "abuse", archive, "abuse"), archive, folder / "abuse")


@pytest.fixture
def engine_of(request):
    """The engine of a tier; one without gVisor fails in CI, and is skipped elsewhere."""

    def engine(tier):
        return request.getfixturevalue("gvisor_engine" if tier == "gvisor" else "docker_engine")

    return engine


@dataclass
class Ran:
    report: RunReport
    outputs: Path
    seconds: float


def execution(folder, program, limits=LIMITS, inputs=(), name="job-1"):
    home = folder / name
    outputs = home / "outputs"
    outputs.mkdir(parents=True)
    trace = {"request_id": "7", "request_hash": "0x" + "ab" * 32}
    return Execution(name, trace, program, tuple(inputs), outputs, home / "scratch", limits)


def data_input(folder):
    """A folder with one file, `data`, to be seen as /inputs/data."""
    (folder / "data").write_bytes(b"precious\n")
    return InputMount(folder / "data", "/inputs/data")


def wasm(hostile, *args, env=()):
    return WasmProgram(hostile.wasm, args, env)


def container(hostile, *args, runtime="runc", env=()):
    return ContainerProgram(hostile.image, hostile.archive, args=args, runtime=runtime, env=env)


def run(sandbox, job, cancelled=never):
    """Run and time it; the caller releases."""
    began = time.monotonic()
    report = sandbox.run(job, cancelled)
    return Ran(report, job.outputs, time.monotonic() - began)


def containers(node, engine, runtime="runc", **options):
    """A sandbox of containers that accepts every known escape: whatever is installed here is tested."""
    return DockerSandbox(node, runtime, base_url=engine, accept_escapes=names(), **options)


def limited(**changes):
    return replace(LIMITS, **changes)
