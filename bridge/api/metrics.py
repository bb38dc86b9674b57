"""Prometheus metrics: counted calls, and jobs, leases and nodes as the database has them at the moment."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator

from fastapi import FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bridge.dispatcher import Dispatcher
from bridge.explaining import CONNECTED_SECONDS
from bridge.jobs import JobState
from bridge.store.engine import reading
from bridge.store.jobs import count_by_state
from bridge.store.leases import reserved
from bridge.store.nodes import nodes_since


class StoreCollector(Collector):
    """Reads the database whenever it is scraped."""

    def __init__(self, dispatcher: Dispatcher, clock: Callable[[], float]) -> None:
        self._dispatcher = dispatcher
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        """The gauges."""
        with reading(self._dispatcher.engine) as connection:
            counts = count_by_state(connection)
            busy = reserved(connection)
            nodes = nodes_since(connection, self._clock() - CONNECTED_SECONDS)
        jobs = GaugeMetricFamily("insula_jobs", "Jobs by state", labels=["state"])
        for state in JobState:
            jobs.add_metric([state.value], counts.get(state.value, 0))
        yield jobs
        yield GaugeMetricFamily("insula_nodes", "Nodes that asked for work lately", value=len(nodes))
        yield GaugeMetricFamily(
            "insula_running_leases", "Leases that run now", value=sum(c.slots for c in busy.values())
        )


def install(app: FastAPI, dispatcher: Dispatcher, clock: Callable[[], float]) -> None:
    """Count every call by its route's template, and serve /metrics."""
    registry = CollectorRegistry()
    registry.register(StoreCollector(dispatcher, clock))
    calls = Counter("insula_http_calls", "Calls", ["method", "route", "status"], registry=registry)
    seconds = Histogram("insula_http_seconds", "Seconds until the answer began", ["route"], registry=registry)

    @app.middleware("http")
    async def count(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        began = time.monotonic()
        response = await call_next(request)
        route = getattr(request.scope.get("route"), "path", "none")
        calls.labels(request.method, route, str(response.status_code)).inc()
        seconds.labels(route).observe(time.monotonic() - began)
        return response

    @app.get("/metrics", include_in_schema=False)
    def metrics() -> Response:
        return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})
