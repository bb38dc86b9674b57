"""Everything that a hostile container may try, and what must become of it. Needs a Docker Engine."""

from dataclasses import dataclass

import pytest

from executor.protocol.reasons import Reason
from executor.sandbox.docker import DockerSandbox
from executor.sandbox.tree import measure
from tests.sandbox.kit import LIMITS, container, data_input, execution, limited, run

pytestmark = pytest.mark.docker


@dataclass(frozen=True)
class Abuse:
    mode: str
    reason: Reason
    limits: object = LIMITS
    exit_code: int = 0
    stdout: bytes | None = b""
    seconds: float = 12.0


SHORT = limited(wall_seconds=2)
ABUSES = {
    "loops for ever": Abuse("loop", Reason.WALL_LIMIT, SHORT, seconds=6),
    "ignores every signal": Abuse("ignore-signals", Reason.WALL_LIMIT, SHORT, seconds=6),
    "sleeps for an hour": Abuse("sleep", Reason.WALL_LIMIT, SHORT, seconds=6),
    "takes memory until there is none": Abuse("grow", Reason.MEMORY_LIMIT),
    "lets a child take the memory": Abuse("child-memory", Reason.MEMORY_LIMIT),
    "forks without end": Abuse("fork", Reason.PIDS_LIMIT, SHORT, seconds=6),
    "calls itself for ever": Abuse("recurse", Reason.EXIT_NON_ZERO, exit_code=139),
    "fills the disk with files": Abuse("fill", Reason.DISK_LIMIT),
    "makes empty files without end": Abuse("files", Reason.FILES_LIMIT),
    "makes folders without end": Abuse("folders", Reason.FILES_LIMIT),
    "makes a sparse file of a terabyte": Abuse("sparse", Reason.EXIT_NON_ZERO, exit_code=153),
    "seeks a terabyte ahead and writes": Abuse("seek", Reason.EXIT_NON_ZERO, exit_code=153),
    "fills /tmp": Abuse("fill-tmp", Reason.EXIT_NON_ZERO, exit_code=9),
    "floods standard output": Abuse("stdout", Reason.LOG_LIMIT, stdout=None),
    "floods standard error": Abuse("stderr", Reason.LOG_LIMIT),
    "reads files of the host": Abuse("escape", Reason.NONE, stdout=b"refused\n"),
    "changes its input": Abuse("write-input", Reason.NONE, stdout=b"refused\n"),
    "opens connections": Abuse("network", Reason.NONE, stdout=b"refused\n"),
    "asks for privileges": Abuse("privileges", Reason.NONE, stdout=b"refused\n"),
    "executes what it wrote": Abuse("dropper", Reason.NONE, stdout=b"refused\n"),
    "closes its streams and goes on": Abuse("closed-streams", Reason.NONE),
    "digs deeper than is collected": Abuse("deep", Reason.OUTPUT_UNSAFE, limited(output_files=100)),
    "breaks off": Abuse("abort", Reason.EXIT_NON_ZERO, exit_code=134),
    "fails with a code": Abuse("no such mode", Reason.EXIT_NON_ZERO, exit_code=2),
}


@pytest.fixture
def sandbox(docker_engine):
    made = DockerSandbox("test-abuse", base_url=docker_engine)
    yield made
    made.reap(set())  # whatever a failing test left


@pytest.mark.parametrize("name", ABUSES)
def test_a_hostile_container_is_contained(name, sandbox, hostile, tmp_path):
    abuse = ABUSES[name]
    given = data_input(tmp_path)
    job = execution(tmp_path, container(hostile, abuse.mode), abuse.limits, [given])

    ran = run(sandbox, job)
    try:
        if abuse.reason != Reason.OUTPUT_UNSAFE:
            # the fence has room for what rounding to pages wastes; never more
            assert measure(job.outputs).size <= abuse.limits.disk_bytes + 4096 * abuse.limits.output_files + 2**20
    finally:
        sandbox.release(job)

    assert (ran.report.reason, ran.report.exit_code) == (abuse.reason, abuse.exit_code), ran.report
    if abuse.stdout is not None:
        assert ran.report.stdout == abuse.stdout
    assert max(len(ran.report.stdout), len(ran.report.stderr)) <= abuse.limits.log_bytes
    assert ran.seconds < abuse.seconds
    assert given.source.read_bytes() == b"precious\n"
    assert sandbox.reap(set()) == []


def test_links_and_special_files_are_left_to_the_collector_as_they_are(sandbox, hostile, tmp_path):
    job = execution(tmp_path, container(hostile, "links"))

    report = run(sandbox, job).report
    try:
        assert report.reason == Reason.NONE
        assert (job.outputs / "absolute").is_symlink()
    finally:
        sandbox.release(job)
