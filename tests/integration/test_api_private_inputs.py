"""A private input opens to jobs of the requester that it is for, and to nobody else: its CID is no secret."""

import pytest

from bridge.config import ContentConfig
from bridge.jobs import JobState
from executor.content.car import write_car
from executor.protocol.cid import RAW, Cid
from executor.protocol.leases import Lease
from tests.bridge_kit import REQUESTER, Bridge, advert, key_of, order_of, spec_bytes, success

UPLOADER = key_of("uploader")
SECOND_UPLOADER = key_of("second uploader")
STRANGER = "0x" + "77" * 20
SECRET = b"a private input"
ROOT = Cid.of(RAW, SECRET)


@pytest.fixture
def bridge(tmp_path):
    content = ContentConfig(upload_quota_bytes=100_000, upload_accounts=(UPLOADER.address, SECOND_UPLOADER.address))
    bridge = Bridge(tmp_path, content=content)
    bridge.chain_at(110)
    yield bridge
    bridge.close()


def upload(api, query=""):
    car = b"".join(write_car([ROOT], [(ROOT, SECRET)]))
    response = api.call(UPLOADER, "PUT", f"/v1/content?root={ROOT}{query}", car)
    assert response.status_code == 200, response.text


def read_as(api, bridge, requester):
    """What a node reads that holds a lease of a job of `requester` which names the input."""
    spec = spec_bytes(inputs=[{"cid": str(ROOT), "path": "/inputs/x"}], selector="site=camera")
    bridge.request(order_of("site=camera", spec=spec), requester=requester)
    node = bridge.node("a", "site=camera")
    asked = api.call(node.key, "POST", "/v1/leases", advert("node=admitted", "site=camera"))
    lease = Lease.model_validate_json(asked.content)
    return api.call(node.key, "GET", f"/v1/leases/{lease.lease_id}/car/{ROOT}")


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
