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
from tests.simulation.rules import Rule, Violation
from tests.simulation.world import Parts, Run, World

BAD_EPOCHS = (5, 13)  # how long the bad time lasts, at least and at most
FILE_EVERY = 50  # so many runs one has its database in a file
REBUILD_EVERY = 2  # and so many one is rebuilt from the chain at the end
REBUILD_AFTER = 45  # blocks: enough for ranges to be read
REBUILD_BEHIND = (0, 6, 24)  # by so many blocks the first heads of a rebuild are old
REBUILD_TURNS = 40  # epochs that it may take from there


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
        run.violation, run.broken = str(exc), exc.rule
    except BaseException as exc:
        exc.add_note(f"in the run of seed {seed}")
        raise
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
    """The heads come up from below, with the newest state: what looks open to the loops has ended long ago."""
    sent = world.run.sent
    world.trace("-- the database is deleted and rebuilt --")
    world.forget()
    for _ in range(world.random.choice((0, REBUILD_AFTER))):
        world.mine()
    behind = world.random.choice(REBUILD_BEHIND)
    for turn in range(REBUILD_TURNS):
        world.node.behind = max(0, behind - turn * world.random.randint(3, 8))
        for name in world.loops:
            world.turn(name, 40)
        if world.run.sent > sent:
            raise Violation(Rule.REBUILT_QUIET, "it sent a transaction")
        waits = checks.unfinished(world)
        if not waits:
            break
    else:
        raise Violation(Rule.AT_REST, "a rebuilt database does not come to rest: " + "; ".join(waits))
    if checks.check_jobs(world) != ended:
        raise Violation(Rule.REBUILT, "the jobs differ")
    checks.check_mirror(world)


def _count(world: World, run: Run) -> None:
    state = world.chain.tip.state
    run.faults.update(world.plan.counts)
    run.killed_at.update(world.kills.at)
    run.requests = state.count
    run.results = sum(slot.state in SETTLED for slot in state.slots.values())
    run.refunds = sum(slot.state in (OnChainState.EXPIRED, OnChainState.CANCELLED) for slot in state.slots.values())
    run.gone = len(world.people.orders) - state.count
