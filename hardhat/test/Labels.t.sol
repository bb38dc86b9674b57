// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {Labels} from "../contracts/libraries/Labels.sol";

/// @notice The grammar against a second, table-driven reading of it.
contract LabelsTest {
    bytes private constant _KEY_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789._/-";
    bytes private constant _VALUE_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789._-ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    uint256 private constant _FIRST_OF_KEY = 36;

    function testFuzzAnyBytesAreJudgedAsTheGrammarSays(bytes memory key, bytes memory value) public pure {
        bool expected = key.length > 0 && key.length <= 63 && value.length <= 63
            && _allOf(key, _KEY_CHARACTERS, _KEY_CHARACTERS.length)
            && _allOf(value, _VALUE_CHARACTERS, _VALUE_CHARACTERS.length)
            && _allOf(_head(key), _KEY_CHARACTERS, _FIRST_OF_KEY);
        assert(Labels.isValid(string(key), string(value)) == expected);
    }

    function testFuzzEveryWordOfTheGrammarIsALabel(bytes memory key, bytes memory value) public pure {
        bytes memory k = _map(_cut(key), _KEY_CHARACTERS);
        bytes memory v = _map(_cut(value), _VALUE_CHARACTERS);
        if (k.length == 0) k = "a";
        k[0] = _KEY_CHARACTERS[uint8(k[0]) % _FIRST_OF_KEY];
        assert(Labels.isValid(string(k), string(v)));
    }

    function testFuzzOneForeignByteMakesItNoLabel(bytes memory key, uint256 at, bytes1 foreign) public pure {
        bytes memory k = _map(_cut(key), _KEY_CHARACTERS);
        if (k.length == 0) k = "a";
        k[0] = "a";
        k[at % k.length] = foreign;
        bool stays = _allOf(bytes.concat(foreign), _KEY_CHARACTERS, at % k.length == 0 ? _FIRST_OF_KEY : 40);
        assert(Labels.isValid(string(k), "") == stays);
    }

    function testFuzzTheHashIsThatOfKeyEqualsValue(string memory key, string memory value) public pure {
        assert(Labels.hash(key, value) == keccak256(abi.encodePacked(key, "=", value)));
    }

    function _allOf(bytes memory text, bytes memory characters, uint256 count) private pure returns (bool) {
        for (uint256 i = 0; i < text.length; ++i) {
            bool found = false;
            for (uint256 j = 0; j < count; ++j) {
                if (characters[j] == text[i]) found = true;
            }
            if (!found) return false;
        }
        return true;
    }

    function _head(bytes memory text) private pure returns (bytes memory) {
        return text.length == 0 ? text : bytes.concat(text[0]);
    }

    function _cut(bytes memory text) private pure returns (bytes memory cut) {
        cut = new bytes(text.length % 64);
        for (uint256 i = 0; i < cut.length; ++i) cut[i] = text[i];
    }

    function _map(bytes memory text, bytes memory characters) private pure returns (bytes memory) {
        for (uint256 i = 0; i < text.length; ++i) text[i] = characters[uint8(text[i]) % characters.length];
        return text;
    }
}
