// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {ComputeBridge} from "../contracts/ComputeBridge.sol";
import {NodeRegistry} from "../contracts/NodeRegistry.sol";
import {IComputeBridge} from "../contracts/interfaces/IComputeBridge.sol";
import {INodeRegistry} from "../contracts/interfaces/INodeRegistry.sol";
import {Stage} from "./Stage.sol";
import {vm} from "./Vm.sol";

/// @notice What every handler stands on: a registry with admitted nodes, a bridge, the time, and the first rule that was broken.
abstract contract NodesStage {
    uint256 public constant NODES = 5;
    uint32 internal constant _MAX_TTL = 1 days;
    uint32 internal constant _CANCEL_DELAY = 300;
    address internal constant _CURATOR = address(0xC0FFEE);
    bytes32 internal constant _ADMITTED = keccak256("node=admitted");
    string private constant _BRIDGE_NAME = "Insula";
    string private constant _REGISTRY_NAME = "InsulaNodeRegistry";

    NodeRegistry public immutable REGISTRY;
    ComputeBridge public immutable BRIDGE;

    /// @notice The first rule that the contracts broke; empty while they hold.
    string public broken;
    uint256 internal _now = 1_000_000;
    mapping(uint256 nodeId => uint256 key) internal _keyOf;

    constructor() {
        REGISTRY = new NodeRegistry(100, 8 days);
        BRIDGE = new ComputeBridge(address(REGISTRY), 1, _MAX_TTL, _CANCEL_DELAY, address(this));
        bytes32[] memory admitted = new bytes32[](1);
        admitted[0] = _ADMITTED;
        for (uint256 nodeId = 1; nodeId <= NODES; ++nodeId) {
            vm.prank(Stage.operator(nodeId));
            REGISTRY.register(new INodeRegistry.Label[](0), "");
            _join(nodeId, nodeId, 0);
            vm.prank(_CURATOR);
            REGISTRY.vouch(nodeId, admitted);
        }
    }

    function wait_(uint32 time) external {
        _now += 1 + time % 40_000;
    }

    function _join(uint256 nodeId, uint256 key, uint256 nonce) internal {
        bytes32 kind = REGISTRY.NODE_KEY_TYPEHASH();
        bytes32 structHash = keccak256(abi.encode(kind, Stage.operator(nodeId), nodeId, nonce));
        bytes memory signature = Stage.sign(key, _REGISTRY_NAME, address(REGISTRY), structHash);
        vm.prank(Stage.operator(nodeId));
        REGISTRY.joinKey(nodeId, vm.addr(key), signature);
        _keyOf[nodeId] = key;
    }

    function _hold(bool holds, string memory rule) internal {
        if (!holds && bytes(broken).length == 0) broken = rule;
    }

    function _signAttestation(uint256 key, bytes32 hash, bytes32 outcomeHash, IComputeBridge.Attestation memory a)
        internal
        view
        returns (bytes memory)
    {
        bytes32 kind = BRIDGE.ATTESTATION_TYPEHASH();
        bytes32 structHash =
            keccak256(abi.encode(kind, hash, outcomeHash, a.receiptHash, a.logRoot, a.logSize, a.relayer));
        return Stage.sign(key, _BRIDGE_NAME, address(BRIDGE), structHash);
    }
}
