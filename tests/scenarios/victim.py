"""A bridge's chain side in a process of its own, which dies by SIGKILL at a chosen commit of its database."""

import os
import signal
from contextlib import suppress

from sqlalchemy import event

from bridge.chain.endpoints import EndpointPool
from bridge.errors import RpcError
from bridge.listener import Listener
from bridge.relayer import Relayer
from bridge.store.engine import open_engine
from tests.chain_nodes import funded

STEPS = 60

#: words of one statement (or its parameters) in the transaction -> the commit at which to die
POINTS = {
    "the first cursor": ("INSERT INTO cursors",),
    "a request": ("INSERT INTO jobs",),
    "a request is deep enough": ("UPDATE jobs", "'ready'"),
    "a range far behind the head": ("DELETE FROM blocks WHERE blocks.number <", "INSERT INTO blocks"),
    "blocks that left the chain": ("DELETE FROM blocks WHERE blocks.hash",),
    "blocks that became final": ("DELETE FROM blocks WHERE blocks.number <",),
    "a transaction is signed": ("INSERT INTO transactions",),
    "a transaction is handed in": ("UPDATE outbox", "'sent'"),
    "the result is seen": ("UPDATE jobs", "'posted'"),
    "the receipt": ("UPDATE transactions SET mined_block_hash",),
    "the delivery is done": ("UPDATE outbox", "'done'"),
    "the job is final": ("UPDATE jobs", "'final'"),
}


def live_until(config, now, point, is_before):
    """Step until the commit of `point`, and die right before it or right after it. Returns when it does not come."""
    engine = open_engine(config.database)
    words = POINTS[point]
    said: list[str] = []
    doomed: list[bool] = []

    def begins(_):
        if doomed:
            os.kill(os.getpid(), signal.SIGKILL)
        said.clear()

    def says(_conn, _cursor, statement, parameters, _context, _many):
        said.append(f"{statement} {parameters}")

    def commits(_):
        if all(any(word in text for text in said) for word in words):
            if is_before:
                os.kill(os.getpid(), signal.SIGKILL)
            doomed.append(True)

    event.listen(engine, "begin", begins)
    event.listen(engine, "before_cursor_execute", says)
    event.listen(engine, "commit", commits)
    pool = EndpointPool(config.chain.rpc_urls, config.chain, lambda: now)
    loops = (
        Listener(engine, pool.client(), config, lambda: now),
        Relayer(engine, pool.client(), funded(2), config, lambda: now),
    )
    for _ in range(STEPS):
        now += 10
        for loop in loops:
            with suppress(RpcError):
                loop.step()
