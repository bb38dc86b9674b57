"""What the API refuses: calls that are not what they say, bodies that are too much, content that is not its own."""

import hashlib
import json
import secrets
import socket

import httpx
import pytest

from bridge.config import ContentConfig
from executor.content.car import write_car
from executor.protocol.cid import RAW, Cid
from executor.protocol.leases import MAX_CAR_BYTES, MAX_JSON_BYTES, Heartbeat, Lease, LeaseReturn, Missing, Phase
from executor.protocol.nodeauth import KEY, NONCE, SIGNATURE, TIME, Audience
from executor.protocol.signing import Scope
from tests.api_kit import AUDIENCE, serving
from tests.bridge_kit import CONTRACT, CURATOR, MODULE, SCOPE, Bridge, advert, attested, key_of, order_of, success

UPLOADER = key_of("uploader")
ADVERT = advert("node=admitted")


@pytest.fixture(scope="module")
def bridge(tmp_path_factory):
    content = ContentConfig(upload_quota_bytes=100_000, upload_accounts=(UPLOADER.address,))
    bridge = Bridge(tmp_path_factory.mktemp("bridge"), content=content)
    bridge.chain_at(110)
    yield bridge
    bridge.close()


@pytest.fixture(scope="module")
def api(bridge):
    with serving(bridge) as api:
        yield api


@pytest.fixture(scope="module")
def node(bridge):
    return bridge.node("a", "site=camera")


@pytest.fixture
def lease(bridge, api, node):
    """A lease of a new job; given back at the end."""
    bridge.clock.now += 1000
    bridge.request(order_of())
    lease = Lease.model_validate_json(api.call(node.key, "POST", "/v1/leases", ADVERT).content)
    yield lease
    back = LeaseReturn(token=lease.token, reason=403)
    api.call(node.key, "POST", f"/v1/leases/{lease.lease_id}/return", back)


def problem(response, status, name):
    """The problem document of a response that has to have this status and type."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["type"] == f"urn:insula:problem:{name}"
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    assert "Traceback" not in response.text
    return body


def car(*blocks, root=None):
    pairs = [(Cid.of(RAW, block), block) for block in blocks]
    return b"".join(write_car([root or pairs[0][0]], pairs))


def ask(api, key, **signed):
    return api.call(key, "POST", "/v1/leases", ADVERT, signed)


#: name -> what is signed otherwise than sent
UNSIGNED = {
    "another URL": {"audience": Audience(SCOPE, "http://other.test")},
    "another chain": {"audience": Audience(Scope(1, CONTRACT), AUDIENCE.url)},
    "another contract": {"audience": Audience(Scope(SCOPE.chain_id, CURATOR), AUDIENCE.url)},
    "another method": {"method": "GET"},
    "another path": {"path": "/v1/leases/x"},
    "a query that was not sent": {"path": "/v1/leases?a=1"},
    "another body": {"body": b"{}"},
    "a clock that is 61 s ahead": {"skew": 61},
    "a clock that is 61 s behind": {"skew": -61},
}


@pytest.mark.parametrize("name", UNSIGNED)
def test_a_call_signed_for_something_else_is_refused(api, node, name):
    problem(ask(api, node.key, **UNSIGNED[name]), 401, "not-signed")


@pytest.mark.parametrize("skew", [-60, 60])
def test_a_clock_that_is_just_near_enough_is_fine(api, node, skew):
    assert ask(api, node.key, skew=skew).status_code in (200, 204)


@pytest.mark.parametrize("header", [KEY, TIME, NONCE, SIGNATURE])
def test_a_call_without_one_of_the_headers_is_refused_before_its_body_is_read(api, node, header):
    headers = api.headers(node.key, "POST", "/v1/leases", b"")
    del headers[header]

    body = problem(api.http.post("/v1/leases", content=b"x" * 2**20, headers=headers), 401, "not-signed")
    assert body["field"] == header


#: name -> headers that take the place of good ones
MALFORMED = {
    "a key that is no address": {KEY: "0x12"},
    "a time that is no number": {TIME: "soon"},
    "a negative time": {TIME: "-1"},
    "a nonce of 31 bytes": {NONCE: "0x" + "00" * 31},
    "a signature of 64 bytes": {SIGNATURE: "0x" + "00" * 64},
    "a signature of zeros": {SIGNATURE: "0x" + "00" * 65},
    "a signature that recovers to nobody": {SIGNATURE: "0x" + "11" * 64 + "1b"},
    "another's key": {KEY: CURATOR},
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_headers_are_refused(api, node, name):
    headers = {**api.headers(node.key, "POST", "/v1/leases", b""), **MALFORMED[name]}

    problem(api.http.post("/v1/leases", headers=headers), 401, "not-signed")


def test_a_nonce_counts_once(api, node):
    nonce = secrets.token_bytes(32)
    assert ask(api, node.key, nonce=nonce).status_code in (200, 204)

    problem(ask(api, node.key, nonce=nonce), 401, "replayed")


def test_a_recorded_call_cannot_be_replayed(api, node):
    body = ADVERT.model_dump_json().encode()
    headers = api.headers(node.key, "POST", "/v1/leases", body)
    api.http.post("/v1/leases", content=body, headers=headers)

    problem(api.http.post("/v1/leases", content=body, headers=headers), 401, "replayed")


def test_a_key_that_is_not_registered_is_refused(api):
    problem(ask(api, key_of("stranger")), 403, "not-registered")


def test_the_key_of_a_node_may_not_upload_inputs(api, node):
    root = Cid.of(RAW, b"x")
    problem(api.call(node.key, "PUT", f"/v1/content?root={root}&public=0", car(b"x")), 403, "may-not-upload")


def test_the_key_of_an_uploader_may_not_ask_for_work(api):
    problem(ask(api, UPLOADER), 403, "not-registered")


def post(api, node, path, body):
    return api.call(node.key, "POST", path, body)


#: name -> (body, field that the answer names)
BAD_JSON = {
    "not JSON": (b"{", "body"),
    "not UTF-8": (b"\xff", "body"),
    "nothing": (b"", "body"),
    "a list": (b"[]", "body"),
    "nested too deep": (b"[" * 100 + b"]" * 100, "body"),
    "a million brackets": (b"[" * 400_000, "body"),
    "NaN": (b'{"wait_seconds": NaN}', "body"),
    "an integer of 1000 digits": (b'{"wait_seconds": ' + b"9" * 1000 + b"}", "body"),
    "a key twice": (b'{"labels": [], "labels": []}', "labels"),
    "an unknown field": (ADVERT.model_dump_json().replace("{", '{"admin": true, ', 1).encode(), "admin"),
    "a missing field": (b'{"labels": []}', "tiers"),
    "a negative capacity": (ADVERT.model_dump_json().replace('"slots":4', '"slots":-1', 1).encode(), "free.slots"),
    "too many labels": (advert(*["a=b"] * 64).model_dump_json().replace("[", '["a=b",', 1).encode(), "labels"),
    "a wait of an hour": (ADVERT.model_dump_json().replace('"wait_seconds":0', '"wait_seconds":3600').encode(), None),
    "a word that is no label": (advert("no label").model_dump_json().encode(), "labels"),
    "an infinite wait": (ADVERT.model_dump_json().replace('"wait_seconds":0', '"wait_seconds":1e999').encode(), None),
}


@pytest.mark.parametrize("name", BAD_JSON)
def test_a_bad_message_is_refused_with_the_path_of_the_field(api, node, name):
    body, field = BAD_JSON[name]

    found = problem(post(api, node, "/v1/leases", body), 422, "invalid-input")
    assert field is None or found["field"] == field


def test_a_message_that_is_too_large_is_refused(api, node):
    problem(post(api, node, "/v1/leases", b" " * (MAX_JSON_BYTES + 1)), 413, "too-large")


def test_a_message_that_hides_its_size_is_refused_while_it_is_read(api, node):
    headers = api.headers(node.key, "POST", "/v1/leases", b"")
    sent = []

    def pieces():
        for _ in range(1000):
            sent.append(1)
            yield b" " * 2**16

    try:
        response = api.http.post("/v1/leases", content=pieces(), headers=headers)
    except (httpx.WriteError, httpx.RemoteProtocolError, httpx.ReadError):
        pass  # closed in our face, which is as good
    else:
        problem(response, 413, "too-large")
    assert len(sent) < 1000


def base(lease):
    return f"/v1/leases/{lease.lease_id}"


def test_anothers_lease_is_as_good_as_none(bridge, api, lease):
    thief = bridge.node(secrets.token_hex(4))
    beat = Heartbeat(token=lease.token, phase=Phase.RUNNING)
    root = Cid.of(RAW, b"x")

    problem(post(api, thief, f"{base(lease)}/heartbeat", beat), 404, "unknown-lease")
    problem(post(api, thief, f"{base(lease)}/return", LeaseReturn(token=lease.token, reason=403)), 404, "unknown-lease")
    put = api.call(thief.key, "PUT", f"{base(lease)}/content?root={root}&token={lease.token}", car(b"x"))
    problem(put, 404, "unknown-lease")
    problem(api.call(thief.key, "GET", f"{base(lease)}/car/{MODULE}"), 404, "unknown-lease")
    problem(
        post(api, thief, f"{base(lease)}/attestation", attested(thief.key, lease, success(root))), 404, "unknown-lease"
    )


def test_a_stale_token_is_refused_everywhere(api, node, lease):
    stale = lease.token + 1
    root = Cid.of(RAW, b"x")
    query = f"root={root}&token={stale}"

    problem(
        post(api, node, f"{base(lease)}/heartbeat", Heartbeat(token=stale, phase=Phase.RUNNING)), 409, "stale-lease"
    )
    problem(post(api, node, f"{base(lease)}/return", LeaseReturn(token=stale, reason=403)), 409, "stale-lease")
    problem(api.call(node.key, "PUT", f"{base(lease)}/content?{query}", car(b"x")), 409, "stale-lease")
    problem(api.call(node.key, "GET", f"{base(lease)}/missing?{query}"), 409, "stale-lease")
    late = attested(node.key, lease, success(root), token=stale)
    problem(post(api, node, f"{base(lease)}/attestation", late), 409, "stale-lease")


#: name -> (query, status, type)
BAD_QUERIES = {
    "no root": ("token=1", 422, "invalid-input"),
    "no token": (f"root={MODULE}", 422, "invalid-input"),
    "a token that is no number": (f"root={MODULE}&token=x", 422, "invalid-input"),
    "a token of 2^63": (f"root={MODULE}&token={2**63}", 422, "invalid-input"),
    "a CIDv0": ("root=QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG&token=1", 422, "invalid-input"),
    "a path": ("root=..%2F..%2Fetc%2Fpasswd&token=1", 422, "invalid-input"),
}


@pytest.mark.parametrize("name", BAD_QUERIES)
def test_a_bad_query_is_refused(api, node, lease, name):
    query, status, kind = BAD_QUERIES[name]

    problem(api.call(node.key, "GET", f"{base(lease)}/missing?{query}"), status, kind)


def upload(api, node, lease, body, root=None, signed=None):
    root = root or Cid.of(RAW, b"good")
    return api.call(node.key, "PUT", f"{base(lease)}/content?root={root}&token={lease.token}", body, signed)


def lacks(api, node, lease, root):
    response = api.call(node.key, "GET", f"{base(lease)}/missing?root={root}&token={lease.token}")
    return Missing.model_validate_json(response.content).missing


def flipped(data):
    return data[:-1] + bytes([data[-1] ^ 1])


#: name -> (body of the upload, type of the problem)
BAD_CARS = {
    "garbage": (b"\x07garbage", "bad-car"),
    "a block that does not hash to its CID": (flipped(car(b"good", b"bad")), "bad-car"),
    "a block over the limit for blocks": (car(b"good", bytes(2 * 2**20 + 1)), "bad-car"),
    "padding behind the last block": (car(b"good") + bytes(100), "bad-car"),
}


@pytest.mark.parametrize("name", BAD_CARS)
def test_a_bad_car_is_refused_and_what_was_good_before_the_fault_is_kept(api, node, lease, name):
    body, kind = BAD_CARS[name]

    problem(upload(api, node, lease, body), 422, kind)
    assert lacks(api, node, lease, Cid.of(RAW, b"good")) == (() if name != "garbage" else (str(Cid.of(RAW, b"good")),))


def test_a_cut_car_is_progress(api, node, lease):
    root = Cid.of(RAW, b"good")

    response = upload(api, node, lease, car(b"good", b"more")[:-1])

    assert response.status_code == 200
    assert lacks(api, node, lease, root) == ()
    assert lacks(api, node, lease, Cid.of(RAW, b"more")) != ()


def test_an_upload_that_is_signed_for_other_bytes_leaves_nothing_behind(api, node, lease):
    body = car(b"unsigned bytes")

    problem(upload(api, node, lease, body, signed={"body": car(b"other")}), 401, "not-signed")
    assert not api.bridge.store.has(Cid.of(RAW, b"unsigned bytes"))


def test_an_upload_over_the_jobs_budget_is_refused_and_what_fits_is_kept(api, node, lease):
    blocks = [bytes([i]) * 2**20 for i in range(4)]  # the job may write 1 MiB; with overhead, two blocks fit

    problem(upload(api, node, lease, car(*blocks), Cid.of(RAW, blocks[0])), 413, "too-large")
    assert lacks(api, node, lease, Cid.of(RAW, blocks[0])) == ()
    assert lacks(api, node, lease, Cid.of(RAW, blocks[3])) != ()


def test_a_lease_keeps_one_root_however_many_a_node_names(api, bridge, node, lease):
    for word in (b"one", b"two", b"three"):
        upload(api, node, lease, car(word), Cid.of(RAW, word))

    kept = [
        root.cid for root in bridge.dispatcher.roots.live(bridge.clock.now) if root.label.endswith(f"/{lease.slot}")
    ]
    assert Cid.of(RAW, b"three") in kept
    assert Cid.of(RAW, b"one") not in kept


def test_an_upload_for_a_lease_that_is_not_there_is_refused_before_its_body_is_read(api, node):
    path = f"/v1/leases/{'0' * 32}/content?root={MODULE}&token=1"
    headers = {**api.headers(node.key, "PUT", path), "Content-Length": str(2**20)}
    with socket.create_connection(("127.0.0.1", int(api.base.rsplit(":", 1)[1])), timeout=10) as connection:
        lines = [f"PUT {path} HTTP/1.1", "Host: bridge.test", *(f"{k}: {v}" for k, v in headers.items()), "", ""]
        connection.sendall("\r\n".join(lines).encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 404")


def test_many_tiny_blocks_use_up_the_budget_too(api, node, lease):
    blocks = [i.to_bytes(3, "big") for i in range(6000)]

    problem(upload(api, node, lease, car(*blocks)), 413, "too-large")


def test_a_car_that_says_it_is_too_large_is_refused_unread(api, node, lease):
    root = Cid.of(RAW, b"good")
    path = f"{base(lease)}/content?root={root}&token={lease.token}"
    headers = {**api.headers(node.key, "PUT", path), "Content-Length": str(MAX_CAR_BYTES + 1)}
    with socket.create_connection(("127.0.0.1", int(api.base.rsplit(":", 1)[1])), timeout=10) as connection:
        lines = [f"PUT {path} HTTP/1.1", "Host: bridge.test", *(f"{k}: {v}" for k, v in headers.items()), "", ""]
        connection.sendall("\r\n".join(lines).encode())
        answer = connection.recv(65536)

    assert answer.startswith(b"HTTP/1.1 413")


def test_a_node_does_not_learn_what_others_have_stored(api, bridge, node, lease):
    secret = b"stored by another"
    bridge.store.put(Cid.of(RAW, secret), secret)

    assert lacks(api, node, lease, Cid.of(RAW, secret)) == (str(Cid.of(RAW, secret)),)


#: name -> path below a lease's /car/ that names nothing of the job
NOT_AN_INPUT = {
    "a block that is here but is no input": str(Cid.of(RAW, b"private")),
    "a block that is not here": str(Cid.of(RAW, b"absent")),
}


@pytest.mark.parametrize("name", NOT_AN_INPUT)
def test_a_lease_opens_nothing_but_the_inputs_of_its_job(api, bridge, node, lease, name):
    bridge.store.put(Cid.of(RAW, b"private"), b"private")

    body = problem(api.call(node.key, "GET", f"{base(lease)}/car/{NOT_AN_INPUT[name]}"), 404, "not-here")
    assert body["detail"] == f"{NOT_AN_INPUT[name]} is not here, or not public"


def test_an_input_that_is_not_here_yet_is_named(api, node, lease):
    body = problem(api.call(node.key, "GET", f"{base(lease)}/car/{MODULE}"), 404, "not-here")

    assert str(MODULE) in body["detail"]


def test_an_answer_without_its_output_says_what_to_do(api, node, lease):
    answer = attested(node.key, lease, success(Cid.of(RAW, b"never")))

    body = problem(post(api, node, f"{base(lease)}/attestation", answer), 409, "output-incomplete")
    assert "upload it first" in body["detail"]


def test_an_uploader_brings_inputs_within_his_quota(api, bridge):
    blocks = [b"input one", b"input two"]
    root = Cid.of(RAW, blocks[0])
    first = api.call(UPLOADER, "PUT", f"/v1/content?root={root}&public=1", car(*blocks))
    assert Missing.model_validate_json(first.content).missing == ()
    assert api.get(f"/ipfs/{root}?format=raw").content == blocks[0]
    assert api.get(f"/ipfs/{Cid.of(RAW, blocks[1])}?format=raw").status_code == 404  # not below the root

    big = bytes(100_000)
    over = api.call(UPLOADER, "PUT", f"/v1/content?root={Cid.of(RAW, big)}&public=1", car(big))
    problem(over, 413, "too-large")


def test_an_uploader_is_asked_again_for_what_was_damaged_here(api, bridge):
    root = Cid.of(RAW, b"input one")
    api.call(UPLOADER, "PUT", f"/v1/content?root={root}&public=1", car(b"input one"))
    [path] = bridge.store.root.rglob(str(root))
    path.chmod(0o600)
    path.write_bytes(b"damaged")

    response = api.call(UPLOADER, "GET", f"/v1/content/missing?root={root}")
    assert Missing.model_validate_json(response.content).missing == (str(root),)

    again = api.call(UPLOADER, "PUT", f"/v1/content?root={root}&public=1", car(b"input one"))
    assert Missing.model_validate_json(again.content).missing == ()
    assert api.get(f"/ipfs/{root}?format=raw").content == b"input one"


def test_an_upload_is_private_unless_it_is_asked_to_be_public(api):
    root = Cid.of(RAW, b"a private input")
    api.call(UPLOADER, "PUT", f"/v1/content?root={root}", car(b"a private input"))
    response = api.call(UPLOADER, "GET", f"/v1/content/missing?root={root}")

    assert Missing.model_validate_json(response.content).missing == ()
    assert api.get(f"/ipfs/{root}?format=raw").status_code == 404


#: paths that lead nowhere
NOWHERE = [
    "/v1/admin",
    "/v1/leases/x/y/z",
    "/ipfs/",
    "/ipfs",
    "/../../etc/passwd",
    "/v1/jobs/1/../../..",
    "/%2e%2e/x",
]


@pytest.mark.parametrize("path", NOWHERE)
def test_a_path_that_is_none_is_a_problem_document(api, path):
    problem(api.get(path), 404, "http")


@pytest.mark.parametrize(("method", "path"), [("DELETE", "/v1/jobs"), ("POST", "/v1/status"), ("PUT", "/ipfs/x")])
def test_what_is_read_only_cannot_be_written(api, method, path):
    problem(api.http.request(method, path), 405, "http")


def test_headers_without_end_are_cut_off(api):
    with socket.create_connection(("127.0.0.1", int(api.base.rsplit(":", 1)[1])), timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        answer = b""
        try:
            for _ in range(100):
                connection.sendall(b"X-Fill: " + b"a" * 4096 + b"\r\n")
            answer = connection.recv(4096)
        except (ConnectionResetError, BrokenPipeError):
            return
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4")


def test_the_bodys_hash_is_part_of_what_is_signed(api, node):
    body = ADVERT.model_dump_json().encode()
    headers = api.headers(node.key, "POST", "/v1/leases", body)
    assert hashlib.sha256(body).digest() != hashlib.sha256(body + b" ").digest()

    problem(api.http.post("/v1/leases", content=body + b" ", headers=headers), 401, "not-signed")
    assert json.loads(body)["wait_seconds"] == 0
