// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title INodeRegistry
/// @notice Nodes, their operators, keys and labels. A label counts by its curator's word, or by the node's own.
interface INodeRegistry {
    /// @notice A label in words; its hash is keccak256("key=value").
    /// @param key   [a-z0-9][a-z0-9._/-]{0,62}
    /// @param value [A-Za-z0-9._-]{0,63}
    struct Label {
        string key;
        string value;
    }

    event NodeRegistered(uint256 indexed nodeId, address indexed operator, string metadata);
    event MetadataChanged(uint256 indexed nodeId, string metadata);
    /// @notice `previous` is the key that was current before, or zero.
    event KeyJoined(uint256 indexed nodeId, address indexed key, address indexed previous);
    event LabelDeclared(uint256 indexed nodeId, bytes32 indexed labelHash, string key, string value);
    /// @notice The label counts until `effectiveAt`.
    event LabelRemoved(uint256 indexed nodeId, bytes32 indexed labelHash, uint64 effectiveAt);
    event Vouched(address indexed curator, uint256 indexed nodeId, bytes32 indexed labelHash);
    event VouchWithdrawn(address indexed curator, uint256 indexed nodeId, bytes32 indexed labelHash);
    /// @notice The node counts as active until `effectiveAt`.
    event NodeDeactivated(uint256 indexed nodeId, uint64 effectiveAt);
    event NodeReactivated(uint256 indexed nodeId);

    error NodeRegistryUnknownNode(uint256 nodeId);
    error NodeRegistryNotOperator(uint256 nodeId, address caller);
    error NodeRegistryKeyTaken(address key, uint256 nodeId);
    error NodeRegistryInvalidKey(address key);
    error NodeRegistryInvalidKeySignature(address expected, address recovered);
    error NodeRegistryInvalidLabel(string key, string value);
    error NodeRegistryLabelAlreadyDeclared(uint256 nodeId, bytes32 labelHash);
    error NodeRegistryLabelNotDeclared(uint256 nodeId, bytes32 labelHash);
    error NodeRegistryTooManyLabels(uint256 count, uint256 allowed);
    error NodeRegistryMetadataTooLong(uint256 length, uint256 allowed);
    error NodeRegistryAlreadyVouched(address curator, uint256 nodeId, bytes32 labelHash);
    error NodeRegistryNotVouched(address curator, uint256 nodeId, bytes32 labelHash);
    error NodeRegistryNotActive(uint256 nodeId);
    error NodeRegistryAlreadyActive(uint256 nodeId);

    /// @notice Registers a node of the caller with its own labels; ids run from 1. It can attest once a key joined.
    function register(Label[] calldata labels, string calldata metadata) external returns (uint256 nodeId);
    /// @notice Makes `key` the node's current key. `signature` is that key's own, EIP-712 in the domain
    ///         {InsulaNodeRegistry, 1, chainId, this}: NodeKey(address operator,uint256 nodeId,uint256 nonce),
    ///         where nonce is `keyNonce(nodeId)`. A key joins one node once and is never freed.
    function joinKey(uint256 nodeId, address key, bytes calldata signature) external;
    function setMetadata(uint256 nodeId, string calldata metadata) external;
    function declareLabels(uint256 nodeId, Label[] calldata labels) external;
    /// @notice The labels stop counting NOTICE seconds later.
    function removeLabels(uint256 nodeId, bytes32[] calldata labelHashes) external;
    /// @notice The node stops counting NOTICE seconds later.
    function deactivate(uint256 nodeId) external;
    function reactivate(uint256 nodeId) external;
    /// @notice The caller, as a curator, vouches for labels of a node. Declared or not: it is the curator's word.
    function vouch(uint256 nodeId, bytes32[] calldata labelHashes) external;
    /// @notice Takes the caller's word back, at once.
    function withdrawVouch(uint256 nodeId, bytes32[] calldata labelHashes) external;

    function nodeCount() external view returns (uint256);
    /// @notice Operator, current key (zero when none joined), whether the node is active now.
    function nodeOf(uint256 nodeId) external view returns (address operator, address key, bool active);
    /// @notice The node that `key` ever joined; zero when none. Current or not: compare with `nodeOf`.
    function nodeOfKey(address key) external view returns (uint256 nodeId);
    /// @notice For `key`: its node and operator when the key is current and the node active, else zeros.
    function activeNodeOfKey(address key) external view returns (uint256 nodeId, address operator);
    function keyNonce(uint256 nodeId) external view returns (uint256);
    /// @notice Which of `labelHashes` count for the node now, by `curator`'s word, or its own when `curator` is zero.
    function labelsCount(uint256 nodeId, address curator, bytes32[] calldata labelHashes)
        external
        view
        returns (bool[] memory);
    /// @notice Whether all of `labelHashes` count; empty with a curator means the label "node=admitted".
    function carries(uint256 nodeId, address curator, bytes32[] calldata labelHashes) external view returns (bool);
    /// @notice Seconds between a removal or deactivation and its effect.
    function notice() external view returns (uint32);
}
