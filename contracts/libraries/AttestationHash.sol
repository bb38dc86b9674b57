// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

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
}
