// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {IComputeBridge} from "../contracts/interfaces/IComputeBridge.sol";
import {AttestationHash} from "../contracts/libraries/AttestationHash.sol";
import {BoundedCall} from "../contracts/libraries/BoundedCall.sol";
import {EncodeOnce} from "../contracts/libraries/EncodeOnce.sol";
import {CallRecorder} from "../contracts/mocks/CallRecorder.sol";
import {vm} from "./Vm.sol";

/// @notice One encoding, used three times, says what three encodings would say.
contract EncodeOnceTest {
    function testFuzzTheHashOfAnOutcomesRecordIsThatOfTheOutcome(IComputeBridge.Outcome memory outcome) public view {
        this.checkOutcome(outcome, abi.encode(outcome));
    }

    function testFuzzTheHashOfAnOrdersRecordIsThatOfTheOrder(IComputeBridge.Order memory order, uint40 deadline)
        public
        pure
    {
        bytes memory encoded = abi.encode(deadline, order);
        bytes32 before = keccak256(encoded);
        assert(EncodeOnce.structHash(encoded, 1) == keccak256(abi.encode(order)));
        assert(keccak256(encoded) == before);
    }

    function testFuzzACallWithARecordIsTheCallOfItsArguments(
        uint256 id,
        bytes32 hash,
        IComputeBridge.Outcome memory outcome,
        bytes4 selector
    ) public {
        vm.assume(selector != CallRecorder.data.selector);
        bytes memory encoded = abi.encode(bytes32(0), bytes32(0), outcome);
        EncodeOnce.setHead(encoded, bytes32(id), hash);
        bytes32 before = keccak256(encoded);
        CallRecorder recorder = new CallRecorder();
        (bool success, bytes memory returned) =
            BoundedCall.tryCallFunction(address(recorder), gasleft(), selector, encoded, 32);
        assert(success && returned.length == 32 && bytes32(returned) == keccak256("seen"));
        assert(keccak256(recorder.data()) == keccak256(abi.encodeWithSelector(selector, id, hash, outcome)));
        assert(keccak256(encoded) == before);
    }

    function testFuzzADigestIsThatOfItsStruct(
        bytes32 separator,
        bytes32 request,
        bytes32 outcome,
        IComputeBridge.Attestation[3] memory attestations
    ) public view {
        this.checkDigests(separator, request, outcome, attestations);
    }

    function checkOutcome(IComputeBridge.Outcome calldata outcome, bytes calldata encoded) external pure {
        bytes memory made = EncodeOnce.record(outcome);
        bytes memory after_ = "memory after the record";
        assert(EncodeOnce.structHash(made, 2) == keccak256(encoded));
        assert(keccak256(made) == keccak256(abi.encode(bytes32(0), bytes32(0), outcome)));
        assert(keccak256(after_) == keccak256("memory after the record"));
    }

    function checkDigests(
        bytes32 separator,
        bytes32 request,
        bytes32 outcome,
        IComputeBridge.Attestation[3] calldata attestations
    ) external pure {
        bytes memory form = AttestationHash.form(separator, request, outcome);
        for (uint256 i = 0; i < 3; ++i) {
            IComputeBridge.Attestation calldata a = attestations[i];
            bytes32 structHash =
                AttestationHash.structHash(request, outcome, a.receiptHash, a.logRoot, a.logSize, a.relayer);
            assert(AttestationHash.digest(form, a) == keccak256(abi.encodePacked("\x19\x01", separator, structHash)));
        }
    }
}
