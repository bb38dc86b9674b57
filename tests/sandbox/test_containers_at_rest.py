"""A container of ours looked at from outside: the CIS benchmark's list while it runs, and what is left after it."""

import contextlib
import subprocess
import threading

import docker
import pytest

from executor.sandbox import mounts
from executor.sandbox.leftovers import Started, end_processes
from executor.sandbox.types import ContainerProgram, JobCancelled
from tests.chain_nodes import wait_for
from tests.sandbox.cis import FACTS
from tests.sandbox.kit import containers, data_input, execution, run

pytestmark = pytest.mark.docker
ID = "ab12" * 16


@pytest.fixture
def api(docker_engine):
    with contextlib.closing(docker.APIClient(base_url=docker_engine, version="auto", timeout=30)) as client:
        yield client


@pytest.fixture(scope="module")
def running(docker_engine, abuse_image, tmp_path_factory):
    """(inspected, processes, info) of one running container."""
    folder = tmp_path_factory.mktemp("cis")
    program = ContainerProgram(abuse_image.id, abuse_image.archive, args=("sleep",))
    job = execution(folder, program, inputs=[data_input(folder)], name="cis")
    sandbox = containers("test-cis", docker_engine)
    done = threading.Event()

    def work():
        with contextlib.suppress(JobCancelled):
            sandbox.run(job, lambda: "seen enough" if done.is_set() else None)

    thread = threading.Thread(target=work)
    with contextlib.closing(docker.APIClient(base_url=docker_engine, version="auto", timeout=30)) as client:
        thread.start()
        try:
            (box,) = wait_for(
                lambda: client.containers(filters={"label": "insula.execution=cis", "status": "running"}), 30, "a job"
            )
            processes = [" ".join(row) for row in client.top(box["Id"])["Processes"]]
            yield client.inspect_container(box["Id"]), processes, client.info()
        finally:
            done.set()
            thread.join(30)
            sandbox.release(job)


@pytest.mark.parametrize("number", FACTS, ids=[f"{number} {fact.title}" for number, fact in FACTS.items()])
def test_cis_5(number, running):
    fact = FACTS[number]

    if fact.holds is None:
        assert fact.not_ours
    else:
        assert fact.holds(*running)


def test_every_number_of_the_section_is_there():
    assert list(FACTS) == [f"5.{n}" for n in range(1, 33)]


@contextlib.contextmanager
def process(*words):
    """A process with this command line, that waits."""
    child = subprocess.Popen([*words], stdin=subprocess.PIPE)
    try:
        yield child
    finally:
        child.kill()
        child.wait(10)
        child.stdin.close()


@pytest.fixture
def runtime(tmp_path):
    """A program by the name of a runtime; it reads its input and so waits."""
    path = tmp_path / "runsc-sandbox"
    path.write_text("#!/bin/sh\nread line\n")
    path.chmod(0o755)
    return str(path)


def test_a_process_is_ended_by_the_id_of_its_container_only(runtime):
    with process(runtime, "boot", ID) as dead, process(runtime, "boot", "cd" * 32) as alive:
        wait_for(lambda: end_processes(ID) == [dead.pid], 10, "the process")
        assert dead.wait(10) == -9
        assert alive.poll() is None


def test_a_process_that_is_no_runtime_is_left_alone_though_it_names_the_container():
    with process("/bin/sh", "-c", "read line", f"/run/{ID}/log") as looks_on:
        assert end_processes(ID) == []
        assert looks_on.poll() is None


@pytest.mark.parametrize("bad", ["", "a", "runsc", ID.upper(), f"{ID}0"])
def test_no_process_is_ended_by_what_is_no_id(bad, runtime):
    with process(runtime, "boot", bad) as other:
        assert end_processes(bad) == []
        assert other.poll() is None


def test_reaping_ends_processes_of_containers_that_the_engine_has_forgotten(docker_engine, runtime, tmp_path):
    started = Started(tmp_path / "containers")
    started.note(ID, "dead")
    started.note("cd" * 32, "alive")
    sandbox = containers("test-forgotten", docker_engine, state=tmp_path / "containers")

    with process(runtime, "--bundle", f"/run/moby/{ID}") as dead, process(runtime, "boot", "cd" * 32) as alive:
        assert sandbox.reap({"alive"}) == ["dead"]
        assert dead.wait(10) == -9
        assert alive.poll() is None
    assert started.all() == {"cd" * 32: "alive"}


def test_a_container_is_written_down_while_it_runs_and_not_after_it(docker_engine, abuse_image, tmp_path):
    program = ContainerProgram(abuse_image.id, abuse_image.archive, args=("sleep",))
    job = execution(tmp_path, program, name="noted")
    sandbox = containers("test-noted", docker_engine, state=tmp_path / "containers")
    seen = []

    def once_noted():
        seen.extend(Started(tmp_path / "containers").all().values())
        return "seen" if seen else None

    with pytest.raises(JobCancelled):
        run(sandbox, job, once_noted)
    sandbox.release(job)

    assert seen == ["noted"]
    assert Started(tmp_path / "containers").all() == {}
    assert mounts.quota_mounts("test-noted") == []
    assert list(job.outputs.iterdir()) == []
