// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

/// @title CallRecorder
/// @notice Keeps what it was called with.
contract CallRecorder {
    bytes private _data;

    // solhint-disable-next-line payable-fallback, no-complex-fallback
    fallback(bytes calldata given) external returns (bytes memory) {
        if (bytes4(given) == this.data.selector) return abi.encode(_data);
        _data = given;
        return abi.encode(keccak256("seen"));
    }

    function data() external view returns (bytes memory) {
        return _data;
    }
}
