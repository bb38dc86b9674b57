// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

// solhint-disable quotes

/// @title JsonString
/// @notice Text as a JSON string (RFC 8259): whatever a user typed stays one string, and no byte of it becomes syntax.
library JsonString {
    bytes16 private constant _HEX = "0123456789abcdef";
    uint256 private constant _ONES = 0x0101010101010101010101010101010101010101010101010101010101010101;
    uint256 private constant _HIGHS = 0x8080808080808080808080808080808080808080808080808080808080808080;
    uint256 private constant _QUOTES = 0x2222222222222222222222222222222222222222222222222222222222222222;
    uint256 private constant _BACKSLASHES = 0x5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c;
    uint256 private constant _SPACES = 0x2020202020202020202020202020202020202020202020202020202020202020;

    /// @notice The byte at `index` begins no UTF-8 sequence of RFC 3629. JSON has no form for such bytes: write binary
    ///         values, an address for example, as hexadecimal digits.
    error JsonStringInvalidUtf8(uint256 index);
    /// @notice The byte at `index` is NUL. JSON has a form for it, but no program takes it as an argument: nodes refuse it.
    error JsonStringNul(uint256 index);

    /// @notice `text` between quotation marks; the quotation mark, the backslash and U+0001 to U+001F are escaped.
    function quote(string memory text) internal pure returns (bytes memory quoted) {
        bytes memory input = bytes(text);
        uint256 length = input.length;
        // The longest escape is six bytes; a word of slack, because plain text is written in words.
        quoted = new bytes(6 * length + 34);
        quoted[0] = '"';
        uint256 to = 1;
        uint256 at = 0;
        uint256 bytewiseUntil = 0;
        while (at < length) {
            if (at >= bytewiseUntil && length - at >= 32) {
                uint256 word = _load(input, at);
                if (_isPlain(word)) {
                    _store(quoted, to, word);
                    (at, to) = (at + 32, to + 32);
                    continue;
                }
                bytewiseUntil = at + 32;
            }
            bytes1 c = input[at];
            if (c >= 0x80) {
                uint256 end = at + _sequenceLength(input, at);
                while (at < end) quoted[to++] = input[at++];
                continue;
            }
            if (c == 0) revert JsonStringNul(at);
            if (c < 0x20) {
                quoted[to] = "\\";
                quoted[to + 1] = "u";
                quoted[to + 2] = "0";
                quoted[to + 3] = "0";
                quoted[to + 4] = _HEX[uint8(c) >> 4];
                quoted[to + 5] = _HEX[uint8(c) & 0x0f];
                to += 6;
            } else {
                if (c == '"' || c == "\\") quoted[to++] = "\\";
                quoted[to++] = c;
            }
            ++at;
        }
        quoted[to] = '"';
        _shorten(quoted, to + 1);
    }

    /// @dev Whether all 32 bytes are ASCII from the space up, without quotation mark and backslash. A borrow can only
    ///      come out of a byte that is itself no plain one.
    function _isPlain(uint256 word) private pure returns (bool) {
        unchecked {
            uint256 quotes = word ^ _QUOTES;
            uint256 backslashes = word ^ _BACKSLASHES;
            uint256 found = word | ((word - _SPACES) & ~word) | ((quotes - _ONES) & ~quotes)
                | ((backslashes - _ONES) & ~backslashes);
            return found & _HIGHS == 0;
        }
    }

    /// @dev The table of RFC 3629, section 4: no overlong forms, no surrogates, nothing above U+10FFFF.
    function _sequenceLength(bytes memory input, uint256 at) private pure returns (uint256 size) {
        uint8 first = uint8(input[at]);
        uint8 lowest = 0x80;
        uint8 highest = 0xbf;
        if (first >= 0xc2 && first <= 0xdf) {
            size = 2;
        } else if (first >= 0xe0 && first <= 0xef) {
            size = 3;
            if (first == 0xe0) lowest = 0xa0;
            if (first == 0xed) highest = 0x9f;
        } else if (first >= 0xf0 && first <= 0xf4) {
            size = 4;
            if (first == 0xf0) lowest = 0x90;
            if (first == 0xf4) highest = 0x8f;
        }
        if (size == 0 || input.length - at < size) revert JsonStringInvalidUtf8(at);
        for (uint256 i = 1; i < size; ++i) {
            uint8 next = uint8(input[at + i]);
            if (next < lowest || next > highest) revert JsonStringInvalidUtf8(at);
            (lowest, highest) = (0x80, 0xbf);
        }
    }

    function _load(bytes memory data, uint256 at) private pure returns (uint256 word) {
        // solhint-disable-next-line no-inline-assembly
        assembly ("memory-safe") {
            word := mload(add(add(data, 0x20), at))
        }
    }

    function _store(bytes memory data, uint256 at, uint256 word) private pure {
        // solhint-disable-next-line no-inline-assembly
        assembly ("memory-safe") {
            mstore(add(add(data, 0x20), at), word)
        }
    }

    function _shorten(bytes memory data, uint256 length) private pure {
        // solhint-disable-next-line no-inline-assembly
        assembly ("memory-safe") {
            mstore(data, length)
        }
    }
}
