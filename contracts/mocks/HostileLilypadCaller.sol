// SPDX-License-Identifier: Apache-2.0
// solhint-disable no-complex-fallback, avoid-low-level-calls
pragma solidity 0.8.28;

import {LilypadCallerInterface, LilypadResultType} from "../lilypad/LilypadCallerInterface.sol";
import {LilypadEventsUpgradeable} from "../lilypad/LilypadEventsUpgradeable.sol";

/// @title HostileLilypadCaller
/// @notice A caller that behaves as badly as it is told to, when called back and when paid.
contract HostileLilypadCaller is LilypadCallerInterface {
    enum Mode {
        Accept,
        Revert,
        BurnGas,
        ReturnBomb,
        RevertBomb,
        Call,
        NeedGas,
        Alternate
    }

    uint256 private constant _BOMB_BYTES = 1_000_000;

    Mode public onCall;
    Mode public onMoney;
    address private _target;
    bytes private _data;
    uint256 private _value;
    uint256 public gasNeeded;

    uint256 public calls;
    uint256 public payments;
    uint256 public lastJob;
    bool public fulfilled;
    string public lastText;
    bool public innerSuccess;
    bytes public innerReturned;
    uint256 private _turns;

    error HostileLilypadCallerRefuses();

    receive() external payable {
        _behave(onMoney);
        payments += 1;
    }

    function setModes(Mode onCall_, Mode onMoney_) external {
        (onCall, onMoney) = (onCall_, onMoney_);
    }

    function setCall(address target, bytes calldata data, uint256 value) external {
        (_target, _data, _value) = (target, data, value);
    }

    function setNeededGas(uint256 gas_) external {
        (onCall, gasNeeded) = (Mode.NeedGas, gas_);
    }

    function run(address bridge, string calldata spec, uint8 resultType) external payable returns (uint256) {
        return LilypadEventsUpgradeable(bridge).runLilypadJob{value: msg.value}(address(this), spec, resultType);
    }

    function runTwice(address bridge, string calldata spec) external payable {
        for (uint256 i = 0; i < 2; ++i) {
            LilypadEventsUpgradeable(bridge).runLilypadJob{value: msg.value / 2}(address(this), spec, 1);
        }
    }

    function lilypadFulfilled(address, uint256 jobId, LilypadResultType, string calldata result) external {
        _record(jobId, true, result);
    }

    function lilypadCancelled(address, uint256 jobId, string calldata errorMsg) external {
        _record(jobId, false, errorMsg);
    }

    function _record(uint256 jobId, bool fulfilled_, string calldata text) private {
        _behave(onCall);
        calls += 1;
        (lastJob, fulfilled, lastText) = (jobId, fulfilled_, text);
    }

    function _behave(Mode mode) private {
        if (mode == Mode.Revert) revert HostileLilypadCallerRefuses();
        if (mode == Mode.NeedGas && gasleft() < gasNeeded) revert HostileLilypadCallerRefuses();
        if (mode == Mode.Alternate && ++_turns % 2 == 0) revert HostileLilypadCallerRefuses();
        if (mode == Mode.BurnGas) {
            // solhint-disable-next-line no-inline-assembly
            assembly ("memory-safe") {
                invalid()
            }
        }
        if (mode == Mode.ReturnBomb || mode == Mode.RevertBomb) _bomb(mode == Mode.RevertBomb);
        if (mode == Mode.Call) (innerSuccess, innerReturned) = _target.call{value: _value}(_data);
    }

    function _bomb(bool reverts) private pure {
        // solhint-disable-next-line no-inline-assembly
        assembly ("memory-safe") {
            if reverts { revert(0x00, _BOMB_BYTES) }
            return(0x00, _BOMB_BYTES)
        }
    }
}
