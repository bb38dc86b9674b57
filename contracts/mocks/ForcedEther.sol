// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

/// @title ForcedEther
/// @notice Puts native tokens into a contract that does not take any.
contract ForcedEther {
    constructor(address payable victim) payable {
        selfdestruct(victim);
    }
}
