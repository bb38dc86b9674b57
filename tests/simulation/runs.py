"""A run from its seed, and many of them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

from executor.protocol.wire import OnChainState
from tests.simulation import checks
from tests.simulation.contract import SETTLED
from tests.simulation.world import Parts, Run, Violation, World

BAD_EPOCHS = (5, 13)  # how long the bad time lasts, at least and at most
FILE_EVERY = 50  # so many runs one has its database in a file
REBUILD_EVERY = 2  # and so many one is rebuilt from the chain at the end
REBUILD_TURNS = 8


def run_seed(seed: int, parts: Parts | None = None, trace: Callable[[str], None] | None = None) -> Run:
    """One run. Its `violation` is empty when everything held."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50), cache_logger_on_first_use=False)
    if seed % FILE_EVERY:
        return _run(seed, parts or Parts(), trace, None)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        return _run(seed, parts or Parts(), trace, Path(folder))


def _run(seed: int, parts: Parts, trace: Callable[[str], None] | None, folder: Path | None) -> Run:
    world = World(seed, parts, trace, folder)
    run = world.run
    try:
        world.trace(f"{world.config.chain} {world.config.relayer} {world.node.dialect}")
        world.trace(f"faults: { {kind: chance for kind, chance in world.plan.chances.items() if chance} }")
        for _ in range(world.random.randint(*BAD_EPOCHS)):
            world.epoch()
        world.trace("-- the faults stop --")
        _check_end(world)
    except Violation as exc:
        run.violation = str(exc)
    finally:
        world.database.close()
    _count(world, run)
    return run


def _check_end(world: World) -> None:
    checks.come_to_rest(world)
    ended = checks.check_jobs(world)
    checks.check_effects(world)
    checks.check_mirror(world)
    checks.check_nonces(world)
    if world.run.seed % REBUILD_EVERY == 0:
        _check_rebuild(world, ended)


def _check_rebuild(world: World, ended: dict[bytes, tuple[Any, ...]]) -> None:
    results = world.chain.tip.state.count
    world.trace("-- the database is deleted and rebuilt --")
    world.forget()
    for _ in range(REBUILD_TURNS):
        world.turn("listener", 200)
        world.turn("dispatcher", 10)
        world.turn("relayer", 10)
        if not checks.unfinished(world):
            break
    rebuilt = checks.check_jobs(world)
    if rebuilt != ended:
        raise Violation("a database that was rebuilt from the chain says something else")
    if world.chain.pool.get(world.relayer.address) or world.chain.tip.state.count != results:
        raise Violation("a rebuilt database sent something")


def _count(world: World, run: Run) -> None:
    state = world.chain.tip.state
    run.faults.update(world.plan.counts)
    run.requests = state.count
    run.results = sum(slot.state in SETTLED for slot in state.slots.values())
    run.refunds = sum(slot.state in (OnChainState.EXPIRED, OnChainState.CANCELLED) for slot in state.slots.values())
    run.gone = len(world.people.orders) - state.count
