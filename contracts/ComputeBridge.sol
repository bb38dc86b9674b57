// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

import {IComputeBridge, IComputeCallback} from "./interfaces/IComputeBridge.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {AttestationHash} from "./libraries/AttestationHash.sol";
import {BoundedCall} from "./libraries/BoundedCall.sol";
import {EncodeOnce} from "./libraries/EncodeOnce.sol";
import {ExactToken} from "./libraries/ExactToken.sol";
import {Quorum} from "./libraries/Quorum.sol";
import {WireRules} from "./libraries/WireRules.sol";

/// @title ComputeBridge
/// @notice Escrows the price of a job, settles it on the word of a quorum of registered nodes, calls the dApp back.
/// @dev Two slots a request. Orders and outcomes live in events only: callers bring them again, and they are checked
///      against the stored hash. No path of the owner leads to the escrow; pausing stops new requests and nothing else.
///      A token is called where its own money moves, in `requestJob` and `withdraw`, and nowhere else; while one is
///      called, nothing but the views is open.
contract ComputeBridge is IComputeBridge, EIP712, Ownable2Step, Pausable, ReentrancyGuardTransient {
    /// @param hash           while open the request hash, once an outcome is settled keccak256(abi.encode(requestHash,
    ///                       outcomeHash)), after expiry or cancellation zero
    /// @param deadline       seconds since 1970; the last second in which a result is accepted
    /// @param cancelMarkedAt seconds since 1970; zero when not marked
    struct Request {
        bytes32 hash;
        address requester;
        uint40 deadline;
        State state;
        uint40 cancelMarkedAt;
        bool callbackFailed;
    }

    /// @dev Delivery fees of one relayer that are not booked yet: a batch books those of neighbours at once, and always
    ///      before it calls anybody.
    struct Fees {
        address relayer;
        address token;
        uint256 amount;
    }

    bytes32 public constant ATTESTATION_TYPEHASH = AttestationHash.TYPEHASH;
    /// @notice Gas kept back for what follows a callback: the failure flag, an event with 256 bytes, the guard.
    uint256 public constant CALLBACK_RESERVE = 50_000;
    uint256 public constant MAX_RETURN_BYTES = 256;
    uint256 public constant MAX_DELIVERIES = 64;
    /// @notice Seconds between the latest deadline of a request and the release of stake that answers for it.
    uint256 public constant PROOF_TIME = 7 days;

    /// @dev The upper 12 bytes of a masked ID address of FEVM, a second address of one and the same actor.
    uint256 private constant _MASKED_ID_PREFIX = 0xff0000000000000000000000;

    address private immutable _REGISTRY;
    uint32 private immutable _MIN_TTL;
    uint32 private immutable _MAX_TTL;
    uint32 private immutable _CANCEL_DELAY;

    /// @dev In one slot with what pausing reads: every request needs both.
    uint64 private _requestCount;
    bool private transient _isCallingToken;
    mapping(uint256 id => Request request) private _requests;
    mapping(address account => mapping(address token => uint256 amount)) private _credits;
    mapping(address token => uint256 amount) private _owed;

    error ComputeBridgeInvalidParameter(string name);

    /// @param registry_    the NodeRegistry whose nodes can attest
    /// @param minTtl       seconds, at least 1
    /// @param maxTtl       seconds, at least `minTtl`
    /// @param cancelDelay  seconds between a cancellation's mark and its refund
    /// @param owner        can pause new requests, nothing else
    constructor(address registry_, uint32 minTtl, uint32 maxTtl, uint32 cancelDelay, address owner)
        EIP712("Insula", "1")
        Ownable(owner)
    {
        if (registry_.code.length == 0) revert ComputeBridgeInvalidParameter("registry");
        if (minTtl == 0) revert ComputeBridgeInvalidParameter("minTtl");
        if (maxTtl < minTtl) revert ComputeBridgeInvalidParameter("maxTtl");
        // Stake that begins to unbond answers for every request made before, for long enough to prove a contradiction.
        if (INodeRegistry(registry_).unbonding() < uint256(maxTtl) + PROOF_TIME) {
            revert ComputeBridgeInvalidParameter("maxTtl");
        }
        _REGISTRY = registry_;
        _MIN_TTL = minTtl;
        _MAX_TTL = maxTtl;
        _CANCEL_DELAY = cancelDelay;
    }

    /// @inheritdoc IComputeBridge
    /// @dev Open from inside callbacks, which may order the next step of a pipeline, and so not `nonReentrant`: all state is
    ///      final when a callback runs. A token's price comes in before anything of the request is written, and while the
    ///      token runs nothing else is open: ids follow each other, and the balance is never less than what is owed.
    function requestJob(Order calldata order) external payable returns (uint256 id) {
        if (_isCallingToken) revert ReentrancyGuardReentrantCall();
        uint256 price = quote(order);
        uint256 due = order.token == address(0) ? price : 0;
        if (msg.value != due) revert ComputeBridgeWrongPayment(msg.value, due);
        if (price != due) {
            // Inside a callback everything else is shut already.
            if (_reentrancyGuardEntered()) _pull(order.token, price);
            else _shutAndPull(order.token, price);
        }
        id = ++_requestCount;
        uint40 deadline = uint40(block.timestamp + order.ttl);
        bytes memory encoded = abi.encode(deadline, order);
        bytes32 hash = _hashOf(id, msg.sender, EncodeOnce.structHash(encoded, 1));
        _requests[id] = Request(hash, msg.sender, deadline, State.Requested, 0, false);
        _owed[order.token] += price;
        // JobRequested(id, hash, msg.sender, deadline, order)
        EncodeOnce.log(encoded, JobRequested.selector, bytes32(id), hash, bytes32(uint256(uint160(msg.sender))));
    }

    /// @inheritdoc IComputeBridge
    function fulfil(uint256 id, Order calldata order, Outcome calldata outcome, Attestation[] calldata attestations)
        external
        nonReentrant
    {
        Fees memory fees;
        bytes memory refusal = _settle(id, order, outcome, attestations, fees);
        if (refusal.length != 0) BoundedCall.revertWith(refusal);
        _book(fees);
    }

    /// @inheritdoc IComputeBridge
    function fulfilMany(Delivery[] calldata deliveries) external nonReentrant returns (bool[] memory delivered) {
        uint256 count = deliveries.length;
        if (count > MAX_DELIVERIES) revert ComputeBridgeTooManyDeliveries(count, MAX_DELIVERIES);
        delivered = new bool[](count);
        Fees memory fees;
        for (uint256 i = 0; i < count; ++i) {
            uint256 freeMemory = BoundedCall.freeMemory();
            Delivery calldata d = deliveries[i];
            bytes memory refusal = _settle(d.id, d.order, d.outcome, d.attestations, fees);
            delivered[i] = refusal.length == 0;
            if (refusal.length != 0) emit DeliverySkipped(d.id, refusal);
            // Nothing of an entry is needed after it, and memory is dearer the more of it there is.
            BoundedCall.releaseMemory(freeMemory);
        }
        _book(fees);
    }

    /// @inheritdoc IComputeBridge
    function expire(uint256 id, Order calldata order) external nonReentrant {
        (Request storage request, bytes32 hash) = _open(id, order);
        if (block.timestamp <= request.deadline) revert ComputeBridgeDeadlineNotPassed(id, request.deadline);
        uint256 refund = _close(request, State.Expired, order);
        emit JobExpired(id, hash, refund);
        _credit(request.requester, order.token, refund);
    }

    /// @inheritdoc IComputeBridge
    function cancel(uint256 id, Order calldata order) external nonReentrant {
        (Request storage request, bytes32 hash) = _open(id, order);
        if (msg.sender != request.requester) revert ComputeBridgeNotRequester(id, msg.sender);
        if (request.cancelMarkedAt != 0) revert ComputeBridgeAlreadyMarked(id);
        if (block.timestamp > request.deadline) revert ComputeBridgeDeadlinePassed(id, request.deadline);
        request.cancelMarkedAt = uint40(block.timestamp);
        emit JobCancelRequested(id, hash, _refundableAt(request));
    }

    /// @inheritdoc IComputeBridge
    function drawCancelled(uint256 id, Order calldata order) external nonReentrant {
        (Request storage request, bytes32 hash) = _open(id, order);
        if (request.cancelMarkedAt == 0) revert ComputeBridgeNotMarked(id);
        uint64 refundableAt = _refundableAt(request);
        if (block.timestamp < refundableAt) revert ComputeBridgeCancelPending(id, refundableAt);
        uint256 refund = _close(request, State.Cancelled, order);
        emit JobCancelled(id, hash, refund);
        _credit(request.requester, order.token, refund);
    }

    /// @inheritdoc IComputeBridge
    /// @dev The callback gets all the gas that the caller brings, never less than the order's: a callback that failed
    ///      for want of gas can succeed, and nobody can make it fail by bringing little.
    function retryCallback(uint256 id, Order calldata order, Outcome calldata outcome) external nonReentrant {
        Request storage request = _existing(id);
        if (!request.callbackFailed) revert ComputeBridgeCallbackNotRetryable(id);
        bytes32 hash = _hashOf(id, request.requester, WireRules.encodedHash(order));
        bytes memory encoded = EncodeOnce.record(outcome);
        bytes32 digest = _digestOf(hash, EncodeOnce.structHash(encoded, 2));
        if (request.hash != digest) revert ComputeBridgeOutcomeConflict(id, request.hash, digest);
        _callBack(id, request, order, hash, encoded, true);
    }

    /// @inheritdoc IComputeBridge
    function withdraw(address token, address payable to) external nonReentrant {
        uint256 amount = _credits[msg.sender][token];
        if (amount == 0) revert ComputeBridgeNothingToWithdraw(msg.sender, token);
        if (to == address(0)) revert ComputeBridgeTransferFailed(to, amount);
        delete _credits[msg.sender][token];
        _owed[token] -= amount;
        emit Withdrawn(msg.sender, token, to, amount);
        if (token != address(0)) {
            _isCallingToken = true;
            ExactToken.push(token, to, amount);
            _isCallingToken = false;
            return;
        }
        (bool success,) = BoundedCall.tryCall(to, gasleft(), amount, "", 0);
        if (!success) revert ComputeBridgeTransferFailed(to, amount);
    }

    /// @notice Stops new requests. Everything that is open runs on: results, refunds, withdrawals.
    function pause() external onlyOwner {
        _pause();
    }

    /// @notice Lets new requests in again.
    function unpause() external onlyOwner {
        _unpause();
    }

    /// @inheritdoc IComputeBridge
    function requestCount() external view returns (uint256) {
        return _requestCount;
    }

    /// @inheritdoc IComputeBridge
    function requestHash(uint256 id) external view returns (bytes32) {
        Request storage request = _requests[id];
        return request.state == State.Requested ? request.hash : bytes32(0);
    }

    /// @inheritdoc IComputeBridge
    function resultOf(uint256 id) external view returns (State state, bytes32 digest) {
        Request storage request = _requests[id];
        state = request.state;
        digest = _isSettled(state) ? request.hash : bytes32(0);
    }

    /// @inheritdoc IComputeBridge
    function requestOf(uint256 id)
        external
        view
        returns (address requester, uint64 deadline, State state, uint64 cancelMarkedAt, bool callbackFailed)
    {
        Request storage r = _requests[id];
        return (r.requester, r.deadline, r.state, r.cancelMarkedAt, r.callbackFailed);
    }

    /// @inheritdoc IComputeBridge
    function checkResult(uint256 id, bytes32 hash, Outcome calldata outcome) external view returns (bool) {
        Request storage request = _requests[id];
        return _isSettled(request.state)
            && request.hash == _digestOf(hash, keccak256(abi.encode(outcome)));
    }

    /// @inheritdoc IComputeBridge
    function creditOf(address account, address token) external view returns (uint256) {
        return _credits[account][token];
    }

    /// @inheritdoc IComputeBridge
    function owed(address token) external view returns (uint256) {
        return _owed[token];
    }

    /// @inheritdoc IComputeBridge
    function registry() external view returns (address) {
        return _REGISTRY;
    }

    /// @inheritdoc IComputeBridge
    function bounds() external view returns (uint32 minTtl, uint32 maxTtl, uint32 cancelDelay) {
        return (_MIN_TTL, _MAX_TTL, _CANCEL_DELAY);
    }

    /// @inheritdoc IComputeBridge
    function quote(Order calldata order) public view whenNotPaused returns (uint256 price) {
        WireRules.checkOrder(order, _MIN_TTL, _MAX_TTL);
        if (_isOursOrMasked(order.callback)) revert ComputeBridgeInvalidOrder("callback");
        address token = order.token;
        if (token != address(0) && (_isOursOrMasked(token) || token.code.length == 0)) {
            revert ComputeBridgeInvalidOrder("token");
        }
        return WireRules.price(order);
    }

    /// @dev What `fulfil` does to one request. A refusal is given back as the error that it is, ABI-encoded, at most 100
    ///      bytes, with nothing changed: `fulfil` reverts with it, `fulfilMany` reports it. Too little gas for a callback
    ///      is no refusal: that reverts here, and takes the whole batch with it.
    function _settle(
        uint256 id,
        Order calldata order,
        Outcome calldata outcome,
        Attestation[] calldata attestations,
        Fees memory fees
    ) private returns (bytes memory refusal) {
        Request storage request = _requests[id];
        State state = request.state;
        if (state == State.Unknown) return abi.encodeWithSelector(ComputeBridgeUnknownRequest.selector, id);
        bytes32 hash = _hashOf(id, request.requester, WireRules.encodedHash(order));
        bytes memory encoded = EncodeOnce.record(outcome);
        bytes32 outcomeHash = EncodeOnce.structHash(encoded, 2);
        bytes32 digest = _digestOf(hash, outcomeHash);
        if (_isSettled(state)) {
            // The same outcome again: relayers race, and the loser's transaction is no error.
            if (request.hash == digest) return "";
            return abi.encodeWithSelector(ComputeBridgeOutcomeConflict.selector, id, request.hash, digest);
        }
        Quorum.Signer[] memory signers;
        (refusal, signers) = _judge(id, request, hash, outcomeHash, order, outcome, attestations);
        if (refusal.length != 0) return refusal;

        request.hash = digest;
        state = _settledState(outcome.status);
        request.state = state;
        // JobSettled(id, hash, state, outcomeHash, relayer, outcome)
        EncodeOnce.setHead(encoded, outcomeHash, bytes32(uint256(uint160(attestations[0].relayer))));
        EncodeOnce.log(encoded, JobSettled.selector, bytes32(id), hash, bytes32(uint256(state)));
        _pay(id, request.requester, state, order, attestations, signers, fees);
        if (order.callback != address(0)) {
            _book(fees);
            _callBack(id, request, order, hash, encoded, false);
        }
    }

    /// @dev Escrow becomes credits: what is owed in all stays the same, and the parts add up to the price.
    function _pay(
        uint256 id,
        address requester,
        State state,
        Order calldata order,
        Attestation[] calldata attestations,
        Quorum.Signer[] memory signers,
        Fees memory fees
    ) private {
        address token = order.token;
        uint256 share = state == State.Fulfilled ? order.unitPrice : state == State.Failed ? order.failPrice : 0;
        uint256 rest = WireRules.price(order) - share * signers.length;
        for (uint256 i = 0; i < signers.length; ++i) {
            Attestation calldata a = attestations[i];
            Quorum.Signer memory signer = signers[i];
            emit Attested(id, signer.nodeId, signer.key, a.receiptHash, a.logRoot, a.logSize, share);
            if (share != 0) _credits[signer.operator][token] += share;
        }
        address relayer = attestations[0].relayer;
        if (relayer != address(0)) {
            uint256 fee = order.deliveryFee;
            rest -= fee;
            if (fees.relayer != relayer || fees.token != token) {
                _book(fees);
                (fees.relayer, fees.token) = (relayer, token);
            }
            fees.amount += fee;
        }
        _credit(requester, token, rest);
    }

    function _book(Fees memory fees) private {
        uint256 amount = fees.amount;
        fees.amount = 0;
        _credit(fees.relayer, fees.token, amount);
    }

    /// @dev The last act of a settlement and of `retryCallback`: state and credits are final, and nothing the callback does,
    ///      reverting, burning its gas, returning megabytes, re-entering, changes them.
    function _callBack(
        uint256 id,
        Request storage request,
        Order calldata order,
        bytes32 hash,
        bytes memory encoded,
        bool withAllGas
    ) private {
        bool success;
        bytes memory returned;
        if (order.callback.code.length != 0) {
            // onJobResult(id, hash, outcome)
            EncodeOnce.setHead(encoded, bytes32(id), hash);
            uint256 available = _forwardableGas();
            if (available < order.callbackGas) {
                revert ComputeBridgeInsufficientCallbackGas(available, order.callbackGas);
            }
            uint256 gasLimit = withAllGas ? available : order.callbackGas;
            (success, returned) = BoundedCall.tryCallFunction(
                order.callback, gasLimit, IComputeCallback.onJobResult.selector, encoded, MAX_RETURN_BYTES
            );
            // Where a call costs more than the reserve (FEVM), EIP-150 may have cut the gas after the check above; then
            // less than a 63rd of it is left, and the failure is the caller's, not the callback's.
            if (!success && gasleft() < order.callbackGas / 63) {
                revert ComputeBridgeInsufficientCallbackGas(gasleft(), order.callbackGas);
            }
        }
        if (request.callbackFailed == success) request.callbackFailed = !success;
        emit CallbackResult(id, order.callback, success, returned);
    }

    function _shutAndPull(address token, uint256 amount) private nonReentrant {
        _pull(token, amount);
    }

    function _pull(address token, uint256 amount) private {
        _isCallingToken = true;
        ExactToken.pull(token, msg.sender, amount);
        _isCallingToken = false;
    }

    function _close(Request storage request, State state, Order calldata order) private returns (uint256 refund) {
        delete request.hash;
        request.state = state;
        return WireRules.price(order);
    }

    function _credit(address account, address token, uint256 amount) private {
        if (amount == 0) return;
        _credits[account][token] += amount;
        emit Credited(account, token, amount);
    }

    /// @dev Whether an outcome may settle an open request, and who signed it.
    function _judge(
        uint256 id,
        Request storage request,
        bytes32 hash,
        bytes32 outcomeHash,
        Order calldata order,
        Outcome calldata outcome,
        Attestation[] calldata attestations
    ) private view returns (bytes memory refusal, Quorum.Signer[] memory signers) {
        refusal = _notOpen(id, request, hash);
        if (refusal.length != 0) return (refusal, signers);
        uint40 deadline = request.deadline;
        if (block.timestamp > deadline) {
            return (Quorum.refusal(ComputeBridgeDeadlinePassed.selector, id, deadline), signers);
        }
        string memory fault = WireRules.outcomeFault(outcome, order.resultKind);
        if (bytes(fault).length != 0) {
            return (abi.encodeWithSelector(ComputeBridgeInvalidOutcome.selector, fault), signers);
        }
        return Quorum.verify(_REGISTRY, _domainSeparatorV4(), hash, outcomeHash, order, attestations);
    }

    function _open(uint256 id, Order calldata order) private view returns (Request storage request, bytes32 hash) {
        request = _existing(id);
        hash = _hashOf(id, request.requester, keccak256(abi.encode(order)));
        _checkOpen(id, request, hash);
    }

    function _existing(uint256 id) private view returns (Request storage request) {
        request = _requests[id];
        if (request.state == State.Unknown) revert ComputeBridgeUnknownRequest(id);
    }

    function _checkOpen(uint256 id, Request storage request, bytes32 hash) private view {
        bytes memory refusal = _notOpen(id, request, hash);
        if (refusal.length != 0) BoundedCall.revertWith(refusal);
    }

    function _notOpen(uint256 id, Request storage request, bytes32 hash) private view returns (bytes memory refusal) {
        if (request.state != State.Requested) {
            return Quorum.refusal(ComputeBridgeUnexpectedState.selector, id, uint256(request.state));
        }
        if (request.hash != hash) {
            return abi.encodeWithSelector(ComputeBridgeOrderMismatch.selector, id, request.hash, hash);
        }
    }

    /// @dev The request hash. No block and no time in it: a request that a reorg moves unchanged keeps its hash, and an id
    ///      that a reorg gives to another request cannot take the old result.
    function _hashOf(uint256 id, address requester, bytes32 orderHash) private view returns (bytes32) {
        return keccak256(abi.encode(block.chainid, address(this), id, requester, orderHash));
    }

    /// @dev This contract, its registry, and FEVM's second address of any actor: neither is called back nor a token.
    function _isOursOrMasked(address at) private view returns (bool) {
        return at == address(this) || at == _REGISTRY || uint160(at) >> 64 == _MASKED_ID_PREFIX;
    }

    function _refundableAt(Request storage request) private view returns (uint64) {
        return uint64(request.cancelMarkedAt) + _CANCEL_DELAY;
    }

    /// @dev EIP-150 lets a call have 63 of 64 parts of what is left.
    function _forwardableGas() private view returns (uint256) {
        uint256 forwardable = gasleft() - gasleft() / 64;
        return forwardable > CALLBACK_RESERVE ? forwardable - CALLBACK_RESERVE : 0;
    }

    function _digestOf(bytes32 hash, bytes32 outcomeHash) private pure returns (bytes32) {
        return keccak256(abi.encode(hash, outcomeHash));
    }

    function _isSettled(State state) private pure returns (bool) {
        return state >= State.Fulfilled && state <= State.Withheld;
    }

    /// @dev Statuses 1 to 4 and the states Fulfilled to Withheld stand in the same order.
    function _settledState(uint8 status) private pure returns (State) {
        return State(uint8(State.Fulfilled) + status - 1);
    }
}
