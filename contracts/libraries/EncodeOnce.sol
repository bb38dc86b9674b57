// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {IComputeBridge} from "../interfaces/IComputeBridge.sol";

/// @title EncodeOnce
/// @notice One encoding of an order or an outcome, used for its hash, its event and its call alike. A "record" here is
///         abi.encode(w1, .., wn, s): n words, then a struct with dynamic members, whose encoding is the record's last.
library EncodeOnce {
    /// @notice The record (0, 0, outcome) of an outcome that lies in the calldata as Solidity itself encodes it. Any other
    ///         layout gives another hash, so compare only with a hash that somebody vouches for: where the two are
    ///         equal, so is every byte.
    function record(IComputeBridge.Outcome calldata outcome) internal pure returns (bytes memory encoded) {
        // 5 members, two lengths, and what they hold in whole words
        uint256 size = 32 * (7 + (outcome.outputCid.length + 31) / 32 + (outcome.payload.length + 31) / 32);
        // solhint-disable-next-line no-inline-assembly
        assembly ("memory-safe") {
            encoded := mload(0x40)
            mstore(encoded, add(size, 0x60))
            mstore(add(encoded, 0x60), 0x60)
            calldatacopy(add(encoded, 0x80), outcome, size)
            mstore(0x40, add(encoded, add(size, 0x80)))
        }
    }

    /// @notice keccak256(abi.encode(s)) of a record with `words` words before its struct. The record stays as it was.
    function structHash(bytes memory encoded, uint256 words) internal pure returns (bytes32 hash) {
        // solhint-disable-next-line no-inline-assembly
        assembly ("memory-safe") {
            // Where the struct begins, as seen from the record, and then as seen from this word.
            let offset := add(encoded, mul(0x20, add(words, 1)))
            let kept := mload(offset)
            mstore(offset, 0x20)
            hash := keccak256(offset, sub(mload(encoded), mul(0x20, words)))
            mstore(offset, kept)
        }
    }

    /// @notice Writes the first two words of a record.
    function setHead(bytes memory encoded, bytes32 first, bytes32 second) internal pure {
        // solhint-disable-next-line no-inline-assembly
        assembly ("memory-safe") {
            mstore(add(encoded, 0x20), first)
            mstore(add(encoded, 0x40), second)
        }
    }

    /// @notice Emits a record as the data of an event with three indexed parameters.
    function log(bytes memory encoded, bytes32 selector, bytes32 first, bytes32 second, bytes32 third) internal {
        // solhint-disable-next-line no-inline-assembly
        assembly ("memory-safe") {
            log4(add(encoded, 0x20), mload(encoded), selector, first, second, third)
        }
    }
}
