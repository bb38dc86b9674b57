"""`python -m tests.bench.gateway FOLDER FILE`: a bridge whose gateway has a file, which is also there at /plain.

Prints its port and the file's CID; ends when its standard input does.
"""

import sys
import threading
from pathlib import Path

from starlette.responses import StreamingResponse

from bridge.api.app import create_app
from bridge.api.server import port_of, run_server
from bridge.cli.logs import log_to_errors
from executor.content.importer import CHUNK_BYTES, import_file
from tests.api_kit import AUDIENCE
from tests.bridge_kit import Bridge


def main(folder, path):
    log_to_errors()
    folder.mkdir()
    bridge = Bridge(folder)
    store, roots = bridge.dispatcher.store, bridge.dispatcher.roots
    root = import_file(store, path, path.stat().st_size)
    roots.publish(root, "bench")
    app = create_app(bridge.dispatcher, bridge.engine, AUDIENCE, bridge.clock)

    @app.get("/plain")
    def plain():
        def pieces():
            with path.open("rb", buffering=0) as file:
                while piece := file.read(CHUNK_BYTES):
                    yield piece

        return StreamingResponse(pieces())

    server = run_server(app, "127.0.0.1", 0)
    serving = threading.Thread(target=server.run, daemon=True)
    serving.start()
    while not server.started:
        serving.join(0.01)
    print(port_of(server), root, flush=True)
    sys.stdin.read()
    server.should_exit = True
    serving.join()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
