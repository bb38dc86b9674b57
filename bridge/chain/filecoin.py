"""Addresses as Filecoin's wallets and exchanges write them. Pure.

Source: FIP-0048 (f4 addresses); f410 is the namespace of the Ethereum Address Manager, actor id 10.
"""

from __future__ import annotations

import hashlib
from base64 import b32encode

EAM = 10
_DELEGATED = 4


def delegated_address(address: str, *, testnet: bool) -> str:
    """The f410 (on test networks t410) address of a 0x address: where to send funds from a Filecoin wallet."""
    payload = bytes.fromhex(address.removeprefix("0x"))
    checksum = hashlib.blake2b(bytes([_DELEGATED, EAM]) + payload, digest_size=4).digest()
    text = b32encode(payload + checksum).decode().lower().rstrip("=")
    return f"{'t' if testnet else 'f'}{_DELEGATED}{EAM}f{text}"
