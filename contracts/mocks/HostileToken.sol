// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

/// @title HostileToken
/// @notice An ERC-20 that behaves as badly as it is told to.
contract HostileToken {
    enum Mode {
        Plain,
        NoReturn,
        ReturnFalse,
        TakeFee,
        TakeOneUnit,
        GiveOneMore,
        MoveNothing,
        Shrink,
        ChargeSender,
        Revert,
        BurnGas,
        ReturnBomb,
        Call
    }

    uint256 private constant _BOMB_BYTES = 200_000;

    Mode public mode;
    address private _target;
    bytes private _data;
    bool private _isCalling;
    bool public innerSuccess;
    bytes public innerReturned;
    uint256 public calls;

    mapping(address account => uint256 balance) public balanceOf;
    mapping(address account => bool isBlocked) public isBlocked;
    mapping(address account => mapping(address spender => uint256 amount)) public allowance;

    error HostileTokenRefuses(address from, address to);

    function setMode(Mode mode_) external {
        mode = mode_;
    }

    /// @notice What to call, once, in the midst of the next transfers, before they move anything.
    function setCall(address target_, bytes calldata data_) external {
        (mode, _target, _data) = (Mode.Call, target_, data_);
    }

    function setBlocked(address account, bool isBlocked_) external {
        isBlocked[account] = isBlocked_;
    }

    function mint(address to, uint256 amount) external {
        balanceOf[to] += amount;
    }

    function approve(address spender, uint256 amount) external returns (bool) {
        allowance[msg.sender][spender] = amount;
        return true;
    }

    /// @notice Does anything as this contract: a token can be a requester too.
    function act(address to, bytes calldata call_) external payable returns (bytes memory) {
        (bool success, bytes memory returned) = to.call{value: msg.value}(call_);
        // solhint-disable-next-line no-inline-assembly
        assembly ("memory-safe") {
            if iszero(success) { revert(add(returned, 0x20), mload(returned)) }
        }
        return returned;
    }

    function transfer(address to, uint256 amount) external returns (bool) {
        return _move(msg.sender, to, amount);
    }

    function transferFrom(address from, address to, uint256 amount) external returns (bool) {
        if (from != address(this)) allowance[from][msg.sender] -= amount;
        return _move(from, to, amount);
    }

    function _move(address from, address to, uint256 amount) private returns (bool) {
        calls += 1;
        if (mode == Mode.Revert || isBlocked[from] || isBlocked[to]) revert HostileTokenRefuses(from, to);
        if (mode == Mode.ReturnFalse) return false;
        if (mode == Mode.Call && !_isCalling) {
            _isCalling = true;
            // solhint-disable-next-line avoid-low-level-calls
            (innerSuccess, innerReturned) = _target.call(_data);
            _isCalling = false;
        }
        bool hasNoReturn = mode == Mode.NoReturn;
        bool isBomb = mode == Mode.ReturnBomb;
        bool burns = mode == Mode.BurnGas;
        // solhint-disable-next-line no-inline-assembly
        assembly ("memory-safe") {
            if burns { invalid() }
        }
        if (mode != Mode.MoveNothing) {
            balanceOf[from] -= amount;
            if (mode == Mode.ChargeSender) balanceOf[from] -= 1;
            if (mode == Mode.Shrink) balanceOf[to] /= 2;
            else balanceOf[to] += _received(amount);
        }
        // solhint-disable-next-line no-inline-assembly
        assembly ("memory-safe") {
            if hasNoReturn { return(0x00, 0x00) }
            mstore(0x00, 1)
            if isBomb {
                calldatacopy(0x20, calldatasize(), _BOMB_BYTES)
                return(0x00, _BOMB_BYTES)
            }
        }
        return true;
    }

    function _received(uint256 amount) private view returns (uint256) {
        if (mode == Mode.TakeFee) return amount - amount / 100;
        if (mode == Mode.TakeOneUnit) return amount - 1;
        if (mode == Mode.GiveOneMore) return amount + 1;
        return amount;
    }
}
