"""Images, the profile as it is applied, cancellation, and what a crash leaves. Needs a Docker Engine."""

import contextlib
import io
import json
import tarfile
import time

import docker
import pytest

from bridge.demo.image import build_demo_image, build_image_archive
from executor.protocol.reasons import Reason
from executor.sandbox import mounts
from executor.sandbox.collect import collect
from executor.sandbox.docker import DockerSandbox
from executor.sandbox.tree import OutputUnsafe
from executor.sandbox.types import ContainerProgram, InputMount, JobCancelled, SandboxUnavailable
from tests.docker_engine import needs_root
from tests.sandbox.kit import LIMITS, container, containers, data_input, execution, limited, never, run

pytestmark = pytest.mark.docker


@pytest.fixture
def sandbox(docker_engine):
    made = containers("test-docker", docker_engine)
    yield made
    made.reap(set())  # whatever a failing test left


@pytest.fixture
def api(docker_engine):
    with contextlib.closing(docker.APIClient(base_url=docker_engine, version="auto", timeout=30)) as client:
        yield client


@pytest.fixture
def operators_image(api, hostile):
    """The hostile image as the operator loads it: without a name, for every job."""
    with hostile.archive.open("rb") as file:
        list(api.load_image(file))
    yield hostile.image
    with contextlib.suppress(docker.errors.ImageNotFound):
        api.remove_image(hostile.image, force=True)


def test_the_demo_s_container_writes_its_histogram(sandbox, tmp_path):
    image = build_demo_image(tmp_path / "image.tar")
    program = ContainerProgram(image, tmp_path / "image.tar", args=("/inputs/data",))
    job = execution(tmp_path, program, inputs=[data_input(tmp_path)])

    report = run(sandbox, job).report
    found = collect(job.outputs, tmp_path / "collected", LIMITS)
    sandbox.release(job)

    assert (report.reason, report.exit_code) == (Reason.NONE, 0)
    assert report.stdout == b"9 bytes, 9 different values\n"
    assert [item.path for item in found] == ["histogram.txt"]
    assert (tmp_path / "collected" / "histogram.txt").read_text().startswith("0a 1\n63 1\n")


def test_the_probe_proves_the_profile(sandbox):
    probe = sandbox.probe()

    assert probe.usable, probe
    assert {check.name for check in probe.checks} >= {"memory", "disk", "pids", "wall", "CapEff", "reaches-network"}


def test_the_gvisor_tier_proves_its_limits_or_says_what_is_missing(docker_engine):
    probe = containers("test-gvisor", docker_engine, "runsc").probe()

    assert probe.tier == "gvisor"
    assert probe.usable == all(check.held for check in probe.checks) or not probe.checks
    assert probe.usable or probe.problem


def test_known_escapes_are_refused_unless_they_are_accepted_and_then_stand_in_the_receipt(
    docker_engine, hostile, tmp_path
):
    job = execution(tmp_path, container(hostile, "done"))
    accepting = containers("test-escapes", docker_engine)
    report = run(accepting, job).report
    accepting.release(job)
    accepted = report.runtime["acceptedEscapes"]
    refusing = DockerSandbox("test-escapes", base_url=docker_engine, accept_escapes=accepted[1:])

    problem = refusing.probe().problem

    # an engine without any is used as it is
    assert [name for name in accepted if name in problem] == accepted[:1]
    if accepted:
        with pytest.raises(SandboxUnavailable, match="accept_escapes"):
            run(refusing, execution(tmp_path, container(hostile, "done"), name="refused"))


def test_without_an_engine_the_probe_says_how_to_get_one(tmp_path):
    sandbox = DockerSandbox("nobody", base_url=f"unix://{tmp_path}/no.sock")

    assert "install" in sandbox.probe().problem
    assert sandbox.reap(set()) == []


def test_the_receipt_shows_what_the_engine_applied_and_no_path_of_the_host(sandbox, hostile, tmp_path):
    job = execution(tmp_path, container(hostile, "done"))

    runtime = run(sandbox, job).report.runtime
    sandbox.release(job)

    assert runtime["applied"]["host"]["NetworkMode"] == "none"
    assert runtime["applied"]["host"]["CapDrop"] == ["ALL"]
    assert runtime["profile"] == "insula/container/2"
    assert str(tmp_path) not in json.dumps(runtime)


def test_the_job_s_own_environment_and_directory(sandbox, hostile, tmp_path):
    job = execution(tmp_path, container(hostile, "environment", env=(("A", "1"), ("TZ", "Asia/Tokyo"))))

    said = run(sandbox, job).report.stdout.decode()
    sandbox.release(job)

    assert "env A=1\n" in said
    assert "env TZ=Asia/Tokyo\n" in said
    assert "env SOURCE_DATE_EPOCH=946684800\n" in said


def test_an_image_that_is_not_here_is_never_pulled(sandbox, tmp_path):
    with pytest.raises(SandboxUnavailable) as caught:
        sandbox.run(execution(tmp_path, ContainerProgram("sha256:" + "5" * 64)), never)

    assert caught.value.reason == Reason.IMAGE_NOT_AVAILABLE


def test_an_image_that_a_job_s_archive_brought_goes_with_it(sandbox, api, hostile, tmp_path):
    job = execution(tmp_path, container(hostile, "done"))

    report = run(sandbox, job).report
    sandbox.release(job)

    assert report.reason == Reason.NONE
    with pytest.raises(docker.errors.ImageNotFound):
        api.inspect_image(hostile.image)


@pytest.mark.parametrize("brings", [False, True], ids=["no archive", "another image's archive"])
def test_abuse_an_image_of_another_job_s_archive_is_as_good_as_not_here(
    brings, sandbox, api, hostile, abuse_image, tmp_path
):
    """The archive may be its requester's private input: who names its digest only has not shown that he may read it."""
    first = execution(tmp_path, container(hostile, "sleep"), limited(wall_seconds=30), name="first")
    seen = []

    def meanwhile():
        if not any(box["ImageID"] == hostile.image for box in api.containers()):
            return None
        archive = abuse_image.archive if brings else None
        second = execution(tmp_path, ContainerProgram(hostile.image, archive, args=("done",)), name="second")
        try:
            seen.append(sandbox.run(second, never).reason)
        except SandboxUnavailable as exc:
            seen.append(exc.reason)
        return "seen enough"

    with pytest.raises(JobCancelled):
        sandbox.run(first, meanwhile)
    sandbox.release(first)

    assert seen == [Reason.PROGRAM_INVALID if brings else Reason.IMAGE_NOT_AVAILABLE]


def test_an_image_that_the_operator_loaded_is_for_every_job_and_stays(sandbox, api, operators_image, hostile, tmp_path):
    for name, archive in (("bare", None), ("brought", hostile.archive)):
        job = execution(tmp_path, ContainerProgram(operators_image, archive, args=("done",)), name=name)
        assert run(sandbox, job).report.reason == Reason.NONE
        sandbox.release(job)

    assert api.inspect_image(operators_image)["Id"] == operators_image


def test_two_jobs_that_bring_one_image_do_not_take_it_from_each_other(sandbox, api, hostile, tmp_path):
    """The one ends between the other's look at the image and its start."""
    first = execution(tmp_path, container(hostile, "done"), name="first")
    given = data_input(tmp_path)

    class Source(type(given.source)):
        def lstat(self):
            api.remove_image(f"insula-job:{hostile.image.removeprefix('sha256:')}")
            return super().lstat()

    inputs = [InputMount(Source(given.source), given.target)]
    second = execution(tmp_path, container(hostile, "done"), inputs=inputs, name="second")

    for job in (first, second):
        assert run(sandbox, job).report.reason == Reason.NONE
        sandbox.release(job)


@pytest.mark.parametrize("marked", [True, False], ids=["marked", "before it was marked"])
def test_an_image_that_a_crash_left_is_removed_at_the_next_start(marked, docker_engine, api, operators_image, tmp_path):
    sandbox = containers("test-docker", docker_engine, state=tmp_path / "state")
    image = operators_image.removeprefix("sha256:")
    if marked:
        api.tag(operators_image, "insula-job", image)
    else:
        (tmp_path / "state").mkdir()
        (tmp_path / "state" / f"{image}.image").touch()

    sandbox.reap(set())

    with pytest.raises(docker.errors.ImageNotFound):
        api.inspect_image(operators_image)
    assert not list((tmp_path / "state").glob("*"))


def test_an_archive_of_another_image_is_an_invalid_program(sandbox, hostile, tmp_path):
    program = ContainerProgram("sha256:" + "6" * 64, hostile.archive, args=("done",))

    report = run(sandbox, execution(tmp_path, program)).report

    assert (report.reason, report.exit_code) == (Reason.PROGRAM_INVALID, 0)
    assert hostile.image in report.detail


def with_config(source, target, **changes):
    """The archive `source` with other settings in its image's config; the new id."""
    import hashlib

    with tarfile.open(source) as archive:
        data = {member.name: archive.extractfile(member).read() for member in archive}
    (manifest,) = json.loads(data.pop("manifest.json"))
    config = json.loads(data.pop(manifest["Config"]))
    config["config"].update(changes)
    raw = json.dumps(config).encode()
    digest = hashlib.sha256(raw).hexdigest()
    data |= {f"{digest}.json": raw, "manifest.json": json.dumps([manifest | {"Config": f"{digest}.json"}]).encode()}
    with tarfile.open(target, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in data.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return f"sha256:{digest}"


def test_an_image_with_a_volume_is_refused(sandbox, hostile, tmp_path):
    image = with_config(hostile.archive, tmp_path / "volume.tar", Volumes={"/data": {}})

    report = run(sandbox, execution(tmp_path, ContainerProgram(image, tmp_path / "volume.tar"))).report

    assert (report.reason, "volumes" in report.detail) == (Reason.PROGRAM_INVALID, True)


def test_an_image_s_health_check_user_and_ports_have_no_effect(sandbox, hostile, tmp_path):
    image = with_config(
        hostile.archive,
        tmp_path / "odd.tar",
        Healthcheck={"Test": ["CMD", "/hostile", "fill"], "Interval": 10**9},
        User="0:0",
        ExposedPorts={"80/tcp": {}},
        StopSignal="SIGWINCH",
    )
    job = execution(tmp_path, ContainerProgram(image, tmp_path / "odd.tar", args=("privileges",)))

    report = run(sandbox, job).report
    sandbox.release(job)

    assert (report.reason, report.stdout) == (Reason.NONE, b"refused\n")


def test_a_program_that_the_image_lacks_ends_with_an_error_of_the_job(sandbox, hostile, tmp_path):
    program = ContainerProgram(hostile.image, hostile.archive, entrypoint=("/nothing",))
    job = execution(tmp_path, program)

    report = run(sandbox, job).report
    sandbox.release(job)

    assert report.reason in (Reason.PROGRAM_INVALID, Reason.EXIT_NON_ZERO)


def test_an_image_without_a_command_is_an_invalid_program(sandbox, hostile, tmp_path):
    image = with_config(hostile.archive, tmp_path / "mute.tar", Entrypoint=None)
    job = execution(tmp_path, ContainerProgram(image, tmp_path / "mute.tar"))

    report = run(sandbox, job).report
    sandbox.release(job)

    assert report.reason == Reason.PROGRAM_INVALID


def test_a_cancelled_job_s_container_is_gone(sandbox, hostile, tmp_path, api):
    job = execution(tmp_path, container(hostile, "loop"), name="cancelled")

    def once_running():
        mine = api.containers(filters={"label": "insula.execution=cancelled"})
        return "lease lost" if mine and mine[0]["State"] == "running" else None

    with pytest.raises(JobCancelled, match="lease lost"):
        sandbox.run(job, once_running)
    sandbox.release(job)

    assert api.containers(all=True, filters={"label": "insula.node=test-docker"}) == []


def test_reaping_takes_what_a_crash_left_and_leaves_the_living_and_others(docker_engine, operators_image, api):
    seeded = containers("test-reap", docker_engine)
    for node, name in (("test-reap", "dead"), ("test-reap", "alive"), ("test-other", "theirs")):
        labels = {"insula.node": node, "insula.execution": name}
        made = api.create_container(operators_image, ["loop"], labels=labels, network_disabled=True)
        api.start(made["Id"])

    gone = seeded.reap({"alive"})

    left = [box["Labels"]["insula.execution"] for box in api.containers(all=True, filters={"label": "insula.node"})]
    assert "dead" in gone
    assert not {"alive", "theirs"} & set(gone)
    assert sorted(left) == ["alive", "theirs"]
    assert containers("test-other", docker_engine).reap(set()) == ["theirs"]
    assert seeded.reap(set()) == ["alive"]
    assert mounts.quota_mounts("test-reap") == []


def test_outputs_lie_behind_a_quota_until_they_are_released(sandbox, hostile, tmp_path):
    needs_root()
    job = execution(tmp_path, container(hostile, "special"), name="quota")

    run(sandbox, job)

    assert "quota" in [mount.execution for mount in mounts.quota_mounts("test-docker")]
    with pytest.raises(OutputUnsafe, match="FIFO"):
        collect(job.outputs, tmp_path / "collected", LIMITS)
    sandbox.release(job)
    sandbox.release(job)
    assert mounts.quota_mounts("test-docker") == []
    assert list(job.outputs.iterdir()) == []


def test_outputs_too_large_for_memory_are_watched_on_the_disk(sandbox, hostile, tmp_path):
    """The fence of a node that cannot mount: files are limited each, all together are measured."""
    job = execution(tmp_path, container(hostile, "files"), limited(disk_bytes=2 * 2**30, output_files=50))

    ran = run(sandbox, job)
    sandbox.release(job)

    assert ran.report.runtime["outputs"] == "watched folder"
    assert ran.report.reason == Reason.FILES_LIMIT


def test_the_processor_limit_holds(sandbox, hostile, tmp_path):
    """A tenth of a core for a second of wall time: the loop gets nowhere near a second of processor time."""
    job = execution(tmp_path, container(hostile, "loop"), limited(cpu_millis=100, wall_seconds=1))

    began = time.monotonic()
    report = run(sandbox, job).report
    sandbox.release(job)

    assert report.reason == Reason.WALL_LIMIT
    assert report.runtime["applied"]["host"]["NanoCpus"] == 100_000_000
    assert time.monotonic() - began < 6


def test_two_archives_of_one_binary_are_the_same_image(hostile, tmp_path):
    binary = tmp_path / "binary"
    binary.write_bytes(b"\x7fELF and so on")

    assert build_image_archive(binary, tmp_path / "a.tar") == build_image_archive(binary, tmp_path / "b.tar")
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
