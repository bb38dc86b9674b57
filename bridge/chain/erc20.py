"""The three calls of an ERC-20 that a requester needs: what may be taken, letting it be taken, what there is."""

from __future__ import annotations

from eth_abi import abi
from eth_abi.exceptions import DecodingError
from eth_utils.crypto import keccak

from bridge.chain.client import ChainClient
from bridge.chain.rpc_errors import revert_data
from bridge.errors import RpcRefused
from executor.errors import InvalidInput

_APPROVE = keccak(text="approve(address,uint256)")[:4]
_ALLOWANCE = keccak(text="allowance(address,address)")[:4]
_BALANCE_OF = keccak(text="balanceOf(address)")[:4]


def approve_calldata(spender: str, amount: int) -> bytes:
    """`approve(spender, amount)`."""
    return _APPROVE + abi.encode(["address", "uint256"], [spender, amount])


def allowance(client: ChainClient, token: str, owner: str, spender: str) -> int:
    """What `spender` may take of `owner`'s. InvalidInput("--token") where the answer is none of a token."""
    return _number(client, token, _ALLOWANCE + abi.encode(["address", "address"], [owner, spender]))


def balance_of(client: ChainClient, token: str, owner: str) -> int:
    """What `owner` has. InvalidInput("--token") where the answer is none of a token."""
    return _number(client, token, _BALANCE_OF + abi.encode(["address"], [owner]))


def _number(client: ChainClient, token: str, data: bytes) -> int:
    try:
        (value,) = abi.decode(["uint256"], client.call(token, data))
    except (DecodingError, RpcRefused) as exc:
        if isinstance(exc, RpcRefused) and revert_data(exc) is None:
            raise
        raise InvalidInput("--token", f"{token} does not answer as an ERC-20") from exc
    return int(value)
