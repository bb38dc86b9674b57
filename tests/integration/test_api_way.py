"""The way of one job over HTTP: lease, heartbeat, input, upload, attestation, outbox, and what the public sees."""

import threading
import time

from bridge.jobs import JobState
from bridge.store.engine import reading
from bridge.store.nodes import nodes_since
from executor.content.blocks import MemoryBlocks
from executor.content.car import export_car, write_car
from executor.content.importer import import_listing
from executor.content.limits import TreeLimits
from executor.protocol.bundle import Bundle
from executor.protocol.cid import RAW, Cid
from executor.protocol.leases import Heartbeat, HeartbeatAnswer, Lease, LeaseReturn, Missing, Phase
from tests.bridge_kit import MODULE, advert, attested, order_of, success


def leased(api, node, *labels):
    response = api.call(node.key, "POST", "/v1/leases", advert("node=admitted", *labels))
    assert response.status_code == 200, response.text
    return Lease.model_validate_json(response.content)


def car(root, *blocks):
    return b"".join(write_car([root], [(Cid.of(RAW, block), block) for block in blocks]))


def test_a_job_goes_from_lease_to_outbox_and_its_output_becomes_public_when_posted(bridge, api):
    bridge.store.put(MODULE, b"module")
    bridge.dispatcher.roots.publish(MODULE, "test")
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


def test_a_waiting_node_gets_a_job_as_soon_as_there_is_one(api, bridge):
    node = bridge.node("a")
    began = time.monotonic()
    got = []
    waiting = threading.Thread(
        target=lambda: got.append(api.call(node.key, "POST", "/v1/leases", advert("node=admitted", wait_seconds=20)))
    )
    waiting.start()
    while not _is_waiting(bridge, node):
        assert time.monotonic() - began < 10
        threading.Event().wait(0.01)
    bridge.clock.now += 1
    job = bridge.request(order_of())
    bridge.dispatcher.step()
    waiting.join(30)

    lease = Lease.model_validate_json(got[0].content)
    assert lease.request_hash == job.request_hash
    assert time.monotonic() - began < 15


def _is_waiting(bridge, node):
    with reading(bridge.engine) as connection:
        return any(n.node_id == node.node_id and n.advert.wait_seconds == 20 for n in nodes_since(connection, 0))


def test_a_node_that_waits_in_vain_hears_so(api, bridge):
    node = bridge.node("a")

    assert api.call(node.key, "POST", "/v1/leases", advert("node=admitted", wait_seconds=0.2)).status_code == 204


def test_a_lease_is_given_back_over_http_and_goes_to_another_node(api, bridge):
    job = bridge.request(order_of())
    first, second = bridge.node("a"), bridge.node("b")
    lease = leased(api, first)
    back = api.call(
        first.key, "POST", f"/v1/leases/{lease.lease_id}/return", LeaseReturn(token=lease.token, reason=400)
    )

    assert back.status_code == 204
    assert leased(api, second).request_hash == job.request_hash


def test_a_large_output_goes_in_several_cars_and_is_resumed_where_it_was_cut(api, bridge):
    bridge.request(order_of())
    node = bridge.node("a")
    lease = leased(api, node)
    leaves = [bytes([i]) * 50_000 for i in range(10)]
    store = MemoryBlocks()
    root = import_listing(store, {f"file {i}": leaf for i, leaf in enumerate(leaves)}, TreeLimits(max_bytes=2**20))
    query = f"root={root}&token={lease.token}"
    path = f"/v1/leases/{lease.lease_id}/content?{query}"
    whole = b"".join(export_car(store, root))

    first = Missing.model_validate_json(api.call(node.key, "PUT", path, whole[: len(whole) // 2]).content)
    assert 0 < len(first.missing) < 10
    rest = [(cid, store.get(cid)) for cid in map(Cid.parse, first.missing)]
    second = api.call(node.key, "PUT", path, b"".join(write_car([root], rest)))

    assert Missing.model_validate_json(second.content).missing == ()
