"""From a lease to the outbox: answers, agreement, reading back, handing over."""

import pytest

from bridge.jobs import JobState
from tests.bridge_kit import Bridge, attested, order_of, success


@pytest.fixture
def bridge(tmp_path):
    bridge = Bridge(tmp_path)
    bridge.chain_at(110)
    yield bridge
    bridge.close()


def answer_with(bridge, node, lease, content=b"result"):
    root = bridge.bring(node, lease, content)
    bridge.answer(node, lease, attested(node.key, lease, success(root)))
    return root


def test_an_answer_goes_through_agreement_and_reading_back_into_the_outbox(bridge):
    job = bridge.request(order_of())
    node = bridge.node("a")
    lease = bridge.lease(node)
    root = answer_with(bridge, node, lease)

    while bridge.dispatcher.step():
        pass

    assert bridge.job(job.request_hash).state is JobState.POSTING
    (delivery,) = bridge.outbox.deliveries
    assert delivery.outcome.output_cid == root.binary
    assert [a.signature for a in delivery.attestations] == [attested(node.key, lease, success(root)).signature]
