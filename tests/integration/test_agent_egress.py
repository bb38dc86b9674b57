"""A node and a bridge: a job with a way out, from its lease to its receipt. Needs a Docker Engine and root."""

import json
import os
import threading
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bridge.demo.image import build_image_archive
from bridge.demo.programs.build import compile_c, native_target
from executor.agent.service import run_node
from executor.audit.egressrules import EgressRules
from executor.content.importer import import_bytes
from executor.egress.gate import Gates
from executor.protocol.reasons import Reason
from executor.protocol.receipt import parse_receipt
from executor.protocol.wire import Status
from executor.sandbox.docker import DockerSandbox
from executor.sandbox.escapes import names
from executor.sandbox.types import JobCancelled, Probe
from tests.agent_kit import new_node
from tests.agent_twin import order
from tests.docker_engine import docker_engine, missing_engine
from tests.egress_kit import HOST

pytestmark = pytest.mark.docker
PROGRAM = Path(__file__).resolve().parents[1] / "sandbox" / "programs" / "egress.c"
GRANT = f'[[egress.grants]]\nhost = "{HOST}"\n'
#: for a host that is not granted, with words of the job's
REQUEST = b"GET http://secret.example.com/ HTTP/1.1\r\nHost: secret.example.com\r\n\r\n"
__all__ = ["docker_engine"]


class Proved(DockerSandbox):
    """The sandbox itself; its limits are proved in its own tests."""

    def probe(self, cancelled=None):
        return Probe("container", usable=True, version="", problem="")


class CutOff(Proved):
    """A run that is called off after the job has said what it had to say."""

    def run(self, execution, cancelled):
        super().run(execution, cancelled)
        raise JobCancelled("the request was cancelled")


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    folder = tmp_path_factory.mktemp("egress")
    compile_c(PROGRAM, folder / "egress", native_target())
    return build_image_archive(folder / "egress", folder / "egress.tar", "egress"), folder / "egress.tar"


@pytest.fixture
def node(tmp_path, twin, docker_engine):
    """Starts a node with a policy."""
    if os.geteuid() != 0:
        missing_engine("a job's network namespace is entered by root only")
    folder, stop, threads = tmp_path / "node", threading.Event(), []
    new_node(twin, folder, tiers=("container",))

    def start(policy, kind=Proved):
        (folder / "policy.toml").write_text(policy)
        sandbox = kind("agent-egress", base_url=docker_engine, accept_escapes=names())
        threads.append(threading.Thread(target=run_node, args=(folder, stop, [sandbox])))
        threads[0].start()

    yield start
    stop.set()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def job(twin, image, *args, host=HOST):
    digest, archive = image
    spec = {
        "version": "insula/v1",
        "engine": {
            "type": "docker",
            "image": digest,
            "archive": str(import_bytes(twin.blocks, archive.read_bytes())),
            "args": list(args),
        },
        "inputs": [{"cid": str(import_bytes(twin.blocks, REQUEST)), "path": "/inputs/data"}],
        "network": {"allow": [{"host": host, "ports": [443]}]},
    }
    return order(json.dumps(spec).encode())


def egress_of(attested):
    byproducts = parse_receipt(attested.receipt)["predicate"]["runDetails"]["byproducts"]
    return next(one["annotations"] for one in byproducts if one["name"] == "egress")


def test_what_a_job_exchanged_stands_in_its_receipt(twin, node, image):
    node(GRANT)
    twin.offer(job(twin, image, "say"))

    (attested,) = twin.wait_for(lambda: twin.attested, 60)

    assert attested.decoded().status == Status.SUCCEEDED
    told = egress_of(attested)
    assert (told["reproducible"], told["count"], told["omitted"]) == (False, 1, 0)
    (row,) = told["exchanges"]
    assert (row["status"], row["host"], row["refused"]) == (403, "", "the destination is not granted to this job")
    assert b"secret" not in attested.receipt


def test_abuse_the_receipt_of_a_withheld_output_tells_only_how_many_exchanges_there_were(twin, node, image):
    node(f"{GRANT}\n[outputs]\nmax_bytes = 1\n")
    twin.offer(job(twin, image, "say"))

    (attested,) = twin.wait_for(lambda: twin.attested, 60)

    assert attested.decoded().status == Status.WITHHELD
    assert egress_of(attested) == {"reproducible": False, "count": 1}


def test_abuse_what_a_job_exchanged_is_logged_even_where_its_run_is_called_off(twin, node, image):
    with capture_logs() as logs:
        node(GRANT, CutOff)
        twin.offer(job(twin, image, "say"))
        twin.wait_for(lambda: [line for line in logs if line["event"] == "lease ended"], 60)

    (row,) = (line for line in logs if line["event"] == "exchange")
    assert (row["host"], row["status"]) == ("secret.example.com", 403)


@pytest.mark.parametrize(
    ("policy", "host"), [("", HOST), (GRANT, "b.example.org")], ids=["nothing is granted", "something else is granted"]
)
def test_a_job_that_asks_for_more_than_the_policy_grants_is_given_back(twin, node, image, policy, host):
    node(policy)
    twin.offer(job(twin, image, "say", host=host))

    (returned,) = twin.wait_for(lambda: twin.returned, 60)

    assert returned.reason == Reason.POLICY
    assert f"{host}:443" in returned.detail
    assert twin.attested == []


def test_a_node_that_can_make_no_way_out_says_why():
    """Its proxy's process as a user that is nobody: setns is refused."""
    begin = "import os, sys; sys.path.append(sys.argv[1]); from executor.egress.child import main"
    nobody = f"{begin}; os.getuid() or os.setuid(65534); main()"

    problem = Gates(EgressRules(), nobody).problem()

    assert "no network namespace can be made" in problem
    assert "root" in problem
    assert Gates(EgressRules()).problem() == "" or os.geteuid() != 0


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("raise SystemExit(1)", "died"),
        ("import time; time.sleep(60)", "does not answer"),
        ("print('hello', flush=True)", "not itself"),
        ("print('[]', flush=True)", "not itself"),
        ("print('x' * 2_000_000, flush=True); input(); input()", "does not answer"),
    ],
    ids=["dies", "is silent", "talks nonsense", "talks other JSON", "talks without end"],
)
def test_a_proxy_that_is_not_itself_ends_in_a_fault_of_the_node(program, words):
    assert words in Gates(EgressRules(), program, ready_seconds=2.0).problem()
