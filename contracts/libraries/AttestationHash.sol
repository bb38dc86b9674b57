// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {IComputeBridge} from "../interfaces/IComputeBridge.sol";

/// @title AttestationHash
/// @notice What a node signs, in the EIP-712 domain {Insula, 1, chainId, ComputeBridge}.
library AttestationHash {
    bytes32 internal constant TYPEHASH = keccak256(
        "Attestation(bytes32 requestHash,bytes32 outcomeHash,bytes32 receiptHash,bytes32 logRoot,uint64 logSize,address relayer)"
    );
    bytes32 private constant _DOMAIN_TYPEHASH =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 private constant _NAME_HASH = keccak256("Insula");
    bytes32 private constant _VERSION_HASH = keccak256("1");

    /// @notice The struct hash of one attestation.
    function structHash(
        bytes32 requestHash,
        bytes32 outcomeHash,
        bytes32 receiptHash,
        bytes32 logRoot,
        uint64 logSize,
        address relayer
    ) internal pure returns (bytes32) {
        return keccak256(abi.encode(TYPEHASH, requestHash, outcomeHash, receiptHash, logRoot, logSize, relayer));
    }

    /// @notice The domain separator of the ComputeBridge at `bridge` on this chain.
    function domainSeparator(address bridge) internal view returns (bytes32) {
        return keccak256(abi.encode(_DOMAIN_TYPEHASH, _NAME_HASH, _VERSION_HASH, block.chainid, bridge));
    }

    /// @notice What `digest` writes into: of one outcome of one request, for as many attestations as there are.
    function form(bytes32 separator, bytes32 requestHash, bytes32 outcomeHash) internal pure returns (bytes memory) {
        // The struct's seven words, then 0x1901, the separator and the place of the struct hash.
        return abi.encodePacked(
            TYPEHASH, requestHash, outcomeHash, uint256(0), uint256(0), uint256(0), uint256(0), hex"1901", separator, uint256(0)
        );
    }

    /// @notice The EIP-712 digest of an attestation. Its four words lie in the calldata as they are hashed; where the upper
    ///         bytes of one are not zero, nobody signed that.
    function digest(bytes memory filled, IComputeBridge.Attestation calldata attestation)
        internal
        pure
        returns (bytes32 hash)
    {
        // solhint-disable-next-line no-inline-assembly
        assembly ("memory-safe") {
            calldatacopy(add(filled, 0x80), attestation, 0x80)
            mstore(add(filled, 0x122), keccak256(add(filled, 0x20), 0xe0))
            hash := keccak256(add(filled, 0x100), 0x42)
        }
    }
}
