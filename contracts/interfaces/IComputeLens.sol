// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IComputeBridge} from "./IComputeBridge.sol";

/// @title IComputeLens
/// @notice What a dApp asks before it orders, by `eth_call`. Nodes are looked at in pages, so no answer grows with the
///         registry.
interface IComputeLens {
    /// @notice An active node whose labels fit. Nodes of one operator count once in a quorum.
    struct Carrier {
        uint256 nodeId;
        address operator;
    }

    /// @notice What an order costs at `bridge`, and which of the nodes from id `from` on, at most `limit` of them, could answer
    ///         it now. Reverts as `requestJob` would for an order that is refused.
    /// @param from     the first node id looked at; 0 and 1 both mean the first node
    /// @param limit    how many nodes are looked at; more than MAX_PAGE (256) counts as MAX_PAGE
    /// @return price    in the order's token
    /// @return carriers the nodes of this page that carry the labels
    /// @return next     where the next page begins; zero when there is none
    function quote(address bridge, IComputeBridge.Order calldata order, uint256 from, uint256 limit)
        external
        view
        returns (uint256 price, Carrier[] memory carriers, uint256 next);

    /// @notice The nodes of `registry` with a current key that are active and carry the labels by `curator`'s word, in pages
    ///         as in `quote`.
    function carriersOf(address registry, address curator, bytes32[] calldata labels, uint256 from, uint256 limit)
        external
        view
        returns (Carrier[] memory carriers, uint256 next);
}
