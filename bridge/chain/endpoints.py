"""Several endpoints of one chain, seen as one. A step asks one endpoint only; the next step may ask another.

Answers of two endpoints are never mixed in one decision (docs/adr/0007): a client stays with the endpoint that its
`poll` chose. When that one fails, the call fails, the step with it, and the step that is begun anew chooses again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from urllib.parse import urlsplit

import structlog

from bridge.chain import endpoint_health as health_rules
from bridge.chain.client import MAX_RESPONSE_BYTES, Call, ChainClient, Poll
from bridge.chain.endpoint_health import Health
from bridge.chain.transport import HttpTransport, Transport
from bridge.config import ChainConfig
from bridge.errors import FatalError, HistoryPruned, RateLimited, RpcError, RpcRefused, RpcUnavailable
from bridge.watch import Alarm, Watch

log = structlog.get_logger("bridge.endpoints")

PROBE_SECONDS = 30.0  # endpoints that are not in use are looked at so often
LONGEST_PROBE_SECONDS = 300.0  # and those that fail less and less often, down to this
WAITS = (0.25, 0.5, 1.0)  # seconds before the same call goes to the same endpoint again, which is asked too often
LONGEST_WAIT = 2.0  # a longer wait than this is the next step's


def endpoint_names(urls: Sequence[str]) -> list[str]:
    """What metrics and logs call endpoints: host and port, and nothing of a URL that may be a credential."""
    names: list[str] = []
    for place, url in enumerate(urls):
        parts = urlsplit(url)
        name = f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
        names.append(name if name not in names else f"{name}#{place + 1}")
    return names


class Endpoint:
    """One endpoint; `health` is replaced under the pool's lock."""

    def __init__(self, place: int, name: str, transport: Transport) -> None:
        self.place = place
        self.name = name
        self.transport = transport
        self.health = Health()
        self.probed_at = 0.0
        self.last_error = ""


class EndpointPool:
    """The endpoints of `chain.rpc_urls`. Shared by threads; `step` looks at those that are not in use.

    `ways`: URLs, or transports. `clock` gives seconds since 1970. `genesis`: the hash of block 0 as known from before;
    else that of the endpoint that shows it first.
    """

    def __init__(
        self,
        ways: Sequence[str | Transport],
        chain: ChainConfig,
        clock: Callable[[], float],
        watch: Watch | None = None,
        *,
        genesis: bytes | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        names = endpoint_names([way if isinstance(way, str) else f"http://endpoint:{n}" for n, way in enumerate(ways)])
        self._endpoints = [
            Endpoint(place, name, _transport(way, chain.rpc_timeout_seconds))
            for place, (name, way) in enumerate(zip(names, ways, strict=True))
        ]
        self._chain_id = chain.chain_id
        self._clock = clock
        self._watch = Watch() if watch is None else watch
        self._genesis = genesis
        self._sleep = sleep
        self._lock = threading.Lock()
        self._current: int | None = None
        self._floor = 0

    def client(self, *, each_call: bool = False) -> ChainClient:
        """A client that stays with one endpoint from `poll` to `poll`; `each_call`: one that chooses for each call."""
        return _PooledClient(self, _Chosen(self, stays=not each_call))

    def step(self) -> bool:
        """Look at the endpoints that nobody asked lately. FatalError when all are refused."""
        self._halt_without_any()
        for endpoint in self._endpoints if len(self._endpoints) > 1 else ():
            if self._is_probe_due(endpoint):
                self.is_sound(endpoint)
        return False

    def close(self) -> None:
        """Close the connections."""
        for endpoint in self._endpoints:
            endpoint.transport.close()

    # -- for the clients ------------------------------------------------------------------------------------------

    def choose(self, at_least: int | None = None, *, checked: bool = True) -> Endpoint:
        """The endpoint to ask. `checked`: chain id and first block were looked at lately, else the caller does it.

        RpcUnavailable: none can be asked now. FatalError: all are refused.
        """
        excluded: set[int] = set()
        while True:
            with self._lock:
                self._floor = self._floor if at_least is None else at_least
                healths, now = [endpoint.health for endpoint in self._endpoints], self._clock()
                place = health_rules.choose(healths, now, self._floor, self._current, excluded)
            if place is None:
                self._halt_without_any()
                raise RpcUnavailable(f"no endpoint can be asked now ({self._words(lambda e: e.last_error)})")
            endpoint = self._endpoints[place]
            if checked and endpoint.health.needs_check(now) and not self.is_sound(endpoint):
                excluded.add(place)
                continue
            if checked and self._is_behind(endpoint):
                excluded.add(place)
                continue
            self._use(endpoint)
            return endpoint

    def post(self, endpoint: Endpoint, body: bytes) -> tuple[int, bytes]:
        """Ask one endpoint; asked too often, it is asked again after a moment. Errors: those of `Transport`."""
        if endpoint.health.refused:
            raise RpcUnavailable(f"endpoint {endpoint.name} is refused: {endpoint.health.refused}")
        for wait in (*WAITS, None):
            began = self._clock()
            self._watch.count("rpc_requests", endpoint=endpoint.name)
            try:
                answer = endpoint.transport.post(body)
            except RateLimited as exc:
                asked = wait if exc.retry_after is None else exc.retry_after
                if wait is None or asked is None or asked > LONGEST_WAIT:
                    self.failed(endpoint, exc, "throttled")
                    raise
                self._watch.count("rpc_errors", endpoint=endpoint.name, kind="throttled")
                self._sleep(asked)
                continue
            except RpcUnavailable as exc:
                self.failed(endpoint, exc, "transport")
                raise
            seconds = self._clock() - began
            self._watch.count("rpc_seconds", max(0.0, seconds), endpoint=endpoint.name)
            with self._lock:
                endpoint.health = endpoint.health.answered(seconds)
            return answer
        raise AssertionError("unreachable: the last wait is None")

    def failed(self, endpoint: Endpoint, error: RpcError, kind: str) -> None:
        """An endpoint gave no answer, or one of no use."""
        now = self._clock()
        with self._lock:
            health, endpoint.last_error = endpoint.health, str(error)
            if isinstance(error, RateLimited):
                endpoint.health = health.throttled(now, error.retry_after)
            elif isinstance(error, HistoryPruned):
                endpoint.health = health.lacks_history(now)
            else:
                endpoint.health = health.failed()
        self._watch.count("rpc_errors", endpoint=endpoint.name, kind=kind)

    def take(self, endpoint: Endpoint, poll: Poll, *, checked: bool) -> None:
        """What an endpoint showed of itself. RpcUnavailable when it is refused for it."""
        reason = ""
        with self._lock:
            if poll.chain_id != self._chain_id:
                reason = f"it is on chain {poll.chain_id}, not on {self._chain_id}"
            elif poll.genesis is not None and self._genesis not in (None, poll.genesis):
                reason = "its chain has another first block"
            else:
                self._genesis = self._genesis or poll.genesis
            health = endpoint.health
            shown = health.showed(poll.head.number, self._clock(), checked=checked)
            endpoint.health = health.refuse(reason) if reason else shown
        if not reason:
            self._watch.set("endpoint_head", poll.head.number, endpoint=endpoint.name)
            return
        detail = f"endpoint {endpoint.name} is refused: {reason}; take it out of chain.rpc_urls"
        self._watch.alarm(Alarm.ENDPOINT_REFUSED, detail, self._clock())
        self._watch.count("rpc_errors", endpoint=endpoint.name, kind="refused")
        log.error("endpoint refused", endpoint=endpoint.name, reason=reason)
        self._halt_without_any()
        raise RpcUnavailable(detail)

    def needs_check(self, endpoint: Endpoint) -> bool:
        """Whether an endpoint's first block is to be looked at again."""
        return endpoint.health.needs_check(self._clock())

    def require_height(self, endpoint: Endpoint) -> None:
        """RpcUnavailable when this endpoint is behind what we have taken in, and another one was not."""
        if self._is_behind(endpoint):
            raise RpcUnavailable(f"endpoint {endpoint.name} is behind what was taken in, and another one is not")

    def others(self, than: Endpoint | None, number: int) -> Iterator[ChainClient]:
        """Clients of the other endpoints that can be asked now and are not known to be below block `number`."""
        now = self._clock()
        with self._lock:
            ranked = sorted(self._endpoints, key=lambda e: health_rules.cost(e.health, e.health.head, now))
        for endpoint in ranked:
            health = endpoint.health
            if endpoint is than or health.refused or health.failures or health.is_left_alone(now):
                continue  # one that failed comes back by `step`: nobody waits here for its deadline
            if health.needs_check(now) and not self.is_sound(endpoint):
                continue
            if endpoint.health.head >= number or not endpoint.health.is_fresh(now):
                yield _PooledClient(self, _Chosen(self, endpoint))

    def is_sound(self, endpoint: Endpoint) -> bool:
        """Look at an endpoint's chain id, head and first block; whether it can be used."""
        endpoint.probed_at = self._clock()
        client = ChainClient(_Chosen(self, endpoint))
        try:
            self.take(endpoint, client.look(genesis=True), checked=True)
        except RpcError as exc:
            log.info("endpoint not usable", endpoint=endpoint.name, reason=str(exc))
            if not endpoint.health.refused and not endpoint.health.failures:
                self.failed(endpoint, exc, "answer")
            return False
        return True

    # -- inside ---------------------------------------------------------------------------------------------------

    def _is_behind(self, endpoint: Endpoint) -> bool:
        with self._lock:
            healths = [other.health for other in self._endpoints]
            return health_rules.is_behind(healths, endpoint.place, self._floor, self._clock())

    def _use(self, endpoint: Endpoint) -> None:
        with self._lock:
            before, self._current = self._current, endpoint.place
        if before not in (None, endpoint.place):
            log.warning("another endpoint", endpoint=endpoint.name, before=self._endpoints[before or 0].name)

    def _is_probe_due(self, endpoint: Endpoint) -> bool:
        health, now = endpoint.health, self._clock()
        if health.refused or health.is_left_alone(now):
            return False
        pause = min(LONGEST_PROBE_SECONDS, PROBE_SECONDS * 2 ** min(health.failures, 10))
        return not 0 <= now - max(endpoint.probed_at, health.heard_at) < pause

    def _words(self, of: Callable[[Endpoint], str]) -> str:
        return "; ".join(f"{endpoint.name}: {of(endpoint) or 'no failure'}" for endpoint in self._endpoints)

    def _halt_without_any(self) -> None:
        if all(endpoint.health.refused for endpoint in self._endpoints):
            reasons = self._words(lambda endpoint: endpoint.health.refused)
            text = f"the endpoints are not on chain {self._chain_id} as this bridge knows it ({reasons})"
            if all("first block" in endpoint.health.refused for endpoint in self._endpoints):
                self._watch.alarm(Alarm.CHAIN_RESET, text, self._clock())
            raise FatalError(f"{text}; check chain.rpc_urls and chain.chain_id")


class _Chosen:
    """The transport of one client: one endpoint at a time. With `endpoint`: that one for good."""

    def __init__(self, pool: EndpointPool, endpoint: Endpoint | None = None, *, stays: bool = True) -> None:
        self._pool = pool
        self._fixed = endpoint
        self._stays = stays
        self.endpoint = endpoint

    def post(self, body: bytes) -> tuple[int, bytes]:
        """See `Transport`. After a failure the next call chooses anew."""
        endpoint = self.endpoint or self._pool.choose()
        self.endpoint = endpoint if self._stays else None
        try:
            return self._pool.post(endpoint, body)
        except RpcUnavailable:
            self.endpoint = self._fixed
            raise

    def close(self) -> None:
        """The connections are the pool's."""


class _PooledClient(ChainClient):
    """A client whose steps each go to one endpoint of the pool; what fails there counts against that endpoint."""

    def __init__(self, pool: EndpointPool, chosen: _Chosen) -> None:
        super().__init__(chosen)
        self._pool = pool
        self._chosen = chosen
        self._blamed: RpcError | None = None

    def poll(self, *tags: str, at_least: int = 0, more: Sequence[Call] = ()) -> Poll:
        """As `ChainClient.poll`, of the endpoint that is best now and not behind `at_least`."""
        before = self._chosen.endpoint
        endpoint = self._pool.choose(at_least, checked=False)
        self._chosen.endpoint = endpoint
        if endpoint is not before:
            self._singly = 0
        due = self._pool.needs_check(endpoint)
        try:
            poll = self.look(*tags, genesis=due, more=more)
        except RpcRefused as exc:  # an endpoint that does not tell its head is of no use
            self.blame(exc)
            raise
        self._pool.take(endpoint, poll, checked=due)
        self._pool.require_height(endpoint)
        return poll

    def blame(self, error: RpcError) -> None:
        """Count an error against the endpoint of this step, once however often it is told."""
        endpoint = self._chosen.endpoint
        if endpoint is None or error is self._blamed:
            return
        self._blamed = error
        self._pool.failed(endpoint, error, "pruned" if isinstance(error, HistoryPruned) else "answer")

    def others(self, number: int) -> Iterator[ChainClient]:
        return self._pool.others(self._chosen.endpoint, number)

    def _ask(self, method: str, *params: object, number: int | None = None) -> object:
        try:
            return super()._ask(method, *params, number=number)
        except RpcUnavailable as exc:
            self.blame(exc)
            raise


def _transport(way: str | Transport, timeout_seconds: float) -> Transport:
    return HttpTransport(way, timeout_seconds, MAX_RESPONSE_BYTES) if isinstance(way, str) else way
