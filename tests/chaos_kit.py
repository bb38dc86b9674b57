"""A chain that misbehaves on purpose, for tests: `bridge.devnet.chaos` in front of a real node, over real HTTP.

with chaos(anvil_chain, **LOTUS, null_rounds=0.2, script=Script()) as client:
    client.head(); client.url; client.chaos.acts; client.chaos.epochs; client.chaos.script
"""

from contextlib import contextmanager

import pytest
import requests

from bridge.chain.client import ChainClient
from bridge.chain.contracts import request_job_calldata
from bridge.chain.signer import Transaction
from bridge.devnet.chaos import Personality, Settings, serve
from bridge.errors import RpcRefused
from executor.protocol.wire import Order
from tests.chain_nodes import CHAIN_ID, funded

ORDER = Order(spec=b'{"version":"insula/v1"}', ttl=3600, unit_price=1000, delivery_fee=7)
#: a Lotus of today with nothing wrong
LOTUS = {"dialect": "lotus-1.36", "deferred": True, "tipsets": True, "tags": True}


@contextmanager
def chaos(chain, seed=7, script=None, timeout=5.0, **settings):
    """A client of a `DevChain` that misbehaves; `client.chaos` and `client.url` belong to it."""
    personality = Personality(chain.client.transport.endpoint_uri, Settings(**settings), seed, script)
    with serve(personality) as url, ChainClient(url, timeout) as client:
        client.chaos, client.url = personality, url
        yield client


def transaction(chain, signer, nonce, tip=10**9, max_fee=10**11, data=None, value=0):
    """A signed transaction: an order with `data`, else to oneself."""
    fields = Transaction(
        chain_id=CHAIN_ID,
        nonce=nonce,
        to=chain.deployment.bridge if data else signer.address,
        data=data or b"",
        gas=2_000_000,
        max_fee=max_fee,
        tip=tip,
        value=value,
    )
    return signer.sign_transaction(fields)


def order_tx(chain, index=1, **fees):
    """An order by a funded account, under its next nonce."""
    signer = funded(index)
    nonce = chain.client.nonce(signer.address, "pending")
    return transaction(chain, signer, nonce, data=request_job_calldata(ORDER), value=ORDER.price, **fees)


def ordered(chain):
    """An order in a block of its own, the block under it; their real receipts."""
    signed = order_tx(chain)
    chain.client.send_raw(signed.raw)
    chain.mine()
    return chain.mined(signed)


def kinds(client):
    """The kinds of what it did, in order."""
    return [act.kind for act in client.chaos.acts]


def refused(call, code, text):
    """The call is refused with this code, and this text in its message."""
    with pytest.raises(RpcRefused) as caught:
        call()
    assert (caught.value.code, text in caught.value.message) == (code, True), caught.value.message


def post(client, method, *params, timeout=10, **options):
    """One call over plain HTTP; the raw answer."""
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return requests.post(client.url, json=body, timeout=timeout, **options)
