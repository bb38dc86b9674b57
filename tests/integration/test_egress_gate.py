"""The proxy's process: where it may listen, what it dies with. Network namespaces, without an engine; needs root."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from executor.audit.egressrules import EgressRules
from executor.egress.gate import PORT, Gates
from executor.protocol.network import Destination
from executor.protocol.reasons import Reason
from executor.sandbox.types import SandboxUnavailable
from tests.chain_nodes import wait_for
from tests.docker_engine import missing_engine
from tests.egress_child import BOOTSTRAP
from tests.egress_kit import HOST, WebServer

pytestmark = pytest.mark.docker
ROOT = Path(__file__).resolve().parents[2]
#: a process in a network namespace of its own, with loopback up, that does there what it is told, line by line
INSIDE = """
import ctypes, fcntl, socket, struct, subprocess, sys
assert ctypes.CDLL(None, use_errno=True).unshare(0x40000000) == 0
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as device:
    fcntl.ioctl(device, 0x8914, struct.pack("16sH14x", b"lo", 1))
print("ready", flush=True)
for line in sys.stdin:
    if line.startswith("ip "):
        subprocess.run(line.split(), check=True)
        print("done", flush=True)
        continue
    with socket.create_connection(("127.0.0.1", %d), timeout=20) as client:
        client.sendall(bytes.fromhex(line))
        answer = b""
        while data := client.recv(65536):
            answer += data
        print(answer.hex(), flush=True)
"""


@pytest.fixture(autouse=True)
def rooted():
    if os.geteuid() != 0:
        missing_engine("a network namespace is made by root only")


class Inside:
    def __init__(self):
        command = [sys.executable, "-c", INSIDE % PORT]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"
        self.namespace = os.open(f"/proc/{self.process.pid}/ns/net", os.O_RDONLY)

    def tell(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def say(self, data):
        return bytes.fromhex(self.tell(data.hex()))

    def end(self):
        os.close(self.namespace)
        self.process.stdin.close()
        self.process.wait(20)
        self.process.stdout.close()


@pytest.fixture
def inside():
    made = Inside()
    yield made
    made.end()


def gate(*ports, bootstrap=BOOTSTRAP):
    return Gates(EgressRules(), bootstrap).gate([Destination(HOST, ports or (443,))])


def test_the_proxy_listens_in_the_jobs_namespace_and_connects_from_the_nodes(inside):
    with WebServer().running() as web:
        web.answers["/"] = (200, {}, b"from outside")
        way = gate(web.port)
        way.open(inside.namespace)
        said = inside.say(f"GET http://{HOST}:{web.port}/ HTTP/1.1\r\nHost: {HOST}:{web.port}\r\n\r\n".encode())
        with socket.socket() as look:
            assert look.connect_ex(("127.0.0.1", PORT)) != 0  # not in this one
        record = way.close()

    assert said.endswith(b"from outside")
    assert [row["status"] for row in record["exchanges"]] == [200]
    assert way.close() == {"exchanges": [], "omitted": 0}


def test_a_full_record_fits_through_the_pipe(inside):
    way = Gates(EgressRules(max_exchanges=64), BOOTSTRAP).gate([Destination(HOST, (443,))])
    way.open(inside.namespace)
    request = b"GET http://" + b"a" * 60 + b".example.org/ HTTP/1.1\r\nHost: " + b"a" * 60 + b".example.org\r\n\r\n"
    for _ in range(66):
        inside.say(request)
    record = way.close()

    assert (len(record["exchanges"]), record["omitted"]) == (64, 2)


def test_abuse_the_nodes_own_namespace_is_no_jobs():
    own = os.open("/proc/self/ns/net", os.O_RDONLY)
    way = gate()
    with pytest.raises(SandboxUnavailable, match="the node's own") as caught:
        way.open(own)
    os.close(own)

    assert caught.value.reason == Reason.ENGINE_MISSING
    assert way.close() == {"exchanges": [], "omitted": 0}


def test_abuse_a_namespace_with_another_interface_is_refused(inside):
    assert inside.tell("ip link add other type veth peer name far") == "done"
    way = gate()
    way.open(inside.namespace)  # what is down leads nowhere
    way.close()
    assert inside.tell("ip link set other up") == "done"

    with pytest.raises(SandboxUnavailable, match="lo, other up"):
        gate().open(inside.namespace)


def test_abuse_a_port_that_is_taken_already_is_not_shared(inside):
    first = gate()
    first.open(inside.namespace)
    with pytest.raises(SandboxUnavailable, match="in use"):
        gate().open(inside.namespace)
    first.close()


def test_the_proxy_dies_with_its_node_even_by_kill_9(inside):
    node = f"""
import os, sys
sys.path.append({str(ROOT)!r})
from tests.integration.test_egress_gate import gate
way = gate()
way.open({inside.namespace})
print(way._process._child.pid, flush=True)
sys.stdin.read()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", node], stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=(inside.namespace,)
    )
    proxy = int(process.stdout.readline())
    os.kill(proxy, 0)
    process.send_signal(signal.SIGKILL)
    process.wait(20)
    process.stdin.close()
    process.stdout.close()

    wait_for(lambda: not is_alive(proxy), 20, "the end of the proxy")


def is_alive(pid):
    with contextlib.suppress(OSError):
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return False
