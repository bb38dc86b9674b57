"""Who gets a lease, for how long, and what ends it."""

import threading

import pytest

from bridge.config import DispatchConfig
from bridge.dispatcher import KEY_FRESH_SECONDS, KEYS_KEPT, UnknownLease
from bridge.errors import StaleLease
from bridge.explaining import explain
from bridge.jobs import JobState
from bridge.registry import NotRegistered
from executor.errors import InvalidInput
from executor.protocol.cid import RAW, Cid
from executor.protocol.leases import Phase
from executor.protocol.reasons import Reason
from executor.protocol.wire import ZERO_ADDRESS
from tests.bridge_kit import CURATOR, REQUESTER, Bridge, Node, advert, capacity, key_of, order_of, spec_bytes


@pytest.fixture
def bridge(tmp_path):
    bridge = Bridge(tmp_path, dispatch=DispatchConfig(max_attempts=3, max_running_per_requester=2))
    bridge.chain_at(110)
    yield bridge
    bridge.close()


def states(bridge, job):
    return [(lease.state, lease.reason) for lease in bridge.leases(job.request_hash)]


def test_a_lease_carries_the_request_so_that_the_node_can_recompute_its_hash(bridge):
    job = bridge.request(order_of())
    lease = bridge.lease(bridge.node("a"))

    assert lease.request.request().hash == lease.request_hash == job.request_hash
    assert (lease.slot, lease.attempt) == (1, 1)
    assert bridge.job(job.request_hash).state is JobState.RUNNING


def test_the_oldest_request_is_leased_first(bridge):
    newer = bridge.request(order_of(), block=100)
    older = bridge.request(order_of(), block=99)
    node = bridge.node("a")

    assert [bridge.lease(node).request_hash, bridge.lease(node).request_hash] == [
        older.request_hash,
        newer.request_hash,
    ]


def test_a_key_that_is_not_registered_gets_nothing(bridge):
    bridge.request(order_of())
    stranger = Node(key_of("stranger"), 9, CURATOR)

    with pytest.raises(NotRegistered):
        bridge.lease(stranger)


def test_a_strangers_calls_ask_the_chain_once_in_a_while(bridge):
    stranger = key_of("stranger").address
    for _ in range(60):
        with pytest.raises(NotRegistered):
            bridge.dispatcher.is_node(stranger)
    assert bridge.registry.asked == 1

    bridge.clock.now += KEY_FRESH_SECONDS
    with pytest.raises(NotRegistered):
        bridge.dispatcher.is_node(stranger)
    assert bridge.registry.asked == 2


def test_a_key_that_has_joined_counts_a_moment_later(bridge):
    key = key_of("node a").address
    with pytest.raises(NotRegistered):
        bridge.dispatcher.is_node(key)
    bridge.node("a")
    bridge.clock.now += KEY_FRESH_SECONDS

    bridge.dispatcher.is_node(key)


def test_strangers_with_many_keys_fill_no_memory(bridge):
    first = key_of("stranger").address
    for address in [first, *(f"0x{number:040x}" for number in range(KEYS_KEPT))]:
        with pytest.raises(NotRegistered):
            bridge.dispatcher.is_node(address)
    asked = bridge.registry.asked

    with pytest.raises(NotRegistered):
        bridge.dispatcher.is_node(first)
    assert bridge.registry.asked == asked + 1


def test_a_key_that_was_replaced_gets_nothing(bridge):
    bridge.request(order_of())
    node = bridge.node("a")
    bridge.registry.rotate(node.key.address, key_of("new").address)

    with pytest.raises(NotRegistered):
        bridge.lease(node)


def test_a_word_that_is_no_label_is_refused(bridge):
    with pytest.raises(InvalidInput, match="labels"):
        bridge.lease(bridge.node("a"), "no label")


#: name -> (order, labels that the node advertises, labels that the curator vouched for)
UNFIT = {
    "a label that the curator did not vouch for": (order_of("site=camera"), ["site=camera"], []),
    "a label that the node vouched for itself": (order_of("site=camera"), ["site=camera", "gpu=yes"], ["gpu=yes"]),
    "a label that it does not advertise": (order_of("site=camera"), [], ["site=camera"]),
    "a selector on a word that does not count": (
        order_of(spec=spec_bytes(selector="gpu=yes")),
        ["gpu=yes"],
        [],
    ),
    "a tier that it lacks": (
        order_of(spec=spec_bytes(engine={"type": "docker", "image": f"sha256:{'0' * 64}", "tier": "gvisor"})),
        [],
        [],
    ),
    "more memory than it has": (order_of(spec=spec_bytes(limits={"memoryBytes": 8 * 2**30})), [], []),
}


@pytest.mark.parametrize("name", UNFIT)
def test_a_node_that_does_not_fit_gets_no_lease(bridge, name):
    order, words, vouched = UNFIT[name]
    job = bridge.request(order)
    node = bridge.node("a")
    bridge.registry.vouch(CURATOR, node.node_id, *vouched)

    assert bridge.lease(node, *words) is None
    assert bridge.job(job.request_hash).state is JobState.READY


def test_a_vouch_that_was_withdrawn_a_moment_ago_counts_no_more(bridge):
    node = bridge.node("a", "site=camera")
    assert bridge.lease(node, "site=camera") is None
    first = bridge.request(order_of("site=camera"))
    assert bridge.lease(node, "site=camera").request_hash == first.request_hash

    bridge.request(order_of("site=camera"))
    bridge.registry.withdraw(CURATOR, node.node_id, "site=camera")

    assert bridge.lease(node, "site=camera") is None


def test_without_a_curator_the_nodes_own_declared_word_counts(bridge):
    bridge.request(order_of("site=camera", curator=ZERO_ADDRESS))
    node = bridge.node("a", "site=camera", vouch=False)

    assert bridge.lease(node, "site=camera") is not None


def test_a_spec_that_can_never_run_is_leased_to_any_admitted_node(bridge):
    job = bridge.request(order_of(spec=b"not a spec"))
    node = bridge.node("a")

    lease = bridge.lease(node, tiers=(), free=capacity(slots=1, cpu=0, memory=0, disk=0))

    assert lease.request_hash == job.request_hash


def test_a_spec_by_cid_is_leased_once_its_bytes_are_here(bridge):
    data = spec_bytes()
    cid = Cid.of(RAW, data)
    job = bridge.request(order_of(spec=cid.binary, spec_is_cid=True))
    node = bridge.node("a")
    assert bridge.lease(node) is None
    bridge.dispatcher.step()
    assert bridge.job(job.request_hash).reason == Reason.SPEC_UNREADABLE

    bridge.store.put(cid, data)
    bridge.dispatcher.roots.publish(cid, "test")
    bridge.clock.now += 10
    bridge.dispatcher.step()

    assert bridge.lease(node).request_hash == job.request_hash
    assert bridge.job(job.request_hash).reason == 0


def test_a_cid_that_is_none_makes_a_spec_that_can_never_run(bridge):
    bridge.request(order_of(spec=b"no cid", spec_is_cid=True))
    bridge.dispatcher.step()

    assert bridge.lease(bridge.node("a")) is not None


@pytest.mark.parametrize(("before_deadline", "given"), [(151, True), (150, False), (0, False), (-5, False)])
def test_no_lease_when_less_than_wall_limit_and_margin_is_left(bridge, before_deadline, given):
    bridge.request(order_of())  # wallSeconds 30, margin 120
    bridge.clock.now += 3600 - before_deadline

    assert (bridge.lease(bridge.node("a")) is not None) is given


def test_a_request_that_comes_too_late_says_so(bridge):
    job = bridge.request(order_of())
    bridge.clock.now += 3500
    bridge.lease(bridge.node("a"))  # it would do
    bridge.dispatcher.step()

    assert bridge.job(job.request_hash).reason == Reason.TOO_LATE


def test_an_order_below_the_bridges_price_is_leased_to_nobody_and_says_so(tmp_path):
    bridge = Bridge(tmp_path, dispatch=DispatchConfig(min_unit_price=1001))
    job = bridge.request(order_of())

    assert bridge.lease(bridge.node("a")) is None
    bridge.dispatcher.step()
    assert bridge.job(job.request_hash).reason == Reason.PRICE_BELOW_MINIMUM
    bridge.close()


TOKEN = "0x00000000000000000000000000000000C0FFEE01"


def test_an_order_in_a_token_that_the_bridge_does_not_take_is_leased_to_nobody_and_says_so(bridge):
    job = bridge.request(order_of(token=TOKEN))

    assert bridge.lease(bridge.node("a")) is None
    bridge.dispatcher.step()
    found = bridge.job(job.request_hash)
    assert (found.reason, TOKEN in found.detail) == (Reason.PRICE_BELOW_MINIMUM, True)


def test_an_order_in_a_token_that_the_bridge_takes_is_leased_at_that_tokens_prices(tmp_path):
    tokens = {TOKEN: {"min_unit_price": "1000", "min_delivery_fee": "10"}}
    bridge = Bridge(tmp_path, dispatch=DispatchConfig(min_unit_price=10**30, tokens=tokens))
    cheap = bridge.request(order_of(token=TOKEN, unit_price=999))
    job = bridge.request(order_of(token=TOKEN, unit_price=1000, delivery_fee=10))

    lease = bridge.lease(bridge.node("a"))

    bridge.dispatcher.step()
    assert lease.request_hash == job.request_hash
    assert bridge.job(cheap.request_hash).reason == Reason.PRICE_BELOW_MINIMUM
    bridge.close()


def test_a_requester_gets_no_more_than_his_share_at_once(bridge):
    for _ in range(3):
        bridge.request(order_of(), block=50)
    other = bridge.request(order_of(), requester=CURATOR, block=60)
    node = bridge.node("a")

    leases = [bridge.lease(node) for _ in range(4)]

    assert [lease.request.requester for lease in leases[:3]] == [REQUESTER, REQUESTER, CURATOR]
    assert leases[2].request_hash == other.request_hash
    assert leases[3] is None


def test_a_node_gets_no_more_than_it_has_room_for(bridge):
    bridge.request(order_of())
    bridge.request(order_of())
    node = bridge.node("a")
    small = {"free": capacity(slots=1), "total": capacity(slots=1)}

    assert bridge.lease(node, **small) is not None
    assert bridge.lease(node, **small) is None


def test_a_node_never_has_two_slots_of_one_request(bridge):
    bridge.request(order_of(nodes=2, quorum=2))
    node = bridge.node("a")

    assert bridge.lease(node) is not None
    assert bridge.lease(node) is None


def test_an_operator_never_has_two_slots_of_one_request(bridge):
    bridge.request(order_of(nodes=2, quorum=2))

    assert bridge.lease(bridge.node("a", operator="one")) is not None
    assert bridge.lease(bridge.node("b", operator="one")) is None
    assert bridge.lease(bridge.node("c", operator="two")).slot == 2


def test_many_threads_of_one_node_get_one_slot_of_a_request(bridge):
    bridge.request(order_of(nodes=3, quorum=2))
    node = bridge.node("a")
    got = []
    threads = [threading.Thread(target=lambda: got.append(bridge.lease(node))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert len(got) == 8
    assert sum(lease is not None for lease in got) == 1


def test_a_heartbeat_renews_a_lease(bridge):
    job = bridge.request(order_of())
    node = bridge.node("a")
    lease = bridge.lease(node)
    for _ in range(5):
        bridge.clock.now += 50
        assert bridge.beat(node, lease).go_on
        bridge.dispatcher.step()

    assert states(bridge, job) == [("active", 0)]


def kept(bridge, node, lease, seconds, phase=Phase.RUNNING):
    """Beat every 50 s for so long; the last answer."""
    for _ in range(seconds // 50):
        bridge.clock.now += 50
        answer = bridge.beat(node, lease, phase)
    return answer


def test_a_node_that_only_beats_loses_its_lease_and_others_get_the_slot(bridge):
    job = bridge.request(order_of(ttl=86400))
    node = bridge.node("a")
    lease = bridge.lease(node)  # wallSeconds 30, and 900 each to fetch and to upload
    assert kept(bridge, node, lease, 1800).go_on

    answer = kept(bridge, node, lease, 50)

    assert not answer.go_on
    assert "kept longer" in answer.reason
    assert states(bridge, job) == [("expired", Reason.LEASE_LOST)]
    assert bridge.slots(job.request_hash)[0].attempts == 1
    assert bridge.lease(node) is None
    explained = explain(bridge.dispatcher, bridge.job(job.request_hash), bridge.clock())
    assert "kept longer" in explained.leases[0].detail
    assert any("kept longer" in reason.text for reason in explained.nodes if reason.node_id == node.node_id)
    assert bridge.lease(bridge.node("b")).request_hash == job.request_hash


def test_a_lease_is_never_renewed_beyond_its_end(bridge):
    bridge.request(order_of(ttl=86400))
    node = bridge.node("a")
    lease = bridge.lease(node)
    kept(bridge, node, lease, 1800)

    assert bridge.beat(node, lease).expires_in_seconds == 30


def test_a_lease_that_has_lived_its_longest_ends_without_a_heartbeat_too(bridge):
    job = bridge.request(order_of(ttl=86400))
    node = bridge.node("a")
    lease = bridge.lease(node)
    kept(bridge, node, lease, 1800)
    bridge.clock.now += 30.0
    bridge.dispatcher.step()

    assert states(bridge, job) == [("expired", Reason.LEASE_LOST)]


def test_what_is_held_is_held_for_so_long_in_all(bridge):
    job = bridge.request(order_of(ttl=86400))
    node = bridge.node("a")
    lease = bridge.lease(node)
    assert kept(bridge, node, lease, 5400, Phase.HELD).go_on

    assert not kept(bridge, node, lease, 50, Phase.HELD).go_on
    assert bridge.job(job.request_hash).state is JobState.READY


def test_saying_held_and_running_by_turns_gains_no_time(bridge):
    bridge.request(order_of(ttl=86400))
    node = bridge.node("a")
    lease = bridge.lease(node)
    kept(bridge, node, lease, 5000, Phase.HELD)

    assert not bridge.beat(node, lease, Phase.RUNNING).go_on


def test_a_node_has_no_more_leases_than_the_bridge_lets_it_whatever_it_says(tmp_path):
    bridge = Bridge(tmp_path, dispatch=DispatchConfig(max_leases_per_node=2))
    bridge.chain_at(110)
    jobs = [bridge.request(order_of()) for _ in range(3)]
    node = bridge.node("a")
    huge = {name: capacity(slots=4096, cpu=2**31, memory=2**53, disk=2**53) for name in ("free", "total")}
    first = bridge.lease(node, **huge)
    bridge.beat(node, first, Phase.HELD)
    assert bridge.lease(node, **huge) is not None

    assert bridge.lease(node, **huge) is None
    explained = explain(bridge.dispatcher, bridge.job(jobs[2].request_hash), bridge.clock())
    assert explained.reason is Reason.NODES_BUSY
    bridge.give_back(node, first)
    assert bridge.lease(node, **huge).request_hash == jobs[2].request_hash
    bridge.close()


def test_a_lease_without_a_heartbeat_is_given_to_another_node(bridge):
    job = bridge.request(order_of())
    silent = bridge.node("a")
    first = bridge.lease(silent)
    bridge.clock.now += 61
    bridge.dispatcher.step()
    assert bridge.job(job.request_hash).state is JobState.READY

    second = bridge.lease(bridge.node("b"))

    assert second.request_hash == job.request_hash
    assert (second.slot, second.attempt) == (1, 2)
    assert second.token > first.token
    answer = bridge.beat(silent, first)
    assert not answer.go_on
    assert "no heartbeat" in answer.reason


def test_a_held_lease_is_never_given_elsewhere(bridge):
    job = bridge.request(order_of())
    node = bridge.node("a")
    lease = bridge.lease(node)
    bridge.beat(node, lease, Phase.HELD)
    assert bridge.job(job.request_hash).state is JobState.HELD

    bridge.clock.now += 2000
    bridge.dispatcher.step()

    assert bridge.lease(bridge.node("b")) is None
    assert bridge.beat(node, lease, Phase.HELD).go_on


def test_a_held_output_leaves_processor_and_memory_to_others(bridge):
    bridge.request(order_of())
    bridge.request(order_of())
    node = bridge.node("a")
    small = {"free": capacity(slots=1), "total": capacity(slots=1)}
    lease = bridge.lease(node, **small)
    bridge.beat(node, lease, Phase.HELD)

    assert bridge.lease(node, **small) is not None


def test_a_job_with_one_slot_held_and_another_running_is_running(bridge):
    job = bridge.request(order_of(nodes=2, quorum=2))
    first, second = bridge.node("a"), bridge.node("b")
    held = bridge.lease(first)
    bridge.beat(first, held, Phase.HELD)
    bridge.lease(second)

    assert bridge.job(job.request_hash).state is JobState.RUNNING


def test_a_lease_that_is_given_back_goes_to_others_first(bridge):
    job = bridge.request(order_of())
    first, second = bridge.node("a"), bridge.node("b")
    lease = bridge.lease(first)
    bridge.give_back(first, lease, Reason.INPUT_NOT_FOUND, "bafy... not found")

    assert bridge.job(job.request_hash).state is JobState.READY
    assert states(bridge, job) == [("returned", Reason.INPUT_NOT_FOUND)]
    assert bridge.lease(first) is None
    assert bridge.lease(second).request_hash == job.request_hash


def test_a_node_that_gave_back_gets_its_turn_again_after_a_rest_that_grows(bridge):
    bridge.request(order_of())
    node = bridge.node("a")
    for rest in (5, 10):
        bridge.give_back(node, bridge.lease(node))
        bridge.clock.now += rest - 0.5
        assert bridge.lease(node) is None
        bridge.clock.now += 1
    assert bridge.lease(node) is not None


def test_a_reason_that_waiting_does_not_change_makes_the_rest_long(bridge):
    bridge.request(order_of())
    node = bridge.node("a")
    bridge.give_back(node, bridge.lease(node), Reason.POLICY)
    bridge.clock.now += 299
    assert bridge.lease(node) is None


def test_a_node_gets_the_slot_that_it_had_before_because_its_signature_names_it(bridge):
    bridge.request(order_of(nodes=3, quorum=2))
    first, second = bridge.node("a"), bridge.node("b")
    bridge.lease(first)
    lost = bridge.lease(second)
    assert lost.slot == 2
    bridge.clock.now += 61
    bridge.dispatcher.step()
    bridge.clock.now += 10

    assert bridge.lease(second).slot == 2


def test_giving_back_twice_is_fine(bridge):
    bridge.request(order_of())
    node = bridge.node("a")
    lease = bridge.lease(node)
    bridge.give_back(node, lease)
    bridge.give_back(node, lease)


def test_a_slot_has_so_many_attempts_and_then_the_job_says_so(bridge):
    job = bridge.request(order_of())
    for name in ("a", "b", "c"):
        node = bridge.node(name)
        bridge.give_back(node, bridge.lease(node))
    bridge.clock.now += 400

    assert bridge.lease(bridge.node("d")) is None
    bridge.dispatcher.step()
    assert bridge.job(job.request_hash).reason == Reason.ATTEMPTS_EXHAUSTED


def test_anothers_lease_looks_as_if_it_did_not_exist(bridge):
    bridge.request(order_of())
    lease = bridge.lease(bridge.node("a"))
    thief = bridge.node("b")

    with pytest.raises(UnknownLease):
        bridge.beat(thief, lease)
    with pytest.raises(UnknownLease):
        bridge.give_back(thief, lease)


def test_a_token_that_is_not_the_current_one_is_stale(bridge):
    bridge.request(order_of())
    node = bridge.node("a")
    lease = bridge.lease(node)

    with pytest.raises(StaleLease, match="fencing token"):
        bridge.beat(node, lease, token=lease.token + 1)


#: state that the chain put the job into -> words in the heartbeat's answer
DEAD = {
    JobState.ORPHANED: "left the chain",
    JobState.EXPIRED: "refunded",
    JobState.CANCELLED: "cancelled",
    JobState.POSTED: "stands on-chain",
}


@pytest.mark.parametrize("state", DEAD)
@pytest.mark.parametrize("phase", Phase)
def test_a_node_is_told_to_stop_when_its_job_is_over(bridge, state, phase):
    job = bridge.request(order_of())
    node = bridge.node("a")
    lease = bridge.lease(node)
    bridge.beat(node, lease, phase)
    bridge.set_job(job.request_hash, state=state.value)
    bridge.dispatcher.step()

    answer = bridge.beat(node, lease, phase)

    assert not answer.go_on
    assert DEAD[state] in answer.reason
    assert states(bridge, job) == [("revoked", 0)]


def test_a_request_that_comes_back_after_a_reorg_is_leased_anew(bridge):
    job = bridge.request(order_of())
    node = bridge.node("a")
    bridge.lease(node)
    bridge.set_job(job.request_hash, state="orphaned")
    bridge.dispatcher.step()
    bridge.set_job(job.request_hash, state="ready")

    assert bridge.lease(node).request_hash == job.request_hash


def test_a_held_lease_survives_a_reorg_that_is_over_before_anyone_looked(bridge):
    job = bridge.request(order_of())
    node = bridge.node("a")
    lease = bridge.lease(node)
    bridge.beat(node, lease, Phase.HELD)
    bridge.set_job(job.request_hash, state="ready")

    assert bridge.beat(node, lease, Phase.HELD).go_on
    assert bridge.job(job.request_hash).state is JobState.HELD


def test_leases_outlive_the_bridges_process(bridge):
    job = bridge.request(order_of())
    node = bridge.node("a")
    lease = bridge.lease(node)
    bridge.restarted()

    assert bridge.beat(node, lease).go_on
    assert states(bridge, job) == [("active", 0)]


def test_thousands_of_orders_of_one_requester_do_not_hide_the_others(bridge):
    for _ in range(100):
        bridge.request(order_of("site=nowhere"), block=10)
    other = bridge.request(order_of(), requester=CURATOR)

    assert bridge.lease(bridge.node("a")).request_hash == other.request_hash


def test_those_who_wait_are_told_when_a_job_becomes_ready(bridge):
    told = []
    bridge.dispatcher.step()
    bridge.dispatcher.changed = lambda: told.append(1)
    bridge.dispatcher.step()
    assert told == []

    bridge.clock.now += 1
    bridge.request(order_of())
    bridge.dispatcher.step()
    assert told == [1]


def test_the_chain_is_asked_once_for_the_labels_of_many_jobs_of_one_curator(bridge):
    for _ in range(5):
        bridge.request(order_of(spec=spec_bytes(selector="!gpu,cores>8")))
    node = bridge.node("a")
    bridge.registry.asked = 0

    assert bridge.lease(node) is None
    assert bridge.registry.asked == 2  # the key, and the labels


def test_the_answer_of_the_registry_about_a_call_s_key_is_kept_for_seconds_only(bridge):
    node = bridge.node("a")
    bridge.dispatcher.is_node(node.key.address)
    bridge.registry.rotate(node.key.address, key_of("new").address)
    bridge.dispatcher.is_node(node.key.address)
    bridge.clock.now += 6

    with pytest.raises(NotRegistered):
        bridge.dispatcher.is_node(node.key.address)


def test_an_advert_says_what_the_node_is_like_to_everybody(bridge):
    node = bridge.node("a")
    bridge.dispatcher.lease_for(node.key.address, advert("node=admitted", min_unit_price=7))
    bridge.dispatcher.lease_for(node.key.address, advert("node=admitted", min_unit_price=8))

    from bridge.store.engine import reading
    from bridge.store.nodes import nodes_since

    with reading(bridge.engine) as connection:
        (known,) = nodes_since(connection, bridge.clock.now)
    assert (known.node_id, known.key, known.advert.min_unit_price) == (node.node_id, node.key.address, 8)


def test_nothing_is_begun_for_a_request_that_is_marked_for_cancellation(bridge):
    job = bridge.request(order_of(), cancel_marked=True)
    assert bridge.lease(bridge.node("a")) is None

    bridge.set_job(job.request_hash, cancel_marked=False)  # the mark left the chain

    assert bridge.lease(bridge.node("a")) is not None


def test_what_was_begun_before_a_request_was_marked_goes_on(bridge):
    job = bridge.request(order_of(nodes=2, quorum=2))
    assert bridge.lease(bridge.node("a")) is not None
    bridge.set_job(job.request_hash, cancel_marked=True)

    assert bridge.lease(bridge.node("b")) is not None
