// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

import {IComputeBridge} from "../interfaces/IComputeBridge.sol";

/// @title ExactToken
/// @notice Transfers of a token that move this contract's balance by exactly the amount, or revert: what is booked is
///         what is there. A token that takes a fee, rounds or rebases in a transfer is refused by that.
library ExactToken {
    /// @notice Takes `amount` from `from`, who has approved it.
    function pull(address token, address from, uint256 amount) internal {
        uint256 before = IERC20(token).balanceOf(address(this));
        SafeERC20.safeTransferFrom(IERC20(token), from, address(this), amount);
        _checkMoved(token, before, IERC20(token).balanceOf(address(this)), amount);
    }

    /// @notice Sends `amount` to `to`.
    function push(address token, address to, uint256 amount) internal {
        uint256 before = IERC20(token).balanceOf(address(this));
        SafeERC20.safeTransfer(IERC20(token), to, amount);
        _checkMoved(token, IERC20(token).balanceOf(address(this)), before, amount);
    }

    function _checkMoved(address token, uint256 low, uint256 high, uint256 amount) private pure {
        uint256 moved = high > low ? high - low : 0;
        if (moved != amount) revert IComputeBridge.ComputeBridgeInexactTransfer(token, moved, amount);
    }
}
