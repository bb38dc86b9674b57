"""The node's HTTP API for its reviewers: real HTTP to a real node that holds outputs, by reviewers and by strangers."""

import json
import socket
import time
from threading import Event

import pytest

from executor.agent.config import NodeConfig, init_node
from executor.agent.review import open_review
from executor.agent.reviewclient import open_remote
from executor.agent.reviewserver import MOST_CONNECTIONS
from executor.agent.service import run_node
from executor.errors import InvalidInput, PeerError
from executor.protocol.nodeauth import KEY, Audience
from executor.protocol.release import Held, sign_release
from executor.protocol.signing import Scope
from executor.protocol.wire import Status
from executor.sealing import OVERHEAD_BYTES
from tests.agent_twin import CONTRACT, REQUESTER
from tests.integration.test_agent_release import SECRET, STRANGER, Writes, attested
from tests.review_kit import ANNE, BEN, SCOPE, both_held, house


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """For calls that change nothing."""
    with house(tmp_path_factory.mktemp("shared") / "node") as made:
        yield made


@pytest.fixture
def own(tmp_path):
    with house(tmp_path / "node") as made:
        yield made


def test_a_reviewer_sees_the_holds_whose_rules_name_him_and_no_others(shared):
    for key, seen in ((ANNE, [shared.plain]), (BEN, [shared.scan])):
        status, _, body = shared.get(key, "/v1/holds")
        assert (status, [row["id"] for row in json.loads(body)["holds"]]) == (200, seen)


def test_a_hold_is_shown_with_manifest_votes_and_what_is_to_be_signed(shared):
    status, headers, body = shared.get(ANNE, f"/v1/holds/{shared.plain}")

    found = json.loads(body)
    assert (status, headers["cache-control"]) == (200, "no-store")
    assert [row["path"] for row in found["files"]] == ["outputs", "outputs/answer.txt", "stderr", "stdout"]
    message = found["toSign"]["approve"]["message"]
    assert Held(**{
        name: bytes.fromhex(message["held"][field][2:])
        for name, field in (("outcome_hash", "outcomeHash"), ("manifest_hash", "manifestHash"), ("salt", "salt"))
    }).hash == shared.subject(shared.plain).held  # fmt: skip
    assert (message["node"], sorted(found["toSign"]["reject"])) == (shared.address, ["300", "301"])
    assert (found["votes"], found["findings"], found["threshold"]) == ([], [], 1)


def test_a_file_comes_as_bytes_that_no_browser_renders(shared):
    status, headers, body = shared.get(ANNE, f"/v1/holds/{shared.plain}/file?path=outputs/answer.txt")

    assert (status, body) == (200, SECRET)
    assert headers["content-type"] == "application/octet-stream"
    assert headers["content-disposition"].startswith("attachment")
    assert headers["x-content-type-options"] == "nosniff"


def test_what_anybody_may_know_is_whom_to_sign_calls_for(shared):
    assert set(json.loads(shared.send("GET", "/v1/node")[2])) == {"key", "chainId", "contract", "session"}


def test_an_approval_that_was_posted_lets_the_output_out(own):
    vote = sign_release(own.subject(own.plain), ANNE, True, 0)

    status, _, body = own.decide(ANNE, own.plain, vote)

    assert (status, json.loads(body)["new"], json.loads(body)["approvals"]) == (200, True, 1)
    assert attested(own.twin).status == Status.SUCCEEDED


def test_a_rejection_that_was_posted_keeps_it_in(own):
    vote = sign_release(own.subject(own.scan), BEN, False, 301)

    assert own.decide(BEN, own.scan, vote)[0] == 200
    assert attested(own.twin).status == Status.WITHHELD


def replayed(house):
    path = "/v1/holds"
    headers = house.headers(ANNE, "GET", path)
    assert house.send("GET", path, b"", headers)[0] == 200
    return house.send("GET", path, b"", headers)


def moved(house):
    headers = house.headers(ANNE, "GET", "/v1/holds")
    return house.send("GET", f"/v1/holds/{house.plain}", b"", headers)


def in_another_s_name(house):
    path = f"/v1/holds/{house.plain}"
    return house.send("GET", path, b"", {**house.headers(STRANGER, "GET", path), KEY: ANNE.address})


def other_body(house):
    path, body = f"/v1/holds/{house.plain}/decision", b'{"approve":false}'
    headers = house.headers(ANNE, "POST", path, b"{}")
    return house.send("POST", path, body, headers)


def audience(node=None, session=None):
    def attack(house):
        right = house.audience()
        url = right.url.replace(house.address, node or house.address)
        url = f"{url.split('#')[0]}#{session}" if session else url
        return house.get(ANNE, "/v1/holds", audience=Audience(SCOPE, url, right.api))

    return attack


def for_a_bridge(house):
    return house.get(ANNE, "/v1/holds", audience=Audience(SCOPE, house.audience().url))


def on_another_chain(house):
    right = house.audience()
    return house.get(ANNE, "/v1/holds", audience=Audience(Scope(1, CONTRACT), right.url, right.api))


def file(path, hold=None):
    return lambda house: house.get(ANNE, f"/v1/holds/{hold or house.plain}/file?path={path}")


def unsigned(path):
    return lambda house: house.send("GET", path.format(house.plain))


def posted(body):
    return lambda house: house.call(ANNE, "POST", f"/v1/holds/{house.plain}/decision", body)


def decided(by, about, on="plain"):
    """A signature over `about` (changes to the subject, or another hold), brought for the hold `on`."""

    def attack(house):
        subject = house.subject(house.scan) if about == "scan" else house.subject(house.plain, **about)
        return house.decide(ANNE, getattr(house, on), sign_release(subject, by, True, 0))

    return attack


def huge(key):
    def attack(house):
        path = f"/v1/holds/{house.plain}/decision"
        headers = house.headers(key, "POST", path, b"") | {"Content-Length": str(10**12)}
        with socket.create_connection(("127.0.0.1", house.port), timeout=30) as connection:
            lines = [f"POST {path} HTTP/1.1", "Host: node", *(f"{name}: {text}" for name, text in headers.items())]
            connection.sendall("\r\n".join([*lines, "", "x" * 8192]).encode())
            answer = b""
            while piece := connection.recv(4096):
                answer += piece
                if b"\r\n\r\n" in answer:
                    break
        return int(answer.split()[1]), {}, answer

    return attack


def turned(house):
    vote = sign_release(house.subject(house.plain), ANNE, False, 300)
    return house.decide(ANNE, house.plain, vote, approve=True, reason=0)


ABUSE = {
    "no signature": (unsigned("/v1/holds"), 401),
    "no signature, of a hold": (unsigned("/v1/holds/{}"), 401),
    "no signature, of a file": (unsigned("/v1/holds/{}/file?path=outputs/answer.txt"), 401),
    "the key of a stranger": (lambda house: house.get(STRANGER, "/v1/holds"), 403),
    "the key of the node": (
        lambda house: house.get(NodeConfig.load(house.folder).load_key(house.folder), "/v1/holds"),
        403,
    ),
    "a stranger in a reviewer's name": (in_another_s_name, 401),
    "a replayed nonce": (replayed, 401),
    "a signature for another path": (moved, 401),
    "another body than was signed": (other_body, 401),
    "an old time": (lambda house: house.get(ANNE, "/v1/holds", off=-62), 401),
    "a time to come": (lambda house: house.get(ANNE, "/v1/holds", off=63), 401),
    "another node's audience": (audience(node=REQUESTER), 401),
    "an earlier process's audience": (audience(session="0" * 32), 401),
    "a call for a bridge": (for_a_bridge, 401),
    "a call on another chain": (on_another_chain, 401),
    "a path that climbs": (file("../../../key"), 422),
    "a path that climbs, encoded": (file("outputs%2F..%2F..%2F..%2Fkey"), 422),
    "an absolute path": (file("/etc/passwd"), 422),
    "a path with a NUL": (file("outputs/answer.txt%00"), 422),
    "a folder as a file": (file("outputs"), 422),
    "no path": (lambda house: house.get(ANNE, f"/v1/holds/{house.plain}/file"), 422),
    "a hold that climbs": (file("key", hold="..%2F..%2Fkey"), 404),
    "a hold of another class": (lambda house: house.get(ANNE, f"/v1/holds/{house.scan}"), 404),
    "a file of another class": (lambda house: house.get(BEN, f"/v1/holds/{house.plain}/file?path=stdout"), 404),
    "a decision on a hold of another class": (decided(BEN, "scan", on="scan"), 404),
    "a decision that was signed for another hold": (decided(ANNE, "scan"), 422),
    "a decision on other bytes": (decided(ANNE, {"held": bytes(32)}), 422),
    "a decision at another node": (decided(ANNE, {"node": REQUESTER}), 422),
    "a decision that a stranger signed": (decided(STRANGER, {}), 422),
    "a decision of another class's reviewer": (decided(BEN, {}), 422),
    "a rejection turned into an approval": (turned, 422),
    "no decision": (posted(b"{}"), 422),
    "no JSON": (posted(b"\xff\xfe"), 422),
    "a key twice": (posted(b'{"approve":true,"approve":false}'), 422),
    "a body without end in depth": (posted(b"[" * 4000), 422),
    "a huge body": (posted(b" " * 5000), 413),
    "a huge body, announced": (huge(ANNE), 413),
    "a huge body of a stranger": (huge(STRANGER), 403),
    "another method": (lambda house: house.call(ANNE, "DELETE", f"/v1/holds/{house.plain}"), 405),
    "the pages of the framework": (unsigned("/openapi.json"), 404),
}


@pytest.mark.parametrize("attack", ABUSE, ids=[f"abuse-{name.replace(' ', '-')}" for name in ABUSE])
def test_abuse_of_the_review_api_gets_no_byte_and_no_decision(shared, attack):
    act, expected = ABUSE[attack]

    status, _, body = act(shared)

    assert (status, b"Traceback" in body) == (expected, False), body
    root = shared_root(shared).encode()
    assert [word for word in (SECRET, root, shared.scan.encode(), b'answer.txt"') if word in body] == []
    assert shared.votes() == []
    assert both_held(shared.folder)


def shared_root(house):
    with open_review(house.folder) as review:
        return review.show(review.find(house.plain))["outputCid"]


@pytest.mark.parametrize("who", ["nobody", "a stranger", "a reviewer of another class"])
def test_abuse_ids_that_are_held_and_ids_that_are_not_are_answered_alike(shared, who):
    key = {"nobody": None, "a stranger": STRANGER, "a reviewer of another class": BEN}[who]
    answers = []
    for hold in (shared.plain, "nothing", shared.plain[:-1] + "0"):
        for tail in ("", "/file?path=stdout"):
            path = f"/v1/holds/{hold}{tail}"
            status, headers, body = shared.get(key, path) if key else shared.send("GET", path)
            headers.pop("date", None)
            answers.append((status, headers, body))

    assert all(answer == answers[0] for answer in answers)
    assert answers[0][0] == {"nobody": 401, "a stranger": 403, "a reviewer of another class": 404}[who]


def test_abuse_a_crowd_that_says_nothing_makes_room_for_a_reviewer(shared):
    crowd = [socket.create_connection(("127.0.0.1", shared.port)) for _ in range(2 * MOST_CONNECTIONS)]
    try:
        assert shared.get(ANNE, "/v1/holds")[0] == 200
    finally:
        for connection in crowd:
            connection.close()


def test_abuse_heads_and_bodies_that_do_not_come_are_given_up(shared):
    path = f"/v1/holds/{shared.plain}/decision"
    headers = shared.headers(ANNE, "POST", path, b"") | {"Content-Length": "100"}
    lines = [f"POST {path} HTTP/1.1", "Host: node", *(f"{name}: {text}" for name, text in headers.items())]
    place = ("127.0.0.1", shared.port)
    with socket.create_connection(place, 60) as head, socket.create_connection(place, 60) as body:
        head.sendall(b"GET /v1/node HTTP/1.1\r\nHos")
        body.sendall("\r\n".join([*lines, "", "x"]).encode())
        began = time.monotonic()
        assert body.recv(12) == b"HTTP/1.1 408"
        try:
            rest = head.recv(1)
        except ConnectionResetError:
            rest = b""

    assert (rest, time.monotonic() - began < 30) == (b"", True)


def test_a_port_that_is_taken_is_named_before_the_node_begins_anything(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        fields = {"bridge_url": "http://127.0.0.1:1", "chain_id": 1, "bridge_contract": CONTRACT, "registry": CONTRACT}
        init_node(tmp_path / "node", **fields, review_port=taken.getsockname()[1])
        with pytest.raises(InvalidInput, match=r"review_port: 127\.0\.0\.1:\d+ cannot be had"):
            run_node(tmp_path / "node", Event(), [Writes()])

    assert not (tmp_path / "node" / "executions").exists()


def test_a_node_whose_file_says_nothing_of_reviewers_opens_no_port():
    fields = {"bridge_url": "http://127.0.0.1:1", "chain_id": 1, "bridge_contract": CONTRACT, "registry": CONTRACT}

    assert NodeConfig(**fields).review_port == 0


def damage(house, hold):
    """Flip a bit in the block that holds the answer."""
    found = (house.folder / "executions" / hold / "quarantine").iterdir()
    (path,) = [path for path in found if path.stat().st_size == len(SECRET) + OVERHEAD_BYTES]
    sealed = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(bytes([*sealed[:20], sealed[20] ^ 1, *sealed[21:]]))


def test_a_damaged_quarantine_is_not_shown_as_what_was_held(own):
    damage(own, own.plain)

    status, _, body = own.get(ANNE, f"/v1/holds/{own.plain}")

    assert (status, b"not what was held" in body) == (422, True)
    with open_remote(own.url, ANNE) as remote, pytest.raises(InvalidInput, match="not what was held"):
        remote.decide(remote.find(own.plain), True, 0, ANNE)
    assert own.votes() == []


class WritesMuch(Writes):
    """A sandbox whose job writes a file of several blocks, one of which can be told from the others."""

    def run(self, execution, cancelled):
        report = super().run(execution, cancelled)
        (execution.outputs / self.name).write_bytes(bytes(3 * 2**20) + SECRET)
        return report


def test_a_file_that_is_damaged_further_on_does_not_come_as_if_it_were_whole(tmp_path):
    with house(tmp_path / "node", WritesMuch()) as made:
        damage(made, made.plain)
        with open_remote(made.url, ANNE) as remote, pytest.raises(PeerError):
            remote.save(remote.find(made.plain), "outputs/answer.txt", tmp_path / "saved")
        assert made.get(ANNE, "/v1/holds")[0] == 200

    assert not (tmp_path / "saved").exists()
