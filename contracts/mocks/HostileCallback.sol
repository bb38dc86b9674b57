// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {IComputeBridge, IComputeCallback} from "../interfaces/IComputeBridge.sol";

/// @title HostileCallback
/// @notice A dApp that behaves as badly as it is told to. It refuses plain transfers.
contract HostileCallback is IComputeCallback {
    enum Mode {
        Accept,
        Revert,
        BurnGas,
        ReturnBomb,
        RevertBomb,
        Call,
        NeedGas
    }

    uint256 private constant _BOMB_BYTES = 200_000;

    Mode public mode;
    address private _target;
    bytes private _data;
    uint256 private _value;
    uint256 public gasNeeded;

    uint256 public calls;
    uint256 public gasSeen;
    uint256 public lastId;
    bytes32 public lastRequestHash;
    bool public innerSuccess;
    bytes public innerReturned;

    error HostileCallbackRefuses(uint256 id);

    function setMode(Mode mode_) external {
        mode = mode_;
    }

    function setNeededGas(uint256 gas_) external {
        mode = Mode.NeedGas;
        gasNeeded = gas_;
    }

    /// @notice What to call back into when the result arrives.
    function setCall(address target_, bytes calldata data_, uint256 value_) external payable {
        (mode, _target, _data, _value) = (Mode.Call, target_, data_, value_);
    }

    /// @notice Does anything as this contract: orders, cancels, withdraws.
    function act(address to, bytes calldata call_) external payable returns (bytes memory) {
        (bool success, bytes memory returned) = to.call{value: msg.value}(call_);
        // solhint-disable-next-line no-inline-assembly
        assembly ("memory-safe") {
            if iszero(success) { revert(add(returned, 0x20), mload(returned)) }
        }
        return returned;
    }

    /// @inheritdoc IComputeCallback
    function onJobResult(uint256 id, bytes32 requestHash, IComputeBridge.Outcome calldata) external {
        uint256 gasAtStart = gasleft();
        if (mode == Mode.Revert) revert HostileCallbackRefuses(id);
        if (mode == Mode.NeedGas && gasAtStart < gasNeeded) revert HostileCallbackRefuses(id);
        if (mode == Mode.BurnGas) {
            // solhint-disable-next-line no-inline-assembly
            assembly ("memory-safe") {
                invalid()
            }
        }
        if (mode == Mode.ReturnBomb || mode == Mode.RevertBomb) _bomb();
        calls += 1;
        gasSeen = gasAtStart;
        lastId = id;
        lastRequestHash = requestHash;
        if (mode == Mode.Call) {
            (innerSuccess, innerReturned) = _target.call{value: _value}(_data);
        }
    }

    function _bomb() private view {
        bool reverts = mode == Mode.RevertBomb;
        // solhint-disable-next-line no-inline-assembly
        assembly ("memory-safe") {
            if reverts { revert(0x00, _BOMB_BYTES) }
            return(0x00, _BOMB_BYTES)
        }
    }
}
