// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {Labels} from "./libraries/Labels.sol";

/// @title NodeRegistry
/// @notice Nodes, their operators, keys and labels. No owner, no funds, nothing that can be upgraded.
contract NodeRegistry is INodeRegistry, EIP712 {
    /// @param inactiveFrom zero while active; else the time (seconds since 1970) from which the node does not count
    /// @param labelCount   labels declared and not removed
    struct Node {
        address operator;
        uint64 inactiveFrom;
        uint32 labelCount;
        address key;
        uint96 keyNonce;
    }

    uint256 public constant MAX_LABELS = 64;
    uint256 public constant MAX_METADATA_BYTES = 1024;
    /// @notice What an order with a curator and no labels asks for.
    bytes32 public constant ADMITTED = keccak256("node=admitted");
    bytes32 public constant NODE_KEY_TYPEHASH = keccak256("NodeKey(address operator,uint256 nodeId,uint256 nonce)");

    /// @dev A declared label counts until this time; a removed one until the removal's effect.
    uint64 private constant _FOREVER = type(uint64).max;

    uint32 private immutable _NOTICE;

    uint256 private _nodeCount;
    mapping(uint256 nodeId => Node node) private _nodes;
    mapping(address key => uint256 nodeId) private _nodeOfKey;
    mapping(uint256 nodeId => mapping(bytes32 labelHash => uint64 until)) private _declared;
    mapping(address curator => mapping(uint256 nodeId => mapping(bytes32 labelHash => bool))) private _vouched;

    /// @param notice_ seconds between a removal or deactivation and its effect
    constructor(uint32 notice_) EIP712("InsulaNodeRegistry", "1") {
        _NOTICE = notice_;
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
        if (_nodeOfKey[key] != 0) revert NodeRegistryKeyTaken(key, _nodeOfKey[key]);
        Node storage node = _nodes[nodeId];
        bytes32 structHash = keccak256(abi.encode(NODE_KEY_TYPEHASH, msg.sender, nodeId, uint256(node.keyNonce)));
        (address recovered,,) = ECDSA.tryRecoverCalldata(_hashTypedDataV4(structHash), signature);
        if (recovered != key) revert NodeRegistryInvalidKeySignature(key, recovered);
        address previous = node.key;
        node.key = key;
        ++node.keyNonce;
        _nodeOfKey[key] = nodeId;
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
        emit NodeDeactivated(nodeId, effectiveAt);
    }

    /// @inheritdoc INodeRegistry
    function reactivate(uint256 nodeId) external onlyOperator(nodeId) {
        Node storage node = _nodes[nodeId];
        if (node.inactiveFrom == 0) revert NodeRegistryAlreadyActive(nodeId);
        node.inactiveFrom = 0;
        emit NodeReactivated(nodeId);
    }

    /// @inheritdoc INodeRegistry
    function vouch(uint256 nodeId, bytes32[] calldata labelHashes) external {
        _existing(nodeId);
        for (uint256 i = 0; i < labelHashes.length; ++i) {
            bytes32 labelHash = labelHashes[i];
            if (_vouched[msg.sender][nodeId][labelHash]) {
                revert NodeRegistryAlreadyVouched(msg.sender, nodeId, labelHash);
            }
            _vouched[msg.sender][nodeId][labelHash] = true;
            emit Vouched(msg.sender, nodeId, labelHash);
        }
    }

    /// @inheritdoc INodeRegistry
    function withdrawVouch(uint256 nodeId, bytes32[] calldata labelHashes) external {
        _existing(nodeId);
        for (uint256 i = 0; i < labelHashes.length; ++i) {
            bytes32 labelHash = labelHashes[i];
            if (!_vouched[msg.sender][nodeId][labelHash]) {
                revert NodeRegistryNotVouched(msg.sender, nodeId, labelHash);
            }
            delete _vouched[msg.sender][nodeId][labelHash];
            emit VouchWithdrawn(msg.sender, nodeId, labelHash);
        }
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
        return _nodeOfKey[key];
    }

    /// @inheritdoc INodeRegistry
    function activeNodeOfKey(address key) external view returns (uint256 nodeId, address operator) {
        nodeId = _nodeOfKey[key];
        if (nodeId == 0) return (0, address(0));
        Node storage node = _nodes[nodeId];
        if (node.key != key || !_isActive(node)) return (0, address(0));
        return (nodeId, node.operator);
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
        if (labelHashes.length == 0) return curator == address(0) || _labelCounts(nodeId, curator, ADMITTED);
        for (uint256 i = 0; i < labelHashes.length; ++i) {
            if (!_labelCounts(nodeId, curator, labelHashes[i])) return false;
        }
        return true;
    }

    /// @inheritdoc INodeRegistry
    function notice() external view returns (uint32) {
        return _NOTICE;
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

    function _labelCounts(uint256 nodeId, address curator, bytes32 labelHash) private view returns (bool) {
        if (curator != address(0)) return _vouched[curator][nodeId][labelHash];
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

    function _checkMetadata(string calldata metadata) private pure {
        uint256 length = bytes(metadata).length;
        if (length > MAX_METADATA_BYTES) revert NodeRegistryMetadataTooLong(length, MAX_METADATA_BYTES);
    }
}
