"""Who gets a place to upload, what is refused before a body comes, and that nobody waits for it."""

import asyncio
import contextlib
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from starlette.concurrency import run_in_threadpool

from bridge.api.places import UPLOADS_AT_ONCE, UPLOADS_PER_KEY, KeyTurns, UploadPlaces
from bridge.api.problems import Problem
from bridge.config import ContentConfig
from bridge.store.content import BLOCK_OVERHEAD_BYTES, account_bytes, is_meant_for
from bridge.store.engine import reading
from executor.content.blocks import MemoryBlocks
from executor.content.car import write_car
from executor.content.gc import collect_garbage
from executor.content.patience import Patience
from executor.content.quota import StoreLimits
from executor.content.transfer import upload_dag
from executor.content.web import Http, Signer, upload_peer
from executor.protocol.cid import DAG_PB, RAW, Cid
from executor.protocol.leases import Withdrawn
from executor.protocol.nodeauth import BODY, SIGNATURE
from tests.api_kit import AUDIENCE
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
        assert api.call(UPLOADER, "DELETE", PATH).status_code == 200
        assert api.call(OTHER, "PUT", PATH, CAR).status_code == 200

    wait_for(lambda: api.call(UPLOADER, "PUT", PATH, CAR).status_code == 200, 10, "a place")


def test_an_uploader_who_is_told_to_come_again_comes_when_it_was_told(api, bridge):
    blocks, pauses = MemoryBlocks(), []
    blocks.put_many([(ROOT, BLOCK)])
    with contextlib.ExitStack() as stack:
        for _ in range(UPLOADS_PER_KEY):
            stack.enter_context(begin(api, api.headers(UPLOADER, "PUT", PATH, CAR), len(CAR)))
        wait_for(lambda: nonces(bridge) == UPLOADS_PER_KEY, 10, "the uploads")

        def pause(seconds):
            if seconds:
                pauses.append(seconds)
                stack.close()
                wait_for(lambda: api.call(UPLOADER, "PUT", PATH, b"").status_code != 429, 10, "a place")

        with Http(api.base, Signer(UPLOADER, AUDIENCE, bridge.clock)) as http:
            peer, patience = upload_peer(http, public=False), Patience(time.time() + 60, pause=pause)
            assert upload_dag(peer, blocks, ROOT, patience=patience).blocks == 1

    assert pauses == [5.0]


def test_nobody_waits_where_all_places_are_taken_and_each_comes_free_again():
    places = UploadPlaces(most=2, per_key=2)
    with places.taken("a"), places.taken("b"):
        with pytest.raises(Problem) as caught, places.taken("c"):
            pytest.fail("a third place")
        assert (caught.value.status, caught.value.headers["Retry-After"]) == (503, "5")
    with places.taken("c"), places.taken("c"):
        pass


# --- taking an upload back


def quota_left(api, size):
    """Whether the account may still bring so much."""
    block = b"x" * size
    root = Cid.of(RAW, block)
    answer = api.call(UPLOADER, "PUT", f"/v1/content?root={root}", b"".join(write_car([root], [(root, block)])))
    return answer.status_code == 200


def withdrawn(api, root=ROOT, key=UPLOADER):
    answer = api.call(key, "DELETE", f"/v1/content?root={root}")
    assert answer.status_code == 200, answer.text
    return Withdrawn.model_validate_json(answer.content).freed_bytes


def test_what_is_withdrawn_is_served_no_longer_and_gives_its_quota_back(api):
    big = b"b" * (QUOTA - 2000)
    root = Cid.of(RAW, big)
    api.call(UPLOADER, "PUT", f"/v1/content?root={root}&public=1", b"".join(write_car([root], [(root, big)])))
    assert api.get(f"/ipfs/{root}?format=raw").content == big
    assert not quota_left(api, 5000)

    assert withdrawn(api, root) == len(big) + 1024

    assert api.get(f"/ipfs/{root}?format=raw").status_code == 404
    assert quota_left(api, 5000)


def test_a_withdrawal_again_or_of_what_was_never_there_frees_nothing(api):
    api.call(UPLOADER, "PUT", PATH, CAR)

    assert withdrawn(api) > 0
    assert withdrawn(api) == 0
    assert withdrawn(api, Cid.of(RAW, b"never")) == 0


def test_what_is_withdrawn_goes_at_the_next_collection_of_garbage(api, bridge):
    api.call(UPLOADER, "PUT", PATH, CAR)
    withdrawn(api)

    found = collect_garbage(bridge.store, bridge.dispatcher.roots, bridge.clock.now, grace_seconds=-(10**10))

    assert (found.blocks, bridge.store.has(ROOT)) == (1, False)


def test_an_account_takes_back_only_its_own(api):
    for key in (UPLOADER, OTHER):
        api.call(key, "PUT", f"{PATH}&public=1", CAR)

    assert withdrawn(api) > 0
    assert api.get(f"/ipfs/{ROOT}?format=raw").content == BLOCK
    assert withdrawn(api, key=OTHER) > 0
    assert api.get(f"/ipfs/{ROOT}?format=raw").status_code == 404


def test_what_is_withdrawn_opens_no_private_input_any_longer(api, bridge):
    api.call(UPLOADER, "PUT", PATH, CAR)
    with reading(bridge.engine) as connection:
        assert is_meant_for(connection, ROOT, UPLOADER.address)

    withdrawn(api)

    with reading(bridge.engine) as connection:
        assert not is_meant_for(connection, ROOT, UPLOADER.address)


def test_what_was_withdrawn_can_be_brought_again(api):
    api.call(UPLOADER, "PUT", PATH, CAR)
    withdrawn(api)

    assert api.call(UPLOADER, "PUT", f"{PATH}&public=1", CAR).json() == {"missing": []}
    assert api.get(f"/ipfs/{ROOT}?format=raw").content == BLOCK


#: name -> (headers of a withdrawal, status, name of the problem)
NOT_WITHDRAWN = {
    "abuse not signed": (lambda api: {}, 401, "not-signed"),
    "abuse a forged signature": (lambda api: forged(api.headers(UPLOADER, "DELETE", PATH)), 401, "not-signed"),
    "abuse an upload's signature": (lambda api: api.headers(UPLOADER, "PUT", PATH, b""), 401, "not-signed"),
    "abuse a stranger": (lambda api: api.headers(key_of("stranger"), "DELETE", PATH), 403, "may-not-upload"),
    "abuse another root's signature": (
        lambda api: api.headers(UPLOADER, "DELETE", f"/v1/content?root={Cid.of(RAW, b'other')}"), 401, "not-signed",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", NOT_WITHDRAWN)
def test_who_may_not_withdraw_changes_nothing(api, what):
    api.call(UPLOADER, "PUT", f"{PATH}&public=1", CAR)
    headers, status, name = NOT_WITHDRAWN[what]

    answer = api.http.request("DELETE", PATH, headers=headers(api))

    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:insula:problem:{name}")
    assert api.get(f"/ipfs/{ROOT}?format=raw").content == BLOCK


def test_a_recorded_withdrawal_is_refused_after_the_content_came_again(api):
    api.call(UPLOADER, "PUT", f"{PATH}&public=1", CAR)
    headers = api.headers(UPLOADER, "DELETE", PATH)
    assert api.http.request("DELETE", PATH, headers=headers).status_code == 200
    api.call(UPLOADER, "PUT", f"{PATH}&public=1", CAR)

    assert api.http.request("DELETE", PATH, headers=headers).json()["type"] == "urn:insula:problem:replayed"
    assert api.get(f"/ipfs/{ROOT}?format=raw").content == BLOCK


@pytest.mark.parametrize("root", ["", "abuse", "bafy../../x"])
def test_a_withdrawal_of_what_is_no_cid_names_the_field(api, root):
    answer = api.call(UPLOADER, "DELETE", f"/v1/content?root={root}")

    assert (answer.status_code, answer.json()["field"]) == (422, "root")


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


def small_blocks(seed, count, size):
    return [(Cid.of(RAW, content), content) for content in (b"%d %d " % (seed, n) + bytes(size) for n in range(count))]


def test_abuse_uploads_at_once_have_one_quota_between_them(api, bridge):
    quarter = QUOTA // UPLOADS_PER_KEY
    bodies = {}
    for number in range(UPLOADS_PER_KEY):
        blocks = small_blocks(number, 20, 2 * quarter // 20 - BLOCK_OVERHEAD_BYTES)  # together twice what there is
        path = f"/v1/content?root={blocks[0][0]}"
        bodies[path] = b"".join(write_car([blocks[0][0]], blocks))
    with ThreadPoolExecutor(UPLOADS_PER_KEY) as pool:
        ends = list(pool.map(lambda path: api.call(UPLOADER, "PUT", path, bodies[path]).status_code, bodies))

    with reading(bridge.engine) as connection:
        stored = account_bytes(connection, UPLOADER.address)
    assert stored <= QUOTA
    assert stored > QUOTA - 4 * 2 * quarter // 20
    assert sorted(set(ends)) == [200, 413]


def test_what_was_stored_of_an_upload_that_failed_counts_no_longer_than_another(api, bridge):
    broken = b"\xff no dag-pb"
    root = Cid.of(DAG_PB, broken)
    body = b"".join(write_car([root], [(root, broken)]))
    assert api.call(UPLOADER, "PUT", f"/v1/content?root={root}", body).status_code == 422

    def counted():
        with reading(bridge.engine) as connection:
            return account_bytes(connection, UPLOADER.address)

    assert counted() == len(broken) + BLOCK_OVERHEAD_BYTES
    bridge.clock.now += bridge.config.content.retention_seconds + 60
    bridge.dispatcher.step()
    assert counted() == 0


def test_what_a_key_sends_is_stored_one_after_the_other_and_others_do_not_wait():
    at_work, go_on = threading.Event(), threading.Event()

    def slow():
        at_work.set()
        assert go_on.wait(10)
        return "first"

    async def case():
        turns = KeyTurns(wait_seconds=0.1)
        first = asyncio.create_task(turns.run("one", slow))
        assert await asyncio.to_thread(at_work.wait, 10)
        assert await turns.run("another", lambda: "not kept waiting") == "not kept waiting"
        with pytest.raises(Problem) as later:
            await turns.run("one", lambda: "second")
        assert later.value.status == 429
        go_on.set()
        assert await first == "first"
        assert await turns.run("one", lambda: "second") == "second"

    asyncio.run(case())


def test_who_waits_for_a_turn_takes_no_thread():
    at_work, go_on = threading.Event(), threading.Event()

    def slow():
        at_work.set()
        assert go_on.wait(10)

    async def case():
        turns = KeyTurns()
        first = asyncio.create_task(turns.run("one", slow))
        assert await asyncio.to_thread(at_work.wait, 10)
        waiting = [asyncio.create_task(turns.run("one", lambda: None)) for _ in range(100)]
        assert await asyncio.wait_for(run_in_threadpool(lambda: "a thread"), 10) == "a thread"
        go_on.set()
        await asyncio.gather(first, *waiting)

    asyncio.run(case())


def test_withdrawals_beside_uploads_leave_nothing_that_is_kept_and_counts_for_nobody(api, bridge):
    blocks = small_blocks(1, 40, 1000)
    root = blocks[0][0]
    body = b"".join(write_car([root], blocks))
    put, delete = f"/v1/content?root={root}&public=1", f"/v1/content?root={root}"

    with ThreadPoolExecutor(3) as pool:
        for _ in range(15):
            calls = [("PUT", put, body), ("DELETE", delete, b""), ("DELETE", delete, b"")]
            for answer in pool.map(lambda call: api.call(UPLOADER, *call), calls):
                assert answer.status_code == 200
            with reading(bridge.engine) as connection:
                counts = account_bytes(connection, UPLOADER.address) > 0
            assert bool(bridge.dispatcher.roots.live(bridge.clock.now, root)) == counts
