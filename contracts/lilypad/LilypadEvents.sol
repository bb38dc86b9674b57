// SPDX-License-Identifier: Apache-2.0
// The names and the compilers are those of v0's callers.
// solhint-disable compiler-version, interface-starts-with-i, no-unused-import
pragma solidity >=0.8.4;

// Callers that import this file alone take both names from it.
import {LilypadCallerInterface, LilypadResultType} from "./LilypadCallerInterface.sol";

/// @title LilypadEvents
/// @notice The entry of the generation before May 2023, under the name that its callers import.
interface LilypadEvents {
    function runBacalhauJob(address _from, string memory _spec, LilypadResultType _resultType)
        external
        payable
        returns (uint256);
}
