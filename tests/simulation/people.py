"""Those who use the chain: requesters, and strangers who relay and refund. Reorgs move their messages and lose them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count

from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from bridge.chain.contracts import (
    cancel_calldata,
    draw_cancelled_calldata,
    expire_calldata,
    fulfil_calldata,
    request_job_calldata,
)
from executor.protocol.wire import Attestation, OnChainState, Order, Outcome
from tests.simulation.contract import Slot, State, decoded_call
from tests.simulation.faults import Plan
from tests.simulation.node import Chain, SimBlock, Tx

REQUESTERS = tuple(to_checksum_address(f"0x{0xA0 + number:040x}") for number in range(3))
STRANGER = to_checksum_address(f"0x{0xB0:040x}")
LONG_TTL = 80_000  # seconds: longer than any run
_SALT = b"\x5a"


@lru_cache(maxsize=5000)
def decided(request_hash: bytes) -> Outcome:
    """The outcome that the nodes agree on: a function of the request alone."""
    status = 1 if request_hash[0] < 200 else 2 + request_hash[0] % 3
    if status == 1:
        return Outcome(status=1, output_cid=bytes.fromhex("01551220") + request_hash)
    return Outcome(status=status, reason=200 + status, exit_code=1 if status == 2 else 0)


def signature(request_hash: bytes, outcome_hash: bytes, relayer: str) -> bytes:
    """What stands for a node's signature."""
    word = keccak(_SALT + request_hash + outcome_hash + relayer.lower().encode())
    return word + word + b"\x1b"


def is_signed(request_hash: bytes, outcome_hash: bytes, attestation: tuple[object, ...]) -> bool:
    """`Contract.attests`."""
    return attestation[4] == signature(request_hash, outcome_hash, str(attestation[3]))


@lru_cache(maxsize=5000)
def delivery(request_hash: bytes, request_id: int, order: Order, relayer: str) -> bytes:
    """The calldata that brings the decided outcome of a request."""
    outcome = decided(request_hash)
    fields = {"receipt_hash": request_hash, "log_root": b"\x02" * 32, "log_size": 1, "relayer": relayer}
    given = Attestation(**fields, signature=signature(request_hash, outcome.hash, relayer))
    return fulfil_calldata(request_id, order, outcome, [given] * order.quorum)


@lru_cache(maxsize=5000)
def _ordered(spec: bytes, quorum: int, ttl: int, fee: int) -> tuple[Order, bytes]:
    order = Order(spec=spec, nodes=quorum, quorum=quorum, ttl=ttl, unit_price=10, delivery_fee=fee)
    return order, request_job_calldata(order)


@dataclass
class People:
    """What they send for the next block."""

    chain: Chain
    plan: Plan
    relayer: str
    orders: dict[bytes, Order] = field(default_factory=dict)  # request hash -> order, of every branch
    places: dict[bytes, list[SimBlock]] = field(default_factory=dict)  # request hash -> its blocks, of every branch
    sent: int = 0
    _numbers: count[int] = field(default_factory=count)

    def message(self, sender: str, data: bytes, value: int = 0) -> Tx:
        """A message with a hash of its own."""
        name = f"{self.plan.seed} {next(self._numbers)}".encode()
        return Tx(keccak(name), sender, None, self.chain.contract.address, data, value)

    def request(self) -> Tx:
        """A new order; some orders are equal to each other but for their ids."""
        random = self.plan.random
        self.sent += 1
        ttl = random.choice((60, 150, 300, 450)) if self.plan.now("short deadline") else LONG_TTL
        spec = b'{"version":"insula/v1","n":%d}' % random.randint(0, 1)
        order, data = _ordered(spec, random.randint(1, 2), ttl, random.choice((0, 7)))
        return self.message(random.choice(REQUESTERS), data, order.price)

    def others(self) -> list[Tx]:
        """Cancellations, refunds and results by strangers, for requests that stand now."""
        found = []
        for id_, slot in self.open_slots(self.chain.tip.state):
            order = self.orders[slot.digest]
            if self.plan.now("stranger"):
                relayer = self.plan.random.choice((STRANGER, self.relayer))
                found.append(self.message(STRANGER, delivery(slot.digest, id_, order, relayer)))
            if slot.cancel_marked_at:
                found.append(self.message(STRANGER, draw_cancelled_calldata(id_, order)))
            elif self.plan.now("cancelled"):
                found.append(self.message(slot.requester, cancel_calldata(id_, order)))
        return found

    def refunds(self) -> list[Tx]:
        """A refund for each request that nobody answered in time."""
        now = self.chain.time_after(self.chain.tip)
        overdue = [(id_, slot) for id_, slot in self.open_slots(self.chain.tip.state) if slot.deadline < now]
        return [self.message(STRANGER, expire_calldata(id_, self.orders[slot.digest])) for id_, slot in overdue]

    def note(self, block: SimBlock) -> None:
        """Learn the orders in a new block."""
        for tx in block.txs:
            found = decoded_call(tx.data)
            if found is None or found[0] != "requestJob" or not block.statuses[tx.hash]:
                continue
            log = next(log for tx_hash, log in block.logs if tx_hash == tx.hash)
            self.orders[log.topics[2]] = found[1][0]
            self.places.setdefault(log.topics[2], []).append(block)

    @staticmethod
    def open_slots(state: State) -> list[tuple[int, Slot]]:
        """The open requests of a state."""
        return [(id_, slot) for id_, slot in state.slots.items() if slot.state is OnChainState.REQUESTED]

    def moved(self, dropped: list[SimBlock], fork: SimBlock) -> SimBlock:
        """A branch from `fork` on which what stood in the dropped blocks moves, is lost or gives way to others."""
        random = self.plan.random
        waiting = [tx for block in dropped for tx in block.txs if tx.nonce is None or random.random() < 0.4]
        fate = random.choice(("same", "later", "lost", "replaced", "replaced", "shuffled"))
        if fate == "lost":
            waiting = [tx for tx in waiting if random.random() < 0.5]
        elif fate == "replaced":
            waiting = [self.request(), *waiting]
        elif fate == "shuffled":
            random.shuffle(waiting)
        length = random.randint(1, len(dropped) + 1)
        block = fork
        for place in range(length):
            share = waiting if place == length - 1 and fate != "lost" else waiting[: random.randint(0, len(waiting))]
            share = [] if fate == "later" and place == 0 and length > 1 else share
            waiting = waiting[len(share) :]
            gap = random.choice((0, 0, 0, 1, 2))
            block = self.chain.built(block, share, gap)
            self.note(block)
        return block
