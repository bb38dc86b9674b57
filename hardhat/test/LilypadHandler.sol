// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

// An act that is refused is nothing.
// solhint-disable no-empty-blocks, avoid-low-level-calls

import {IComputeBridge} from "../contracts/interfaces/IComputeBridge.sol";
import {LilypadResultType} from "../contracts/lilypad/LilypadCallerInterface.sol";
import {LilypadV0} from "../contracts/lilypad/LilypadV0.sol";
import {ForcedEther} from "../contracts/mocks/ForcedEther.sol";
import {LilypadWitness} from "./LilypadWitness.sol";
import {NodesStage} from "./NodesStage.sol";
import {Stage} from "./Stage.sol";
import {vm} from "./Vm.sol";

/// @notice Whoever acts on LilypadV0: requesters, relayers, attackers. As in Handler, an act that is refused is nothing, and one that
///         should have been is kept in `broken`. Payers spend on nothing but jobs, so that what a payer has is what he was paid.
contract LilypadHandler is NodesStage {
    uint256 private constant _PAYERS = 5;
    uint96 private constant _FEE = 30_000;
    uint96 private constant _DELIVERY_FEE = 4_000;
    uint96 private constant _FAIL_PRICE = 10_000;
    uint32 private constant _TTL = 30_000;
    uint64 private constant _CALLBACK_GAS = 1_500_000;
    uint256 private constant _DELIVERY_GAS = 4_000_000;

    /// @param ended the state in which it ended; Open until then
    struct Run {
        address payer;
        address requestor;
        uint96 paid;
        uint8 kind;
        uint256 requestId;
        bytes32 hash;
        LilypadV0.JobState ended;
        IComputeBridge.Outcome outcome;
    }

    LilypadV0 public immutable LILYPAD;
    LilypadWitness[2] private _witnesses;

    /// @notice What lies in LilypadV0 and is owed to nobody: forced in, or a delivery fee that no relayer earned.
    uint256 public unowed;
    /// @notice What the bridge gave back for jobs that nobody closed yet.
    uint256 public unbooked;
    uint256 public returned;
    uint256 public cancelled;
    uint256 public pushed;
    Run[] private _runs;
    mapping(address payer => uint256 amount) private _booked;

    constructor() {
        LilypadV0.Terms memory terms = LilypadV0.Terms(_FEE, _DELIVERY_FEE, _FAIL_PRICE, _TTL, _CALLBACK_GAS, 100_000);
        LILYPAD = new LilypadV0(address(BRIDGE), _CURATOR, terms);
        _witnesses = [new LilypadWitness(), new LilypadWitness()];
    }

    // -- requesters ------------------------------------------------------------------------------------------------

    function run(uint256 who, uint256 whom, uint32 beyond, uint8 kind) external {
        vm.warp(_now);
        address payer = _payer(who);
        uint256 value = uint256(_FEE) - 1 + beyond % 50_000;
        vm.deal(payer, payer.balance + value);
        if (who % _PAYERS < 2) {
            try LilypadWitness(payable(payer)).run(LILYPAD, "{}", kind % 5, value) returns (uint256 jobId) {
                _placed(jobId, payer, payer, value, kind % 5);
                return;
            } catch {}
        } else {
            address requestor = _payer(whom);
            vm.prank(payer);
            try LILYPAD.runLilypadJob{value: value}(requestor, "{}", kind % 5) returns (uint256 jobId) {
                _placed(jobId, payer, requestor, value, kind % 5);
                return;
            } catch {}
        }
        _hold(value < _FEE || kind % 5 == 4, "whoever pays the fee has a job");
        vm.deal(payer, payer.balance - value);
    }

    function cancel(uint256 which, uint256 who) external {
        if (_runs.length == 0) return;
        vm.warp(_now);
        uint256 jobId = _pick(which);
        address caller = who % 3 == 0 ? _payer(who >> 8) : _runs[jobId - 1].payer;
        vm.prank(caller);
        try LILYPAD.cancelJob(jobId, _order(jobId)) {
            _hold(caller == _runs[jobId - 1].payer, "only who paid cancels");
        } catch {}
    }

    // -- relayers and anyone ---------------------------------------------------------------------------------------

    /// @param trick 0: signed by a stranger's key; 1: no relayer is named; else an honest delivery
    function deliver(uint256 which, uint256 kind, uint8 trick, uint8 modes) external {
        if (_runs.length == 0) return;
        vm.warp(_now);
        uint256 jobId = _pick(which);
        Run storage r = _runs[jobId - 1];
        IComputeBridge.Outcome memory outcome = _outcome(kind, r.kind);
        IComputeBridge.Attestation[] memory attestations = new IComputeBridge.Attestation[](1);
        address relayer = trick % 8 == 1 ? address(0) : Stage.actor(7);
        attestations[0] = IComputeBridge.Attestation(0, 0, 1, relayer, "");
        uint256 key = trick % 8 == 0 ? 1234 : _keyOf[1];
        attestations[0].signature = _signAttestation(key, r.hash, keccak256(abi.encode(outcome)), attestations[0]);
        bool wasOpen = BRIDGE.requestHash(r.requestId) != 0;
        _setModes(modes);
        try BRIDGE.fulfil{gas: _DELIVERY_GAS}(r.requestId, _order(jobId), outcome, attestations) {} catch {}
        if (!wasOpen || BRIDGE.requestHash(r.requestId) != 0) return;
        _hold(trick % 8 != 0, "a stranger delivers nothing");
        (,,,, bool callbackFailed) = BRIDGE.requestOf(r.requestId);
        _hold(!callbackFailed, "whatever a caller does, its outcome is recorded");
        if (relayer == address(0)) unowed += _DELIVERY_FEE;
        r.outcome = outcome;
        bool exited = outcome.status == 2 && r.kind == 3 && outcome.payload.length != 0;
        _end(r, outcome.status == 1 || exited ? LilypadV0.JobState.Fulfilled : LilypadV0.JobState.Cancelled);
        if (outcome.status == 2) _booked[r.payer] += r.paid - _DELIVERY_FEE - _FAIL_PRICE;
        if (outcome.status > 2) _booked[r.payer] += r.paid - _DELIVERY_FEE;
    }

    function endAtTheBridge(uint256 which) external {
        if (_runs.length == 0) return;
        vm.warp(_now);
        uint256 jobId = _pick(which);
        uint256 requestId = _runs[jobId - 1].requestId;
        if (BRIDGE.requestHash(requestId) == 0) return;
        try BRIDGE.expire(requestId, _order(jobId)) {} catch {}
        try BRIDGE.drawCancelled(requestId, _order(jobId)) {} catch {}
        if (BRIDGE.requestHash(requestId) == 0) unbooked += _runs[jobId - 1].paid;
    }

    function close(uint256 which, uint8 modes, bool withLittleGas) external {
        if (_runs.length == 0) return;
        uint256 jobId = _pick(which);
        Run storage r = _runs[jobId - 1];
        (IComputeBridge.State state,) = BRIDGE.resultOf(r.requestId);
        _setModes(modes);
        try LILYPAD.closeJob{gas: withLittleGas ? _CALLBACK_GAS : _DELIVERY_GAS}(jobId) {
            bool refundable = state == IComputeBridge.State.Expired || state == IComputeBridge.State.Cancelled;
            _hold(refundable && !withLittleGas, "only what ended without an answer is closed");
            _hold(r.ended == LilypadV0.JobState.Open, "a job ends once");
            _end(r, LilypadV0.JobState.Cancelled);
            _booked[r.payer] += r.paid;
            unbooked -= r.paid;
        } catch {}
    }

    function retry(uint256 which, bool forged, uint8 modes) external {
        if (_runs.length == 0) return;
        uint256 jobId = _pick(which);
        Run storage r = _runs[jobId - 1];
        LilypadV0.Job memory job = LILYPAD.jobOf(jobId);
        (IComputeBridge.State state,) = BRIDGE.resultOf(r.requestId);
        IComputeBridge.Outcome memory outcome = r.outcome;
        if (forged) outcome.reason += 1;
        _setModes(modes);
        try LILYPAD.retryCaller{gas: _DELIVERY_GAS}(jobId, r.hash, outcome) {
            _hold(job.undelivered, "only what a caller missed is repeated");
            _hold(!forged || uint8(state) > uint8(IComputeBridge.State.Withheld), "no caller is told a forged outcome");
        } catch {}
    }

    function push(uint256 who) external {
        address payer = _payer(who);
        (uint256 before, uint256 owed) = (payer.balance, LILYPAD.refundOf(payer));
        try LILYPAD.pushRefund(payer) returns (bool success) {
            _hold(owed != 0, "nothing is pushed where nothing is owed");
            _hold(payer.balance - before == (success ? owed : 0), "a push is the whole refund, or nothing");
            if (success) ++pushed;
        } catch {}
    }

    // -- attackers -------------------------------------------------------------------------------------------------

    function force(uint32 amount) external {
        vm.deal(address(this), amount);
        new ForcedEther{value: amount}(payable(address(LILYPAD)));
        unowed += amount;
    }

    /// @notice A result of the attacker's own making, money that nobody asked for, and v0's own way to deliver.
    function intrude(uint256 which, uint256 kind, uint32 amount) external {
        if (_runs.length == 0) return;
        uint256 jobId = _pick(which);
        IComputeBridge.Outcome memory outcome = _outcome(kind, _runs[jobId - 1].kind);
        bytes32 hash = _runs[jobId - 1].hash;
        try LILYPAD.onJobResult(_runs[jobId - 1].requestId, hash, outcome) {
            _hold(false, "the bridge alone brings results");
        } catch {}
        try LILYPAD.returnLilypadResults(_runs[jobId - 1].requestor, jobId, LilypadResultType.StdOut, "forged") {
            _hold(false, "nobody brings results in v0's way");
        } catch {}
        vm.deal(address(this), amount);
        (bool success,) = address(LILYPAD).call{value: amount}("");
        _hold(!success, "no money comes in but the bridge's");
    }

    /// @notice What a witness calls when it is told or paid: everything that could pay it twice.
    function reenter(uint256 who, uint256 which, uint8 kind) external {
        if (_runs.length == 0) return;
        LilypadWitness witness = _witnesses[who % 2];
        uint256 jobId = _pick(which);
        bytes memory data = kind % 3 == 0
            ? abi.encodeCall(LILYPAD.pushRefund, (address(witness)))
            : kind % 3 == 1
                ? abi.encodeCall(LILYPAD.closeJob, (jobId))
                : abi.encodeCall(LILYPAD.retryCaller, (jobId, _runs[jobId - 1].hash, _runs[jobId - 1].outcome));
        // closeJob from inside would end a job behind the handler's back: it is offered jobs that have ended.
        if (kind % 3 == 1 && _runs[jobId - 1].ended == LilypadV0.JobState.Open) return;
        witness.setCall(address(LILYPAD), data);
    }

    // -- what is true at every moment ------------------------------------------------------------------------------

    /// @notice What is owed is there; each refund was booked once and is paid once, or still owed; each job ended as it ended.
    function audit() external {
        uint256 held = address(LILYPAD).balance + BRIDGE.creditOf(address(LILYPAD), address(0));
        _hold(held == LILYPAD.owedRefunds() + unbooked + unowed, "held is owed");
        uint256 owed;
        for (uint256 i = 0; i < _PAYERS; ++i) {
            address payer = _payer(i);
            owed += LILYPAD.refundOf(payer);
            _hold(payer.balance + LILYPAD.refundOf(payer) == _booked[payer], "a refund is paid once, or owed");
        }
        _hold(LILYPAD.owedRefunds() == owed, "owed: what each payer is owed");
        for (uint256 jobId = 1; jobId <= _runs.length; ++jobId) _auditJob(jobId);
    }

    function _auditJob(uint256 jobId) private {
        Run storage r = _runs[jobId - 1];
        LilypadV0.Job memory job = LILYPAD.jobOf(jobId);
        _hold(job.state == r.ended, "a job ends once, and stays as it ended");
        _hold(job.payer == r.payer && job.paid == r.paid, "who paid what never changes");
        if (r.requestor != address(_witnesses[0]) && r.requestor != address(_witnesses[1])) return;
        LilypadWitness witness = LilypadWitness(payable(r.requestor));
        (uint256 asFulfilled, uint256 asCancelled) = (witness.fulfilled(jobId), witness.cancelled(jobId));
        bool ended = r.ended != LilypadV0.JobState.Open;
        _hold(asFulfilled + asCancelled == (ended && !job.undelivered ? 1 : 0), "a caller is told once");
        _hold(asFulfilled == 0 || r.ended == LilypadV0.JobState.Fulfilled, "a result is of a job that was fulfilled");
        _hold(asCancelled == 0 || r.ended == LilypadV0.JobState.Cancelled, "a cancellation is of a job that was cancelled");
    }

    function _placed(uint256 jobId, address payer, address requestor, uint256 value, uint8 kind) private {
        _hold(jobId == _runs.length + 1, "ids from 1, without gaps");
        _hold(value >= _FEE, "no job for less than the fee");
        uint256 requestId = LILYPAD.jobOf(jobId).requestId;
        Run storage r = _runs.push();
        (r.payer, r.requestor, r.paid, r.kind, r.requestId) = (payer, requestor, uint96(value), kind, requestId);
        (r.hash, r.ended) = (BRIDGE.requestHash(requestId), LilypadV0.JobState.Open);
    }

    function _end(Run storage r, LilypadV0.JobState state) private {
        _hold(r.ended == LilypadV0.JobState.Open, "a job ends once");
        r.ended = state;
        if (state == LilypadV0.JobState.Fulfilled) ++returned;
        else ++cancelled;
    }

    function _setModes(uint8 modes) private {
        for (uint256 i = 0; i < 2; ++i) {
            _witnesses[i].setModes(LilypadWitness.Mode((modes >> (4 * i)) % 4), LilypadWitness.Mode((modes >> (4 * i + 2)) % 4));
        }
    }

    /// @dev 0 and 1: the witnesses; the others are accounts.
    function _payer(uint256 which) private view returns (address) {
        uint256 index = which % _PAYERS;
        return index < 2 ? address(_witnesses[index]) : Stage.actor(10 + index);
    }

    function _pick(uint256 which) private view returns (uint256) {
        // Mostly one of the newest: an open one.
        uint256 count = _runs.length;
        uint256 recent = count > 4 && which % 8 != 0 ? 4 : count;
        return count - (which >> 8) % recent;
    }

    function _order(uint256 jobId) private view returns (IComputeBridge.Order memory order) {
        Run storage r = _runs[jobId - 1];
        (order.version, order.dialect, order.resultKind, order.nodes, order.quorum) = (1, 2, r.kind, 1, 1);
        (order.spec, order.ttl) = ("{}", _TTL);
        (order.callback, order.callbackGas, order.curator) = (address(LILYPAD), _CALLBACK_GAS, _CURATOR);
        (order.unitPrice, order.failPrice, order.deliveryFee) = (r.paid - _DELIVERY_FEE, _FAIL_PRICE, _DELIVERY_FEE);
    }

    function _outcome(uint256 kind, uint8 resultKind) private pure returns (IComputeBridge.Outcome memory made) {
        made = Stage.outcome(kind);
        if (made.status > 2) return made;
        if (resultKind == 0) made.outputCid = hex"01551220";
        else if ((kind >> 16) % 4 != 0) made.payload = "42";
    }
}
