// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title BoundedCall
/// @notice A call whose return data cannot be used to burn the caller's gas.
library BoundedCall {
    /// @notice Calls `target` with `gasLimit` gas (at most: EIP-150 keeps a 64th back), and copies at most `maxReturn`
    ///         bytes of what it returns or reverts with.
    function tryCall(address target, uint256 gasLimit, uint256 value, bytes memory data, uint256 maxReturn)
        internal
        returns (bool success, bytes memory returned)
    {
        // solhint-disable-next-line no-inline-assembly
        assembly ("memory-safe") {
            success := call(gasLimit, target, value, add(data, 0x20), mload(data), 0x00, 0x00)
            let size := returndatasize()
            if gt(size, maxReturn) { size := maxReturn }
            returned := mload(0x40)
            mstore(returned, size)
            returndatacopy(add(returned, 0x20), 0x00, size)
            // The free memory pointer stays aligned to words.
            mstore(0x40, add(returned, and(add(size, 0x3f), not(0x1f))))
        }
    }

    /// @notice As `tryCall` without value, of the function `selector` with `arguments`, which are not copied.
    function tryCallFunction(
        address target,
        uint256 gasLimit,
        bytes4 selector,
        bytes memory arguments,
        uint256 maxReturn
    ) internal returns (bool success, bytes memory returned) {
        // solhint-disable-next-line no-inline-assembly
        assembly ("memory-safe") {
            // The selector goes into the last bytes of the length's word, for the time of the call.
            let length := mload(arguments)
            mstore(arguments, shr(224, selector))
            success := call(gasLimit, target, 0, add(arguments, 0x1c), add(length, 0x04), 0x00, 0x00)
            mstore(arguments, length)
            let size := returndatasize()
            if gt(size, maxReturn) { size := maxReturn }
            returned := mload(0x40)
            mstore(returned, size)
            returndatacopy(add(returned, 0x20), 0x00, size)
            mstore(0x40, add(returned, and(add(size, 0x3f), not(0x1f))))
        }
    }

    /// @notice Reverts with these bytes.
    function revertWith(bytes memory data) internal pure {
        // solhint-disable-next-line no-inline-assembly
        assembly ("memory-safe") {
            revert(add(data, 0x20), mload(data))
        }
    }
    /// @notice Where the next allocation in memory goes.
    function freeMemory() internal pure returns (uint256 pointer) {
        // solhint-disable-next-line no-inline-assembly
        assembly ("memory-safe") {
            pointer := mload(0x40)
        }
    }

    /// @notice Gives back what was allocated since `freeMemory`; nothing of it may be used again.
    function releaseMemory(uint256 pointer) internal pure {
        // solhint-disable-next-line no-inline-assembly
        assembly ("memory-safe") {
            mstore(0x40, pointer)
        }
    }
}
