"""The way of one job over HTTP: lease, heartbeat, input, upload, attestation, outbox, and what the public sees."""

import pytest

from bridge.jobs import JobState
from executor.content.car import write_car
from executor.protocol.bundle import Bundle
from executor.protocol.cid import RAW, Cid
from executor.protocol.leases import Heartbeat, HeartbeatAnswer, Lease, Missing, Phase
from tests.api_kit import serving
from tests.bridge_kit import MODULE, Bridge, advert, attested, order_of, success


@pytest.fixture
def bridge(tmp_path):
    bridge = Bridge(tmp_path)
    bridge.chain_at(110)
    yield bridge
    bridge.close()


@pytest.fixture
def api(bridge):
    with serving(bridge) as api:
        yield api


def leased(api, node, *labels):
    response = api.call(node.key, "POST", "/v1/leases", advert("node=admitted", *labels))
    assert response.status_code == 200, response.text
    return Lease.model_validate_json(response.content)


def car(root, *blocks):
    return b"".join(write_car([root], [(Cid.of(RAW, block), block) for block in blocks]))


def test_a_job_goes_from_lease_to_outbox_and_its_output_becomes_public_when_posted(bridge, api):
    bridge.store.put(MODULE, b"module")
    job = bridge.request(order_of("site=camera"))
    node = bridge.node("a", "site=camera")
    lease = leased(api, node, "site=camera")
    base = f"/v1/leases/{lease.lease_id}"

    assert lease.request.request().hash == job.request_hash == lease.request_hash
    beat = api.call(node.key, "POST", f"{base}/heartbeat", Heartbeat(token=lease.token, phase=Phase.RUNNING))
    assert HeartbeatAnswer.model_validate_json(beat.content).go_on
    assert b"module" in api.call(node.key, "GET", f"{base}/car/{MODULE}").content

    root = Cid.of(RAW, b"output")
    query = f"root={root}&token={lease.token}"
    lacks = api.call(node.key, "GET", f"{base}/missing?{query}")
    assert Missing.model_validate_json(lacks.content).missing == (str(root),)
    put = api.call(node.key, "PUT", f"{base}/content?{query}", car(root, b"output"))
    assert put.status_code == 200, put.text
    assert Missing.model_validate_json(put.content).missing == ()

    done = api.call(node.key, "POST", f"{base}/attestation", attested(node.key, lease, success(root)))
    assert done.status_code == 204, done.text
    while bridge.dispatcher.step():
        pass
    assert bridge.job(job.request_hash).state is JobState.POSTING
    assert len(bridge.outbox.deliveries) == 1
    assert api.get(f"/ipfs/{root}?format=raw").status_code == 404
    assert api.get("/v1/jobs/1").json()["outcome"] is None

    bridge.set_job(job.request_hash, state="posted", settled_tx=b"t" * 32, settled_block_number=111)
    bridge.dispatcher.step()
    assert api.get(f"/ipfs/{root}?format=raw").content == b"output"
    bundle = Bundle.model_validate_json(api.get("/v1/jobs/1/bundle").content)
    assert [item.node_id for item in bundle.attestations] == [node.node_id]
    assert api.get("/v1/jobs/1").json()["outcome"]["output_cid"] == str(root)
