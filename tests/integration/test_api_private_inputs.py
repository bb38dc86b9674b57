"""A private input opens to jobs of the requester that it is for, and to nobody else: its CID is no secret."""

import httpx
import pytest

from bridge.config import ContentConfig
from bridge.jobs import JobState
from executor.content.blocks import MemoryBlocks
from executor.content.blockstore import BlockStore
from executor.content.car import write_car
from executor.protocol.cid import RAW, Cid
from executor.protocol.leases import Lease
from tests.bridge_kit import REQUESTER, Bridge, advert, key_of, order_of, spec_bytes, success
from tests.gateway_kit import directory, leaf

UPLOADER = key_of("uploader")
SECOND_UPLOADER = key_of("second uploader")
STRANGER = "0x" + "77" * 20
SECRET = b"a private input"
ROOT = Cid.of(RAW, SECRET)


class CountingStore(BlockStore):
    """Counts the blocks that are read."""

    def __init__(self, root):
        super().__init__(root)
        self.reads = 0

    def get(self, cid):
        self.reads += 1
        return super().get(cid)


@pytest.fixture
def bridge(tmp_path):
    content = ContentConfig(upload_quota_bytes=100_000, upload_accounts=(UPLOADER.address, SECOND_UPLOADER.address))
    bridge = Bridge(tmp_path, content=content)
    bridge.store = CountingStore(bridge.store.root)
    bridge.restarted()
    bridge.chain_at(110)
    yield bridge
    bridge.close()


def upload(api, query=""):
    bring(api, ROOT, [(ROOT, SECRET)], query)


def bring(api, root, blocks, query=""):
    response = api.call(UPLOADER, "PUT", f"/v1/content?root={root}{query}", b"".join(write_car([root], blocks)))
    assert response.status_code == 200, response.text


def read_as(api, bridge, requester):
    """What a node reads that holds a lease of a job of `requester` which names the input."""
    return reader(api, bridge, requester, ROOT)(ROOT)


def reader(api, bridge, requester, *named):
    """Reads what a node may that holds a lease of a job of `requester` which names these inputs."""
    inputs = [{"cid": str(cid), "path": f"/inputs/{n}"} for n, cid in enumerate(named)]
    bridge.request(order_of("site=camera", spec=spec_bytes(inputs=inputs, selector="site=camera")), requester=requester)
    node = bridge.node("a", "site=camera")
    asked = api.call(node.key, "POST", "/v1/leases", advert("node=admitted", "site=camera"))
    lease = Lease.model_validate_json(asked.content)
    return lambda cid: api.call(node.key, "GET", f"/v1/leases/{lease.lease_id}/car/{cid}")


def tree():
    """Directories in each other: the root, and all blocks from the root down."""
    blocks = MemoryBlocks()
    root = leaf(blocks, b"end")
    for _ in range(8):
        root = directory(blocks, a=root)
    return root, [(cid, blocks.get(cid)) for cid in reversed(list(blocks))]


def test_a_strangers_job_that_names_a_private_input_reads_nothing(api, bridge):
    upload(api)

    response = read_as(api, bridge, STRANGER)

    assert response.status_code == 404
    assert SECRET not in response.content


def test_a_job_of_the_uploading_account_reads_it(api, bridge):
    upload(api)

    assert SECRET in read_as(api, bridge, UPLOADER.address).content


def test_a_job_of_the_requester_that_it_is_for_reads_it(api, bridge):
    upload(api, f"&requester={REQUESTER}")

    assert SECRET in read_as(api, bridge, REQUESTER).content


def test_a_public_input_is_read_by_any_job(api, bridge):
    upload(api, "&public=1")

    assert SECRET in read_as(api, bridge, STRANGER).content


def test_a_spec_by_cid_does_not_publish_somebody_elses_private_upload(api, bridge):
    upload(api)
    job = bridge.request(order_of(spec=ROOT.binary, spec_is_cid=True), requester=STRANGER)

    bridge.dispatcher.step()

    assert bridge.job(job.request_hash).spec is None


def test_naming_a_root_without_bringing_it_opens_nothing(api, bridge):
    upload(api)
    car = b"".join(write_car([ROOT], []))
    path = f"/v1/content?root={ROOT}&requester={STRANGER}"
    response = api.call(SECOND_UPLOADER, "PUT", path, car)

    assert response.json()["missing"] == [str(ROOT)]
    assert read_as(api, bridge, STRANGER).status_code == 404


def test_an_outcome_that_names_a_private_upload_does_not_publish_it(api, bridge):
    upload(api)
    job = bridge.request(order_of(), requester=STRANGER)
    outcome = success(ROOT)
    bridge.set_job(job.request_hash, state=JobState.POSTED.value, outcome=outcome.encode())

    bridge.dispatcher.step()

    assert not bridge.dispatcher.roots.is_public(ROOT, bridge.clock.now)
    assert bridge.job(job.request_hash).published_at is not None


def test_of_a_private_directory_each_block_is_read_and_nothing_beside_it(api, bridge):
    root, blocks = tree()
    bring(api, root, blocks)
    read = reader(api, bridge, UPLOADER.address, root)

    for cid, block in blocks:
        assert block in read(cid).content
    assert read(Cid.of(RAW, b"absent")).status_code == 404


def test_to_read_a_directory_block_by_block_costs_what_the_blocks_cost(api, bridge):
    root, blocks = tree()
    bring(api, root, blocks)
    read = reader(api, bridge, UPLOADER.address, root)
    end = blocks[-1][0]
    assert read(end).status_code == 200
    before = bridge.store.reads

    for _ in range(10):
        assert read(end).status_code == 200
        assert read(Cid.of(RAW, b"absent")).status_code == 404

    assert bridge.store.reads == before + 10


def test_abuse_a_block_brought_beside_a_directory_opens_nothing_below_it(api, bridge):
    bridge.store.put(ROOT, SECRET)
    aside = MemoryBlocks()
    bait = directory(aside, a=ROOT)
    root, blocks = tree()
    bring(api, root, [*blocks, (bait, aside.get(bait))])
    read = reader(api, bridge, UPLOADER.address, root, bait)

    assert read(root).status_code == 200
    assert read(bait).status_code == 404


def test_where_a_block_is_lost_the_stream_is_cut_and_the_next_call_names_it(api, bridge):
    root, blocks = tree()
    bring(api, root, blocks)
    lost = blocks[4][0]
    bridge.store.delete(lost)
    read = reader(api, bridge, UPLOADER.address, root)

    with pytest.raises(httpx.RemoteProtocolError):
        read(root)
    refused = read(lost)
    assert refused.status_code == 404
    assert str(lost) in refused.json()["detail"]
