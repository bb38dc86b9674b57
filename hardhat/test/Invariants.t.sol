// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

// What broke is said in words.
// solhint-disable gas-custom-errors

import {Handler} from "./Handler.sol";

/// @notice Whatever anybody does, in whatever order: the money is there, and no rule that the handler watches is broken.
contract InvariantsTest {
    Handler private _handler;

    function setUp() public {
        _handler = new Handler();
    }

    function invariantTheMoneyIsThereAndTheRulesHold() public view {
        require(bytes(_handler.broken()).length == 0, _handler.broken());
        for (uint256 i = 0; i < 2; ++i) {
            address token = address(_handler.tokens(i));
            uint256 held = _handler.tokens(i).balanceOf(address(_handler.BRIDGE()));
            require(held == _handler.BRIDGE().owed(token) + _handler.forced(token), "a token: held is owed");
        }
        uint256 native = address(_handler.BRIDGE()).balance;
        require(native == _handler.BRIDGE().owed(address(0)) + _handler.forced(address(0)), "native: held is owed");
        uint256 staked = address(_handler.REGISTRY()).balance;
        require(staked == _handler.REGISTRY().owed() + _handler.forcedIntoRegistry(), "stakes: held is owed");
    }

    /// @notice Random acts come to results, refunds and proofs: the invariant is not true of nothing.
    function testRandomActsReachEveryEnd() public {
        for (uint256 i = 0; i < 400; ++i) {
            uint256 seed = uint256(keccak256(abi.encode(i)));
            _handler.request(seed, seed);
            _handler.serve(seed, seed >> 16, uint8(seed >> 32));
            _handler.stake(seed, uint64(seed));
            _handler.slash(seed, seed >> 8, seed >> 16, uint8(seed >> 24));
            _handler.cancel(seed >> 40, 1);
            if (i % 20 == 0) _handler.wait_(uint32(seed));
            if (i % 10 == 0) _handler.rotateKey(seed);
            _handler.expire(seed >> 48);
            _handler.drawCancelled(seed >> 56);
            _handler.withdraw(seed, seed >> 64, false);
        }
        _handler.audit();
        invariantTheMoneyIsThereAndTheRulesHold();
        assert(_handler.settled() > 50 && _handler.refunded() > 5 && _handler.slashed() > 20);
    }

    /// @notice What the runner may call: the handler's acts, and nothing else.
    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_handler);
    }
}
