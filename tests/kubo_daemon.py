"""A real, current Kubo for tests: daemons of their own, on loopback, without bootstrap peers.

The program is the `ipfs` that INSULA_TEST_IPFS names, else one that `python -m tests.kubo_daemon` builds once from the
sources that tests/kubo/go.sum pins, and keeps in the user's cache (`./dev test` does it). In CI it must be there.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.chain_nodes import wait_for

MODULE = Path(__file__).parent / "kubo"
BUILD_SECONDS = 1800
START_SECONDS = 60
HOW_TO = (
    "tests of Kubo need Go 1.26 or newer and `./dev test` or `python -m tests.kubo_daemon` once, which builds Kubo in "
    "some minutes; or an `ipfs` of Kubo 0.43 that INSULA_TEST_IPFS names"
)


def _cache():
    pinned = hashlib.sha256((MODULE / "go.sum").read_bytes()).hexdigest()[:16]
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "insula" / f"kubo-{pinned}" / "ipfs"


def build():
    """Build the program where it is not there; None where Go is missing. Two processes at once do no harm."""
    target = _cache()
    if target.exists():
        return target
    if shutil.which("go") is None:
        return None
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"ipfs-{os.getpid()}")
    command = ["go", "build", "-mod=readonly", "-trimpath", "-o", str(partial), "github.com/ipfs/kubo/cmd/ipfs"]
    subprocess.run(command, cwd=MODULE, env={**os.environ, "CGO_ENABLED": "0"}, check=True, timeout=BUILD_SECONDS)
    partial.replace(target)
    return target


def program():
    """The `ipfs` to use; the test is skipped, in CI failed, where there is none."""
    found = Path(os.environ.get("INSULA_TEST_IPFS") or _cache())
    if not found.exists():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(HOW_TO)
    return found


@dataclass
class Daemon:
    """A running daemon: its RPC API, its gateway, its repository."""

    ipfs: Path
    repo: Path
    process: subprocess.Popen
    api: str
    gateway: str

    def run(self, *arguments, data=None):
        """Kubo's own command line against this daemon; what it prints."""
        command = [str(self.ipfs), f"--api=/ip4/127.0.0.1/tcp/{self.api.rpartition(':')[2]}", *arguments]
        done = subprocess.run(
            command, check=False, input=data, env=environment(self.repo), capture_output=True, timeout=120
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().strip()

    def stop(self):
        """End it and wait for that."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(30)


def environment(repo):
    """What `ipfs` is started with: this repository, and nothing of the user's."""
    return {"IPFS_PATH": str(repo), "HOME": str(repo), "PATH": os.environ["PATH"], "IPFS_TELEMETRY": "off"}


def init(ipfs, repo, profile):
    """A repository on loopback: any free ports, no bootstrap, no routing, no local discovery, no telemetry."""
    subprocess.run(
        [str(ipfs), "init", "--empty-repo", f"--profile=test,{profile}"],
        env=environment(repo), check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    path = repo / "config"
    config = json.loads(path.read_text())
    config["Routing"] = {"Type": "none"}
    config["AutoConf"] = {"Enabled": False}
    config["DNS"] = {"Resolvers": {}}
    config["Bootstrap"] = []
    config["Ipns"] = {**config.get("Ipns", {}), "DelegatedPublishers": []}
    config["Routing"]["DelegatedRouters"] = []
    config["AutoTLS"] = {"Enabled": False}
    config["Plugins"] = {"Plugins": {"telemetry": {"Disabled": True}}}
    config["Addresses"] = {
        **config["Addresses"],
        "API": "/ip4/127.0.0.1/tcp/0",
        "Gateway": "/ip4/127.0.0.1/tcp/0",
        "Swarm": ["/ip4/127.0.0.1/tcp/0"],
    }
    path.write_text(json.dumps(config))


def start(ipfs, repo, profile="unixfs-v1-2025", *options):
    """A daemon on `repo` (made if it is not there), on a leash: it dies with this process. profile: how it imports."""
    if not (repo / "config").exists():
        repo.mkdir(parents=True, exist_ok=True)
        init(ipfs, repo, profile)
    log = repo / "daemon.log"
    leash = [sys.executable, "-m", "bridge.devnet.leash", str(os.getpid())]
    command = [*leash, str(ipfs), "daemon", "--enable-gc", *options]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env={**os.environ, **environment(repo)}, stdout=output, stderr=output, stdin=subprocess.DEVNULL
        )
    try:
        wait_for(
            lambda: "Daemon is ready" in log.read_text() or process.poll() is not None, START_SECONDS, "the daemon"
        )
    except BaseException:
        process.kill()
        raise
    text = log.read_text()
    if process.poll() is not None:
        pytest.fail(f"the Kubo daemon did not start: {text[-2000:]}")
    api = re.search(r"RPC API server listening on /ip4/127.0.0.1/tcp/(\d+)", text)[1]
    gateway = re.search(r"Gateway server listening on /ip4/127.0.0.1/tcp/(\d+)", text)[1]
    return Daemon(ipfs, repo, process, f"http://127.0.0.1:{api}", f"http://127.0.0.1:{gateway}")


@pytest.fixture(scope="session")
def kubo(tmp_path_factory):
    """One daemon for the whole run."""
    daemon = start(program(), tmp_path_factory.mktemp("kubo"))
    yield daemon
    daemon.stop()


@pytest.fixture(scope="session")
def second_kubo(tmp_path_factory):
    """Another one, of another peer."""
    daemon = start(program(), tmp_path_factory.mktemp("kubo2"))
    yield daemon
    daemon.stop()


def main():
    """Build it. Where that cannot be done, say how; in CI that is a failure."""
    try:
        found = build()
    except (subprocess.SubprocessError, OSError) as exc:
        print(exc, file=sys.stderr)
        found = None
    print(found or HOW_TO)
    return 0 if found or os.environ.get("CI") != "true" else 1


if __name__ == "__main__":
    sys.exit(main())
