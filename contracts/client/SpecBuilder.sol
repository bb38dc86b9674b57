// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Strings} from "@openzeppelin/contracts/utils/Strings.sol";

import {Labels} from "../libraries/Labels.sol";
import {JsonString} from "./JsonString.sol";

// JSON is full of double quotes.
// solhint-disable quotes

/// @title SpecBuilder
/// @notice Builds job specs in the format insula/v1 (docs/spec.md). What it lets through is one JSON object with the
///         fields that were set and nothing else, whatever bytes the texts hold; what nodes would refuse for its form,
///         it reverts on before anyone paid. CIDs, image digests, paths and the range of limits are left to the nodes.
///
///         using SpecBuilder for SpecBuilder.Spec;
///         SpecBuilder.Spec memory s = SpecBuilder.wasm(MODULE).arg(prompt).input(cid, "/inputs/a").label("gpu", "yes");
///         order.spec = s.build();
///         order.labels = s.orderLabels();
library SpecBuilder {
    /// @notice The limits of a job; units are in the names.
    enum Limit {
        WallSeconds,
        CpuMillis,
        MemoryBytes,
        DiskBytes,
        OutputFiles,
        LogBytes,
        Pids
    }

    /// @notice A spec in the making. Use the functions: they keep it valid.
    /// @param engineJson members of the engine up to now, without braces; so with arguments, environment and inputs
    /// @param engineMembers which of the optional members of a container's engine are set, a bit each
    /// @param envNames   hashes of the names in use
    /// @param limits     value + 1, or zero for the default
    /// @param labels     hashes of the labels, sorted
    struct Spec {
        bytes engineJson;
        uint256 engineMembers;
        bytes argsJson;
        uint256 argCount;
        bytes envJson;
        bytes32[64] envNames;
        uint256 envCount;
        bytes inputsJson;
        uint256 inputCount;
        uint256[7] limits;
        bytes selectorText;
        bytes32[8] labels;
        uint256 labelCount;
    }

    uint256 internal constant MAX_SPEC_BYTES = 16_384;
    uint256 internal constant MAX_TEXT_BYTES = 4_096;
    uint256 internal constant MAX_ARGS = 64;
    uint256 internal constant MAX_ENV = 64;
    uint256 internal constant MAX_ENV_NAME_BYTES = 128;
    uint256 internal constant MAX_INPUTS = 16;
    uint256 internal constant MAX_LABELS = 8;
    uint256 internal constant MAX_LIMIT = type(uint64).max;

    /// @dev All bits of `engineMembers`: a WASM engine has none of these.
    uint256 private constant _NO_CONTAINER = 15;

    /// @notice A value that no node would accept in this field.
    error SpecBuilderInvalid(string field);

    /// @notice A WASI preview 1 command module, by CID.
    function wasm(string memory module) internal pure returns (Spec memory spec) {
        spec.engineJson = bytes.concat('"type":"wasm","module":', _text("module", module));
        spec.engineMembers = _NO_CONTAINER;
    }

    /// @notice A container image: `sha256:<64 hex>` or `name@sha256:<64 hex>`.
    function docker(string memory image) internal pure returns (Spec memory spec) {
        spec.engineJson = bytes.concat('"type":"docker","image":', _text("image", image));
    }

    /// @notice The CID of a `docker load` archive that holds the image; for containers, once.
    function archive(Spec memory spec, string memory cid) internal pure returns (Spec memory) {
        return _engineMember(spec, 1, "archive", _text("archive", cid));
    }

    /// @notice What is started instead of the image's own entry point; for containers, once.
    function entrypoint(Spec memory spec, string[] memory words) internal pure returns (Spec memory) {
        if (words.length > MAX_ARGS) revert SpecBuilderInvalid("entrypoint");
        bytes memory list = "";
        for (uint256 i = 0; i < words.length; ++i) {
            list = _append(list, i, _text("entrypoint", words[i]));
        }
        return _engineMember(spec, 2, "entrypoint", bytes.concat("[", list, "]"));
    }

    /// @notice The absolute path in which the program starts; for containers, once.
    function workdir(Spec memory spec, string memory path) internal pure returns (Spec memory) {
        return _engineMember(spec, 4, "workdir", _text("workdir", path));
    }

    /// @notice Asks for gVisor beside the container; for containers, once.
    function gvisor(Spec memory spec) internal pure returns (Spec memory) {
        return _engineMember(spec, 8, "tier", '"gvisor"');
    }

    /// @notice One more argument of the program.
    function arg(Spec memory spec, string memory value) internal pure returns (Spec memory) {
        if (spec.argCount == MAX_ARGS) revert SpecBuilderInvalid("args");
        spec.argsJson = _append(spec.argsJson, spec.argCount++, _text("args", value));
        return spec;
    }

    /// @notice An environment variable; a name can be given once.
    /// @param name [A-Za-z_][A-Za-z0-9_]{0,127}
    function env(Spec memory spec, string memory name, string memory value) internal pure returns (Spec memory) {
        uint256 count = spec.envCount;
        if (count == MAX_ENV || !_isEnvName(bytes(name))) revert SpecBuilderInvalid("env");
        bytes32 nameHash = keccak256(bytes(name));
        for (uint256 i = 0; i < count; ++i) {
            if (spec.envNames[i] == nameHash) revert SpecBuilderInvalid("env");
        }
        spec.envNames[count] = nameHash;
        spec.envJson = _append(spec.envJson, count, bytes.concat('"', bytes(name), '":', _text("env", value)));
        spec.envCount = count + 1;
        return spec;
    }

    /// @notice A file or directory by CID, which the program reads at `path`, below /inputs.
    function input(Spec memory spec, string memory cid, string memory path) internal pure returns (Spec memory) {
        if (spec.inputCount == MAX_INPUTS) revert SpecBuilderInvalid("inputs");
        bytes memory entry = bytes.concat('{"cid":', _text("inputs", cid), ',"path":', _text("inputs", path), "}");
        spec.inputsJson = _append(spec.inputsJson, spec.inputCount++, entry);
        return spec;
    }

    /// @notice Sets a limit, or sets it anew.
    function limit(Spec memory spec, Limit which, uint256 value) internal pure returns (Spec memory) {
        if (value > MAX_LIMIT) revert SpecBuilderInvalid("limits");
        spec.limits[uint256(which)] = value + 1;
        return spec;
    }

    /// @notice A label that the node must carry: in the selector, and among `orderLabels`, where the contract checks it.
    function label(Spec memory spec, string memory key, string memory value) internal pure returns (Spec memory) {
        uint256 count = spec.labelCount;
        if (count == MAX_LABELS || !Labels.isValid(key, value)) revert SpecBuilderInvalid("labels");
        bytes32 labelHash = Labels.hash(key, value);
        uint256 at = count;
        for (; at > 0 && spec.labels[at - 1] >= labelHash; --at) {
            if (spec.labels[at - 1] == labelHash) revert SpecBuilderInvalid("labels");
            spec.labels[at] = spec.labels[at - 1];
        }
        spec.labels[at] = labelHash;
        spec.labelCount = count + 1;
        return selector(spec, string.concat(key, "=", value));
    }

    /// @notice One more requirement on the node, which the bridge alone keeps: "gpu notin (false)", "!spot", "cores>4".
    function selector(Spec memory spec, string memory requirement) internal pure returns (Spec memory) {
        if (bytes(requirement).length == 0) revert SpecBuilderInvalid("selector");
        spec.selectorText = _append(spec.selectorText, spec.selectorText.length, bytes(requirement));
        return spec;
    }

    /// @notice The hashes of the labels, as an order wants them: sorted and unique.
    function orderLabels(Spec memory spec) internal pure returns (bytes32[] memory labels) {
        labels = new bytes32[](spec.labelCount);
        for (uint256 i = 0; i < labels.length; ++i) {
            labels[i] = spec.labels[i];
        }
    }

    /// @notice The spec's bytes, at most 16 KiB.
    function build(Spec memory spec) internal pure returns (bytes memory json) {
        json = bytes.concat('{"version":"insula/v1","engine":{', spec.engineJson);
        if (spec.argCount != 0) json = bytes.concat(json, ',"args":[', spec.argsJson, "]");
        if (spec.envCount != 0) json = bytes.concat(json, ',"env":{', spec.envJson, "}");
        json = bytes.concat(json, "}");
        if (spec.inputCount != 0) json = bytes.concat(json, ',"inputs":[', spec.inputsJson, "]");
        bytes memory limits = _limits(spec);
        if (limits.length != 0) json = bytes.concat(json, ',"limits":{', limits, "}");
        if (spec.selectorText.length != 0) {
            json = bytes.concat(json, ',"selector":', _text("selector", string(spec.selectorText)));
        }
        json = bytes.concat(json, "}");
        if (json.length > MAX_SPEC_BYTES) revert SpecBuilderInvalid("spec");
    }

    function _engineMember(Spec memory spec, uint256 bit, string memory name, bytes memory json)
        private
        pure
        returns (Spec memory)
    {
        if (spec.engineMembers & bit != 0) revert SpecBuilderInvalid(name);
        spec.engineMembers |= bit;
        spec.engineJson = bytes.concat(spec.engineJson, ',"', bytes(name), '":', json);
        return spec;
    }

    function _limits(Spec memory spec) private pure returns (bytes memory json) {
        string[7] memory names =
            ["wallSeconds", "cpuMillis", "memoryBytes", "diskBytes", "outputFiles", "logBytes", "pids"];
        for (uint256 i = 0; i < names.length; ++i) {
            uint256 value = spec.limits[i];
            if (value == 0) continue;
            bytes memory member = bytes.concat('"', bytes(names[i]), '":', bytes(Strings.toString(value - 1)));
            json = _append(json, json.length, member);
        }
    }

    /// @dev `item` behind `list`, with a comma where it is not the first.
    function _append(bytes memory list, uint256 already, bytes memory item) private pure returns (bytes memory) {
        return already == 0 ? item : bytes.concat(list, ",", item);
    }

    function _text(string memory field, string memory value) private pure returns (bytes memory) {
        if (bytes(value).length > MAX_TEXT_BYTES) revert SpecBuilderInvalid(field);
        return JsonString.quote(value);
    }

    function _isEnvName(bytes memory name) private pure returns (bool) {
        if (name.length == 0 || name.length > MAX_ENV_NAME_BYTES) return false;
        for (uint256 i = 0; i < name.length; ++i) {
            bytes1 c = name[i];
            bool letter = (c >= "A" && c <= "Z") || (c >= "a" && c <= "z") || c == "_";
            if (!letter && (i == 0 || c < "0" || c > "9")) return false;
        }
        return true;
    }
}
