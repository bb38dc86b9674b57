// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Labels
/// @notice The grammar of a label and its hash. Bytes, not characters: a label is ASCII.
library Labels {
    uint256 internal constant MAX_BYTES = 63;

    /// @notice Whether `key` is [a-z0-9][a-z0-9._/-]{0,62} and `value` is [A-Za-z0-9._-]{0,63}.
    function isValid(string memory key, string memory value) internal pure returns (bool) {
        bytes memory k = bytes(key);
        bytes memory v = bytes(value);
        if (k.length == 0 || k.length > MAX_BYTES || v.length > MAX_BYTES) return false;
        if (!_isLowerOrDigit(k[0])) return false;
        for (uint256 i = 1; i < k.length; ++i) {
            if (!_isLowerOrDigit(k[i]) && !_isPunctuation(k[i]) && k[i] != "/") return false;
        }
        for (uint256 i = 0; i < v.length; ++i) {
            if (!_isLowerOrDigit(v[i]) && !_isUpper(v[i]) && !_isPunctuation(v[i])) return false;
        }
        return true;
    }

    /// @notice keccak256("key=value"). No valid key contains "=", so no two valid labels share their words.
    function hash(string memory key, string memory value) internal pure returns (bytes32) {
        return keccak256(bytes.concat(bytes(key), "=", bytes(value)));
    }

    function _isLowerOrDigit(bytes1 c) private pure returns (bool) {
        return (c >= "a" && c <= "z") || (c >= "0" && c <= "9");
    }

    function _isUpper(bytes1 c) private pure returns (bool) {
        return c >= "A" && c <= "Z";
    }

    function _isPunctuation(bytes1 c) private pure returns (bool) {
        return c == "." || c == "_" || c == "-";
    }
}
