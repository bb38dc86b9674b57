// SPDX-License-Identifier: Apache-2.0
// The names and the compilers are those of v0's callers.
// solhint-disable compiler-version, interface-starts-with-i, no-unused-import
pragma solidity >=0.8.4;

// Callers that import this file alone take both names from it.
import {LilypadCallerInterface, LilypadResultType} from "./LilypadCallerInterface.sol";

/// @title LilypadEventsUpgradeable
/// @notice The functions and events of Lilypad v0 under the name that its callers import. Nothing is upgradeable here but
///         the name; `LilypadV0` implements it.
interface LilypadEventsUpgradeable {
    struct LilypadJob {
        address requestor;
        uint256 id;
        string spec;
        LilypadResultType resultType;
    }

    struct LilypadJobResult {
        address requestor;
        uint256 id;
        bool success;
        string result;
        LilypadResultType resultType;
    }

    event NewLilypadJobSubmitted(LilypadJob job);
    event LilypadJobResultsReturned(LilypadJobResult result);
    event LilypadEscrowPaid(address, uint256);

    /// @notice Runs a job for the price of `getLilypadFee()` or more. `_from` is called back.
    function runLilypadJob(address _from, string memory _spec, uint8 _resultType) external payable returns (uint256);
    function returnLilypadResults(address _to, uint256 _jobId, LilypadResultType _resultType, string memory _result)
        external;
    function returnLilypadError(address _to, uint256 _jobId, string memory _errorMsg) external;
    function setLilypadFee(uint256 _fee) external;
    function withdrawBalanceToEscrowAddress() external;
    function getLilypadFee() external view returns (uint256);
    function fetchAllJobs() external view returns (LilypadJob[] memory);
    function fetchAllResults() external view returns (LilypadJobResult[] memory);
    function fetchJobsByAddress(address _requestor) external view returns (LilypadJob[] memory);
}
