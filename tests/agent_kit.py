"""A node in the hands of a test: its work folder, and the node itself in a thread of this process."""

import threading
import time
from contextlib import contextmanager

from executor.agent.config import init_node
from executor.agent.service import run_node
from tests.agent_twin import CHAIN_ID, CONTRACT


def new_node(twin, folder, **fields):
    """A work folder of a node of the twin's; `fields` are those of `init_node`."""
    place = {"bridge_url": twin.url, "chain_id": CHAIN_ID, "bridge_contract": CONTRACT, "registry": CONTRACT}
    init_node(folder, **{**place, "poll_seconds": 0.1, **fields})
    return folder


@contextmanager
def node_running(folder, *sandboxes, clock=time.time):
    """The node runs until the end; its thread."""
    stop = threading.Event()
    thread = threading.Thread(target=run_node, args=(folder, stop, sandboxes, clock))
    thread.start()
    try:
        yield thread
    finally:
        stop.set()
        thread.join(60)
        assert not thread.is_alive()
