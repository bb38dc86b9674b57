// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

import {ComputeClient} from "../client/ComputeClient.sol";
import {ResultText} from "../client/ResultText.sol";
import {SpecBuilder} from "../client/SpecBuilder.sol";
import {IComputeBridge} from "../interfaces/IComputeBridge.sol";

/// @title VotingTally
/// @notice Example 1: a job counts ballots off-chain and prints "YES NO\n"; the contract reads its standard output.
contract VotingTally is ComputeClient, Ownable {
    using SpecBuilder for SpecBuilder.Spec;

    enum Outcome {
        Unknown,
        Counting,
        Carried,
        Rejected,
        NotCounted
    }

    /// @notice One count. NotCounted: the job did not run, failed, or printed something else.
    struct Count {
        Outcome outcome;
        uint64 yes;
        uint64 no;
    }

    uint8 private constant _STDOUT = 1;
    uint8 private constant _SUCCEEDED = 1;

    address private immutable _CURATOR;
    string private _counter;
    mapping(uint256 id => Count count) private _counts;

    event CountOrdered(uint256 indexed id, string ballots);
    event Counted(uint256 indexed id, Outcome outcome, uint64 yes, uint64 no);

    /// @param counter CID of a WASI module that reads /inputs/ballots and prints the two numbers
    /// @param curator whose nodes may count
    constructor(address bridge, address curator, string memory counter) ComputeClient(bridge) Ownable(msg.sender) {
        _CURATOR = curator;
        _counter = counter;
    }

    /// @notice Orders a count of the ballots with this CID; the value must be exactly `price(ballots, unitPrice)`.
    function count(string calldata ballots, uint128 unitPrice) external payable onlyOwner returns (uint256 id) {
        id = _request(_order(ballots, unitPrice), msg.value);
        _counts[id].outcome = Outcome.Counting;
        emit CountOrdered(id, ballots);
    }

    /// @notice Draws what was paid for counts that did not happen.
    function collect(address payable to) external onlyOwner returns (uint256) {
        return _collectRefunds(to);
    }

    /// @notice What a count costs.
    function price(string calldata ballots, uint128 unitPrice) external view returns (uint256) {
        return _quote(_order(ballots, unitPrice));
    }

    /// @notice How the count with this id ended.
    function countOf(uint256 id) external view returns (Count memory) {
        return _counts[id];
    }

    function _onResult(uint256 id, bytes32, IComputeBridge.Outcome calldata outcome) internal override {
        // A program that succeeded may still have printed nonsense: that is no count, and no reason to revert.
        (bool ok, uint64[] memory numbers) = ResultText.decimalLine(outcome.payload, 2);
        Count storage result = _counts[id];
        if (outcome.status == _SUCCEEDED && ok) {
            (result.yes, result.no) = (numbers[0], numbers[1]);
            result.outcome = numbers[0] > numbers[1] ? Outcome.Carried : Outcome.Rejected;
        } else {
            result.outcome = Outcome.NotCounted;
        }
        emit Counted(id, result.outcome, result.yes, result.no);
    }

    function _order(string calldata ballots, uint128 unitPrice) private view returns (IComputeBridge.Order memory order) {
        SpecBuilder.Spec memory spec = SpecBuilder.wasm(_counter).arg("/inputs/ballots").input(ballots, "/inputs/ballots");
        order = _newOrder(spec.build(), _CURATOR, unitPrice);
        order.resultKind = _STDOUT;
    }
}
