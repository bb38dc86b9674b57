"""How much gas a delivery needs, and what it means when the contract would refuse it."""

from __future__ import annotations

from enum import Enum

from bridge.chain.client import ChainClient
from bridge.chain.contracts import CALLBACK_RESERVE, decode_revert, describe_revert
from bridge.chain.rpc_errors import revert_data
from bridge.errors import BridgeError, RpcRefused

_LITTLE_GAS = "ComputeBridgeInsufficientCallbackGas"


class Verdict(Enum):
    """What a refusal means for the delivery."""

    NEVER = "it can never be accepted"
    LATER = "time or labels may change that"


#: the contract's errors that no waiting cures; every other one may pass
_NEVER = frozenset(
    {
        "ComputeBridgeDeadlinePassed",
        "ComputeBridgeInvalidOutcome",
        "ComputeBridgeTooFewAttestations",
        "ComputeBridgeTooManyAttestations",
        "ComputeBridgeDuplicateOperator",
        "ComputeBridgeOrderMismatch",
    }
)


class WouldRevert(BridgeError):
    """The contract would refuse this transaction now; `verdict` says whether waiting helps."""

    def __init__(self, reason: str, verdict: Verdict) -> None:
        super().__init__(reason)
        self.verdict = verdict


def estimated_gas(client: ChainClient, sender: str, to: str, calldata: bytes) -> int:
    """What the endpoint thinks that a transaction needs. Errors as those of `needed_gas`."""
    try:
        return client.estimate_gas(sender, to, calldata)
    except RpcRefused as exc:
        raise _translated(exc) from exc


def with_margin(estimate: int) -> int:
    """A gas limit for an estimate: a tenth above. Not more: Filecoin burns what is over-estimated."""
    return estimate + estimate // 10


def needed_gas(client: ChainClient, sender: str, to: str, calldata: bytes, callback_gas: int = 0) -> int:
    """A gas limit: the endpoint's estimate and a tenth, and enough for the callback's full gas (EIP-150).

    WouldRevert when the contract refuses; RpcRefused for
    any other refusal.
    """
    gas = with_margin(estimated_gas(client, sender, to, calldata))
    if callback_gas and not _suffices(client, sender, to, calldata, gas):
        # An endpoint that estimates by what was used, not by what had to be there, misses the callback's reserve.
        gas += callback_gas * 64 // 63 + CALLBACK_RESERVE
    return gas


def _suffices(client: ChainClient, sender: str, to: str, calldata: bytes, gas: int) -> bool:
    try:
        client.call(to, calldata, sender=sender, gas=gas)
    except RpcRefused as exc:
        data = revert_data(exc)
        if data is None:
            raise
        return decode_revert(data).name != _LITTLE_GAS
    return True


def _translated(error: RpcRefused) -> BridgeError:
    data = revert_data(error)
    if data is None:
        return error
    verdict = Verdict.NEVER if decode_revert(data).name in _NEVER else Verdict.LATER
    return WouldRevert(describe_revert(data), verdict)
