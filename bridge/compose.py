"""One bridge from one configuration: every part is made and wired here, and nowhere else."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack

from bridge.alarms import AlarmKeeper
from bridge.api.app import create_app
from bridge.api.server import run_server
from bridge.chain.client import ChainClient
from bridge.chain.contracts import fulfil_calldata
from bridge.chain.endpoints import EndpointPool
from bridge.chain.signer import TxSigner
from bridge.chain.views import BridgeViews, RegistryViews
from bridge.config import BridgeConfig
from bridge.dispatcher import Dispatcher
from bridge.errors import FatalError, RpcRefused, RpcUnavailable
from bridge.housekeeping import Housekeeping
from bridge.listener import Listener
from bridge.lock import folder_lock
from bridge.mirror import Mirror
from bridge.relayer import Relayer
from bridge.replicas import Replicas
from bridge.retrying import retry_call
from bridge.service import Threads
from bridge.store import outbox
from bridge.store.chain import Scope as ChainScope
from bridge.store.chain import load_cursor
from bridge.store.engine import Connection, Engine, kept_open, open_engine, reading
from bridge.store.jobs import Job
from bridge.store.migrations import migrate
from bridge.watch import Alarm, Watch
from executor.content.blockstore import BlockStore
from executor.errors import InvalidInput
from executor.protocol.nodeauth import Audience
from executor.protocol.signing import Scope
from executor.protocol.wire import Attestation, Outcome

SERVER_STOP_SECONDS = 10.0
DISPATCH_IDLE_SECONDS = 1.0
HOUSEKEEPING_IDLE_SECONDS = 60.0
MIRROR_IDLE_SECONDS = 10.0
ALARMS_IDLE_SECONDS = 5.0
ENDPOINTS_IDLE_SECONDS = 10.0


class Bridge:
    """A bridge, ready to run. `run` returns after `stop`; FatalError says that a human is needed."""

    def __init__(self, config: BridgeConfig) -> None:
        self._lock = ExitStack()
        self._lock.enter_context(folder_lock(config.data_dir))
        chain = config.chain
        engine = open_engine(config.database)
        migrate(engine)
        self._lock.enter_context(kept_open(engine))
        self._config = config
        self.watch = Watch()
        self._keeper = AlarmKeeper(engine, self.watch)
        self._keeper.step()
        self.watch.over(Alarm.HALTED, time.time())  # it runs again; what stopped it may come back
        scope = ChainScope(chain.chain_id, chain.bridge_contract)
        self._pool = EndpointPool(chain.rpc_urls, chain, time.time, self.watch, genesis=known_genesis(engine, scope))
        reader = self._pool.client(each_call=True)  # the registry's answers stand alone, unlike a loop's
        signer = TxSigner.load(config.relayer.key)
        book = retry_call(
            lambda: registry_of(reader, chain.bridge_contract),
            on=(RpcUnavailable,),
            attempts=1 + len(chain.rpc_urls),
            deadline_seconds=60.0,
        )
        registry = RegistryViews(reader, book)
        replicas = Replicas(config.content.replicas, self.watch)
        store = BlockStore(config.data_dir / "content")
        store.meter.set_limits(config.content.store_limits)
        dispatcher = Dispatcher(
            engine,
            registry,
            store,
            config,
            time.time,
            relayer=signer.address,
            enqueue=enqueue_fulfil,
            replicas=replicas,
        )
        self._threads = Threads()
        listener = Listener(engine, self._pool.client(), config, time.time, watch=self.watch)
        self._threads.add("listener", listener, chain.poll_seconds)
        self._threads.add("endpoints", self._pool, ENDPOINTS_IDLE_SECONDS)
        self._threads.add("dispatcher", dispatcher, DISPATCH_IDLE_SECONDS)
        housekeeping = Housekeeping(dispatcher.store, dispatcher.roots, time.time)
        self._threads.add("housekeeping", housekeeping, HOUSEKEEPING_IDLE_SECONDS)
        self._add_mirrors(engine, dispatcher, replicas)
        self._threads.add(
            "relayer",
            Relayer(engine, self._pool.client(), signer, config, time.time, watch=self.watch),
            chain.poll_seconds,
        )
        keeping = self._threads.add("alarms", self._keeper, ALARMS_IDLE_SECONDS)
        self.watch.on_news = keeping.wake.set
        audience = Audience(Scope(chain.chain_id, chain.bridge_contract), config.public_url)
        app = create_app(
            dispatcher, engine, audience, time.time, self._threads.states, self._threads.wake, watch=self.watch
        )
        self._server = run_server(app, config.listen_host, config.listen_port)

    def _add_mirrors(self, engine: Engine, dispatcher: Dispatcher, replicas: Replicas) -> None:
        content = self._config.content
        for number, address in enumerate(content.kubo, 1):
            from executor.content.kubo import Kubo  # its library takes its time, and most bridges have no Kubo

            name = "kubo" if number == 1 else f"kubo {number}"
            mirror = Mirror(
                engine,
                dispatcher.store,
                dispatcher.roots,
                self._lock.enter_context(Kubo(address)),
                time.time,
                replicas=replicas,
                name=name,
                address=address,
                peers=content.kubo_peers,
            )
            self._threads.add(name, mirror, MIRROR_IDLE_SECONDS)

    def run(self) -> None:
        """Serve and step until `stop`. Once only."""
        serving = threading.Thread(target=self._serve, name="server", daemon=True)
        serving.start()
        try:
            self._threads.run()
        except FatalError as exc:
            self.watch.alarm(Alarm.HALTED, str(exc), time.time())
            raise
        finally:
            self._keeper.last_step()
            self._server.should_exit = True
            serving.join(SERVER_STOP_SECONDS)
            self._pool.close()
            self._lock.close()

    def stop(self) -> None:
        """End `run`. From any thread, or a signal handler."""
        self._threads.stop.set()

    def _serve(self) -> None:
        try:
            self._server.run()
        except SystemExit:  # uvicorn's way to say that it cannot listen
            where = f"{self._config.listen_host}:{self._config.listen_port}"
            self._threads.fail("server", FatalError(f"cannot listen on {where}; is another program there?"))
        else:
            self._threads.stop.set()


def known_genesis(engine: Engine, scope: ChainScope) -> bytes | None:
    """The first block of the chain that the database follows; None when it is not known."""
    with reading(engine) as connection:
        cursor = load_cursor(connection, scope)
    return cursor.genesis_hash if cursor is not None and any(cursor.genesis_hash) else None


def registry_of(client: ChainClient, contract: str) -> str:
    """The registry of the ComputeBridge at this address. InvalidInput where there is no such contract; RpcError."""
    field = "chain.bridge_contract"
    then = "give the ComputeBridge's address, and endpoints of its chain in chain.rpc_urls; see `insula doctor`"
    if not client.code(contract):
        raise InvalidInput(field, f"there is no contract at {contract} on the chain of chain.rpc_urls; {then}")
    try:
        return BridgeViews(client, contract).registry()
    except (InvalidInput, RpcRefused) as exc:
        raise InvalidInput(field, f"the contract at {contract} is no ComputeBridge ({exc}); {then}") from exc


def enqueue_fulfil(
    connection: Connection, job: Job, outcome: Outcome, attestations: Sequence[Attestation], now: float
) -> None:
    """Put the delivery of an outcome into the outbox."""
    calldata = fulfil_calldata(job.request.id, job.request.order, outcome, attestations)
    outbox.enqueue(connection, job.request_hash, outbox.Delivery.FULFIL, calldata, now)
