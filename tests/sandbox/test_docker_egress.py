"""A container with a way out: the proxy is there before its first instruction, and there is nothing beside it."""

import hashlib
import os
import signal
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.demo.image import build_image_archive
from bridge.demo.programs.build import compile_c, native_target
from executor.audit.egressrules import EgressRules
from executor.egress.child import PROXY_OWNER
from executor.egress.gate import Gates
from executor.protocol.network import Destination
from executor.protocol.reasons import Reason
from executor.sandbox.docker import DockerSandbox
from executor.sandbox.escapes import names
from executor.sandbox.types import ContainerProgram, InputMount, JobCancelled, SandboxUnavailable
from tests.chain_nodes import wait_for
from tests.docker_engine import missing_engine
from tests.egress_child import BOOTSTRAP
from tests.egress_kit import HOST, WebServer, hello, serving
from tests.sandbox.kit import execution, limited, never

pytestmark = pytest.mark.docker
LIMITS = limited(log_bytes=65536)


@pytest.fixture(scope="session")
def image(tmp_path_factory):
    folder = tmp_path_factory.mktemp("egress")
    compile_c(Path(__file__).parent / "programs" / "egress.c", folder / "egress", native_target())
    archive = folder / "egress.tar"
    return build_image_archive(folder / "egress", archive, "egress"), archive


@pytest.fixture
def sandbox(docker_engine):
    if os.geteuid() != 0:
        missing_engine("a job's network namespace is entered by root only")
    made = DockerSandbox("test-egress", base_url=docker_engine, accept_escapes=names())
    yield made
    made.reap(set())


@pytest.fixture
def web():
    with WebServer().running() as server:
        server.answers["/"] = (200, {}, b"hello from outside")
        yield server


class Job:
    """One execution with a way out to some ports of HOST."""

    def __init__(self, sandbox, image, folder, *ports, name="job-1"):
        self.sandbox, self.image, self.folder, self.name = sandbox, image, folder, name
        self.gate = Gates(EgressRules(), BOOTSTRAP).gate([Destination(HOST, tuple(sorted(ports)))])

    def run(self, *args, data=b"", cancelled=never, limits=LIMITS):
        """The report and the record."""
        (self.folder / "data").write_bytes(data)
        inputs = [InputMount(self.folder / "data", "/inputs/data")]
        program = ContainerProgram(*self.image, args=args)
        made = execution(self.folder, program, limits, inputs, self.name)
        made = replace(made, network=self.gate)
        try:
            report = self.sandbox.run(made, cancelled)
            return report, self.gate.close()
        finally:
            self.gate.close()
            self.sandbox.release(made)


@pytest.fixture
def job(sandbox, image, tmp_path):
    return lambda *ports, **more: Job(sandbox, image, tmp_path, *ports, **more)


def get(port, host=HOST):
    return f"GET http://{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()


def test_a_job_reaches_what_it_was_granted_from_its_first_instruction_on(job, web):
    report, record = job(web.port).run("say", data=get(web.port))

    assert (report.reason, report.exit_code) == (Reason.NONE, 0)
    assert report.stdout.endswith(b"hello from outside")
    (row,) = record["exchanges"]
    assert (row["host"], row["status"], row["bytesIn"]) == (HOST, 200, 18)
    assert row["responseSha256"] == hashlib.sha256(b"hello from outside").hexdigest()
    assert report.runtime["applied"]["host"]["NetworkMode"].startswith("container:")


def test_a_tunnel_out_of_a_container_is_written_down(job):
    def attend(connection):
        connection.recv(2**16)
        connection.sendall(b"\x16 what looks like TLS")

    with serving(attend) as port:
        connect = f"CONNECT {HOST}:{port} HTTP/1.1\r\nHost: {HOST}:{port}\r\n\r\n".encode()
        report, record = job(port).run("say", data=connect + hello(HOST))

    assert report.stdout.endswith(b"what looks like TLS")
    assert record["exchanges"][0]["kind"] == "tunnel"


def test_the_job_is_told_of_the_proxy_and_has_its_own_loopback(job):
    report, record = job(80).run("own")

    assert (report.exit_code, report.stdout) == (0, b"http://127.0.0.1:3128\n")
    assert record == {"exchanges": [], "omitted": 0}


@pytest.mark.parametrize(
    ("host", "granted"),
    [("other.example.org", False), ("127.0.0.1", True), ("inner.example.org", False)],
    ids=["abuse another host container", "abuse an address container", "abuse a name of a private address container"],
)
def test_what_was_not_granted_is_not_reached(job, web, host, granted):
    report, record = job(web.port).run("say", data=get(web.port, host))

    assert report.stdout.startswith(b"HTTP/1.1 403 ")
    assert web.requests == []
    assert record["exchanges"][0]["refused"]


def test_abuse_there_is_nothing_beside_the_proxy_container(job, web):
    """Direct connections, the host's gateway and loopback, raw sockets, the proxy's own port."""
    with socket.create_server(("0.0.0.0", 0)) as listener:
        port = listener.getsockname()[1]
        report, _ = job(web.port).run("facts", own_address(), str(port))

    said = dict(line.split(" ") for line in report.stdout.decode().splitlines())
    assert said.pop("proxy") == "yes"
    assert (said.pop("interfaces"), said.pop("routes")) == ("1", "0")
    assert said == dict.fromkeys(said, "no")
    assert len(said) == 12


def own_address():
    """An address of this machine that is not loopback, where it has one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as look:
        try:
            look.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return "127.0.0.1"
        return look.getsockname()[0]


def test_abuse_another_jobs_namespace_is_not_this_ones_container(job, web, tmp_path):
    """Two jobs at once: what one has on loopback the other does not see."""
    seen = []

    def look():
        if not seen:
            (tmp_path / "second").mkdir()
            other = Job(first.sandbox, first.image, tmp_path / "second", web.port, name="job-2")
            report, _ = other.run("facts", "127.0.0.1", "8080")
            seen.append(report.stdout.decode())
        return "enough"

    first = job(web.port)
    with pytest.raises(JobCancelled):
        first.run("hold", cancelled=look)

    assert "host-loopback no\n" in seen[0]


def test_a_job_that_holds_its_connection_open_ends_at_its_wall_limit(job):
    report, record = job(80).run("hold", limits=limited(wall_seconds=1))

    assert report.reason == Reason.WALL_LIMIT
    assert record["exchanges"] == []


def test_nothing_is_left_of_a_job_with_a_way_out(job, sandbox):
    job(80).run("own")

    assert sandbox.reap(set()) == []
    assert proxies() == []


def test_the_holder_of_a_namespace_is_reaped_with_its_job(job, docker_engine):
    """As a node does that starts again after a crash."""
    found = []

    def look():
        if not found:
            found.append(DockerSandbox("test-egress", base_url=docker_engine, accept_escapes=names()).reap(set()))

    with pytest.raises(SandboxUnavailable):
        job(80).run("hold", cancelled=look)

    assert found == [["job-1"]]


def test_the_proxy_has_given_up_roots_rights(job):
    found = []

    def look():
        if not found:
            found.extend(Path(f"/proc/{pid}/status").read_text() for pid in proxies())
        return "enough"

    with pytest.raises(JobCancelled):
        job(80).run("hold", cancelled=look)

    (status,) = found
    facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert facts["Uid"].split() == [str(PROXY_OWNER)] * 4
    assert facts["Gid"].split() == [str(PROXY_OWNER)] * 4
    assert facts["Groups"].strip() == ""
    assert facts["CapEff"] == facts["CapPrm"] == "0" * 16
    assert facts["NoNewPrivs"].strip() == "1"


def test_a_run_whose_proxy_died_counts_for_nothing(job):
    def kill():
        for pid in proxies():
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: proxies() == [], 10, "the end of the proxy")

    with pytest.raises(SandboxUnavailable) as caught:
        job(80).run("hold", cancelled=kill, limits=limited(wall_seconds=1))

    assert caught.value.reason == Reason.NODE_FAULT


def proxies():
    """Living processes of proxies that this process started."""
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                status = (path / "status").read_text()
                command = (path / "cmdline").read_bytes()
            except OSError:
                continue
            if b"egress_child" in command and f"PPid:\t{os.getpid()}\n" in status and "State:\tZ" not in status:
                found.append(int(path.name))
    return found


def test_gvisor_takes_no_network(docker_engine, image, tmp_path):
    made = DockerSandbox("test-egress", "runsc", base_url=docker_engine, accept_escapes=names())
    job = execution(tmp_path, ContainerProgram(*image, args=("own",), runtime="runsc"))

    with pytest.raises(SandboxUnavailable, match="no network"):
        made.run(replace(job, network=Gates(EgressRules()).gate([])), never)
    made.release(job)
