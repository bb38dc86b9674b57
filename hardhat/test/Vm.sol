// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

/// @notice The cheat codes that these tests use; Hardhat's runner answers at this address.
interface IVm {
    function addr(uint256 privateKey) external pure returns (address);
    function sign(uint256 privateKey, bytes32 digest) external pure returns (uint8 v, bytes32 r, bytes32 s);
    function assume(bool condition) external pure;
    function deal(address account, uint256 balance) external;
    function prank(address sender) external;
    function warp(uint256 timestamp) external;
}

IVm constant vm = IVm(0x7109709ECfa91a80626fF3989D68f67F5b1DD12D);
