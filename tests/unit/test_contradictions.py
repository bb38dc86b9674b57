"""A node that signs two outcomes of one request: the proof is kept, within bounds, and shown when it harms nobody."""

import dataclasses

import pytest

from bridge.alarms import AlarmKeeper
from bridge.contradictions import MOST_SHOWN, shown_of
from bridge.errors import StaleLease, StaleTransition
from bridge.jobs import JobState
from bridge.store.alarms import acknowledge, raised_alarms
from bridge.store.contradictions import KEPT_PER_KEY, Contradiction, contradictions_of, keep_contradiction
from bridge.store.engine import reading, transaction
from bridge.watch import Alarm
from executor.errors import InvalidInput
from executor.protocol.evidence import MAX_EVIDENCE_BYTES, Evidence, SignedOutcome, check_evidence
from executor.protocol.signing import Scope
from executor.protocol.wire import Outcome, Status
from tests.bridge_kit import CHAIN_ID, CONTRACT, Bridge, attested, key_of, order_of, success

LIE = Outcome(status=Status.SUCCEEDED, payload=b"a lie")
NONSENSE = Outcome(status=99, reason=999, payload=b"no outcome that any contract takes")


@pytest.fixture
def bridge(tmp_path):
    bridge = Bridge(tmp_path)
    bridge.chain_at(110)
    yield bridge
    bridge.close()


@dataclasses.dataclass
class Answered:
    bridge: Bridge
    job: object
    node: object
    lease: object

    def say(self, outcome, **changes):
        self.bridge.answer(self.node, self.lease, attested(self.node.key, self.lease, outcome, **changes))


def answered(bridge, name="a", **changes):
    """A request that a node has answered truthfully."""
    job = bridge.request(order_of(**changes))
    node = bridge.node(name) if isinstance(name, str) else name
    lease = bridge.lease(node)
    bridge.answer(node, lease, attested(node.key, lease, success(bridge.bring(node, lease, b"result"))))
    return Answered(bridge, job, node, lease)


def kept(bridge, node):
    with reading(bridge.engine) as connection:
        return contradictions_of(connection, node.node_id)


def alarm(bridge):
    with reading(bridge.engine) as connection:
        return raised_alarms(connection).get(Alarm.NODE_CONTRADICTION)


def shown(bridge, node):
    with reading(bridge.engine) as connection:
        return shown_of(connection, node.node_id, bridge.clock.now)


@pytest.mark.parametrize("lie", [LIE, NONSENSE], ids=["a possible outcome", "one that could never be delivered"])
def test_a_second_signed_outcome_is_refused_and_kept_as_a_proof_with_an_alarm(bridge, lie):
    found = answered(bridge)
    before = bridge.slots(found.job.request_hash)

    with pytest.raises(StaleTransition, match="never changes"):
        found.say(lie)

    (one,) = kept(bridge, found.node)
    check_evidence(one.evidence)
    assert (one.node_id, one.found_at) == (found.node.node_id, bridge.clock.now)
    assert one.evidence.key == found.node.key.address
    assert one.evidence.request_hash == found.job.request_hash
    assert (one.evidence.first.outcome_hash, one.evidence.second.outcome_hash) == (before[0].outcome_hash, lie.hash)
    assert bridge.slots(found.job.request_hash) == before
    assert alarm(bridge).detail == f"node 1 (key {found.node.key.address}) signed two outcomes of request 1"


def test_it_is_kept_whatever_became_of_the_job(bridge):
    found = answered(bridge)
    bridge.set_job(found.job.request_hash, state="final")

    with pytest.raises(StaleTransition):
        found.say(LIE)

    assert len(kept(bridge, found.node)) == 1


def test_the_same_request_again_adds_nothing_and_raises_nothing_again(bridge):
    found = answered(bridge)
    for outcome in (LIE, NONSENSE, LIE):
        with pytest.raises(StaleTransition):
            found.say(outcome)

    assert [one.evidence.second.outcome_hash for one in kept(bridge, found.node)] == [LIE.hash]
    assert alarm(bridge).times == 1


def contradict(bridge, node, times):
    """A node contradicts itself about so many requests; their hashes."""
    hashes = []
    for _ in range(times):
        bridge.clock.now += 1
        found = answered(bridge, node)
        with pytest.raises(StaleTransition):
            found.say(LIE)
        hashes.append(found.job.request_hash)
    return hashes


def test_a_key_fills_no_more_than_its_share_with_its_first_proofs_and_its_newest(bridge):
    node = bridge.node("a")

    hashes = contradict(bridge, node, KEPT_PER_KEY + 3)

    stay = [hashes[-1], *reversed(hashes[: KEPT_PER_KEY - 1])]
    assert [one.evidence.request_hash for one in kept(bridge, node)] == stay


def test_a_node_cannot_push_out_what_is_shown_with_what_is_not_shown_yet(bridge):
    node = bridge.node("a")
    (over,) = contradict(bridge, node, 1)
    bridge.set_job(over, state="final")

    contradict(bridge, node, KEPT_PER_KEY + 3)

    assert [one.evidence.request_hash for one in shown(bridge, node).found] == [over]


def test_a_proof_of_each_key_comes_before_a_second_one_of_any_and_no_answer_grows_without_end(bridge):
    now = bridge.clock.now
    for number in range((MOST_SHOWN // KEPT_PER_KEY + 1) * KEPT_PER_KEY):
        key, job = key_of(f"{number // KEPT_PER_KEY}"), bridge.request(order_of(), state=JobState.FINAL)
        with transaction(bridge.engine) as connection:
            keep_contradiction(connection, Contradiction(1, made_up(job, key), now + number))

    found = shown(bridge, bridge.node("a")).found

    keys = {one.evidence.key for one in found[: MOST_SHOWN // KEPT_PER_KEY + 1]}
    assert (len(found), len(keys)) == (MOST_SHOWN, MOST_SHOWN // KEPT_PER_KEY + 1)


def made_up(job, key):
    """What looks like evidence; the store looks no closer."""
    said = SignedOutcome(
        outcome_hash=bytes(32), receipt_hash=bytes(32), log_root=bytes(32), log_size=1, relayer=CONTRACT,
        signature=bytes(65),
    )  # fmt: skip
    return Evidence(
        chain_id=1, contract=CONTRACT, request_hash=job.request_hash, key=key.address, first=said, second=said
    )


def test_the_alarm_shows_in_the_status_of_a_running_bridge(bridge):
    found = answered(bridge)
    with pytest.raises(StaleTransition):
        found.say(LIE)

    AlarmKeeper(bridge.engine, bridge.watch).step()

    assert [raised.alarm for raised in bridge.watch.alarms()] == [Alarm.NODE_CONTRADICTION]


def test_an_alarm_that_was_taken_back_is_raised_by_the_next_contradiction(bridge):
    node = bridge.node("a")
    for _ in range(2):
        found = answered(bridge, node)
        with pytest.raises(StaleTransition):
            found.say(LIE)
        assert alarm(bridge).times == 1
        with transaction(bridge.engine) as connection:
            assert acknowledge(connection, Alarm.NODE_CONTRADICTION)


NO_PROOF = {
    "another signer": lambda found: {"signer": key_of("somebody")},
    "another bridge": lambda found: {"scope": Scope(CHAIN_ID, "0x" + "12" * 20)},
    "another chain": lambda found: {"scope": Scope(CHAIN_ID + 1, CONTRACT)},
    "another request": lambda found: {"request": dataclasses.replace(found.job.request, id=7)},
}


@pytest.mark.parametrize("change", NO_PROOF)
def test_what_proves_nothing_is_refused_and_not_kept(bridge, change):
    found = answered(bridge)

    with pytest.raises(StaleLease):
        found.say(LIE, **NO_PROOF[change](found))

    assert (kept(bridge, found.node), alarm(bridge)) == ([], None)


def test_the_same_outcome_with_another_receipt_is_no_contradiction(bridge):
    found = answered(bridge)
    outcome = Outcome.decode(bridge.slots(found.job.request_hash)[0].outcome)

    with pytest.raises(StaleLease):
        found.say(outcome, receipt=b"another receipt")

    assert kept(bridge, found.node) == []


@pytest.mark.parametrize("state", ["posted", "final", "expired", "cancelled"])
def test_a_proof_is_shown_when_its_request_is_over(bridge, state):
    found = answered(bridge)
    with pytest.raises(StaleTransition):
        found.say(LIE)
    assert (shown(bridge, found.node).found, shown(bridge, found.node).held) == ((), 1)

    bridge.set_job(found.job.request_hash, state=state)

    assert (len(shown(bridge, found.node).found), shown(bridge, found.node).held) == (1, 0)


def test_a_proof_is_shown_after_the_deadline_wherever_the_request_is(bridge):
    found = answered(bridge)
    with pytest.raises(StaleTransition):
        found.say(LIE)
    bridge.set_job(found.job.request_hash, state="orphaned")
    bridge.clock.now = found.job.request.deadline
    assert shown(bridge, found.node).held == 1

    bridge.clock.now += 1

    assert len(shown(bridge, found.node).found) == 1


def proof(bridge):
    found = answered(bridge)
    with pytest.raises(StaleTransition):
        found.say(LIE)
    return kept(bridge, found.node)[0].evidence


def changed(evidence, name, **fields):
    return evidence.model_copy(update={name: getattr(evidence, name).model_copy(update=fields)})


FORGERIES = {
    "the same outcome twice": ("second.outcome_hash", lambda e: e.model_copy(update={"second": e.first})),
    "another key": ("first.signature", lambda e: e.model_copy(update={"key": key_of("x").address})),
    "another request": ("first.signature", lambda e: e.model_copy(update={"request_hash": bytes(32)})),
    "another chain": ("first.signature", lambda e: e.model_copy(update={"chain_id": 1})),
    "another outcome": ("second.signature", lambda e: changed(e, "second", outcome_hash=bytes(32))),
    "another relayer": ("first.signature", lambda e: changed(e, "first", relayer=CONTRACT)),
    "a larger log": ("first.signature", lambda e: changed(e, "first", log_size=2)),
    "a signature that is none": ("second.signature", lambda e: changed(e, "second", signature=bytes(65))),
}


@pytest.mark.parametrize("what", FORGERIES)
def test_a_forged_proof_names_the_field(bridge, what):
    field, forge = FORGERIES[what]

    with pytest.raises(InvalidInput) as caught:
        check_evidence(forge(proof(bridge)))

    assert caught.value.field == field


def test_a_proof_is_read_as_it_was_written(bridge):
    evidence = proof(bridge)

    assert Evidence.read(evidence.model_dump_json().encode(), "proof") == evidence


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (b"", "proof"),
        (b"[]", "proof"),
        (b'{"format": "insula-bundle/1"}', "proof: format"),
        (b" " * (MAX_EVIDENCE_BYTES + 1), "proof"),
    ],
    ids=["nothing", "no object", "another format", "too long"],
)
def test_what_is_no_proof_names_the_field(data, field):
    with pytest.raises(InvalidInput) as caught:
        Evidence.read(data, "proof")

    assert caught.value.field == field
