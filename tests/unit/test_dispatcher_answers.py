"""From a lease to the outbox: answers, agreement, reading back, handing over, publishing."""

import dataclasses

import pytest

from bridge.api.views import job_view
from bridge.bundles import NotSettled, bundle_of
from bridge.config import DispatchConfig
from bridge.dispatcher import OutputIncomplete, UnknownLease
from bridge.errors import StaleLease, StaleTransition
from bridge.jobs import JobState
from bridge.registry import NotRegistered
from bridge.store.content import slot_owner
from executor.errors import InvalidInput
from executor.protocol.cid import DAG_CBOR, RAW, Cid
from executor.protocol.leases import Phase
from executor.protocol.reasons import Reason
from executor.protocol.signing import Scope
from executor.protocol.wire import OnChainState, Outcome, ResultKind, Status
from tests.bridge_kit import CONTRACT, CURATOR, SCOPE, Bridge, attested, key_of, order_of, success

OTHER_RELAYER = "0x976EA74026E726554dB657fA54763abd0C3a0aa9"


@pytest.fixture
def bridge(tmp_path):
    bridge = Bridge(tmp_path, dispatch=DispatchConfig(agreement_grace_seconds=10))
    bridge.chain_at(110)
    yield bridge
    bridge.close()


def settle(bridge):
    while bridge.dispatcher.step():
        pass


def answer_with(bridge, node, lease, content=b"result"):
    root = bridge.bring(node, lease, content)
    bridge.answer(node, lease, attested(node.key, lease, success(root)))
    return root


def posting(bridge, order=None, content=b"result"):
    """A job in POSTING, and the root of its output."""
    job = bridge.request(order or order_of())
    node = bridge.node("a")
    root = answer_with(bridge, node, bridge.lease(node), content)
    settle(bridge)
    assert bridge.job(job.request_hash).state is JobState.POSTING
    return job, root


def test_an_answer_goes_through_agreement_and_reading_back_into_the_outbox(bridge):
    job = bridge.request(order_of())
    node = bridge.node("a")
    lease = bridge.lease(node)
    root = answer_with(bridge, node, lease)
    settle(bridge)

    assert bridge.job(job.request_hash).state is JobState.POSTING
    (delivery,) = bridge.outbox.deliveries
    assert delivery.outcome.output_cid == root.binary
    assert [a.signature for a in delivery.attestations] == [attested(node.key, lease, success(root)).signature]


def test_a_refusal_needs_no_output(bridge):
    job = bridge.request(order_of(spec=b"{"))
    node = bridge.node("a")
    lease = bridge.lease(node)
    bridge.answer(node, lease, attested(node.key, lease, Outcome(status=Status.REFUSED, reason=Reason.SPEC_NOT_JSON)))
    settle(bridge)

    assert bridge.job(job.request_hash).state is JobState.POSTING
    assert bridge.outbox.deliveries[0].outcome.status == Status.REFUSED


def test_a_held_output_that_is_released_is_answered_like_any_other(bridge):
    job = bridge.request(order_of())
    node = bridge.node("a")
    lease = bridge.lease(node)
    bridge.beat(node, lease, Phase.HELD)
    bridge.clock.now += 1000
    bridge.dispatcher.step()
    answer_with(bridge, node, lease)
    settle(bridge)

    assert bridge.job(job.request_hash).state is JobState.POSTING


def test_the_same_answer_again_is_fine(bridge):
    bridge.request(order_of())
    node = bridge.node("a")
    lease = bridge.lease(node)
    root = answer_with(bridge, node, lease)

    bridge.answer(node, lease, attested(node.key, lease, success(root)))
    settle(bridge)
    bridge.answer(node, lease, attested(node.key, lease, success(root)))


def test_another_answer_to_the_same_lease_is_refused(bridge):
    job = bridge.request(order_of())
    node = bridge.node("a")
    lease = bridge.lease(node)
    answer_with(bridge, node, lease)
    before = bridge.slots(job.request_hash)
    other = bridge.bring(node, lease, b"other")

    with pytest.raises(StaleTransition, match="never changes"):
        bridge.answer(node, lease, attested(node.key, lease, success(other)))
    assert bridge.slots(job.request_hash) == before


ROOT = Cid.of(RAW, b"result")
GOOD = success(ROOT)
CBOR = Cid.of(DAG_CBOR, b"\xa0")


def with_request(**changes):
    """An answer that is signed for a request which differs from the leased one."""
    return lambda lease: {"request": dataclasses.replace(lease.request.request(), **changes)}


#: name -> (what is signed or sent otherwise, outcome, error, words in it)
ATTACKS = {
    "for another request of the same order": (with_request(id=2), GOOD, InvalidInput, "signature"),
    "for another requester": (with_request(requester=CURATOR), GOOD, InvalidInput, "signature"),
    "for another chain": (lambda _: {"scope": Scope(1, CONTRACT)}, GOOD, InvalidInput, "signature"),
    "for another contract": (lambda _: {"scope": Scope(SCOPE.chain_id, CURATOR)}, GOOD, InvalidInput, "signature"),
    "signed by another key": (lambda _: {"signer": key_of("stranger")}, GOOD, InvalidInput, "signature"),
    "for another relayer": (lambda _: {"relayer": OTHER_RELAYER}, GOOD, InvalidInput, "relayer"),
    "with another token": (lambda lease: {"token": lease.token + 1}, GOOD, StaleLease, "fencing token"),
    "an output that was not uploaded": (
        lambda _: {},
        success(Cid.of(RAW, b"never uploaded")),
        OutputIncomplete,
        "outcome.outputCid",
    ),
    "a receipt that is no JSON": (lambda _: {"receipt": b"{"}, GOOD, InvalidInput, "receipt"),
    "a receipt that is no statement": (lambda _: {"receipt": b"{}"}, GOOD, InvalidInput, "receipt"),
    "a status that does not exist": (lambda _: {}, Outcome(status=9), InvalidInput, "outcome.status"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_answer_that_is_not_what_it_says_is_refused_and_changes_nothing(bridge, name):
    changes, outcome, error, words = ATTACKS[name]
    job = bridge.request(order_of())
    node = bridge.node("a")
    lease = bridge.lease(node)
    bridge.bring(node, lease, b"result")
    before = bridge.slots(job.request_hash), bridge.leases(job.request_hash)

    with pytest.raises(error, match=words):
        bridge.answer(node, lease, attested(node.key, lease, outcome, **changes(lease)))

    assert (bridge.slots(job.request_hash), bridge.leases(job.request_hash)) == before


def test_a_receipt_of_another_request_is_refused(bridge):
    bridge.request(order_of())
    bridge.request(order_of())
    node = bridge.node("a")
    first, second = bridge.lease(node), bridge.lease(node)
    bridge.bring(node, second, b"result")
    foreign = attested(node.key, first, GOOD).receipt

    with pytest.raises(InvalidInput, match="receipt: is for request"):
        bridge.answer(node, second, attested(node.key, second, GOOD, receipt=foreign))


def test_a_receipt_of_another_outcome_is_refused(bridge):
    bridge.request(order_of())
    node = bridge.node("a")
    lease = bridge.lease(node)
    bridge.bring(node, lease, b"result")
    foreign = attested(node.key, lease, success(CBOR)).receipt

    with pytest.raises(InvalidInput, match="receipt: is for outcome"):
        bridge.answer(node, lease, attested(node.key, lease, GOOD, receipt=foreign))


def test_an_outcome_in_another_encoding_is_refused(bridge):
    bridge.request(order_of())
    node = bridge.node("a")
    lease = bridge.lease(node)
    bridge.bring(node, lease, b"result")
    answer = attested(node.key, lease, GOOD)

    with pytest.raises(InvalidInput, match="one ABI encoding"):
        bridge.answer(node, lease, answer.model_copy(update={"outcome": answer.outcome + bytes(32)}))


def test_an_output_that_is_no_file_or_directory_is_refused(bridge):
    bridge.request(order_of())
    node = bridge.node("a")
    lease = bridge.lease(node)
    holdings = bridge.dispatcher.holdings
    holdings.take(holdings.allowance(slot_owner(lease.request_hash, node.key.address), 2**20), [(CBOR, b"\xa0")])

    with pytest.raises(InvalidInput, match="no file or directory"):
        bridge.answer(node, lease, attested(node.key, lease, success(CBOR)))


def test_an_answer_to_anothers_lease_is_refused(bridge):
    bridge.request(order_of())
    lease = bridge.lease(bridge.node("a"))
    thief = bridge.node("b")

    with pytest.raises(UnknownLease):
        bridge.answer(thief, lease, attested(thief.key, lease, GOOD))


def test_an_answer_after_the_lease_expired_is_stale_and_works_with_a_new_lease(bridge):
    job = bridge.request(order_of())
    node = bridge.node("a")
    lease = bridge.lease(node)
    root = bridge.bring(node, lease, b"result")
    bridge.clock.now += 61
    bridge.dispatcher.step()
    with pytest.raises(StaleLease):
        bridge.answer(node, lease, attested(node.key, lease, success(root)))

    bridge.clock.now += 6
    again = bridge.lease(node)
    bridge.answer(node, again, attested(node.key, again, success(root)))  # its upload is still there
    settle(bridge)

    assert bridge.job(job.request_hash).state is JobState.POSTING


def test_an_answer_of_a_key_that_was_replaced_is_refused(bridge):
    bridge.request(order_of())
    node = bridge.node("a")
    lease = bridge.lease(node)
    root = bridge.bring(node, lease, b"result")
    bridge.registry.rotate(node.key.address, key_of("new").address)

    with pytest.raises(NotRegistered):
        bridge.answer(node, lease, attested(node.key, lease, success(root)))


def test_an_answer_of_a_node_whose_label_counts_no_more_is_refused(bridge):
    bridge.request(order_of("site=camera"))
    node = bridge.node("a", "site=camera")
    lease = bridge.lease(node, "site=camera")
    root = bridge.bring(node, lease, b"result")
    bridge.registry.withdraw(CURATOR, node.node_id, "site=camera")

    with pytest.raises(InvalidInput, match="labels"):
        bridge.answer(node, lease, attested(node.key, lease, success(root)))


def test_blocks_that_another_node_brought_do_not_count_as_ones_own(bridge):
    bridge.request(order_of(nodes=2, quorum=2))
    first, second = bridge.node("a"), bridge.node("b")
    one, two = bridge.lease(first), bridge.lease(second)
    root = answer_with(bridge, first, one)

    with pytest.raises(OutputIncomplete):
        bridge.answer(second, two, attested(second.key, two, success(root)))


def quorum_job(bridge, nodes, quorum):
    """A request for several nodes, and their leases."""
    job = bridge.request(order_of(nodes=nodes, quorum=quorum))
    members = [bridge.node(f"n{i}") for i in range(nodes)]
    return job, [(node, bridge.lease(node)) for node in members]


def test_a_quorum_waits_a_moment_for_the_others_so_that_they_are_paid_too(bridge):
    job, [(a, lease_a), (b, lease_b), (c, lease_c)] = quorum_job(bridge, 3, 2)
    answer_with(bridge, a, lease_a)
    answer_with(bridge, b, lease_b)
    settle(bridge)
    assert bridge.job(job.request_hash).state is JobState.RUNNING
    answer_with(bridge, c, lease_c)
    settle(bridge)

    assert len(bridge.outbox.deliveries[0].attestations) == 3


def test_a_quorum_goes_ahead_when_the_others_take_too_long(bridge):
    job, [(a, lease_a), (b, lease_b), (c, lease_c)] = quorum_job(bridge, 3, 2)
    answer_with(bridge, a, lease_a)
    answer_with(bridge, b, lease_b)
    settle(bridge)
    bridge.clock.now += 10
    settle(bridge)

    assert bridge.job(job.request_hash).state is JobState.POSTING
    assert len(bridge.outbox.deliveries[0].attestations) == 2
    assert not bridge.beat(c, lease_c).go_on


def test_only_answers_that_agree_are_delivered(bridge):
    _, [(a, lease_a), (b, lease_b), (c, lease_c)] = quorum_job(bridge, 3, 2)
    answer_with(bridge, a, lease_a)
    answer_with(bridge, b, lease_b, b"another result")
    answer_with(bridge, c, lease_c)
    settle(bridge)

    (delivery,) = bridge.outbox.deliveries
    assert delivery.outcome == GOOD
    assert len(delivery.attestations) == 2


def test_nodes_that_cannot_agree_any_more_end_the_job_with_a_reason(bridge):
    job, [(a, lease_a), (b, lease_b), (c, lease_c)] = quorum_job(bridge, 3, 3)
    answer_with(bridge, a, lease_a)
    answer_with(bridge, b, lease_b, b"another result")
    settle(bridge)

    found = bridge.job(job.request_hash)
    assert (found.state, found.reason) == (JobState.RUNNING, Reason.NO_AGREEMENT)
    assert "do not agree" in bridge.beat(c, lease_c).reason
    assert bridge.outbox.deliveries == []


def test_nothing_is_handed_over_before_the_request_is_deep_enough(bridge):
    job = bridge.request(order_of(), block=109)
    node = bridge.node("a")
    answer_with(bridge, node, bridge.lease(node))
    settle(bridge)
    assert bridge.job(job.request_hash).state is JobState.STORED

    bridge.chain_at(111)
    settle(bridge)
    assert bridge.job(job.request_hash).state is JobState.POSTING


def test_nothing_is_handed_over_while_the_listener_has_seen_no_block(tmp_path):
    bridge = Bridge(tmp_path)
    job = bridge.request(order_of())
    node = bridge.node("a")
    answer_with(bridge, node, bridge.lease(node))
    settle(bridge)

    assert bridge.job(job.request_hash).state is JobState.STORED
    bridge.close()


def test_nothing_is_handed_over_after_the_deadline(bridge):
    job = bridge.request(order_of(), block=109)
    node = bridge.node("a")
    answer_with(bridge, node, bridge.lease(node))
    settle(bridge)
    bridge.clock.now += 3600
    bridge.chain_at(120)
    settle(bridge)

    found = bridge.job(job.request_hash)
    assert (found.state, found.reason) == (JobState.STORED, Reason.TOO_LATE)


def test_a_delivery_that_cannot_be_written_leaves_the_job_where_it_was(bridge):
    job = bridge.request(order_of())
    node = bridge.node("a")
    answer_with(bridge, node, bridge.lease(node))

    def broken(connection, job, outcome, attestations, now):
        raise StaleTransition("the row is not as it was")

    good, bridge.outbox.enqueue = bridge.outbox.enqueue, broken
    bridge.restarted()
    settle(bridge)
    assert bridge.job(job.request_hash).state is JobState.STORED

    bridge.outbox.enqueue = good
    bridge.restarted()
    settle(bridge)
    assert bridge.job(job.request_hash).state is JobState.POSTING


def test_answers_outlive_a_reorg(bridge):
    job, root = posting(bridge)
    bridge.set_job(job.request_hash, state="orphaned")
    bridge.dispatcher.step()
    bridge.set_job(job.request_hash, state="ready", block_number=104)
    settle(bridge)

    assert bridge.job(job.request_hash).state is JobState.POSTING
    assert [d.outcome.output_cid for d in bridge.outbox.deliveries] == [root.binary, root.binary]
    assert len(bridge.leases(job.request_hash)) == 1


def damage(bridge, cid, content=b"broken"):
    path = bridge.store._path(cid)
    path.chmod(0o600)
    path.write_bytes(content)


def lose_and_bring_again(bridge, harm):
    """An answered job whose output is harmed before it is read back; returns job, node and answer."""
    job = bridge.request(order_of())
    node = bridge.node("a")
    lease = bridge.lease(node)
    root = answer_with(bridge, node, lease)
    harm(root)
    settle(bridge)
    found = bridge.job(job.request_hash)
    assert (found.state, found.wanted_block) == (JobState.READY, root.binary)
    assert bridge.outbox.deliveries == []
    return job, node, attested(node.key, lease, success(root))


@pytest.mark.parametrize("harm", ["damaged", "deleted"])
def test_an_output_that_cannot_be_read_back_is_asked_for_again_and_the_answer_stays(bridge, harm):
    act = {"damaged": lambda root: damage(bridge, root), "deleted": bridge.store.delete}[harm]
    job, node, signed = lose_and_bring_again(bridge, act)
    answered = bridge.slots(job.request_hash)[0]

    again = bridge.lease(node)
    assert (again.slot, again.attempt) == (1, 2)
    resent = signed.model_copy(update={"token": again.token})
    with pytest.raises(OutputIncomplete):
        bridge.answer(node, again, resent)
    bridge.bring(node, again, b"result")
    bridge.answer(node, again, resent)
    settle(bridge)

    assert bridge.job(job.request_hash).state is JobState.POSTING
    now = bridge.slots(job.request_hash)[0]
    assert (now.signature, now.answered_at) == (answered.signature, answered.answered_at)


def test_only_the_node_that_answered_is_asked_for_its_output_again(bridge):
    lose_and_bring_again(bridge, bridge.store.delete)

    assert bridge.lease(bridge.node("b")) is None


def test_a_node_asked_for_its_output_again_cannot_change_its_answer(bridge):
    job, node, _ = lose_and_bring_again(bridge, bridge.store.delete)
    again = bridge.lease(node)
    other = bridge.bring(node, again, b"other")

    with pytest.raises(StaleTransition, match="never changes"):
        bridge.answer(node, again, attested(node.key, again, success(other)))
    assert bridge.slots(job.request_hash)[0].outcome == GOOD.encode()


def test_an_output_becomes_public_only_when_it_stands_on_the_chain(bridge):
    job, root = posting(bridge)
    roots = bridge.dispatcher.roots
    assert not roots.is_public(root, bridge.clock.now)
    bridge.set_job(job.request_hash, state="posted")
    bridge.dispatcher.step()

    retention = bridge.config.content.retention_seconds
    assert roots.is_public(root, bridge.clock.now + retention - 1)
    assert not roots.is_public(root, bridge.clock.now + retention + 1)


def test_a_result_that_comes_back_as_another_one_after_a_reorg_is_published_too(bridge):
    job = bridge.request(order_of(nodes=3, quorum=2))
    roots = []
    for name, output in (("a", b"one output"), ("b", b"one output"), ("c", b"another output")):
        node = bridge.node(name)
        lease = bridge.lease(node)
        roots.append(bridge.bring(node, lease, output))
        bridge.answer(node, lease, attested(node.key, lease, success(roots[-1])))
    bridge.set_job(job.request_hash, state="posted", outcome=success(roots[0]).encode())
    bridge.dispatcher.step()
    bridge.set_job(job.request_hash, state="posting")
    bridge.clock.now += 10
    bridge.dispatcher.step()
    assert not bridge.dispatcher.roots.is_public(roots[2], bridge.clock.now)
    bridge.set_job(job.request_hash, state="posted", outcome=success(roots[2]).encode())
    bridge.dispatcher.step()

    assert bridge.dispatcher.roots.is_public(roots[2], bridge.clock.now)


REFUNDED = {
    "expired": (JobState.EXPIRED, OnChainState.EXPIRED),
    "expired, and final": (JobState.FINAL, OnChainState.EXPIRED),
    "cancelled": (JobState.CANCELLED, OnChainState.CANCELLED),
    "cancelled, and final": (JobState.FINAL, OnChainState.CANCELLED),
}


@pytest.mark.parametrize("how", REFUNDED)
def test_what_was_agreed_on_for_a_request_that_was_refunded_is_shown_to_nobody(bridge, how):
    state, chain_state = REFUNDED[how]
    job = bridge.request(order_of())
    node = bridge.node("a")
    lease = bridge.lease(node)
    root = bridge.bring(node, lease, b"the result")
    bridge.answer(node, lease, attested(node.key, lease, success(root)))
    bridge.dispatcher.step()
    assert bridge.job(job.request_hash).outcome == success(root)

    ending = {"settled_tx": b"t" * 32, "settled_block_number": 120, "settled_block_hash": b"b" * 32}
    bridge.set_job(job.request_hash, state=state, chain_state=chain_state, **ending)
    bridge.dispatcher.step()

    found = bridge.job(job.request_hash)
    assert not bridge.dispatcher.roots.is_public(root, bridge.clock.now)
    assert job_view(found)["outcome"] is None
    with pytest.raises(NotSettled):
        bundle_of(found, bridge.slots(job.request_hash))


def test_an_output_that_a_stranger_relayed_and_is_not_here_is_published_by_nobody(bridge):
    job = bridge.request(order_of(), state=JobState.POSTED, outcome=success(Cid.of(RAW, b"elsewhere")).encode())
    bridge.dispatcher.step()

    assert bridge.job(job.request_hash).published_at == bridge.clock.now
    assert not bridge.dispatcher.step()


@pytest.mark.parametrize("output", [b"", b"no cid at all"])
def test_an_outcome_without_a_good_cid_publishes_nothing(bridge, output):
    outcome = Outcome(status=Status.SUCCEEDED, output_cid=output)
    job = bridge.request(order_of(), state=JobState.POSTED, outcome=outcome.encode())
    bridge.dispatcher.step()

    assert bridge.job(job.request_hash).published_at is not None


def test_a_payload_has_to_be_the_exit_code_where_the_order_asks_for_it(bridge):
    bridge.request(order_of(result_kind=ResultKind.EXIT_CODE))
    node = bridge.node("a")
    lease = bridge.lease(node)
    root = bridge.bring(node, lease, b"result")

    with pytest.raises(InvalidInput, match=r"outcome\.payload"):
        bridge.answer(node, lease, attested(node.key, lease, success(root, b"1")))
    bridge.answer(node, lease, attested(node.key, lease, success(root, b"0")))
