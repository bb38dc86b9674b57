"""Every attack of the table on every tier where it makes sense: contained, and its cause is what is reported."""

import contextlib
import re

import docker
import pytest
import wasmtime

from executor.sandbox.collect import OutputTooLarge, collect
from executor.sandbox.tree import OutputUnsafe, measure, walk
from executor.sandbox.types import ContainerProgram, WasmProgram
from executor.sandbox.wasm import WasmSandbox
from tests.sandbox.attacks import CONTAINERS, MODULES
from tests.sandbox.host import Host
from tests.sandbox.kit import containers, data_input, execution, limited, run, wasm

RUNTIMES = {"container": "runc", "gvisor": "runsc"}
CASES = [(name, tier) for tier in RUNTIMES for name in CONTAINERS]
PAGES = 4096
"""The fence around outputs has room for what rounding to pages wastes, and never more."""


@pytest.fixture
def host(tmp_path):
    found = []

    def make(node, api=None):
        found.append(Host(data_input(tmp_path), node, api))
        return found[-1]

    yield make
    for one in found:
        one.close()


@pytest.mark.docker
@pytest.mark.parametrize(("name", "tier"), CASES, ids=[f"{name}-{tier}" for name, tier in CASES])
def test_abuse(name, tier, engine_of, abuse_image, host, tmp_path):
    row, runtime = CONTAINERS[name], RUNTIMES[tier]
    engine = engine_of(tier)
    limits = limited(**row.limits)
    with contextlib.closing(docker.APIClient(base_url=engine, version="auto", timeout=30)) as api:
        before = host("test-abuse", api)
        words = before.words(engine)
        args = [word for item in row.args for word in words.get(item, [item])]
        program = ContainerProgram(abuse_image.id, abuse_image.archive, args=tuple(args), runtime=runtime)
        job = execution(tmp_path, program, limits, [before.given])
        sandbox = containers("test-abuse", engine, runtime)
        try:
            ran = run(sandbox, job)
            check(ran, row.on(tier), job, tmp_path)
            assert stored(job.outputs) <= limits.disk_bytes + PAGES * limits.output_files + 2**20
        finally:
            sandbox.release(job)
            left = sandbox.reap(set())
        assert left == []
        assert before.differences() == []


@pytest.mark.parametrize("name", MODULES, ids=[f"{name}-wasm" for name in MODULES])
def test_abuse_by_modules(name, hostile, host, tmp_path):
    row = MODULES[name]
    limits = limited(**row.limits)
    before = host("test-abuse")
    job = execution(tmp_path, program_of(row, hostile, tmp_path), limits, [before.given])

    ran = run(WasmSandbox(), job)

    check(ran, row.ends, job, tmp_path)
    with contextlib.suppress(OutputUnsafe):
        usage = measure(job.outputs)
        assert usage.size <= limits.disk_bytes
        assert usage.entries <= limits.output_files
    assert before.differences() == []


def stored(folder):
    """Bytes that a tree takes, each file once: what the fence limits. Links to one file count when it is collected."""
    seen = {}
    with contextlib.suppress(OutputUnsafe):
        for entry in walk(folder):
            seen[entry.status.st_ino] = entry.status.st_blocks * 512
    return sum(seen.values())


def program_of(row, hostile, folder):
    if not row.mode.startswith("("):
        return wasm(hostile, row.mode)
    (folder / "attack.wasm").write_bytes(wasmtime.wat2wasm(row.mode))
    return WasmProgram(folder / "attack.wasm")


def check(ran, ends, job, folder):
    """The reported cause, what the job itself saw, and what is collected of it."""
    report = ran.report
    assert report.reason in ends.reasons, report
    assert report.exit_code in ends.codes, report
    assert max(len(report.stdout), len(report.stderr)) <= job.limits.log_bytes
    assert ran.seconds < ends.seconds
    if ends.says is not None:
        lines = report.stdout.decode().splitlines()
        assert lines
        assert [line for line in lines if not re.fullmatch(ends.says, line)] == []
    if isinstance(ends.collected, re.Pattern):
        with pytest.raises((OutputUnsafe, OutputTooLarge), match=ends.collected):
            collect(job.outputs, folder / "collected", job.limits)
    elif ends.collected is not None:
        found = collect(job.outputs, folder / "collected", job.limits)
        assert tuple(item.path for item in found) == ends.collected
        for item in found:
            path = folder / "collected" / item.path
            assert path.is_file()
            assert not path.is_symlink()
            assert path.stat().st_mode & 0o7777 == 0o644
            assert path.stat().st_nlink == 1
