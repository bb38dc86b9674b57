// SPDX-License-Identifier: Apache-2.0
// In the style of the callers that were published in 2023.
// solhint-disable compiler-version, no-global-import, state-visibility, gas-custom-errors
pragma solidity >=0.8.4;

import "../lilypad/LilypadCallerInterface.sol";
import "../lilypad/LilypadEventsUpgradeable.sol";

/// @title LilypadCaller
/// @notice A caller as those published for Lilypad v0 are: it knows v0's names and nothing of Insula. The fee is read
///         once, the job id must not be zero, and `_from` must be the contract that the job was run on.
contract LilypadCaller is LilypadCallerInterface {
    address public bridgeAddress;
    LilypadEventsUpgradeable bridge;
    uint256 public lilypadFee;

    uint256 public lastJob;
    mapping(uint256 => string) public results;
    mapping(uint256 => string) public errors;

    constructor(address _bridgeContractAddress) {
        bridgeAddress = _bridgeContractAddress;
        bridge = LilypadEventsUpgradeable(_bridgeContractAddress);
        lilypadFee = bridge.getLilypadFee();
    }

    function run(string memory _spec, uint8 _resultType) external payable {
        require(msg.value >= lilypadFee, "Not enough to run the job");
        uint256 id = bridge.runLilypadJob{value: msg.value}(address(this), _spec, _resultType);
        require(id > 0, "job didn't return a value");
        lastJob = id;
    }

    receive() external payable {}

    function lilypadFulfilled(address _from, uint256 _jobId, LilypadResultType, string calldata _result) external override {
        require(_from == address(bridge), "not the bridge");
        results[_jobId] = _result;
    }

    function lilypadCancelled(address _from, uint256 _jobId, string calldata _errorMsg) external override {
        require(_from == address(bridge), "not the bridge");
        errors[_jobId] = _errorMsg;
    }
}
