"""A canary in front of a real bridge's API on loopback, whose loops and chain are not there."""

import hashlib
import secrets
import threading
import time
from contextlib import contextmanager

from bridge.api.app import create_app
from bridge.api.server import run_server
from bridge.canary.contents import ContentProbe, Place, places_of
from bridge.canary.judgement import Limits
from bridge.canary.rounds import Canary
from bridge.canary.sweeping import Sweeper
from bridge.canary.traces import Traces
from bridge.chain.signer import TxSigner
from bridge.config import ContentConfig
from bridge.store.content import account_bytes
from bridge.store.engine import reading
from executor.content.retrieval import Pace
from executor.protocol.nodeauth import Audience
from tests.bridge_kit import SCOPE, Bridge, key_of
from tests.chain_nodes import free_port, wait_for
from tests.faulty_sources import patient_source

QUOTA = 2**26
PATIENT = Limits(first_seconds=60.0, stall_seconds=60.0, bytes_per_second=1.0)
PACE = Pace(hedge=0.1, progress=0.8)
"""For sources that fail: they are dropped soon."""
UPLOADER = key_of("canary")


def key_file(folder, name="canary"):
    """A key reference of `key_of(name)`."""
    path = folder / f"{name}.key"
    path.write_text(hashlib.sha256(name.encode()).hexdigest())
    path.chmod(0o600)
    return f"file:{path}"


class RealTime:
    """As the kit's clock, and nobody sets it."""

    @property
    def now(self):
        return time.time()

    def __call__(self):
        return time.time()


class Served:
    """A bridge whose API answers at `url`, where calls to it are signed for."""

    def __init__(self, bridge, url):
        self.bridge, self.url = bridge, url

    def account_bytes(self, key=UPLOADER):
        """What the uploads of an account count."""
        with reading(self.bridge.engine) as connection:
            return account_bytes(connection, key.address)

    def roots(self):
        """The labels of what is kept."""
        return [root.label for root in self.bridge.dispatcher.roots.live(time.time())]


@contextmanager
def serving(folder, quota=QUOTA, accounts=(UPLOADER.address,), port=None):
    """The API in a thread of this process, with the real time."""
    folder.mkdir(exist_ok=True)
    content = ContentConfig(upload_quota_bytes=quota, upload_accounts=accounts)
    url = f"http://127.0.0.1:{port or free_port()}"
    bridge = Bridge(folder, content=content, public_url=url)
    bridge.clock = RealTime()
    bridge.restarted()
    app = create_app(bridge.dispatcher, bridge.engine, Audience(SCOPE, url), time.time)
    server = run_server(app, "127.0.0.1", int(url.rpartition(":")[2]))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_for(lambda: server.started, 10, "the API")
        yield Served(bridge, url)
    finally:
        server.should_exit = True
        thread.join(10)
        bridge.close()


def pieces_of(data):
    """A `fresh` that gives these bytes, piece by piece, again and again."""
    at = 0

    def fresh(size):
        nonlocal at
        piece, at = data[at : at + size], (at + size) % len(data)
        return piece

    return fresh


@contextmanager
def canary_at(url, folder, *, gateways=(), kubos=(), sizes=(1024,), fresh=secrets.token_bytes, **options):
    """A canary with its traces below `folder`/home, whose gateways are left to the retriever's patience."""
    home = folder / "home" / "canary"
    account = TxSigner.load(key_file(folder))
    traces = Traces.open(home, secrets.token_hex(6))
    places = [
        *places_of(url, [], kubos),
        *(Place(f"gateway {gateway}", patient_source(gateway)) for gateway in gateways),
    ]
    try:
        yield Canary(
            bridge=url,
            sweeper=Sweeper(url, account, kubos),
            home=home,
            traces=traces,
            sizes=sizes,
            content=ContentProbe(
                places,
                traces,
                pace=options.pop("pace", Pace()),
                seconds=options.pop("seconds", 15.0),
                fresh=fresh,
                pause=lambda wanted: time.sleep(min(wanted, 0.01)),
            ),
            job=None,
            **{"rounds": 0, "limits": PATIENT, **options},
        )
    finally:
        traces.close()
