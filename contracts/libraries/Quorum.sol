// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

import {IComputeBridge} from "../interfaces/IComputeBridge.sol";
import {INodeRegistry} from "../interfaces/INodeRegistry.sol";
import {AttestationHash} from "./AttestationHash.sol";

/// @title Quorum
/// @notice Who signed an outcome, and whether these may decide it. What is refused is given back as the error of
///         IComputeBridge that it is, ABI-encoded.
library Quorum {
    /// @notice A signer; its first three members are what INodeRegistry.attesterOf returned about its key.
    struct Signer {
        uint256 nodeId;
        address operator;
        bool isCarrier;
        address key;
    }

    /// @notice At least `quorum` and at most `nodes` attestations, each by the current key of an active node that carries
    ///         the order's labels, and no two of one operator.
    function verify(
        address registry,
        bytes32 domainSeparator,
        bytes32 hash,
        bytes32 outcomeHash,
        IComputeBridge.Order calldata order,
        IComputeBridge.Attestation[] calldata attestations
    ) internal view returns (bytes memory refused, Signer[] memory signers) {
        uint256 count = attestations.length;
        if (count < order.quorum) {
            return (refusal(IComputeBridge.ComputeBridgeTooFewAttestations.selector, count, order.quorum), signers);
        }
        if (count > order.nodes) {
            return (refusal(IComputeBridge.ComputeBridgeTooManyAttestations.selector, count, order.nodes), signers);
        }
        signers = new Signer[](count);
        bytes memory form = AttestationHash.form(domainSeparator, hash, outcomeHash);
        bytes memory question = abi.encodeCall(INodeRegistry.attesterOf, (address(0), order.curator, order.labels));
        uint256 seen;
        for (uint256 i = 0; i < count; ++i) {
            IComputeBridge.Attestation calldata a = attestations[i];
            Signer memory signer = signers[i];
            // Zero for a signature of another length, with a high s or a wrong v; no node has the key zero.
            (signer.key,,) = ECDSA.tryRecoverCalldata(AttestationHash.digest(form, a), a.signature);
            _ask(registry, question, signer);
            if (signer.nodeId == 0) {
                return (refusal(IComputeBridge.ComputeBridgeUnknownSigner.selector, i, uint160(signer.key)), signers);
            }
            uint256 operator = uint160(signer.operator);
            // Operators that differ in their last byte need not be compared.
            uint256 mark = 1 << (operator & 0xff);
            if (seen & mark != 0 && _isAmong(signers, i, signer.operator)) {
                return (refusal(IComputeBridge.ComputeBridgeDuplicateOperator.selector, i, operator), signers);
            }
            seen |= mark;
            if (!signer.isCarrier) {
                return (refusal(IComputeBridge.ComputeBridgeMissingLabels.selector, i, signer.nodeId), signers);
            }
        }
    }

    /// @notice An error of two words, as a revert carries it.
    function refusal(bytes4 selector, uint256 first, uint256 second) internal pure returns (bytes memory) {
        return abi.encodeWithSelector(selector, first, second);
    }

    /// @dev Asks the registry about `signer.key` and writes its three answers into `signer`. `question` is the encoded call
    ///      of attesterOf with any key: one encoding serves all signers.
    function _ask(address registry, bytes memory question, Signer memory signer) private view {
        // solhint-disable-next-line no-inline-assembly
        assembly ("memory-safe") {
            mstore(add(question, 0x24), mload(add(signer, 0x60)))
            let success := staticcall(gas(), registry, add(question, 0x20), mload(question), signer, 0x60)
            // The registry answers in three words or is out of gas.
            if iszero(and(success, eq(returndatasize(), 0x60))) { revert(0x00, 0x00) }
        }
    }

    function _isAmong(Signer[] memory signers, uint256 count, address operator) private pure returns (bool) {
        for (uint256 i = 0; i < count; ++i) {
            if (signers[i].operator == operator) return true;
        }
        return false;
    }
}
