"""Why our contracts refused, in words: a sentence for each of their errors."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from eth_utils.address import is_address, to_checksum_address

from bridge.chain.contracts import Revert, decode_revert, describe_revert
from bridge.chain.rpc_errors import revert_data
from bridge.errors import RpcRefused
from executor.protocol.wire import OnChainState

#: error -> sentence with the error's arguments by name; a test compares both with the contracts' ABIs
SENTENCES = {
    "ComputeBridgeAlreadyMarked": "request {id} is marked for cancellation already",
    "ComputeBridgeCallbackNotRetryable": "the callback of request {id} did not fail, so it cannot be tried again",
    "ComputeBridgeCancelPending": "the refund of request {id} can be drawn from {refundableAt} on",
    "ComputeBridgeDeadlineNotPassed": "request {id} can be refunded after its deadline, {deadline}",
    "ComputeBridgeDeadlinePassed": "the deadline of request {id} was {deadline}",
    "ComputeBridgeDuplicateOperator": "attestation {index} is of operator {operator}, who is counted already",
    "ComputeBridgeInexactTransfer": "token {token} moved {moved} where {expected} were due; it is not a plain ERC-20",
    "ComputeBridgeInsufficientCallbackGas": "{available} gas is left for the callback, which is to have {required}",
    "ComputeBridgeInvalidOrder": "the order's {field} is not valid",
    "ComputeBridgeInvalidOutcome": "the outcome's {field} is not valid",
    "ComputeBridgeInvalidParameter": "the parameter {name} is not valid",
    "ComputeBridgeMissingLabels": "the order's labels do not count for node {nodeId} (attestation {index})",
    "ComputeBridgeNotMarked": "request {id} is not marked for cancellation; mark it first",
    "ComputeBridgeNotRequester": "request {id} is not {caller}'s: only its requester can do this",
    "ComputeBridgeNothingToWithdraw": "{account} has no credit in the token {token}",
    "ComputeBridgeOrderMismatch": "this is not the order of request {id}: it hashes to {actual}, not to {expected}",
    "ComputeBridgeOutcomeConflict": "request {id} holds another outcome already: {settled}, not {offered}",
    "ComputeBridgeTooFewAttestations": "{given} attestations are too few; the order's quorum is {required}",
    "ComputeBridgeTooManyAttestations": "{given} attestations are too many; the order asks for {allowed} nodes",
    "ComputeBridgeTooManyDeliveries": "{given} results are too many for one call; {allowed} are allowed",
    "ComputeBridgeTransferFailed": "{to} does not accept the payment of {amount}",
    "ComputeBridgeUnexpectedState": "request {id} is {state}; this cannot be done with it any more",
    "ComputeBridgeUnknownRequest": "there is no request {id}",
    "ComputeBridgeUnknownSigner": "attestation {index} is by {signer}, which is no active node's current key",
    "ComputeBridgeWrongPayment": "{sent} wei came with the order; its price is {expected} wei",
    "EnforcedPause": "new requests are paused by the contract's owner; what was requested goes on",
    "ExpectedPause": "the contract is not paused",
    "InvalidShortString": "a short string of the contract is damaged",
    "NodeRegistryAlreadyActive": "node {nodeId} is active; nothing was deactivated",
    "NodeRegistryAlreadyProven": "a contradiction of {key}, of node {nodeId}, was proven before: a key is slashed once",
    "NodeRegistryAlreadyVouched": "{curator} vouches for the label {labelHash} of node {nodeId} already",
    "NodeRegistryDifferentSigners": "the signatures are of different keys, {first} and {second}; that proves nothing",
    "NodeRegistryForeignBridge": "{bridge} is no ComputeBridge that names this registry",
    "NodeRegistryInsufficientStake": "node {nodeId} has {bonded} wei at stake, less than {wanted} wei",
    "NodeRegistryInvalidKey": "{key} cannot be a node's key",
    "NodeRegistryInvalidKeySignature": "the signature for joining is {recovered}'s, not {expected}'s; if another key "
    "joined meanwhile, try again",
    "NodeRegistryInvalidLabel": "{key}={value} is no label",
    "NodeRegistryInvalidParameter": "the parameter {name} is not valid",
    "NodeRegistryKeyTaken": "the key {key} has joined node {nodeId} before; a key joins one node, once: make a new one",
    "NodeRegistryLabelAlreadyDeclared": "node {nodeId} carries the label {labelHash} already",
    "NodeRegistryLabelNotDeclared": "node {nodeId} does not carry the label {labelHash}, or it was removed already",
    "NodeRegistryMetadataTooLong": "the metadata has {length} bytes; {allowed} are allowed",
    "NodeRegistryNoAmount": "the amount for node {nodeId} is nothing; give at least 1 wei",
    "NodeRegistryNoContradiction": "both signatures are over the same outcome {outcomeHash}; that is no contradiction",
    "NodeRegistryNoReward": "{prover} has no reward to draw",
    "NodeRegistryNotActive": "node {nodeId} is deactivated already",
    "NodeRegistryNotOperator": "node {nodeId} is not {caller}'s: only its operator can do this",
    "NodeRegistryNotVouched": "{curator} does not vouch for the label {labelHash} of node {nodeId}",
    "NodeRegistryNothingToSlash": "node {nodeId} has nothing at stake; the proof stays good for when it has",
    "NodeRegistryNothingUnbonding": "nothing of node {nodeId}'s stake unbonds",
    "NodeRegistryStakeUnderProvenKey": "node {nodeId}'s key {key} is proven to have signed two outcomes; "
    "give the node another one first: insula node rotate-key",
    "NodeRegistryStillUnbonding": "the stake of node {nodeId} is released from {releasedAt} on",
    "NodeRegistryTooManyLabels": "{count} labels are too many for one node; {allowed} are allowed",
    "NodeRegistryTransferFailed": "{to} does not accept the payment of {amount} wei",
    "NodeRegistryUnknownKey": "{key} was never a node's key in this registry",
    "NodeRegistryUnknownNode": "the registry knows no node {nodeId}",
    "OwnableInvalidOwner": "{owner} cannot own the contract",
    "OwnableUnauthorizedAccount": "{account} does not own the contract",
    "ReentrancyGuardReentrantCall": "the contract was called again from within its own call",
    "ResultBookForeignResult": "request {id} was ordered by {requester}, not by the ResultBook",
    "ResultBookNotBridge": "{caller} is not the bridge that the ResultBook takes results from",
    "ResultBookNotOwner": "{caller} does not own the ResultBook",
    "SafeCastOverflowedUintDowncast": "{value} does not fit into {bits} bits",
    "SafeERC20FailedOperation": "the token {token} refused the transfer: look at balance and allowance",
    "StringTooLong": "{str} is too long",
}
_TIMES = frozenset({"deadline", "refundableAt", "releasedAt"})  # seconds since 1970
_LATEST = 253402300799  # the last second that a date can tell: 9999-12-31T23:59:59Z


def refusal_in_words(error: RpcRefused) -> str:
    """Why the chain refused, for a person: a sentence for an error of ours, else what the endpoint said."""
    data = revert_data(error)
    if data is None:
        return str(error)
    revert = decode_revert(data)
    return sentence_of(revert) or describe_revert(data)


def sentence_of(revert: Revert) -> str:
    """The sentence of one of our contracts' errors; empty for another one."""
    sentence = SENTENCES.get(revert.name)
    if sentence is None:
        return ""
    return sentence.format(**{name: _shown(name, value) for name, value in revert.arguments})


def _shown(name: str, value: Any) -> str:
    if isinstance(value, bytes):
        return f"0x{value.hex()}"
    if name in _TIMES and value <= _LATEST:
        return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, str) and is_address(value):
        return to_checksum_address(value)
    if name == "state" and value in tuple(OnChainState):
        return OnChainState(value).name
    return "".join(char if char.isprintable() else " " for char in str(value)[:200])
