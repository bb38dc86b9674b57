// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {IComputeBridge} from "../interfaces/IComputeBridge.sol";
import {INodeRegistry} from "../interfaces/INodeRegistry.sol";

/// @title QuoteLens
/// @notice What an order costs and whether registered nodes could answer it, in one `eth_call`. Holds nothing.
contract QuoteLens {
    uint256 private constant _MAX_NODES = 16;

    /// @notice The price of `order`, and how many of the nodes `firstNode` to `lastNode` could sign for it: active, with a
    ///         key, with the labels by the curator's word. Whether they are on line now, only the bridge knows.
    /// @param firstNode at least 1
    /// @param lastNode  cut to the number of registered nodes; a few thousand fit in one call
    /// @return price     as `ComputeBridge.quote`, and it reverts as that does
    /// @return matching  nodes that could sign
    /// @return operators distinct operators of those, counted up to `order.nodes`: below `order.quorum` nobody can settle it
    function quote(IComputeBridge bridge, IComputeBridge.Order calldata order, uint256 firstNode, uint256 lastNode)
        external
        view
        returns (uint256 price, uint256 matching, uint256 operators)
    {
        price = bridge.quote(order);
        INodeRegistry registry = INodeRegistry(bridge.registry());
        uint256 count = registry.nodeCount();
        if (lastNode > count) lastNode = count;
        address[_MAX_NODES] memory seen;
        for (uint256 nodeId = firstNode; nodeId <= lastNode; ++nodeId) {
            (address operator, address key, bool active) = registry.nodeOf(nodeId);
            if (!active || key == address(0) || !registry.carries(nodeId, order.curator, order.labels)) continue;
            ++matching;
            if (operators < order.nodes && !_contains(seen, operators, operator)) seen[operators++] = operator;
        }
    }

    function _contains(address[_MAX_NODES] memory seen, uint256 count, address operator) private pure returns (bool) {
        for (uint256 i = 0; i < count; ++i) {
            if (seen[i] == operator) return true;
        }
        return false;
    }
}
