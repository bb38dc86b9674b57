// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

// An act that is refused is nothing.
// solhint-disable no-empty-blocks

import {IComputeBridge} from "../contracts/interfaces/IComputeBridge.sol";
import {INodeRegistry} from "../contracts/interfaces/INodeRegistry.sol";
import {ForcedEther} from "../contracts/mocks/ForcedEther.sol";
import {HostileCallback} from "../contracts/mocks/HostileCallback.sol";
import {HostileToken} from "../contracts/mocks/HostileToken.sol";
import {NodesStage} from "./NodesStage.sol";
import {Stage} from "./Stage.sol";
import {vm} from "./Vm.sol";

/// @notice Everybody who acts on the contracts, honest or not: each function is one act, chosen and filled at random. An act
///         that the contracts refuse is nothing; one that they should have refused is kept in `broken`.
contract Handler is NodesStage {
    uint256 private constant _ACTORS = 10;

    /// @param seed    what its order is made of
    /// @param outcome the hash of the outcome that it was settled with; zero while there is none
    /// @param state   the last state seen
    struct Placed {
        uint256 seed;
        address requester;
        bytes32 hash;
        bytes32 outcome;
        IComputeBridge.State state;
    }

    HostileToken[2] public tokens;
    HostileCallback private immutable _CALLBACK;

    mapping(address token => uint256 amount) public forced;
    uint256 public forcedIntoRegistry;
    uint256 public settled;
    uint256 public refunded;
    uint256 public slashed;
    Placed[] private _placed;
    uint256 private _keyCount = NODES;
    mapping(uint256 nodeId => uint256 key) private _formerKeyOf;
    mapping(uint256 key => bool) private _isProven;

    constructor() {
        tokens = [new HostileToken(), new HostileToken()];
        _CALLBACK = new HostileCallback();
        for (uint256 i = 0; i < _ACTORS; ++i) {
            for (uint256 j = 0; j < 2; ++j) {
                tokens[j].mint(Stage.actor(i), 1e30);
                vm.prank(Stage.actor(i));
                tokens[j].approve(address(BRIDGE), type(uint256).max);
            }
        }
    }

    // -- requesters ------------------------------------------------------------------------------------------------

    function request(uint256 seed, uint256 who) external {
        vm.warp(_now);
        IComputeBridge.Order memory order = _order(seed);
        uint256 price = uint256(order.nodes) * order.unitPrice + order.deliveryFee;
        uint256 value = order.token == address(0) ? price : 0;
        address requester = Stage.actor(who % 3);
        uint256 before = BRIDGE.owed(order.token);
        vm.deal(requester, value);
        vm.prank(requester);
        try BRIDGE.requestJob{value: value}(order) returns (uint256 id) {
            _hold(id == _placed.length + 1, "ids follow each other");
            _hold(BRIDGE.owed(order.token) - before == price, "a price is owed when it is paid");
            _placed.push(Placed(seed, requester, BRIDGE.requestHash(id), 0, IComputeBridge.State.Requested));
        } catch {}
    }

    function cancel(uint256 which, uint256 who) external {
        if (_placed.length == 0) return;
        vm.warp(_now);
        uint256 id = _pick(which);
        Placed storage p = _placed[id - 1];
        address caller = who % 4 == 0 ? Stage.actor(who % _ACTORS) : p.requester;
        vm.prank(caller);
        try BRIDGE.cancel(id, _order(p.seed)) {
            _hold(caller == p.requester, "only its requester cancels a request");
        } catch {}
    }

    function drawCancelled(uint256 which) external {
        if (_placed.length == 0) return;
        uint256 id = _pick(which);
        _end(id, abi.encodeCall(BRIDGE.drawCancelled, (id, _order(_placed[id - 1].seed))), IComputeBridge.State.Cancelled);
    }

    // -- anyone ----------------------------------------------------------------------------------------------------

    function expire(uint256 which) external {
        if (_placed.length == 0) return;
        uint256 id = _pick(which);
        (, uint64 deadline,,,) = BRIDGE.requestOf(id);
        bool wasOpen = BRIDGE.requestHash(id) != 0;
        _end(id, abi.encodeCall(BRIDGE.expire, (id, _order(_placed[id - 1].seed))), IComputeBridge.State.Expired);
        if (wasOpen && BRIDGE.requestHash(id) == 0) _hold(_now > deadline, "no request expires before its deadline");
    }

    function retryCallback(uint256 which, uint256 kind, uint8 mode) external {
        if (_placed.length == 0) return;
        vm.warp(_now);
        uint256 id = _pick(which);
        IComputeBridge.Order memory order = _order(_placed[id - 1].seed);
        _CALLBACK.setMode(HostileCallback.Mode(mode % 5));
        uint256 before = _credits(order.token);
        try BRIDGE.retryCallback{gas: 2_000_000}(id, order, Stage.outcome(kind)) {
            _hold(keccak256(abi.encode(Stage.outcome(kind))) == _placed[id - 1].outcome, "only the outcome is called back");
        } catch {}
        _hold(_credits(order.token) == before, "a callback pays nobody");
    }

    function withdraw(uint256 who, uint256 which, bool toAnother) external {
        vm.warp(_now);
        address account = Stage.actor(who % _ACTORS);
        address token = _token(which);
        address to = toAnother ? Stage.actor((who % _ACTORS + 1) % _ACTORS) : account;
        uint256 credit = BRIDGE.creditOf(account, token);
        uint256 others = _credits(token) - credit;
        // What leaves the bridge: a token may keep a part of it from the receiver.
        uint256 before = _balance(token, address(BRIDGE));
        vm.prank(account);
        try BRIDGE.withdraw(token, payable(to)) {
            _hold(before - _balance(token, address(BRIDGE)) == credit && credit > 0, "a withdrawal is the credit");
            _hold(BRIDGE.creditOf(account, token) == 0, "a credit is drawn once");
        } catch {}
        _hold(_credits(token) - BRIDGE.creditOf(account, token) == others, "a withdrawal is nobody else's");
    }

    // -- nodes and relayers ----------------------------------------------------------------------------------------

    function fulfil(uint256 which, uint256 kind, uint256 mask, uint8 mode) external {
        if (_placed.length == 0) return;
        uint256 id = _pick(which);
        IComputeBridge.Delivery[] memory deliveries = new IComputeBridge.Delivery[](1);
        deliveries[0] = _delivery(id, kind, mask);
        _deliver(deliveries, mode, true);
    }

    /// @notice The work of an honest quorum: most of what is ordered comes to a result.
    function serve(uint256 which, uint256 kind, uint8 mode) external {
        if (_placed.length == 0) return;
        uint256 id = _pick(which);
        IComputeBridge.Delivery[] memory deliveries = new IComputeBridge.Delivery[](1);
        deliveries[0] = _delivery(id, kind, (1 << _order(_placed[id - 1].seed).quorum) - 1);
        _deliver(deliveries, mode, true);
    }

    function fulfilMany(uint256[3] calldata which, uint256[3] calldata kinds, uint256[3] calldata masks, uint8 mode)
        external
    {
        if (_placed.length == 0) return;
        IComputeBridge.Delivery[] memory deliveries = new IComputeBridge.Delivery[](3);
        for (uint256 i = 0; i < 3; ++i) deliveries[i] = _delivery(_pick(which[i]), kinds[i], masks[i]);
        _deliver(deliveries, mode, false);
    }

    /// @notice Signatures of one request, offered for another.
    function replay(uint256 from, uint256 to, uint256 kind, uint256 mask) external {
        if (_placed.length == 0) return;
        vm.warp(_now);
        (uint256 source, uint256 id) = (_pick(from), _pick(to));
        if (source == id) return;
        IComputeBridge.Delivery memory d = _delivery(source, kind, mask | 7);
        IComputeBridge.State before = _placed[id - 1].state;
        try BRIDGE.fulfil(id, _order(_placed[id - 1].seed), d.outcome, d.attestations) {
            _hold(before != IComputeBridge.State.Requested, "a signature is of one request");
        } catch {}
    }

    function rotateKey(uint256 which) external {
        vm.warp(_now);
        uint256 nodeId = 1 + which % NODES;
        uint256 nonce = REGISTRY.keyNonce(nodeId);
        _formerKeyOf[nodeId] = _keyOf[nodeId];
        _join(nodeId, ++_keyCount, nonce);
    }

    function leaveOrReturn(uint256 which) external {
        vm.warp(_now);
        uint256 nodeId = 1 + which % NODES;
        vm.prank(Stage.operator(nodeId));
        try REGISTRY.deactivate(nodeId) {}
        catch {
            vm.prank(Stage.operator(nodeId));
            REGISTRY.reactivate(nodeId);
        }
    }

    function vouchOrNot(uint256 which) external {
        uint256 nodeId = 1 + which % NODES;
        bytes32[] memory admitted = new bytes32[](1);
        admitted[0] = _ADMITTED;
        vm.prank(_CURATOR);
        try REGISTRY.vouch(nodeId, admitted) {}
        catch {
            vm.prank(_CURATOR);
            REGISTRY.withdrawVouch(nodeId, admitted);
        }
    }

    // -- stake -----------------------------------------------------------------------------------------------------

    function stake(uint256 which, uint64 amount) external {
        uint256 nodeId = 1 + which % NODES;
        vm.deal(Stage.operator(nodeId), amount);
        vm.prank(Stage.operator(nodeId));
        try REGISTRY.stake{value: amount}(nodeId) {
            _hold(!_isProven[_keyOf[nodeId]], "nothing is staked under a proven key");
        } catch {}
    }

    function unstake(uint256 which, uint64 amount) external {
        vm.warp(_now);
        uint256 nodeId = 1 + which % NODES;
        vm.prank(Stage.operator(nodeId));
        try REGISTRY.unstake(nodeId, amount) {} catch {}
    }

    function withdrawStake(uint256 which, bool byAnother) external {
        vm.warp(_now);
        uint256 nodeId = 1 + which % NODES;
        address caller = byAnother ? Stage.actor(9) : Stage.operator(nodeId);
        (uint256 bonded, uint256 unbonding, uint64 releasedAt) = REGISTRY.stakeOf(nodeId);
        uint256 before = caller.balance;
        vm.prank(caller);
        try REGISTRY.withdrawStake(nodeId, payable(caller)) {
            _hold(!byAnother && _now >= releasedAt, "stake leaves by its operator's hand when it is released");
            (uint256 rest,,) = REGISTRY.stakeOf(nodeId);
            _hold(caller.balance - before == unbonding && rest == bonded, "what leaves is what unbonded");
        } catch {}
    }

    /// @param trick 0 and 1: an honest proof, of the current key or the former one; the rest is no proof
    function slash(uint256 which, uint256 request_, uint256 kind, uint8 trick) external {
        if (_placed.length == 0) return;
        vm.warp(_now);
        uint256 nodeId = 1 + which % NODES;
        uint256 key = trick % 5 == 1 ? _formerKeyOf[nodeId] : _keyOf[nodeId];
        if (key == 0) return;
        bytes32 hash = _placed[_pick(request_) - 1].hash;
        bytes32 otherHash = trick % 5 == 2 ? keccak256("another request") : hash;
        uint256 otherKey = trick % 5 == 3 ? _keyOf[1 + nodeId % NODES] : key;
        bytes32 first = keccak256(abi.encode(Stage.outcome(kind % 4)));
        bytes32 second = trick % 5 == 4 ? first : keccak256(abi.encode(Stage.outcome(kind % 4 + 1)));
        (uint256 bonded, uint256 unbonding,) = REGISTRY.stakeOf(nodeId);
        uint256 reward = REGISTRY.rewardOf(Stage.actor(9));
        INodeRegistry.SignedOutcome memory one = _signedOutcome(key, hash, first, 1);
        INodeRegistry.SignedOutcome memory other = _signedOutcome(otherKey, otherHash, second, 2);
        vm.prank(Stage.actor(9));
        try REGISTRY.slash(address(BRIDGE), hash, one, other) {
            _hold(trick % 5 < 2, "only a contradiction is slashed");
            _hold(!_isProven[key], "a key is proven once");
            _hold(REGISTRY.rewardOf(Stage.actor(9)) - reward == (bonded + unbonding) / 10, "a tenth is the prover's");
            _isProven[key] = true;
            ++slashed;
        } catch {}
    }

    function withdrawReward() external {
        uint256 reward = REGISTRY.rewardOf(Stage.actor(9));
        uint256 before = Stage.actor(9).balance;
        vm.prank(Stage.actor(9));
        try REGISTRY.withdrawReward(payable(Stage.actor(9))) {
            _hold(Stage.actor(9).balance - before == reward, "a reward is drawn once");
        } catch {}
    }

    // -- attackers -------------------------------------------------------------------------------------------------

    function force(uint32 amount, bool intoRegistry) external {
        vm.deal(address(this), amount);
        new ForcedEther{value: amount}(payable(intoRegistry ? address(REGISTRY) : address(BRIDGE)));
        if (intoRegistry) forcedIntoRegistry += amount;
        else forced[address(0)] += amount;
    }

    function forceToken(uint256 which, uint32 amount) external {
        tokens[which % 2].mint(address(BRIDGE), amount);
        forced[address(tokens[which % 2])] += amount;
    }

    /// @notice The second token goes bad and well again; the first one stays as it is. It never shrinks by itself.
    function spoil(uint256 mode) external {
        tokens[1].setMode(HostileToken.Mode([0, 0, 0, 1, 2, 3, 4, 5, 6, 8, 9][mode % 11]));
    }

    function reenter(uint256 which, uint256 kind) external {
        if (_placed.length == 0) return;
        uint256 id = _pick(which);
        bytes memory call = kind % 3 == 0
            ? abi.encodeCall(BRIDGE.requestJob, (_order(which)))
            : kind % 3 == 1
                ? abi.encodeCall(BRIDGE.expire, (id, _order(_placed[id - 1].seed)))
                : abi.encodeCall(BRIDGE.withdraw, (address(tokens[1]), payable(address(this))));
        tokens[1].setCall(address(BRIDGE), call);
    }

    // -- what is true at every moment ------------------------------------------------------------------------------

    /// @notice What is owed is what is open and what is credited, token by token; what has ended stays as it ended.
    function audit() external {
        uint256[3] memory open;
        for (uint256 id = 1; id <= _placed.length; ++id) {
            Placed storage p = _placed[id - 1];
            (IComputeBridge.State state, bytes32 digest) = BRIDGE.resultOf(id);
            _hold(state == p.state, "a state changes by its own act only");
            _hold(BRIDGE.requestHash(id) == (state == IComputeBridge.State.Requested ? p.hash : bytes32(0)), "open: its hash");
            bytes32 expected = p.outcome == 0 ? bytes32(0) : keccak256(abi.encode(p.hash, p.outcome));
            _hold(digest == expected, "one outcome, for ever");
            IComputeBridge.Order memory order = _order(p.seed);
            if (state != IComputeBridge.State.Requested) continue;
            for (uint256 i = 0; i < 3; ++i) {
                if (_token(i) == order.token) open[i] += uint256(order.nodes) * order.unitPrice + order.deliveryFee;
            }
        }
        for (uint256 i = 0; i < 3; ++i) {
            _hold(BRIDGE.owed(_token(i)) == open[i] + _credits(_token(i)), "owed: what is open and what is credited");
        }
        uint256 staked = REGISTRY.rewardOf(Stage.actor(9));
        for (uint256 nodeId = 1; nodeId <= NODES; ++nodeId) {
            (uint256 bonded, uint256 unbonding,) = REGISTRY.stakeOf(nodeId);
            staked += bonded + unbonding;
        }
        _hold(REGISTRY.owed() == staked, "owed: stakes and rewards");
    }

    function _end(uint256 id, bytes memory call, IComputeBridge.State state) private {
        vm.warp(_now);
        Placed storage p = _placed[id - 1];
        IComputeBridge.Order memory order = _order(p.seed);
        uint256 before = BRIDGE.creditOf(p.requester, order.token);
        uint256 all = _credits(order.token);
        // solhint-disable-next-line avoid-low-level-calls
        (bool success,) = address(BRIDGE).call(call);
        uint256 price = success ? uint256(order.nodes) * order.unitPrice + order.deliveryFee : 0;
        _hold(BRIDGE.creditOf(p.requester, order.token) - before == price, "a refund is the price");
        _hold(_credits(order.token) - all == price, "a refund is the requester's");
        if (!success) return;
        _hold(p.state == IComputeBridge.State.Requested, "only what is open is refunded");
        p.state = state;
        ++refunded;
    }

    function _deliver(IComputeBridge.Delivery[] memory deliveries, uint8 mode, bool alone) private {
        vm.warp(_now);
        _CALLBACK.setMode(HostileCallback.Mode(mode % 5));
        uint256[3] memory before = [_credits(_token(0)), _credits(_token(1)), _credits(_token(2))];
        bool[] memory mayPass = new bool[](deliveries.length);
        for (uint256 i = 0; i < deliveries.length; ++i) mayPass[i] = _mayPass(deliveries[i]);
        bool[] memory delivered = new bool[](deliveries.length);
        if (alone) {
            IComputeBridge.Delivery memory d = deliveries[0];
            try BRIDGE.fulfil{gas: 4_000_000}(d.id, d.order, d.outcome, d.attestations) {
                delivered[0] = true;
            } catch {}
        } else {
            delivered = BRIDGE.fulfilMany{gas: 8_000_000}(deliveries);
        }
        for (uint256 i = 0; i < deliveries.length; ++i) {
            if (!delivered[i]) continue;
            uint256 paid = _settledBy(deliveries[i], mayPass[i]);
            for (uint256 j = 0; j < 3; ++j) if (_token(j) == deliveries[i].order.token) before[j] += paid;
        }
        for (uint256 j = 0; j < 3; ++j) _hold(_credits(_token(j)) == before[j], "payments add up to the price");
    }

    /// @dev What a delivery that the bridge took should have paid: its price, or nothing where it had been settled before.
    function _settledBy(IComputeBridge.Delivery memory d, bool mayPass) private returns (uint256 paid) {
        Placed storage p = _placed[d.id - 1];
        bytes32 outcomeHash = keccak256(abi.encode(d.outcome));
        if (p.state != IComputeBridge.State.Requested) {
            _hold(p.outcome == outcomeHash, "one outcome, and none after a refund");
            return 0;
        }
        _hold(mayPass, "a quorum is of distinct operators' active, admitted nodes, in time");
        p.state = IComputeBridge.State(1 + d.outcome.status);
        p.outcome = outcomeHash;
        ++settled;
        return uint256(d.order.nodes) * d.order.unitPrice + d.order.deliveryFee;
    }

    /// @dev The rule of a quorum once more, without a short cut.
    function _mayPass(IComputeBridge.Delivery memory d) private view returns (bool) {
        uint256 count = d.attestations.length;
        (, uint64 deadline,,,) = BRIDGE.requestOf(d.id);
        if (count < d.order.quorum || count > d.order.nodes || _now > deadline) return false;
        for (uint256 i = 0; i < count; ++i) {
            uint256 nodeId = uint256(d.attestations[i].logRoot);
            (address operator, address key, bool active) = REGISTRY.nodeOf(nodeId);
            if (!active || key != vm.addr(uint256(d.attestations[i].receiptHash))) return false;
            if (!REGISTRY.carries(nodeId, d.order.curator, d.order.labels)) return false;
            for (uint256 j = 0; j < i; ++j) {
                if (Stage.operator(uint256(d.attestations[j].logRoot)) == operator) return false;
            }
        }
        return true;
    }

    /// @dev Bits 0 to 4 of `mask`: which nodes sign. Bit 5: the first one once more. Bit 6: by former keys, where there are.
    function _delivery(uint256 id, uint256 kind, uint256 mask)
        private
        view
        returns (IComputeBridge.Delivery memory d)
    {
        Placed storage p = _placed[id - 1];
        d.id = id;
        d.order = _order(p.seed);
        d.outcome = Stage.outcome(kind);
        uint256[] memory nodeIds = new uint256[](NODES + 1);
        uint256 count;
        for (uint256 i = 0; i < NODES; ++i) if (mask & (1 << i) != 0) nodeIds[count++] = i + 1;
        if (mask & 32 != 0 && count > 0) nodeIds[count++] = nodeIds[0];
        d.attestations = new IComputeBridge.Attestation[](count);
        bytes32 outcomeHash = keccak256(abi.encode(d.outcome));
        address relayer = Stage.actor(7 + (mask >> 7) % 2);
        for (uint256 i = 0; i < count; ++i) {
            uint256 key = mask & 64 != 0 && _formerKeyOf[nodeIds[i]] != 0 ? _formerKeyOf[nodeIds[i]] : _keyOf[nodeIds[i]];
            // The receipt hash and the log root tell `_mayPass` who signed.
            d.attestations[i] = IComputeBridge.Attestation(bytes32(key), bytes32(nodeIds[i]), 1, relayer, "");
            d.attestations[i].signature = _signAttestation(key, p.hash, outcomeHash, d.attestations[i]);
        }
    }

    function _signedOutcome(uint256 key, bytes32 hash, bytes32 outcomeHash, uint64 logSize)
        private
        view
        returns (INodeRegistry.SignedOutcome memory)
    {
        IComputeBridge.Attestation memory a = IComputeBridge.Attestation(0, 0, logSize, address(0), "");
        bytes memory signature = _signAttestation(key, hash, outcomeHash, a);
        return INodeRegistry.SignedOutcome(outcomeHash, 0, 0, logSize, address(0), signature);
    }

    function _credits(address token) private view returns (uint256 sum) {
        for (uint256 i = 0; i < _ACTORS; ++i) sum += BRIDGE.creditOf(Stage.actor(i), token);
    }

    function _balance(address token, address account) private view returns (uint256) {
        return token == address(0) ? account.balance : HostileToken(token).balanceOf(account);
    }

    function _token(uint256 which) private view returns (address) {
        return which % 3 == 0 ? address(0) : address(tokens[which % 3 - 1]);
    }

    function _pick(uint256 which) private view returns (uint256) {
        // Mostly one of the newest: an open one.
        uint256 count = _placed.length;
        uint256 recent = count > 4 && which % 8 != 0 ? 4 : count;
        return count - (which >> 8) % recent;
    }

    /// @dev An order is what its seed says, so that only the seed is kept.
    function _order(uint256 seed) private view returns (IComputeBridge.Order memory order) {
        order.version = 1;
        order.dialect = 1;
        order.spec = "{}";
        order.resultKind = 1;
        order.nodes = uint8(1 + seed % 3);
        uint8 majority = order.nodes / 2 + 1;
        order.quorum = majority + uint8((seed >> 8) % (order.nodes - majority + 1));
        order.ttl = uint32(1 + (seed >> 16) % 1 days);
        if ((seed >> 48) % 4 == 0) (order.callback, order.callbackGas) = (address(_CALLBACK), 100_000);
        if ((seed >> 56) % 2 == 0) order.curator = _CURATOR;
        order.token = _token(seed >> 64);
        order.unitPrice = uint64(seed >> 72);
        order.failPrice = uint128(uint64(seed >> 136) % (uint256(order.unitPrice) + 1));
        order.deliveryFee = uint32(seed >> 200);
    }
}
