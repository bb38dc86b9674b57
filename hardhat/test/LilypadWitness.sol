// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

// What it does with a call is the handler's choice.
// solhint-disable avoid-low-level-calls, gas-custom-errors

import {LilypadCallerInterface, LilypadResultType} from "../contracts/lilypad/LilypadCallerInterface.sol";
import {LilypadV0} from "../contracts/lilypad/LilypadV0.sol";

/// @notice A caller of LilypadV0 that counts what it is told, and that behaves as the handler wants: accepts, reverts, burns all
///         its gas, or calls back with what it was given, both when it is told and when it is paid.
contract LilypadWitness is LilypadCallerInterface {
    enum Mode {
        Accept,
        Revert,
        BurnGas,
        Call
    }

    Mode private _onCall;
    Mode private _onMoney;
    address private _target;
    bytes private _data;

    mapping(uint256 jobId => uint256 times) public fulfilled;
    mapping(uint256 jobId => uint256 times) public cancelled;

    receive() external payable {
        _behave(_onMoney);
    }

    function setModes(Mode onCall, Mode onMoney) external {
        (_onCall, _onMoney) = (onCall, onMoney);
    }

    function setCall(address target, bytes calldata data) external {
        (_target, _data) = (target, data);
    }

    function run(LilypadV0 lilypad, string calldata spec, uint8 kind, uint256 value) external returns (uint256) {
        return lilypad.runLilypadJob{value: value}(address(this), spec, kind);
    }

    function lilypadFulfilled(address, uint256 jobId, LilypadResultType, string calldata) external {
        _behave(_onCall);
        ++fulfilled[jobId];
    }

    function lilypadCancelled(address, uint256 jobId, string calldata) external {
        _behave(_onCall);
        ++cancelled[jobId];
    }

    function _behave(Mode mode) private {
        require(mode != Mode.Revert, "refused");
        if (mode == Mode.Call) {
            (bool success,) = _target.call(_data);
            // Whether that worked is the invariants' business.
            success;
        }
        if (mode == Mode.BurnGas) {
            // solhint-disable-next-line no-inline-assembly
            assembly ("memory-safe") {
                invalid()
            }
        }
    }
}
