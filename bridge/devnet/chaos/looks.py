"""How a block, a log, a receipt of a local node looks from outside: tipset hashes, epochs for numbers. Pure.

A block hash on Filecoin is the digest of a tipset key and cannot be computed from the header. Here it is the node's
hash under a mask that the seed gives: no memory is needed, and the same mask again takes it off.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from bridge.devnet.chaos.epochs import EpochMap

ZERO_HASH = "0x" + "00" * 32
EMPTY_TRANSACTIONS = "0x56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421"
FULL_BLOOM = "0x" + "ff" * 256
BLOCK_GAS = 10_000_000_000  # for each of a tipset's blocks
_HASH_CHARACTERS = 66


def masked(seed: int, block_hash: str, branch: int = 0) -> str:
    """A block hash under the mask of a branch, or back from under it. What is no hash stays as it is."""
    if len(block_hash) != _HASH_CHARACTERS:
        return block_hash
    key = blake2b(f"{seed} block hash {branch}".encode(), digest_size=32).digest()
    try:
        return f"0x{int(block_hash, 16) ^ int.from_bytes(key):064x}"
    except ValueError:
        return block_hash


@dataclass(frozen=True)
class Look:
    """One node's view. `fork`: the last block number that it shares with the others; None: it is on their branch."""

    seed: int
    epochs: EpochMap
    tipsets: bool = False
    bloom_is_full: bool = False
    fork: int | None = None

    def hash_of(self, block_hash: str, number: int) -> str:
        """A node's hash of the block with this number, as it is seen here."""
        branch = 1 if self.fork is not None and number > self.fork else 0
        return masked(self.seed, block_hash, branch) if self.tipsets or branch else block_hash

    def candidates(self, block_hash: str) -> list[str]:
        """The node's own hashes that a hash from outside may stand for."""
        here = [masked(self.seed, block_hash) if self.tipsets else block_hash]
        return here if self.fork is None else [*here, masked(self.seed, block_hash, 1)]

    def outward(self, value: Any) -> Any:
        """A node's answer, with every block number and block hash in it as they are seen here."""
        if isinstance(value, list):
            return [self.outward(item) for item in value]
        if not isinstance(value, dict):
            return value
        fields = {name: self.outward(item) for name, item in value.items()}
        if isinstance(fields.get("parentHash"), str) and isinstance(fields.get("number"), str):
            return self._block(fields)
        if isinstance(fields.get("oldestBlock"), str):
            return fields | {"oldestBlock": hex(self.epochs.epoch_of(int(fields["oldestBlock"], 16)))}
        if isinstance(fields.get("blockNumber"), str):
            fields = self._placed(fields)
        return self._receipt(fields) if self.tipsets and "cumulativeGasUsed" in fields else fields

    def _placed(self, fields: dict[str, Any]) -> dict[str, Any]:
        number = int(fields["blockNumber"], 16)
        fields = fields | {"blockNumber": hex(self.epochs.epoch_of(number))}
        if isinstance(fields.get("blockHash"), str):
            fields["blockHash"] = self.hash_of(fields["blockHash"], number)
        return fields

    def _block(self, fields: dict[str, Any]) -> dict[str, Any]:
        number = int(fields["number"], 16)
        fields = fields | {
            "number": hex(self.epochs.epoch_of(number)),
            "parentHash": self.hash_of(fields["parentHash"], number - 1),
        }
        if isinstance(fields.get("hash"), str):
            fields["hash"] = self.hash_of(fields["hash"], number)
        if not self.tipsets:
            return fields
        blocks = 1 + int(fields["hash"][-2:], 16) % 5 if isinstance(fields.get("hash"), str) else 1
        return fields | {
            "difficulty": "0x0",
            "extraData": "0x",
            "gasLimit": hex(BLOCK_GAS * blocks),
            "logsBloom": self._bloom(fields),
            "miner": "0x" + "00" * 20,
            "mixHash": ZERO_HASH,
            "nonce": "0x0000000000000000",
            "receiptsRoot": ZERO_HASH,
            "stateRoot": ZERO_HASH,
            "transactionsRoot": ZERO_HASH if fields.get("transactions") else EMPTY_TRANSACTIONS,
        }

    def _receipt(self, fields: dict[str, Any]) -> dict[str, Any]:
        return fields | {"cumulativeGasUsed": "0x0", "root": ZERO_HASH, "logsBloom": self._bloom(fields)}

    def _bloom(self, fields: dict[str, Any]) -> Any:
        return FULL_BLOOM if self.bloom_is_full else fields.get("logsBloom")
