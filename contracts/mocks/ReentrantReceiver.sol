// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

/// @title ReentrantReceiver
/// @notice Takes native tokens, and calls somebody when it does.
contract ReentrantReceiver {
    address private _target;
    bytes private _data;
    bool public innerSuccess;
    bytes public innerReturned;

    receive() external payable {
        // solhint-disable-next-line avoid-low-level-calls
        if (_target != address(0)) (innerSuccess, innerReturned) = _target.call(_data);
    }

    /// @notice What to call when native tokens arrive.
    function setCall(address target_, bytes calldata data_) external {
        (_target, _data) = (target_, data_);
    }

    /// @notice Does anything as this contract.
    function act(address to, bytes calldata call_) external payable returns (bytes memory) {
        (bool success, bytes memory returned) = to.call{value: msg.value}(call_);
        // solhint-disable-next-line no-inline-assembly
        assembly ("memory-safe") {
            if iszero(success) { revert(add(returned, 0x20), mload(returned)) }
        }
        return returned;
    }
}
