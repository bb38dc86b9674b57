"""Who gets a place to upload, what is refused before a body comes, and that nobody waits for it."""

import contextlib
import socket

import pytest

from bridge.api.places import UPLOADS_AT_ONCE, UPLOADS_PER_KEY, UploadPlaces
from bridge.api.problems import Problem
from bridge.config import ContentConfig
from executor.content.car import write_car
from executor.content.quota import StoreLimits
from executor.protocol.cid import RAW, Cid
from executor.protocol.nodeauth import BODY, SIGNATURE
from tests.api_kit import serving
from tests.bridge_kit import Bridge, key_of
from tests.chain_nodes import wait_for

UPLOADER, OTHER = key_of("uploader"), key_of("another uploader")
QUOTA = 100_000
BLOCK = b"an honest input"
ROOT = Cid.of(RAW, BLOCK)
CAR = b"".join(write_car([ROOT], [(ROOT, BLOCK)]))
PATH = f"/v1/content?root={ROOT}"


@pytest.fixture
def bridge(tmp_path):
    content = ContentConfig(upload_quota_bytes=QUOTA, upload_accounts=(UPLOADER.address, OTHER.address))
    bridge = Bridge(tmp_path, content=content)
    yield bridge
    bridge.close()


@pytest.fixture
def api(bridge):
    with serving(bridge) as api:
        yield api


def begin(api, headers, length):
    """Send the head of an upload and none of its body."""
    opened = socket.create_connection(("127.0.0.1", int(api.base.rsplit(":", 1)[1])), timeout=10)
    fields = {"Host": "bridge.test", "Content-Length": str(length), **headers}
    lines = [f"PUT {PATH} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    opened.sendall("\r\n".join(lines).encode())
    return opened


def received(opened, part):
    """Whether the answer has this part; its head and its body may come one after the other."""
    answer = b""
    while part not in answer and (more := opened.recv(65536)):
        answer += more
    return part in answer


def forged(headers):
    return {**headers, SIGNATURE: f"0x{'11' * 64}1b"}


def test_forged_uploads_that_never_end_keep_no_honest_one_waiting(api):
    with contextlib.ExitStack() as stack:
        for _ in range(2 * UPLOADS_AT_ONCE):
            headers = forged(api.headers(UPLOADER, "PUT", PATH, CAR))
            opened = stack.enter_context(begin(api, headers, QUOTA))
            assert opened.recv(65536).startswith(b"HTTP/1.1 401")

        assert api.call(UPLOADER, "PUT", PATH, CAR).status_code == 200


#: name -> (headers of an upload, length that it says, status line)
UNREAD = {
    "a forged signature": (lambda api: forged(api.headers(UPLOADER, "PUT", PATH, CAR)), 1000, b"HTTP/1.1 401"),
    "an old call": (lambda api: api.headers(UPLOADER, "PUT", PATH, CAR, {"skew": -61}), 1000, b"HTTP/1.1 401"),
    "a key that may not": (lambda api: api.headers(key_of("stranger"), "PUT", PATH, CAR), 1000, b"HTTP/1.1 403"),
    "more than the quota": (lambda api: api.headers(UPLOADER, "PUT", PATH, CAR), QUOTA + 1025, b"HTTP/1.1 413"),
    "no hash of the body": (
        lambda api: {k: v for k, v in api.headers(UPLOADER, "PUT", PATH, CAR).items() if k != BODY},
        1000,
        b"HTTP/1.1 401",
    ),
}


@pytest.mark.parametrize("name", UNREAD)
def test_what_cannot_be_taken_is_refused_before_its_body_comes(api, name):
    headers, length, answer = UNREAD[name]

    with begin(api, headers(api), length) as opened:
        assert opened.recv(65536).startswith(answer)


def test_a_recorded_upload_is_refused_before_its_body_comes(api):
    headers = api.headers(UPLOADER, "PUT", PATH, CAR)
    assert api.http.put(PATH, content=CAR, headers=headers).status_code == 200

    with begin(api, headers, len(CAR)) as opened:
        assert received(opened, b"replayed")


def test_a_body_that_takes_longer_than_a_clock_may_be_off_is_fine(api, bridge):
    with begin(api, api.headers(UPLOADER, "PUT", PATH, CAR), len(CAR)) as opened:
        opened.sendall(CAR[:10])
        wait_for(lambda: nonces(bridge) == 1, 10, "the head")
        bridge.clock.now += 600
        opened.sendall(CAR[10:])
        assert opened.recv(65536).startswith(b"HTTP/1.1 200")


def nonces(bridge):
    with bridge.engine.connect() as connection:
        return connection.exec_driver_sql("SELECT count(*) FROM api_nonces").scalar_one()


def test_an_account_with_its_share_under_way_is_told_when_to_come_again_and_others_are_served(api, bridge):
    with contextlib.ExitStack() as stack:
        for _ in range(UPLOADS_PER_KEY):
            stack.enter_context(begin(api, api.headers(UPLOADER, "PUT", PATH, CAR), len(CAR)))
        wait_for(lambda: nonces(bridge) == UPLOADS_PER_KEY, 10, "the uploads")

        refused = api.call(UPLOADER, "PUT", PATH, CAR)
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "5")
        assert refused.json()["type"] == "urn:insula:problem:too-many-uploads"
        assert api.call(OTHER, "PUT", PATH, CAR).status_code == 200

    wait_for(lambda: api.call(UPLOADER, "PUT", PATH, CAR).status_code == 200, 10, "a place")


def test_nobody_waits_where_all_places_are_taken_and_each_comes_free_again():
    places = UploadPlaces(most=2, per_key=2)
    with places.taken("a"), places.taken("b"):
        with pytest.raises(Problem) as caught, places.taken("c"):
            pytest.fail("a third place")
        assert (caught.value.status, caught.value.headers["Retry-After"]) == (503, "5")
    with places.taken("c"), places.taken("c"):
        pass


@pytest.mark.parametrize(
    "limits", [StoreLimits(1, 0), StoreLimits(0, 2**62)], ids=["bytes of blocks", "disk kept free"]
)
def test_an_upload_that_the_store_has_no_room_for_is_refused_and_keeps_what_is_there(api, bridge, limits):
    assert api.call(UPLOADER, "PUT", PATH, CAR).status_code == 200
    bridge.store.meter.set_limits(limits)
    other = Cid.of(RAW, b"one block too many")
    car = b"".join(write_car([other], [(other, b"one block too many")]))

    refused = api.call(OTHER, "PUT", f"/v1/content?root={other}", car)

    assert (refused.status_code, refused.json()["type"]) == (507, "urn:insula:problem:disk-full")
    assert list(bridge.store) == [ROOT]
    bridge.store.meter.set_limits(StoreLimits(0, 0))
    assert api.call(OTHER, "PUT", f"/v1/content?root={other}", car).status_code == 200
