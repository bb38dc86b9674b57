"""A listener and a relayer over one database, behind the misbehaving chain of `bridge.devnet.chaos`, over real HTTP.

with writing(any_chain, tmp_path, max_batch=1) as parts:
    requests = parts.posting(2)
    parts.script.on("eth_sendRawTransaction", DropAfter(), times=1)
    ...
    parts.finish(requests)      # blocks and time go on until all is at rest
    settled(parts, requests)    # tests/scenarios/holds_writer.py
"""

from contextlib import contextmanager

import pytest
from sqlalchemy import select

from bridge.devnet.chaos import Script
from bridge.devnet.chaos.script import Answer, Replace
from bridge.errors import RpcUnavailable
from bridge.jobs import JobState
from bridge.store import outbox
from bridge.store.engine import reading
from bridge.store.outbox import SendState
from bridge.store.schema import transactions
from bridge.store.senders import next_nonce
from tests.chain_nodes import CHAIN_ID, funded
from tests.chaos_kit import LOTUS, chaos
from tests.integration.bridge_parts import item, job, run
from tests.integration.relayer_parts import Relaying

#: a local node's own words and pool, with deferred execution and tipsets
PLAIN = LOTUS | {"dialect": "node"}
SEND = "eth_sendRawTransaction"
RESEND_SECONDS = 61
RAISE_SECONDS = 181


class Watched(Script):
    """A script that looks, whenever raw bytes arrive, whether the database had them already."""

    engine = None

    def __init__(self):
        super().__init__()
        self.unstored = []

    def action_for(self, method, params):
        if method == SEND and self.engine is not None:
            query = select(transactions.c.tx_hash).where(transactions.c.raw == bytes.fromhex(params[0][2:]))
            with reading(self.engine) as connection:
                if connection.execute(query).one_or_none() is None:
                    self.unstored.append(params[0])
        return super().action_for(method, params)

    def raws(self):
        """Every raw transaction that arrived, in order."""
        return [bytes.fromhex(call["params"][0][2:]) for call in self.calls(SEND)]


class Writing(Relaying):
    """`confirming`: how many blocks the newest one that is shown lies behind."""

    def __init__(self, chain, folder, client, settings, **relayer):
        self.script = client.chaos.script
        self.confirming = 1 if settings.get("deferred") else 0
        super().__init__(chain, folder, self.script, client, **relayer)
        self.script.engine = self.engine
        address = self.relayer.address
        self.first_nonce = chain.client.nonce(address)
        self.first_balance = chain.client.balance(address)

    def reconfigure(self, **relayer):
        """Start again with other options of [relayer]."""
        changed = self.config.relayer.model_copy(update=relayer)
        self.config = self.config.model_copy(update={"relayer": changed})
        self.restart()

    def requests(self, count, **change):
        """So many requests, deep enough as the endpoint shows it."""
        made = super().requests(count, **change)
        self.chain.mine(self.confirming)
        return made

    def mine(self, blocks=1):
        """Mine what will be shown, and let both loops come to rest."""
        super().mine(blocks + self.confirming)

    def until_rest(self, rounds=16):
        """Blocks and time go on until the relayer has nothing to do; fails when that takes more rounds."""
        for _ in range(rounds):
            moved = run(self.relayer)
            if not moved and not self.unfinished() and not self.open_nonces():
                return
            self.chain.mine(1 + self.confirming)  # a minute is two epochs
            run(self.listener)
            self.clock.now += RESEND_SECONDS
        pytest.fail(f"not at rest after {rounds} rounds: {self.unfinished()}, nonces {self.open_nonces()}")

    def open_nonces(self):
        """Nonces that were taken and that the chain has not used."""
        address = self.relayer.address
        with reading(self.engine) as connection:
            taken = next_nonce(connection, CHAIN_ID, address) or 0
        return list(range(self.chain.client.nonce(address), taken))

    def unfinished(self):
        """What is not at its end: (state of the delivery, of the job, detail)."""
        found = []
        for request_hash in self.hashes:
            row, of = item(self.engine, request_hash), job(self.engine, request_hash)
            ended = row.state in (SendState.DEAD, SendState.SUPERSEDED)
            if not (row.state is SendState.DONE and of.state is JobState.FINAL) and not ended:
                found.append((row.state.value, of.state.value, row.detail))
        return found

    def waiting(self):
        """The outbox rows that are not at their end."""
        with reading(self.engine) as connection:
            return [row for row in outbox.work(connection) if row.state not in outbox.ENDED]

    def posting(self, count, *args, **change):
        made = super().posting(count, *args, **change)
        self.hashes = [*self.hashes, *(request.hash for request in made)]
        return made

    hashes = ()

    def finish(self, requests, rounds=16):
        """Go on until all is at rest, and these are delivered and final."""
        self.until_rest(rounds)
        assert {job(self.engine, request.hash).state for request in requests} <= {JobState.FINAL}
        assert {item(self.engine, request.hash).state for request in requests} <= {SendState.DONE}

    def step_unanswered(self):
        """A step of the relayer, when it is time for one, during which the endpoint fails to answer."""
        self.clock.now += RESEND_SECONDS
        with pytest.raises(RpcUnavailable):
            run(self.relayer)

    def later(self, seconds):
        """Time goes by, and the relayer looks."""
        self.clock.now += seconds
        run(self.relayer)

    def drop(self, sent):
        """The node's pool loses a transaction."""
        self.chain.client.ask(f"{self.chain.kind}_dropTransaction", "0x" + sent.tx_hash.hex())

    def foreign(self, nonce):
        """Somebody else with the same key uses a nonce."""
        signer = funded(self.account)
        return self.chain.send(signer, signer.address, b"", nonce=nonce, gas=21_000)

    def _old_state(self):
        """An answer from the state of the block that is the newest one now."""
        block = hex(self.chain.client.head().number - self.confirming)
        return Answer(lambda request, forward: forward({**request, "params": [request["params"][0], block]}))

    def stale_state(self):
        """From now on the contract is read from the state of a node that is behind."""
        self.script.on("eth_call", self._old_state())

    def stale(self):
        """From now on all that is read is that of a node that is behind."""
        self.stale_state()
        self.script.on("eth_getTransactionCount", self._old_state())
        self.script.on("eth_getTransactionReceipt", Replace(None))


@contextmanager
def writing(chain, folder, settings=LOTUS, *, timeout=10.0, account=2, finality=3, **relayer):
    """A `Writing`; `settings`: of the endpoint, `relayer`: the [relayer] options."""
    script = Watched()
    with chaos(chain, script=script, timeout=timeout, **settings) as client:
        yield Writing(chain, folder, client, settings, account=account, finality=finality, **relayer)
