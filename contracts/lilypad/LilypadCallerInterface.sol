// SPDX-License-Identifier: Apache-2.0
// The names and the compilers are those of v0's callers.
// solhint-disable compiler-version, interface-starts-with-i
pragma solidity >=0.8.4;

/// @notice What a job of Lilypad v0 gives back: a CID, or the exact text of a stream or of the exit code.
enum LilypadResultType {
    CID,
    StdOut,
    StdErr,
    ExitCode
}

/// @title LilypadCallerInterface
/// @notice What a caller of Lilypad v0 implements; the names and the ABI are those of v0.
interface LilypadCallerInterface {
    /// @param _from the contract that calls back: the one that the job was run on
    function lilypadFulfilled(address _from, uint256 _jobId, LilypadResultType _resultType, string calldata _result)
        external;

    function lilypadCancelled(address _from, uint256 _jobId, string calldata _errorMsg) external;
}
