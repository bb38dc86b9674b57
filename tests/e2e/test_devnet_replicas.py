"""A devnet whose results must be at two places before they go on-chain, and whose Kubo comes late."""

import re
import time
from pathlib import Path

import pytest

from bridge.chain.client import ChainClient
from bridge.demo.content import prepare
from bridge.devnet import net as devnet_net
from bridge.devnet.processes import ProcessGroup
from executor.agent.config import init_node
from executor.content.kubo import Kubo
from executor.content.web import Http
from executor.errors import PeerUnavailable
from executor.protocol.cid import Cid
from executor.protocol.wire import OnChainState
from tests.chain_nodes import wait_for
from tests.e2e.test_devnet_jobs import WAIT, Net

pytestmark = [pytest.mark.e2e, pytest.mark.chain, pytest.mark.timeout(240)]

NOBODY = "http://127.0.0.1:1"


def killed(net):
    """End the bridge by kill -9."""
    child = next(child for child in net.group.children if child.name == "bridge")
    child.process.kill()
    child.process.wait(20)
    net.group.children.remove(child)


def restarted(net, *kubos):
    """The bridge again, with these Kubos and two places."""
    path = Path(net.devnet.folder) / "bridge" / "bridge.toml"
    text = re.sub(r"(?m)^(kubo|replicas) = .*\n", "", path.read_text())
    listed = ", ".join(f'"{address}"' for address in kubos)
    path.write_text(f"{text}kubo = [{listed}]\nreplicas = 2\n")
    devnet_net.start_bridge(net.group, net.devnet)
    wait_for(lambda: answers(net), WAIT, "the bridge to answer")


def answers(net):
    try:
        return net.json("/v1/status")
    except PeerUnavailable:
        return None


def test_a_result_waits_for_its_copy_over_a_kill_9_and_goes_on_chain_when_a_kubo_has_it(tmp_path, kubo):
    folder = tmp_path / "net"
    folder.mkdir()
    with ProcessGroup(folder) as group:
        devnet = devnet_net.start(group, init_node, print)
        prepared = prepare(devnet, folder, with_image=False, clock=time.time())
        with ChainClient(devnet.rpc_url) as client, Http(devnet.bridge_url) as http, Kubo(kubo.api) as daemon:
            net = Net(group, devnet, client, http, prepared)
            killed(net)
            restarted(net, NOBODY)
            request_id, _ = net.order(net.spec(), ttl=devnet_net.MAX_TTL)
            explained = wait_for(lambda: waiting(net, request_id), WAIT, "the job to wait for a copy")
            assert explained["detail"] == "its output is at 1 of 2 places: kubo does not answer"
            assert net.views.result_of(request_id).state == OnChainState.REQUESTED

            killed(net)
            restarted(net, NOBODY, kubo.api)

            assert net.settled(request_id) == OnChainState.FULFILLED
            assert daemon.is_pinned(Cid.from_binary(net.outcome(request_id).output_cid))


def waiting(net, request_id):
    found = net.json(f"/v1/jobs/{request_id}/explain")
    return found if found["reason"] == "COPIES_MISSING" and "kubo" in found["detail"] else None
