"""The example configurations of real networks load once they are filled in, and not before."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from bridge.config import BridgeConfig
from executor.errors import InvalidInput

DOCS = Path(__file__).resolve().parents[2] / "docs"
EXAMPLES = {path.stem: path for path in sorted((DOCS / "networks").glob("*.toml"))}
FILLED = {
    "public_url": "https://bridge.example",
    "rpc_urls": "https://second.example/rpc/v1",
    "bridge_contract": "0x" + "5f" * 20,
    "deploy_block": 4_000_000,
}


def filled(text, leave=""):
    """The example with every placeholder filled in, but for the key `leave`."""
    key, lines = "", []
    for line in text.splitlines():
        key = line.partition("=")[0].strip() if "=" in line else key
        is_left = key == leave or line.startswith("#")
        lines.append(line if is_left else re.sub(r'"FILL-IN[^"]*"', lambda _, key=key: json.dumps(FILLED[key]), line))
    return "\n".join(lines)


def loaded(tmp_path, text):
    path = tmp_path / "bridge.toml"
    path.write_text(text)
    return BridgeConfig.load(path)


def test_there_is_an_example_for_each_network():
    assert set(EXAMPLES) == {"calibration", "mainnet"}


@pytest.mark.parametrize("network", EXAMPLES)
def test_an_example_loads_once_it_is_filled_in(tmp_path, network):
    config = loaded(tmp_path, filled(EXAMPLES[network].read_text()))

    assert config.chain.chain_id == {"calibration": 314159, "mainnet": 314}[network]
    assert config.chain.posting_depth >= 20
    assert config.relayer.max_fee_per_gas_wei <= 10**11


@pytest.mark.parametrize("key", FILLED)
@pytest.mark.parametrize("network", EXAMPLES)
def test_a_placeholder_that_is_left_is_named_by_its_key(tmp_path, network, key):
    named = {"rpc_urls": r"chain\.rpc_urls\[1\]", "public_url": "public_url"}.get(key, rf"chain\.{key}")

    with pytest.raises(InvalidInput, match=f"{named}: is not filled in yet; it wants"):
        loaded(tmp_path, filled(EXAMPLES[network].read_text(), leave=key))


def test_every_placeholder_that_is_left_is_named(tmp_path):
    with pytest.raises(InvalidInput) as caught:
        loaded(tmp_path, EXAMPLES["mainnet"].read_text())

    assert str(caught.value).endswith(
        "; also to be filled in: chain.rpc_urls[1], chain.bridge_contract, chain.deploy_block"
    )


TOKEN = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
TOKENS = f"""[dispatch.tokens.{TOKEN}]
min_unit_price = "5"
min_delivery_fee = "1"
"""
#: a slip -> (line of the example, line in its place, what is said)
SLIPS = {
    "a mistyped key": ("poll_seconds = 15", "pol_seconds = 15", "chain.pol_seconds: is no key of a bridge's"),
    "a near key": ("poll_seconds = 15", "pol_seconds = 15", "; do you mean poll_seconds?"),
    "a key from elsewhere": ("poll_seconds = 15", "gas_strategy = 1", "chain.gas_strategy: is no key"),
    "a mistyped section": ("[dispatch]", "[dispach]", "dispach: is no key of a bridge's configuration; do you mean"),
    "a value where a section belongs": ("[dispatch]", "content = 3\n[dispatch]", "relayer.content: is no key"),
    "no key": ("chain_id = 314\n", "", "chain.chain_id: is missing"),
    "one URL": ("rpc_urls = [", 'rpc_urls = "http://a"\nx = [', "chain.rpc_urls: must be a list"),
    "a folder that is a number": ('data_dir = "/var/lib/insula"', "data_dir = 3", "data_dir: must be a path"),
    "depths out of order": ("posting_depth = 30", "posting_depth = 3", "chain: must hold: confirmation_depth <="),
    "a token's key": ("[dispatch]", TOKENS + 'min_price = "1"\n[dispatch]', f"tokens.{TOKEN}.min_price: is no key"),
    "no token": ("[dispatch]", TOKENS.replace(TOKEN, "0x12") + "[dispatch]", "dispatch.tokens: address:"),
    "an amount with a unit": ('"50000000000000000"', '"0.05 FIL"', "relayer.max_subsidy_wei: must be a decimal number"),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_named_with_what_to_write(tmp_path, slip):
    right, wrong, said = SLIPS[slip]
    text = filled(EXAMPLES["mainnet"].read_text())
    assert right in text

    with pytest.raises(InvalidInput) as caught:
        loaded(tmp_path, text.replace(right, wrong, 1))
    assert said in str(caught.value)


@pytest.mark.parametrize("network", EXAMPLES)
def test_the_reasons_name_every_value_that_was_chosen(network):
    text = (DOCS / "networks.md").read_text()
    data = tomllib.loads(filled(EXAMPLES[network].read_text()))
    plain = {"bridge_contract", "deploy_block", "key", "resend_after_seconds"}

    for section in ("chain", "relayer", "dispatch"):
        for key in data[section].keys() - plain:
            assert f"{section}.{key}`" in text or f"`{key}`" in text, key
