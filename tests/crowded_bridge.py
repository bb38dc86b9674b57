"""`python -m tests.crowded_bridge FOLDER FILES`: a bridge's API and one loop in a process with few descriptors.

Prints the port; ends when its standard input does.
"""

import resource
import sys
import threading
from pathlib import Path

from bridge.api.app import create_app
from bridge.api.server import port_of, run_server
from bridge.cli.logs import set_up_logs
from bridge.service import Threads
from bridge.store.engine import reading
from bridge.store.jobs import count_by_state
from tests.api_kit import AUDIENCE
from tests.bridge_kit import Bridge


class Reader:
    """A loop that needs a descriptor for the database at each step."""

    def __init__(self, bridge):
        self.bridge = bridge

    def step(self):
        with reading(self.bridge.engine) as connection:
            count_by_state(connection)
        return False


def main(folder, files):
    set_up_logs()
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(64, files), files))
    bridge = Bridge(Path(folder))
    threads = Threads()
    threads.add("reader", Reader(bridge), 0.02)
    app = create_app(bridge.dispatcher, bridge.engine, AUDIENCE, bridge.clock, loops=threads.states, watch=bridge.watch)
    server = run_server(app, "127.0.0.1", 0)
    serving = threading.Thread(target=server.run, daemon=True)
    serving.start()
    while not server.started:
        serving.join(0.01)
    print(port_of(server), server.crowd.most, flush=True)

    def end():
        sys.stdin.read()
        server.should_exit = True
        threads.stop.set()

    threading.Thread(target=end, daemon=True).start()
    threads.run()
    serving.join()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
