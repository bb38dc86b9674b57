// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {IComputeBridge} from "./interfaces/IComputeBridge.sol";
import {IComputeLens} from "./interfaces/IComputeLens.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";

/// @title ComputeLens
/// @notice Reads for dApps that would cost the other contracts code size. No state, no money; one serves every bridge.
contract ComputeLens is IComputeLens {
    uint256 public constant MAX_PAGE = 256;

    /// @inheritdoc IComputeLens
    function quote(address bridge, IComputeBridge.Order calldata order, uint256 from, uint256 limit)
        external
        view
        returns (uint256 price, Carrier[] memory carriers, uint256 next)
    {
        price = IComputeBridge(bridge).quote(order);
        address registry = IComputeBridge(bridge).registry();
        (carriers, next) = _carriersOf(registry, order.curator, order.labels, from, limit);
    }

    /// @inheritdoc IComputeLens
    function carriersOf(address registry, address curator, bytes32[] calldata labels, uint256 from, uint256 limit)
        external
        view
        returns (Carrier[] memory carriers, uint256 next)
    {
        return _carriersOf(registry, curator, labels, from, limit);
    }

    function _carriersOf(address registry, address curator, bytes32[] calldata labels, uint256 from, uint256 limit)
        private
        view
        returns (Carrier[] memory carriers, uint256 next)
    {
        uint256 count = INodeRegistry(registry).nodeCount();
        uint256 first = from == 0 ? 1 : from;
        if (first > count) return (carriers, 0);
        uint256 page = limit > MAX_PAGE ? MAX_PAGE : limit;
        if (page > count - first + 1) page = count - first + 1;
        carriers = new Carrier[](page);
        uint256 found;
        for (uint256 nodeId = first; nodeId < first + page; ++nodeId) {
            (address operator, address key, bool active) = INodeRegistry(registry).nodeOf(nodeId);
            if (!active || key == address(0)) continue;
            if (!INodeRegistry(registry).carries(nodeId, curator, labels)) continue;
            carriers[found] = Carrier(nodeId, operator);
            ++found;
        }
        // solhint-disable-next-line no-inline-assembly
        assembly ("memory-safe") {
            mstore(carriers, found)
        }
        next = first + page > count ? 0 : first + page;
    }
}
