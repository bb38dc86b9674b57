"""A Docker Engine for tests: the one that is running, else a private one that is started here and stopped at the end.

Import the fixture `docker_engine` into a conftest; it gives the engine's address. In CI a missing engine is a failure.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import docker
import pytest

RUNSC = shutil.which("runsc")
#: kvm hangs on some nested hosts, systrap is not in every distribution's version: ptrace works wherever tests run
RUNSC_ARGS = ["--platform=ptrace", "--network=none"]
RUNTIMES = {"runsc": {"path": RUNSC, "runtimeArgs": RUNSC_ARGS}} if RUNSC else {}
START_SECONDS = 60
STOP_SECONDS = 30
HOW_TO = (
    "tests marked `docker` need a Docker Engine: start one (its socket or DOCKER_HOST is used), or install the package "
    "docker.io, for gVisor also runsc, and run the tests as root, then they start a private dockerd"
)


def answers(address):
    """Whether an engine is there and answers. The client leaves a socket open where nobody listens: look first."""
    path = Path(address.partition("://")[2])
    with socket.socket(socket.AF_UNIX) as look:
        if not path.is_socket() or look.connect_ex(str(path)) != 0:
            return False
    try:
        with contextlib.closing(docker.APIClient(base_url=address, version="auto", timeout=10)) as api:
            return bool(api.ping())
    except (docker.errors.DockerException, OSError):
        return False


def _start(folder, runtimes=None):
    """dockerd with everything of its own below `folder`, on a leash: it dies with this process."""
    config = {"runtimes": RUNTIMES if runtimes is None else runtimes}
    (folder / "daemon.json").write_text(json.dumps(config))
    address = f"unix://{folder}/docker.sock"
    command = [
        *(sys.executable, "-m", "bridge.devnet.leash", str(os.getpid()), "dockerd"),
        *("--config-file", str(folder / "daemon.json"), "--data-root", str(folder / "data")),
        *("--exec-root", str(folder / "exec"), "--pidfile", str(folder / "pid"), "--host", address),
        *("--bridge", "none", "--iptables=false"),
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + START_SECONDS
    while not answers(address):
        if process.poll() is not None or time.monotonic() > deadline:
            _stop(process)
            return process, None
        time.sleep(0.05)
    return process, address


def _stop(process):
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(STOP_SECONDS)


def missing_engine(why):
    """In CI a failure, elsewhere the tests are left out."""
    text = f"{HOW_TO} ({why})"
    if os.environ.get("CI") == "true":
        pytest.fail(text)
    pytest.skip(text)


def needs_root():
    """For tests of what only root can do: mounts. In CI, where the tests run as root, a failure."""
    if os.geteuid() != 0:
        missing_engine("this test mounts memory, which only root may")


def usual_address():
    """Where an engine of this machine would be."""
    return os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")


def private_engine(runtimes=None):
    """A private engine, with these runtimes or the usual ones; ends the test where none starts. A generator."""
    if shutil.which("dockerd") is None or os.geteuid() != 0:
        missing_engine("no engine answers, and none can be started: no dockerd, or not root")
    # a short path: the name of a Unix socket has at most 107 bytes
    folder = Path(tempfile.mkdtemp(prefix="insula-dockerd-", dir="/tmp"))
    process, address = _start(folder, runtimes)
    try:
        if address is None:
            missing_engine(f"dockerd did not start: {(folder / 'log').read_text()[-2000:]}")
        yield address
    finally:
        _stop(process)
        shutil.rmtree(folder, ignore_errors=True)


def has_runtime(address, name):
    """Whether the engine knows a runtime of this name."""
    with contextlib.closing(docker.APIClient(base_url=address, version="auto", timeout=10)) as api:
        return name in (api.info().get("Runtimes") or {})


@pytest.fixture(scope="session")
def gvisor_engine(docker_engine):
    """The address of an engine with the runtime `runsc`: the usual one, else a private one beside it."""
    if has_runtime(docker_engine, "runsc"):
        yield docker_engine
        return
    if shutil.which("runsc") is None:
        missing_engine("the engine has no runtime runsc, and gVisor is not installed: apt-get install runsc")
    yield from private_engine()


@pytest.fixture(scope="session")
def docker_engine():
    """The address of an engine, such as unix:///var/run/docker.sock."""
    usual = usual_address()
    if answers(usual):
        yield usual
        return
    yield from private_engine()
