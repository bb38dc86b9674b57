"""gVisor's traps: limits that are silently ignored, its own threads among the job's, starts that hang."""

import contextlib
import os
import signal
import time
from pathlib import Path

import docker
import pytest

from executor.protocol.reasons import Reason
from executor.sandbox.collect import collect
from executor.sandbox.types import ContainerProgram, SandboxUnavailable
from tests.docker_engine import RUNSC, RUNSC_ARGS, private_engine
from tests.sandbox.kit import LIMITS, containers, data_input, execution, limited, never, run

pytestmark = pytest.mark.docker

#: an engine's runtime that never answers, as gVisor's platform kvm does on some hosts
HANGS = """#!/bin/sh
case "$*" in
*" create "*) sleep 600 ;;
esac
exit 1
"""


def program(abuse_image, *args):
    return ContainerProgram(abuse_image.id, abuse_image.archive, args=args, runtime="runsc")


def test_a_job_runs_on_another_kernel_and_its_output_is_collected(gvisor_engine, abuse_image, tmp_path):
    sandbox = containers("test-gvisor", gvisor_engine, "runsc")
    job = execution(tmp_path, program(abuse_image, "named", "a", "b"), inputs=[data_input(tmp_path)])

    report = run(sandbox, job).report
    found = collect(job.outputs, tmp_path / "collected", LIMITS)
    sandbox.release(job)

    assert (report.reason, report.exit_code) == (Reason.NONE, 0)
    assert [(item.path, item.size) for item in found] == [("a", 1), ("b", 1)]
    assert report.runtime["runtime"] == "runsc"
    assert report.runtime["applied"]["host"]["Runtime"] == "runsc"


def test_the_tier_proves_its_limits(gvisor_engine):
    probe = containers("test-gvisor", gvisor_engine, "runsc").probe()

    assert (probe.tier, probe.usable) == ("gvisor", True), probe
    assert {check.name for check in probe.checks} >= {"memory", "disk", "pids", "wall", "CapEff", "reaches-network"}


@pytest.mark.parametrize("pids", [1, 16, 128])
def test_its_own_threads_are_not_taken_from_the_job_s_processes(pids, gvisor_engine, abuse_image, tmp_path):
    """With 64 processes for job and kernel together it does not even start, and says nothing of why."""
    sandbox = containers("test-gvisor", gvisor_engine, "runsc")
    job = execution(tmp_path, program(abuse_image, "exit", "3"), limited(pids=pids, memory_bytes=16 * 2**20))

    report = run(sandbox, job).report
    sandbox.release(job)

    assert (report.reason, report.exit_code) == (Reason.EXIT_NON_ZERO, 3)


def test_where_limits_are_silently_ignored_the_tier_is_not_offered():
    with contextlib.contextmanager(private_engine)(
        {"runsc": {"path": RUNSC, "runtimeArgs": [*RUNSC_ARGS, "--ignore-cgroups"]}}
    ) as engine:
        probe = containers("test-ignored", engine, "runsc").probe()

    assert not probe.usable
    assert "memory" in probe.problem
    assert "pids" in probe.problem


def test_a_start_that_hangs_is_given_up_and_leaves_nothing(abuse_image, tmp_path):
    script = tmp_path / "hangs.sh"
    script.write_text(HANGS)
    script.chmod(0o755)
    with contextlib.contextmanager(private_engine)({"runsc": {"path": str(script)}}) as engine:
        sandbox = containers("test-hung", engine, "runsc", start_seconds=3, state=tmp_path / "containers")
        job = execution(tmp_path, program(abuse_image, "sleep"), name="hung")
        began = time.monotonic()

        with pytest.raises(SandboxUnavailable, match="did not start within 3 s") as caught:
            sandbox.run(job, never)

        sandbox.release(job)
        assert caught.value.reason == Reason.NODE_FAULT
        assert time.monotonic() - began < 30
        with contextlib.closing(docker.APIClient(base_url=engine, version="auto", timeout=30)) as api:
            assert api.containers(all=True) == []
        assert sandbox.reap(set()) == []
    assert list((tmp_path / "containers").iterdir()) == []
    for pid in of_command(str(script)):
        os.kill(pid, signal.SIGKILL)  # whatever a failing test left


def of_command(word):
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if word.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
    return found
