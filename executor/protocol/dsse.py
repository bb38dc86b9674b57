"""A receipt as a DSSE envelope: what is signed, and the envelope as other tools read it. Pure.

Sources: DSSE v1.0.0 (protocol.md, envelope.md); in-toto's envelope. A node signs with its secp256k1 key: ECDSA over the
SHA-256 of the PAE, RFC 6979, as r || s || v (65 bytes, low s, v 27 or 28). Who has the public key needs the first 64.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Any, Final

from executor.protocol.canonical import sha256

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"


def pae(payload_type: str, body: bytes) -> bytes:
    """The pre-authentication encoding: DSSEv1 SP LEN(type) SP type SP LEN(body) SP body."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(body), body)


def envelope_digest(receipt: bytes) -> bytes:
    """The 32 bytes that a node's key signs: SHA-256 of the PAE of a receipt's exact bytes."""
    return sha256(pae(PAYLOAD_TYPE, receipt))


def envelope(receipt: bytes, key: str, signature: bytes) -> dict[str, Any]:
    """The envelope as JSON. `keyid` is the address of the node's key, and as DSSE says no more than a hint."""
    return {
        "payload": b64encode(receipt).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"keyid": key, "sig": b64encode(signature).decode()}],
    }
