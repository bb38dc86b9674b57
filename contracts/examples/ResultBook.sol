// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {IComputeBridge, IComputeCallback} from "../interfaces/IComputeBridge.sol";

/// @title ResultBook
/// @notice The smallest dApp: orders jobs for anyone, keeps the results, lets its owner draw what comes back.
contract ResultBook is IComputeCallback {
    /// @notice What `onJobResult` stored; status 0 means: no result yet.
    struct Result {
        uint8 status;
        uint16 reason;
        int32 exitCode;
        bytes outputCid;
        bytes payload;
    }

    /// @notice Enough to store the largest outcome (a CID of 64 bytes and a payload of 8 KiB) at EVM prices.
    uint64 public constant CALLBACK_GAS = 7_000_000;

    IComputeBridge public immutable BRIDGE;
    address public immutable OWNER;

    mapping(uint256 id => Result result) private _results;

    event ResultStored(uint256 indexed id, uint8 status, bytes outputCid);

    error ResultBookNotBridge(address caller);
    error ResultBookNotOwner(address caller);
    error ResultBookForeignResult(uint256 id, address requester);

    /// @param bridge the ComputeBridge; the deployer becomes the owner
    constructor(address bridge) {
        BRIDGE = IComputeBridge(bridge);
        OWNER = msg.sender;
    }

    /// @notice Orders one job of a spec in the native format. `msg.value` must be exactly the price, and what a
    ///         settlement gives back belongs to this contract's owner.
    function order(
        bytes calldata spec,
        uint8 resultKind,
        uint8 nodes,
        uint8 quorum,
        uint32 ttl,
        address curator,
        bytes32[] calldata labels,
        uint128 unitPrice,
        uint128 failPrice,
        uint128 deliveryFee
    ) external payable returns (uint256 id) {
        return BRIDGE.requestJob{value: msg.value}(
            IComputeBridge.Order({
                version: 1,
                dialect: 1,
                specIsCid: false,
                spec: spec,
                resultKind: resultKind,
                nodes: nodes,
                quorum: quorum,
                ttl: ttl,
                callback: address(this),
                callbackGas: CALLBACK_GAS,
                curator: curator,
                labels: labels,
                token: address(0),
                unitPrice: unitPrice,
                failPrice: failPrice,
                deliveryFee: deliveryFee
            })
        );
    }

    /// @inheritdoc IComputeCallback
    /// @dev Anyone can order a job, of nodes of his own, with this contract as its callback: what this contract did not
    ///      order itself is no result of it.
    function onJobResult(uint256 id, bytes32, IComputeBridge.Outcome calldata outcome) external {
        if (msg.sender != address(BRIDGE)) revert ResultBookNotBridge(msg.sender);
        (address requester,,,,) = BRIDGE.requestOf(id);
        if (requester != address(this)) revert ResultBookForeignResult(id, requester);
        _results[id] =
            Result(outcome.status, outcome.reason, outcome.exitCode, outcome.outputCid, outcome.payload);
        emit ResultStored(id, outcome.status, outcome.outputCid);
    }

    /// @notice Draws this contract's credit at the bridge to `to`.
    function collect(address payable to) external {
        if (msg.sender != OWNER) revert ResultBookNotOwner(msg.sender);
        BRIDGE.withdraw(address(0), to);
    }

    /// @notice The stored result of request `id`; status 0 when there is none yet.
    function resultOf(uint256 id)
        external
        view
        returns (uint8 status, uint16 reason, int32 exitCode, bytes memory outputCid, bytes memory payload)
    {
        Result storage r = _results[id];
        return (r.status, r.reason, r.exitCode, r.outputCid, r.payload);
    }
}
