"""A simulated chain: blocks linked by hash with gaps in their numbers, branches, a mempool. One contract stands on it.

Imitates Lotus: numbers are epochs of 30 seconds, `deferred` shows the parent of the heaviest tipset as the newest block
(fevm.md 1.2), a replacement needs 1.10 times the tip plus one (1.5). JSON-RPC is `tests.simulation.rpc`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count

import rlp
from eth_account import Account
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from tests.simulation.contract import GAS, Contract, Message, RawLog, Reverted, State, decoded_call

EPOCH_SECONDS = 30
FUNDS = 10**24  # wei that every account has at first
TRANSFER_GAS = 21_000


@dataclass(frozen=True)
class Tx:
    """A transaction. `nonce` None: a message of somebody whose nonces do not matter here; it is never in the pool."""

    hash: bytes
    sender: str
    nonce: int | None
    to: str
    data: bytes
    value: int = 0
    gas: int = 10**7
    max_fee: int = 0
    tip: int = 0


@dataclass(frozen=True, eq=False)
class SimBlock:
    """A block and everything after it was executed."""

    number: int
    hash: bytes
    parent: SimBlock | None
    timestamp: int
    base_fee: int
    state: State
    txs: tuple[Tx, ...] = ()
    statuses: dict[bytes, bool] = field(default_factory=dict)
    logs: tuple[tuple[bytes, RawLog], ...] = ()

    def ancestors(self) -> Iterator[SimBlock]:
        """This block, its parent, and so on."""
        block: SimBlock | None = self
        while block is not None:
            yield block
            block = block.parent


class Refused(Exception):
    """The pool does not take a transaction; the words are Lotus's."""


@lru_cache(maxsize=2000)
def decoded_tx(raw: bytes) -> Tx:
    """A signed transaction of type 2. Refused for anything else."""
    if raw[:1] != b"\x02":
        raise Refused("EIP-2930 transaction is not supported" if raw[:1] == b"\x01" else "unsupported transaction type")
    try:
        fields = rlp.decode(raw[1:])
        sender = Account.recover_transaction(raw)
    except (rlp.exceptions.RLPException, ValueError, TypeError) as exc:
        raise Refused("invalid signature") from exc
    nonce, tip, max_fee, gas = (int.from_bytes(value, "big") for value in fields[1:5])
    to, value, data = to_checksum_address(fields[5]), int.from_bytes(fields[6], "big"), fields[7]
    return Tx(keccak(raw), sender, nonce, to, data, value, gas, max_fee, tip)


class Chain:
    """The chain as its one node has it. Everything is told from outside: nothing is random, nothing ticks."""

    def __init__(self, contract: Contract, *, number: int = 0, timestamp: int = 1_700_000_000, salt: int = 0) -> None:
        self.contract = contract
        self.deferred = False
        self.base_fee = 100
        self.tip_fee = 100_000
        self._started_at = timestamp - number * EPOCH_SECONDS
        self._salts = count(salt << 32)
        self.pool: dict[str, dict[int, Tx]] = {}
        genesis = self._sealed(None, number, State(), (), {}, ())
        self.blocks = {genesis.hash: genesis}
        self.adopt(genesis)

    # -- what stands ----------------------------------------------------------------------------------------------

    @property
    def head(self) -> SimBlock:
        """The newest block that the node shows."""
        return self.tip.parent if self.deferred and self.tip.parent is not None else self.tip

    def at(self, number: int) -> SimBlock | None:
        """The canonical block at a number; None for a null round."""
        return self._canonical.get(number)

    def before(self, number: int) -> SimBlock:
        """The canonical block at a number, or the nearest one below it: what state calls resolve to."""
        return next((block for block in self.tip.ancestors() if block.number <= number), self._oldest)

    def is_canonical(self, block: SimBlock) -> bool:
        """Whether a block is on the chain that the node follows."""
        return self._canonical.get(block.number) is block

    def mined(self, tx_hash: bytes) -> SimBlock | None:
        """The canonical block that holds a transaction."""
        return self._mined.get(tx_hash)

    def branch(self) -> list[SimBlock]:
        """The canonical blocks, oldest first."""
        return sorted(self._canonical.values(), key=lambda block: block.number)

    # -- mempool --------------------------------------------------------------------------------------------------

    def submit(self, tx: Tx) -> None:
        """Take a transaction into the pool. Refused with Lotus's words."""
        nonce = tx.nonce
        state = self.tip.state
        waiting = self.pool.setdefault(tx.sender, {})
        if nonce is None:
            raise Refused("a transaction without a nonce")
        expected = state.nonces.get(tx.sender, 0)
        if nonce < expected:
            raise Refused(f"message nonce too low: minimum expected nonce is {expected}, got {nonce}")
        if tx.max_fee < tx.tip:
            raise Refused("'GasFeeCap' less than 'GasPremium'")
        if self.balance(state, tx.sender) < tx.gas * tx.max_fee + tx.value:
            raise Refused(f"not enough funds (required: {tx.gas * tx.max_fee}, balance: ...)")
        old = waiting.get(nonce)
        if old is not None and old.hash == tx.hash:
            words = f"message from {tx.sender} with nonce {nonce} already in mpool: message with nonce already exists"
            raise Refused(words)
        if old is not None and tx.tip < old.tip * 110 // 100 + 1:
            least = old.tip * 110 // 100 + 1
            raise Refused(
                f"message from {tx.sender} with nonce {nonce} already in mpool, increase GasPremium to {least} from "
                f"{tx.tip} to trigger replace by fee: replace by fee has too low GasPremium"
            )
        waiting[nonce] = tx

    def drop(self, tx: Tx) -> None:
        """Lose a transaction from the pool."""
        waiting = self.pool.get(tx.sender, {})
        if tx.nonce is not None and waiting.get(tx.nonce) is tx:
            del waiting[tx.nonce]

    def pending(self) -> list[Tx]:
        """All transactions in the pool."""
        return [tx for waiting in self.pool.values() for _, tx in sorted(waiting.items())]

    def pending_nonce(self, sender: str) -> int:
        """The first nonce that is neither used nor in the pool."""
        nonce = self.tip.state.nonces.get(sender, 0)
        waiting = self.pool.get(sender, {})
        while nonce in waiting:
            nonce += 1
        return nonce

    @staticmethod
    def balance(state: State, account: str) -> int:
        """An account's wei."""
        return state.balances.get(account, FUNDS)

    # -- blocks ---------------------------------------------------------------------------------------------------

    def mine(self, gap: int = 0, messages: Iterable[Tx] = (), skip: frozenset[bytes] = frozenset()) -> SimBlock:
        """A block after `gap` null rounds: first the messages, then what the pool can bring, but for `skip`."""
        block = self.built(self.tip, [*messages, *self._includable(skip)], gap)
        self.adopt(block)
        return block

    def built(self, parent: SimBlock, txs: Iterable[Tx], gap: int = 0) -> SimBlock:
        """A block on any block; transactions that are out of turn are left out. Nothing follows it yet."""
        number = parent.number + 1 + gap
        state = parent.state.copy()
        now = self._time_of(number)
        taken: list[Tx] = []
        statuses: dict[bytes, bool] = {}
        logs: list[tuple[bytes, RawLog]] = []
        for tx in txs:
            if tx.hash in statuses or (tx.nonce is not None and state.nonces.get(tx.sender, 0) != tx.nonce):
                continue
            state, found = self._applied(state, tx, now)
            taken.append(tx)
            statuses[tx.hash] = found is not None
            logs += [(tx.hash, log) for log in found or ()]
        block = self._sealed(parent, number, state, tuple(taken), statuses, tuple(logs))
        self.blocks[block.hash] = block
        return block

    def adopt(self, tip: SimBlock) -> list[Tx]:
        """Follow the branch that ends in `tip`, be it shorter; the transactions that are on the chain no more."""
        before: dict[bytes, SimBlock] = getattr(self, "_mined", {})
        if tip.parent is not None and tip.parent is getattr(self, "tip", None):
            self._canonical[tip.number] = tip
            self._mined.update((tx.hash, tip) for tx in tip.txs)
        else:
            line = list(tip.ancestors())
            self._oldest = line[-1]
            self._canonical = {block.number: block for block in line}
            self._mined = {tx.hash: block for block in line for tx in block.txs}
        self.tip = tip
        for sender, waiting in self.pool.items():
            used = tip.state.nonces.get(sender, 0)
            self.pool[sender] = {nonce: tx for nonce, tx in waiting.items() if nonce >= used}
        gone = [tx_hash for tx_hash in before if tx_hash not in self._mined]
        return [tx for tx_hash in gone for tx in before[tx_hash].txs if tx.hash == tx_hash]

    def dry_run(self, state: State, sender: str, to: str, data: bytes, value: int, now: int) -> int:
        """The gas that a call needs. Reverted when it would revert."""
        if to.lower() != self.contract.address.lower():
            return TRANSFER_GAS
        self.contract.execute(state.copy(), Message(sender, value, now), data)
        return gas_of(data)

    def time_after(self, block: SimBlock) -> int:
        """The timestamp of the epoch after a block's."""
        return self._time_of(block.number + 1)

    def _includable(self, skip: frozenset[bytes]) -> list[Tx]:
        found = []
        for sender, waiting in sorted(self.pool.items()):
            nonce = self.tip.state.nonces.get(sender, 0)
            while nonce in waiting and waiting[nonce].hash not in skip and waiting[nonce].max_fee >= self.base_fee:
                found.append(waiting[nonce])
                nonce += 1
        return found

    def _applied(self, state: State, tx: Tx, now: int) -> tuple[State, list[RawLog] | None]:
        """The state after a transaction, and its logs; None when it failed."""
        is_call = tx.to.lower() == self.contract.address.lower()
        needed = gas_of(tx.data) if is_call else TRANSFER_GAS
        after, logs = state.copy(), []
        ok = tx.gas >= needed
        if ok and is_call:
            try:
                logs = self.contract.execute(after, Message(tx.sender, tx.value, now), tx.data)
            except Reverted:
                ok = False
        if not ok:
            after = state.copy()
        if tx.nonce is not None:
            after.nonces[tx.sender] = tx.nonce + 1
            paid = min(tx.gas, needed) * min(tx.max_fee, self.base_fee + tx.tip) + (tx.value if ok else 0)
            after.balances[tx.sender] = self.balance(state, tx.sender) - paid
        return after, logs if ok else None

    def _sealed(
        self,
        parent: SimBlock | None,
        number: int,
        state: State,
        txs: tuple[Tx, ...],
        statuses: dict[bytes, bool],
        logs: tuple[tuple[bytes, RawLog], ...],
    ) -> SimBlock:
        seed = f"{number} {'' if parent is None else parent.hash.hex()} {next(self._salts)}"
        digest = hashlib.blake2b(seed.encode(), digest_size=32).digest()
        return SimBlock(number, digest, parent, self._time_of(number), self.base_fee, state, txs, statuses, logs)

    def _time_of(self, number: int) -> int:
        return self._started_at + number * EPOCH_SECONDS


def gas_of(data: bytes) -> int:
    """The gas that a call with this data needs and uses."""
    found = decoded_call(data)
    return TRANSFER_GAS if found is None else GAS.get(found[0], TRANSFER_GAS)
