"""60 MB from one peer to another, verified: against plain HTTP, and against two of Kubo's daemons."""

import contextlib
import os
import shutil
import subprocess
import sys
import time

import httpx

from executor.content.blockstore import BlockStore
from executor.content.patience import Patience
from executor.content.retrieval import Retriever
from executor.content.sources import gateway_source
from executor.protocol.cid import Cid
from tests import kubo_daemon
from tests.bench.chains import folder_of
from tests.bench.runs import Prepared, Unavailable
from tests.chain_nodes import wait_for

BYTES = 60 * 10**6


@contextlib.contextmanager
def gateway(folder, path):
    """A bridge with a file, in a process of its own: its URL, the file's CID and the process's number."""
    command = [sys.executable, "-m", "tests.bench.gateway", str(folder), str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        port, root = process.stdout.readline().split()
        yield f"http://127.0.0.1:{port}", Cid.parse(root), process.pid
        process.stdin.close()


def _ours(stack, folder, path):
    """Our side: a new store each time, an open connection. Also the URL."""
    url, root, _ = stack.enter_context(gateway(folder / "bridge", path))
    place = folder / "store"

    def new_store():
        shutil.rmtree(place, ignore_errors=True)
        return BlockStore(place)

    def fetch(store):
        with Retriever([gateway_source(url)], store) as retriever:
            retriever.fetch(root, max_bytes=2 * BYTES, patience=Patience(time.time() + 300))

    return Prepared(new_store, fetch), url


def _noise(folder):
    path = folder / "noise"
    path.write_bytes(os.urandom(BYTES))
    return path


def against_plain_http(stack):
    """The same file from the same server, in pieces of the same size, by the same client, into a file, synced."""
    folder = folder_of(stack)
    ours, url = _ours(stack, folder, _noise(folder))
    target = folder / "plain"

    def plain(_):
        with (
            # there is no TLS, whose authorities take long to read
            httpx.Client(trust_env=False, verify=False) as client,
            client.stream("GET", f"{url}/plain") as response,
            target.open("wb", buffering=0) as file,
        ):
            for piece in response.iter_raw():
                file.write(piece)
            os.fsync(file.fileno())
            assert file.tell() == BYTES

    return ours, Prepared(lambda: target.unlink(missing_ok=True), plain)


def against_kubo(stack):
    """What one daemon has added, pinned by another that is its peer; each time something new, of the same size."""
    program = kubo_daemon.build()
    if program is None:
        raise Unavailable(kubo_daemon.HOW_TO)
    folder = folder_of(stack)
    ours, _ = _ours(stack, folder, _noise(folder))
    first, second = (kubo_daemon.start(program, folder / name) for name in ("first", "second"))
    for daemon in (first, second):
        stack.callback(daemon.stop)
    client = stack.enter_context(httpx.Client(trust_env=False, timeout=300))

    def call(daemon, path, **options):
        response = client.post(f"{daemon.api}/api/v0/{path}", **options)
        response.raise_for_status()
        return response

    address = next(item for item in call(first, "id").json()["Addresses"] if "/tcp/" in item)
    call(second, "swarm/connect", params={"arg": address})
    wait_for(lambda: call(second, "swarm/peers").json()["Peers"], 20, "they are peers")

    def added():
        return first.run("add", "-Q", "--pin=false", str(_noise(folder)))

    return ours, Prepared(added, lambda cid: call(second, "pin/add", params={"arg": cid}))
