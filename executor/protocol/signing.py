"""Keys and EIP-712 signatures: attestations, key joining, node API calls. The executor's only importer of eth_account.

Sources: EIP-712 (typed data), EIP-2 (low s); the types stand in `contracts/interfaces/` and docs/spec.md.
"""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from eth_account import Account
from eth_account.messages import SignableMessage, encode_typed_data
from eth_account.signers.local import LocalAccount
from eth_keys.datatypes import Signature
from eth_keys.exceptions import BadSignature
from eth_typing import Hash32
from eth_utils.crypto import keccak
from eth_utils.exceptions import ValidationError

from executor.errors import InvalidInput
from executor.protocol.dsse import envelope_digest
from executor.protocol.keystore import MAX_KEYSTORE_BYTES, parse_keystore

_RECURSION_LIMIT = 1000  # Python's own
sys.setrecursionlimit(_RECURSION_LIMIT)  # py_ecc, which eth_account imports, takes 100000: beyond any thread's stack

MAX_PASSWORD = 1000  # characters
_PASSWORD = "INSULA_KEYSTORE_PASSWORD"
_PASSWORD_FILE = "INSULA_KEYSTORE_PASSWORD_FILE"
_FORMS = "give env:NAME, file:PATH or keystore:PATH"
_LOOKS_LIKE_A_KEY = re.compile(r"[0-9a-fA-F]{64}")

Field = dict[str, str]

_DOMAIN_TYPE: list[Field] = [
    {"name": "name", "type": "string"},
    {"name": "version", "type": "string"},
    {"name": "chainId", "type": "uint256"},
    {"name": "verifyingContract", "type": "address"},
]
_ATTESTATION_TYPE: list[Field] = [
    {"name": "requestHash", "type": "bytes32"},
    {"name": "outcomeHash", "type": "bytes32"},
    {"name": "receiptHash", "type": "bytes32"},
    {"name": "logRoot", "type": "bytes32"},
    {"name": "logSize", "type": "uint64"},
    {"name": "relayer", "type": "address"},
]
_NODE_KEY_TYPE: list[Field] = [
    {"name": "operator", "type": "address"},
    {"name": "nodeId", "type": "uint256"},
    {"name": "nonce", "type": "uint256"},
]
_API_CALL_TYPE: list[Field] = [
    {"name": "method", "type": "string"},
    {"name": "path", "type": "string"},
    {"name": "bodyHash", "type": "bytes32"},
    {"name": "audience", "type": "string"},
    {"name": "time", "type": "uint64"},
    {"name": "nonce", "type": "bytes32"},
]


@dataclass(frozen=True)
class Scope:
    """The chain and the contract that a signature is for."""

    chain_id: int
    contract: str


class Key:
    """A secp256k1 key that signs typed data. Its secret is never printed."""

    def __init__(self, account: LocalAccount) -> None:
        self._account = account
        self.address: str = account.address

    def __repr__(self) -> str:
        return f"Key({self.address})"

    @classmethod
    def from_hex(cls, secret: str, field: str = "key") -> Self:
        """The key of 64 hexadecimal digits, 0x or not. InvalidInput(field) that never repeats the secret."""
        digits = secret.strip().removeprefix("0x")
        if not re.fullmatch(r"[0-9a-fA-F]{64}", digits):
            raise InvalidInput(field, "is not a private key: 64 hexadecimal digits are expected")
        try:
            return cls(Account.from_key(digits))
        except (ValueError, ValidationError) as exc:
            raise InvalidInput(field, "is not a private key of secp256k1") from exc

    @classmethod
    def load(cls, reference: str) -> Self:
        """The key behind `env:NAME`, `file:PATH` or `keystore:PATH`. A file that others can read is refused.

        A keystore's password comes from INSULA_KEYSTORE_PASSWORD, or the file that INSULA_KEYSTORE_PASSWORD_FILE names.
        """
        kind, _, name = reference.partition(":")
        if _LOOKS_LIKE_A_KEY.search(name):
            raise InvalidInput("key", f"{_FORMS}, never the key itself")
        if kind == "env":
            secret = os.environ.get(name)
            if secret is None:
                raise InvalidInput("key", f"the environment variable {name} is not set")
            return cls.from_hex(secret, reference)
        if kind == "file":
            return cls.from_hex(_text(_read_secret(_path(name, reference), reference, 200), reference), reference)
        if kind == "keystore":
            return cls._from_keystore(_path(name, reference), reference)
        raise InvalidInput("key", f"{_FORMS}, never the key itself")

    @classmethod
    def create(cls, path: Path) -> Self:
        """A new random key, stored in `path` (mode 0600). FileExistsError if the file is there."""
        account = Account.create()
        _write_secret(path, f"0x{bytes(account.key).hex()}\n")
        return cls(account)

    @classmethod
    def random(cls) -> Self:
        """A new key that is stored nowhere."""
        return cls(Account.create())

    def store(self, path: Path) -> None:
        """Write the key as a keystore of version 3 (scrypt, 256 MiB; mode 0600). Never over a file that is there.

        InvalidInput: there is a file, or no password is set (see `load`).
        """
        field = f"keystore:{path}"
        if path.exists():
            raise InvalidInput(field, "exists already, and is never overwritten; give another path")
        password = _keystore_password(field)
        document = Account.encrypt(self._account.key, password, kdf="scrypt")
        try:
            _write_secret(path, json.dumps(document, indent=2) + "\n")
        except FileExistsError as exc:
            raise InvalidInput(field, "exists already, and is never overwritten; give another path") from exc
        except OSError as exc:
            raise InvalidInput(field, f"cannot be written ({exc.strerror})") from exc

    @classmethod
    def _from_keystore(cls, path: Path, field: str) -> Self:
        document = parse_keystore(_read_secret(path, field, MAX_KEYSTORE_BYTES + 1), field)
        password = _keystore_password(field)
        try:
            secret = bytes(Account.decrypt(document, password))
        except ValueError:
            secret = b""
        if not secret:  # outside the handler: the error below has no cause whose frames hold the password
            raise InvalidInput(field, "does not open with this password, or is damaged")
        key = cls.from_hex(secret.hex(), field)
        if document["address"] and key.address.lower() != f"0x{document['address'].lower()}":
            raise InvalidInput(field, f"holds the key of {key.address}, but says {document['address']}; it was changed")
        return key

    def sign(self, message: SignableMessage) -> bytes:
        """65 bytes r || s || v with low s and v 27 or 28."""
        return bytes(self._account.sign_message(message).signature)

    def sign_digest(self, digest: bytes) -> bytes:
        """Likewise over 32 bytes that are a hash already (a DSSE envelope, a checkpoint), with no prefix."""
        return bytes(self._account.unsafe_sign_hash(Hash32(digest)).signature)


def _keystore_password(field: str) -> str:
    """The password for keystores, from the environment alone: a command line is seen by everybody."""
    password, file = os.environ.get(_PASSWORD), os.environ.get(_PASSWORD_FILE)
    if password is not None and file is not None:
        raise InvalidInput(field, f"{_PASSWORD} and {_PASSWORD_FILE} are both set; set one of them")
    if file is not None:
        path = _path(file, _PASSWORD_FILE)
        password = _text(_read_secret(path, _PASSWORD_FILE, MAX_PASSWORD + 2), _PASSWORD_FILE)
        password = password.removesuffix("\n").removesuffix("\r")
    if not password:
        raise InvalidInput(field, f"needs a password: set {_PASSWORD_FILE} (a file of mode 0600) or {_PASSWORD}")
    if len(password) > MAX_PASSWORD:
        raise InvalidInput(field, f"the password is longer than {MAX_PASSWORD} characters")
    return password


def _path(name: str, field: str) -> Path:
    if "\0" in name:
        raise InvalidInput(field, "is no path: it has a NUL in it")
    try:
        return Path(name).expanduser()
    except RuntimeError as exc:
        raise InvalidInput(field, "there is no user of this name, whose home folder ~ would be") from exc


def _read_secret(path: Path, field: str, limit: int) -> bytes:
    """At most `limit` bytes of a regular file that nobody else can read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe must not keep us waiting
    except OSError as exc:
        raise InvalidInput(field, f"{path} cannot be read ({exc.strerror})") from exc
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise InvalidInput(field, f"{path} is not a file")
        if mode & 0o077:
            raise InvalidInput(field, f"others can read {path}; run: chmod 600 {path}")
        return os.read(descriptor, limit)
    finally:
        os.close(descriptor)


def _text(data: bytes, field: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        pass
    raise InvalidInput(field, "is not text")  # outside the handler: a decoding error holds the bytes


def _write_secret(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def attestation_message(
    scope: Scope,
    *,
    request_hash: bytes,
    outcome_hash: bytes,
    receipt_hash: bytes,
    log_root: bytes,
    log_size: int,
    relayer: str,
) -> SignableMessage:
    """What a node signs for an outcome: domain {Insula, 1, chainId, ComputeBridge}. Hashes are 32 bytes."""
    value = {
        "requestHash": request_hash,
        "outcomeHash": outcome_hash,
        "receiptHash": receipt_hash,
        "logRoot": log_root,
        "logSize": log_size,
        "relayer": relayer,
    }
    return _message("Insula", scope, "Attestation", _ATTESTATION_TYPE, value)


def node_key_message(scope: Scope, *, operator: str, node_id: int, nonce: int) -> SignableMessage:
    """What a key signs to join a node: domain {InsulaNodeRegistry, 1, chainId, NodeRegistry}."""
    value = {"operator": operator, "nodeId": node_id, "nonce": nonce}
    return _message("InsulaNodeRegistry", scope, "NodeKey", _NODE_KEY_TYPE, value)


def api_call_message(
    scope: Scope,
    *,
    method: str,
    path: str,
    body_hash: bytes,
    audience: str,
    time: int,
    nonce: bytes,
    api: str = "InsulaNodeApi",
) -> SignableMessage:
    """What a node or an uploader signs for one HTTP call: domain {api, 1, chainId, ComputeBridge}.

    `path` with its query, `body_hash` SHA-256 of the body, `audience` the bridge's URL, `time` seconds since 1970.
    `api`: whose calls, so that none for a bridge is good for a node, nor the other way round.
    """
    value = {
        "method": method,
        "path": path,
        "bodyHash": body_hash,
        "audience": audience,
        "time": time,
        "nonce": nonce,
    }
    return _message(api, scope, "ApiCall", _API_CALL_TYPE, value)


def struct_message(name: str, scope: Scope, struct_hash: bytes) -> SignableMessage:
    """The message of a struct of which only `hashStruct` is known: domain {name, 1, chainId, contract}."""
    domain = b"".join(
        (
            keccak(text="EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
            keccak(text=name),
            keccak(text="1"),
            scope.chain_id.to_bytes(32, "big"),
            bytes.fromhex(scope.contract[2:]).rjust(32, b"\0"),
        )
    )
    return SignableMessage(version=b"\x01", header=keccak(domain), body=struct_hash)


def recover(message: SignableMessage, signature: bytes) -> str:
    """The address that signed. InvalidInput("signature") for anything but 65 bytes with low s that recover to a key."""
    _check_form(signature)
    try:
        return str(Account.recover_message(message, signature=signature))
    except (BadSignature, ValidationError, ValueError) as exc:
        raise InvalidInput("signature", "recovers to no key") from exc


def recover_digest(digest: bytes, signature: bytes) -> str:
    """The address that signed these 32 bytes by `Key.sign_digest`. InvalidInput("signature") as `recover`."""
    _check_form(signature)
    try:
        made = Signature(signature[:64] + bytes([signature[64] - 27]))
        return str(made.recover_public_key_from_msg_hash(digest).to_checksum_address())
    except (BadSignature, ValidationError, ValueError) as exc:
        raise InvalidInput("signature", "recovers to no key") from exc


def is_enveloped(receipt: bytes, signature: bytes, key: str) -> bool:
    """Whether this is the key's signature over the receipt's DSSE envelope."""
    try:
        return recover_digest(envelope_digest(receipt), signature) == key
    except InvalidInput:
        return False


def _check_form(signature: bytes) -> None:
    if len(signature) != 65 or signature[64] not in (27, 28):
        raise InvalidInput("signature", "must be 65 bytes that end in 27 or 28")
    if int.from_bytes(signature[32:64], "big") > _HALF_ORDER:
        raise InvalidInput("signature", "has a high s (EIP-2); only the low form is accepted")


def digest(message: SignableMessage) -> bytes:
    """The 32 bytes that are signed: keccak256(0x19 0x01 || domainSeparator || hashStruct)."""
    return keccak(b"\x19" + message.version + message.header + message.body)


_HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0


def _message(name: str, scope: Scope, primary: str, fields: list[Field], value: Mapping[str, Any]) -> SignableMessage:
    return encode_typed_data(
        full_message={
            "domain": {
                "name": name,
                "version": "1",
                "chainId": scope.chain_id,
                "verifyingContract": scope.contract,
            },
            "types": {"EIP712Domain": _DOMAIN_TYPE, primary: fields},
            "primaryType": primary,
            "message": dict(value),
        }
    )
