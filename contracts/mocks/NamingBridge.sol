// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

/// @title NamingBridge
/// @notice Answers every call with the bytes that it was given: a contract that claims whatever it likes.
contract NamingBridge {
    bytes private _answer;

    constructor(bytes memory answer) {
        _answer = answer;
    }

    // solhint-disable-next-line payable-fallback, no-complex-fallback
    fallback(bytes calldata) external returns (bytes memory) {
        return _answer;
    }
}
