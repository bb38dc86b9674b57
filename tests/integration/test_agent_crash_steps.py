"""kill -9 of the node at every step of an execution: afterwards one signature, nothing unreviewed, nothing left."""

import contextlib
import json
import signal
from dataclasses import dataclass

import docker
import pytest

from executor.agent.review import open_review
from executor.agent.service import node_status
from executor.content.importer import import_bytes
from executor.protocol.leases import Phase
from executor.protocol.signing import Key
from executor.protocol.wire import Status
from executor.sandbox import mounts
from tests.agent_kit import killed_at_the_end, new_node
from tests.agent_twin import Fault, order
from tests.sandbox.kit import abuse_image

__all__ = ["abuse_image"]
pytestmark = [pytest.mark.docker, pytest.mark.timeout(180)]

REVIEWER = Key.from_hex(f"{11:064x}")
NODE = "test-crash-steps"

#: the node as a process that dies, by its own hand, when it logs a certain step; its limits are proved elsewhere
PROCESS = """
import os, signal, sys, threading
from pathlib import Path
import structlog
from executor.agent.service import run_node
from executor.sandbox.docker import DockerSandbox
from executor.sandbox.escapes import names
from executor.sandbox.types import Probe

folder, engine, node, step = sys.argv[1:]

class Proved(DockerSandbox):
    def probe(self, cancelled=None):
        return Probe("container", usable=True, version="", problem="")

def dies(logger, name, event):
    if step and f"{event['event']} {event.get('phase', '')}".strip() == step:
        os.kill(os.getpid(), signal.SIGKILL)
    return event

structlog.configure(processors=[dies, structlog.processors.KeyValueRenderer()])
sandbox = Proved(node, base_url=engine, accept_escapes=names(), state=Path(folder) / "containers")
run_node(Path(folder), threading.Event(), [sandbox])
"""


@dataclass(frozen=True)
class Step:
    """log: the line at which the node dies; empty: it is killed when `seen` is. approves: what the reviewer says."""

    log: str = ""
    seen: str = ""
    args: tuple[str, ...] = ("named", "answer")
    approves: bool | None = None
    is_out: bool = False  # the output was released before the kill


STEPS = {
    "begun": Step("lease taken"),
    "the image is fetched": Step("fetched"),
    "running": Step("phase running"),
    "the container runs": Step(seen="container", args=("share",)),
    "quarantined": Step("phase quarantined"),
    "held": Step("phase held", approves=True),
    "held, then rejected": Step("phase held", approves=False),
    "approved": Step("phase approved", approves=True),
    "rejected": Step("phase rejected", approves=False),
    "released": Step("phase released", is_out=True),
    "released by a reviewer": Step("phase released", approves=True, is_out=True),
    "signed": Step("signed", is_out=True),
    "signed after a rejection": Step("signed", approves=False),
    "uploaded": Step("uploaded", is_out=True),
    "delivered, and the answer is lost": Step(seen="attestation", is_out=True),
    "ended": Step("lease ended", is_out=True),
}


@pytest.fixture
def api(docker_engine):
    with contextlib.closing(docker.APIClient(base_url=docker_engine, version="auto", timeout=30)) as client:
        yield client


@pytest.fixture
def folder(tmp_path, twin):
    new_node(twin, tmp_path / "node", tiers=("container",))
    return tmp_path / "node"


def process(folder, engine, step=""):
    return killed_at_the_end(PROCESS, folder, engine, NODE, step)


def boxes(api):
    return api.containers(all=True, filters={"label": f"insula.node={NODE}"})


def decide(twin, folder, approve):
    """The reviewer's word, once the output is held."""

    def listed():
        with open_review(folder) as review:
            return [found for found in review.listing() if "id" in found]

    (found,) = twin.wait_for(listed)
    with open_review(folder) as review:
        review.decide(review.find(found["id"]), approve, 0 if approve else 300, REVIEWER)


def until_it_dies(step, twin, folder, api, child):
    if step.approves is not None and step.log != "phase held":
        decide(twin, folder, step.approves)
    if step.seen == "container":
        twin.wait_for(lambda: [box for box in boxes(api) if box["State"] == "running"])
        child.kill()
    elif step.seen == "attestation":
        twin.wait_for(lambda: twin.attested)
        child.kill()
    child.wait(60)


def left_over(folder, api):
    """What must all be nothing at the end."""
    return {
        "executions": [path.name for path in (folder / "executions").iterdir()],
        "keys": [path.name for path in (folder / "quarantine-keys").rglob("*.key")],
        "written down": [path.name for path in (folder / "containers").glob("*")],
        "containers": [box["Id"] for box in boxes(api)],
        "mounts": [mount.execution for mount in mounts.quota_mounts(NODE)],
        "running": node_status(folder)["running"],
    }


@pytest.mark.parametrize("name", STEPS)
def test_kill_9_of_the_node(name, twin, folder, api, docker_engine, abuse_image):
    step = STEPS[name]
    if step.approves is not None:
        rules = f'[release]\nmode = "person"\nsigners = {json.dumps([REVIEWER.address])}\n'
        (folder / "policy.toml").write_text(rules)
    archive = import_bytes(twin.blocks, abuse_image.archive.read_bytes())
    engine = {"type": "docker", "image": abuse_image.id, "archive": str(archive), "args": list(step.args)}
    work = order({"version": "insula/v1", "engine": engine})
    if step.seen == "attestation":
        twin.faults["/attestation"] = Fault(cut_after=0)

    with process(folder, docker_engine, step.log) as child:
        twin.offer(work, token=1)
        until_it_dies(step, twin, folder, api, child)
        assert child.returncode == -signal.SIGKILL
    if not step.is_out:
        assert not list(twin.received), "something left the node before it was released"
        assert twin.attested == []

    twin.heartbeats.clear()
    before = len(twin.attested)  # what was delivered before the kill is delivered again
    with process(folder, docker_engine):
        if step.log == "phase held":
            twin.wait_for(lambda: any(beat.phase is Phase.HELD for beat in twin.heartbeats), 60)
            assert not list(twin.received)
            decide(twin, folder, step.approves)
        elif step.approves is None or "signed" in step.log or "released" in step.log:
            twin.offer(work, token=2, attempt=2)
        twin.wait_for(lambda: len(twin.attested) > before, 60)
        twin.wait_for(lambda: not any(left_over(folder, api).values()), 60)

    assert len({(one.outcome, one.receipt, one.signature, one.log_size) for one in twin.attested}) == 1
    assert node_status(folder)["signed"] == 1
    status = Status.WITHHELD if step.approves is False else Status.SUCCEEDED
    assert {one.decoded().status for one in twin.attested} == {status}
    assert bool(list(twin.received)) == (status == Status.SUCCEEDED)
    assert not any(left_over(folder, api).values())
