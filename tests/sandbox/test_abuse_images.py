"""Attacks by images, by what a job's specification says, and by those who write specifications. Ids carry the tier."""

import contextlib
import json
import threading

import docker
import pytest

from executor.protocol.reasons import Reason
from executor.protocol.spec import InvalidSpec, job_of
from executor.sandbox.collect import collect
from executor.sandbox.tree import OutputUnsafe
from executor.sandbox.types import ContainerProgram, InputMount, SandboxUnavailable
from tests.agent_twin import order
from tests.sandbox.host import Host
from tests.sandbox.images import Member, archive, folder, link
from tests.sandbox.kit import containers, data_input, execution, limited, run

RUNTIMES = {"container": "runc", "gvisor": "runsc"}
#: cap_net_raw+ep, as the kernel keeps it in security.capability (version 2, little-endian)
NET_RAW = b"\x01\x00\x00\x02\x00\x20\x00\x00" + bytes(12)
BASE = [folder("inputs"), folder("outputs"), folder("tmp")]


def program(binary, **changes):
    return Member("abuse", binary, **changes)


#: name -> (the members beside the program, the config, the job's arguments, lines that may be said)
IMAGES = {
    "image-setuid-root": ([Member("suid", mode=0o4755)], {}, ("execute", "/suid")),
    "image-setgid-root": ([Member("sgid", mode=0o2755)], {}, ("execute", "/sgid")),
    "image-file-capabilities": (
        [Member("capable", pax=(("SCHILY.xattr.security.capability", NET_RAW.decode("latin-1")),))],
        {},
        ("execute", "/capable"),
    ),
    "image-user-is-root": ([], {"User": "0:0"}, ("identity",)),
    "image-group-of-root": (
        [
            folder("etc"),
            Member("etc/passwd", b"job:x:65534:0::/:/abuse\n", 0o644),
            Member("etc/group", b"root:x:0:job,65534\n", 0o644),
        ],
        {"User": "job"},
        ("identity",),
    ),
    "image-health-check": ([], {"Healthcheck": {"Test": ["CMD", "/abuse", "fill", "/outputs", "16"]}}, ("identity",)),
    "image-on-build": ([], {"OnBuild": ["RUN /abuse fork-bomb"], "StopSignal": "SIGWINCH"}, ("identity",)),
    "image-ports": ([], {"ExposedPorts": {"80/tcp": {}}}, ("routes",)),
    "image-devices": ([folder("dev"), Member("dev/kvm", b"not a device", 0o666)], {}, ("devices",)),
    "image-world-writable-root": ([folder("etc", 0o777), folder("bin", 0o777)], {}, ("root-write",)),
    "image-working-folder-is-a-descriptor": ([], {"WorkingDir": "/proc/self/fd/7"}, ("climb", "{secret}")),
    "image-working-folder-climbs": ([], {"WorkingDir": "/../../../.."}, ("climb", "{secret}")),
    "image-outputs-is-a-link": ([link("outputs", "/proc")], {}, ("proc-write",)),
    "image-outputs-is-a-link-out": ([link("outputs", "../../../../../../{folder}")], {}, ("identity",)),
    "image-inputs-is-a-link": ([link("inputs", "/sys")], {}, ("sys-write",)),
    "image-tmp-is-a-link": ([link("tmp", "/dev")], {}, ("devices",)),
    "image-proc-is-a-link": ([link("proc", "/outputs")], {}, ("identity",)),
    "image-dev-is-a-link-out": ([link("dev", "../../../../../../{folder}")], {}, ("identity",)),
    "image-sys-is-a-link": ([link("sys", "/tmp")], {}, ("sys-write",)),
    "image-hosts-is-a-link": ([folder("etc"), link("etc/hosts", "{secret}")], {}, ("root-write",)),
    "image-resolv-conf-climbs": ([folder("etc"), link("etc/resolv.conf", "../../../../{secret}")], {}, ("root-write",)),
}
CASES = [(name, tier) for tier in RUNTIMES for name in IMAGES]
EMULATED = {("image-devices", "gvisor"), ("image-tmp-is-a-link", "gvisor")}  # gVisor's own /dev is another one
NAMED = {"suid", "sgid", "capable"}
ENDS = {Reason.NONE, Reason.EXIT_NON_ZERO, Reason.PROGRAM_INVALID}


@pytest.fixture
def engine(request, engine_of):
    return engine_of(request.node.callspec.params.get("tier", "container"))


@pytest.fixture
def api(engine):
    with contextlib.closing(docker.APIClient(base_url=engine, version="auto", timeout=30)) as client:
        yield client


@pytest.fixture
def host(api, tmp_path):
    with contextlib.closing(Host(data_input(tmp_path), "test-images", api)) as found:
        yield found


def members_of(name, binary, words):
    beside, config, args = IMAGES[name]
    members = []
    for one in beside:
        data = binary if one.name in NAMED else one.data
        target = one.link.format(**words)
        members.append(Member(one.name, data, one.mode, one.kind, target, one.pax))
    taken = {one.name.rstrip("/") for one in members}
    return (
        [
            *(one for one in BASE if one.name.rstrip("/") not in taken),
            program(binary),
            *members,
        ],
        config,
        [word.format(**words) for word in args],
    )


@pytest.mark.docker
@pytest.mark.parametrize(("name", "tier"), CASES, ids=[f"{name}-{tier}" for name, tier in CASES])
def test_abuse_by_an_image(name, tier, engine, abuse_image, host, tmp_path):
    words = {"secret": str(host.secret), "folder": str(tmp_path).lstrip("/")}
    members, config, args = members_of(name, abuse_image.binary.read_bytes(), words)
    image = archive(tmp_path / "image.tar", members, Entrypoint=["/abuse"], **config)
    before = sorted(path.name for path in tmp_path.iterdir())
    job = execution(
        tmp_path,
        ContainerProgram(image, tmp_path / "image.tar", args=tuple(args), runtime=RUNTIMES[tier], workdir=""),
        inputs=[host.given],
    )
    sandbox = containers("test-images", engine, RUNTIMES[tier])
    try:
        report = run(sandbox, job).report
        assert report.reason in ENDS, report
        got_through = [line for line in report.stdout.decode().splitlines() if not line.startswith("refused")]
        assert got_through == [] or (name, tier) in EMULATED, report
    except SandboxUnavailable as exc:  # the engine does not make such a container, or says so of its image
        if exc.reason not in (Reason.NODE_FAULT, Reason.IMAGE_NOT_AVAILABLE):
            raise
    finally:
        sandbox.release(job)
        left = sandbox.reap(set())
    assert left == []
    assert host.differences() == []
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*before, "job-1"])


#: name -> (layers, config, words of the refusal)
REFUSED = {
    "image-volume": (lambda binary: [[*BASE, program(binary)]], {"Volumes": {"/data": {}}}, "declares volumes"),
    "image-129-layers": (
        lambda binary: [[*BASE, program(binary)], *([folder(f"layer{n}")] for n in range(128))],
        {},
        "129 layers",
    ),
}


@pytest.mark.docker
@pytest.mark.parametrize("name", REFUSED, ids=[f"{name}-container" for name in REFUSED])
def test_abuse_by_an_image_that_is_refused(name, docker_engine, abuse_image, tmp_path):
    layers, config, words = REFUSED[name]
    image = archive(tmp_path / "image.tar", *layers(abuse_image.binary.read_bytes()), Entrypoint=["/abuse"], **config)
    job = execution(tmp_path, ContainerProgram(image, tmp_path / "image.tar", args=("identity",)))

    report = run(containers("test-images", docker_engine), job).report

    assert report.reason == Reason.PROGRAM_INVALID
    assert words in report.detail


@pytest.mark.docker
@pytest.mark.parametrize("tier", RUNTIMES, ids=[f"layer-path-traversal-{tier}" for tier in RUNTIMES])
def test_abuse_by_a_layer(tier, engine, abuse_image, host, tmp_path):
    """A layer's member that leads out: the engine unpacks it, as root, on the host."""
    target = f"{str(tmp_path).lstrip('/')}/escaped"
    members = [*BASE, program(abuse_image.binary.read_bytes()), Member(f"{'../' * 12}{target}", b"x", 0o644)]
    members += [link("door", "/"), Member(f"door/{target}", b"x", 0o644)]
    image = archive(tmp_path / "image.tar", members, Entrypoint=["/abuse"])
    sandbox = containers("test-images", engine, RUNTIMES[tier])
    job = execution(
        tmp_path, ContainerProgram(image, tmp_path / "image.tar", args=("identity",), runtime=RUNTIMES[tier])
    )

    with contextlib.suppress(SandboxUnavailable):
        run(sandbox, job)
    sandbox.release(job)

    assert not (tmp_path / "escaped").exists()
    assert host.differences() == []


@pytest.mark.parametrize("tier", ["container"], ids=["output-changed-while-read-container"])
def test_abuse_by_a_writer_that_survives(tier, tmp_path):
    """Should a process outlive its sandbox: what is copied while it is written to is not collected."""
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    (outputs / "moving").write_bytes(bytes(32 * 2**20))
    done = threading.Event()

    def writes():
        with (outputs / "moving").open("r+b") as file:
            while not done.is_set():
                file.seek(0)
                file.write(b"x" * 4096)
                file.flush()

    writer = threading.Thread(target=writes)
    writer.start()
    try:
        with pytest.raises(OutputUnsafe, match="changed while it was collected"):
            collect(outputs, tmp_path / "collected", limited(disk_bytes=2**30))
    finally:
        done.set()
        writer.join(10)


def spec(**changes):
    base = {"version": "insula/v1", "engine": {"type": "docker", "image": "sha256:" + "1" * 64}}
    return json.dumps(base | changes).encode()


CID = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"
SPECS = {
    "spec-input-climbs": {"inputs": [{"cid": CID, "path": "/inputs/../etc"}]},
    "spec-input-over-proc": {"inputs": [{"cid": CID, "path": "/proc"}]},
    "spec-input-over-root": {"inputs": [{"cid": CID, "path": "/"}]},
    "spec-input-over-outputs": {"inputs": [{"cid": CID, "path": "/outputs"}]},
    "spec-inputs-twice": {"inputs": [{"cid": CID, "path": "/inputs/a"}, {"cid": CID, "path": "/inputs/a"}]},
    "spec-inputs-overlap": {"inputs": [{"cid": CID, "path": "/inputs/a"}, {"cid": CID, "path": "/inputs/a/b"}]},
    "spec-inputs-below-the-whole": {"inputs": [{"cid": CID, "path": "/inputs"}, {"cid": CID, "path": "/inputs/b"}]},
    "spec-input-newline": {"inputs": [{"cid": CID, "path": "/inputs/a\nb"}]},
    "spec-input-nul": {"inputs": [{"cid": CID, "path": "/inputs/a\0b"}]},
    "spec-privileged": {"privileged": True},
    "spec-network-of-the-host": {"network": "host"},
    "spec-image-by-tag": {"engine": {"type": "docker", "image": "alpine:latest"}},
    "spec-environment-nul": {
        "engine": {"type": "docker", "image": "sha256:" + "1" * 64, "env": {"A\0B": "x"}},
    },
    "spec-working-folder-is-a-descriptor": {
        "engine": {"type": "docker", "image": "sha256:" + "1" * 64, "workdir": "proc/self/fd/7"},
    },
    "spec-limit-of-nothing": {"limits": {"pids": 0}},
    "spec-limit-of-all": {"limits": {"memory_bytes": 2**63}},
}


@pytest.mark.parametrize("name", SPECS, ids=[f"{name}-container" for name in SPECS])
def test_abuse_by_a_specification(name):
    """Refused by every node in the same words, before anything of it is fetched."""
    assert job_of(order(spec()), spec())
    with pytest.raises(InvalidSpec):
        job_of(order(spec(**SPECS[name])), spec(**SPECS[name]))


TARGETS = ("/inputs/../x", "/etc", "/inputs/./x", "/inputs//x", "inputs/x")


@pytest.mark.docker
@pytest.mark.parametrize("target", TARGETS, ids=[f"mount-target-{n}-container" for n in range(len(TARGETS))])
def test_abuse_by_a_mount(target, docker_engine, abuse_image, tmp_path):
    """Behind the specification's own check: the sandbox lays nothing out at such a place."""
    given = data_input(tmp_path)
    program = ContainerProgram(abuse_image.id, abuse_image.archive, args=("identity",))
    job = execution(tmp_path, program, limited(), [InputMount(given.source, target)])

    with pytest.raises(SandboxUnavailable, match="not /inputs or a path below it"):
        run(containers("test-images", docker_engine), job)


def test_abuse_input_that_is_a_link_of_the_node(docker_engine, abuse_image, tmp_path):
    (tmp_path / "link").symlink_to("/etc")
    program = ContainerProgram(abuse_image.id, abuse_image.archive, args=("identity",))
    job = execution(tmp_path, program, limited(), [InputMount(tmp_path / "link", "/inputs/etc")])

    with pytest.raises(SandboxUnavailable, match="holds a link"):
        run(containers("test-images", docker_engine), job)
