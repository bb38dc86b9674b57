"""Prometheus metrics: what the loops counted (`bridge.watch`), counted calls, and what the database holds now.

docs/metrics.md has all names; a test compares.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

from fastapi import FastAPI, Response
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bridge.api.status import Loops
from bridge.dispatcher import Dispatcher
from bridge.explaining import CONNECTED_SECONDS
from bridge.jobs import JobState
from bridge.store.engine import reading
from bridge.store.jobs import count_by_state
from bridge.store.leases import reserved
from bridge.store.nodes import nodes_since
from bridge.store.outbox import SendState
from bridge.store.standing import outbox_by_state, position, transactions_by_fate
from bridge.watch import METRICS, Alarm, Watch


class StoreCollector(Collector):
    """Reads the database whenever it is scraped."""

    def __init__(self, dispatcher: Dispatcher, clock: Callable[[], float]) -> None:
        self._dispatcher = dispatcher
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        """The gauges."""
        chain = self._dispatcher.config.chain
        with reading(self._dispatcher.engine) as connection:
            counts = count_by_state(connection)
            busy = reserved(connection)
            nodes = nodes_since(connection, self._clock() - CONNECTED_SECONDS)
            deliveries = outbox_by_state(connection)
            sent = transactions_by_fate(connection)
            place = position(connection, chain.chain_id, chain.bridge_contract)
        yield _gauges("jobs", "Jobs by state", "state", {state.value: counts.get(state.value, 0) for state in JobState})
        yield GaugeMetricFamily("insula_nodes", "Nodes that asked for work lately", value=len(nodes))
        yield GaugeMetricFamily(
            "insula_running_leases", "Leases that run now", value=sum(c.slots for c in busy.values())
        )
        by_state = {state.value: deliveries.get(state.value, 0) for state in SendState}
        yield _gauges("outbox", "Deliveries by state", "state", by_state)
        yield _gauges("transactions", "Signed transactions by what became of them", "fate", dict(sent))
        scanned = {} if place is None else {"scanned": place.scanned, "final": place.final}
        yield _gauges("stored_block", "The listener's position as stored", "position", scanned)
        usage = self._dispatcher.store.meter.usage()
        rooms = (
            {}
            if usage is None
            else {
                "used": usage.used,
                "limit": usage.limits.max_bytes,
                "disk_free": usage.free,
                "disk_kept_free": usage.limits.min_free_bytes,
            }
        )
        yield _gauges("store_bytes", "Bytes of the block store and its disk; limit 0: none", "of", rooms)


class WatchCollector(Collector):
    """What the loops wrote to the watch, its alarms, and how the loops themselves do."""

    def __init__(self, watch: Watch, loops: Loops, clock: Callable[[], float]) -> None:
        self._watch = watch
        self._loops = loops
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        """Every metric of the table, with the values that there are; counters without labels begin at 0."""
        samples = self._watch.samples()
        for name, metric in METRICS.items():
            family = (CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily)(
                f"insula_{name}", metric.help, labels=metric.labels
            )
            values = {labels: value for (known, labels), value in samples.items() if known == name}
            if metric.kind == "counter" and not metric.labels:
                values.setdefault((), 0.0)
            for labels, value in sorted(values.items()):
                family.add_metric([word for _, word in labels], value)
            yield family
        raised = {alarm.alarm for alarm in self._watch.alarms()}
        by_name = {alarm.value: int(alarm in raised) for alarm in Alarm}
        yield _gauges("alarm", "1: the alarm is raised and nobody has acknowledged it", "name", by_name)
        yield from self._loop_states()

    def _loop_states(self) -> Iterator[Metric]:
        states, now = self._loops(), self._clock()
        ages = {state["name"]: now - state["last_step_at"] for state in states if state["last_step_at"]}
        yield _gauges("loop_step_age_seconds", "Time since the loop's last step that succeeded", "loop", ages)
        failures = {state["name"]: state["failures_in_a_row"] for state in states}
        yield _gauges("loop_failures", "Steps in a row that failed", "loop", failures)


def _gauges(name: str, text: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"insula_{name}", text, labels=[label])
    for word, value in values.items():
        family.add_metric([word], value)
    return family


def install(
    app: FastAPI, dispatcher: Dispatcher, clock: Callable[[], float], loops: Loops, watch: Watch
) -> CollectorRegistry:
    """Count every call by its route's template, and serve /metrics; the registry behind it."""
    registry = CollectorRegistry()
    registry.register(StoreCollector(dispatcher, clock))
    registry.register(WatchCollector(watch, loops, clock))
    ProcessCollector(registry=registry)
    calls = Counter("insula_http_calls", "Calls", ["method", "route", "status"], registry=registry)
    seconds = Histogram("insula_http_seconds", "Seconds until the answer began", ["route"], registry=registry)

    app.add_middleware(_Counting, calls=calls, seconds=seconds)

    @app.get("/metrics", include_in_schema=False)
    def metrics() -> Response:
        return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return registry


class _Counting:
    """Counts answers as they begin. It stands beside their bytes: a stream that is cut stays cut."""

    def __init__(self, app: ASGIApp, calls: Counter, seconds: Histogram) -> None:
        self._app = app
        self._calls = calls
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.monotonic()

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "none")
                self._calls.labels(scope["method"], route, str(message["status"])).inc()
                self._seconds.labels(route).observe(time.monotonic() - began)
            await send(message)

        await self._app(scope, receive, counted)
