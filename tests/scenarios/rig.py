"""A bridge's chain side in front of endpoints that misbehave: real HTTP, real web3, a real anvil behind.

rig = scenario(null_epochs=(20,), finality=6)   # settings of the chaos personality; depths; options of chain.*
rig.settle()                                    # steps, failures and all, until nothing moves
rig.rests()                                     # the faults stop: what must hold is checked
"""

import time
from contextlib import ExitStack
from dataclasses import replace

from bridge.chain.client import Block
from bridge.chain.contracts import request_job_calldata
from bridge.chain.endpoints import EndpointPool
from bridge.chain.events import UndecodableLog, decode_log
from bridge.compose import known_genesis
from bridge.devnet.chaos import Personality, Script, Settings, serve
from bridge.devnet.chaos.looks import Look
from bridge.errors import RpcError
from bridge.jobs import JobState
from bridge.listener import Listener
from bridge.relayer import Relayer
from bridge.store.chain import Scope, load_cursor, load_window
from bridge.store.engine import reading
from bridge.watch import Watch
from executor.protocol.wire import Order, Outcome
from tests.chain_nodes import CHAIN_ID, funded
from tests.integration import bridge_parts
from tests.integration.bridge_parts import Clock, config_for, new_engine
from tests.scenarios import holds

SEED = 7
POLL_SECONDS = 10  # between two steps
STEPS = 60  # after the faults have stopped the bridge is at rest within so many
ORDER = Order(spec=b'{"version":"insula/v1"}', ttl=36_000, unit_price=1000, delivery_fee=7)
OTHER_ORDER = replace(ORDER, spec=b'{"version":"insula/v1" }')
OUTCOME = Outcome(status=1, output_cid=bytes.fromhex("01551220") + b"\xab" * 32)
OTHER_OUTCOME = Outcome(status=2, reason=200, exit_code=3)

#: what kind of chain it is: these stay when the faults stop
_KIND = (
    "dialect",
    "deferred",
    "tipsets",
    "tags",
    "safe_lag",
    "finalized_lag",
    "null_epochs",
    "null_rounds",
    "null_run",
)
_LOTUS = {"dialect": "lotus-1.36", "tipsets": True}
_DEPTHS = {"confirmation": 1, "posting": 2, "finality": 6}


class Endpoint:
    """One URL with a node behind it that misbehaves; the node can be stopped, and another started at the URL."""

    def __init__(self, upstream, settings, acts):
        self.upstream, self.settings, self.acts = upstream, settings, acts
        self.script = Script()
        self._port = 0
        self._serving = ExitStack()
        self.start()

    def start(self, upstream=None, **changes):
        """A new process at the same URL, with other settings or on another chain."""
        self.stop()
        self.upstream = upstream or self.upstream
        self.settings = self.settings | changes
        self.chaos = Personality(self.upstream, Settings(**self.settings), SEED, self.script, listen=self.acts.append)
        self.url = self._serving.enter_context(serve(self.chaos, self._port))
        self._port = int(self.url.rsplit(":", 1)[1])

    def stop(self):
        """Nobody listens at the URL."""
        self._serving.close()

    def calm(self):
        """The faults stop."""
        self.script.clear()
        kind = {name: value for name, value in self.settings.items() if name in _KIND}
        if kind != self.settings or not self.is_up:
            self.settings = kind
            self.start()

    @property
    def is_up(self):
        return bool(self._serving._exit_callbacks)


class Rig:
    """`endpoints`: how many. `depths`: confirmation, posting, finality. `chain_options`: fields of chain.*."""

    def __init__(self, chain, folder, stack, *, endpoints=1, timeout=5.0, depths=None, chain_options=None, **settings):
        self.chain, self.folder = chain, folder
        self.acts, self.waits, self.raised = [], [], []
        upstream = chain.client.transport.endpoint_uri
        self.endpoints = [Endpoint(upstream, _LOTUS | settings, self.acts) for _ in range(endpoints)]
        for endpoint in self.endpoints:
            stack.callback(endpoint.stop)
        self.epochs = self.endpoints[0].chaos.epochs
        self.look = Look(SEED, self.epochs, bool(self.endpoints[0].settings["tipsets"]))
        self.config = self._config(depths or {}, timeout, chain_options or {})
        self.engine = new_engine(folder)
        self._scope = Scope(CHAIN_ID, chain.deployment.bridge)
        stack.callback(self.engine.dispose)
        self.clock = Clock(float(chain.client.head().timestamp))
        self.watch = Watch()
        self.decided = {}  # request hash -> the outcome that was agreed on
        self.refused = set()  # transactions whose log is not to be decoded
        self.leaves_out = False  # whether the endpoint leaves out logs near the head
        self.judged = False
        self._highest_final = 0
        self._pools = stack
        self.restart()

    def _config(self, depths, timeout, options):
        config = config_for(self.chain, self.folder, max_subsidy_wei=10**18, **(_DEPTHS | depths))
        fields = {
            "rpc_urls": tuple(endpoint.url for endpoint in self.endpoints),
            "deploy_block": self.epochs.epoch_of(self.chain.deployment.deploy_block),
            "rpc_timeout_seconds": timeout,
            "stale_head_seconds": 10.0**6,
        }
        return config.model_copy(update={"chain": config.chain.model_copy(update=fields | options)})

    def restart(self):
        """A new process on the same disk: nothing that was in memory is left."""
        self.pool = EndpointPool(
            [endpoint.url for endpoint in self.endpoints], self.config.chain, self.clock, self.watch,
            genesis=known_genesis(self.engine, self._scope), sleep=self.waits.append,
        )  # fmt: skip
        self._pools.callback(self.pool.close)
        self.listener = Listener(self.engine, self.pool.client(), self.config, self.clock, watch=self.watch)
        self.relayer = Relayer(self.engine, self.pool.client(), funded(2), self.config, self.clock)

    # -- the endpoint and the chain -------------------------------------------------------------------------------

    @property
    def script(self):
        """What the (first) endpoint is to do, and the record of what it did."""
        return self.endpoints[0].script

    def met(self, kind):
        """How often a fault of this kind happened."""
        return sum(act.kind == kind for act in self.acts)

    def head(self):
        """The number of anvil's newest block."""
        return self.chain.client.head().number

    def request(self, order=ORDER):
        """An order in a block of its own."""
        return self.chain.request(funded(1), order)

    def offer(self, order=ORDER, index=1, ahead=0):
        """A signed order that is waiting to be mined."""
        nonce = self.chain.client.nonce(funded(index).address, "pending") + ahead
        bridge = self.chain.deployment.bridge
        signed = self.chain.signed(funded(index), bridge, request_job_calldata(order), order.price, nonce=nonce)
        self.chain.client.send_raw(signed.raw)
        return signed

    def reorg(self, depth, *new):
        """Take back the newest `depth` blocks; then mine a block for each of `new`, lists of signed transactions."""
        self.chain.client.ask("anvil_rollback", depth)
        self.chain.client.ask("anvil_dropAllTransactions")
        self.chain.client.ask("anvil_setCoinbase", f"0x{0xF000 + len(self.acts) + self.head():040x}")
        for transactions in new:
            for signed in transactions:
                self.chain.client.send_raw(signed.raw)
            self.chain.mine()

    # -- the bridge -------------------------------------------------------------------------------------------------

    def step(self):
        """One poll of listener and relayer; whether something moved. Errors are kept; what must hold is checked."""
        self.clock.now += POLL_SECONDS
        moved = [self._try(loop) for loop in (self.listener, self.relayer)]
        if any(moved):
            holds.always(self)
        return any(moved)

    def _try(self, loop):
        try:
            return loop.step()
        except RpcError as exc:
            self.raised.append(exc)
            return True

    def settle(self, steps=STEPS):
        """Step until two polls in a row find nothing; what was raised meanwhile. Fails when there is no rest."""
        before, quiet = len(self.raised), 0
        for _ in range(steps):
            quiet = 0 if self.step() else quiet + 1
            if quiet == 3:
                return self.raised[before:]
        raise AssertionError(f"not at rest after {steps} steps: {self.raised[-3:]}")

    def polls(self, count):
        """So many steps, at rest or not; what was raised."""
        before = len(self.raised)
        for _ in range(count):
            self.step()
        return self.raised[before:]

    def decide(self, request, outcome=OUTCOME):
        """A quorum agrees: the job is POSTING, its delivery in the outbox."""
        now = self.clock.now
        bridge_parts.post(self.engine, self.chain, request, outcome, self.relayer.address, now)
        self.decided[request.hash] = outcome

    def running(self, request):
        """A node has the job."""
        self.move(request, JobState.RUNNING)

    def move(self, request, *states):
        """Move a job by hand."""
        from bridge.store.engine import transaction
        from bridge.store.jobs import move_job

        with transaction(self.engine) as connection:
            state = self.job(request).state
            for after in states:
                move_job(connection, request.hash, state, after, self.clock.now)
                state = after

    def job(self, request):
        """The job of a request, or None."""
        return bridge_parts.job(self.engine, request.hash)

    def jobs(self):
        """All jobs, by request hash."""
        return bridge_parts.jobs_now(self.engine)

    def cursor(self):
        with reading(self.engine) as connection:
            return load_cursor(connection, self._scope)

    def window(self):
        with reading(self.engine) as connection:
            return load_window(connection)

    def alarms(self):
        """What is raised, over or not."""
        return {raised.alarm for raised in self.watch.alarms()}

    def is_over(self, alarm):
        """Whether an alarm's cause is gone."""
        return next(raised for raised in self.watch.alarms() if raised.alarm is alarm).over_at is not None

    # -- the end ----------------------------------------------------------------------------------------------------

    def rests(self, *requests):
        """The faults stop: at rest within STEPS steps, and all holds. `requests`: exactly these are canonical."""
        for endpoint in self.endpoints:
            endpoint.calm()
        self.settle()
        for _ in range(self.config.chain.posting_depth + self.config.chain.finality_depth + 3):
            if self._all_delivered():
                break
            self.chain.mine()  # blocks come, so that what was sent is mined and final
            self.polls(2)
        self.settle()
        holds.at_rest(self)
        assert {job.request_hash for job in self.jobs().values() if job.state is not JobState.ORPHANED} == {
            request.hash for request in requests
        }
        self.judged = True

    def _all_delivered(self):
        jobs = self.jobs()
        return all(jobs[request].state in (JobState.FINAL, JobState.ORPHANED) for request in self.decided)

    def halted(self, alarm):
        """The bridge has stopped for good and told why: nothing moves, nothing is sent, a restart halts as well."""
        before = self.cursor(), self.jobs()
        assert alarm in self.alarms()
        holds.always(self)
        assert (self.cursor(), self.jobs()) == before
        assert self.script.calls("eth_sendRawTransaction") == []
        self.judged = True

    # -- the truth --------------------------------------------------------------------------------------------------

    def truth(self):
        """The canonical events up to anvil's head, from anvil itself, as they look from outside."""
        client, deployment = self.chain.client, self.chain.deployment
        logs = client.logs_by_range(deployment.deploy_block, client.head().number, deployment.bridge)
        found = []
        for entry in logs:
            if entry.tx_hash in self.refused:
                continue
            try:
                event = decode_log(self._outside(entry), CHAIN_ID)
            except UndecodableLog:
                continue
            if event is not None:
                found.append(event)
        return found

    def _outside(self, entry):
        number = self.epochs.epoch_of(entry.block_number)
        return entry._replace(block_number=number, block_hash=self.hash_of(entry.block_hash, entry.block_number))

    def hash_of(self, block_hash, number):
        """anvil's hash of a block, as it looks from outside."""
        return bytes.fromhex(self.look.hash_of("0x" + block_hash.hex(), number)[2:])

    def block(self, number):
        """anvil's block of this number, as it looks from outside."""
        own = self.chain.client.block_by_number(number)
        parent = self.hash_of(own.parent_hash, number - 1)
        return Block(self.epochs.epoch_of(number), self.hash_of(own.hash, number), parent, own.timestamp)


def seconds(call):
    """How long a call takes, in real seconds."""
    began = time.monotonic()
    call()
    return time.monotonic() - began
