// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {ComputeClient} from "../client/ComputeClient.sol";
import {JsonString} from "../client/JsonString.sol";
import {ResultText} from "../client/ResultText.sol";
import {SpecBuilder} from "../client/SpecBuilder.sol";
import {IComputeBridge} from "../interfaces/IComputeBridge.sol";

/// @title ClientHarness
/// @notice Opens to tests what dApps use inside: the base contract and its libraries.
contract ClientHarness is ComputeClient {
    using SpecBuilder for SpecBuilder.Spec;

    struct Pair {
        string name;
        string value;
    }

    /// @notice Every part of a spec; `module` or, when it is empty, `image`.
    struct Parts {
        string module;
        string image;
        string archive;
        string[] entrypoint;
        string workdir;
        bool gvisor;
        string[] args;
        Pair[] env;
        Pair[] inputs;
        uint8[] limits;
        uint256[] limitValues;
        Pair[] labels;
        string[] requirements;
    }

    bool public acceptsAnyNode;
    uint256 public results;
    uint256 public lastId;
    bytes32 public lastRequestHash;
    bytes public lastPayload;

    constructor(address bridge) ComputeClient(bridge) {}

    receive() external payable {}

    function acceptAnyNode() external {
        acceptsAnyNode = true;
    }

    function request(IComputeBridge.Order memory order) external payable returns (uint256) {
        return _request(order, msg.value);
    }

    function requestIn(IERC20 token, IComputeBridge.Order memory order) external returns (uint256) {
        token.approve(address(computeBridge()), _quote(order));
        return _request(order, 0);
    }

    function collect(address payable to) external returns (uint256) {
        return _collectRefunds(to);
    }

    function collectIn(address token, address payable to) external returns (uint256) {
        return _collectRefunds(token, to);
    }

    function newOrder(bytes memory spec, address curator, uint128 unitPrice)
        external
        view
        returns (IComputeBridge.Order memory)
    {
        return _newOrder(spec, curator, unitPrice);
    }

    function quote(IComputeBridge.Order memory order) external view returns (uint256) {
        return _quote(order);
    }

    function refundable() external view returns (uint256) {
        return _refundable();
    }

    function jsonString(string memory text) external pure returns (bytes memory) {
        return JsonString.quote(text);
    }

    function cidText(bytes memory cid) external pure returns (string memory) {
        return ResultText.cidText(cid);
    }

    function decimalLine(bytes memory text, uint256 count) external pure returns (bool, uint64[] memory) {
        return ResultText.decimalLine(text, count);
    }

    function archiveTwice(string memory cid) external pure {
        SpecBuilder.docker("x").archive(cid).archive(cid);
    }

    function build(Parts calldata parts) external pure returns (bytes memory json, bytes32[] memory labels) {
        bool isWasm = bytes(parts.module).length != 0;
        SpecBuilder.Spec memory spec = isWasm ? SpecBuilder.wasm(parts.module) : SpecBuilder.docker(parts.image);
        if (bytes(parts.archive).length != 0) spec.archive(parts.archive);
        if (parts.entrypoint.length != 0) spec.entrypoint(parts.entrypoint);
        if (bytes(parts.workdir).length != 0) spec.workdir(parts.workdir);
        if (parts.gvisor) spec.gvisor();
        for (uint256 i = 0; i < parts.args.length; ++i) spec.arg(parts.args[i]);
        for (uint256 i = 0; i < parts.env.length; ++i) spec.env(parts.env[i].name, parts.env[i].value);
        for (uint256 i = 0; i < parts.inputs.length; ++i) spec.input(parts.inputs[i].name, parts.inputs[i].value);
        for (uint256 i = 0; i < parts.limits.length; ++i) {
            spec.limit(SpecBuilder.Limit(parts.limits[i]), parts.limitValues[i]);
        }
        for (uint256 i = 0; i < parts.labels.length; ++i) spec.label(parts.labels[i].name, parts.labels[i].value);
        for (uint256 i = 0; i < parts.requirements.length; ++i) spec.selector(parts.requirements[i]);
        return (spec.build(), spec.orderLabels());
    }

    function _onResult(uint256 id, bytes32 requestHash, IComputeBridge.Outcome calldata outcome) internal override {
        results += 1;
        lastId = id;
        lastRequestHash = requestHash;
        lastPayload = outcome.payload;
    }

    function _acceptsAnyNode() internal view override returns (bool) {
        return acceptsAnyNode;
    }
}
