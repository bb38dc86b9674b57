// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {IComputeBridge} from "./interfaces/IComputeBridge.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {AttestationHash} from "./libraries/AttestationHash.sol";
import {BoundedCall} from "./libraries/BoundedCall.sol";
import {Labels} from "./libraries/Labels.sol";

/// @title NodeRegistry
/// @notice Nodes, their operators, keys, labels and stake. No owner, nothing that can be upgraded; stake leaves by its
///         operator's hand after it has unbonded, or by the proof of a contradiction, and by no other way.
contract NodeRegistry is INodeRegistry, EIP712, ReentrancyGuardTransient {
    /// @param inactiveFrom zero while active; else the time (seconds since 1970) from which the node does not count
    /// @param labelCount   labels declared and not removed
    struct Node {
        address operator;
        uint64 inactiveFrom;
        uint32 labelCount;
        address key;
        uint96 keyNonce;
    }

    /// @dev All that a bridge needs of a signer, in one slot. A key is written once and never freed.
    /// @param until the time (seconds since 1970) from which the key does not count: zero once another key joined, the
    ///              node's `inactiveFrom` when it leaves, else _NEVER
    struct KeyRecord {
        address operator;
        uint48 nodeId;
        uint48 until;
    }

    struct Stake {
        uint128 bonded;
        uint128 unbonding;
        uint64 releasedAt;
    }

    uint256 public constant MAX_LABELS = 64;
    uint256 public constant MAX_METADATA_BYTES = 1024;
    /// @notice What an order with a curator and no labels asks for.
    bytes32 public constant ADMITTED = keccak256("node=admitted");
    bytes32 public constant NODE_KEY_TYPEHASH = keccak256("NodeKey(address operator,uint256 nodeId,uint256 nonce)");

    /// @notice Seconds; the time to prove a contradiction after the longest request is over.
    uint32 public constant MIN_UNBONDING = 7 days;
    /// @notice The part of a slashed stake that the prover gets: one of this many.
    uint256 public constant REWARD_DIVISOR = 10;
    /// @notice Where slashed stake goes: the address of Filecoin's burnt-funds actor f099; on other chains nobody's.
    address public constant BURNT_FUNDS = 0xff00000000000000000000000000000000000063;

    uint48 private constant _NEVER = type(uint48).max;
    /// @dev A declared label counts until this time; a removed one until the removal's effect.
    uint64 private constant _FOREVER = type(uint64).max;

    uint32 private immutable _NOTICE;
    uint32 private immutable _UNBONDING;

    uint256 private _nodeCount;
    mapping(uint256 nodeId => Node node) private _nodes;
    mapping(address key => KeyRecord record) private _keys;
    mapping(uint256 nodeId => mapping(bytes32 labelHash => uint64 until)) private _declared;
    /// @dev By keccak256(curator, node id, label hash): one hash for a bridge to compute, not three.
    mapping(bytes32 word => bool) private _vouched;
    mapping(uint256 nodeId => Stake stake) private _stakes;
    /// @dev Keys that were proven to have signed two outcomes of one request.
    mapping(address key => bool) private _proven;
    mapping(address prover => uint256 amount) private _rewards;
    uint256 private _owed;

    /// @param notice_    seconds between a removal or deactivation and its effect
    /// @param unbonding_ seconds that stake unbonds: the longest ttl of the bridges to come, plus at least seven days
    constructor(uint32 notice_, uint32 unbonding_) EIP712("InsulaNodeRegistry", "1") {
        if (unbonding_ < MIN_UNBONDING) revert NodeRegistryInvalidParameter("unbonding");
        _NOTICE = notice_;
        _UNBONDING = unbonding_;
    }

    modifier onlyOperator(uint256 nodeId) {
        address operator = _existing(nodeId).operator;
        if (msg.sender != operator) revert NodeRegistryNotOperator(nodeId, msg.sender);
        _;
    }

    /// @inheritdoc INodeRegistry
    function register(Label[] calldata labels, string calldata metadata) external returns (uint256 nodeId) {
        _checkMetadata(metadata);
        nodeId = ++_nodeCount;
        _nodes[nodeId].operator = msg.sender;
        emit NodeRegistered(nodeId, msg.sender, metadata);
        _declare(nodeId, labels);
    }

    /// @inheritdoc INodeRegistry
    function joinKey(uint256 nodeId, address key, bytes calldata signature) external onlyOperator(nodeId) {
        if (key == address(0)) revert NodeRegistryInvalidKey(key);
        if (_keys[key].nodeId != 0) revert NodeRegistryKeyTaken(key, _keys[key].nodeId);
        Node storage node = _nodes[nodeId];
        bytes32 structHash = keccak256(abi.encode(NODE_KEY_TYPEHASH, msg.sender, nodeId, uint256(node.keyNonce)));
        (address recovered,,) = ECDSA.tryRecoverCalldata(_hashTypedDataV4(structHash), signature);
        if (recovered != key) revert NodeRegistryInvalidKeySignature(key, recovered);
        address previous = node.key;
        if (previous != address(0)) _keys[previous].until = 0;
        node.key = key;
        ++node.keyNonce;
        uint48 until = node.inactiveFrom == 0 ? _NEVER : uint48(node.inactiveFrom);
        _keys[key] = KeyRecord(msg.sender, uint48(nodeId), until);
        emit KeyJoined(nodeId, key, previous);
    }

    /// @inheritdoc INodeRegistry
    function setMetadata(uint256 nodeId, string calldata metadata) external onlyOperator(nodeId) {
        _checkMetadata(metadata);
        emit MetadataChanged(nodeId, metadata);
    }

    /// @inheritdoc INodeRegistry
    function declareLabels(uint256 nodeId, Label[] calldata labels) external onlyOperator(nodeId) {
        _declare(nodeId, labels);
    }

    /// @inheritdoc INodeRegistry
    function removeLabels(uint256 nodeId, bytes32[] calldata labelHashes) external onlyOperator(nodeId) {
        uint64 effectiveAt = _afterNotice();
        for (uint256 i = 0; i < labelHashes.length; ++i) {
            bytes32 labelHash = labelHashes[i];
            if (_declared[nodeId][labelHash] != _FOREVER) revert NodeRegistryLabelNotDeclared(nodeId, labelHash);
            _declared[nodeId][labelHash] = effectiveAt;
            emit LabelRemoved(nodeId, labelHash, effectiveAt);
        }
        _nodes[nodeId].labelCount -= uint32(labelHashes.length);
    }

    /// @inheritdoc INodeRegistry
    function deactivate(uint256 nodeId) external onlyOperator(nodeId) {
        Node storage node = _nodes[nodeId];
        if (node.inactiveFrom != 0) revert NodeRegistryNotActive(nodeId);
        uint64 effectiveAt = _afterNotice();
        node.inactiveFrom = effectiveAt;
        if (node.key != address(0)) _keys[node.key].until = uint48(effectiveAt);
        emit NodeDeactivated(nodeId, effectiveAt);
    }

    /// @inheritdoc INodeRegistry
    function reactivate(uint256 nodeId) external onlyOperator(nodeId) {
        Node storage node = _nodes[nodeId];
        if (node.inactiveFrom == 0) revert NodeRegistryAlreadyActive(nodeId);
        node.inactiveFrom = 0;
        if (node.key != address(0)) _keys[node.key].until = _NEVER;
        emit NodeReactivated(nodeId);
    }

    /// @inheritdoc INodeRegistry
    function vouch(uint256 nodeId, bytes32[] calldata labelHashes) external {
        _existing(nodeId);
        for (uint256 i = 0; i < labelHashes.length; ++i) {
            bytes32 labelHash = labelHashes[i];
            bytes32 word = _wordOf(msg.sender, nodeId, labelHash);
            if (_vouched[word]) revert NodeRegistryAlreadyVouched(msg.sender, nodeId, labelHash);
            _vouched[word] = true;
            emit Vouched(msg.sender, nodeId, labelHash);
        }
    }

    /// @inheritdoc INodeRegistry
    function withdrawVouch(uint256 nodeId, bytes32[] calldata labelHashes) external {
        _existing(nodeId);
        for (uint256 i = 0; i < labelHashes.length; ++i) {
            bytes32 labelHash = labelHashes[i];
            bytes32 word = _wordOf(msg.sender, nodeId, labelHash);
            if (!_vouched[word]) revert NodeRegistryNotVouched(msg.sender, nodeId, labelHash);
            delete _vouched[word];
            emit VouchWithdrawn(msg.sender, nodeId, labelHash);
        }
    }

    /// @inheritdoc INodeRegistry
    function stake(uint256 nodeId) external payable onlyOperator(nodeId) {
        if (msg.value == 0) revert NodeRegistryNoAmount(nodeId);
        address key = _nodes[nodeId].key;
        // Its other contradictions cannot be proven any more: nothing may answer for what it signs.
        if (_proven[key]) revert NodeRegistryStakeUnderProvenKey(nodeId, key);
        Stake storage s = _stakes[nodeId];
        uint256 bonded = s.bonded + msg.value;
        s.bonded = SafeCast.toUint128(bonded);
        _owed += msg.value;
        emit StakeAdded(nodeId, msg.value, bonded);
    }

    /// @inheritdoc INodeRegistry
    function unstake(uint256 nodeId, uint256 amount) external onlyOperator(nodeId) {
        if (amount == 0) revert NodeRegistryNoAmount(nodeId);
        Stake storage s = _stakes[nodeId];
        if (amount > s.bonded) revert NodeRegistryInsufficientStake(nodeId, s.bonded, amount);
        uint64 releasedAt = uint64(block.timestamp) + _UNBONDING;
        s.bonded -= uint128(amount);
        s.unbonding = SafeCast.toUint128(s.unbonding + amount);
        s.releasedAt = releasedAt;
        emit StakeUnbonding(nodeId, amount, s.unbonding, releasedAt);
    }

    /// @inheritdoc INodeRegistry
    function withdrawStake(uint256 nodeId, address payable to) external onlyOperator(nodeId) nonReentrant {
        Stake storage s = _stakes[nodeId];
        uint256 amount = s.unbonding;
        if (amount == 0) revert NodeRegistryNothingUnbonding(nodeId);
        if (block.timestamp < s.releasedAt) revert NodeRegistryStillUnbonding(nodeId, s.releasedAt);
        s.unbonding = 0;
        s.releasedAt = 0;
        emit StakeWithdrawn(nodeId, to, amount);
        _pay(to, amount);
    }

    /// @inheritdoc INodeRegistry
    /// @dev Nobody can invent a domain in which an honest node signed twice: it signs once per request hash, in whatever
    ///      domain. That the bridge names this registry keeps apart what a key does for others; the bridge is not trusted.
    function slash(address bridge, bytes32 requestHash, SignedOutcome calldata first, SignedOutcome calldata second)
        external
        nonReentrant
        returns (uint256 nodeId, uint256 reward)
    {
        if (first.outcomeHash == second.outcomeHash) revert NodeRegistryNoContradiction(first.outcomeHash);
        if (!_namesThis(bridge)) revert NodeRegistryForeignBridge(bridge);
        address key = _signerOf(bridge, requestHash, first);
        address other = _signerOf(bridge, requestHash, second);
        if (key != other) revert NodeRegistryDifferentSigners(key, other);
        nodeId = _keys[key].nodeId;
        if (nodeId == 0) revert NodeRegistryUnknownKey(key);
        if (_proven[key]) revert NodeRegistryAlreadyProven(nodeId, key);
        uint256 amount = uint256(_stakes[nodeId].bonded) + _stakes[nodeId].unbonding;
        if (amount == 0) revert NodeRegistryNothingToSlash(nodeId);

        _proven[key] = true;
        delete _stakes[nodeId];
        reward = amount / REWARD_DIVISOR;
        _rewards[msg.sender] += reward;
        emit NodeSlashed(
            nodeId, requestHash, msg.sender, bridge, key, first.outcomeHash, second.outcomeHash, amount, reward
        );
        _pay(payable(BURNT_FUNDS), amount - reward);
    }

    /// @inheritdoc INodeRegistry
    function withdrawReward(address payable to) external nonReentrant {
        uint256 amount = _rewards[msg.sender];
        if (amount == 0) revert NodeRegistryNoReward(msg.sender);
        delete _rewards[msg.sender];
        emit RewardWithdrawn(msg.sender, to, amount);
        _pay(to, amount);
    }

    /// @inheritdoc INodeRegistry
    function nodeCount() external view returns (uint256) {
        return _nodeCount;
    }

    /// @inheritdoc INodeRegistry
    function nodeOf(uint256 nodeId) external view returns (address operator, address key, bool active) {
        Node storage node = _existing(nodeId);
        return (node.operator, node.key, _isActive(node));
    }

    /// @inheritdoc INodeRegistry
    function nodeOfKey(address key) external view returns (uint256 nodeId) {
        return _keys[key].nodeId;
    }

    /// @inheritdoc INodeRegistry
    function activeNodeOfKey(address key) external view returns (uint256 nodeId, address operator) {
        return _activeNodeOf(key);
    }

    /// @inheritdoc INodeRegistry
    function attesterOf(address key, address curator, bytes32[] calldata labelHashes)
        external
        view
        returns (uint256 nodeId, address operator, bool isCarrier)
    {
        (nodeId, operator) = _activeNodeOf(key);
        isCarrier = nodeId != 0 && _carries(nodeId, curator, labelHashes);
    }

    /// @inheritdoc INodeRegistry
    function keyNonce(uint256 nodeId) external view returns (uint256) {
        return _existing(nodeId).keyNonce;
    }

    /// @inheritdoc INodeRegistry
    function labelsCount(uint256 nodeId, address curator, bytes32[] calldata labelHashes)
        external
        view
        returns (bool[] memory counts)
    {
        _existing(nodeId);
        counts = new bool[](labelHashes.length);
        for (uint256 i = 0; i < labelHashes.length; ++i) {
            counts[i] = _labelCounts(nodeId, curator, labelHashes[i]);
        }
    }

    /// @inheritdoc INodeRegistry
    function carries(uint256 nodeId, address curator, bytes32[] calldata labelHashes) external view returns (bool) {
        _existing(nodeId);
        return _carries(nodeId, curator, labelHashes);
    }

    /// @inheritdoc INodeRegistry
    function notice() external view returns (uint32) {
        return _NOTICE;
    }

    /// @inheritdoc INodeRegistry
    function stakeOf(uint256 nodeId) external view returns (uint256 bonded, uint256 unbonding_, uint64 releasedAt) {
        _existing(nodeId);
        Stake storage s = _stakes[nodeId];
        return (s.bonded, s.unbonding, s.releasedAt);
    }

    /// @inheritdoc INodeRegistry
    function rewardOf(address prover) external view returns (uint256) {
        return _rewards[prover];
    }

    /// @inheritdoc INodeRegistry
    function owed() external view returns (uint256) {
        return _owed;
    }

    /// @inheritdoc INodeRegistry
    function isProven(address key) external view returns (bool) {
        return _proven[key];
    }

    /// @inheritdoc INodeRegistry
    function unbonding() external view returns (uint32) {
        return _UNBONDING;
    }

    /// @dev A label under notice that is declared again simply stays.
    function _declare(uint256 nodeId, Label[] calldata labels) private {
        uint256 count = _nodes[nodeId].labelCount + labels.length;
        if (count > MAX_LABELS) revert NodeRegistryTooManyLabels(count, MAX_LABELS);
        _nodes[nodeId].labelCount = uint32(count);
        for (uint256 i = 0; i < labels.length; ++i) {
            string memory key = labels[i].key;
            string memory value = labels[i].value;
            if (!Labels.isValid(key, value)) revert NodeRegistryInvalidLabel(key, value);
            bytes32 labelHash = Labels.hash(key, value);
            if (_declared[nodeId][labelHash] == _FOREVER) {
                revert NodeRegistryLabelAlreadyDeclared(nodeId, labelHash);
            }
            _declared[nodeId][labelHash] = _FOREVER;
            emit LabelDeclared(nodeId, labelHash, key, value);
        }
    }

    /// @dev The last act of its callers: state is final, and they are guarded.
    function _pay(address payable to, uint256 amount) private {
        if (to == address(0)) revert NodeRegistryTransferFailed(to, amount);
        _owed -= amount;
        (bool success,) = BoundedCall.tryCall(to, gasleft(), amount, "", 0);
        if (!success) revert NodeRegistryTransferFailed(to, amount);
    }

    /// @dev Zero for a signature that is none; no node has the key zero.
    function _signerOf(address bridge, bytes32 requestHash, SignedOutcome calldata o) private view returns (address key) {
        bytes32 structHash = AttestationHash.structHash(
            requestHash, o.outcomeHash, o.receiptHash, o.logRoot, o.logSize, o.relayer
        );
        bytes32 digest = MessageHashUtils.toTypedDataHash(AttestationHash.domainSeparator(bridge), structHash);
        (key,,) = ECDSA.tryRecoverCalldata(digest, o.signature);
    }

    /// @dev Whether the contract at `bridge` says that this is its registry. Any answer but one word is a no.
    function _namesThis(address bridge) private view returns (bool) {
        (bool success, bytes memory answer) = bridge.staticcall(abi.encodeCall(IComputeBridge.registry, ()));
        return success && answer.length == 32 && abi.decode(answer, (uint256)) == uint160(address(this));
    }

    function _activeNodeOf(address key) private view returns (uint256 nodeId, address operator) {
        KeyRecord storage record = _keys[key];
        if (block.timestamp < record.until) return (record.nodeId, record.operator);
    }

    function _carries(uint256 nodeId, address curator, bytes32[] calldata labelHashes) private view returns (bool) {
        if (labelHashes.length == 0) return curator == address(0) || _labelCounts(nodeId, curator, ADMITTED);
        for (uint256 i = 0; i < labelHashes.length; ++i) {
            if (!_labelCounts(nodeId, curator, labelHashes[i])) return false;
        }
        return true;
    }

    function _labelCounts(uint256 nodeId, address curator, bytes32 labelHash) private view returns (bool) {
        if (curator != address(0)) return _vouched[_wordOf(curator, nodeId, labelHash)];
        return block.timestamp < _declared[nodeId][labelHash];
    }

    function _isActive(Node storage node) private view returns (bool) {
        return node.inactiveFrom == 0 || block.timestamp < node.inactiveFrom;
    }

    function _existing(uint256 nodeId) private view returns (Node storage node) {
        node = _nodes[nodeId];
        if (node.operator == address(0)) revert NodeRegistryUnknownNode(nodeId);
    }

    function _afterNotice() private view returns (uint64) {
        return uint64(block.timestamp) + _NOTICE;
    }

    /// @dev keccak256(abi.encode(curator, nodeId, labelHash)), without taking memory.
    function _wordOf(address curator, uint256 nodeId, bytes32 labelHash) private pure returns (bytes32 word) {
        // solhint-disable-next-line no-inline-assembly
        assembly ("memory-safe") {
            let scratch := mload(0x40)
            mstore(scratch, curator)
            mstore(add(scratch, 0x20), nodeId)
            mstore(add(scratch, 0x40), labelHash)
            word := keccak256(scratch, 0x60)
        }
    }

    function _checkMetadata(string calldata metadata) private pure {
        uint256 length = bytes(metadata).length;
        if (length > MAX_METADATA_BYTES) revert NodeRegistryMetadataTooLong(length, MAX_METADATA_BYTES);
    }
}
