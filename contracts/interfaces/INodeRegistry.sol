// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title INodeRegistry
/// @notice Nodes, their operators, keys, labels and stake. A label counts by its curator's word, or by the node's own.
interface INodeRegistry {
    /// @notice A label in words; its hash is keccak256("key=value").
    /// @param key   [a-z0-9][a-z0-9._/-]{0,62}
    /// @param value [A-Za-z0-9._-]{0,63}
    struct Label {
        string key;
        string value;
    }

    /// @notice One attestation of a ComputeBridge's request, as its node signed it: the members of the EIP-712 struct
    ///         Attestation but for the request hash, and the 65 bytes of the signature.
    struct SignedOutcome {
        bytes32 outcomeHash;
        bytes32 receiptHash;
        bytes32 logRoot;
        uint64 logSize;
        address relayer;
        bytes signature;
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
    /// @notice `bonded` is the node's bonded stake after it.
    event StakeAdded(uint256 indexed nodeId, uint256 amount, uint256 bonded);
    /// @notice `unbonding` is all that unbonds now, and `releasedAt` when it can be withdrawn (seconds since 1970).
    event StakeUnbonding(uint256 indexed nodeId, uint256 amount, uint256 unbonding, uint64 releasedAt);
    event StakeWithdrawn(uint256 indexed nodeId, address indexed to, uint256 amount);
    /// @notice The node's whole stake, bonded and unbonding, is gone: `reward` to the prover, the rest burned.
    event NodeSlashed(
        uint256 indexed nodeId,
        bytes32 indexed requestHash,
        address indexed prover,
        address bridge,
        address key,
        bytes32 firstOutcome,
        bytes32 secondOutcome,
        uint256 amount,
        uint256 reward
    );
    event RewardWithdrawn(address indexed prover, address indexed to, uint256 amount);

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
    error NodeRegistryInvalidParameter(string name);
    error NodeRegistryNoAmount(uint256 nodeId);
    error NodeRegistryInsufficientStake(uint256 nodeId, uint256 bonded, uint256 wanted);
    error NodeRegistryNothingUnbonding(uint256 nodeId);
    error NodeRegistryStillUnbonding(uint256 nodeId, uint64 releasedAt);
    error NodeRegistryForeignBridge(address bridge);
    error NodeRegistryNoContradiction(bytes32 outcomeHash);
    error NodeRegistryDifferentSigners(address first, address second);
    error NodeRegistryUnknownKey(address key);
    error NodeRegistryAlreadyProven(uint256 nodeId, address key);
    error NodeRegistryStakeUnderProvenKey(uint256 nodeId, address key);
    error NodeRegistryNothingToSlash(uint256 nodeId);
    error NodeRegistryNoReward(address prover);
    error NodeRegistryTransferFailed(address to, uint256 amount);

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

    /// @notice Adds `msg.value` to the stake of a node of the caller. Refused while its current key is one that was proven to
    ///         have signed two outcomes of one request: let another key join first.
    function stake(uint256 nodeId) external payable;
    /// @notice Begins to take `amount` of a node's bonded stake out. All that unbonds waits `unbonding()` seconds from
    ///         now, what was unbonding already too. It answers for every request that was made before this call: such a
    ///         request has its deadline at least seven days before the release. It can be slashed until it is withdrawn.
    function unstake(uint256 nodeId, uint256 amount) external;
    /// @notice Sends what has unbonded to `to`; the operator's alone.
    function withdrawStake(uint256 nodeId, address payable to) external;
    /// @notice Slashes a node of which one key, current or not, signed two outcomes of one request. Anyone may prove it.
    ///         A tenth of the node's stake, bonded and unbonding, becomes the caller's reward, the rest is burned. A
    ///         key is proven once, and not at all while its node has no stake.
    /// @param bridge      the ComputeBridge on this chain in whose domain both are signed; it must name this registry
    /// @param requestHash the request's hash, the same in both
    /// @return nodeId     the node
    /// @return reward     what the caller can draw by `withdrawReward`
    function slash(
        address bridge,
        bytes32 requestHash,
        SignedOutcome calldata first,
        SignedOutcome calldata second
    ) external returns (uint256 nodeId, uint256 reward);
    /// @notice Sends the caller's rewards to `to`.
    function withdrawReward(address payable to) external;

    function nodeCount() external view returns (uint256);
    /// @notice Operator, current key (zero when none joined), whether the node is active now.
    function nodeOf(uint256 nodeId) external view returns (address operator, address key, bool active);
    /// @notice The node that `key` ever joined; zero when none. Current or not: compare with `nodeOf`.
    function nodeOfKey(address key) external view returns (uint256 nodeId);
    /// @notice For `key`: its node and operator when the key is current and the node active, else zeros.
    function activeNodeOfKey(address key) external view returns (uint256 nodeId, address operator);
    /// @notice `activeNodeOfKey`, and whether the labels count for that node, as `carries` says: what a bridge asks.
    function attesterOf(address key, address curator, bytes32[] calldata labelHashes)
        external
        view
        returns (uint256 nodeId, address operator, bool isCarrier);
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
    /// @notice What a node has at stake (answers for requests made from now on), what unbonds, and when that is released
    ///         (seconds since 1970; zero when nothing unbonds).
    function stakeOf(uint256 nodeId) external view returns (uint256 bonded, uint256 unbonding_, uint64 releasedAt);
    /// @notice What `prover` can draw.
    function rewardOf(address prover) external view returns (uint256);
    /// @notice All stakes and rewards: the balance is never less, and more only when somebody forced tokens in.
    function owed() external view returns (uint256);
    /// @notice Whether a contradiction of this key, current or not, was proven.
    function isProven(address key) external view returns (bool);
    /// @notice Seconds that stake unbonds: at least MIN_UNBONDING, and at least the longest ttl of each ComputeBridge that
    ///         takes this registry plus seven days; a bridge refuses to be created otherwise.
    function unbonding() external view returns (uint32);
}
