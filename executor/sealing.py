"""Bytes that may lie on a disk, but not be read there: AES-256 in GCM (NIST SP 800-38D)."""

from __future__ import annotations

import hmac
import secrets
from typing import Final

from Crypto.Cipher import AES

from executor.errors import ContentError

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
OVERHEAD_BYTES: Final = NONCE_BYTES + TAG_BYTES


class SealBroken(ContentError):
    """What was sealed does not open: it was changed on the disk, or sealed with another key or as something else."""


def derive(key: bytes, purpose: str) -> bytes:
    """A key of 32 bytes for one purpose: HMAC-SHA256. None of these keys tells anything of another, or of `key`."""
    return hmac.digest(key, b"insula " + purpose.encode(), "sha256")


def seal(key: bytes, plain: bytes, about: bytes) -> bytes:
    """`plain`, to be opened only with the same key and the same `about`: a random nonce, the ciphertext, the tag.

    key: 32 bytes, for at most 2**32 seals, after which two random nonces might be alike.
    """
    nonce = secrets.token_bytes(NONCE_BYTES)
    cipher = AES.new(key, AES.MODE_GCM, nonce=nonce, mac_len=TAG_BYTES)
    cipher.update(about)
    ciphertext, tag = cipher.encrypt_and_digest(plain)
    return nonce + ciphertext + tag


def unseal(key: bytes, sealed: bytes, about: bytes) -> bytes:
    """What was sealed. SealBroken."""
    if len(sealed) < OVERHEAD_BYTES:
        raise SealBroken("what was sealed is cut off")
    cipher = AES.new(key, AES.MODE_GCM, nonce=sealed[:NONCE_BYTES], mac_len=TAG_BYTES)
    cipher.update(about)
    try:
        return bytes(cipher.decrypt_and_verify(sealed[NONCE_BYTES:-TAG_BYTES], sealed[-TAG_BYTES:]))
    except ValueError as exc:
        raise SealBroken("what was sealed was changed, or its key is another one") from exc
