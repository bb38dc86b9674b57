"""A chain that misbehaves on purpose, for tests: `bridge.devnet.chaos` in front of a real node, over real HTTP.

with chaos(anvil_chain, **LOTUS, null_rounds=0.2, script=Script()) as client:
    client.head(); client.url; client.chaos.acts; client.chaos.epochs; client.chaos.script
"""

from contextlib import contextmanager

from bridge.chain.client import ChainClient
from bridge.devnet.chaos import Personality, Settings, serve

#: a Lotus of today with nothing wrong
LOTUS = {"dialect": "lotus-1.36", "deferred": True, "tipsets": True, "tags": True}


@contextmanager
def chaos(chain, seed=7, script=None, timeout=5.0, **settings):
    """A client of a `DevChain` that misbehaves; `client.chaos` and `client.url` belong to it."""
    personality = Personality(chain.client.transport.endpoint_uri, Settings(**settings), seed, script)
    with serve(personality) as url, ChainClient(url, timeout) as client:
        client.chaos, client.url = personality, url
        yield client
