// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {IComputeBridge} from "../interfaces/IComputeBridge.sol";

/// @title WireRules
/// @notice What an order and an outcome may look like. Pure but for the block's gas limit; errors name the field.
library WireRules {
    uint8 internal constant SUCCEEDED = 1;
    uint8 internal constant FAILED = 2;
    uint8 internal constant REFUSED = 3;
    uint8 internal constant WITHHELD = 4;

    uint256 internal constant MAX_SPEC_BYTES = 16_384;
    uint256 internal constant MAX_NODES = 16;
    uint256 internal constant MAX_LABELS = 8;
    uint256 internal constant MAX_CID_BYTES = 64;
    uint256 internal constant MAX_PAYLOAD_BYTES = 8_192;

    uint8 private constant _VERSION = 1;
    uint8 private constant _LAST_DIALECT = 4;
    uint8 private constant _LAST_RESULT_KIND = 3;

    /// @notice Reverts with ComputeBridgeInvalidOrder unless the order could be run, settled and paid.
    function checkOrder(IComputeBridge.Order calldata order, uint256 minTtl, uint256 maxTtl) internal view {
        if (order.version != _VERSION) _refuse("version");
        if (order.dialect == 0 || order.dialect > _LAST_DIALECT) _refuse("dialect");
        if (order.spec.length == 0 || order.spec.length > MAX_SPEC_BYTES) _refuse("spec");
        if (order.resultKind > _LAST_RESULT_KIND) _refuse("resultKind");
        if (order.nodes == 0 || order.nodes > MAX_NODES) _refuse("nodes");
        if (order.quorum > order.nodes || 2 * uint256(order.quorum) <= order.nodes) _refuse("quorum");
        if (order.ttl < minTtl || order.ttl > maxTtl) _refuse("ttl");
        // Gas that no transaction can bring would keep the nodes that did the work from being paid.
        if ((order.callback == address(0)) != (order.callbackGas == 0) || order.callbackGas > block.gaslimit / 2) {
            _refuse("callbackGas");
        }
        _checkLabels(order.labels);
        if (order.failPrice > order.unitPrice) _refuse("failPrice");
    }

    /// @notice The field of an outcome that does not fit its status or the order's result kind; empty when all do.
    function outcomeFault(IComputeBridge.Outcome calldata outcome, uint8 resultKind)
        internal
        pure
        returns (string memory field)
    {
        uint8 status = outcome.status;
        if (status < SUCCEEDED || status > WITHHELD) return "status";
        bool released = status == SUCCEEDED || status == FAILED;
        if (status == REFUSED && outcome.exitCode != 0) return "exitCode";
        uint256 cidLength = outcome.outputCid.length;
        if (cidLength > MAX_CID_BYTES || (!released && cidLength != 0)) return "outputCid";
        if (status == SUCCEEDED && resultKind == 0 && cidLength == 0) return "outputCid";
        uint256 payloadLength = outcome.payload.length;
        bool mayCarry = released && resultKind != 0;
        if (payloadLength > MAX_PAYLOAD_BYTES || (!mayCarry && payloadLength != 0)) return "payload";
    }

    /// @notice What the requester pays: nodes * unitPrice + deliveryFee. Cannot overflow: 16 * 2^128 + 2^128 < 2^256.
    function price(IComputeBridge.Order calldata order) internal pure returns (uint256) {
        return uint256(order.nodes) * order.unitPrice + order.deliveryFee;
    }

    /// @notice keccak256(abi.encode(order)) of an order that lies in the calldata as Solidity itself encodes it, at a tenth
    ///         of the gas. Any other layout gives another hash, so compare only with a hash that abi.encode gave: where
    ///         the two are equal, so is every byte.
    function encodedHash(IComputeBridge.Order calldata order) internal pure returns (bytes32 hash) {
        // 16 fields, the lengths of spec and labels, and what they hold in whole words
        uint256 size = 32 * (18 + (order.spec.length + 31) / 32 + order.labels.length);
        // solhint-disable-next-line no-inline-assembly
        assembly ("memory-safe") {
            let scratch := mload(0x40)
            mstore(scratch, 0x20)
            calldatacopy(add(scratch, 0x20), order, size)
            hash := keccak256(scratch, add(size, 0x20))
        }
    }

    function _checkLabels(bytes32[] calldata labels) private pure {
        if (labels.length > MAX_LABELS) _refuse("labels");
        for (uint256 i = 1; i < labels.length; ++i) {
            if (labels[i] <= labels[i - 1]) _refuse("labels");
        }
    }

    function _refuse(string memory field) private pure {
        revert IComputeBridge.ComputeBridgeInvalidOrder(field);
    }
}
