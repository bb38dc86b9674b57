// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

// What broke is said in words.
// solhint-disable gas-custom-errors

import {LilypadV0} from "../contracts/lilypad/LilypadV0.sol";
import {LilypadHandler} from "./LilypadHandler.sol";

/// @notice Whatever anybody does, in whatever order: LilypadV0 holds what it owes, and no rule that the handler watches is broken.
contract LilypadInvariantsTest {
    LilypadHandler private _handler;

    function setUp() public {
        _handler = new LilypadHandler();
    }

    function invariantLilypadHoldsWhatItOwes() public view {
        require(bytes(_handler.broken()).length == 0, _handler.broken());
        LilypadV0 lilypad = _handler.LILYPAD();
        uint256 held = address(lilypad).balance + _handler.BRIDGE().creditOf(address(lilypad), address(0));
        require(held == lilypad.owedRefunds() + _handler.unbooked() + _handler.unowed(), "held is owed");
    }

    /// @notice Random acts come to results, refunds and pushes: the invariant is not true of nothing.
    function testRandomActsReachEveryEndOfALilypadJob() public {
        for (uint256 i = 0; i < 300; ++i) {
            uint256 seed = uint256(keccak256(abi.encode(i)));
            uint8 modes = uint8(seed >> 32);
            _handler.reenter(seed >> 88, seed >> 96, uint8(seed >> 104));
            _handler.run(seed, seed >> 8, uint32(seed >> 16), uint8(seed >> 24));
            _handler.deliver(seed >> 40, seed >> 48, uint8(seed >> 56), modes);
            _handler.retry(seed >> 64, i % 5 == 0, modes >> 1);
            _handler.cancel(seed >> 72, seed >> 80);
            if (i % 10 == 0) _handler.wait_(uint32(seed >> 88));
            _handler.endAtTheBridge(seed >> 96);
            _handler.close(seed >> 96, modes, i % 7 == 0);
            _handler.push(seed >> 104);
            _handler.intrude(seed, seed >> 8, uint32(seed >> 16));
            _handler.force(uint32(seed >> 112) % 100);
            _handler.audit();
            invariantLilypadHoldsWhatItOwes();
        }
        require(_handler.returned() > 40 && _handler.cancelled() > 40 && _handler.pushed() > 20, "too little happened");
    }

    /// @notice What the runner may call: the handler's acts, and nothing else.
    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_handler);
    }
}
