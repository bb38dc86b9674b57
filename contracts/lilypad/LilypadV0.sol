// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {Strings} from "@openzeppelin/contracts/utils/Strings.sol";

import {ComputeClient} from "../client/ComputeClient.sol";
import {PayerRefunds} from "../client/PayerRefunds.sol";
import {ResultText} from "../client/ResultText.sol";
import {IComputeBridge} from "../interfaces/IComputeBridge.sol";
import {BoundedCall} from "../libraries/BoundedCall.sol";
import {LilypadCallerInterface, LilypadResultType} from "./LilypadCallerInterface.sol";
import {LilypadEvents} from "./LilypadEvents.sol";
import {LilypadEventsUpgradeable} from "./LilypadEventsUpgradeable.sol";

/// @title LilypadV0
/// @notice Lilypad v0 as its callers know it, and behind it a client of ComputeBridge: the spec goes on as it is, in
///         dialect 2, one node of the curator's runs it, the caller is called back with this contract's address.
///         Only the bridge delivers results, and what was paid for a job that did not run goes back to whoever paid.
/// @dev No owner: the fee and all the rest are fixed, as callers cache the fee when they are deployed. Specs and results
///      are in the events, not in storage; the functions that listed them, and those of v0's operator, revert.
contract LilypadV0 is LilypadEventsUpgradeable, LilypadEvents, PayerRefunds {
    /// @notice What every job is ordered with; amounts in the chain's smallest unit.
    /// @param fee         the least that a job costs; whatever is paid beyond it goes to the node as well
    /// @param deliveryFee the part of it that the relayer earns; only an expired or cancelled job gets it back
    /// @param failPrice   what the node keeps when the job ran and failed
    /// @param ttl         seconds until a job without an answer can be refunded
    /// @param callbackGas gas of a delivery; a caller gets three quarters of what this contract leaves of it
    /// @param pushGas     gas for a payer's `receive` when a refund is pushed
    struct Terms {
        uint96 fee;
        uint96 deliveryFee;
        uint96 failPrice;
        uint32 ttl;
        uint64 callbackGas;
        uint64 pushGas;
    }

    enum JobState {
        Unknown,
        Open,
        Fulfilled,
        Cancelled
    }

    /// @param payer       gets refunds
    /// @param paid        what the job cost
    /// @param requestor   is called back
    /// @param requestId   the id at the bridge
    /// @param undelivered the caller's function reverted or ran out of gas; `retryCaller` repeats it
    struct Job {
        address payer;
        uint96 paid;
        address requestor;
        uint64 requestId;
        LilypadResultType resultType;
        JobState state;
        bool undelivered;
    }

    uint8 private constant _DIALECT_V1BETA = 2;
    uint8 private constant _SUCCEEDED = 1;
    uint8 private constant _FAILED = 2;
    uint8 private constant _REFUSED = 3;
    uint256 private constant _MAX_RETURN_BYTES = 256;

    address private immutable _CURATOR;
    uint96 private immutable _FEE;
    uint96 private immutable _DELIVERY_FEE;
    uint96 private immutable _FAIL_PRICE;
    uint32 private immutable _TTL;
    uint64 private immutable _CALLBACK_GAS;

    uint256 private _jobCount;
    mapping(uint256 jobId => Job job) private _jobs;
    mapping(uint256 requestId => uint256 jobId) private _jobOfRequest;

    /// @notice Emitted after each call of a caller's `lilypadFulfilled` or `lilypadCancelled`; `returnData` is bounded.
    event CallerCalled(uint256 indexed jobId, address indexed requestor, bool success, bytes returnData);

    error LilypadV0WrongFee(uint256 sent, uint256 smallest, uint256 largest);
    error LilypadV0NotSupported(bytes4 selector);
    error LilypadV0NotPayer(uint256 jobId, address caller);
    error LilypadV0NotRefundable(uint256 jobId, JobState state, IComputeBridge.State requestState);
    error LilypadV0NothingToRetry(uint256 jobId);
    error LilypadV0OutcomeMismatch(uint256 jobId);
    error LilypadV0InsufficientGas(uint256 available, uint256 required);

    /// @param bridge  the ComputeBridge
    /// @param curator whose nodes run the jobs
    constructor(address bridge, address curator, Terms memory terms) ComputeClient(bridge) PayerRefunds(terms.pushGas) {
        _CURATOR = curator;
        _FEE = terms.fee;
        _DELIVERY_FEE = terms.deliveryFee;
        _FAIL_PRICE = terms.failPrice;
        _TTL = terms.ttl;
        _CALLBACK_GAS = terms.callbackGas;
        // Terms that the bridge would refuse for every job are refused now.
        _quote(_order("{}", 0, terms.fee));
    }

    /// @inheritdoc LilypadEventsUpgradeable
    function runLilypadJob(address _from, string memory _spec, uint8 _resultType) external payable returns (uint256) {
        return _run(_from, _spec, _resultType);
    }

    /// @inheritdoc LilypadEvents
    function runBacalhauJob(address _from, string memory _spec, LilypadResultType _resultType)
        external
        payable
        returns (uint256)
    {
        return _run(_from, _spec, uint8(_resultType));
    }

    /// @notice Marks a job for cancellation; only who paid for it can, with the order as the bridge's event has it. A result
    ///         still wins until the bridge's cancel delay is over and somebody drew the refund there (`drawCancelled`).
    function cancelJob(uint256 jobId, IComputeBridge.Order calldata order) external {
        Job storage job = _jobs[jobId];
        if (msg.sender != job.payer) revert LilypadV0NotPayer(jobId, msg.sender);
        computeBridge().cancel(job.requestId, order);
    }

    /// @notice Ends a job that expired or was cancelled at the bridge: tells the caller and pays everything back. Anyone
    ///         may call it, with at least the gas of a delivery.
    function closeJob(uint256 jobId) external {
        Job storage job = _jobs[jobId];
        (IComputeBridge.State requestState,) = computeBridge().resultOf(job.requestId);
        bool expired = requestState == IComputeBridge.State.Expired;
        if (job.state != JobState.Open || (!expired && requestState != IComputeBridge.State.Cancelled)) {
            revert LilypadV0NotRefundable(jobId, job.state, requestState);
        }
        _checkGas();
        job.state = JobState.Cancelled;
        _book(job.payer, jobId, job.paid);
        string memory message = expired ? "expired" : "cancelled";
        _announce(jobId, job, false, message);
        _call(jobId, job, _cancelledCall(jobId, message));
        _push(job.payer, true);
    }

    /// @notice Calls a caller again whose function failed, with all the gas that is brought, at least that of a delivery.
    /// @param requestHash the bridge's, of the request that the job was ordered with
    /// @param outcome     what it was settled with; anything when it expired or was cancelled
    function retryCaller(uint256 jobId, bytes32 requestHash, IComputeBridge.Outcome calldata outcome) external {
        Job storage job = _jobs[jobId];
        if (!job.undelivered) revert LilypadV0NothingToRetry(jobId);
        _checkGas();
        (IComputeBridge.State requestState,) = computeBridge().resultOf(job.requestId);
        if (requestState == IComputeBridge.State.Expired) {
            _call(jobId, job, _cancelledCall(jobId, "expired"));
        } else if (requestState == IComputeBridge.State.Cancelled) {
            _call(jobId, job, _cancelledCall(jobId, "cancelled"));
        } else {
            if (!computeBridge().checkResult(job.requestId, requestHash, outcome)) revert LilypadV0OutcomeMismatch(jobId);
            (bool success, string memory text) = _answer(job.resultType, outcome);
            _call(jobId, job, success ? _fulfilledCall(jobId, job.resultType, text) : _cancelledCall(jobId, text));
        }
    }

    /// @notice Only the bridge delivers: in v0 anyone could.
    function returnLilypadResults(address, uint256, LilypadResultType, string memory) external pure {
        revert LilypadV0NotSupported(msg.sig);
    }

    function returnLilypadError(address, uint256, string memory) external pure {
        revert LilypadV0NotSupported(msg.sig);
    }

    /// @notice The fee is fixed; another fee is another contract.
    function setLilypadFee(uint256) external pure {
        revert LilypadV0NotSupported(msg.sig);
    }

    /// @notice Fees go to the bridge's escrow when they are paid.
    function withdrawBalanceToEscrowAddress() external pure {
        revert LilypadV0NotSupported(msg.sig);
    }

    /// @notice Read NewLilypadJobSubmitted.
    function fetchAllJobs() external pure returns (LilypadJob[] memory) {
        revert LilypadV0NotSupported(msg.sig);
    }

    /// @notice Read LilypadJobResultsReturned.
    function fetchAllResults() external pure returns (LilypadJobResult[] memory) {
        revert LilypadV0NotSupported(msg.sig);
    }

    /// @notice Read NewLilypadJobSubmitted.
    function fetchJobsByAddress(address) external pure returns (LilypadJob[] memory) {
        revert LilypadV0NotSupported(msg.sig);
    }

    /// @inheritdoc LilypadEventsUpgradeable
    function getLilypadFee() external view returns (uint256) {
        return _FEE;
    }

    /// @notice What is known of a job; state Unknown when there is none with this id.
    function jobOf(uint256 jobId) external view returns (Job memory) {
        return _jobs[jobId];
    }

    /// @notice The job that a request of the bridge belongs to; zero when it is none of this contract's.
    function jobOfRequest(uint256 requestId) external view returns (uint256 jobId) {
        return _jobOfRequest[requestId];
    }

    function _run(address from, string memory spec, uint8 resultType) private returns (uint256 jobId) {
        if (msg.value < _FEE || msg.value > type(uint96).max) {
            revert LilypadV0WrongFee(msg.value, _FEE, type(uint96).max);
        }
        uint256 requestId = _request(_order(bytes(spec), resultType, msg.value), msg.value);
        jobId = ++_jobCount;
        // The bridge has refused result types that v0 does not have.
        LilypadResultType kind = LilypadResultType(resultType);
        _jobs[jobId] = Job(msg.sender, uint96(msg.value), from, uint64(requestId), kind, JobState.Open, false);
        _jobOfRequest[requestId] = jobId;
        emit NewLilypadJobSubmitted(LilypadJob(from, jobId, spec, kind));
        emit LilypadEscrowPaid(address(computeBridge()), msg.value);
    }

    /// @dev Refunds are booked before the caller is called, and pushed after it from what is at hand: the bridge pays out
    ///      nothing during a callback, and what was not at hand stays a credit.
    function _onResult(uint256 id, bytes32, IComputeBridge.Outcome calldata outcome) internal override {
        uint256 jobId = _jobOfRequest[id];
        Job storage job = _jobs[jobId];
        (bool success, string memory text) = _answer(job.resultType, outcome);
        job.state = success ? JobState.Fulfilled : JobState.Cancelled;
        _book(job.payer, jobId, _returned(outcome.status, 1, job.paid - _DELIVERY_FEE, _FAIL_PRICE));
        _announce(jobId, job, success, text);
        _call(jobId, job, success ? _fulfilledCall(jobId, job.resultType, text) : _cancelledCall(jobId, text));
        _push(job.payer, false);
    }

    /// @dev A quarter of the gas stays here, so that whatever the caller does with the rest its outcome can be recorded.
    function _call(uint256 jobId, Job storage job, bytes memory data) private {
        job.undelivered = false;
        uint256 gasLimit = gasleft() - gasleft() / 4;
        (bool success, bytes memory returned) = BoundedCall.tryCall(job.requestor, gasLimit, 0, data, _MAX_RETURN_BYTES);
        if (!success) job.undelivered = true;
        emit CallerCalled(jobId, job.requestor, success, returned);
    }

    function _announce(uint256 jobId, Job storage job, bool success, string memory text) private {
        emit LilypadJobResultsReturned(LilypadJobResult(job.requestor, jobId, success, text, job.resultType));
    }

    function _callbackGas() internal view override returns (uint64) {
        return _CALLBACK_GAS;
    }

    function _order(bytes memory spec, uint8 resultType, uint256 paid)
        private
        view
        returns (IComputeBridge.Order memory order)
    {
        order = _newOrder(spec, _CURATOR, uint128(paid - _DELIVERY_FEE));
        order.dialect = _DIALECT_V1BETA;
        order.resultKind = resultType;
        order.ttl = _TTL;
        order.failPrice = _FAIL_PRICE;
        order.deliveryFee = _DELIVERY_FEE;
    }

    function _checkGas() private view {
        if (gasleft() < _CALLBACK_GAS) revert LilypadV0InsufficientGas(gasleft(), _CALLBACK_GAS);
    }

    /// @dev Whether the caller gets a result, and the text that it gets. Who asked for the exit code gets it, zero or not.
    function _answer(LilypadResultType kind, IComputeBridge.Outcome calldata outcome)
        private
        pure
        returns (bool success, string memory text)
    {
        uint8 status = outcome.status;
        bool exited = kind == LilypadResultType.ExitCode && status == _FAILED && outcome.payload.length != 0;
        if (status == _SUCCEEDED || exited) {
            bool isCid = kind == LilypadResultType.CID;
            return (true, isCid ? ResultText.cidText(outcome.outputCid) : string(outcome.payload));
        }
        string memory word = status == _FAILED ? "failed" : status == _REFUSED ? "refused" : "withheld";
        return (false, string.concat(word, ", reason ", Strings.toString(outcome.reason)));
    }

    function _fulfilledCall(uint256 jobId, LilypadResultType kind, string memory text) private view returns (bytes memory) {
        return abi.encodeCall(LilypadCallerInterface.lilypadFulfilled, (address(this), jobId, kind, text));
    }

    function _cancelledCall(uint256 jobId, string memory text) private view returns (bytes memory) {
        return abi.encodeCall(LilypadCallerInterface.lilypadCancelled, (address(this), jobId, text));
    }
}
