"""The application: every route of the bridge, put together."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version

from fastapi import FastAPI

from bridge.api import content_routes, metrics, node_routes, problems, public_routes
from bridge.api.auth import Gate
from bridge.api.status import Loops, Status
from bridge.api.waiting import Waiting
from bridge.dispatcher import Dispatcher
from bridge.store.engine import Engine
from bridge.watch import Watch
from executor.content.gateway import Gateway, router
from executor.protocol.nodeauth import Audience


def create_app(
    dispatcher: Dispatcher,
    engine: Engine,
    audience: Audience,
    clock: Callable[[], float],
    loops: Loops = list,
    wake: Callable[[], None] = lambda: None,
    *,
    watch: Watch | None = None,
) -> FastAPI:
    """The bridge's HTTP side.

    loops: the states of the process's loops; wake: called when a call gave the loops something to do; watch: what they
    counted and which alarms they raised. The dispatcher's `changed` wakes the nodes that wait for work.
    Administrative routes: there are none.
    """
    # FastAPI's pages for people load scripts from elsewhere: /openapi.json is enough.
    app = FastAPI(title="Insula bridge", version=version("insula"), docs_url=None, redoc_url=None)
    waiting = Waiting()
    dispatcher.changed = waiting.changed
    gate = Gate(dispatcher, engine, dispatcher.config.content, audience, clock)
    problems.install(app)
    watch = watch or Watch()
    metrics.install(app, dispatcher, clock, loops, watch)
    app.include_router(public_routes.router(dispatcher, clock, Status(dispatcher, clock, loops, watch)))
    app.include_router(node_routes.router(dispatcher, gate, waiting, wake))
    app.include_router(content_routes.router(dispatcher, gate, wake))
    app.include_router(router(Gateway(dispatcher.store, dispatcher.roots, clock, dispatcher.publish)))
    return app
