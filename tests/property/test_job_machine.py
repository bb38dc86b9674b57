"""The life of jobs under any order of events: leases, heartbeats, silence, answers, reorgs, settlement, restarts."""

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule
from sqlalchemy import event

from bridge.config import DispatchConfig
from bridge.dispatcher import UnknownLease
from bridge.errors import StaleLease, StaleTransition
from bridge.jobs import TRANSITIONS, JobState
from bridge.store import leases as rows
from executor.errors import InvalidInput
from executor.protocol.cid import RAW, Cid
from executor.protocol.leases import Phase
from tests.bridge_kit import Bridge, attested, order_of, success

#: what the listener may do to a job that the chain moves
CHAIN_MOVES = (JobState.ORPHANED, JobState.OBSERVED, JobState.READY, JobState.POSTED, JobState.EXPIRED, JobState.FINAL)
RESULTS = (b"result", b"another result")
ENDED = (rows.RETURNED, rows.EXPIRED, rows.REVOKED, rows.ANSWERED)


def reachable(before, after):
    """Whether allowed moves lead from one state to the other."""
    seen, todo = set(), [before]
    while todo:
        state = todo.pop()
        if state not in seen:
            seen.add(state)
            todo += TRANSITIONS[state]
    return after in seen


class JobMachine(RuleBasedStateMachine):
    leases = Bundle("leases")

    @initialize()
    def begin(self):
        self.folder = Path(tempfile.mkdtemp())
        self.bridge = Bridge(self.folder, dispatch=DispatchConfig(max_attempts=4, agreement_grace_seconds=10))
        event.listen(self.bridge.engine, "connect", lambda db, _: db.execute("PRAGMA synchronous=OFF").close())
        self.bridge.chain_at(200)
        # Two nodes of one operator, and two of others.
        self.nodes = [
            self.bridge.node("a1", operator="a"),
            self.bridge.node("a2", operator="a"),
            self.bridge.node("b"),
            self.bridge.node("c"),
        ]
        self.jobs = [
            self.bridge.request(order_of(nodes=3, quorum=2)).request_hash,
            self.bridge.request(order_of(nodes=2, quorum=2)).request_hash,
            self.bridge.request(order_of(nodes=1, quorum=1)).request_hash,
        ]
        self.states = dict.fromkeys(self.jobs, JobState.READY)
        self.answers = {}
        self.tokens = {}
        self.ended = {}

    def teardown(self):
        self.bridge.close()
        shutil.rmtree(self.folder)

    @rule(target=leases, number=st.integers(0, 3))
    def ask(self, number):
        node = self.nodes[number]
        lease = self.bridge.lease(node)
        return None if lease is None else (node, lease)

    @rule(target=leases, numbers=st.permutations(range(4)))
    def all_ask(self, numbers):
        given = [(self.nodes[number], self.bridge.lease(self.nodes[number])) for number in numbers]
        return multiple(*((node, lease) for node, lease in given if lease is not None))

    @rule(held=leases, phase=st.sampled_from(Phase))
    def beat(self, held, phase):
        if held is not None:
            node, lease = held
            answer = self.bridge.beat(node, lease, phase)
            assert answer.go_on == (self.lease_state(lease) == rows.ACTIVE)

    @rule(held=consumes(leases))
    def give_back(self, held):
        if held is not None:
            try:
                self.bridge.give_back(*held)
            except StaleLease:
                assert self.lease_state(held[1]) in ENDED

    @rule(held=leases, result=st.sampled_from(RESULTS), upload=st.booleans())
    def answer(self, held, result, upload):
        if held is None:
            return
        node, lease = held
        root = self.bridge.bring(node, lease, result) if upload else Cid.of(RAW, b"not uploaded")
        active = self.lease_state(lease) == rows.ACTIVE
        try:
            self.bridge.answer(node, lease, attested(node.key, lease, success(root)))
        except (StaleLease, StaleTransition, InvalidInput):
            assert not active or not upload or self.was_answered(lease)

    @rule(held=leases, number=st.integers(0, 3))
    def steal(self, held, number):
        if held is not None and self.nodes[number] is not held[0]:
            thief, lease = self.nodes[number], held[1]
            try:
                self.bridge.beat(thief, lease)
            except UnknownLease:
                return
            raise AssertionError("another's lease was renewed")

    @rule(seconds=st.sampled_from([1, 30, 61, 400]))
    def wait(self, seconds):
        self.bridge.clock.now += seconds

    @rule()
    def step(self):
        self.bridge.dispatcher.step()

    @rule()
    def restart(self):
        self.bridge.restarted()

    @rule(number=st.integers(0, 2), state=st.sampled_from(CHAIN_MOVES))
    def chain_moves(self, number, state):
        request_hash = self.jobs[number]
        before = self.bridge.job(request_hash).state
        if state in TRANSITIONS[before]:
            values = {"outcome": success_bytes()} if state is JobState.POSTED else {}
            self.bridge.set_job(request_hash, state=state.value, changed_at=self.bridge.clock.now, **values)

    def lease_state(self, lease):
        return next(x.state for x in self.bridge.leases(lease.request_hash) if x.token == lease.token)

    def was_answered(self, lease):
        return self.bridge.slots(lease.request_hash)[lease.slot - 1].state == rows.ANSWERED

    @invariant()
    def never_two_live_leases_of_a_slot(self):
        for request_hash in self.jobs:
            live = [x.slot for x in self.bridge.leases(request_hash) if x.state == rows.ACTIVE]
            assert len(live) == len(set(live))

    @invariant()
    def never_two_slots_of_a_node_or_an_operator(self):
        for request_hash in self.jobs:
            taken = [slot for slot in self.bridge.slots(request_hash) if slot.state != rows.OPEN]
            assert len({slot.node_id for slot in taken}) == len(taken)
            assert len({slot.operator for slot in taken}) == len(taken)

    @invariant()
    def an_answered_slot_never_changes(self):
        for request_hash in self.jobs:
            for slot in self.bridge.slots(request_hash):
                key = (request_hash, slot.slot)
                kept = (slot.key, slot.node_id, slot.outcome, slot.receipt, slot.signature)
                if key in self.answers:
                    assert (slot.state, kept) == (rows.ANSWERED, self.answers[key])
                elif slot.state == rows.ANSWERED:
                    self.answers[key] = kept

    @invariant()
    def only_allowed_moves(self):
        for request_hash in self.jobs:
            now = self.bridge.job(request_hash).state
            assert reachable(self.states[request_hash], now)
            self.states[request_hash] = now

    @invariant()
    def fencing_tokens_only_grow_and_an_ended_lease_stays_ended(self):
        for request_hash in self.jobs:
            for lease in self.bridge.leases(request_hash):
                last = self.tokens.setdefault((request_hash, lease.slot), lease.token)
                self.tokens[request_hash, lease.slot] = max(last, lease.token)
                if lease.state != rows.ACTIVE:
                    assert self.ended.setdefault(lease.token, lease.state) == lease.state
                    continue
                assert lease.token == self.tokens[request_hash, lease.slot]

    @invariant()
    def a_held_lease_never_expires(self):
        for request_hash in self.jobs:
            held = [lease for lease in self.bridge.leases(request_hash) if lease.phase is Phase.HELD]
            assert all(lease.state != rows.EXPIRED for lease in held)

    @invariant()
    def a_slot_is_leased_exactly_while_its_lease_is_active(self):
        for request_hash in self.jobs:
            active = {x.slot: x for x in self.bridge.leases(request_hash) if x.state == rows.ACTIVE}
            for slot in self.bridge.slots(request_hash):
                if slot.state == rows.LEASED:
                    assert active[slot.slot].node_id == slot.node_id
                elif slot.state == rows.OPEN:
                    assert slot.slot not in active

    @invariant()
    def what_is_handed_over_has_a_quorum_of_operators(self):
        for delivery in self.bridge.outbox.deliveries:
            order = delivery.job.request.order
            assert order.quorum <= len(delivery.attestations) <= order.nodes


def success_bytes():
    return success(Cid.of(RAW, b"result")).encode()


JobMachine.TestCase.settings = settings(max_examples=20, stateful_step_count=25, deadline=None)
TestJobMachine = pytest.mark.timeout(600)(JobMachine.TestCase)  # a failure takes minutes to be made small
