// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title IComputeBridge
/// @notice Everything that is on the wire between a dApp, the chain and the compute nodes. The same shapes stand in
///         Python in `executor/protocol/wire.py`; shared vectors keep the two equal.
interface IComputeBridge {
    /// @notice What a requester orders. Calldata and event only: the contract stores its hash.
    /// @param version      1
    /// @param dialect      1 insula/v1, 2 Bacalhau V1beta, 3 Bacalhau 1.x, 4 Lilypad module
    /// @param specIsCid    true: `spec` is a binary CIDv1 of the job spec; false: `spec` is the job spec itself
    /// @param spec         at most 16 KiB, any bytes: validated by the nodes, never by the contract
    /// @param resultKind   0 CID, 1 StdOut, 2 StdErr, 3 ExitCode
    /// @param nodes        how many nodes run the job, 1..16
    /// @param quorum       how many of them must agree byte for byte; 1 <= quorum <= nodes, 2 * quorum > nodes
    /// @param ttl          seconds until the request may be expired; within [minTtl, maxTtl]
    /// @param callback     contract that is called back with the outcome; zero for none
    /// @param callbackGas  gas for the callback
    /// @param curator      whose word makes a label count; zero takes each node's own word (unsafe for money)
    /// @param labels       keccak256("key=value"), at most 8, sorted, unique; empty with a curator: "node=admitted"
    /// @param token        zero for the native token, else an ERC-20 whose transfers move exactly the amount
    /// @param unitPrice    paid to each attesting node's operator when the job succeeded
    /// @param failPrice    paid to each attesting node's operator when the job ran and failed; <= unitPrice
    /// @param deliveryFee  paid to the relayer that the first attestation names
    struct Order {
        uint8 version;
        uint8 dialect;
        bool specIsCid;
        bytes spec;
        uint8 resultKind;
        uint8 nodes;
        uint8 quorum;
        uint32 ttl;
        address callback;
        uint64 callbackGas;
        address curator;
        bytes32[] labels;
        address token;
        uint128 unitPrice;
        uint128 failPrice;
        uint128 deliveryFee;
    }

    /// @notice What a quorum of nodes agrees on, byte for byte.
    /// @param status    1 Succeeded, 2 Failed, 3 Refused (can never run), 4 Withheld (release rejected)
    /// @param reason    a reason code of docs/spec.md; 0 when there is nothing to say
    /// @param exitCode  the program's exit code; 0 unless it ran to its end
    /// @param outputCid binary CIDv1 of the released output; empty unless released
    /// @param payload   exact bytes for StdOut and StdErr (at most 8 KiB), decimal ASCII for ExitCode, else empty
    struct Outcome {
        uint8 status;
        uint16 reason;
        int32 exitCode;
        bytes outputCid;
        bytes payload;
    }

    /// @notice One node's signature over an outcome of a request. EIP-712, domain {Insula, 1, chainId, this}:
    ///         Attestation(bytes32 requestHash,bytes32 outcomeHash,bytes32 receiptHash,bytes32 logRoot,uint64 logSize,address relayer)
    /// @param receiptHash hash of the node's execution receipt
    /// @param logRoot     root of the node's append-only receipt log after this receipt
    /// @param logSize     number of entries in that log
    /// @param relayer     who earns the delivery fee
    /// @param signature   65 bytes r || s || v, low s
    struct Attestation {
        bytes32 receiptHash;
        bytes32 logRoot;
        uint64 logSize;
        address relayer;
        bytes signature;
    }

    /// @notice One entry of a batch: the arguments of `fulfil`.
    struct Delivery {
        uint256 id;
        Order order;
        Outcome outcome;
        Attestation[] attestations;
    }

    /// @notice The state of a request. Unknown: no such id.
    enum State {
        Unknown,
        Requested,
        Fulfilled,
        Failed,
        Refused,
        Withheld,
        Cancelled,
        Expired
    }

    /// @notice Emitted when a request is accepted and its price is escrowed.
    event JobRequested(
        uint256 indexed id, bytes32 indexed requestHash, address indexed requester, uint64 deadline, Order order
    );
    /// @notice Emitted when a quorum's outcome is accepted; `state` is Fulfilled, Failed, Refused or Withheld.
    event JobSettled(
        uint256 indexed id,
        bytes32 indexed requestHash,
        State indexed state,
        bytes32 outcomeHash,
        address relayer,
        Outcome outcome
    );
    /// @notice Emitted for each signature that counted, in the order given. `paid` is what the operator was credited.
    event Attested(
        uint256 indexed id,
        uint256 indexed nodeId,
        address indexed key,
        bytes32 receiptHash,
        bytes32 logRoot,
        uint64 logSize,
        uint256 paid
    );
    /// @notice Emitted when anyone expires a request after its deadline; the whole price went back to the requester.
    event JobExpired(uint256 indexed id, bytes32 indexed requestHash, uint256 refund);
    /// @notice Emitted when the requester marks a request; a result still wins until `refundableAt`.
    event JobCancelRequested(uint256 indexed id, bytes32 indexed requestHash, uint64 refundableAt);
    /// @notice Emitted when a marked request's refund is drawn.
    event JobCancelled(uint256 indexed id, bytes32 indexed requestHash, uint256 refund);
    /// @notice Emitted after a callback: `success` is false when it reverted or ran out of its gas; `returnData` is bounded.
    event CallbackResult(uint256 indexed id, address indexed callback, bool success, bytes returnData);
    /// @notice Emitted for an entry of a batch that was not delivered; `reason` is the error that `fulfil` would have
    ///         reverted with, ABI-encoded, at most 100 bytes.
    event DeliverySkipped(uint256 indexed id, bytes reason);
    /// @notice Emitted for each amount that became withdrawable, but for what a node's operator earns: that is `Attested`.
    event Credited(address indexed account, address indexed token, uint256 amount);
    /// @notice Emitted when an account draws its credit.
    event Withdrawn(address indexed account, address indexed token, address to, uint256 amount);

    error ComputeBridgeInvalidOrder(string field);
    error ComputeBridgeWrongPayment(uint256 sent, uint256 expected);
    error ComputeBridgeUnknownRequest(uint256 id);
    error ComputeBridgeOrderMismatch(uint256 id, bytes32 expected, bytes32 actual);
    error ComputeBridgeUnexpectedState(uint256 id, State state);
    error ComputeBridgeOutcomeConflict(uint256 id, bytes32 settled, bytes32 offered);
    error ComputeBridgeInvalidOutcome(string field);
    error ComputeBridgeDeadlinePassed(uint256 id, uint64 deadline);
    error ComputeBridgeDeadlineNotPassed(uint256 id, uint64 deadline);
    error ComputeBridgeTooFewAttestations(uint256 given, uint256 required);
    error ComputeBridgeTooManyAttestations(uint256 given, uint256 allowed);
    error ComputeBridgeUnknownSigner(uint256 index, address signer);
    error ComputeBridgeDuplicateOperator(uint256 index, address operator);
    error ComputeBridgeMissingLabels(uint256 index, uint256 nodeId);
    error ComputeBridgeTooManyDeliveries(uint256 given, uint256 allowed);
    error ComputeBridgeNotRequester(uint256 id, address caller);
    error ComputeBridgeAlreadyMarked(uint256 id);
    error ComputeBridgeNotMarked(uint256 id);
    error ComputeBridgeCancelPending(uint256 id, uint64 refundableAt);
    error ComputeBridgeInsufficientCallbackGas(uint256 available, uint256 required);
    error ComputeBridgeCallbackNotRetryable(uint256 id);
    error ComputeBridgeNothingToWithdraw(address account, address token);
    error ComputeBridgeTransferFailed(address to, uint256 amount);
    /// @notice A token moved the bridge's balance by another amount than it was asked to.
    error ComputeBridgeInexactTransfer(address token, uint256 moved, uint256 expected);

    /// @notice Orders a job and takes `quote(order)`: `msg.value` must equal it for the native token, and be zero for an
    ///         ERC-20, of which exactly that much is taken from the caller, who has approved it.
    function requestJob(Order calldata order) external payable returns (uint256 id);
    /// @notice Price of an order: nodes * unitPrice + deliveryFee. Reverts as `requestJob` would.
    function quote(Order calldata order) external view returns (uint256 price);
    /// @notice Settles a request with at least `quorum` and at most `nodes` attestations of distinct operators' nodes.
    ///         The same outcome again is a no-op; another one reverts. Anyone may call it until the deadline.
    function fulfil(uint256 id, Order calldata order, Outcome calldata outcome, Attestation[] calldata attestations)
        external;
    /// @notice Settles up to MAX_DELIVERIES (64) requests, one after the other, each as `fulfil` would. An entry that `fulfil`
    ///         would refuse is reported by `DeliverySkipped` and changes nothing; the others go on. The same outcome
    ///         again counts as delivered. Too little gas for an entry's callback reverts the whole call.
    /// @return delivered for each entry, whether its request holds its outcome now
    function fulfilMany(Delivery[] calldata deliveries) external returns (bool[] memory delivered);
    /// @notice Refunds a request after its deadline. Anyone may call it.
    function expire(uint256 id, Order calldata order) external;
    /// @notice Marks a request for cancellation; requester only.
    function cancel(uint256 id, Order calldata order) external;
    /// @notice Draws a marked request's refund once CANCEL_DELAY has gone by. Anyone may call it.
    function drawCancelled(uint256 id, Order calldata order) external;
    /// @notice Calls the dApp back once more after a callback that failed. Anyone may call it.
    function retryCallback(uint256 id, Order calldata order, Outcome calldata outcome) external;
    /// @notice Sends the caller's whole credit of `token` to `to`. What a token does can stop this for that token alone.
    function withdraw(address token, address payable to) external;

    /// @notice The number of requests so far; ids run from 1 to this.
    function requestCount() external view returns (uint256);
    /// @notice The request hash while the request is open, else zero.
    function requestHash(uint256 id) external view returns (bytes32);
    /// @notice The state, and keccak256(abi.encode(requestHash, outcomeHash)) once an outcome is settled, else zero.
    function resultOf(uint256 id) external view returns (State state, bytes32 digest);
    /// @notice Requester, deadline (seconds since 1970), state, cancel mark (0, or when it was marked), callback failed.
    function requestOf(uint256 id)
        external
        view
        returns (address requester, uint64 deadline, State state, uint64 cancelMarkedAt, bool callbackFailed);
    /// @notice Whether `outcome` is what request `id`, whose request hash is `hash`, was settled with.
    function checkResult(uint256 id, bytes32 hash, Outcome calldata outcome) external view returns (bool);
    /// @notice What `account` can withdraw.
    function creditOf(address account, address token) external view returns (uint256);
    /// @notice What the contract owes of `token`: open escrow plus credits.
    function owed(address token) external view returns (uint256);
    /// @notice The registry whose nodes can attest.
    function registry() external view returns (address);
    /// @notice Smallest and largest ttl, and the cancel delay, in seconds.
    function bounds() external view returns (uint32 minTtl, uint32 maxTtl, uint32 cancelDelay);
}

/// @title IComputeCallback
/// @notice What a dApp implements to be called back.
interface IComputeCallback {
    /// @notice Called once per settled request with its outcome; check `msg.sender`.
    function onJobResult(uint256 id, bytes32 requestHash, IComputeBridge.Outcome calldata outcome) external;
}
