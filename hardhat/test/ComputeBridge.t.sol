// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {ComputeBridge} from "../contracts/ComputeBridge.sol";
import {NodeRegistry} from "../contracts/NodeRegistry.sol";
import {IComputeBridge} from "../contracts/interfaces/IComputeBridge.sol";
import {INodeRegistry} from "../contracts/interfaces/INodeRegistry.sol";
import {Stage} from "./Stage.sol";
import {vm} from "./Vm.sol";

/// @notice Money is conserved and the request hash is its formula, whatever the order and however it ends.
contract ComputeBridgeTest {
    uint256 private constant _NODES = 16;
    address private constant _RELAYER = address(0xFEE);
    address private constant _REQUESTER = address(0xBEEF);

    NodeRegistry private _registry;
    ComputeBridge private _bridge;

    function setUp() public {
        _registry = new NodeRegistry(3600, 37 days);
        _bridge = new ComputeBridge(address(_registry), 1, 30 days, 600, address(this));
        for (uint256 nodeId = 1; nodeId <= _NODES; ++nodeId) {
            vm.prank(_operator(nodeId));
            _registry.register(new INodeRegistry.Label[](0), "");
            bytes32 structHash = keccak256(abi.encode(_registry.NODE_KEY_TYPEHASH(), _operator(nodeId), nodeId, 0));
            bytes memory signature = Stage.sign(nodeId, "InsulaNodeRegistry", address(_registry), structHash);
            vm.prank(_operator(nodeId));
            _registry.joinKey(nodeId, vm.addr(nodeId), signature);
        }
        vm.warp(1_000_000);
    }

    function testFuzzAPriceIsPaidOutToTheLastUnit(
        uint8 nodes,
        uint8 quorum,
        uint8 signers,
        uint8 status,
        uint128 unitPrice,
        uint128 failPrice,
        uint128 deliveryFee
    ) public {
        IComputeBridge.Order memory order = _order(nodes, quorum, unitPrice, failPrice, deliveryFee);
        IComputeBridge.Outcome memory outcome = _outcome(status);
        uint256 count = order.quorum + signers % (order.nodes - order.quorum + 1);
        (uint256 id, uint256 price) = _place(order);

        _bridge.fulfil(id, order, outcome, _attest(id, outcome, count));

        uint256 share = outcome.status == 1 ? order.unitPrice : outcome.status == 2 ? order.failPrice : 0;
        uint256 paid = 0;
        for (uint256 nodeId = 1; nodeId <= _NODES; ++nodeId) {
            uint256 credit = _bridge.creditOf(_operator(nodeId), address(0));
            assert(credit == (nodeId <= count ? share : 0));
            paid += credit;
        }
        assert(_bridge.creditOf(_RELAYER, address(0)) == order.deliveryFee);
        uint256 refund = _bridge.creditOf(_REQUESTER, address(0));
        assert(refund == uint256(order.nodes) * order.unitPrice - count * share);
        assert(paid + order.deliveryFee + refund == price);
        assert(_bridge.owed(address(0)) == price && address(_bridge).balance == price);
    }

    function testFuzzARefundIsTheWholePrice(uint8 nodes, uint128 unitPrice, uint128 deliveryFee, bool cancelled)
        public
    {
        IComputeBridge.Order memory order = _order(nodes, 0, unitPrice, 0, deliveryFee);
        (uint256 id, uint256 price) = _place(order);
        if (cancelled) {
            vm.prank(_REQUESTER);
            _bridge.cancel(id, order);
            vm.warp(block.timestamp + 600);
            _bridge.drawCancelled(id, order);
        } else {
            vm.warp(block.timestamp + order.ttl + 1);
            _bridge.expire(id, order);
        }
        assert(_bridge.creditOf(_REQUESTER, address(0)) == price);
        if (price > 0) {
            uint256 before = address(0xCAFE).balance;
            vm.prank(_REQUESTER);
            _bridge.withdraw(address(0), payable(address(0xCAFE)));
            assert(address(0xCAFE).balance - before == price);
        }
        assert(_bridge.owed(address(0)) == 0 && address(_bridge).balance == 0);
    }

    function testFuzzOneSettlementDoesNotTouchAnothersEscrow(uint128 first, uint128 second, uint8 status) public {
        IComputeBridge.Order memory mine = _order(0, 0, first, 0, 0);
        IComputeBridge.Order memory other = _order(2, 2, second, 0, 0);
        (uint256 id, uint256 price) = _place(mine);
        (uint256 otherId, uint256 otherPrice) = _place(other);
        _bridge.fulfil(id, mine, _outcome(status), _attest(id, _outcome(status), 1));
        assert(_bridge.owed(address(0)) == price + otherPrice);
        vm.warp(block.timestamp + other.ttl + 1);
        uint256 before = _bridge.creditOf(_REQUESTER, address(0));
        _bridge.expire(otherId, other);
        assert(_bridge.creditOf(_REQUESTER, address(0)) - before == otherPrice);
    }

    function testFuzzTheRequestHashIsItsFormula(bytes memory spec, uint8 dialect, uint32 ttl, bytes32[] memory labels)
        public
    {
        vm.assume(spec.length > 0 && spec.length <= 16_384);
        IComputeBridge.Order memory order = _order(3, 2, 5, 4, 3);
        order.spec = spec;
        order.dialect = 1 + dialect % 4;
        order.ttl = 1 + ttl % 30 days;
        order.labels = _ascending(labels);
        (uint256 id,) = _place(order);
        bytes32 orderHash = keccak256(abi.encode(order));
        bytes32 expected = keccak256(abi.encode(block.chainid, address(_bridge), id, _REQUESTER, orderHash));
        assert(_bridge.requestHash(id) == expected);
    }

    function _place(IComputeBridge.Order memory order) private returns (uint256 id, uint256 price) {
        price = uint256(order.nodes) * order.unitPrice + order.deliveryFee;
        vm.deal(_REQUESTER, price);
        vm.prank(_REQUESTER);
        id = _bridge.requestJob{value: price}(order);
    }

    function _attest(uint256 id, IComputeBridge.Outcome memory outcome, uint256 count)
        private
        view
        returns (IComputeBridge.Attestation[] memory attestations)
    {
        attestations = new IComputeBridge.Attestation[](count);
        bytes32 request = _bridge.requestHash(id);
        bytes32 outcomeHash = keccak256(abi.encode(outcome));
        for (uint256 i = 0; i < count; ++i) {
            bytes32 receipt = keccak256(abi.encode("receipt", i));
            bytes32 structHash = keccak256(
                abi.encode(_bridge.ATTESTATION_TYPEHASH(), request, outcomeHash, receipt, bytes32(0), i, _RELAYER)
            );
            bytes memory signature = Stage.sign(i + 1, "Insula", address(_bridge), structHash);
            attestations[i] = IComputeBridge.Attestation(receipt, bytes32(0), uint64(i), _RELAYER, signature);
        }
    }

    function _order(uint8 nodes, uint8 quorum, uint128 unitPrice, uint128 failPrice, uint128 deliveryFee)
        private
        pure
        returns (IComputeBridge.Order memory order)
    {
        order.version = 1;
        order.dialect = 1;
        order.spec = "{}";
        order.resultKind = 1;
        order.nodes = 1 + nodes % uint8(_NODES);
        uint8 majority = order.nodes / 2 + 1;
        order.quorum = majority + quorum % (order.nodes - majority + 1);
        order.ttl = 3600;
        order.unitPrice = unitPrice;
        order.failPrice = unitPrice == type(uint128).max ? failPrice : failPrice % (unitPrice + 1);
        order.deliveryFee = deliveryFee;
    }

    function _outcome(uint8 status) private pure returns (IComputeBridge.Outcome memory outcome) {
        outcome.status = 1 + status % 4;
        outcome.reason = status;
    }

    function _ascending(bytes32[] memory labels) private pure returns (bytes32[] memory sorted) {
        sorted = new bytes32[](labels.length % 9);
        for (uint256 i = 0; i < sorted.length; ++i) {
            bytes32 low = i == 0 ? bytes32(0) : sorted[i - 1];
            sorted[i] = bytes32((uint256(low) + 1) + uint256(labels[i]) / 16);
        }
    }

    function _operator(uint256 nodeId) private pure returns (address) {
        return address(uint160(0x1000 + nodeId));
    }
}
