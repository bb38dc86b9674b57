// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title ResultText
/// @notice Reads results in contracts: CIDs as text, numbers out of standard output. The bytes are a program's, so
///         nothing here reverts on what they hold.
library ResultText {
    bytes32 private constant _BASE32 = "abcdefghijklmnopqrstuvwxyz234567";

    /// @notice A binary CIDv1 as text: multibase "b", base32 in lower case without padding. Empty stays empty.
    function cidText(bytes memory cid) internal pure returns (string memory) {
        if (cid.length == 0) return "";
        bytes memory text = new bytes(1 + (cid.length * 8 + 4) / 5);
        text[0] = "b";
        uint256 to = 1;
        uint256 held = 0;
        uint256 bits = 0;
        for (uint256 i = 0; i < cid.length; ++i) {
            held = ((held << 8) | uint8(cid[i])) & 0xffff;
            bits += 8;
            while (bits >= 5) {
                bits -= 5;
                text[to++] = _BASE32[(held >> bits) & 31];
            }
        }
        if (bits != 0) text[to] = _BASE32[(held << (5 - bits)) & 31];
        return string(text);
    }

    /// @notice The decimal number at `from`: digits only, as many as there are, at most 20, without a leading zero.
    /// @return found whether a number stands there and fits 64 bits
    /// @return value the number
    /// @return next  the index behind its last digit
    function decimalAt(bytes memory text, uint256 from) internal pure returns (bool found, uint64 value, uint256 next) {
        uint256 number = 0;
        next = from;
        while (next < text.length && next - from < 21 && text[next] >= "0" && text[next] <= "9") {
            number = number * 10 + uint8(text[next]) - 48;
            ++next;
        }
        found = next != from && number <= type(uint64).max && (text[from] != "0" || next - from == 1);
        value = found ? uint64(number) : 0;
    }

    /// @notice The numbers of one line: exactly `count` of them with one space between, then one newline, then nothing.
    /// @return ok     whether the text is exactly that
    /// @return values the numbers; zeros when it is not
    function decimalLine(bytes memory text, uint256 count) internal pure returns (bool ok, uint64[] memory values) {
        values = new uint64[](count);
        uint256 at = 0;
        for (uint256 i = 0; i < count; ++i) {
            (bool found, uint64 value, uint256 next) = decimalAt(text, at);
            bytes1 separator = i + 1 == count ? bytes1("\n") : bytes1(" ");
            if (!found || next == text.length || text[next] != separator) return (false, new uint64[](count));
            values[i] = value;
            at = next + 1;
        }
        if (at != text.length) return (false, new uint64[](count));
        ok = true;
    }
}
