// SPDX-License-Identifier: Apache-2.0
// solhint-disable avoid-low-level-calls
pragma solidity 0.8.28;

/// @title OneTransaction
/// @notice Makes several calls in one transaction, one after the other, and reverts with the first that does.
contract OneTransaction {
    function run(address[] calldata targets, bytes[] calldata data) external {
        for (uint256 i = 0; i < targets.length; ++i) {
            (bool success, bytes memory returned) = targets[i].call(data[i]);
            if (success) continue;
            // solhint-disable-next-line no-inline-assembly
            assembly ("memory-safe") {
                revert(add(returned, 0x20), mload(returned))
            }
        }
    }
}
