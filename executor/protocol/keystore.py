"""Keystore files (Web3 Secret Storage, version 3): what is accepted of one, before any work is done on it. Pure.

Source: https://ethereum.org/developers/docs/data-structures-and-encoding/web3-secret-storage. Key derivation takes as
much memory and time as the file says: a bound on both comes first.
"""

from __future__ import annotations

import json
import re
from typing import Any

from executor.errors import InvalidInput

MAX_KEYSTORE_BYTES = 16 * 1024
MAX_SCRYPT_BYTES = 512 * 2**20  # of memory (128 * n * r); geth's and eth-account's own files take 256 MiB
MAX_SCRYPT_WORK = 2**30  # 128 * n * r * p
MAX_SCRYPT_FACTOR = 64  # of r and p, whose bytes are filled slowly; 8 and 1 are usual
MAX_PBKDF2_ROUNDS = 10_000_000
_HEX = re.compile(r"(?:0x)?((?:[0-9a-fA-F]{2})*)")


def parse_keystore(data: bytes, field: str) -> dict[str, Any]:
    """The fields that are needed to open a keystore, and no others. InvalidInput(field) that says what is wrong."""
    if len(data) > MAX_KEYSTORE_BYTES:
        raise InvalidInput(field, f"is larger than {MAX_KEYSTORE_BYTES} bytes; this is no keystore file")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise InvalidInput(field, "is not JSON; this is no keystore file") from exc
    found = _Fields(document, field)
    if found.value("version") != 3:
        raise InvalidInput(field, "is not a keystore of version 3")
    crypto = found.part("crypto", "Crypto")
    if crypto.value("cipher") != "aes-128-ctr":
        raise InvalidInput(field, "crypto.cipher must be aes-128-ctr")
    kdf = crypto.value("kdf")
    if kdf not in ("scrypt", "pbkdf2"):
        raise InvalidInput(field, "crypto.kdf must be scrypt or pbkdf2")
    parameters = crypto.part("kdfparams")
    address = found.value("address")
    return {
        "version": 3,
        "address": "" if address is None else found.hex("address", 20),
        "crypto": {
            "cipher": "aes-128-ctr",
            "cipherparams": {"iv": crypto.part("cipherparams").hex("iv", 16)},
            "ciphertext": crypto.hex("ciphertext", 32),
            "kdf": kdf,
            "kdfparams": _scrypt(parameters) if kdf == "scrypt" else _pbkdf2(parameters),
            "mac": crypto.hex("mac", 32),
        },
    }


class _Fields:
    """A JSON object of an untrusted file."""

    def __init__(self, value: object, field: str, path: str = "") -> None:
        if not isinstance(value, dict):
            raise InvalidInput(field, f"{path or 'it'} must be an object; this is no keystore file")
        self._fields: dict[str, Any] = value
        self.field = field
        self._path = path

    def value(self, *names: str) -> Any:
        """The first of these fields that is there, or None."""
        return next((self._fields[name] for name in names if name in self._fields), None)

    def part(self, *names: str) -> _Fields:
        """An object in it."""
        return _Fields(self.value(*names), self.field, self.named(names[0]))

    def number(self, name: str, smallest: int, largest: int) -> int:
        """A whole number in these bounds."""
        value = self.value(name)
        if type(value) is not int or not smallest <= value <= largest:
            raise InvalidInput(self.field, f"{self.named(name)} must be a number from {smallest} to {largest}")
        return value

    def hex(self, name: str, size: int | None = None) -> str:
        """Bytes in hexadecimal digits: exactly `size`, or 1 to 256."""
        value = self.value(name)
        match = _HEX.fullmatch(value) if isinstance(value, str) else None
        count = len(match[1]) // 2 if match else 0
        if match is None or not (count == size if size else 1 <= count <= 256):
            raise InvalidInput(
                self.field, f"{self.named(name)} must be {size or '1 to 256'} bytes in hexadecimal digits"
            )
        return match[1]

    def named(self, name: str) -> str:
        """The field's path."""
        return f"{self._path}.{name}" if self._path else name


def _scrypt(parameters: _Fields) -> dict[str, Any]:
    n = parameters.number("n", 2, 2**30)
    r, p = parameters.number("r", 1, MAX_SCRYPT_FACTOR), parameters.number("p", 1, MAX_SCRYPT_FACTOR)
    if n & (n - 1):
        raise InvalidInput(parameters.field, f"{parameters.named('n')} must be a power of two")
    if 128 * n * r > MAX_SCRYPT_BYTES or 128 * n * r * p > MAX_SCRYPT_WORK:
        asked = f"n {n}, r {r}, p {p} ask for {128 * n * r // 2**20} MiB of memory, {p} times"
        limit = f"{MAX_SCRYPT_BYTES // 2**20} MiB, and {MAX_SCRYPT_WORK // 2**20} MiB in all"
        raise InvalidInput(parameters.field, f"{asked}; the limit is {limit}. Make a new keystore from the key")
    return {"n": n, "r": r, "p": p, "dklen": parameters.number("dklen", 32, 32), "salt": parameters.hex("salt")}


def _pbkdf2(parameters: _Fields) -> dict[str, Any]:
    if parameters.value("prf") != "hmac-sha256":
        raise InvalidInput(parameters.field, f"{parameters.named('prf')} must be hmac-sha256")
    return {
        "c": parameters.number("c", 1, MAX_PBKDF2_ROUNDS),
        "prf": "hmac-sha256",
        "dklen": parameters.number("dklen", 32, 32),
        "salt": parameters.hex("salt"),
    }
