"""How a call to a bridge, or of a reviewer to a node, is signed and checked. Pure but for the key that signs.

Each call carries five headers: Insula-Key (address), Insula-Time (seconds since 1970), Insula-Nonce (32 bytes, 0x-hex),
Insula-Body (SHA-256 of the body, 0x-hex), Insula-Signature (65 bytes, 0x-hex) over
`executor.protocol.signing.api_call_message`. The server accepts a time within MAX_SKEW_SECONDS of its own and each
(key, nonce) once. Insula-Body lets it check the signature of an upload before it takes in the first byte.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from executor.errors import InvalidInput
from executor.protocol.signing import Key, Scope, api_call_message, recover
from executor.protocol.wire import checksum_address

MAX_SKEW_SECONDS = 60
KEY, TIME, NONCE, SIGNATURE = "Insula-Key", "Insula-Time", "Insula-Nonce", "Insula-Signature"
BODY = "Insula-Body"
NODE_API, REVIEW_API = "InsulaNodeApi", "InsulaReviewApi"


@dataclass(frozen=True)
class Audience:
    """Whom a call is for: a chain, its ComputeBridge and the bridge's URL without a slash at its end.

    `api`: the name of the EIP-712 domain. Of a node's review API `url` is `review_audience`'s.
    """

    scope: Scope
    url: str
    api: str = NODE_API


@dataclass(frozen=True)
class SignedCall:
    """A call whose signature is good; the server still has to store `nonce` and look `key` up."""

    key: str
    time: int
    nonce: bytes


def review_audience(scope: Scope, node: str, session: str) -> Audience:
    """A node, for its reviewers' calls. `session` is random and of one process of the node: nothing outlives it."""
    return Audience(scope, f"urn:insula:node:{node}#{session}", REVIEW_API)


def sign_call(
    key: Key, audience: Audience, *, method: str, path: str, body_hash: bytes, time: int, nonce: bytes
) -> dict[str, str]:
    """The headers for one call. `path` has its query, `body_hash` is the body's SHA-256, `nonce` 32 random bytes."""
    message = api_call_message(
        audience.scope,
        method=method,
        path=path,
        body_hash=body_hash,
        audience=audience.url,
        time=time,
        nonce=nonce,
        api=audience.api,
    )
    return {
        KEY: key.address,
        TIME: str(time),
        NONCE: f"0x{nonce.hex()}",
        BODY: f"0x{body_hash.hex()}",
        SIGNATURE: f"0x{key.sign(message).hex()}",
    }


def declared_body(headers: Mapping[str, str]) -> bytes:
    """The SHA-256 that the body will have, by the caller's word; whoever reads it has to check. InvalidInput."""
    return _hex(headers.get(BODY, ""), BODY, 32)


def check_call(
    headers: Mapping[str, str], audience: Audience, *, method: str, path: str, body_hash: bytes, now: float
) -> SignedCall:
    """The call that these headers sign. InvalidInput that names the header and what is wrong with it."""
    time = _decimal(headers.get(TIME, ""), TIME)
    if abs(now - time) > MAX_SKEW_SECONDS:
        raise InvalidInput(TIME, f"is {time - now:+.0f} s off the clock there; at most {MAX_SKEW_SECONDS} s are fine")
    key = checksum_address(headers.get(KEY), KEY)
    nonce = _hex(headers.get(NONCE, ""), NONCE, 32)
    signature = _hex(headers.get(SIGNATURE, ""), SIGNATURE, 65)
    message = api_call_message(
        audience.scope,
        method=method,
        path=path,
        body_hash=body_hash,
        audience=audience.url,
        time=time,
        nonce=nonce,
        api=audience.api,
    )
    signer = recover(message, signature)
    if signer != key:
        raise InvalidInput(
            SIGNATURE,
            f"is not {key}'s for this call: method, path, body, chain {audience.scope.chain_id}, "
            f"contract {audience.scope.contract} and audience {audience.url} must be the ones signed",
        )
    return SignedCall(key=key, time=time, nonce=nonce)


def _decimal(text: str, header: str) -> int:
    if not re.fullmatch(r"[0-9]{1,12}", text):
        raise InvalidInput(header, "is missing or not a number of seconds")
    return int(text)


def _hex(text: str, header: str, size: int) -> bytes:
    if not re.fullmatch(rf"0x[0-9a-fA-F]{{{2 * size}}}", text):
        raise InvalidInput(header, f"is missing or not {size} bytes in 0x-hex")
    return bytes.fromhex(text[2:])
