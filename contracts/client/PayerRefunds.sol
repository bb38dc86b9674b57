// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {BoundedCall} from "../libraries/BoundedCall.sol";
import {ComputeClient} from "./ComputeClient.sol";

/// @title PayerRefunds
/// @notice A client that orders with other people's money and owes them what comes back. A refund is booked when the
///         contract learns how a job ended and is pushed to whoever paid; where the push fails it stays a credit that
///         anyone may push again.
/// @dev `owedRefunds` <= balance + credit at the bridge, as long as no more is booked for a job than the bridge gave
///      back for it, and the balance is spent on nothing else. With `quorum == nodes` what it gives back follows from
///      the outcome alone (`_returned`).
abstract contract PayerRefunds is ComputeClient {
    uint8 private constant _SUCCEEDED = 1;
    uint8 private constant _FAILED = 2;

    uint64 private immutable _PUSH_GAS;

    uint256 private _owedRefunds;
    mapping(address payer => uint256 amount) private _refunds;

    /// @notice Emitted when a payer is owed a refund.
    event RefundBooked(address indexed payer, uint256 indexed id, uint256 amount);
    /// @notice Emitted after each try to pay a refund; `success` false leaves it a credit.
    event RefundPushed(address indexed payer, uint256 amount, bool success);

    error PayerRefundsNothingOwed(address payer);
    error PayerRefundsNotBridge(address sender);

    /// @param pushGas gas that a payer's `receive` gets when a refund is pushed, unless whoever pushes says otherwise
    constructor(uint64 pushGas) {
        _PUSH_GAS = pushGas;
    }

    /// @notice The bridge pays refunds out here; nobody else's money is taken.
    receive() external payable {
        if (msg.sender != address(computeBridge())) revert PayerRefundsNotBridge(msg.sender);
    }

    /// @notice Pays what `payer` is owed, to `payer`. Anyone may call it; a payer that refuses the money, or takes more
    ///         than the gas for it, is still owed it afterwards.
    function pushRefund(address payer) external returns (bool success) {
        if (_refunds[payer] == 0) revert PayerRefundsNothingOwed(payer);
        return _push(payer, true);
    }

    /// @notice As `pushRefund`, with another gas for the payer's `receive`: for one that needs more than was thought when
    ///         this contract was made, or since the chain's prices changed.
    function pushRefundWithGas(address payer, uint256 gasLimit) external returns (bool success) {
        if (_refunds[payer] == 0) revert PayerRefundsNothingOwed(payer);
        return _push(payer, true, gasLimit);
    }

    /// @notice What `payer` is owed and was not paid yet.
    function refundOf(address payer) external view returns (uint256) {
        return _refunds[payer];
    }

    /// @notice All that is owed to payers.
    function owedRefunds() external view returns (uint256) {
        return _owedRefunds;
    }

    /// @dev What the bridge gives back of `nodes * unitPrice` when `nodes == quorum`.
    function _returned(uint8 status, uint256 nodes, uint256 unitPrice, uint256 failPrice) internal pure returns (uint256) {
        if (status == _SUCCEEDED) return 0;
        return nodes * (status == _FAILED ? unitPrice - failPrice : unitPrice);
    }

    function _book(address payer, uint256 id, uint256 amount) internal {
        if (amount == 0) return;
        _refunds[payer] += amount;
        _owedRefunds += amount;
        emit RefundBooked(payer, id, amount);
    }

    /// @dev Pays `payer` what is owed, with bounded gas and no bytes copied back. `draw`: fetch it from the bridge when
    ///      it is not here yet, which a callback cannot. The credit is gone before the call, and back when it fails.
    function _push(address payer, bool draw) internal returns (bool success) {
        return _push(payer, draw, _PUSH_GAS);
    }

    function _push(address payer, bool draw, uint256 gasLimit) private returns (bool success) {
        uint256 amount = _refunds[payer];
        if (draw && address(this).balance < amount) _collectRefunds(payable(address(this)));
        if (amount == 0 || address(this).balance < amount) return false;
        delete _refunds[payer];
        _owedRefunds -= amount;
        (success,) = BoundedCall.tryCall(payer, gasLimit, amount, "", 0);
        if (!success) {
            _refunds[payer] += amount;
            _owedRefunds += amount;
        }
        emit RefundPushed(payer, amount, success);
    }
}
