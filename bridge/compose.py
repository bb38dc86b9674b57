"""One bridge from one configuration: every part is made and wired here, and nowhere else."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from bridge.api.app import create_app
from bridge.api.server import run_server
from bridge.chain.client import ChainClient
from bridge.chain.contracts import fulfil_calldata
from bridge.chain.signer import TxSigner
from bridge.chain.views import BridgeViews, RegistryViews
from bridge.config import BridgeConfig
from bridge.dispatcher import Dispatcher
from bridge.errors import FatalError, RpcRefused
from bridge.housekeeping import Housekeeping
from bridge.listener import Listener
from bridge.lock import folder_lock
from bridge.relayer import Relayer
from bridge.service import Threads
from bridge.store import outbox
from bridge.store.engine import Connection, open_engine
from bridge.store.jobs import Job
from bridge.store.migrations import migrate
from executor.content.blockstore import BlockStore
from executor.errors import InvalidInput
from executor.protocol.nodeauth import Audience
from executor.protocol.signing import Scope
from executor.protocol.wire import Attestation, Outcome

SERVER_STOP_SECONDS = 10.0
DISPATCH_IDLE_SECONDS = 1.0
HOUSEKEEPING_IDLE_SECONDS = 60.0


class Bridge:
    """A bridge, ready to run. `run` returns after `stop`; FatalError says that a human is needed."""

    def __init__(self, config: BridgeConfig) -> None:
        self._lock = ExitStack()
        self._lock.enter_context(folder_lock(config.data_dir))
        chain = config.chain
        engine = open_engine(config.database)
        migrate(engine)
        self._config = config
        self._client = ChainClient(chain.rpc_url, chain.rpc_timeout_seconds)
        signer = TxSigner.load(config.relayer.key)
        registry = RegistryViews(self._client, registry_of(self._client, chain.bridge_contract))
        dispatcher = Dispatcher(
            engine,
            registry,
            BlockStore(config.data_dir / "content"),
            config,
            time.time,
            relayer=signer.address,
            enqueue=enqueue_fulfil,
        )
        self._threads = Threads()
        self._threads.add("listener", Listener(engine, self._client, config, time.time), chain.poll_seconds)
        self._threads.add("dispatcher", dispatcher, DISPATCH_IDLE_SECONDS)
        housekeeping = Housekeeping(dispatcher.store, dispatcher.roots, time.time)
        self._threads.add("housekeeping", housekeeping, HOUSEKEEPING_IDLE_SECONDS)
        self._threads.add("relayer", Relayer(engine, self._client, signer, config, time.time), chain.poll_seconds)
        audience = Audience(Scope(chain.chain_id, chain.bridge_contract), config.public_url)
        app = create_app(dispatcher, engine, audience, time.time, self._status, self._threads.wake)
        self._server = run_server(app, config.listen_host, config.listen_port)

    def run(self) -> None:
        """Serve and step until `stop`. Once only."""
        serving = threading.Thread(target=self._serve, name="server", daemon=True)
        serving.start()
        try:
            self._threads.run()
        finally:
            self._server.should_exit = True
            serving.join(SERVER_STOP_SECONDS)
            self._client.close()
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

    def _status(self) -> dict[str, Any]:
        return {"loops": self._threads.states()}


def registry_of(client: ChainClient, contract: str) -> str:
    """The registry of the ComputeBridge at this address. InvalidInput where there is no such contract; RpcError."""
    field = "chain.bridge_contract"
    then = (
        "give the ComputeBridge's address, and in chain.rpc_url an endpoint of its chain; `insula doctor` looks at both"
    )
    if not client.code(contract):
        raise InvalidInput(field, f"there is no contract at {contract} on the chain of chain.rpc_url; {then}")
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
