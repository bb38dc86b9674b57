// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {IComputeBridge} from "../contracts/interfaces/IComputeBridge.sol";
import {vm} from "./Vm.sol";

/// @title Stage
/// @notice Who is who in the invariant tests, what they say, and how they sign.
library Stage {
    uint256 internal constant OPERATORS = 4;

    /// @notice An EIP-712 signature, written out once more, independent of OpenZeppelin's.
    function sign(uint256 key, string memory name, address verifier, bytes32 structHash)
        internal
        view
        returns (bytes memory)
    {
        bytes32 kind =
            keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
        bytes32 domain =
            keccak256(abi.encode(kind, keccak256(bytes(name)), keccak256("1"), block.chainid, verifier));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, keccak256(abi.encodePacked("\x19\x01", domain, structHash)));
        return abi.encodePacked(r, s, v);
    }

    function outcome(uint256 kind) internal pure returns (IComputeBridge.Outcome memory made) {
        made.status = uint8(1 + kind % 4);
        made.reason = uint16((kind >> 8) % 2);
    }

    /// @dev 0 to 2: requesters; 3 to 6: operators; 7 and 8: relayers; 9: an attacker and prover.
    function actor(uint256 index) internal pure returns (address) {
        return address(uint160(0xAC700000 + index));
    }

    /// @dev Node 5 is the first operator's second one.
    function operator(uint256 nodeId) internal pure returns (address) {
        return actor(3 + (nodeId - 1) % OPERATORS);
    }
}
