// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

import {ComputeClient} from "../client/ComputeClient.sol";
import {ResultText} from "../client/ResultText.sol";
import {SpecBuilder} from "../client/SpecBuilder.sol";
import {IComputeBridge} from "../interfaces/IComputeBridge.sol";

/// @title QuorumReading
/// @notice Example 3: a number that two of three operators computed alike, byte for byte. One of them may lie or be
///         silent: it is neither believed nor paid, and its part of the price comes back.
contract QuorumReading is ComputeClient, Ownable {
    using SpecBuilder for SpecBuilder.Spec;

    uint8 private constant _STDOUT = 1;
    uint8 private constant _SUCCEEDED = 1;
    uint8 private constant _NODES = 3;
    uint8 private constant _QUORUM = 2;

    address private immutable _CURATOR;
    string private _module;

    uint64 private _value;
    uint256 private _valueOf;

    event ReadingTaken(uint256 indexed id, uint64 value);
    event ReadingMissed(uint256 indexed id, uint8 status, uint16 reason);

    /// @param module CID of a WASI module that prints one number and a newline, the same on every node
    constructor(address bridge, address curator, string memory module) ComputeClient(bridge) Ownable(msg.sender) {
        _CURATOR = curator;
        _module = module;
    }

    /// @notice Orders a reading of the data with this CID: three times `unitPrice` and the delivery fee.
    function take(string calldata data, uint128 unitPrice, uint128 deliveryFee)
        external
        payable
        onlyOwner
        returns (uint256 id)
    {
        SpecBuilder.Spec memory spec = SpecBuilder.wasm(_module).arg("/inputs/data").input(data, "/inputs/data")
            .limit(SpecBuilder.Limit.WallSeconds, 30);
        IComputeBridge.Order memory order = _newOrder(spec.build(), _CURATOR, unitPrice);
        (order.nodes, order.quorum) = (_NODES, _QUORUM);
        order.resultKind = _STDOUT;
        order.deliveryFee = deliveryFee;
        return _request(order, msg.value);
    }

    /// @notice Draws what came back: the third part where two nodes signed, everything where none did.
    function collect(address payable to) external onlyOwner returns (uint256) {
        return _collectRefunds(to);
    }

    /// @notice The last reading and the request that it came from; an older request never overwrites a newer one's.
    function reading() external view returns (uint64 value, uint256 id) {
        return (_value, _valueOf);
    }

    function _onResult(uint256 id, bytes32, IComputeBridge.Outcome calldata outcome) internal override {
        (bool ok, uint64[] memory numbers) = ResultText.decimalLine(outcome.payload, 1);
        if (outcome.status != _SUCCEEDED || !ok) {
            emit ReadingMissed(id, outcome.status, outcome.reason);
            return;
        }
        if (id > _valueOf) (_value, _valueOf) = (numbers[0], id);
        emit ReadingTaken(id, numbers[0]);
    }
}
