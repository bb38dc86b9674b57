// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {IComputeBridge, IComputeCallback} from "../interfaces/IComputeBridge.sol";

/// @title GasClient
/// @notice The client of the gas table: orders a job in its own name and stores the CID of each result.
contract GasClient is IComputeCallback {
    address private immutable _BRIDGE;

    mapping(uint256 id => bytes cid) public cidOf;

    error GasClientNotBridge(address caller);

    constructor(address bridge) {
        _BRIDGE = bridge;
    }

    /// @notice Orders a job and pays for it.
    function order(IComputeBridge.Order calldata order_) external payable returns (uint256 id) {
        return IComputeBridge(_BRIDGE).requestJob{value: msg.value}(order_);
    }

    /// @inheritdoc IComputeCallback
    function onJobResult(uint256 id, bytes32, IComputeBridge.Outcome calldata outcome) external {
        if (msg.sender != _BRIDGE) revert GasClientNotBridge(msg.sender);
        cidOf[id] = outcome.outputCid;
    }
}
