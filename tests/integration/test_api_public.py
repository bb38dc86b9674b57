"""What anybody may read, and the gateway: what is public, what looks as if it were not there."""

import json

import pytest
from sqlalchemy import insert

from bridge.errors import StaleTransition
from bridge.jobs import JobState
from bridge.settlement import root_label
from bridge.store.engine import transaction
from bridge.store.schema import blocks, events
from executor.content.car import CarLimits, CarParser
from executor.content.importer import import_listing
from executor.content.limits import TreeLimits
from executor.protocol.bundle import Bundle
from executor.protocol.cid import RAW, Cid
from executor.protocol.conversions import conversion_report
from executor.protocol.evidence import Evidence, check_evidence
from executor.protocol.leases import Lease, RequestMessage
from executor.protocol.produced import Producers, check_produced
from executor.protocol.reasons import Reason
from executor.protocol.wire import OnChainState, Outcome, Status
from tests.bridge_kit import (
    CHAIN_ID,
    CONTRACT,
    RELAYER,
    SCOPE,
    attested,
    key_of,
    order_of,
    spec_bytes,
    success,
)

ABSENT = Cid.of(RAW, b"absent")
RESULT = Cid.of(RAW, b"result")
V1BETA = b'{"Engine": "wasm", "Wasm": {"EntryModule": {"StorageSource": "IPFS", "CID": "%b"}}}' % str(ABSENT).encode()


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


#: name -> (fields of the order, its reason where the conversion is refused)
CONVERTED = {
    "a spec that is refused": ({"dialect": 3, "spec": b"Tasks: []"}, "SPEC_MISSING_FIELD"),
    "a spec that becomes a job": ({"dialect": 2, "spec": V1BETA}, None),
}


@pytest.mark.parametrize("name", CONVERTED)
def test_an_explanation_has_the_hash_of_the_report_of_a_converted_spec(api, bridge, name):
    fields, refused = CONVERTED[name]
    order = order_of(**fields)
    bridge.request(order)

    due = conversion_report(order, order.spec)["reportSha256"]
    assert api.get("/v1/jobs/1/explain").json()["conversion"] == {
        "dialect": order.dialect,
        "refused": refused,
        "report_sha256": due,
    }


@pytest.mark.parametrize("fields", [{}, {"dialect": 3, "spec": ABSENT.binary, "spec_is_cid": True}])
def test_an_explanation_of_a_spec_that_is_not_converted_or_not_here_has_no_report(api, bridge, fields):
    bridge.request(order_of(**fields))

    assert api.get("/v1/jobs/1/explain").json()["conversion"] is None


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
    JobState.STORED: "its request to be 2 deep; it is 0",
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


def test_a_stored_job_that_is_deep_enough_awaits_its_handing_over(api, bridge):
    bridge.request(order_of(), state=JobState.STORED, block=105)

    assert api.get("/v1/jobs/1/explain").json()["awaiting"] == "the delivery to be handed to the relayer"


#: name -> (order, seconds later, reason)
WAITING = {
    "too late, and no node would do": (order_of(), 3500, "NO_NODE_MATCHES"),
    "a spec that is not here": (order_of(spec=Cid.of(RAW, b"x").binary, spec_is_cid=True), 0, "SPEC_UNREADABLE"),
    "nobody": (order_of(), 0, "NO_NODE_MATCHES"),
}


@pytest.mark.parametrize("name", WAITING)
def test_an_explanation_gives_the_reason_at_once(api, bridge, name):
    order, later, reason = WAITING[name]
    bridge.request(order)
    bridge.clock.now += later

    assert api.get("/v1/jobs/1/explain").json()["reason"] == reason


def test_near_the_deadline_a_job_that_a_node_fits_is_too_late(api, bridge):
    bridge.request(order_of())
    bridge.clock.now += 3500
    bridge.lease(bridge.node("a"))

    assert api.get("/v1/jobs/1/explain").json()["reason"] == "TOO_LATE"


def review(bridge):
    """The dispatcher has looked at waiting jobs."""
    bridge.clock.now += 5
    while bridge.dispatcher.step():
        pass


def test_a_job_that_expired_keeps_what_it_waited_for(api, bridge):
    job = bridge.request(order_of("site=moon"))
    bridge.clock.now += 3500
    bridge.lease(bridge.node("a"))
    review(bridge)
    ended = {"settled_tx": b"t" * 32, "settled_block_number": 120, "settled_block_hash": b"s" * 32}
    bridge.set_job(job.request_hash, state="expired", chain_state=OnChainState.EXPIRED, **ended)

    found = api.get("/v1/jobs/1/explain").json()

    assert (found["reason"], found["ended"]["how"]) == ("NO_NODE_MATCHES", "expired")
    assert "site=moon" in found["ended"]["why"]
    assert (found["ended"]["nodes"], found["ended"]["block_number"]) == ([], 120)


def test_what_is_kept_of_a_dying_job_is_not_looked_up_again(bridge):
    job = bridge.request(order_of("site=moon"))
    bridge.clock.now += 3500
    bridge.lease(bridge.node("a"))
    review(bridge)
    kept = bridge.job(job.request_hash)

    bridge.clock.now += 91  # by now no node is connected
    review(bridge)

    assert (kept.reason, kept.detail) == (
        Reason.NO_NODE_MATCHES,
        bridge.job(job.request_hash).detail,
    )


def test_a_chain_that_does_not_answer_keeps_nothing_wrong(bridge):
    job = bridge.request(order_of("site=moon"))
    bridge.clock.now += 3500
    bridge.lease(bridge.node("a"))
    bridge.registry.fails = True
    review(bridge)
    assert bridge.job(job.request_hash).reason == 0

    bridge.registry.fails = False
    review(bridge)

    assert bridge.job(job.request_hash).reason == Reason.NO_NODE_MATCHES


def test_a_cancelled_job_keeps_what_it_waited_for_and_tells_how_it_is_drawn(api, bridge):
    job = bridge.request(order_of("site=moon"), cancel_marked=True)
    bridge.lease(bridge.node("a"))
    mark(bridge, job, refundable_at=1_800_000_900)
    review(bridge)

    found = api.get("/v1/jobs/1/explain").json()
    assert found["refundable_at"] == 1_800_000_900
    assert "insula job cancel 1 --draw" in found["awaiting"]

    bridge.set_job(job.request_hash, state="cancelled", chain_state=OnChainState.CANCELLED)
    ended = api.get("/v1/jobs/1/explain").json()["ended"]
    assert ended["how"] == "cancelled"
    assert "site=moon" in ended["why"]


def mark(bridge, job, refundable_at):
    """The contract's event that a request was marked for cancellation."""
    values = {
        "block_hash": b"c" * 32, "tx_hash": b"t" * 32, "kind": "JobCancelRequested", "request_hash": job.request_hash,
        "block_number": 101, "request_id": job.request.id, "data": refundable_at.to_bytes(32, "big"), "topics": [],
    }  # fmt: skip
    with transaction(bridge.engine) as connection:
        connection.execute(insert(events).values(**values))


def test_an_expired_job_whose_attempts_came_to_nothing_tells_the_last(api, bridge):
    job = bridge.request(order_of())
    node = bridge.node("a")
    bridge.give_back(node, bridge.lease(node), Reason.INPUT_NOT_FOUND, "the input is not to be had")
    bridge.set_job(job.request_hash, state="expired", chain_state=OnChainState.EXPIRED)

    why = api.get("/v1/jobs/1/explain").json()["ended"]["why"]

    assert "node 1" in why
    assert "the input is not to be had" in why


ENDINGS = {
    "fulfilled": (OnChainState.FULFILLED, Outcome(status=Status.SUCCEEDED), "fulfilled", ""),
    "failed": (OnChainState.FAILED, Outcome(status=2, reason=200, exit_code=3), "failed", "EXIT_NON_ZERO, exit code 3"),
    "refused": (OnChainState.REFUSED, Outcome(status=3, reason=106), "refused", "SPEC_INVALID_FIELD"),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_a_result_that_stands_is_told_with_its_reason(api, bridge, name):
    state, outcome, how, why = ENDINGS[name]
    bridge.request(order_of(), state=JobState.FINAL, chain_state=state, outcome=outcome.encode())

    ended = api.get("/v1/jobs/1/explain").json()["ended"]

    assert (ended["how"], ended["why"]) == (how, why)


def test_a_result_that_stands_names_the_nodes_that_signed_it_and_its_time(api, bridge):
    job = settled(bridge)
    with transaction(bridge.engine) as connection:
        block = {"hash": b"h" * 32, "number": 120, "parent_hash": b"p" * 32, "timestamp": 1_800_000_100}
        connection.execute(insert(blocks).values(**block))
    values = {"state": "posted", "settled_block_number": 120, "settled_block_hash": b"h" * 32}
    bridge.set_job(job.request_hash, chain_state=OnChainState.FULFILLED, **values)

    ended = api.get("/v1/jobs/1/explain").json()["ended"]

    assert (ended["nodes"], ended["at"]) == ([1, 2], 1_800_000_100)


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


def test_an_explanation_names_who_was_outvoted_with_what_it_said(api, bridge):
    job = settled(bridge)
    bridge.set_job(job.request_hash, state="posted", chain_state=OnChainState.FULFILLED)
    lie = bridge.slots(job.request_hash)[2]

    ended = api.get("/v1/jobs/1/explain").json()["ended"]

    assert ended["nodes"] == [1, 2]
    (one,) = ended["outvoted"]
    assert (one["node_id"], one["key"], one["operator"]) == (3, lie.key, lie.operator)
    assert (one["status_name"], one["reason"], one["exit_code"], one["may_be_paid"]) == ("SUCCEEDED", "NONE", 0, False)
    assert one["outcome_hash"] == f"0x{lie.outcome_hash.hex()}" != ended["outcome_hash"]
    assert ended["contradicted"] == []


def test_nobody_is_outvoted_by_an_outcome_that_is_not_known(api, bridge):
    job = settled(bridge)
    bridge.set_job(job.request_hash, state="posted", chain_state=OnChainState.FULFILLED, outcome=None)

    assert api.get("/v1/jobs/1/explain").json()["ended"]["outvoted"] == []


def contradict(bridge):
    """A settled job whose third node signs the result of the others too."""
    job = settled(bridge)
    slot = bridge.slots(job.request_hash)[2]
    (lease,) = [lease for lease in bridge.leases(job.request_hash) if lease.slot == 3]
    request = RequestMessage.of(job.request)
    message = Lease(
        lease_id=lease.lease_id, token=lease.token, request_hash=job.request_hash, slot=3, attempt=1, request=request,
        relayer=RELAYER, heartbeat_seconds=1, expires_in_seconds=1,
    )  # fmt: skip
    truth = success(Cid.of(RAW, b"result"))
    with pytest.raises(StaleTransition):
        bridge.dispatcher.accept_attestation(slot.key, lease.lease_id, attested(key_of("node c"), message, truth))
    return job


def test_evidence_against_a_node_can_be_had_by_anybody_once_the_request_is_over(api, bridge):
    job = contradict(bridge)
    assert api.get("/v1/nodes/3/evidence").json() == {"node_id": 3, "found": [], "held": 1}

    bridge.set_job(job.request_hash, state="posted", chain_state=OnChainState.FULFILLED)
    found = api.get("/v1/nodes/3/evidence").json()

    assert (len(found["found"]), found["held"]) == (1, 0)
    evidence = Evidence.read(json.dumps(found["found"][0]["evidence"]).encode(), "answer")
    check_evidence(evidence)
    assert evidence.request_hash == job.request_hash


def test_a_node_that_also_signed_what_stands_is_not_said_to_be_unpaid(api, bridge):
    job = contradict(bridge)
    bridge.set_job(job.request_hash, state="posted", chain_state=OnChainState.FULFILLED)

    ended = api.get("/v1/jobs/1/explain").json()["ended"]

    assert ended["contradicted"] == [3]
    assert [one["may_be_paid"] for one in ended["outvoted"]] == [True]


@pytest.mark.parametrize(("node", "status"), [("1", 200), ("0", 422), ("x", 422), (str(2**63), 422)])
def test_evidence_against_a_node_that_is_none_is_none_or_a_bad_call(api, node, status):
    assert api.get(f"/v1/nodes/{node}/evidence").status_code == status


@pytest.mark.parametrize("state", [s for s in JobState if s not in (JobState.POSTED, JobState.FINAL)])
def test_outputs_and_attestations_are_shown_to_nobody_before_they_stand_on_the_chain(api, bridge, state):
    job = settled(bridge)
    bridge.set_job(job.request_hash, state=state.value)
    secrets = [slot.outcome_hash.hex() for slot in bridge.slots(job.request_hash)]
    secrets += [slot.signature.hex() for slot in bridge.slots(job.request_hash)]
    secrets += [str(Cid.of(RAW, b"result")), str(Cid.of(RAW, b"wrong"))]
    bridge.dispatcher.roots.keep(RESULT, root_label(job.request_hash))
    assert api.get(f"/v1/outputs/{RESULT}").json() == {"produced": []}

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


def test_an_output_that_stands_on_the_chain_tells_who_attested_it(api, bridge):
    job = settled(bridge)
    bridge.set_job(job.request_hash, state="posted", settled_tx=b"t" * 32, settled_block_number=120)
    while bridge.dispatcher.step():  # its output is made public
        pass

    (found,) = Producers.model_validate_json(api.get(f"/v1/outputs/{RESULT}").content).produced

    check_produced(found, RESULT, SCOPE)
    keys = tuple(slot.key for slot in bridge.slots(job.request_hash)[:2])  # the third was outvoted
    assert (found.request_id, found.request_hash, found.keys) == (1, job.request_hash, keys)
    assert api.get(f"/v1/outputs/{Cid.of(RAW, b'wrong')}").json() == {"produced": []}


@pytest.mark.parametrize("is_settled", [True, False], ids=["settled", "not settled"])
def test_what_a_slot_s_node_brought_is_told_once_it_is_settled(api, bridge, is_settled):
    job = settled(bridge)
    bridge.dispatcher.roots.keep(RESULT, f"{root_label(job.request_hash)}/1")
    if is_settled:
        bridge.set_job(job.request_hash, state="posted", settled_tx=b"t" * 32, settled_block_number=120)
        while bridge.dispatcher.step():
            pass

    answer = api.get(f"/v1/outputs/{RESULT}")

    assert (answer.status_code, len(answer.json()["produced"])) == (200, int(is_settled))


def test_an_output_is_not_said_to_be_of_a_request_that_has_another(api, bridge):
    job = settled(bridge)
    bridge.set_job(job.request_hash, state="posted", settled_tx=b"t" * 32, settled_block_number=120)
    for label in (root_label(job.request_hash), root_label(bytes(32)), "upload:0x11"):
        bridge.dispatcher.roots.keep(ABSENT, label)

    assert api.get(f"/v1/outputs/{ABSENT}").json() == {"produced": []}


def test_who_settled_a_request_that_no_node_of_this_bridge_answered_is_not_known(api, bridge):
    job = bridge.request(order_of(), state=JobState.POSTED, outcome=success(RESULT).encode())
    bridge.dispatcher.roots.keep(RESULT, root_label(job.request_hash))

    assert api.get(f"/v1/outputs/{RESULT}").json() == {"produced": []}


def test_of_many_requests_with_the_same_output_the_oldest_four_are_told(api, bridge):
    hashes = []
    for number in range(6):
        job = bridge.request(order_of(), request_id=number + 1)
        node = bridge.node(f"n{number}")
        lease = bridge.lease(node)
        bridge.answer(node, lease, attested(node.key, lease, success(bridge.bring(node, lease, b"result"))))
        bridge.set_job(
            job.request_hash, state="posted", outcome=success(RESULT).encode(), settled_block_number=200 - number
        )
        bridge.dispatcher.roots.keep(RESULT, root_label(job.request_hash))
        hashes.append(job.request_hash)

    found = Producers.model_validate_json(api.get(f"/v1/outputs/{RESULT}").content).produced

    assert [one.request_hash for one in found] == hashes[:1:-1]


def test_what_is_no_cid_has_no_producer(api):
    assert api.get("/v1/outputs/none").status_code == 422


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
    assert api.get(f"/ipfs/{cid}?format=raw").status_code in (400, 404)
