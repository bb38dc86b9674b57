"""One set of tests for the simulated chain and for anvil: where they agree, the simulation stands for a real chain.

Where Lotus and anvil differ the simulation follows Lotus: a block beyond the head is an error there and null in anvil
(`Dialect.future`), a replacement needs 1.10 times the tip plus one there, and of both fees in anvil, a range that ends
beyond the head is an error and anvil cuts it, `eth_estimateGas` is a constant of each function. Null rounds, deferred
execution and shorter branches exist in the simulation only.
"""

from dataclasses import replace

import pytest

from bridge.chain.client import ChainClient
from bridge.chain.contracts import (
    cancel_calldata,
    decode_revert,
    delivered_flags,
    draw_cancelled_calldata,
    expire_calldata,
    fulfil_calldata,
    fulfil_many_calldata,
    request_job_calldata,
)
from bridge.chain.events import decode_log
from bridge.chain.rpc_errors import revert_data
from bridge.chain.sendstate import SendAnswer, classify_send_error
from bridge.chain.signer import Transaction
from bridge.chain.views import BridgeViews, Result
from bridge.errors import NullRound, RpcRefused, RpcUnavailable
from executor.protocol.wire import ZERO_ADDRESS, Attestation, OnChainState, Order, Outcome, Request, result_digest
from tests.chain_nodes import CHAIN_ID, funded
from tests.simulation.contract import Contract
from tests.simulation.node import Chain
from tests.simulation.rpc import SimNode
from tests.simulation.world import ADDRESS

pytestmark = pytest.mark.chain

ORDER = Order(spec=b'{"version":"insula/v1"}', ttl=3600, unit_price=1000, fail_price=10, delivery_fee=7)
OUTCOME = Outcome(status=1, output_cid=bytes.fromhex("01551220") + b"\xab" * 32)
OTHER = Outcome(status=2, reason=200, exit_code=1)
REQUESTER, RELAYER = funded(1), funded(3)


class Simulated:
    """The simulated chain, moved by the same hands as anvil."""

    def __init__(self):
        self.chain = Chain(Contract(CHAIN_ID, ADDRESS, cancel_delay=5))
        self.chain.mine()
        self.client = ChainClient(SimNode(self.chain))
        self.address = ADDRESS

    def mine(self, blocks=1):
        for _ in range(blocks):
            self.chain.mine()

    def pass_seconds(self, seconds):
        self.chain.mine(gap=seconds // 30)

    def mark(self):
        return self.chain.tip

    def back_to(self, mark):
        self.chain.adopt(mark)
        self.chain.pool.clear()

    def attested(self, request, outcome, relayer):
        given = Attestation(receipt_hash=b"\x01" * 32, log_root=b"\x02" * 32, log_size=1, relayer=relayer)
        return [replace(given, signature=b"\x1b" * 65)]


class Anvil:
    """anvil with the real contracts."""

    def __init__(self, chain):
        self.chain, self.client, self.address = chain, chain.client, chain.deployment.bridge

    def mine(self, blocks=1):
        self.chain.mine(blocks)

    def pass_seconds(self, seconds):
        self.client.ask("evm_increaseTime", seconds)
        self.mine()

    def mark(self):
        return self.chain.snapshot()

    def back_to(self, mark):
        self.chain.revert(mark)

    def attested(self, request, outcome, relayer):
        return [self.chain.attest(self.chain.nodes[0], request, outcome, relayer)]


@pytest.fixture(params=["simulated", "anvil"])
def twin(request):
    return Simulated() if request.param == "simulated" else Anvil(request.getfixturevalue("anvil_chain"))


def views(twin):
    return BridgeViews(twin.client, twin.address)


def signed(twin, signer, data, value=0, *, nonce=None, tip=10**9, to=None, gas=3_000_000):
    count = twin.client.nonce(signer.address, "pending") if nonce is None else nonce
    target = to or twin.address
    fields = {"chain_id": CHAIN_ID, "to": target, "data": data, "gas": gas, "max_fee": 100 * tip, "tip": tip}
    return signer.sign_transaction(Transaction(nonce=count, value=value, **fields))


def sent(twin, signer, data, value=0, **options):
    """Send, mine, and give the receipt."""
    made = signed(twin, signer, data, value, **options)
    twin.client.send_raw(made.raw)
    twin.mine()
    return twin.client.receipt(made.hash)


def requested(twin, order=ORDER):
    """A request that stands, as the chain has it."""
    assert sent(twin, REQUESTER, request_job_calldata(order), order.price).ok
    id_ = views(twin).request_count()
    return Request(
        chain_id=CHAIN_ID,
        contract=twin.address,
        id=id_,
        requester=REQUESTER.address,
        order=order,
        deadline=views(twin).request_of(id_).deadline,
    )


def answer(twin, request, outcome=OUTCOME, relayer=RELAYER.address):
    """Calldata that settles a request."""
    given = twin.attested(request, outcome, relayer)
    return fulfil_calldata(request.id, request.order, outcome, given)


def followed(twin, logs):
    """The events that the bridge follows, without where they stand."""
    events = [decode_log(log, CHAIN_ID) for log in logs]
    return [replace(event, log=None) for event in events if event is not None]


def refused(twin, data, sender=RELAYER):
    """The name of the error with which the contract would refuse a call."""
    with pytest.raises(RpcRefused) as found:
        twin.client.estimate_gas(sender.address, twin.address, data)
    return decode_revert(revert_data(found.value) or b"")


# -- blocks -------------------------------------------------------------------------------------------------------


def test_blocks_are_linked_and_found_by_number_and_by_hash(twin):
    twin.mine(2)
    head = twin.client.head()
    parent = twin.client.block_by_number(head.number - 1)

    assert head.parent_hash == parent.hash
    assert twin.client.block_by_hash(parent.hash) == parent
    assert twin.client.block_by_hash(b"\x77" * 32) is None
    assert parent.timestamp <= head.timestamp
    assert twin.client.chain_id() == CHAIN_ID


def test_a_block_beyond_the_head_is_not_there(twin):
    with pytest.raises((NullRound, RpcUnavailable)):
        twin.client.block_by_number(twin.client.head().number + 1)


def test_a_batch_is_answered_call_by_call(twin):
    answers = twin.client.batch([("eth_chainId", ()), ("no_such_method", ()), ("eth_blockNumber", ())])

    assert answers[0] == hex(CHAIN_ID)
    assert isinstance(answers[1], RpcRefused)
    assert answers[2] == hex(twin.client.head().number)


def test_there_is_code_at_the_contract_and_nowhere_else(twin):
    assert twin.client.code(twin.address)
    assert twin.client.code("0x" + "77" * 20) == b""


# -- requests and their ends --------------------------------------------------------------------------------------


def test_a_request_is_counted_hashed_logged_and_held(twin):
    before, head = views(twin).request_count(), twin.client.head().number
    request = requested(twin)
    block = twin.client.head()

    assert request.id == before + 1
    assert views(twin).request_count(head) == before
    assert views(twin).request_hash(request.id) == request.hash
    assert views(twin).request_hash(request.id, head) is None
    assert views(twin).result_of(request.id) == Result(OnChainState.REQUESTED, bytes(32))
    assert views(twin).result_of(request.id + 1) == Result(OnChainState.UNKNOWN, bytes(32))
    assert request.deadline == block.timestamp + ORDER.ttl
    by_range = twin.client.logs_by_range(head, block.number, twin.address)
    assert by_range == twin.client.logs_by_hash(block.hash, twin.address)
    (event,) = followed(twin, by_range)
    assert (event.request_id, event.request_hash, event.request) == (request.id, request.hash, request)


STATUSES = {
    "succeeded": (Outcome(status=1, output_cid=b"\x01\x55\x12\x20" + b"\xab" * 32), OnChainState.FULFILLED, 1000),
    "failed": (Outcome(status=2, reason=200, exit_code=1), OnChainState.FAILED, 10),
    "refused": (Outcome(status=3, reason=100), OnChainState.REFUSED, 0),
    "withheld": (Outcome(status=4, reason=300), OnChainState.WITHHELD, 0),
}


@pytest.mark.parametrize("status", STATUSES)
def test_a_result_settles_pays_and_is_logged(twin, status):
    outcome, state, paid = STATUSES[status]
    request = requested(twin)
    before = views(twin).credit_of(REQUESTER.address)
    assert sent(twin, RELAYER, answer(twin, request, outcome)).ok

    digest = result_digest(request.hash, outcome.hash)
    assert views(twin).result_of(request.id) == Result(state, digest)
    assert views(twin).request_hash(request.id) is None
    assert views(twin).credit_of(RELAYER.address) == ORDER.delivery_fee
    assert views(twin).credit_of(REQUESTER.address) == before + 1000 - paid
    head = twin.client.head()
    (event,) = followed(twin, twin.client.logs_by_hash(head.hash, twin.address))
    assert (event.request_hash, event.state, event.relayer, event.outcome) == (
        request.hash,
        state,
        RELAYER.address,
        outcome,
    )


def test_the_same_result_again_changes_nothing_and_another_is_refused(twin):
    request = requested(twin)
    again, other = answer(twin, request), answer(twin, request, OTHER)
    assert sent(twin, RELAYER, again).ok
    assert sent(twin, RELAYER, again).ok

    assert views(twin).credit_of(RELAYER.address) == ORDER.delivery_fee
    assert twin.client.logs_by_hash(twin.client.head().hash, twin.address) == []
    assert refused(twin, other).name == "ComputeBridgeOutcomeConflict"
    receipt = sent(twin, RELAYER, other)
    assert not receipt.ok
    assert receipt.block_hash == twin.client.head().hash


def test_a_request_expires_after_its_deadline_and_not_before(twin):
    request = requested(twin, replace(ORDER, ttl=300))
    refund, late = expire_calldata(request.id, request.order), answer(twin, request)
    assert refused(twin, refund).name == "ComputeBridgeDeadlineNotPassed"
    twin.pass_seconds(600)
    revert = refused(twin, late)
    assert (revert.name, dict(revert.arguments)["deadline"]) == ("ComputeBridgeDeadlinePassed", request.deadline)
    assert sent(twin, RELAYER, refund).ok

    assert views(twin).result_of(request.id) == Result(OnChainState.EXPIRED, bytes(32))
    (event,) = followed(twin, twin.client.logs_by_hash(twin.client.head().hash, twin.address))
    assert (event.request_hash, event.refund) == (request.hash, ORDER.price)
    assert refused(twin, refund).name == "ComputeBridgeUnexpectedState"


def test_a_cancelled_request_can_be_drawn_after_the_delay(twin):
    request = requested(twin)
    mark, draw = cancel_calldata(request.id, ORDER), draw_cancelled_calldata(request.id, ORDER)
    assert refused(twin, mark).name == "ComputeBridgeNotRequester"
    assert refused(twin, draw).name == "ComputeBridgeNotMarked"
    assert sent(twin, REQUESTER, mark).ok
    marked = twin.client.head()
    assert refused(twin, mark, REQUESTER).name == "ComputeBridgeAlreadyMarked"
    assert views(twin).request_of(request.id).cancel_marked_at == marked.timestamp
    twin.pass_seconds(60)
    assert sent(twin, RELAYER, draw).ok

    assert views(twin).result_of(request.id) == Result(OnChainState.CANCELLED, bytes(32))
    logs = twin.client.logs_by_range(marked.number, twin.client.head().number, twin.address)
    first, second = followed(twin, logs)
    assert (first.refundable_at, second.refund) == (marked.timestamp + 5, ORDER.price)


REFUSALS = {
    "an id that nobody has": (
        lambda twin, request: expire_calldata(request.id + 1, ORDER),
        "ComputeBridgeUnknownRequest",
    ),
    "another order": (
        lambda twin, request: fulfil_calldata(
            request.id, replace(ORDER, ttl=77), OUTCOME, twin.attested(request, OUTCOME, ZERO_ADDRESS)
        ),
        "ComputeBridgeOrderMismatch",
    ),
    "no attestation": (
        lambda twin, request: fulfil_calldata(request.id, ORDER, OUTCOME, []),
        "ComputeBridgeTooFewAttestations",
    ),
    "more attestations than nodes": (
        lambda twin, request: fulfil_calldata(
            request.id, ORDER, OUTCOME, twin.attested(request, OUTCOME, ZERO_ADDRESS) * 2
        ),
        "ComputeBridgeTooManyAttestations",
    ),
    "an order with a short time": (
        lambda twin, request: request_job_calldata(replace(ORDER, ttl=0)),
        "ComputeBridgeInvalidOrder",
    ),
    "an unpaid order": (lambda twin, request: request_job_calldata(ORDER), "ComputeBridgeWrongPayment"),
    "no function": (lambda twin, request: b"\x12\x34\x56\x78", ""),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_the_contract_refuses_with_an_error_of_its_own(twin, case):
    made, name = REFUSALS[case]
    assert refused(twin, made(twin, requested(twin))).name == name


# -- transactions -------------------------------------------------------------------------------------------------


def test_nonces_count_what_is_mined_and_pending_ones_what_waits(twin):
    before, head = twin.client.nonce(RELAYER.address), twin.client.head().number
    twin.client.send_raw(signed(twin, RELAYER, b"", to=RELAYER.address).raw)
    twin.client.send_raw(signed(twin, RELAYER, b"", to=RELAYER.address).raw)

    assert twin.client.nonce(RELAYER.address) == before
    assert twin.client.nonce(RELAYER.address, "pending") == before + 2
    twin.mine()
    assert twin.client.nonce(RELAYER.address) == before + 2
    assert twin.client.nonce(RELAYER.address, head) == before


def refusal_of(twin, raw):
    with pytest.raises(RpcRefused) as found:
        twin.client.send_raw(raw)
    return classify_send_error(found.value.message)


def test_a_known_transaction_and_a_used_nonce_are_told_apart(twin):
    made = signed(twin, RELAYER, b"", to=RELAYER.address)
    twin.client.send_raw(made.raw)
    assert refusal_of(twin, made.raw) is SendAnswer.KNOWN
    assert twin.client.receipt(made.hash) is None
    twin.mine()
    assert twin.client.receipt(made.hash).ok
    used = signed(twin, RELAYER, b"\x01", to=RELAYER.address, nonce=twin.client.nonce(RELAYER.address) - 1)
    assert refusal_of(twin, used.raw) is SendAnswer.NONCE_LOW


def test_a_replacement_pays_more_and_takes_the_nonce(twin):
    nonce = twin.client.nonce(RELAYER.address)
    old = signed(twin, RELAYER, b"", to=RELAYER.address, nonce=nonce, tip=10**9)
    less = signed(twin, RELAYER, b"", to=REQUESTER.address, nonce=nonce, tip=10**9 - 1)
    more = signed(twin, RELAYER, b"", to=REQUESTER.address, nonce=nonce, tip=2 * 10**9)
    twin.client.send_raw(old.raw)
    assert refusal_of(twin, less.raw) is SendAnswer.UNDERPRICED
    twin.client.send_raw(more.raw)
    twin.mine()

    assert twin.client.receipt(more.hash).ok
    assert twin.client.receipt(old.hash) is None


def test_a_gap_in_the_nonces_waits_until_it_is_filled(twin):
    nonce = twin.client.nonce(RELAYER.address)
    late = signed(twin, RELAYER, b"", to=RELAYER.address, nonce=nonce + 1)
    twin.client.send_raw(late.raw)
    twin.mine()
    assert twin.client.receipt(late.hash) is None
    twin.client.send_raw(signed(twin, RELAYER, b"", to=RELAYER.address, nonce=nonce).raw)
    twin.mine()

    assert twin.client.receipt(late.hash).ok
    assert twin.client.nonce(RELAYER.address) == nonce + 2


def test_an_account_without_funds_is_refused(twin):
    made = signed(twin, RELAYER, b"", 10**40, to=REQUESTER.address)
    assert refusal_of(twin, made.raw) is SendAnswer.NO_FUNDS


def test_a_transaction_with_too_little_gas_is_mined_and_fails(twin):
    receipt = sent(twin, REQUESTER, request_job_calldata(ORDER), ORDER.price, gas=40_000)
    assert not receipt.ok
    assert twin.client.logs_by_hash(receipt.block_hash, twin.address) == []


def test_a_sender_pays_for_gas_and_value(twin):
    before = twin.client.balance(REQUESTER.address)
    requested(twin)
    assert twin.client.balance(REQUESTER.address) < before - ORDER.price


def test_an_estimate_is_enough(twin):
    request = requested(twin)
    data = answer(twin, request)
    gas = twin.client.estimate_gas(RELAYER.address, twin.address, data)
    assert sent(twin, RELAYER, data, gas=gas + gas // 10).ok


def test_a_batch_that_is_only_called_says_what_it_would_deliver(twin):
    good = requested(twin)
    data = fulfil_many_calldata([answer(twin, good), answer(twin, replace(good, id=good.id + 1))])

    assert delivered_flags(twin.client.call(twin.address, data, sender=RELAYER.address)) == (True, False)
    assert views(twin).result_of(good.id).state == OnChainState.REQUESTED


# -- reorgs -------------------------------------------------------------------------------------------------------


def test_a_reorg_takes_blocks_states_and_receipts_away(twin):
    mark = twin.mark()
    before = twin.client.head()
    count = views(twin).request_count()
    made = signed(twin, REQUESTER, request_job_calldata(ORDER), ORDER.price)
    twin.client.send_raw(made.raw)
    twin.mine()
    gone = twin.client.head()
    twin.back_to(mark)
    sent(twin, RELAYER, b"", to=RELAYER.address)

    now = twin.client.head()
    assert (now.number, now.parent_hash) == (gone.number, before.hash)
    assert now.hash != gone.hash
    assert twin.client.receipt(made.hash) is None
    assert views(twin).request_count() == count
    assert twin.client.logs_by_range(before.number, now.number, twin.address) == []


def test_after_a_reorg_an_id_may_be_of_another_request_which_the_old_result_does_not_fit(twin):
    mark = twin.mark()
    first = requested(twin)
    data = answer(twin, first)
    twin.back_to(mark)
    second = requested(twin, replace(ORDER, unit_price=5000))

    assert (second.id, second.hash != first.hash) == (first.id, True)
    assert refused(twin, data).name == "ComputeBridgeOrderMismatch"
