"""What `insula doctor` finds out about the account that pays for deliveries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bridge.chain.client import ChainClient
from bridge.chain.events import JobSettled, UndecodableLog, decode_log
from bridge.chain.filecoin import delegated_address
from bridge.chain.signer import TxSigner
from bridge.cli.findings import Finding, note, ok, problem
from bridge.errors import RpcError
from executor.errors import InvalidInput

LOOK_BACK = 1000  # blocks in which recent deliveries are looked for
SAMPLES = 5  # of them
TRANSFERS = 20  # a delivery with a callback that stores a CID takes about as much gas as so many plain transfers
FEW = 10  # deliveries: fund the account now
SOME = 50  # deliveries: soon
MAINNET = 314


@dataclass(frozen=True)
class Caps:
    """What the configuration allows; wei (attoFIL)."""

    max_fee_per_gas: int
    max_subsidy: int
    min_delivery_fee: int
    max_in_flight: int


def check_relayer(client: ChainClient, reference: str, contract: str, caps: Caps | None) -> Iterator[Finding]:
    """The key, its nonces, its balance in deliveries at today's fees, and the caps against these fees."""
    try:
        signer = TxSigner.load(reference)
    except InvalidInput as exc:
        yield problem("relayer key", str(exc), "see docs/networks.md, The relayer's account")
        return
    yield ok("relayer key", f"{signer.address} ({_filecoin(client, signer.address)})")
    yield _nonces(client, signer.address, caps)
    gas, source = delivery_gas(client, signer.address, contract)
    base, tip = client.fees()
    cost = max(1, gas * (base + tip))
    yield _balance(client, signer.address, cost, f"{gas} gas ({source}) at {base + tip} wei per gas")
    if caps is not None:
        yield _caps(caps, gas, base, tip)


def delivery_gas(client: ChainClient, sender: str, contract: str) -> tuple[int, str]:
    """Gas of a delivery on this chain, and where the figure comes from. RpcError."""
    used = list(_recent(client, contract)) if contract else []
    if used:
        return max(used), f"the most that the last {len(used)} deliveries used"
    transfer = client.estimate_gas(sender, sender, b"")
    return TRANSFERS * transfer, f"guessed from a transfer's {transfer}, as there is no delivery to look at"


def _recent(client: ChainClient, contract: str) -> Iterator[int]:
    head, chain_id = client.head(), client.chain_id()
    last = max(0, head.number - 1)
    try:
        entries = client.logs_by_range(max(0, last - LOOK_BACK), last, contract)
    except RpcError:
        return
    found: dict[bytes, None] = {}
    for entry in reversed(entries):
        try:
            if isinstance(decode_log(entry, chain_id), JobSettled):
                found[entry.tx_hash] = None
        except UndecodableLog:
            continue
    for tx_hash in list(found)[:SAMPLES]:
        receipt = client.receipt(tx_hash)
        if receipt is not None:
            yield receipt.gas_used


def _filecoin(client: ChainClient, address: str) -> str:
    return delegated_address(address, testnet=client.chain_id() != MAINNET)


def _nonces(client: ChainClient, address: str, caps: Caps | None) -> Finding:
    latest = client.nonce(address)
    try:
        waiting = client.nonce(address, "pending") - latest
    except RpcError as exc:
        return note("relayer nonce", f"{latest} sent; pending ones are not told: {exc}")
    if waiting < 0:
        return note(
            "relayer nonce", "fewer pending than mined", "several nodes answer behind this endpoint, not in step"
        )
    if waiting > (caps.max_in_flight if caps else 0):
        remedy = (
            "a running bridge raises their fees by itself (relayer.bump_after_seconds); if none runs, or another "
            "program sends with this key, stop that and start the bridge"
        )
        return problem("relayer nonce", f"{latest} mined, {waiting} more wait in the endpoint's pool", remedy)
    return ok("relayer nonce", f"{latest} mined, {waiting} waiting")


def _balance(client: ChainClient, address: str, cost: int, how: str) -> Finding:
    balance = client.balance(address)
    count = balance // cost
    said = f"{balance / 10**18:.6g} coins pay {count} deliveries of {how}"
    if count < FEW:
        return problem("relayer balance", said, f"send funds to {address} ({_filecoin(client, address)})")
    if count < SOME:
        return note("relayer balance", said, f"send funds to {address} soon")
    return ok("relayer balance", said)


def _caps(caps: Caps, gas: int, base: int, tip: int) -> Finding:
    if base > caps.max_fee_per_gas:
        remedy = "deliveries wait until it falls; or raise the cap"
        return problem(
            "fees", f"the base fee {base} is above relayer.max_fee_per_gas_wei {caps.max_fee_per_gas}", remedy
        )
    most = gas * min(2 * base + tip, caps.max_fee_per_gas)
    allowed = caps.max_subsidy + caps.min_delivery_fee
    if most > allowed:
        remedy = "such deliveries wait: raise relayer.max_subsidy_wei or dispatch.min_delivery_fee"
        detail = f"a delivery may cost {most} wei at today's fees; subsidy and least delivery fee are {allowed}"
        return problem("fees", detail, remedy)
    return ok("fees", f"a delivery may cost {most} wei at today's fees, {allowed} are allowed")
