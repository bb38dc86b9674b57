"""What anybody may read, and the gateway: what is public, what looks as if it were not there."""

import json

import pytest

from bridge.jobs import JobState
from executor.content.car import CarLimits, CarParser
from executor.content.importer import import_listing
from executor.content.limits import TreeLimits
from executor.protocol.bundle import Bundle
from executor.protocol.cid import RAW, Cid
from executor.protocol.reasons import Reason
from executor.protocol.wire import Outcome, Status
from tests.api_kit import serving
from tests.bridge_kit import CHAIN_ID, CONTRACT, RELAYER, Bridge, attested, order_of, spec_bytes, success


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


def tree(bridge):
    """A directory of two files in the store, private."""
    return import_listing(bridge.store, {"a": b"one", "b/c": b"two"}, TreeLimits(max_bytes=100))


def blocks_of(data):
    parser = CarParser(CarLimits(total_bytes=2**20))
    blocks = parser.feed(data)
    parser.finish()
    return parser.roots, dict(blocks)


def test_status_says_which_bridge_this_is(api, bridge):
    bridge.request(order_of())

    status = api.get("/v1/status").json()

    assert (status["chainId"], status["contract"], status["relayer"]) == (CHAIN_ID, CONTRACT, RELAYER)
    assert (status["jobs"], status["nodes"], status["scannedBlock"]) == ({"ready": 1}, 0, 110)
    assert status["loops"] == []


def test_health_answers_as_long_as_the_database_can_be_read(api):
    assert api.get("/healthz").json() == {"ok": True}


def test_jobs_are_listed_newest_first_and_by_state(api, bridge):
    bridge.request(order_of(), block=10)
    bridge.request(order_of(), block=11, state=JobState.OBSERVED)

    assert [job["request_id"] for job in api.get("/v1/jobs").json()["jobs"]] == [2, 1]
    assert [job["request_id"] for job in api.get("/v1/jobs?state=ready").json()["jobs"]] == [1]
    assert [job["request_id"] for job in api.get("/v1/jobs?limit=1").json()["jobs"]] == [2]


@pytest.mark.parametrize("query", ["state=lost", "limit=0", "limit=501", "limit=x"])
def test_a_list_of_jobs_that_cannot_be_is_refused(api, query):
    response = api.get(f"/v1/jobs?{query}")

    assert response.status_code == 422
    assert response.json()["field"] in query


def test_a_job_is_found_by_id_and_by_hash(api, bridge):
    job = bridge.request(order_of())

    assert api.get("/v1/jobs/1").json() == api.get(f"/v1/jobs/0x{job.request_hash.hex()}").json()


def test_an_id_that_a_reorg_gave_to_another_request_is_the_one_on_the_chain(api, bridge):
    bridge.request(order_of(ttl=100), request_id=7, state=JobState.READY)
    bridge.clock.now += 1
    gone = bridge.request(order_of(ttl=200), request_id=7, state=JobState.ORPHANED)

    assert api.get("/v1/jobs/7").json()["request_hash"] != f"0x{gone.request_hash.hex()}"
    assert api.get(f"/v1/jobs/0x{gone.request_hash.hex()}").json()["state"] == "orphaned"


@pytest.mark.parametrize(
    ("ref", "status"),
    [("99", 404), (f"0x{'00' * 32}", 404), ("0", 422), ("-1", 422), ("0x12", 422), ("1e3", 422), ("9" * 30, 422)],
)
def test_a_job_that_is_none_is_a_problem(api, ref, status):
    response = api.get(f"/v1/jobs/{ref}")

    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"


def test_an_explanation_names_what_each_connected_node_lacks(api, bridge):
    bridge.request(order_of("site=camera"))
    right, wrong = bridge.node("right", "site=camera"), bridge.node("wrong", "site=harbour")
    small = {"tiers": ()}
    assert bridge.lease(right, "site=camera", **small) is None
    assert bridge.lease(wrong, "site=harbour") is None

    found = api.get("/v1/jobs/1/explain").json()

    assert found["reason"] == "NO_NODE_MATCHES"
    assert [(node["node_id"], node["code"]) for node in found["nodes"]] == [(1, "tier-missing"), (2, "not-vouched")]
    assert "site=camera" in found["nodes"][1]["text"]
    assert "0 of 1 nodes have answered" in found["awaiting"]


def test_an_explanation_without_any_node_says_so(api, bridge):
    bridge.request(order_of())

    assert api.get("/v1/jobs/1/explain").json()["detail"] == "no node is connected"


def test_an_explanation_tells_the_history_of_leases(api, bridge):
    bridge.request(order_of())
    node = bridge.node("a")
    bridge.give_back(node, bridge.lease(node), Reason.INPUT_NOT_FOUND, "the input is not to be had")

    found = api.get("/v1/jobs/1/explain").json()

    assert [(x["state"], x["reason"], x["detail"]) for x in found["leases"]] == [
        ("returned", "INPUT_NOT_FOUND", "the input is not to be had")
    ]
    assert found["nodes"][0]["code"] == "gave-back"
    assert found["reason"] == "ATTEMPTS_EXHAUSTED"


#: state -> words of what it waits for
AWAITED = {
    JobState.OBSERVED: "to be 1 deep; it is 0",
    JobState.ATTESTED: "read back",
    JobState.STORED: "to be 2 deep; it is 0",
    JobState.POSTING: "seen on-chain",
    JobState.POSTED: "final",
    JobState.EXPIRED: "final",
    JobState.CANCELLED: "final",
    JobState.ORPHANED: "come back",
    JobState.FINAL: "nothing",
}


@pytest.mark.parametrize("state", AWAITED)
def test_an_explanation_says_what_is_awaited(api, bridge, state):
    bridge.request(order_of(), state=state, block=110)

    assert AWAITED[state] in api.get("/v1/jobs/1/explain").json()["awaiting"]


#: name -> (order, seconds later, reason)
WAITING = {
    "too late": (order_of(), 3500, "TOO_LATE"),
    "a spec that is not here": (order_of(spec=Cid.of(RAW, b"x").binary, spec_is_cid=True), 0, "SPEC_UNREADABLE"),
    "nobody": (order_of(), 0, "NO_NODE_MATCHES"),
}


@pytest.mark.parametrize("name", WAITING)
def test_an_explanation_gives_the_reason_at_once(api, bridge, name):
    order, later, reason = WAITING[name]
    bridge.request(order)
    bridge.clock.now += later

    assert api.get("/v1/jobs/1/explain").json()["reason"] == reason


def settled(bridge):
    """A job with two answers, of which one stands on-chain."""
    job = bridge.request(order_of(nodes=3, quorum=2))
    nodes = [bridge.node(name) for name in "abc"]
    leases = [bridge.lease(node) for node in nodes]
    for node, lease, content in zip(nodes, leases, (b"result", b"result", b"wrong"), strict=True):
        root = bridge.bring(node, lease, content)
        bridge.answer(node, lease, attested(node.key, lease, success(root)))
    while bridge.dispatcher.step():
        pass
    return job


@pytest.mark.parametrize("state", [s for s in JobState if s not in (JobState.POSTED, JobState.FINAL)])
def test_outputs_and_attestations_are_shown_to_nobody_before_they_stand_on_the_chain(api, bridge, state):
    job = settled(bridge)
    bridge.set_job(job.request_hash, state=state.value)
    secrets = [slot.outcome_hash.hex() for slot in bridge.slots(job.request_hash)]
    secrets += [slot.signature.hex() for slot in bridge.slots(job.request_hash)]
    secrets += [str(Cid.of(RAW, b"result")), str(Cid.of(RAW, b"wrong"))]

    shown = "".join(api.get(f"/v1/jobs{path}").text for path in ("", "/1", "/1/explain", "/1/bundle"))

    assert api.get("/v1/jobs/1/bundle").status_code == 409
    assert [word for word in secrets if word in shown] == []


def test_a_bundle_has_the_answers_that_agree_with_the_chain(api, bridge):
    job = settled(bridge)
    bridge.set_job(job.request_hash, state="posted", settled_tx=b"t" * 32, settled_block_number=120)

    bundle = Bundle.model_validate_json(api.get("/v1/jobs/1/bundle").content)

    assert [item.node_id for item in bundle.attestations] == [1, 2]
    assert bundle.request.request().hash == job.request_hash
    assert bundle.spec == spec_bytes()
    assert Outcome.decode(bundle.outcome) == success(Cid.of(RAW, b"result"))


def test_an_outcome_whose_cid_is_none_is_shown_as_bytes(api, bridge):
    outcome = Outcome(status=Status.SUCCEEDED, output_cid=b"\x01\x02")
    bridge.request(order_of(), state=JobState.POSTED, outcome=outcome.encode())

    assert api.get("/v1/jobs/1").json()["outcome"]["output_cid"] == "0x0102"


def test_an_outcome_of_36_bytes_that_are_no_cid_is_shown_as_bytes(api, bridge):
    outcome = Outcome(status=Status.SUCCEEDED, output_cid=b"\xff" * 36)
    bridge.request(order_of(), state=JobState.POSTED, outcome=outcome.encode())

    assert api.get("/v1/jobs/1").json()["outcome"]["output_cid"] == "0x" + "ff" * 36


def test_nodes_are_listed_while_they_are_connected(api, bridge):
    node = bridge.node("a")
    bridge.lease(node)

    (found,) = api.get("/v1/nodes").json()["nodes"]
    assert (found["node_id"], found["key"]) == (node.node_id, node.key.address)
    bridge.clock.now += 91
    assert api.get("/v1/nodes").json()["nodes"] == []


def test_metrics_count_jobs_and_calls(api, bridge):
    bridge.request(order_of())
    api.get("/v1/jobs/1")

    text = api.get("/metrics").text

    assert 'insula_jobs{state="ready"} 1.0' in text
    assert 'insula_http_calls_total{method="GET",route="/v1/jobs/{ref}",status="200"} 1.0' in text


def test_the_api_describes_itself(api):
    paths = json.loads(api.get("/openapi.json").text)["paths"]

    assert {"/v1/leases", "/v1/jobs/{ref}", "/v1/content", "/ipfs/{cid}"} <= set(paths)


def test_a_public_block_and_what_is_below_it_are_served(api, bridge):
    root = tree(bridge)
    bridge.dispatcher.roots.publish(root, "test")

    raw = api.get(f"/ipfs/{root}?format=raw")
    roots, blocks = blocks_of(api.get(f"/ipfs/{root}?format=car").content)

    assert raw.content == bridge.store.get(root)
    assert raw.headers["content-type"] == "application/vnd.ipld.raw"
    assert "immutable" in raw.headers["cache-control"]
    assert roots == (root,)
    assert len(blocks) == 4
    assert all(cid.matches(block) for cid, block in blocks.items())


def test_one_block_of_a_dag_can_be_asked_for_as_car(api, bridge):
    root = tree(bridge)
    bridge.dispatcher.roots.publish(root, "test")

    _, blocks = blocks_of(api.get(f"/ipfs/{root}?format=car&dag-scope=block").content)

    assert list(blocks) == [root]


def test_the_accept_header_says_which_form_is_wanted(api, bridge):
    root = tree(bridge)
    bridge.dispatcher.roots.publish(root, "test")

    car = api.get(f"/ipfs/{root}", Accept="application/vnd.ipld.car; version=1; order=dfs; dups=n")
    assert car.headers["content-type"] == "application/vnd.ipld.car; version=1; order=dfs; dups=n"
    assert api.get(f"/ipfs/{root}", Accept="text/html, application/vnd.ipld.raw").content == bridge.store.get(root)
    assert api.get(f"/ipfs/{root}", Accept="text/html").status_code == 406


@pytest.mark.parametrize("form", ["raw", "car"])
def test_head_says_the_same_without_a_body(api, bridge, form):
    root = tree(bridge)
    bridge.dispatcher.roots.publish(root, "test")

    got = api.http.get(f"/ipfs/{root}?format={form}")
    head = api.http.head(f"/ipfs/{root}?format={form}")

    assert (head.status_code, head.content) == (200, b"")
    assert (head.headers["content-type"], head.headers["etag"]) == (got.headers["content-type"], got.headers["etag"])


def test_the_probe_of_the_specification_is_answered(api):
    response = api.get("/ipfs/bafkqaaa?format=raw")

    assert (response.status_code, response.content) == (200, b"")


def answer_without_cid(response, cid):
    body = response.text.replace(str(cid), "CID")
    return response.status_code, {k: v for k, v in response.headers.items() if k != "date"}, body


@pytest.mark.parametrize("form", ["raw", "car"])
def test_private_answers_exactly_as_absent(api, bridge, form):
    private, absent = tree(bridge), Cid.of(RAW, b"absent")

    found = [answer_without_cid(api.get(f"/ipfs/{cid}?format={form}"), cid) for cid in (private, absent)]

    assert found[0] == found[1]
    assert found[0][0] == 404


def test_a_block_that_is_public_but_damaged_is_not_served(api, bridge):
    root = tree(bridge)
    bridge.dispatcher.roots.publish(root, "test")
    path = bridge.store._path(root)
    path.chmod(0o600)
    path.write_bytes(b"damaged")

    assert api.get(f"/ipfs/{root}?format=raw").status_code == 404


def test_what_was_public_is_served_no_longer_than_it_is_kept(api, bridge):
    root = tree(bridge)
    bridge.dispatcher.roots.publish(root, "test", bridge.clock.now + 10)
    assert api.get(f"/ipfs/{root}?format=raw").status_code == 200
    bridge.clock.now += 11

    assert api.get(f"/ipfs/{root}?format=raw").status_code == 404


#: CIDs and paths that are none
NO_CIDS = [
    "x",
    "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG",
    "..",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "b" * 5000,
    "%00",
]


@pytest.mark.parametrize("cid", NO_CIDS)
def test_what_is_no_cid_is_refused(api, cid):
    assert api.get(f"/ipfs/{cid}?format=raw").status_code in (404, 422)
